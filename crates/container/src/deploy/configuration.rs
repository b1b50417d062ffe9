//! Another server.toml in the place of the one in force: hosts come, go and change; contexts get a next generation where what the
//! configuration gives them is another one.
//!
//! Called by the server, which has checked it. What can fail comes first, so that all of it is in force, or none.

use std::sync::Arc;
use std::time::Duration;

use serval_config::{Host, Server};

use super::Mounted;
use crate::Container;
use crate::context::{Context, OfHost};
use crate::routes::Hosts;

/// Between two looks at generations that are being made.
const LOOK: Duration = Duration::from_millis(20);

/// A configuration that can be put in force.
pub struct Prepared {
    config: Arc<Server>,
    hosts: Hosts,
    /// Which host of the one in force each of its hosts is.
    was: Vec<Option<usize>>,
}

/// A context that has not got what the configuration gives it.
#[derive(Debug, Clone)]
pub struct NotTaken {
    pub host: String,
    /// "/" for the root context, "/shop##2".
    pub context: String,
    pub reason: String,
}

impl Container {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Server> {
        self.deployment.config.load_full()
    }

    /// Makes ready what a configuration needs. Nothing is changed. One at a time.
    ///
    /// # Errors
    /// A sentence: the system does not give what it takes.
    pub fn prepare(&self, config: Arc<Server>) -> Result<Prepared, String> {
        let was = which(&self.deployment.config.load().hosts, &config.hosts);
        let hosts = self.hosts.load().next(&config, &was)?;
        Ok(Prepared { config, hosts, was })
    }

    /// Puts it in force. Requests that have begun go on as they have begun. What it gives contexts is looked at by the next pass.
    pub async fn put_in_force(&self, prepared: Prepared) {
        let Prepared { config, hosts, was } = prepared;
        let mut mounted = self.deployment.mounted.lock().await;
        let before = self.deployment.config.swap(config.clone());
        let of: Vec<_> = hosts.all.iter().map(|host| host.of.clone()).collect();
        self.hosts.store(Arc::new(hosts));
        for ((host, name), entry) in std::mem::take(&mut *mounted) {
            let number = before.hosts.iter().position(|known| known.name == host);
            match was.iter().position(|was| number.is_some() && *was == number) {
                Some(number) => {
                    self.belongs_to(&entry.context, of[number].clone());
                    mounted.insert((config.hosts[number].name.clone(), name), entry);
                }
                None => self.unmount(&entry),
            }
        }
    }

    /// What it keeps in `var` goes with it to a host of another name.
    fn belongs_to(&self, context: &Context, host: Arc<OfHost>) {
        let folders = || ["sessions", "generations"].map(|kind| self.deployment.folder_of(kind, context));
        let [sessions, generations] = folders();
        let is_renamed = context.host.swap(host.clone()).name != host.name;
        if !is_renamed {
            return;
        }
        let [new_sessions, new_generations] = folders();
        tokio::task::block_in_place(|| {
            self.deployment.snapshots.moved(&sessions, new_sessions);
            let above = new_generations.parent().map_or(Ok(()), std::fs::create_dir_all);
            let moved = above.and_then(|()| std::fs::rename(&generations, &new_generations));
            if let Err(error) = moved.or_else(|error| if generations.exists() { Err(error) } else { Ok(()) }) {
                tracing::warn!(context = %context.name, "there will be no way back to older generations: {} cannot be moved: {error}", generations.display());
            }
        });
    }

    /// Waits until every context has what the configuration gives it, or has refused it; returns those that have. The caller asks
    /// the watcher for a pass then: this has made some.
    pub async fn taken(self: &Arc<Self>) -> Vec<NotTaken> {
        loop {
            self.deploy_pass().await;
            // What lies in the folder of a new host.
            let is_busy = self.deployment.arriving.lock().await.is_busy();
            let mounted = self.deployment.mounted.lock().await;
            // What keeps a change from being tried has been said, and may do so for ever.
            let is_new = |entry: &Mounted| !has_taken(entry) && entry.now.given != entry.tried.given && !entry.said;
            let waits = |entry: &Mounted| entry.load.is_some() || (is_new(entry) && !entry.context.is_stopped());
            if !is_busy && !mounted.values().any(waits) {
                return mounted.values().filter_map(not_taken).collect();
            }
            drop(mounted);
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn has_taken(entry: &Mounted) -> bool {
    entry.now.given == entry.serving.given
}

fn not_taken(entry: &Mounted) -> Option<NotTaken> {
    if has_taken(entry) || entry.context.is_stopped() {
        return None;
    }
    let reason = match &entry.refused {
        Some(failure) => failure.reason.clone(),
        None => "its files are not at rest, or not all there: the log says more".to_owned(),
    };
    let (host, context) = (entry.context.host.load().name.clone(), entry.context.name.to_string());
    Some(NotTaken { host, context, reason })
}

/// Which of these hosts each new one is: that of its name, or else the one whose folder it has, which has been renamed.
fn which(before: &[Host], now: &[Host]) -> Vec<Option<usize>> {
    let named = |host: &Host, among: &[Host]| among.iter().position(|other| other.name == host.name);
    let renamed = |host: &Host| {
        let same = |(_, other): &(usize, &Host)| other.webapps == host.webapps && named(other, now).is_none();
        let mut found = before.iter().enumerate().filter(same);
        found.next().filter(|_| found.next().is_none()).map(|(number, _)| number)
    };
    let mut was: Vec<Option<usize>> = now.iter().map(|host| named(host, before).or_else(|| renamed(host))).collect();
    // Two that share the folder of one that is gone: it is the first.
    for number in (0..was.len()).rev() {
        if was[..number].contains(&was[number]) {
            was[number] = None;
        }
    }
    was
}
