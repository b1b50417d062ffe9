//! The webapp of a test: its running generation, and what outlives it.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use serval_abi::{
    SV_EVENT_CONTEXT_DESTROYED, SV_EVENT_CONTEXT_INITIALIZED, SV_EVENT_REQUEST_DESTROYED, SV_EVENT_SESSION_DESTROYED,
    SV_OK, sv_config, sv_context, sv_event, sv_exchange, sv_filter, sv_listener, sv_module, sv_pair, sv_servlet,
    sv_session, sv_status, sv_str,
};

use super::session::Session;
use super::{Answer, Setup, table};
use crate::host;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of a servlet, or of the test, does not harm the next test.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that views lead to: what was kept stays where it is until the arena is dropped.
#[derive(Default)]
pub(super) struct Arena(Mutex<Vec<Kept>>);

struct Kept(#[expect(dead_code, reason = "it only has to live")] Arc<dyn Any>);

// SAFETY: plain memory, which nobody changes; it is only dropped with the arena.
unsafe impl Send for Kept {}

impl Arena {
    pub fn bytes(&self, bytes: &[u8]) -> sv_str {
        let kept = Arc::new(bytes.to_vec());
        let view = sv_str::from_bytes(&kept);
        lock(&self.0).push(Kept(kept));
        view
    }

    pub fn text(&self, text: &str) -> sv_str {
        self.bytes(text.as_bytes())
    }

    pub fn optional(&self, text: Option<&str>) -> sv_str {
        text.map_or(sv_str::ABSENT, |text| self.text(text))
    }

    pub fn pairs<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> (*const sv_pair, usize) {
        let pairs: Vec<sv_pair> = pairs
            .into_iter()
            .map(|(name, value)| sv_pair { name: self.text(name.as_ref()), value: self.bytes(value.as_ref()) })
            .collect();
        let count = pairs.len();
        (self.list(pairs), count)
    }

    pub fn list<T: 'static>(&self, list: Vec<T>) -> *const T {
        let kept = Arc::new(list);
        let first = kept.as_ptr();
        lock(&self.0).push(Kept(kept));
        first
    }
}

pub(super) struct Webapp {
    module: &'static sv_module,
    pub setup: Setup,
    folder: PathBuf,
    folders: [(&'static str, PathBuf); 3],
    pub attributes: Mutex<BTreeMap<String, Vec<u8>>>,
    pub sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    cookies: Mutex<BTreeMap<String, String>>,
    log: Mutex<Vec<String>>,
    panics: Mutex<HashMap<ThreadId, String>>,
    retiring: AtomicBool,
    generations: AtomicU64,
    jobs: Mutex<usize>,
    job_ended: Condvar,
    live: Mutex<Option<Arc<Live>>>,
}

impl Webapp {
    pub fn start(module: &'static sv_module, setup: Setup) -> Result<Arc<Webapp>, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("servlet-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let folders = ["root", "work", "temp"].map(|name| (name, folder.join(name)));
        for (_, folder) in &folders {
            std::fs::create_dir_all(folder).map_err(|wrong| format!("cannot make {}: {wrong}", folder.display()))?;
        }
        let webapp = Arc::new(Webapp {
            module,
            setup,
            folder,
            folders,
            attributes: Mutex::default(),
            sessions: Mutex::default(),
            cookies: Mutex::default(),
            log: Mutex::default(),
            panics: Mutex::default(),
            retiring: AtomicBool::new(false),
            generations: AtomicU64::new(0),
            jobs: Mutex::new(0),
            job_ended: Condvar::new(),
            live: Mutex::new(None),
        });
        match Live::start(&webapp, None) {
            Ok(live) => *lock(&webapp.live) = Some(live),
            Err(text) => {
                webapp.end();
                return Err(text);
            }
        }
        Ok(webapp)
    }

    pub fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone()
    }

    pub fn reload(self: &Arc<Webapp>) -> Result<(), String> {
        let saved = self.live().map(|live| live.save());
        let next = Live::start(self, saved)?;
        let before = lock(&self.live).replace(next);
        drop(before);
        Ok(())
    }

    pub fn end(&self) {
        let mut jobs = lock(&self.jobs);
        while *jobs > 0 {
            jobs = self.job_ended.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
        drop(jobs);
        let live = lock(&self.live).take();
        drop(live);
        lock(&self.sessions).clear();
        // What a test left there is of no use; what cannot be removed is the system's to clean up.
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Runs a job of `context_post`. `false`: there are too many.
    pub fn post(self: &Arc<Webapp>, job: impl FnOnce() + Send + 'static) -> bool {
        /// LIMIT: jobs that run at a time; each has a thread.
        const JOBS_MAX: usize = 100;
        let mut jobs = lock(&self.jobs);
        if *jobs >= JOBS_MAX {
            return false;
        }
        *jobs += 1;
        drop(jobs);
        let webapp = self.clone();
        std::thread::spawn(move || {
            job();
            *lock(&webapp.jobs) -= 1;
            webapp.job_ended.notify_all();
        });
        true
    }

    pub fn retire(&self) {
        self.retiring.store(true, Ordering::Release);
    }

    pub fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::Acquire)
    }

    pub fn folder(&self, name: &str) -> &Path {
        self.folders.iter().find(|(found, _)| *found == name).map_or(&self.folder, |(_, folder)| folder)
    }

    pub fn logged(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    pub fn log(&self, line: String) {
        // The test harness shows it when the test fails.
        println!("{line}");
        lock(&self.log).push(line);
    }

    /// For the answer of a request that panics on this thread.
    pub fn panicked(&self, thread: ThreadId, text: String) {
        lock(&self.panics).insert(thread, text);
    }

    pub fn panic_of(&self, thread: ThreadId) -> Option<String> {
        lock(&self.panics).remove(&thread)
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        lock(&self.cookies).get(name).cloned()
    }

    pub fn forget_cookies(&self) {
        lock(&self.cookies).clear();
    }

    pub fn cookie_header(&self) -> String {
        let cookies = lock(&self.cookies);
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    pub fn keep_cookies(&self, answer: &Answer) {
        let mut cookies = lock(&self.cookies);
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if attributes.split(';').any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0")) {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// One generation's context: what a context handle leads to.
pub(super) struct Generation {
    pub webapp: Arc<Webapp>,
    pub number: u64,
    pub arena: Arena,
}

/// A servlet or filter with what `create` made of it.
pub(super) struct Instance<T: 'static> {
    pub declared: &'static T,
    pub name: String,
    pub pointer: *mut c_void,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// What runs: the module and its instances, until it is dropped.
pub(super) struct Live {
    module: &'static sv_module,
    pointer: *mut c_void,
    pub generation: Arc<Generation>,
    pub context: usize,
    pub servlets: Vec<Instance<sv_servlet>>,
    pub filters: Vec<Instance<sv_filter>>,
    /// Of the servlets, by their numbers.
    pub patterns: Vec<(usize, String)>,
    listeners: Vec<&'static sv_listener>,
    /// How far it came: `init`, and the event after it.
    initialized: bool,
    told: bool,
}

// SAFETY: the pointers are the library's, and it may be called on any thread as servlet.h says.
unsafe impl Send for Live {}
// SAFETY: as above.
unsafe impl Sync for Live {}

type OnEvent = unsafe extern "C" fn(*mut c_void, *const sv_event) -> sv_status;

/// What a listener is told besides the kind.
pub(super) struct Told {
    pub exchange: usize,
    pub session: usize,
    pub session_id: sv_str,
    pub name: sv_str,
    pub value: sv_str,
    pub old_value: sv_str,
}

impl Default for Told {
    fn default() -> Told {
        let absent = sv_str::ABSENT;
        Told { exchange: 0, session: 0, session_id: absent, name: absent, value: absent, old_value: absent }
    }
}

/// What lists of a module hold.
fn list<T>(first: *const *const T, count: usize) -> Vec<&'static T> {
    (0..count)
        // SAFETY: a module's lists are as long as it says, and constant data of the library.
        .filter_map(|at| unsafe { (*first.add(at)).as_ref() })
        .collect()
}

pub(super) fn texts(first: *const sv_str, count: usize) -> Vec<String> {
    // SAFETY: as above.
    (0..count).map(|at| text(unsafe { *first.add(at) })).collect()
}

/// A copy of a view of the library's constant data, or of arguments that live for the call.
pub(super) fn text(view: sv_str) -> String {
    // SAFETY: as the doc says.
    unsafe { host::bytes(view) }.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

impl Live {
    fn start(webapp: &Arc<Webapp>, saved: Option<Vec<u8>>) -> Result<Arc<Live>, String> {
        let module = webapp.module;
        let number = webapp.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let generation = Arc::new(Generation { webapp: webapp.clone(), number, arena: Arena::default() });
        let mut live = Live {
            module,
            pointer: null_mut(),
            context: table::register(table::Handle::Context(generation.clone())),
            generation,
            servlets: Vec::new(),
            filters: Vec::new(),
            patterns: Vec::new(),
            listeners: list(module.listeners, module.listener_count),
            initialized: false,
            told: false,
        };
        let mut error = sv_str::ABSENT;
        let refused = |what: &str, status: i32, error: sv_str| match text(error) {
            said if said.is_empty() => format!("{what} returned {status}"),
            said => said,
        };
        if let Some(init) = module.init {
            // SAFETY: as servlet.h says of init; the table lives for ever.
            let status = unsafe { init(table::table(), live.context_handle(), &raw mut live.pointer, &raw mut error) };
            if status != SV_OK {
                return Err(refused("init", status, error));
            }
        }
        live.initialized = true;
        if let (Some(restore), Some(saved)) = (module.restore, saved.filter(|saved| !saved.is_empty())) {
            // SAFETY: as servlet.h says of restore.
            let status = unsafe { restore(live.pointer, saved.as_ptr(), saved.len()) };
            if status != SV_OK {
                return Err(refused("restore", status, error));
            }
        }
        live.told = true;
        match live.tell(SV_EVENT_CONTEXT_INITIALIZED, &Told::default()) {
            SV_OK => {}
            status => return Err(format!("a listener function of context_initialized returned {status}")),
        }
        let mut servlets = list(module.servlets, module.servlet_count);
        servlets.sort_by_key(|servlet| (servlet.load_order < 0, servlet.load_order.max(0)));
        for declared in servlets {
            let (name, init) = (text(declared.name), (declared.init, declared.init_count));
            let pointer = live.create(&name, init, declared.create)?;
            let patterns = texts(declared.patterns, declared.pattern_count);
            live.patterns.extend(patterns.into_iter().map(|pattern| (live.servlets.len(), pattern)));
            live.servlets.push(Instance { declared, name, pointer, destroy: declared.destroy });
        }
        let mut filters = list(module.filters, module.filter_count);
        filters.sort_by_key(|filter| filter.order);
        for declared in filters {
            let (name, init) = (text(declared.name), (declared.init, declared.init_count));
            let pointer = live.create(&name, init, declared.create)?;
            live.filters.push(Instance { declared, name, pointer, destroy: declared.destroy });
        }
        Ok(Arc::new(live))
    }

    pub fn context_handle(&self) -> *mut sv_context {
        std::ptr::without_provenance_mut(self.context)
    }

    fn create(
        &self,
        name: &str,
        (declared, count): (*const sv_pair, usize),
        create: Option<
            unsafe extern "C" fn(*mut sv_context, *mut c_void, *const sv_config, *mut *mut c_void, *mut sv_str) -> i32,
        >,
    ) -> Result<*mut c_void, String> {
        let arena = &self.generation.arena;
        let set = self.generation.webapp.setup.init.iter().filter(|(of, ..)| of == name);
        let mut init: Vec<sv_pair> =
            set.map(|(_, name, value)| sv_pair { name: arena.text(name), value: arena.text(value) }).collect();
        // SAFETY: the declaration's own, constant data of the library.
        init.extend_from_slice(unsafe { host::pairs(declared, count) });
        let init_count = init.len();
        let config = sv_config {
            struct_size: size_of::<sv_config>() as u32,
            reserved: 0,
            name: arena.text(name),
            init: arena.list(init),
            init_count,
        };
        let (mut instance, mut error) = (null_mut(), sv_str::ABSENT);
        let Some(create) = create else { return Ok(instance) };
        let config = arena.list(vec![config]);
        // SAFETY: as servlet.h says of create; the configuration lives as long as the generation.
        let status = unsafe { create(self.context_handle(), self.pointer, config, &raw mut instance, &raw mut error) };
        match (status, text(error)) {
            (SV_OK, _) => Ok(instance),
            (status, said) if said.is_empty() => Err(format!("create of {name} returned {status}")),
            (_, said) => Err(said),
        }
    }

    /// Tells the listeners that asked for this kind, of an end the last one first; the first error is returned.
    pub fn tell(&self, kind: u32, told: &Told) -> sv_status {
        let event = sv_event {
            struct_size: size_of::<sv_event>() as u32,
            kind,
            context: self.context_handle(),
            exchange: std::ptr::without_provenance_mut::<sv_exchange>(told.exchange),
            session: std::ptr::without_provenance_mut::<sv_session>(told.session),
            session_id: told.session_id,
            name: told.name,
            value: told.value,
            old_value: told.old_value,
        };
        let mut asked: Vec<_> = self.listeners.iter().filter(|listener| listener.kinds & kind != 0).collect();
        if kind & (SV_EVENT_CONTEXT_DESTROYED | SV_EVENT_REQUEST_DESTROYED | SV_EVENT_SESSION_DESTROYED) != 0 {
            asked.reverse();
        }
        // SAFETY: as servlet.h says of on_event; views live for the call.
        let tell = |on_event: OnEvent| unsafe { on_event(self.pointer, &raw const event) };
        asked
            .iter()
            .filter_map(|listener| listener.on_event)
            .map(tell)
            .fold(SV_OK, |first, status| if first == SV_OK { status } else { first })
    }

    fn save(&self) -> Vec<u8> {
        let Some(save) = self.module.save else { return Vec::new() };
        let mut saved = Vec::new();
        // It may grow between two calls; then it is asked once more.
        for _ in 0..10 {
            let mut len = 0;
            // SAFETY: as servlet.h says of save.
            let status = unsafe { save(self.pointer, saved.as_mut_ptr(), saved.len(), &raw mut len) };
            if status != SV_OK && len <= saved.len() {
                return Vec::new();
            }
            let enough = len <= saved.len();
            saved.resize(len, 0);
            if enough {
                return saved;
            }
        }
        Vec::new()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let servlets = self.servlets.iter().map(|servlet| (servlet.destroy, servlet.pointer));
        let filters = self.filters.iter().map(|filter| (filter.destroy, filter.pointer));
        for (destroy, pointer) in servlets.chain(filters) {
            if let Some(destroy) = destroy {
                // SAFETY: made by create, and its last use.
                unsafe { destroy(pointer) };
            }
        }
        if self.told {
            self.tell(SV_EVENT_CONTEXT_DESTROYED, &Told::default());
        }
        if let (true, Some(destroy)) = (self.initialized, self.module.destroy) {
            // SAFETY: started by init, and last of all.
            unsafe { destroy(self.pointer) };
        }
        table::unregister(self.context);
    }
}

/// Absent values of a list.
pub(super) const NO_PAIRS: (*const sv_pair, usize) = (null(), 0);
