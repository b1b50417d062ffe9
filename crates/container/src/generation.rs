//! One loaded version of a context: its libraries, servlets and mapping. A reload makes the next one beside it.
//!
//! Made on a control thread by the deployment; every exchange inside holds it, and when the last one lets go, its servlets and
//! modules are destroyed on a thread of their own, never on an I/O thread.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use serval_abi::{
    SV_DISPATCH_REQUEST, SV_EVENT_CONTEXT_DESTROYED, SV_EVENT_CONTEXT_INITIALIZED, SV_EVENT_REQUEST_DESTROYED,
    SV_EVENT_REQUEST_INITIALIZED,
};
use serval_config::{ContextSettings, SessionSettings, Upstream, Web};
use serval_loader::filter::{Failed, Filter};
use serval_loader::library::Library;
use serval_loader::module::{Module, is_end};
use serval_loader::private_copy::{self, Fingerprint, PrivateCopy};
use serval_loader::servlet::Servlet;
use serval_loader::unload::let_go;
use serval_loader::{Refusal, Refused, elf};
use serval_static_files::Folder;
use tokio::sync::watch;

use crate::compression::Compression;
use crate::context::Context;
use crate::declared::{self, Plans, declared};
use crate::events::{Change, event_of_context, log_failure, session_ends};
use crate::execution::Pool;
use crate::files;
use crate::filters::FilterMaps;
use crate::lives::{LeftMapped, Lives};
use crate::mapping::{By, Mapper};
use crate::proxy::Proxy;
use crate::sessions::Sessions;
use crate::side::Side;

const REQUEST_EVENTS: u32 = SV_EVENT_REQUEST_INITIALIZED | SV_EVENT_REQUEST_DESTROYED;

/// What a generation is beside its libraries.
#[derive(Clone)]
pub struct Ground {
    pub number: u64,
    /// The generation that was the first one made from the same: most often itself.
    pub origin: u64,
    pub context: Arc<str>,
    /// Where its files lie.
    pub webapp: PathBuf,
    pub web: Web,
    pub settings: Arc<ContextSettings>,
    pub folder: Arc<Folder>,
    /// Of all generations of its context that have one bound.
    pub pool: Arc<Pool>,
    /// Errors show their reasons, unless web.toml says otherwise.
    pub development: bool,
    pub lives: Arc<Lives>,
    /// What answers in the place of its files.
    pub proxy: Option<Arc<Proxy>>,
}

/// What lies in a webapp's folder.
pub enum Files<'p> {
    Of(&'p Path),
    /// An upstream has none, only a name for the place.
    None(&'p Path),
}

impl Files<'_> {
    pub fn of<'p>(webapp: &'p Path, upstream: Option<&Arc<Upstream>>) -> Files<'p> {
        if upstream.is_some() { Files::None(webapp) } else { Files::Of(webapp) }
    }
}

/// Where a module gets what the one of its name hands over.
pub type Before = Box<dyn Fn(&str) -> Option<Vec<u8>> + Send>;

/// Why no request comes in.
pub enum Gate {
    /// Another generation is on its way. Nobody sends: who waits is woken when the sender is dropped, with this generation.
    Held(watch::Sender<()>),
    /// An operator has stopped the context.
    Stopped,
}

pub struct Generation {
    ground: Ground,
    /// It stands in for one that is not there.
    pub gate: Option<Gate>,
    /// Of all generations of all contexts.
    pub id: u64,
    pub since: Instant,
    pub mapper: Mapper,
    /// The names that the static files have as a servlet, by their numbers.
    files: Vec<String>,
    pub filter_maps: FilterMaps,
    /// None: its answers go out as they are.
    pub compression: Option<Arc<Compression>>,
    pub session_settings: SessionSettings,
    pub retired: AtomicBool,
    pub stage: watch::Sender<Stage>,
    /// Where its exchanges may write what they do not keep; removed with it.
    pub temp: Option<PathBuf>,
    loaded: Option<Loaded>,
    /// All kinds of events that its listener functions want.
    listens_to: u32,
    /// Those that end with it: of a context that is gone.
    last_sessions: OnceLock<Arc<Sessions>>,
}

/// It is its ground, with libraries on it.
impl Deref for Generation {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

/// What exchanges that go on by themselves are told of their generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Serving,
    /// A newer one has taken over.
    Retired,
    /// Its time is up.
    Cut,
}

struct Loaded {
    made: Made,
    copy: PrivateCopy,
    side: Arc<Side>,
    temp: PathBuf,
    closing: Closing,
}

/// How its libraries are unloaded.
struct Closing {
    /// Whose threads may have something of them.
    pool: Arc<Pool>,
    within: Duration,
    lives: Arc<Lives>,
    context: Arc<str>,
    number: u64,
}

/// How long a library that was refused may take to end its threads: the refusal waits for it.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// LIMIT: threads that are nudged at once.
const NUDGED_MAX: usize = 64;

impl Closing {
    /// Unloads them, the last one first, and returns for each that stays mapped why. Blocks; for a control thread. `id` is the
    /// generation's, if there is one that is retired.
    fn close(&self, libraries: Vec<Arc<Library>>, within: Duration, id: Option<u64>) -> Vec<String> {
        let mut stay = Vec::new();
        for library in libraries.into_iter().rev() {
            let name = library.declared().name.clone();
            // Somebody may be telling its module of something at this moment.
            let deadline = Instant::now() + within;
            while Arc::strong_count(&library) > 1 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let nudges = Cell::new(0);
            let closed = match Arc::into_inner(library) {
                Some(library) => library.close(within, &|waits| {
                    if let Some(id) = id {
                        self.lives.set(id, "unloading", format!("{name}: {waits}"));
                    }
                    nudges.set(nudges.get() + 1);
                    self.nudge(waits.callers.len(), nudges.get())
                }),
                None => Err("the server still holds it; please report it".to_owned()),
            };
            // At the end it goes with the process.
            if let Err(reason) = closed
                && !self.lives.end.load(Ordering::Relaxed)
            {
                let (context, generation) = (self.context.to_string(), self.number);
                stay.push(format!("{name}: {reason}"));
                self.lives.left_mapped(LeftMapped { context, generation, library: name, reason });
            }
        }
        stay
    }

    /// Lets all I/O threads, and so many threads of pools, come to [`let_go`]. Which ones is the runtime's choice: of the pools' those
    /// that have idled longest, so that all have had their turn after a few times, but of its own always those that have idled least.
    /// So each holds its task, longer each time, until the next one has to go to another thread. False: the server stops.
    fn nudge(&self, threads: usize, number: u32) -> bool {
        let runtime = self.pool.runtime();
        let hold = Duration::from_micros(20 << number.min(6));
        for _ in 0..threads.min(NUDGED_MAX).max(runtime.metrics().num_workers()) {
            // Nobody waits for them: they end at once.
            drop(runtime.spawn(async move {
                let_go();
                std::thread::sleep(hold);
            }));
        }
        for _ in 0..threads.min(NUDGED_MAX) {
            drop(runtime.spawn_blocking(|| {
                let_go();
                std::thread::sleep(Duration::from_millis(1));
            }));
        }
        !self.lives.end.load(Ordering::Relaxed)
    }
}

impl Loaded {
    fn dependencies(&self) -> impl Iterator<Item = &Fingerprint> {
        let has_servlets = |file: &Path| self.made.libraries.iter().any(|library| library.path() == file);
        self.copy.libraries.iter().filter(move |(file, _)| !has_servlets(file)).map(|(_, print)| print)
    }
}

/// Why there is no next generation; one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("{0}")]
    Mapping(Refusal),
    #[error("{0}")]
    Copy(#[from] private_copy::CopyError),
    #[error("{0}")]
    NotHandedOver(String),
}

/// What a generation is made from.
pub struct Plan {
    pub ground: Ground,
    /// What WEB-INF/lib is expected to hold; anything else is `CopyError::Changed`.
    pub libraries: Vec<Fingerprint>,
    /// Where its private copy goes; must not exist.
    pub copy_to: PathBuf,
    pub work: PathBuf,
    /// A folder for this generation alone; made when it is asked for.
    pub temp: PathBuf,
    /// `lib` of WEB-INF, or one that was kept.
    pub lib: PathBuf,
}

impl Ground {
    /// Opens the webapp's folder. Inside the runtime. `before`: the context's last generation.
    pub fn open(
        (number, context): (u64, Arc<str>),
        files: Files<'_>,
        (web, settings, development): (Web, ContextSettings, bool),
        before: Option<&Generation>,
        lives: Arc<Lives>,
    ) -> std::io::Result<Ground> {
        let options = files::options(&settings, &web);
        let (webapp, folder) = match files {
            Files::Of(webapp) => (webapp, Folder::open(webapp, options)?),
            Files::None(webapp) => (webapp, Folder::of_nothing(options)?),
        };
        let folder = Arc::new(folder);
        let bounds = |of: &ContextSettings| (of.workers_max, of.queue_max, of.queue_timeout);
        let pool = match before.filter(|before| bounds(&before.settings) == bounds(&settings)) {
            Some(before) => before.pool.clone(),
            None => Arc::new(Pool::new(settings.workers_max, settings.queue_max, settings.queue_timeout)),
        };
        let (webapp, settings) = (webapp.to_owned(), Arc::new(settings));
        let origin = number;
        Ok(Ground { number, origin, context, webapp, web, settings, folder, pool, development, lives, proxy: None })
    }

    /// The same, of which an upstream answers the requests.
    pub fn with(self, proxy: Option<Arc<Proxy>>) -> Ground {
        Ground { proxy, ..self }
    }
}

impl Generation {
    fn new(
        ground: Ground,
        mapping: (Mapper, Vec<String>, FilterMaps),
        loaded: Option<Loaded>,
        gate: Option<Gate>,
    ) -> Arc<Generation> {
        let (mapper, files, filter_maps) = mapping;
        let modules = loaded.iter().flat_map(|loaded| &loaded.made.modules);
        Arc::new(Generation {
            id: ground.lives.begin(),
            since: Instant::now(),
            mapper,
            files,
            filter_maps,
            session_settings: ground.web.session_settings(&ground.settings),
            compression: Compression::new(&ground.web.compression, &ground.settings.compression),
            retired: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Serving),
            temp: loaded.as_ref().map(|loaded| loaded.temp.clone()),
            listens_to: modules.fold(0, |kinds, module| kinds | module.listens_to()),
            loaded,
            last_sessions: OnceLock::new(),
            gate,
            ground,
        })
    }

    /// What it is, for people, when it has no servlets.
    pub fn without_servlets(&self) -> String {
        self.proxy.as_ref().map_or("static files".to_owned(), |proxy| format!("proxy of {}", proxy.upstream))
    }

    /// A generation without libraries: static files only.
    pub fn of_files(ground: Ground) -> Arc<Generation> {
        let (files, mapper) = declared::of_files(&ground.web);
        Generation::new(ground, (mapper, files, FilterMaps::default()), None, None)
    }

    /// Stands in the place of one.
    pub fn of_gate(ground: Ground, gate: Gate) -> Arc<Generation> {
        let (files, mapper) = declared::of_files(&ground.web);
        Generation::new(ground, (mapper, files, FilterMaps::default()), None, Some(gate))
    }

    /// Of the redirects that add a slash.
    pub fn redirect_status(&self) -> StatusCode {
        StatusCode::from_u16(self.web.redirects.status).unwrap_or(StatusCode::FOUND)
    }

    /// A generation that maps as its libraries declare, and has none of them: nothing of it can be called.
    pub fn of_mapping(ground: Ground, mapping: (Mapper, Vec<String>, FilterMaps)) -> Arc<Generation> {
        Generation::new(ground, mapping, None, None)
    }

    /// Copies, checks and starts the libraries. Blocks, runs code of the libraries: for a control thread. `hand_over` is called when
    /// all is known of them that can be without running more than their constructors.
    pub fn load(plan: Plan, hand_over: impl FnOnce() -> Result<Before, String>) -> Result<Arc<Generation>, LoadError> {
        let copy = private_copy::copy(&plan.lib, &plan.copy_to, &plan.libraries)?;
        let side = Arc::new(Side::new(&plan));
        let mut made = Made::default();
        let Ground { number, context, pool, lives, settings, .. } = &plan.ground;
        let (number, context, pool, lives) = (*number, context.clone(), pool.clone(), lives.clone());
        let closing = Closing { pool, within: settings.drain_timeout, lives, context, number };
        let Plans { mapper, files, filter_maps, .. } = match made.fill(&plan, &copy, &side, hand_over) {
            Ok(plans) => plans,
            Err(error) => {
                let stay = closing.close(made.destroy(&side, None), REFUSED_WITHIN, None);
                if !stay.is_empty() {
                    let (context, generation) = (&closing.context, closing.number);
                    tracing::warn!(%context, generation, "what was refused stays mapped: {}", stay.join("; "));
                }
                let _ = copy.remove();
                let _ = std::fs::remove_dir_all(&plan.temp);
                return Err(error);
            }
        };
        let _ = side.modules.set(made.modules.iter().map(Arc::downgrade).collect());
        let loaded = Loaded { made, copy, side, temp: plan.temp, closing };
        Ok(Generation::new(plan.ground, (mapper, files, filter_maps), Some(loaded), None))
    }

    pub fn servlet(&self, number: usize) -> Option<&Servlet> {
        self.loaded.as_ref()?.made.servlets.get(number)
    }

    /// `None`: it is the static files'.
    pub fn servlet_of(&self, by: By) -> Option<&Servlet> {
        self.servlet(by.servlet()?)
    }

    pub fn filter(&self, number: usize) -> Option<&Filter> {
        self.loaded.as_ref()?.made.filters.get(number)
    }

    /// The servlet of that name.
    pub fn servlet_named(&self, name: &str) -> Option<By> {
        let servlets = self.loaded.iter().flat_map(|loaded| &loaded.made.servlets);
        let found = servlets.map(Servlet::name).position(|known| known == name).map(By::Servlet);
        found.or_else(|| self.files.iter().position(|known| known == name).map(By::Files))
    }

    /// What a servlet is called: by filters' maps, in a mapping, in the log.
    pub fn name_of(&self, by: By) -> &str {
        match by {
            By::Servlet(number) => self.servlet(number).map_or("", Servlet::name),
            By::Files(number) => self.files.get(number).map_or("", String::as_str),
        }
    }

    /// The path parameter that carries a session's id, where URLs do (SEMANTICS 17).
    pub fn session_parameter(&self) -> &str {
        self.web.session.cookie_name.as_deref().unwrap_or("jsessionid")
    }

    fn web_servlet(&self, number: usize) -> Option<&serval_config::WebServlet> {
        let name = self.servlet(number)?.name();
        self.web.servlets.iter().find(|servlet| servlet.name == name)
    }

    /// Whether a servlet takes multipart bodies: by web.toml, else by its declaration.
    pub fn is_multipart(&self, number: usize) -> bool {
        let configured = self.web_servlet(number).and_then(|servlet| servlet.multipart);
        configured.unwrap_or(self.web.multipart.everywhere || self.servlet(number).is_some_and(Servlet::is_multipart))
    }

    /// Whether a servlet answers, as a welcome file, only for files that are there.
    pub fn needs_files(&self, by: By) -> bool {
        let name = self.name_of(by);
        self.web.servlets.iter().any(|servlet| servlet.resource_only && servlet.name == name)
    }

    /// What web.toml says of how long an asynchronous exchange of this servlet may take.
    pub fn async_timeout(&self, number: usize) -> Option<Duration> {
        self.web_servlet(number)?.async_timeout
    }

    /// A newer one has taken over, or the server stops: what goes on by itself is told.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.stage.send_if_modified(|stage| {
            *stage == Stage::Serving && {
                *stage = Stage::Retired;
                true
            }
        });
    }

    /// Its context is gone: when the last exchange has ended, the sessions end too.
    pub fn is_the_last_of(&self, context: &Context) {
        let _ = self.last_sessions.set(context.sessions.clone());
    }

    /// Ends what goes on by itself.
    pub fn cut(&self) {
        self.stage.send_replace(Stage::Cut);
    }

    /// Calls `tell` with each module that has listener functions for this kind of event, and returns the first error.
    pub fn tell(&self, kind: u32, mut tell: impl FnMut(&Module) -> Result<(), Failed>) -> Result<(), Failed> {
        match &self.loaded {
            Some(loaded) if self.listens_to & kind != 0 => loaded.made.tell(kind, &mut tell),
            _ => Ok(()),
        }
    }

    /// Whether listener functions, which promise nothing, are told of requests.
    pub fn listens_to_requests(&self) -> bool {
        self.listens_to & REQUEST_EVENTS != 0
    }

    /// The filters that a request of this path passes, and whether all of them promise not to block.
    pub fn filters_of(&self, path: &str, by: By) -> (Vec<usize>, bool) {
        if self.filter_maps.is_empty() {
            return (Vec::new(), true);
        }
        let filters = self.filter_maps.find(Some(path), self.name_of(by), SV_DISPATCH_REQUEST);
        let promise = filters.iter().all(|&filter| self.filter(filter).is_some_and(Filter::is_nonblocking));
        (filters, promise)
    }

    /// What a module of this name hands over to the next generation's; calls it.
    pub fn saved(&self, name: &str) -> Option<Vec<u8>> {
        self.loaded.as_ref()?.made.modules.iter().find(|module| module.name() == name)?.save()
    }

    /// What all of them hand over.
    pub fn saved_of_all(&self) -> HashMap<String, Vec<u8>> {
        let modules = self.loaded.iter().flat_map(|loaded| &loaded.made.modules);
        modules.filter_map(|module| Some((module.name().to_owned(), module.save()?))).collect()
    }

    /// Whether anything of it was started.
    pub fn has_libraries(&self) -> bool {
        self.loaded.is_some()
    }

    /// It was not replaced after all.
    pub fn serve_on(&self) {
        self.retired.store(false, Ordering::Relaxed);
        self.stage.send_replace(Stage::Serving);
    }

    /// The private copy of its libraries.
    pub fn copy(&self) -> Option<&PrivateCopy> {
        self.loaded.as_ref().map(|loaded| &loaded.copy)
    }

    /// The libraries that others here need, and that are not what they were in `older`.
    pub fn changed_dependencies<'a>(&'a self, older: &'a Generation) -> impl Iterator<Item = &'a str> {
        let dependencies = |generation: &'a Generation| generation.loaded.iter().flat_map(Loaded::dependencies);
        let content = |file: &Fingerprint| (file.len, file.modified);
        let differs = move |file: &&Fingerprint| {
            dependencies(older).any(|old| old.name == file.name && content(old) != content(file))
        };
        dependencies(self).filter(differs).map(|file| file.name.as_str())
    }

    pub fn welcome_files(&self) -> impl Iterator<Item = &str> {
        let default: &'static [&'static str] = &serval_config::DEFAULT_WELCOME_FILES;
        let own = self.web.welcome_files.as_deref();
        own.unwrap_or_default().iter().map(String::as_str).chain(default.iter().copied().filter(move |_| own.is_none()))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let lives = self.lives.clone();
        let (loaded, context, number, id) = (self.loaded.take(), self.context.clone(), self.number, self.id);
        let sessions = self.last_sessions.take();
        let end = move || {
            if let Some(Loaded { made, copy, side, temp, closing }) = loaded {
                lives.set(id, "destroying", String::new());
                let libraries = made.destroy(&side, sessions.as_deref());
                lives.set(id, "unloading", String::new());
                let stay = closing.close(libraries, closing.within, Some(id));
                let _ = copy.remove();
                let _ = std::fs::remove_dir_all(temp);
                let (left_mapped, _) = lives.left();
                match stay.is_empty() {
                    true => tracing::info!(%context, generation = number, left_mapped, "the generation is gone"),
                    false => tracing::warn!(
                        %context, generation = number, left_mapped,
                        "the generation is destroyed, but stays mapped: {}", stay.join("; ")
                    ),
                }
            }
            lives.end(id);
        };
        // A library's destroy may block, and the last exchange may end on an I/O thread.
        if let Err(error) = std::thread::Builder::new().name("sv-control".to_owned()).spawn(end) {
            tracing::error!(context = %self.context, "a generation cannot be destroyed, since there is no thread for it: {error}");
        }
    }
}

/// What came of the libraries, in the order in which it was made.
#[derive(Default)]
struct Made {
    libraries: Vec<Arc<Library>>,
    modules: Vec<Arc<Module>>,
    /// The listener functions know that the context is there.
    initialized: bool,
    filters: Vec<Filter>,
    servlets: Vec<Servlet>,
}

impl Made {
    /// The order of SEMANTICS 25: modules, listener functions, filters, servlets.
    fn fill(
        &mut self,
        plan: &Plan,
        copy: &PrivateCopy,
        side: &Arc<Side>,
        hand_over: impl FnOnce() -> Result<Before, String>,
    ) -> Result<Plans, LoadError> {
        let refused = |file: &Path, refusal| Refused { file: file.to_owned(), refusal };
        for file in servlet_libraries(&copy.libraries, &plan.ground.settings)? {
            let library = Library::open(file).map_err(|refusal| refused(file, refusal))?;
            self.libraries.extend(library.map(Arc::new));
        }
        let libraries = self.libraries.clone();
        let plans = declared(&libraries, &plan.ground.web).map_err(LoadError::Mapping)?;
        let before = hand_over().map_err(LoadError::NotHandedOver)?;
        for library in &libraries {
            let module = library.start(side.clone()).map_err(|refusal| refused(library.path(), refusal))?;
            let module = Arc::new(module);
            self.modules.push(module.clone());
            if let Some(saved) = before(module.name()) {
                module.restore(&saved).map_err(|refusal| refused(library.path(), refusal))?;
            }
        }
        self.initialized = true;
        let mut told = Ok(());
        for (module, library) in self.modules.iter().zip(&libraries) {
            let one = event_of_context(module, SV_EVENT_CONTEXT_INITIALIZED, Change::default());
            told = told.and(one.map_err(|(_, text)| refused(library.path(), Refusal::Initialized(text))));
        }
        told?;
        for filter in &plans.filters {
            let path = libraries[filter.library].path();
            let made = Filter::create(&self.modules[filter.library], filter.index, &filter.name, filter.init.clone());
            self.filters.push(made.map_err(|refusal| refused(path, refusal))?);
        }
        let mut order: Vec<usize> = (0..plans.servlets.len()).collect();
        order.sort_by_key(|&number| match plans.servlets[number].load_order {
            order if order < 0 => i32::MAX,
            order => order,
        });
        let mut made: Vec<Option<Servlet>> = plans.servlets.iter().map(|_| None).collect();
        let mut create = |number: usize| {
            let servlet = &plans.servlets[number];
            let path = libraries[servlet.library].path();
            let created =
                Servlet::create(&self.modules[servlet.library], servlet.index, &servlet.name, servlet.init.clone());
            made[number] = Some(created.map_err(|refusal| refused(path, refusal))?);
            Ok::<(), Refused>(())
        };
        let created = order.into_iter().try_for_each(&mut create);
        self.servlets.extend(made.into_iter().flatten());
        created?;
        Ok(plans)
    }

    /// Calls `tell` with each module that listens to this kind of event; of an end with the last one first (SEMANTICS 25).
    fn tell(&self, kind: u32, tell: &mut dyn FnMut(&Module) -> Result<(), Failed>) -> Result<(), Failed> {
        let mut told = Ok(());
        let mut one = |module: &Arc<Module>| {
            if module.listens_to() & kind != 0 {
                let of_one = tell(module);
                told = std::mem::replace(&mut told, Ok(())).and(of_one);
            }
        };
        match is_end(kind) {
            true => self.modules.iter().rev().for_each(&mut one),
            false => self.modules.iter().for_each(&mut one),
        }
        told
    }

    /// Servlets before filters before sessions before modules, each in reverse order. Returns the libraries, which nothing calls now.
    fn destroy(mut self, side: &Side, sessions: Option<&Sessions>) -> Vec<Arc<Library>> {
        side.jobs.close(&side.context, side.number);
        while self.servlets.pop().is_some() {}
        while self.filters.pop().is_some() {}
        for session in sessions.map(Sessions::clear).unwrap_or_default() {
            session_ends(&session, |kind, tell| log_failure(&side.context, side.number, self.tell(kind, tell)));
        }
        if self.initialized {
            let kind = SV_EVENT_CONTEXT_DESTROYED;
            let told = self.tell(kind, &mut |module| event_of_context(module, kind, Change::default()));
            log_failure(&side.context, side.number, told);
        }
        while self.modules.pop().is_some() {}
        self.libraries
    }
}

/// Checks all libraries before any code of one runs, and returns those that declare servlets; the others are needed by them.
pub fn servlet_libraries<'a>(
    libraries: &'a [(PathBuf, Fingerprint)],
    settings: &ContextSettings,
) -> Result<Vec<&'a Path>, Refused> {
    let mut all = Vec::new();
    for (file, print) in libraries {
        let refused = |refusal| Refused { file: file.clone(), refusal };
        if !settings.allow_foreign_writable
            && let Some(text) = private_copy::foreign_writable(print, rustix::process::geteuid().as_raw())
        {
            return Err(refused(Refusal::ForeignWritable(text)));
        }
        all.push((file, elf::read_file(file).map_err(refused)?));
    }
    let has_entry = |facts: &elf::Facts| facts.entry || !facts.other_entries.is_empty();
    let none_has = !all.iter().any(|(_, facts)| has_entry(facts));
    for (file, facts) in all.iter().filter(|(_, facts)| !has_entry(facts)) {
        let names = [file.file_name().and_then(|name| name.to_str()), facts.soname.as_deref()];
        let needed = |other: &elf::Facts| other.needed.iter().any(|name| names.contains(&Some(name)));
        // What nobody needs was meant to have servlets: a broken link, or a file that is not whole.
        if none_has || !all.iter().any(|(_, other)| needed(other)) {
            return Err(Refused { file: file.to_path_buf(), refusal: Refusal::NoEntry });
        }
    }
    Ok(all.iter().filter(|(_, facts)| has_entry(facts)).map(|(file, _)| file.as_path()).collect())
}
