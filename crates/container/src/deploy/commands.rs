//! What an operator asks for by name, and waits for: each returns when what it says is true.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::{Receiver, channel};

use super::Mounted;
use super::load::{CUT_WITHIN, FAULT, From, LOAD_LOOK, LOADS_MAX, Loaded};
use crate::Container;
use crate::context::Context;
use crate::generation::{Gate, Generation, Ground};
use crate::webapp::Inputs;

/// Why it is not as it was asked; a sentence.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("there is no context `{0}`; write its path as in /shop, or / for ROOT: `serval status` lists them")]
    Unknown(String),
    #[error("several hosts have such a context: name one of {0} with --host")]
    Ambiguous(String),
    #[error("the new generation is refused: {0}")]
    Refused(String),
    #[error("{0}")]
    NotNow(String),
}

/// Which context is meant. `host`: its name; `None`: of the only host that has such a context.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub host: Option<&'a str>,
    pub context: &'a str,
}

type Outcome = Receiver<(u64, Loaded)>;

impl Container {
    /// Makes the next generation of a context from what lies there now, changed or not, and returns its number when it serves. If it is
    /// refused, what served before serves on.
    pub async fn reload(self: &Arc<Self>, named: Named<'_>) -> Result<u64, ReloadError> {
        self.load_until_done(named, &|entry| {
            if entry.context.is_stopped() {
                return Err(ReloadError::NotNow("it is stopped: `serval start` starts it".to_owned()));
            }
            Ok(From { inputs: self.lies(entry)?, kept: None })
        })
        .await
    }

    /// Starts a context that was stopped, as [`reload`](Self::reload) does.
    pub async fn start(self: &Arc<Self>, named: Named<'_>) -> Result<u64, ReloadError> {
        self.load_until_done(named, &|entry| {
            if !entry.context.is_stopped() {
                return Err(ReloadError::NotNow("it is not stopped".to_owned()));
            }
            Ok(self.what_lies(&entry.context, &self.lies(entry)?))
        })
        .await
    }

    /// Goes back to what an older generation was made from: to that of this number, or to the last one before the current one. It has to
    /// start, as any other one. The webapp's folder stays as it is, and is tried again when it changes.
    pub async fn rollback(self: &Arc<Self>, named: Named<'_>, to: Option<u64>) -> Result<u64, ReloadError> {
        self.load_until_done(named, &|entry| {
            let all = self.store_of(&entry.context).all();
            let current = entry.context.current.load();
            let found = match to {
                Some(number) => all.iter().find(|kept| kept.number == number),
                // Nothing has served since the start.
                None if current.number == 0 => all.first(),
                None => all.iter().find(|kept| kept.number < current.origin),
            };
            let numbers = || all.iter().map(|kept| kept.number.to_string()).collect::<Vec<_>>().join(", ");
            let Some(kept) = found else {
                let which = to.map_or_else(|| "none before it".to_owned(), |number| format!("no generation {number}"));
                let (number, origin, numbers) = (current.number, current.origin, numbers());
                return Err(ReloadError::NotNow(format!(
                    "{which} is kept: generation {number} is made from what {origin} was made from, and kept are: {numbers} (generations_kept)"
                )));
            };
            let inputs = kept.inputs().map_err(ReloadError::Refused)?;
            Ok(From { inputs, kept: Some(kept.number) })
        })
        .await
    }

    /// Lets no request in any more (503), and returns when the current generation is destroyed, or how it goes on not to be. It stays so
    /// until it is started again, or the server is.
    pub async fn stop_context(self: &Arc<Self>, named: Named<'_>) -> Result<(), ReloadError> {
        let (id, after) = self
            .when_idle(named, |entry| {
                let current = entry.context.current.load_full();
                if !entry.context.is_stopped() {
                    let stopped = Generation::of_gate(Ground::clone(&current), Gate::Stopped);
                    entry.context.current.store(stopped);
                    self.event(&entry.context, "stopped", current.number, Duration::ZERO, String::new());
                    self.drain(current.clone());
                }
                Ok((current.id, current.settings.drain_timeout + CUT_WITHIN))
            })
            .await?;
        let deadline = Instant::now() + after;
        while !self.lives.is_destroyed(id) {
            if Instant::now() > deadline {
                let text = format!(
                    "it is stopped, but its last generation has not ended after {after:?}: see `serval status`"
                );
                return Err(ReloadError::NotNow(text));
            }
            tokio::time::sleep(LOAD_LOOK).await;
        }
        Ok(())
    }

    /// What generations of a context can be gone back to, the last one first.
    pub(crate) fn kept(&self, context: &Context) -> Vec<u64> {
        self.store_of(context).all().iter().map(|kept| kept.number).collect()
    }

    /// What lies there now, and what the configuration gives it.
    fn lies(&self, entry: &Mounted) -> Result<Inputs, ReloadError> {
        let lies = Inputs::of(&entry.now.webapp).map_err(ReloadError::Refused)?;
        Ok(self.given(&entry.context, lies, &entry.now))
    }

    async fn load_until_done(
        self: &Arc<Self>,
        named: Named<'_>,
        from: &(dyn Fn(&Mounted) -> Result<From, ReloadError> + Sync),
    ) -> Result<u64, ReloadError> {
        for _ in 0..LOADS_MAX {
            let outcome: Outcome = self
                .when_idle(named, |entry| {
                    let from = from(entry)?;
                    let lies = self.lies(entry)?;
                    let (told, outcome) = channel();
                    let tell = |number, loaded: &Loaded| drop(told.send((number, loaded.clone())));
                    self.begin_load(entry, lies, from, tell);
                    Ok(outcome)
                })
                .await?;
            match outcome.await {
                Ok((number, Loaded::Swapped)) => return Ok(number),
                Ok((_, Loaded::Refused(failure))) => return Err(ReloadError::Refused(failure.reason)),
                Ok((_, Loaded::Again)) => tokio::time::sleep(LOAD_LOOK).await,
                Err(_) => return Err(ReloadError::Refused(FAULT.to_owned())),
            }
        }
        Err(ReloadError::Refused("its files keep changing".to_owned()))
    }

    /// Does something with a context of which no load is under way.
    async fn when_idle<T>(
        self: &Arc<Self>,
        Named { host, context }: Named<'_>,
        work: impl FnOnce(&mut Mounted) -> Result<T, ReloadError>,
    ) -> Result<T, ReloadError> {
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
                return work(entry);
            }
            // Others are not to wait for it, too.
            drop(mounted);
            tokio::time::sleep(LOAD_LOOK).await;
        }
    }
}
