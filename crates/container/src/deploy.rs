//! Deployment: what lies in the webapps folders against what is mounted. The folders are the truth; events only say when to look.
//!
//! Called by the server, one pass at a time. Loads run in tasks of their own, one for each context.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use serval_config::{ContextName, Server};
use serval_loader::private_copy::CopyError;
use serval_loader::{Refusal, Refused};
use serval_static_files::Folder;
use tokio::sync::{Mutex, Notify};

use crate::context::{Context, Waiting};
use crate::dispatch::servlet_count;
use crate::files;
use crate::generation::{Generation, LoadError, Plan};
use crate::routes::Routes;
use crate::snapshots::Snapshots;
use crate::webapp::{Complaints, Identity, Inputs, has_source, wanted};
use crate::{Container, Event, Pass, Source};

/// How long a library may be gone, beside others that are there, until those are loaded without it: far longer than a linker
/// or a copy takes to put it back.
const GONE_FOR: Duration = Duration::from_secs(10);
/// After what the system could not do (no space, no file handles), a load is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Files that keep changing for so long are named in the log, and looked at less often.
const RESTLESS: Duration = Duration::from_secs(5);
const RESTLESS_LOOK: Duration = Duration::from_secs(1);

pub struct Deployment {
    config: Arc<Server>,
    on_event: Box<dyn Fn(&Event) + Send + Sync>,
    /// By host and name. Held for the length of a pass.
    mounted: Mutex<HashMap<(usize, ContextName), Mounted>>,
    loading: AtomicUsize,
    settled: Notify,
    /// What the last pass complained of: each is said once.
    said: StdMutex<Complaints>,
    pub snapshots: Snapshots,
}

/// What a pass remembers of a context.
struct Mounted {
    context: Arc<Context>,
    identity: Identity,
    number: u64,
    /// What the current generation was made from.
    serving: Inputs,
    /// What was tried last: that, or what was refused.
    tried: Inputs,
    /// What lay there at the last pass, and since when.
    now: Inputs,
    since: Instant,
    /// Since when a change waits to be tried.
    pending: Option<Instant>,
    /// What keeps the change from being tried has been said.
    said: bool,
    load: Option<(Inputs, tokio::task::JoinHandle<Loaded>)>,
    refused: Option<Failure>,
    announced: bool,
}

/// LIMIT: how often a reload is begun anew, since files change while they are read.
const RELOADS_MAX: usize = 20;
/// Between two looks at a load that is under way.
const RELOAD_LOOK: Duration = Duration::from_millis(20);
const FAULT: &str = "the load ended by a fault of the server; please report it";

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

#[derive(Clone)]
enum Loaded {
    Swapped,
    /// The files changed while they were copied.
    Again,
    Refused(Failure),
}

#[derive(Clone)]
struct Failure {
    reason: String,
    /// When to try the same files again: what failed was the system.
    retry_at: Option<Instant>,
}

impl Deployment {
    pub fn new(config: Arc<Server>, on_event: Box<dyn Fn(&Event) + Send + Sync>) -> Deployment {
        // Copies of an earlier process, which nobody holds any more: the home is locked.
        let _ = std::fs::remove_dir_all(config.var.join("run/generations"));
        Deployment {
            config,
            on_event,
            mounted: Mutex::default(),
            loading: AtomicUsize::new(0),
            settled: Notify::new(),
            said: StdMutex::default(),
            snapshots: Snapshots::default(),
        }
    }

    /// What the last pass complained of, a sentence each: webapps that are not served, or not as they lie there.
    pub fn complaints(&self) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sentences: Vec<String> = said.values().cloned().collect();
        sentences.sort();
        sentences
    }

    pub fn first_listener(&self) -> Arc<serval_config::Listener> {
        Arc::new(self.config.listeners.first().cloned().unwrap_or_default())
    }

    /// As in server.toml: errors show their reasons.
    pub fn development(&self) -> bool {
        self.config.development
    }

    /// Says what is new among the complaints of a pass.
    fn complain(&self, complaints: Complaints) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, sentence) in complaints.iter().filter(|(path, sentence)| said.get(*path) != Some(*sentence)) {
            tracing::error!("{sentence}");
        }
        *said = complaints;
    }

    /// A folder in `var` for one context: no two have the same, whatever their hosts.
    fn folder_of(&self, kind: &str, context: &Context) -> PathBuf {
        self.config.var.join(kind).join(&self.config.hosts[context.host].name).join(context.folder_name())
    }

    /// Forgets all contexts, after the loads that are under way. Their sessions do not end: the next start has them.
    pub async fn clear(&self) {
        let mounted = std::mem::take(&mut *self.mounted.lock().await);
        for (_, mounted) in mounted {
            if let Some((_, load)) = mounted.load {
                // A library's init cannot be stopped: the process ends with it.
                let _ = tokio::time::timeout(Duration::from_secs(1), load).await;
            }
        }
    }
}

/// A load that is going on, until it is dropped.
struct Loading(Arc<Container>);

impl Loading {
    fn begin(container: &Arc<Container>) -> Loading {
        container.deployment.loading.fetch_add(1, Ordering::AcqRel);
        Loading(container.clone())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.deployment.loading.fetch_sub(1, Ordering::AcqRel);
        self.0.deployment.settled.notify_waiters();
    }
}

impl Container {
    /// Compares the webapps folders with what is mounted, and mounts, reloads, and removes what differs. Returns when all
    /// static mounts stand; loads of libraries go on in tasks of their own.
    pub async fn deploy_pass(self: &Arc<Self>) -> Pass {
        let mut mounted = self.deployment.mounted.lock().await;
        let mut pass = Pass::default();
        let mut again =
            |after: Duration| pass.again_after = Some(pass.again_after.map_or(after, |other| other.min(after)));
        let config = self.deployment.config.clone();
        let mut complaints = Complaints::default();
        for (number, host) in config.hosts.iter().enumerate() {
            pass.watch.push((host.webapps.clone(), false));
            let Some(wanted) = wanted(host, &mut complaints) else {
                again(RETRY);
                continue;
            };
            mounted.retain(|(of, name), old| {
                let webapp = &old.context.webapp;
                let stays = *of != number || (wanted.get(name) == Some(webapp) && Identity::of(webapp) == old.identity);
                if !stays {
                    self.unmount(number, old);
                }
                stays
            });
            let sessions = config.var.join("sessions").join(&host.name);
            self.deployment
                .snapshots
                .forget_others(&sessions, |folder| wanted.keys().any(|name| name.folder() == folder));
            for (name, webapp) in wanted {
                let key = (number, name.clone());
                if !mounted.contains_key(&key) {
                    match self.mount(number, &webapp, name) {
                        Ok(new) => drop(mounted.insert(key.clone(), new)),
                        Err(error) => {
                            let sentence = format!("{webapp:?} is not served: {error}");
                            complaints.insert(webapp, sentence);
                            again(Duration::from_secs(1));
                            continue;
                        }
                    }
                }
                let Some(entry) = mounted.get_mut(&key) else { continue };
                match self.refresh(entry).await {
                    Ok(None) => {}
                    Ok(Some(after)) => again(after),
                    Err(error) => {
                        let sentence = format!("{}: {error}; what served before serves on", entry.context.name);
                        complaints.insert(webapp.clone(), sentence);
                        again(RETRY);
                    }
                }
                for folder in ["", "WEB-INF", "WEB-INF/lib"] {
                    pass.watch.push((webapp.join(folder), false));
                }
                if has_source(&webapp) {
                    pass.watch.push((webapp.join("WEB-INF/src"), true));
                    // From now on: that a build is to come is known before its turn.
                    if config.sources && !std::mem::replace(&mut entry.announced, true) {
                        let nothing_yet =
                            entry.now.libraries.is_empty() && servlet_count(&entry.context.current.load()) == 0;
                        if nothing_yet {
                            entry.context.set_waiting(Waiting::Building);
                        }
                    }
                    // Two contexts may have one webapp, which is built once.
                    if !pass.sources.iter().any(|other| other.webapp == webapp) {
                        pass.sources.push(Source {
                            context: entry.context.name.to_string(),
                            webapp: webapp.clone(),
                            folder: self.deployment.folder_of("build", &entry.context),
                            settle_time: entry.context.settings.settle_time,
                        });
                    }
                }
            }
        }
        // Builds run one at a time: what has little to compile first, so that it does not wait for what has much.
        let to_compile = |webapp: &Path| webapp.join("WEB-INF/Cargo.lock").metadata().map_or(0, |lock| lock.len());
        pass.sources.sort_by_key(|source| to_compile(&source.webapp));
        pass.watch.retain(|(folder, _)| folder.is_dir());
        self.deployment.complain(complaints);
        pass
    }

    /// Waits until no load is going on any more.
    pub async fn settled(&self) {
        loop {
            let settled = self.deployment.settled.notified();
            if self.deployment.loading.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
    }

    fn mount(&self, host: usize, webapp: &Path, name: ContextName) -> Result<Mounted, String> {
        let began = Instant::now();
        let config = &self.deployment.config;
        let settings = config.hosts[host].settings_for(&name.path);
        let web = config.load_web(host, &name.path, webapp).map_err(|problems| problems.to_string())?;
        let folder = Folder::open(webapp, files::options(&settings, &web)).map_err(|error| error.to_string())?;
        let now = Inputs::of(webapp)?;
        let files_only = now.libraries.is_empty();
        let number = u64::from(files_only);
        let first = Generation::of_files(number, name.display().into(), web, &settings, self.lives.clone());
        let of_host = (host, self.hosts.all[host].error_pages.clone());
        let context =
            Arc::new(Context::new(name, webapp.to_owned(), settings, config.development, folder, first, of_host));
        let mut serving = Inputs::default();
        if files_only {
            self.event(&context, "ready", number, began.elapsed(), "static files".to_owned());
            serving = now.clone();
        } else {
            context.set_waiting(Waiting::Starting);
        }
        let _ = context.beside.set(Arc::downgrade(&self.hosts.all[host].routes));
        let snapshot = self.deployment.folder_of("sessions", &context);
        tokio::task::block_in_place(|| {
            self.deployment.snapshots.open(snapshot, context.name.clone(), context.sessions.clone());
        });
        self.hosts.all[host].routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            routes.insert(context.clone());
            routes
        });
        Ok(Mounted {
            context,
            identity: Identity::of(webapp),
            number,
            tried: serving.clone(),
            serving,
            now,
            // What lay there before we came is not being written.
            since: began.checked_sub(Duration::from_secs(60)).unwrap_or(began),
            pending: None,
            said: false,
            load: None,
            refused: None,
            announced: false,
        })
    }

    fn unmount(&self, host: usize, old: &Mounted) {
        let context = &old.context;
        context.goes();
        self.hosts.all[host].routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            routes.remove(context);
            routes
        });
        let generation = context.current.load_full();
        self.event(context, "gone", generation.number, Duration::ZERO, String::new());
        generation.is_the_last_of(context);
        let snapshot = self.deployment.folder_of("sessions", context);
        tokio::task::block_in_place(|| self.deployment.snapshots.forget(&snapshot));
        self.drain(context, generation);
    }

    /// Starts a load when the inputs of a context have changed and been quiet. Says when to look again, or why it cannot look.
    async fn refresh(self: &Arc<Self>, entry: &mut Mounted) -> Result<Option<Duration>, String> {
        if let Some((inputs, load)) = entry.load.take_if(|(_, load)| load.is_finished()) {
            entry.took(inputs, load.await);
        }
        let context = entry.context.clone();
        let now = Inputs::of(&context.webapp)?;
        let mut restless = None;
        if now != entry.now {
            restless = now.changed_from(&entry.now).map(str::to_owned);
            entry.now = now.clone();
            entry.since = Instant::now();
        }
        let retry = entry.refused.as_ref().filter(|_| now != entry.serving).and_then(|failure| failure.retry_at);
        let retry_in = retry.map(|at| at.saturating_duration_since(Instant::now()));
        if entry.load.is_none() && (now == entry.serving || now == entry.tried) && retry_in != Some(Duration::ZERO) {
            entry.pending = None;
            entry.said = false;
            return Ok(retry_in);
        }
        let pending = entry.pending.get_or_insert_with(Instant::now).elapsed();
        let (settle, quiet) = (context.settings.settle_time, entry.since.elapsed());
        if entry.load.is_some() || quiet < settle {
            if pending < RESTLESS {
                return Ok(Some(settle.saturating_sub(quiet).max(Duration::from_millis(20))));
            }
            if let Some(file) = restless.filter(|_| !std::mem::replace(&mut entry.said, true)) {
                let context = &context.name;
                tracing::warn!(%context, "{file} keeps changing; it is loaded when it has been at rest for {settle:?} (settle_time)");
            }
            return Ok(Some(RESTLESS_LOOK));
        }
        if let Some(library) = now.misses(&entry.serving)
            // Another one in its place is a new name for it.
            && !now.adds_to(&entry.serving)
            && (now.libraries.is_empty() || quiet < GONE_FOR)
        {
            if !std::mem::replace(&mut entry.said, true) {
                let until = match now.libraries.is_empty() {
                    true => "until there is one, the webapp is removed, or the server restarts".to_owned(),
                    false => format!("for {GONE_FOR:?}; if it is not back then, the others are loaded without it"),
                };
                let context = &context.name;
                tracing::warn!(%context, "{library} has gone from WEB-INF/lib; the generation that has it serves on {until}");
            }
            return Ok((!now.libraries.is_empty()).then(|| GONE_FOR.saturating_sub(quiet)));
        }
        self.begin_load(entry, now, |_, _| ());
        Ok(Some(Duration::from_millis(50)))
    }

    /// Starts a load of what lies there now. Its end is told, with the number of the generation.
    fn begin_load(
        self: &Arc<Self>,
        entry: &mut Mounted,
        now: Inputs,
        told: impl FnOnce(u64, &Loaded) + Send + 'static,
    ) {
        entry.number += 1;
        let context = entry.context.clone();
        let (loading, number, inputs) = (Loading::begin(self), entry.number, now.clone());
        let before = entry.refused.as_ref().filter(|_| now == entry.tried).map(|failure| failure.reason.clone());
        let load = tokio::spawn(async move {
            let loaded = loading.0.load(&context, number, inputs).await;
            if let Loaded::Refused(failure) = &loaded
                && before.as_ref() != Some(&failure.reason)
            {
                loading.0.refused(&context, number, failure);
            }
            told(number, &loaded);
            loaded
        });
        entry.load = Some((now, load));
    }

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
            let name_of = |number: usize| &*self.deployment.config.hosts[number].name;
            let is_it = |entry: &&mut Mounted| {
                *entry.context.name == *context && host.is_none_or(|host| host == name_of(entry.context.host))
            };
            let mut found: Vec<&mut Mounted> = mounted.values_mut().filter(is_it).collect();
            if found.len() > 1 {
                let mut hosts: Vec<&str> = found.iter().map(|entry| name_of(entry.context.host)).collect();
                hosts.sort_unstable();
                return Err(ReloadError::Ambiguous(hosts.join(", ")));
            }
            let entry = found.pop().ok_or_else(|| ReloadError::Unknown(context.to_owned()))?;
            if let Some((inputs, load)) = entry.load.take_if(|(_, load)| load.is_finished()) {
                entry.took(inputs, load.await);
            }
            if entry.load.is_none() {
                let now = Inputs::of(&entry.context.webapp).map_err(ReloadError::Refused)?;
                let (told, outcome) = tokio::sync::oneshot::channel();
                self.begin_load(entry, now, |number, loaded| drop(told.send((number, loaded.clone()))));
                return Ok(outcome);
            }
            // Others are not to wait for it, too.
            drop(mounted);
            tokio::time::sleep(RELOAD_LOOK).await;
        }
    }

    /// Makes the next generation and swaps it in; any failure leaves the current one.
    async fn load(&self, context: &Arc<Context>, number: u64, inputs: Inputs) -> Loaded {
        let began = Instant::now();
        let refused = |reason: String| Loaded::Refused(Failure { reason, retry_at: None });
        let of_system = |reason: String| Loaded::Refused(Failure { reason, retry_at: Some(Instant::now() + RETRY) });
        let web = match self.deployment.config.load_web(context.host, &context.path, &context.webapp) {
            Ok(web) => web,
            Err(problems) => return refused(problems.to_string()),
        };
        let folder = match Folder::open(&context.webapp, files::options(&context.settings, &web)) {
            Ok(folder) => folder,
            Err(error) => return of_system(format!("{} cannot be opened: {error}", context.webapp.display())),
        };
        // Libraries are compared by their copy, which takes longer.
        if !Inputs::of(&context.webapp).is_ok_and(|now| now == inputs) {
            return Loaded::Again;
        }
        let copies = self.deployment.folder_of("run/generations", context);
        if let Err(error) = std::fs::create_dir_all(&copies) {
            return of_system(format!("{} cannot be made: {error}", copies.display()));
        }
        let name = format!("g{number}-{}", self.exchanges.fetch_add(1, Ordering::Relaxed));
        let plan = Plan {
            number,
            context: context.name.clone(),
            webapp: context.webapp.clone(),
            libraries: inputs.libraries,
            web,
            settings: context.settings.clone(),
            copy_to: copies.join(&name),
            temp: copies.join(format!("{name}.temp")),
            pool: context.pool.clone(),
            before: context.current.load_full(),
            work: self.deployment.folder_of("work", context),
            lives: self.lives.clone(),
        };
        let load = tokio::task::spawn_blocking(move || {
            if plan.libraries.is_empty() {
                let Plan { number, context, web, settings, lives, .. } = plan;
                return Ok(Generation::of_files(number, context, web, &settings, lives));
            }
            Generation::load(plan)
        });
        let limit = context.settings.init_timeout;
        let next = match tokio::time::timeout(limit, load).await {
            Ok(Ok(Ok(next))) => next,
            Ok(Ok(Err(LoadError::Copy(CopyError::Changed)))) => return Loaded::Again,
            Ok(Ok(Err(
                error @ (LoadError::Copy(_) | LoadError::Refused(Refused { refusal: Refusal::Read(_), .. })),
            ))) => return of_system(error.to_string()),
            Ok(Ok(Err(error))) => return refused(error.to_string()),
            Ok(Err(error)) => return refused(format!("the load panicked: {error}")),
            Err(_) => {
                return refused(format!(
                    "its init has not returned for {limit:?} (init_timeout), and keeps its thread"
                ));
            }
        };
        if let Some(path) = next.web.check.clone() {
            let checked = tokio::time::timeout(limit, self.check(context, &next, &path)).await;
            let answered =
                checked.unwrap_or_else(|_| Err(format!("has not answered, to the end, for {limit:?} (init_timeout)")));
            if let Err(why) = answered {
                self.drain(context, next);
                return refused(format!("its check {path} {why}"));
            }
        }
        let count = servlet_count(&next);
        let detail = match count {
            0 => "static files".to_owned(),
            1 => "1 servlet".to_owned(),
            _ => format!("{count} servlets"),
        };
        if context.is_gone() {
            self.drain(context, next);
            return refused("the webapp was removed meanwhile".to_owned());
        }
        context.folder.store(Arc::new(folder));
        let old = context.current.swap(next.clone());
        context.set_refused(None);
        if count > 0 || context.waiting() != Waiting::Building {
            context.set_waiting(Waiting::No);
        }
        self.event(context, "ready", number, began.elapsed(), detail);
        for name in next.changed_dependencies(&old) {
            tracing::warn!(context = %context.name, generation = number, "{name} has changed, but as other libraries need it, its old code stays in use: a changed dependency needs a restart");
        }
        self.drain(context, old);
        Loaded::Swapped
    }

    /// Says whether nothing but files is to come: there are no libraries, and no source that makes them.
    fn is_files_only(&self, webapp: &Path) -> bool {
        let is_built = self.deployment.config.sources && has_source(webapp);
        !is_built && Inputs::of(webapp).is_ok_and(|now| now.libraries.is_empty())
    }

    fn refused(&self, context: &Arc<Context>, number: u64, failure: &Failure) {
        let serving = context.current.load();
        let mut meanwhile = "requests are answered 503".to_owned();
        if servlet_count(&serving) > 0 || (serving.number > 0 && self.is_files_only(&context.webapp)) {
            meanwhile = format!("generation {} serves on", serving.number);
        } else {
            context.set_waiting(Waiting::Failed);
        }
        let again = match failure.retry_at {
            Some(_) => format!("it is tried again every {RETRY:?}"),
            None => "it is tried again when WEB-INF/lib or web.toml changes".to_owned(),
        };
        let reason = &failure.reason;
        context.set_refused(Some(reason.clone()));
        tracing::error!(
            context = %context.name, generation = number,
            "the new generation is refused: {reason}; {meanwhile}; {again}"
        );
    }

    /// Lets a generation that gets no more requests come to its end: its exchanges are told, and after a while those that go on
    /// by themselves are ended.
    fn drain(&self, context: &Context, old: Arc<Generation>) {
        self.lives.retire(&old);
        old.retire();
        let (context, after, number) = (context.name.clone(), context.settings.drain_timeout, old.number);
        let mut stage = old.stage.subscribe();
        let old = Arc::downgrade(&old);
        tokio::spawn(async move {
            // An error: it is gone, with its end of this.
            let gone = async { while stage.changed().await.is_ok() {} };
            if tokio::time::timeout(after, gone).await.is_ok() {
                return;
            }
            if let Some(old) = old.upgrade() {
                tracing::warn!(
                    %context, generation = number,
                    "exchanges still run in this old generation after {after:?} (drain_timeout): tasks are ended, calls go on"
                );
                old.cut();
            }
        });
    }

    fn event(&self, context: &Context, state: &'static str, generation: u64, took: Duration, detail: String) {
        let hosts = &self.deployment.config.hosts;
        let host = if hosts.len() > 1 { &*hosts[context.host].name } else { "" };
        (self.deployment.on_event)(&Event {
            context: format!("{host}{}", context.name),
            state,
            generation,
            took,
            detail,
        });
    }
}

impl Mounted {
    /// Remembers how the load of these inputs ended.
    fn took(&mut self, inputs: Inputs, loaded: Result<Loaded, tokio::task::JoinError>) {
        self.refused = None;
        match loaded {
            Ok(Loaded::Again) => return,
            Ok(Loaded::Swapped) => self.serving = inputs.clone(),
            Ok(Loaded::Refused(failure)) => self.refused = Some(failure),
            Err(error) => {
                self.context.set_refused(Some(FAULT.to_owned()));
                tracing::error!(context = %self.context.name, "a load ended by a fault of the server: {error}")
            }
        }
        (self.pending, self.said, self.tried) = (None, false, inputs);
    }
}
