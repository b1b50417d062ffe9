//! Deployment: what lies in the webapps folders against what is mounted. The folders are the truth; events only say when to look.
//!
//! Called by the server, one pass at a time. Loads run in tasks of their own, one for each context (`load`); `commands` are what an
//! operator asks for by name, and `configuration` is another server.toml. What is not served yet is `arriving`'s: new folders, and
//! archives, which become `artefacts`.

mod arriving;
mod artefacts;
mod commands;
mod configuration;
mod kept;
mod load;
mod placing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serval_config::{ContextName, Server};
use tokio::sync::{Mutex, Notify};

pub use self::arriving::unpacked_last;
use self::arriving::{Arriving, Key, Notes};
pub use self::commands::{Named, ReloadError};
pub use self::configuration::{NotTaken, Prepared};
use self::kept::Store;
use self::load::{Failure, From, Loaded};
use self::placing::Busy;
pub use self::placing::{Deployed, PlaceError, Undeployed};
use crate::context::{Context, Waiting};
use crate::dispatch::servlet_count;
use crate::generation::{Files, Generation, Ground};
use crate::given::{Given, Of};
use crate::proxy::Proxy;
use crate::routes::Routes;
use crate::snapshots::Snapshots;
use crate::webapp::{Complaints, Found, Inputs, has_source, wanted};
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
    /// Replaced as a whole (`configuration`).
    config: ArcSwap<Server>,
    on_event: Box<dyn Fn(&Event) + Send + Sync>,
    /// By the name of the host, and theirs. Held for the length of a pass.
    mounted: Mutex<HashMap<Key, Mounted>>,
    /// Locked after `mounted`.
    arriving: Mutex<Arriving>,
    busy: Busy,
    loading: AtomicUsize,
    settled: Notify,
    /// What the last pass complained of: each is said once.
    said: StdMutex<Complaints>,
    pub snapshots: Snapshots,
}

/// What a pass remembers of a context.
struct Mounted {
    context: Arc<Context>,
    /// What the current generation was made from.
    serving: Inputs,
    /// What was tried last: that, or what was refused.
    tried: Inputs,
    /// What lay there at the last pass, and since when.
    now: Inputs,
    since: Instant,
    /// Since when there is no such webapp any more.
    gone: Option<Instant>,
    /// Since when a change waits to be tried.
    pending: Option<Instant>,
    /// What keeps the change from being tried has been said.
    said: bool,
    load: Option<(Inputs, tokio::task::JoinHandle<Loaded>)>,
    refused: Option<Failure>,
    announced: bool,
}

impl Mounted {
    fn settle_time(&self) -> Duration {
        self.context.current.load().settings.settle_time
    }

    fn has_never_served(&self) -> bool {
        self.serving == Inputs::default()
    }
}

impl Deployment {
    pub fn new(config: Arc<Server>, on_event: Box<dyn Fn(&Event) + Send + Sync>) -> Deployment {
        // Copies of an earlier process, which nobody holds any more: the home is locked.
        let _ = std::fs::remove_dir_all(config.var.join("run/generations"));
        Deployment {
            config: ArcSwap::new(config),
            on_event,
            mounted: Mutex::default(),
            arriving: Mutex::default(),
            busy: Busy::default(),
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

    /// What was complained of one of these paths.
    fn complaint_of(&self, paths: &[&Path]) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        paths.iter().find_map(|path| said.get(*path).cloned())
    }

    /// What a context has that may not be mounted yet.
    fn settings_of(&self, (host, name): &Key) -> serval_config::ContextSettings {
        let config = self.config.load();
        let host = config.hosts.iter().find(|known| known.name == *host);
        host.map_or_else(Default::default, |host| host.settings_for(&name.path))
    }

    pub fn first_listener(&self) -> Arc<serval_config::Listener> {
        Arc::new(self.config.load().listeners.first().cloned().unwrap_or_default())
    }

    /// As in server.toml: errors show their reasons.
    pub fn development(&self) -> bool {
        self.config.load().development
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
        self.folder_in(kind, &context.host.load().name, &context.folder_name())
    }

    fn folder_in(&self, kind: &str, host: &str, name: &str) -> PathBuf {
        self.config.load().var.join(kind).join(host).join(name)
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

impl Container {
    /// Compares the webapps folders with what is mounted, and mounts, reloads, and removes what differs. Returns when all
    /// static mounts stand; loads of libraries go on in tasks of their own.
    pub async fn deploy_pass(self: &Arc<Self>) -> Pass {
        let mut mounted = self.deployment.mounted.lock().await;
        if self.lives.end.load(Ordering::Relaxed) {
            return Pass::default();
        }
        let mut arriving = self.deployment.arriving.lock().await;
        let mut pass = Pass::default();
        let config = self.deployment.config.load_full();
        let mut complaints = Complaints::default();
        let is_first = !std::mem::replace(&mut arriving.has_swept, true);
        if is_first {
            config.hosts.iter().for_each(|host| placing::sweep(&host.webapps));
        }
        let mut all_wanted = Vec::new();
        for host in &config.hosts {
            pass.watch.push((host.webapps.clone(), false));
            match wanted(host, &mut complaints) {
                Some(wanted) => all_wanted.push((host, wanted)),
                None => pass.again(RETRY),
            }
        }
        arriving.forget_hosts(|name| config.hosts.iter().any(|host| host.name == name));
        if is_first {
            self.sweep_artefacts(&all_wanted);
        }
        for (host, wanted) in all_wanted {
            mounted.retain(|(of, name), old| {
                if *of != host.name {
                    return true;
                }
                if wanted.contains_key(name) {
                    old.gone = None;
                    return true;
                }
                // Another one may be on its way to its place.
                let (gone, grace) = (*old.gone.get_or_insert_with(Instant::now), old.settle_time());
                let stays = gone.elapsed() < grace;
                match stays {
                    true => pass.again(grace),
                    false => self.unmount(old),
                }
                stays
            });
            arriving.forget((&host.name, &wanted), self, &mounted, &mut pass);
            if !arriving.passed.contains(&host.name) {
                let is_known = |folder: &str| wanted.keys().any(|name| name.folder() == folder);
                kept::forget_others(&config.var.join("generations").join(&host.name), is_known);
            }
            let sessions = config.var.join("sessions").join(&host.name);
            self.deployment
                .snapshots
                .forget_others(&sessions, |folder| wanted.keys().any(|name| name.folder() == folder));
            for (name, found) in &wanted {
                let key = (host.name.clone(), name.clone());
                let mut notes = Notes { pass: &mut pass, complaints: &mut complaints };
                let arrived = self.arrived(&mut arriving, (&key, found), mounted.get(&key), &mut notes).await;
                let Some(webapp) = arrived else { continue };
                if !mounted.contains_key(&key) {
                    match self.mount((&config, host), &webapp, name.clone()) {
                        Ok(new) => drop(mounted.insert(key.clone(), new)),
                        Err(error) => {
                            let sentence = format!("{webapp:?} is not served: {error}");
                            complaints.insert(webapp, sentence);
                            pass.again(Duration::from_secs(1));
                            continue;
                        }
                    }
                }
                let Some(entry) = mounted.get_mut(&key) else { continue };
                match self.refresh(entry, &webapp).await {
                    Ok(None) => {}
                    Ok(Some(after)) => pass.again(after),
                    Err(error) => {
                        let sentence = format!("{}: {error}; what served before serves on", entry.context.name);
                        complaints.insert(webapp.clone(), sentence);
                        pass.again(RETRY);
                    }
                }
                let named = entry.now.named.iter().filter_map(|named| named.path.parent());
                pass.watch.extend(named.map(|folder| (folder.to_owned(), false)));
                if let Found::Archive(file) = found {
                    if config.sources && entry.now.libraries.is_empty() && has_source(&webapp) {
                        let instead = "build it before, into WEB-INF/lib, or put it there as a folder";
                        complaints.insert(file.clone(), format!("the source in {file:?} is not built; {instead}"));
                    }
                    continue;
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
                            settle_time: entry.settle_time(),
                        });
                    }
                }
            }
            // Sessions of an earlier process may still be on their way.
            if host.undeploy_old_versions && arriving.passed.contains(&host.name) {
                self.undeploy_old_versions((host, &wanted), &mounted, &mut pass);
            }
            arriving.passed.insert(host.name.clone());
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

    fn mount(
        &self,
        (config, host): (&Arc<Server>, &serval_config::Host),
        webapp: &Path,
        name: ContextName,
    ) -> Result<Mounted, String> {
        let began = Instant::now();
        let of = Of { config, host: &host.name, path: &name.path };
        let now = Inputs::of(webapp)?.given(&of, &Inputs::default());
        let store = Store(self.deployment.folder_in("generations", &host.name, &name.folder()));
        store.sweep();
        let pinned = store.pinned(&now).map(|kept| Inputs::of_kept(webapp, &kept.inside)).transpose()?;
        let first = pinned.as_ref().map(|pinned| pinned.clone().given(&of, &Inputs::default()));
        let hosts = self.hosts.load();
        let (Some(given), Some(host)) = (first.as_ref().unwrap_or(&now).given.clone(), hosts.named(&host.name)) else {
            return Err("its host was removed meanwhile".to_owned());
        };
        let Given { web, settings, upstream, development } = Given::clone(&given);
        let files = Files::of(webapp, upstream.as_ref());
        let proxy = upstream.map(|upstream| Proxy::next(&upstream, &settings, None, &self.upstream_of));
        let files_only = now.libraries.is_empty() && pinned.is_none();
        let last = store.all().first().map_or(0, |kept| kept.number);
        let number = if files_only { store.same(&now).map_or(last + 1, |kept| kept.number) } else { 0 };
        let (named, is_proxy) = ((number, name.display().into()), proxy.is_some());
        let ground = Ground::open(named, files, (web?, settings, development), None, self.lives.clone())
            .map_err(|error| error.to_string())?;
        let first = Generation::of_files(ground.with(proxy));
        let context = Arc::new(Context::new(name, first, host.of.clone()));
        context.last_number.store(last.max(number), Ordering::Relaxed);
        let mut serving = Inputs::default();
        if files_only {
            if number > last
                && !is_proxy
                && let Err(error) = store.keep(number, &now, None)
            {
                tracing::warn!(context = %context.name, "there will be no way back to this generation, which is not kept: {error}");
            }
            store.prune(context.current.load().settings.generations_kept, number);
            self.event(&context, "ready", number, began.elapsed(), context.current.load().without_servlets());
            serving = now.clone();
        } else {
            context.set_waiting(Waiting::Starting);
        }
        let _ = context.beside.set(Arc::downgrade(&host.routes));
        let snapshot = self.deployment.folder_of("sessions", &context);
        tokio::task::block_in_place(|| {
            self.deployment.snapshots.open(snapshot, context.name.clone(), context.sessions.clone());
        });
        host.routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            routes.insert(context.clone());
            routes
        });
        Ok(Mounted {
            context,
            tried: serving.clone(),
            serving,
            now,
            // What lay there before we came is not being written.
            since: began.checked_sub(Duration::from_secs(60)).unwrap_or(began),
            gone: None,
            pending: None,
            said: false,
            load: None,
            refused: None,
            announced: false,
        })
    }

    fn unmount(&self, old: &Mounted) {
        let context = &old.context;
        context.goes();
        // Of a host that is gone, nobody finds it any more.
        if let Some(routes) = context.beside.get().and_then(Weak::upgrade) {
            routes.rcu(|routes| {
                let mut routes = Routes::clone(routes);
                routes.remove(context);
                routes
            });
        }
        let generation = context.current.load_full();
        self.event(context, "gone", generation.number, Duration::ZERO, String::new());
        generation.is_the_last_of(context);
        let snapshot = self.deployment.folder_of("sessions", context);
        tokio::task::block_in_place(|| self.deployment.snapshots.forget(&snapshot));
        self.drain(generation);
        // Nobody waits for it: at worst the next server of this home finds it.
        if let Some(aside) = self.store_of(context).put_aside() {
            drop(tokio::task::spawn_blocking(move || std::fs::remove_dir_all(aside)));
        }
    }

    /// Adds to what lies there what the configuration gives it. `last`: as it was at the last look.
    fn given(&self, context: &Context, lies: Inputs, last: &Inputs) -> Inputs {
        let (config, host) = (self.deployment.config.load_full(), context.host.load());
        lies.given(&Of { config: &config, host: &host.name, path: &context.path }, last)
    }

    /// What lies there, unless an operator has gone back from it.
    fn what_lies(&self, context: &Context, lies: &Inputs) -> From {
        let pinned = self.store_of(context).pinned(lies);
        let kept = pinned.and_then(|kept| Some((kept.number, kept.inputs().ok()?)));
        match kept {
            Some((number, inputs)) => From { inputs, kept: Some(number) },
            None => From { inputs: lies.clone(), kept: None },
        }
    }

    /// Starts a load when the inputs of a context have changed and been quiet. Says when to look again, or why it cannot look.
    async fn refresh(self: &Arc<Self>, entry: &mut Mounted, webapp: &Path) -> Result<Option<Duration>, String> {
        if let Some((inputs, load)) = entry.load.take_if(|(_, load)| load.is_finished()) {
            entry.took(inputs, load.await);
        }
        let context = entry.context.clone();
        let now = self.given(&context, Inputs::of(webapp)?, &entry.now);
        let mut restless = None;
        if now != entry.now {
            restless = now.changed_from(&entry.now).map(str::to_owned);
            // A folder that came has been at rest before it came here.
            if now.is_of_one_folder(&entry.now) {
                entry.since = Instant::now();
            }
        }
        entry.now = now.clone();
        if context.is_stopped() {
            return Ok(None);
        }
        let retry = entry.refused.as_ref().filter(|_| now != entry.serving).and_then(|failure| failure.retry_at);
        let retry_in = retry.map(|at| at.saturating_duration_since(Instant::now()));
        if entry.load.is_none() && (now == entry.serving || now == entry.tried) && retry_in != Some(Duration::ZERO) {
            entry.pending = None;
            entry.said = false;
            // What was refused is not there any more.
            if now == entry.serving && entry.refused.take().is_some() {
                context.set_refused(None);
                entry.tried = now;
            }
            return Ok(retry_in);
        }
        let pending = entry.pending.get_or_insert_with(Instant::now).elapsed();
        let (settle, quiet) = (entry.settle_time(), entry.since.elapsed());
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
        if now.is_of_one_folder(&entry.serving)
            && let Some(library) = now.misses(&entry.serving)
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
        let from = self.what_lies(&context, &now);
        self.begin_load(entry, now, from, |_, _| ());
        Ok(Some(Duration::from_millis(50)))
    }

    fn event(&self, context: &Context, state: &'static str, generation: u64, took: Duration, detail: String) {
        let of = context.host.load();
        let host = if self.hosts.load().all.len() > 1 { &*of.name } else { "" };
        (self.deployment.on_event)(&Event {
            context: format!("{host}{}", context.name),
            state,
            generation,
            took,
            detail,
        });
    }
}
