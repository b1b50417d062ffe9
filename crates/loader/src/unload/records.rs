//! What each library has left on each thread, and the threads that are its own.
//!
//! The hooks write it on any thread, maybe inside of a library's constructor or destructor; so nothing of a library is ever called
//! while the record is locked. Until a library is loaded the hooks do not come here.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_uint, c_void};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::hooks::{self, Destructor};
use super::objects;
use crate::slots::thread;

/// LIMIT: a destructor may register another one, as those of thread-locals may: so often all are looked through (as libc does, 4).
const ROUNDS: usize = 8;
/// Libraries that a thread has called lately, by the end of their number: those need no lock.
const LATELY: usize = 64;

struct Object {
    path: CString,
    /// Empty until it is known.
    range: Range<usize>,
    /// Threads of its own that run.
    threads: usize,
    keys: Vec<Key>,
    /// Threads that have called it since they last let go.
    callers: BTreeSet<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Key {
    pub key: c_uint,
    pub destructor: Option<Destructor>,
}

/// In the place of a library's number: the executable itself.
pub(super) const PROGRAM: u32 = 0;

/// A destructor that a library, or the executable, has registered for the end of a thread.
struct Entry {
    object: u32,
    destructor: Destructor,
    argument: *mut c_void,
}

#[derive(Default)]
struct Thread {
    id: i32,
    entries: Vec<Entry>,
    /// Libraries that it is asked to let go.
    owes: Vec<u32>,
    /// The library whose own it is.
    of: Option<u32>,
}

struct Record {
    objects: BTreeMap<u32, Object>,
    threads: BTreeMap<u64, Thread>,
    /// The one whose constructors may be running.
    loading: Option<u32>,
    next: u32,
}

// SAFETY: the arguments of destructors are not looked at; each is handed to its destructor on its own thread.
unsafe impl Send for Record {}

static RECORD: Mutex<Record> =
    Mutex::new(Record { objects: BTreeMap::new(), threads: BTreeMap::new(), loading: None, next: PROGRAM + 1 });
static LESS: Condvar = Condvar::new();
/// A library was loaded; before, the hooks only forward.
static IS_USED: AtomicBool = AtomicBool::new(false);
/// How often threads have been asked to let go and have not.
static OWED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// libc calls [`at_thread_end`] on this thread.
    static IS_KNOWN: Cell<bool> = const { Cell::new(false) };
    static CALLED: [Cell<u32>; LATELY] = const { [const { Cell::new(0) }; LATELY] };
}

fn record() -> MutexGuard<'static, Record> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    fn owner(&self, address: usize) -> Option<u32> {
        self.objects.iter().find(|(_, object)| object.range.contains(&address)).map(|(number, _)| *number)
    }

    /// The library whose constructors may be running, while it is known by its path only.
    fn unknown(&self) -> Option<(u32, CString)> {
        let number = self.loading?;
        let object = self.objects.get(&number).filter(|object| object.range.is_empty())?;
        Some((number, object.path.clone()))
    }

    fn here(&mut self) -> &mut Thread {
        self.threads.entry(thread()).or_insert_with(|| Thread {
            // SAFETY: it has no arguments, and cannot fail.
            id: unsafe { libc::gettid() },
            ..Thread::default()
        })
    }
}

// ---------------------------------------------------------------------------------------------- written by the hooks

/// The library that the address lies in.
pub(super) fn owner(address: usize) -> Option<u32> {
    if !IS_USED.load(Ordering::Acquire) {
        return None;
    }
    let unknown = {
        let record = record();
        match record.owner(address) {
            None => record.unknown(),
            owner => return owner,
        }
    };
    // Not under the lock: the linker has one, too.
    let (number, path) = unknown?;
    let range = objects::range_of(&path)?;
    let mut record = record();
    record.objects.get_mut(&number)?.range = range;
    record.owner(address)
}

/// The library whose own the calling thread is.
pub(super) fn own_thread_of() -> Option<u32> {
    record().threads.get(&thread())?.of
}

pub(super) fn is_used() -> bool {
    IS_USED.load(Ordering::Acquire)
}

/// The key by which libc calls [`at_thread_end`]. Not a destructor of a thread-local: to register one waits for the linker, which a
/// library holds while its constructor waits for a thread of its own.
static END: OnceLock<c_uint> = OnceLock::new();

/// Before the first library is loaded.
pub(super) fn begin() {
    hooks::look_up();
    objects::is_program(0);
    END.get_or_init(|| hooks::own_key(at_thread_end));
}

/// Lets libc call [`at_thread_end`] when this thread ends.
fn is_known() {
    if !IS_KNOWN.replace(true)
        && let Some(key) = END.get()
    {
        // SAFETY: the key is ours; the value is not looked at, but must be one.
        unsafe { libc::pthread_setspecific(*key, (&raw const END).cast()) };
    }
}

pub(super) fn add_destructor(object: u32, destructor: Destructor, argument: *mut c_void) {
    is_known();
    record().here().entries.push(Entry { object, destructor, argument });
}

pub(super) fn add_key(object: u32, key: Key) {
    if let Some(object) = record().objects.get_mut(&object) {
        object.keys.push(key);
    }
}

pub(super) fn remove_key(key: c_uint) {
    for object in record().objects.values_mut() {
        object.keys.retain(|known| known.key != key);
    }
}

/// Another thread of the library's own is about to run.
pub(super) fn add_thread(object: u32) {
    if let Some(object) = record().objects.get_mut(&object) {
        object.threads += 1;
    }
}

/// It does not, or has ended.
pub(super) fn remove_thread(object: u32) {
    if let Some(object) = record().objects.get_mut(&object) {
        object.threads = object.threads.saturating_sub(1);
    }
    LESS.notify_all();
}

/// The calling thread is the library's own: it counts until its end.
pub(super) fn is_own_thread(object: u32) {
    is_known();
    let mut record = record();
    record.here().of = Some(object);
    // It may have values of keys.
    let thread = thread();
    if let Some(object) = record.objects.get_mut(&object) {
        object.callers.insert(thread);
    }
}

// ---------------------------------------------------------------------------------------------- calls

/// The calling thread is about to call this function of a library.
pub(crate) fn calls_function(address: usize) {
    if let Some(number) = owner(address) {
        calls(number);
    }
}

/// The calling thread is about to call the library, which may leave something on it.
pub(crate) fn calls(number: u32) {
    let is_new = CALLED.with(|called| called[number as usize % LATELY].replace(number) != number);
    if is_new {
        is_known();
        let mut record = record();
        record.here();
        if let Some(object) = record.objects.get_mut(&number) {
            object.callers.insert(thread());
        }
    }
}

/// Lets the calling thread run what libraries that are being closed have left on it; nearly nothing, if none is. Called between two
/// calls of libraries, and when a thread has nothing to do. Runs code of those libraries.
pub fn let_go() {
    if OWED.load(Ordering::Acquire) == 0 {
        return;
    }
    loop {
        let owed = {
            let mut record = record();
            let Some(here) = record.threads.get_mut(&thread()) else { return };
            here.owes.pop()
        };
        let Some(object) = owed else { return };
        OWED.fetch_sub(1, Ordering::AcqRel);
        let_go_of(object);
    }
}

fn let_go_of(object: u32) {
    for _ in 0..ROUNDS {
        if !run_entries(Some(object)) & !empty_keys(object) {
            break;
        }
    }
    if let Some(object) = record().objects.get_mut(&object) {
        object.callers.remove(&thread());
    }
    LESS.notify_all();
}

/// Runs the destructors that are registered for this thread's end, the last one first; whether there was one.
fn run_entries(of: Option<u32>) -> bool {
    let mut any = false;
    loop {
        let entry = {
            let mut record = record();
            let Some(here) = record.threads.get_mut(&thread()) else { return any };
            let last = here.entries.iter().rposition(|entry| of.is_none_or(|of| entry.object == of));
            last.map(|last| here.entries.remove(last))
        };
        let Some(Entry { destructor, argument, .. }) = entry else { return any };
        any = true;
        // SAFETY: its owner has registered it for this thread, and is mapped: a library is not closed while this thread is in the record.
        unsafe { destructor(argument) };
    }
}

/// Takes the values that the library's keys have on this thread; whether there was one.
fn empty_keys(object: u32) -> bool {
    let keys_of = |record: &Record| record.objects.get(&object).map(|object| object.keys.clone()).unwrap_or_default();
    let mut any = false;
    let keys = keys_of(&record());
    for Key { key, .. } in keys {
        // The destructor of another value may have deleted it.
        let known = keys_of(&record()).into_iter().find(|known| known.key == key);
        let Some(Key { destructor, .. }) = known else { continue };
        // SAFETY: the key is the library's.
        let value = unsafe { libc::pthread_getspecific(key) };
        if let Some(destructor) = destructor.filter(|_| !value.is_null()) {
            any = true;
            // SAFETY: as above; and libc would call the destructor so, with the value that is no longer there.
            unsafe {
                libc::pthread_setspecific(key, std::ptr::null());
                destructor(value);
            }
        }
    }
    any
}

/// libc calls it at the end of a thread that is in the record, after the destructors of thread-locals; and again, if something of a
/// library is left on it later.
unsafe extern "C" fn at_thread_end(_: *mut c_void) {
    let thread = thread();
    for _ in 0..ROUNDS {
        let called = |(number, object): (&u32, &Object)| object.callers.contains(&thread).then_some(*number);
        let called: Vec<u32> = record().objects.iter().filter_map(called).collect();
        let ran = run_entries(None);
        // All of them, not until the first that has one.
        if !called.into_iter().fold(ran, |any, object| empty_keys(object) | any) {
            break;
        }
    }
    IS_KNOWN.set(false);
    CALLED.with(|called| called.iter().for_each(|called| called.set(0)));
    let mut record = record();
    for object in record.objects.values_mut() {
        object.callers.remove(&thread);
    }
    let Some(here) = record.threads.remove(&thread) else { return };
    OWED.fetch_sub(here.owes.len(), Ordering::AcqRel);
    drop(record);
    match here.of {
        Some(object) => remove_thread(object),
        None => LESS.notify_all(),
    }
}

// ---------------------------------------------------------------------------------------------- opening and closing

pub(super) fn begin_loading(path: CString) -> u32 {
    let mut record = record();
    let number = record.next;
    record.next += 1;
    let object = Object { path, range: 0..0, threads: 0, keys: Vec::new(), callers: BTreeSet::new() };
    record.objects.insert(number, object);
    record.loading = Some(number);
    IS_USED.store(true, Ordering::Release);
    number
}

pub(super) fn end_loading(number: u32, is_loaded: bool) {
    let path = record().objects.get(&number).map(|object| object.path.clone());
    let found = path.and_then(|path| objects::range_of(&path));
    let mut record = record();
    record.loading = None;
    match (record.objects.get_mut(&number), found) {
        (Some(object), Some(range)) if is_loaded => object.range = range,
        _ => drop(record.objects.remove(&number)),
    }
}

/// Asks all threads that may have something of the library to let go; the calling one does.
pub(super) fn ask_to_let_go(number: u32) {
    let_go_of(number);
    let mut record = record();
    let Record { objects, threads, .. } = &mut *record;
    let Some(object) = objects.get_mut(&number) else { return };
    let has = |thread: &Thread| thread.entries.iter().any(|entry| entry.object == number);
    object.callers.extend(threads.iter().filter(|(_, thread)| has(thread)).map(|(thread, _)| *thread));
    for caller in &object.callers {
        // Its own threads let go at their end.
        if let Some(thread) = threads.get_mut(caller).filter(|thread| thread.of != Some(number)) {
            thread.owes.push(number);
            OWED.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// It stays: threads run what it has left on them at their end.
pub(super) fn withdraw(number: u32) {
    for thread in record().threads.values_mut() {
        let before = thread.owes.len();
        thread.owes.retain(|owed| *owed != number);
        OWED.fetch_sub(before - thread.owes.len(), Ordering::AcqRel);
    }
}

/// What a library that is being closed waits for; as a text it is a clause that names the threads.
pub struct Waits {
    /// Threads of its own.
    pub threads: usize,
    /// Threads of the server, or of other libraries, by their ids.
    pub callers: Vec<i32>,
    own: Vec<i32>,
}

pub(super) fn what_is_left(number: u32) -> Waits {
    let record = record();
    let Some(object) = record.objects.get(&number) else {
        return Waits { threads: 0, callers: Vec::new(), own: Vec::new() };
    };
    let is_own = |thread: &&Thread| thread.of == Some(number);
    let callers = object.callers.iter().filter_map(|caller| record.threads.get(caller));
    Waits {
        threads: object.threads,
        callers: callers.filter(|thread| !is_own(thread)).map(|thread| thread.id).collect(),
        own: record.threads.values().filter(is_own).map(|thread| thread.id).collect(),
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ids, count, what) = match self.threads {
            0 => (&self.callers, self.callers.len(), "threads have not let it go"),
            threads => (&self.own, threads, "of its own threads still run"),
        };
        let name = |id: &i32| {
            let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
            format!("{id} {}", crate::exchange::printable(name.trim()))
        };
        let named: Vec<String> = ids.iter().take(5).map(name).collect();
        write!(formatter, "{count} {what} ({})", named.join(", "))
    }
}

/// Waits until one has let go or ended, or for that long.
pub(super) fn wait_for_less(number: u32, most: Duration) {
    let record = record();
    let count = |record: &Record| {
        let object = record.objects.get(&number);
        object.map_or(0, |object| object.threads + object.callers.len())
    };
    let before = count(&record);
    drop(LESS.wait_timeout_while(record, most, |record| before > 0 && count(record) >= before));
}

pub(super) fn range(number: u32) -> Range<usize> {
    record().objects.get(&number).map_or(0..0, |object| object.range.clone())
}

/// It is gone: what its last destructors have registered leads nowhere. Returns the keys that it has not deleted.
pub(super) fn forget(number: u32) -> Vec<Key> {
    let mut record = record();
    record.threads.values_mut().for_each(|thread| thread.entries.retain(|entry| entry.object != number));
    record.objects.remove(&number).map(|object| object.keys).unwrap_or_default()
}
