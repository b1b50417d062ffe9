//! What an operator asks for by name, and waits for.

use std::sync::Arc;
use std::time::Duration;

use super::Mounted;
use super::load::{FAULT, Loaded};
use crate::Container;
use crate::given::Of;
use crate::webapp::Inputs;

/// LIMIT: how often a reload is begun anew, since files change while they are read.
const RELOADS_MAX: usize = 20;
/// Between two looks at a load that is under way.
const RELOAD_LOOK: Duration = Duration::from_millis(20);

/// Why a context was not reloaded; a sentence.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("there is no context `{0}`; write its path as in /shop, or / for ROOT: `serval status` lists them")]
    Unknown(String),
    #[error("several hosts have such a context: name one of {0} with --host")]
    Ambiguous(String),
    #[error("the new generation is refused: {0}")]
    Refused(String),
}

impl Container {
    /// Makes the next generation of a context from what lies there now, changed or not, and waits until it serves, or is refused;
    /// what served before serves on then. `host`: its name; `None`: of the only host that has such a context.
    pub async fn reload(self: &Arc<Self>, host: Option<&str>, context: &str) -> Result<u64, ReloadError> {
        for _ in 0..RELOADS_MAX {
            let outcome = self.begin_reload(host, context).await?;
            match outcome.await {
                Ok((number, Loaded::Swapped)) => return Ok(number),
                Ok((_, Loaded::Refused(failure))) => return Err(ReloadError::Refused(failure.reason)),
                Ok((_, Loaded::Again)) => tokio::time::sleep(RELOAD_LOOK).await,
                Err(_) => return Err(ReloadError::Refused(FAULT.to_owned())),
            }
        }
        Err(ReloadError::Refused("its files keep changing".to_owned()))
    }

    async fn begin_reload(
        self: &Arc<Self>,
        host: Option<&str>,
        context: &str,
    ) -> Result<tokio::sync::oneshot::Receiver<(u64, Loaded)>, ReloadError> {
        loop {
            let mut mounted = self.deployment.mounted.lock().await;
            let is_it = |entry: &&mut Mounted| {
                *entry.context.name == *context && host.is_none_or(|host| host == entry.context.host.load().name)
            };
            let mut found: Vec<&mut Mounted> = mounted.values_mut().filter(is_it).collect();
            if found.len() > 1 {
                let mut hosts: Vec<String> = found.iter().map(|entry| entry.context.host.load().name.clone()).collect();
                hosts.sort_unstable();
                return Err(ReloadError::Ambiguous(hosts.join(", ")));
            }
            let entry = found.pop().ok_or_else(|| ReloadError::Unknown(context.to_owned()))?;
            if let Some((inputs, load)) = entry.load.take_if(|(_, load)| load.is_finished()) {
                entry.took(inputs, load.await);
            }
            if entry.load.is_none() {
                let (config, host) = (self.deployment.config.load_full(), entry.context.host.load_full());
                let of = Of { config: &config, host: &host.name, path: &entry.context.path };
                let now = Inputs::of(&entry.now.webapp).map_err(ReloadError::Refused)?.given(&of, &entry.now);
                let (told, outcome) = tokio::sync::oneshot::channel();
                self.begin_load(entry, now, |number, loaded| drop(told.send((number, loaded.clone()))));
                return Ok(outcome);
            }
            // Others are not to wait for it, too.
            drop(mounted);
            tokio::time::sleep(RELOAD_LOOK).await;
        }
    }
}
