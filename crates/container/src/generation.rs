//! One loaded version of a context: its libraries, servlets and mapping. A reload makes the next one beside it.
//!
//! Made on a control thread by the deployment; every exchange inside holds it, and when the last one lets go, its servlets and
//! modules are destroyed on a thread of their own, never on an I/O thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serval_abi::SV_E_LIMIT;
use serval_config::{ContextSettings, Web};
use serval_loader::exchange::{Answer, Fault, Level, Place};
use serval_loader::library::{Library, Module, Servlet};
use serval_loader::private_copy::{self, Fingerprint, PrivateCopy};
use serval_loader::{Refusal, Refused, elf};
use tokio::sync::Notify;

use crate::mapping::{Mapper, PatternError};

/// LIMIT: bytes of all context attributes together.
const ATTRIBUTE_BYTES_MAX: usize = 16 << 20;

/// What the generations of all contexts share: how many live, and how many libraries stay mapped.
#[derive(Default)]
pub struct Lives {
    pub live: AtomicUsize,
    pub left_mapped: AtomicUsize,
    pub changed: Notify,
}

pub struct Generation {
    pub number: u64,
    pub context: Arc<str>,
    pub mapper: Mapper,
    pub web: Web,
    pub retired: AtomicBool,
    loaded: Option<Loaded>,
    lives: Arc<Lives>,
}

struct Loaded {
    made: Made,
    copy: PrivateCopy,
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
}

/// What a generation is made from.
pub struct Plan {
    pub number: u64,
    pub context: Arc<str>,
    pub webapp: PathBuf,
    /// What WEB-INF/lib is expected to hold; anything else is `CopyError::Changed`.
    pub libraries: Vec<Fingerprint>,
    pub web: Web,
    pub settings: ContextSettings,
    /// Where its private copy goes; must not exist.
    pub copy_to: PathBuf,
    pub work: PathBuf,
    pub lives: Arc<Lives>,
}

impl Generation {
    /// A generation without libraries: static files only.
    pub fn of_files(number: u64, context: Arc<str>, web: Web, lives: Arc<Lives>) -> Arc<Generation> {
        lives.live.fetch_add(1, Ordering::Relaxed);
        let retired = AtomicBool::new(false);
        Arc::new(Generation { number, context, mapper: Mapper::default(), web, retired, loaded: None, lives })
    }

    /// Copies, checks and starts the libraries. Blocks, runs code of the libraries: for a control thread.
    pub fn load(plan: Plan) -> Result<Arc<Generation>, LoadError> {
        let copy = private_copy::copy(&plan.webapp.join("WEB-INF/lib"), &plan.copy_to, &plan.libraries)?;
        let mut made = Made::default();
        let mapper = match made.fill(&plan, &copy) {
            Ok(mapper) => mapper,
            Err(error) => {
                made.destroy(&plan.lives);
                let _ = copy.remove();
                return Err(error);
            }
        };
        plan.lives.live.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Generation {
            number: plan.number,
            context: plan.context,
            mapper,
            web: plan.web,
            retired: AtomicBool::new(false),
            loaded: Some(Loaded { made, copy }),
            lives: plan.lives,
        }))
    }

    pub fn servlet(&self, number: usize) -> Option<&Servlet> {
        self.loaded.as_ref()?.made.servlets.get(number)
    }

    /// For the log.
    pub fn servlet_name(&self, number: usize) -> &str {
        self.servlet(number).map_or("", Servlet::name)
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
        let (loaded, context, number) = (self.loaded.take(), self.context.clone(), self.number);
        let end = move || {
            if let Some(Loaded { made, copy }) = loaded {
                made.destroy(&lives);
                let _ = copy.remove();
                tracing::info!(
                    %context, generation = number, left_mapped = lives.left_mapped.load(Ordering::Relaxed),
                    "the generation is destroyed; its code stays mapped (left mapped), since this version does not unload yet"
                );
            }
            lives.live.fetch_sub(1, Ordering::Release);
            lives.changed.notify_waiters();
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
    servlets: Vec<Servlet>,
}

impl Made {
    fn fill(&mut self, plan: &Plan, copy: &PrivateCopy) -> Result<Mapper, LoadError> {
        let refused = |file: &Path, refusal| Refused { file: file.to_owned(), refusal };
        for file in servlet_libraries(plan, copy)? {
            let library = Library::open(file).map_err(|refusal| refused(file, refusal))?;
            self.libraries.extend(library.map(Arc::new));
        }
        let declared = &self.libraries;
        let side = Arc::new(Side::new(plan));
        let (instances, mapper) = instances(declared, &plan.web).map_err(LoadError::Mapping)?;
        for library in declared {
            let module = library.start(side.clone()).map_err(|refusal| refused(library.path(), refusal))?;
            self.modules.push(Arc::new(module));
        }
        let mut order: Vec<usize> = (0..instances.len()).collect();
        order.sort_by_key(|&number| match instances[number].load_order {
            order if order < 0 => i32::MAX,
            order => order,
        });
        let mut made: Vec<Option<Servlet>> = instances.iter().map(|_| None).collect();
        for number in order {
            let Instance { library, index, name, init, .. } = &instances[number];
            let servlet = Servlet::create(&self.modules[*library], *index, name, init.clone())
                .map_err(|refusal| refused(declared[*library].path(), refusal))?;
            made[number] = Some(servlet);
        }
        self.servlets.extend(made.into_iter().flatten());
        Ok(mapper)
    }

    /// Servlets before modules, each in reverse order; the libraries stay mapped.
    fn destroy(mut self, lives: &Lives) {
        while self.servlets.pop().is_some() {}
        while self.modules.pop().is_some() {}
        lives.left_mapped.fetch_add(self.libraries.len(), Ordering::Relaxed);
    }
}

/// Checks all libraries before any code of one runs, and returns those that declare servlets; the others are needed by them.
fn servlet_libraries<'a>(plan: &Plan, copy: &'a PrivateCopy) -> Result<Vec<&'a Path>, Refused> {
    let mut all = Vec::new();
    for (file, print) in &copy.libraries {
        let refused = |refusal| Refused { file: file.clone(), refusal };
        if !plan.settings.allow_foreign_writable
            && let Some(text) = private_copy::foreign_writable(print, rustix::process::geteuid().as_raw())
        {
            return Err(refused(Refusal::ForeignWritable(text)));
        }
        let bytes = std::fs::read(file).map_err(|error| refused(Refusal::Read(error)))?;
        all.push((file, elf::read(&bytes).map_err(|refusal| refused(refusal.into()))?));
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

/// A servlet that is to be created.
struct Instance {
    library: usize,
    index: usize,
    name: String,
    init: Vec<(String, String)>,
    load_order: i32,
    patterns: Vec<String>,
}

/// What the libraries declare, as web.toml changes it.
fn instances(libraries: &[Arc<Library>], web: &Web) -> Result<(Vec<Instance>, Mapper), Refusal> {
    let mut instances: Vec<Instance> = Vec::new();
    for (number, library) in libraries.iter().enumerate() {
        for (index, servlet) in library.declared().servlets.iter().enumerate() {
            if instances.iter().any(|other| other.name == servlet.name) {
                return Err(Refusal::NameConflict(servlet.name.clone()));
            }
            instances.push(Instance {
                library: number,
                index,
                name: servlet.name.clone(),
                init: servlet.init.clone(),
                load_order: servlet.load_order,
                patterns: servlet.patterns.clone(),
            });
        }
    }
    let classes: Vec<(usize, usize, String)> =
        instances.iter().map(|instance| (instance.library, instance.index, instance.name.clone())).collect();
    for servlet in &web.servlets {
        let class = servlet.class.as_ref().unwrap_or(&servlet.name);
        let Some((library, index, _)) = classes.iter().find(|(_, _, name)| name == class) else {
            let known: Vec<&str> = classes.iter().map(|(_, _, name)| name.as_str()).collect();
            return Err(Refusal::NoSuchServlet(class.clone(), known.join(", ")));
        };
        if !servlet.enabled {
            instances.retain(|instance| instance.name != servlet.name);
            continue;
        }
        let found = instances.iter().position(|instance| instance.name == servlet.name);
        let at = found.unwrap_or_else(|| {
            let declared = &libraries[*library].declared().servlets[*index];
            instances.push(Instance {
                library: *library,
                index: *index,
                name: servlet.name.clone(),
                init: declared.init.clone(),
                load_order: declared.load_order,
                patterns: Vec::new(),
            });
            instances.len() - 1
        });
        let instance = &mut instances[at];
        instance.load_order = servlet.load_on_startup.unwrap_or(instance.load_order);
        if let Some(patterns) = &servlet.url_patterns {
            instance.patterns.clone_from(patterns);
        }
        for (name, value) in &servlet.init {
            instance.init.retain(|(known, _)| known != name);
            instance.init.push((name.clone(), value.clone()));
        }
    }
    let mut mapper = Mapper::default();
    for (number, instance) in instances.iter().enumerate() {
        for pattern in &instance.patterns {
            mapper.add(pattern, number).map_err(|error| match error {
                PatternError::Malformed => {
                    Refusal::BadPattern { servlet: instance.name.clone(), pattern: pattern.clone() }
                }
                PatternError::Template => Refusal::NotYet(format!("the URL pattern `{pattern}`")),
                PatternError::Taken(other) => Refusal::PatternConflict {
                    pattern: pattern.clone(),
                    first: instances[other].name.clone(),
                    second: instance.name.clone(),
                },
            })?;
        }
    }
    Ok((instances, mapper))
}

/// The generation as its libraries see it.
struct Side {
    context: Arc<str>,
    path: String,
    number: u64,
    parameters: Vec<(String, String)>,
    mime: Vec<(String, String)>,
    root: Option<String>,
    work: Option<String>,
    attributes: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Side {
    fn new(plan: &Plan) -> Side {
        let path = if &*plan.context == "/" { String::new() } else { plan.context.to_string() };
        let text = |path: &Path| path.to_str().map(str::to_owned);
        Side {
            context: plan.context.clone(),
            path,
            number: plan.number,
            parameters: plan.web.params.clone(),
            mime: plan.web.mime.clone(),
            root: text(&plan.webapp),
            work: text(&plan.work).filter(|_| std::fs::create_dir_all(&plan.work).is_ok()),
            attributes: Mutex::default(),
        }
    }
}

impl serval_loader::exchange::Context for Side {
    fn log_enabled(&self, level: Level) -> bool {
        match level {
            Level::Error => tracing::enabled!(target: "serval::servlet", tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(target: "serval::servlet", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "serval::servlet", tracing::Level::INFO),
            Level::Debug => tracing::enabled!(target: "serval::servlet", tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(target: "serval::servlet", tracing::Level::TRACE),
        }
    }

    fn log(&self, request: Option<u64>, level: Level, text: &str) {
        let (context, generation) = (&*self.context, self.number);
        match level {
            Level::Error => tracing::error!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Warn => tracing::warn!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Info => tracing::info!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Debug => tracing::debug!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Trace => tracing::trace!(target: "serval::servlet", context, generation, request, "{text}"),
        }
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    fn folder(&self, place: Place) -> Option<&str> {
        match place {
            Place::Root => self.root.as_deref(),
            Place::Work => self.work.as_deref(),
            Place::Temp => None,
        }
    }

    fn mime_type(&self, file_name: &str) -> Option<&str> {
        let (_, extension) = file_name.rsplit_once('.')?;
        self.mime.iter().find(|(known, _)| known == extension).map(|(_, value)| value.as_str())
    }

    fn attribute(&self, name: &str) -> Option<Vec<u8>> {
        let attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn set_attribute(&self, name: &str, value: Option<&[u8]>) -> Answer {
        let mut attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        let others = attributes.iter().filter(|(known, _)| known != name);
        let used: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if value.is_some_and(|value| used + name.len() + value.len() > ATTRIBUTE_BYTES_MAX) {
            return Err(Fault::new(SV_E_LIMIT, "the context attributes are over 16 MiB"));
        }
        attributes.retain(|(known, _)| known != name);
        attributes.extend(value.map(|value| (name.to_owned(), value.to_vec())));
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.number
    }
}
