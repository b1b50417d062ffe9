//! Deployment: what lies in the webapps folders against what is mounted. The folders are the truth; events only say when to look.
//!
//! Called by the server, one pass at a time. Loads run in tasks of their own, one for each context.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serval_config::{ContextName, NoContext, Server};
use serval_loader::library::is_library_name;
use serval_loader::private_copy::{CopyError, Fingerprint};
use serval_static_files::{Folder, Options};
use tokio::sync::{Mutex, Notify};

use crate::context::{Context, Waiting};
use crate::dispatch::servlet_count;
use crate::generation::{Generation, LoadError, Plan};
use crate::{Container, Event, Pass, Source};

pub struct Deployment {
    config: Arc<Server>,
    on_event: Box<dyn Fn(&Event) + Send + Sync>,
    /// By host and webapp folder. Held for the length of a pass.
    mounted: Mutex<HashMap<(usize, PathBuf), Mounted>>,
    loading: AtomicUsize,
    settled: Notify,
    /// What the last pass complained of: each is said once.
    said: StdMutex<Complaints>,
}

/// Folders that are not served, with the reason.
type Complaints = HashMap<PathBuf, String>;

/// What a pass remembers of a context.
struct Mounted {
    context: Arc<Context>,
    identity: Option<SystemTime>,
    number: u64,
    /// What the current generation, or the last refused one, was made from.
    seen: Inputs,
    /// What lay there at the last pass, and since when.
    now: Inputs,
    since: Instant,
    load: Option<tokio::task::JoinHandle<Loaded>>,
    warned_missing: bool,
}

enum Loaded {
    Done,
    /// The files changed while they were copied.
    Again,
}

#[derive(Clone, PartialEq, Default)]
struct Inputs {
    libraries: Vec<Fingerprint>,
    web: Option<(SystemTime, u64)>,
}

impl Inputs {
    fn of(webapp: &Path) -> Inputs {
        let mut libraries = Fingerprint::of_folder(&webapp.join("WEB-INF/lib")).unwrap_or_default();
        libraries.retain(|file| is_library_name(file.name.as_ref()));
        let web = std::fs::metadata(webapp.join("WEB-INF/web.toml")).ok();
        Inputs { libraries, web: web.and_then(|file| Some((file.modified().ok()?, file.len()))) }
    }

    fn has_all_of(&self, other: &Inputs) -> bool {
        other.libraries.iter().all(|old| self.libraries.iter().any(|new| new.name == old.name))
    }
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
        }
    }

    /// Says what is new among the complaints of a pass.
    fn complain(&self, complaints: Complaints) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for (folder, why) in complaints.iter().filter(|(folder, why)| said.get(*folder) != Some(*why)) {
            tracing::error!("{folder:?} is not served: {why}");
        }
        *said = complaints;
    }

    /// Forgets all contexts, after the loads that are under way.
    pub async fn clear(&self) {
        let mounted = std::mem::take(&mut *self.mounted.lock().await);
        for (_, mounted) in mounted {
            if let Some(load) = mounted.load {
                // A library's init cannot be stopped: the process ends with it.
                let _ = tokio::time::timeout(Duration::from_secs(1), load).await;
            }
        }
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
            let wanted = webapps(host, &mut complaints);
            mounted.retain(|(of, webapp), old| {
                let stays = *of != number || (wanted.contains_key(webapp) && identity(webapp) == old.identity);
                if !stays {
                    self.unmount(number, old);
                }
                stays
            });
            for (webapp, path) in wanted {
                let key = (number, webapp.clone());
                if !mounted.contains_key(&key) {
                    match self.mount(number, &webapp, path) {
                        Ok(new) => drop(mounted.insert(key.clone(), new)),
                        Err(error) => {
                            complaints.insert(webapp, error);
                            again(Duration::from_secs(1));
                            continue;
                        }
                    }
                }
                let Some(entry) = mounted.get_mut(&key) else { continue };
                if let Some(after) = self.refresh(entry).await {
                    again(after);
                }
                for folder in ["", "WEB-INF", "WEB-INF/lib"] {
                    pass.watch.push((webapp.join(folder), false));
                }
                let inside = webapp.join("WEB-INF");
                if inside.join("Cargo.toml").is_file() || inside.join("src").is_dir() {
                    pass.watch.push((inside.join("src"), true));
                    pass.sources.push(Source {
                        context: entry.context.name.to_string(),
                        host: host.name.clone(),
                        webapp: webapp.clone(),
                    });
                }
            }
        }
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

    fn mount(&self, host: usize, webapp: &Path, path: String) -> Result<Mounted, String> {
        let began = Instant::now();
        let deployment = &self.deployment;
        let settings = deployment.config.hosts[host].settings_for(&path);
        let web = serval_config::load_web(&webapp.join("WEB-INF/web.toml")).map_err(|problems| problems.to_string())?;
        let options = Options { symlinks_outside: settings.symlinks_outside, mime: web.mime.clone() };
        let folder = Folder::open(webapp, options).map_err(|error| error.to_string())?;
        let name: Arc<str> = if path.is_empty() { "/".into() } else { path.as_str().into() };
        let first = Generation::of_files(1, name.clone(), web, self.lives.clone());
        let development = deployment.config.development;
        let context =
            Arc::new(Context::new(path.clone(), name.clone(), webapp.to_owned(), settings, development, folder, first));
        let inputs = Inputs::of(webapp);
        if inputs.libraries.is_empty() {
            self.event(&name, "ready", 1, began.elapsed(), "static files".to_owned());
        } else {
            context.set_waiting(Waiting::Starting);
        }
        self.hosts[host].routes.rcu(|routes| {
            let mut routes = (**routes).clone();
            routes.longest = routes.longest.max(path.len());
            routes.by_path.insert(path.clone(), context.clone());
            routes
        });
        Ok(Mounted {
            context,
            identity: identity(webapp),
            number: 0,
            seen: Inputs { libraries: Vec::new(), web: inputs.web },
            now: inputs,
            // What lay there before we came is not being written.
            since: began.checked_sub(Duration::from_secs(60)).unwrap_or(began),
            load: None,
            warned_missing: false,
        })
    }

    fn unmount(&self, host: usize, old: &Mounted) {
        let context = &old.context;
        self.hosts[host].routes.rcu(|routes| {
            let mut routes = (**routes).clone();
            if routes.by_path.get(&context.path).is_some_and(|current| Arc::ptr_eq(current, context)) {
                routes.by_path.remove(&context.path);
            }
            routes
        });
        let generation = context.current.load();
        generation.retired.store(true, Ordering::Relaxed);
        self.event(&context.name, "gone", generation.number, Duration::ZERO, String::new());
    }

    /// Starts a load when the inputs of a context have changed and been quiet. Says when to look again.
    async fn refresh(self: &Arc<Self>, entry: &mut Mounted) -> Option<Duration> {
        if let Some(load) = entry.load.take_if(|load| load.is_finished())
            && let Ok(Loaded::Again) = load.await
        {
            entry.seen = Inputs::default();
        }
        let context = entry.context.clone();
        let now = Inputs::of(&context.webapp);
        if now != entry.now {
            entry.now = now.clone();
            entry.since = Instant::now();
        }
        if now == entry.seen {
            return None;
        }
        let settle = context.settings.settle_time;
        let quiet = entry.since.elapsed();
        if entry.load.is_some() || quiet < settle {
            return Some(settle.saturating_sub(quiet).max(Duration::from_millis(20)));
        }
        if !now.has_all_of(&entry.seen) {
            if !entry.warned_missing {
                tracing::warn!(
                    context = %context.name,
                    "a library has gone from WEB-INF/lib; the generation that has it serves on until it is back, the webapp is \
                     removed, or the server restarts"
                );
            }
            entry.warned_missing = true;
            return None;
        }
        entry.warned_missing = false;
        entry.seen = now;
        entry.number += 1;
        self.deployment.loading.fetch_add(1, Ordering::AcqRel);
        let (container, number) = (self.clone(), entry.number);
        entry.load = Some(tokio::spawn(async move {
            let loaded = container.load(&context, number).await;
            container.deployment.loading.fetch_sub(1, Ordering::AcqRel);
            container.deployment.settled.notify_waiters();
            loaded
        }));
        Some(Duration::from_millis(50))
    }

    /// Makes the next generation and swaps it in; any failure leaves the current one.
    async fn load(&self, context: &Arc<Context>, number: u64) -> Loaded {
        let began = Instant::now();
        let config = &self.deployment.config;
        let web = match serval_config::load_web(&context.webapp.join("WEB-INF/web.toml")) {
            Ok(web) => web,
            Err(problems) => return self.refused(context, number, began, &problems.to_string()),
        };
        let folder = context.path.trim_start_matches('/').replace('/', "#");
        let folder = if folder.is_empty() { "ROOT".to_owned() } else { folder };
        let copies = config.var.join("run/generations").join(&folder);
        if let Err(error) = std::fs::create_dir_all(&copies) {
            return self.refused(context, number, began, &format!("{} cannot be made: {error}", copies.display()));
        }
        let plan = Plan {
            number,
            context: context.name.clone(),
            webapp: context.webapp.clone(),
            web,
            settings: context.settings.clone(),
            copy_to: copies.join(format!("g{number}-{}", self.exchanges.fetch_add(1, Ordering::Relaxed))),
            work: config.var.join("work").join(&folder),
            lives: self.lives.clone(),
        };
        let files_only = Inputs::of(&context.webapp).libraries.is_empty();
        let load = tokio::task::spawn_blocking(move || {
            if files_only {
                let Plan { number, context, web, lives, .. } = plan;
                return Ok(Generation::of_files(number, context, web, lives));
            }
            Generation::load(plan)
        });
        let limit = context.settings.init_timeout;
        let next = match tokio::time::timeout(limit, load).await {
            Ok(Ok(Ok(next))) => next,
            Ok(Ok(Err(LoadError::Copy(CopyError::Changed)))) => return Loaded::Again,
            Ok(Ok(Err(error))) => return self.refused(context, number, began, &error.to_string()),
            Ok(Err(error)) => return self.refused(context, number, began, &format!("the load panicked: {error}")),
            Err(_) => {
                let text = format!("its init has not returned for {limit:?} (init_timeout), and keeps its thread");
                return self.refused(context, number, began, &text);
            }
        };
        let detail = format!("{} servlets", servlet_count(&next));
        let old = context.current.swap(next);
        context.set_waiting(Waiting::No);
        old.retired.store(true, Ordering::Relaxed);
        self.event(&context.name, "ready", number, began.elapsed(), detail);
        let (old_number, weak) = (old.number, Arc::downgrade(&old));
        drop(old);
        let (name, drain) = (context.name.clone(), context.settings.drain_timeout);
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            if weak.strong_count() > 0 {
                tracing::warn!(context = %name, generation = old_number, "exchanges still run in this old generation after {drain:?}");
            }
        });
        Loaded::Done
    }

    fn refused(&self, context: &Arc<Context>, number: u64, began: Instant, reason: &str) -> Loaded {
        let serving = context.current.load();
        let has_servlets = servlet_count(&serving) > 0;
        if !has_servlets {
            context.set_waiting(Waiting::Failed);
        }
        let keeps = if has_servlets { format!("; generation {} serves on", serving.number) } else { String::new() };
        tracing::error!(context = %context.name, generation = number, "the new generation is refused: {reason}{keeps}");
        self.event(&context.name, "failed", number, began.elapsed(), format!("{reason}{keeps}"));
        Loaded::Done
    }

    fn event(&self, context: &str, state: &'static str, generation: u64, took: Duration, detail: String) {
        (self.deployment.on_event)(&Event { context: context.to_owned(), state, generation, took, detail });
    }
}

/// When the folder was made: another one under the same name is another webapp.
fn identity(webapp: &Path) -> Option<SystemTime> {
    std::fs::metadata(webapp).and_then(|folder| folder.created()).ok()
}

/// The webapps that a host should have: folders, and the contexts that the configuration names; each with its path.
fn webapps(host: &serval_config::Host, complaints: &mut Complaints) -> HashMap<PathBuf, String> {
    let mut wanted = HashMap::new();
    let entries = std::fs::read_dir(&host.webapps).into_iter().flatten().flatten();
    for entry in entries.filter(|_| host.auto_deploy) {
        let webapp = entry.path();
        if !webapp.is_dir() || host.contexts.iter().any(|other| other.webapp == webapp) {
            continue;
        }
        let name = match entry.file_name().to_str().map(ContextName::from_folder) {
            Some(Ok(name)) => name,
            Some(Err(NoContext::Ignored)) => continue,
            Some(Err(NoContext::Unnameable(why))) => {
                complaints.insert(
                    webapp,
                    format!("no request could name it: {why}; rename it, or give it a path in server.toml"),
                );
                continue;
            }
            None => {
                complaints.insert(webapp, "its name is not UTF-8; rename it".to_owned());
                continue;
            }
        };
        if name.version.is_some() {
            let why = "versions (`##`) are not supported yet; rename it, or give it a path in server.toml";
            complaints.insert(webapp, why.to_owned());
            continue;
        }
        if host.contexts.iter().any(|other| other.path == name.path) {
            continue;
        }
        wanted.insert(webapp, name.path);
    }
    for entry in host.contexts.iter().filter(|entry| entry.webapp.is_dir()) {
        wanted.insert(entry.webapp.clone(), entry.path.clone());
    }
    wanted
}
