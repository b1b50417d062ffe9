//! Handles: what a library holds of an exchange or a context is never an address, but the number of a slot and the
//! generation of its use. Slots are never unmapped, so a handle that has ended, was made up, or is used by a thread that does
//! not own it is found out by reading two atomics, and nothing else is touched.
//!
//! A handle is 64 bits: generation (41), kind (2), index + 1 (21). That of a session is its exchange's, of another kind. Called by
//! the table, and by whoever opens a handle.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use serval_abi::{
    SV_E_ARG, SV_E_LIMIT, SV_E_STALE, SV_E_STATE, SV_E_THREAD, sv_context, sv_exchange, sv_pair, sv_session, sv_str,
};

use crate::exchange::{Context, Exchange, Fault, Session};
use crate::table::{Frame, Memory};
use crate::waker;

const _: () = assert!(size_of::<usize>() == 8, "handles need 64-bit pointers");

const KIND_EXCHANGE: u64 = 1;
const KIND_CONTEXT: u64 = 2;
const KIND_SESSION: u64 = 3;
pub(crate) const KIND_WAKER: u64 = 0;
/// LIMIT: 1,048,576 exchanges inside servlets at once, far above what threads and connections allow.
const CHUNK: usize = 1024;
const CHUNKS: usize = 1024;
/// How many free slots a thread keeps to itself; beyond, half of them go to the others.
const KEPT: usize = 128;

const INDEX_BITS: u32 = 21;
const GENERATION_AT: u32 = INDEX_BITS + 2;
/// Of 41 bits: one slot used 100,000 times a second comes round after months.
const GENERATIONS: u64 = (1 << (64 - GENERATION_AT)) - 1;

pub(crate) fn encode(kind: u64, index: usize, generation: u64) -> usize {
    ((generation << GENERATION_AT) | (kind << INDEX_BITS) | (index as u64 + 1)) as usize
}

pub(crate) fn next(generation: u64) -> u64 {
    (generation + 1) & GENERATIONS
}

/// Index and generation, if the handle is of that kind at all.
pub(crate) fn decode(handle: usize, kind: u64) -> Result<(usize, u64), Fault> {
    if handle == 0 {
        return Err(Fault::new(SV_E_ARG, "the handle is NULL"));
    }
    let handle = handle as u64;
    let index = handle & ((1 << INDEX_BITS) - 1);
    if (handle >> INDEX_BITS) & 3 != kind || index == 0 {
        return Err(Fault::new(SV_E_STALE, "this is not a handle of that kind"));
    }
    Ok((index as usize - 1, handle >> GENERATION_AT))
}

/// A number of the calling thread, never 0, never given twice.
pub(crate) fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static MINE: Cell<u64> = const { Cell::new(0) });
    MINE.with(|mine| {
        if mine.get() == 0 {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get()
    })
}

/// Nobody's thread: any one may call, one after the other.
const DETACHED: u64 = u64::MAX;
/// LIMIT: how long a thread's call waits for the service of a detached exchange to return: it does nothing more than that.
const GAP_MAX: Duration = Duration::from_secs(5);
/// How long another thread's call gives the service of a detached exchange to return: the call may wait for the client, and service,
/// maybe on an I/O thread, could not return meanwhile. One that does not return may itself wait for that thread.
const MOMENT: Duration = Duration::from_millis(10);
/// Between two looks whether service has returned.
const LOOK: Duration = Duration::from_micros(50);

/// What a slot leads to while a library may call.
#[derive(Clone, Copy)]
struct Seat {
    target: Target,
    memory: *mut Memory,
    who: *const str,
}

#[derive(Clone, Copy)]
enum Target {
    Exchange(*mut dyn Exchange),
    /// Of an event without an exchange.
    Session(*mut dyn Session),
}

/// INVARIANT: `seat` is read and written only while the generation is odd, which means: in use; by the thread whose number is in
/// `owner`, or by the one that holds `lock` when that is DETACHED.
pub(crate) struct Slot {
    generation: AtomicU64,
    owner: AtomicU64,
    lock: Mutex<()>,
    /// The thread that holds `lock`, so that it does not wait for itself; 0: none.
    holder: AtomicU64,
    seat: UnsafeCell<Option<Seat>>,
}

// SAFETY: `seat` is touched by one thread at a time, by the invariant of `Slot`; the rest is atomic, or a lock.
unsafe impl Sync for Slot {}

impl Slot {
    /// Waits until no call on a detached exchange is under way, and keeps others out. `None`: the calling thread is inside of one.
    pub(crate) fn hold(&'static self) -> Option<Held> {
        // Only this thread writes its number, so it sees it or what came later.
        if self.holder.load(Ordering::Relaxed) == thread() {
            return None;
        }
        Some(self.held(self.lock.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// As [`Slot::hold`], but it waits for nobody: `None` also while another thread is inside of a call.
    fn try_hold(&'static self) -> Option<Held> {
        match self.lock.try_lock() {
            Ok(lock) => Some(self.held(lock)),
            Err(TryLockError::Poisoned(lock)) => Some(self.held(lock.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn held(&'static self, lock: MutexGuard<'static, ()>) -> Held {
        self.holder.store(thread(), Ordering::Relaxed);
        Held { slot: self, _lock: lock }
    }
}

/// A slot that others wait for.
pub(crate) struct Held {
    slot: &'static Slot,
    /// Released after the holder was forgotten.
    _lock: MutexGuard<'static, ()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slot.holder.store(0, Ordering::Relaxed);
    }
}

static TABLE: [AtomicPtr<Slot>; CHUNKS] = [const { AtomicPtr::new(null_mut()) }; CHUNKS];

/// The free slots that no thread keeps, and how many slots there are.
static SHARED: Mutex<(Vec<u32>, usize)> = Mutex::new((Vec::new(), 0));

struct Free(Vec<u32>);

impl Drop for Free {
    fn drop(&mut self) {
        SHARED.lock().unwrap_or_else(PoisonError::into_inner).0.append(&mut self.0);
    }
}

thread_local!(static FREE: RefCell<Free> = const { RefCell::new(Free(Vec::new())) });

fn slot(index: usize) -> Option<&'static Slot> {
    let chunk = NonNull::new(TABLE.get(index / CHUNK)?.load(Ordering::Acquire))?;
    // SAFETY: a chunk is an array of CHUNK slots that was leaked before its address was published, and is never freed.
    Some(unsafe { chunk.add(index % CHUNK).as_ref() })
}

fn take_free() -> Option<u32> {
    if let Some(index) = FREE.with_borrow_mut(|free| free.0.pop()) {
        return Some(index);
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let (free, made) = &mut *shared;
    if free.is_empty() {
        if *made == CHUNK * CHUNKS {
            return None;
        }
        let fresh: Vec<Slot> = (0..CHUNK)
            .map(|_| Slot {
                generation: AtomicU64::new(0),
                owner: AtomicU64::new(0),
                lock: Mutex::new(()),
                holder: AtomicU64::new(0),
                seat: UnsafeCell::new(None),
            })
            .collect();
        TABLE[*made / CHUNK].store(Box::leak(fresh.into_boxed_slice()).as_mut_ptr(), Ordering::Release);
        free.extend((*made..*made + CHUNK).rev().map(|index| index as u32));
        *made += CHUNK;
    }
    let rest = free.len().saturating_sub(KEPT / 2);
    let mut mine = free.split_off(rest);
    let index = mine.pop();
    drop(shared);
    FREE.with_borrow_mut(|kept| kept.0.append(&mut mine));
    index
}

fn give_free(index: u32) {
    let kept = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        free.0.push(index);
        if free.0.len() > KEPT {
            let half = free.0.split_off(KEPT / 2);
            SHARED.lock().unwrap_or_else(PoisonError::into_inner).0.extend(half);
        }
    });
    if kept.is_err() {
        // The thread is at its end.
        SHARED.lock().unwrap_or_else(PoisonError::into_inner).0.push(index);
    }
}

/// An open handle. It lives over the calls of one dispatch, and ends when it is dropped; it may move between threads, but is used
/// by one at a time.
pub(crate) struct Handle {
    slot: &'static Slot,
    index: u32,
    generation: u64,
}

impl Handle {
    /// Opens one that nobody may use yet.
    pub(crate) fn open() -> Result<Handle, Fault> {
        let full = || Fault::new(SV_E_LIMIT, "too many exchanges are inside servlets");
        let index = take_free().ok_or_else(full)?;
        let slot = slot(index as usize).ok_or_else(full)?;
        let generation = next(slot.generation.load(Ordering::Relaxed));
        slot.generation.store(generation, Ordering::Release);
        Ok(Handle { slot, index, generation })
    }

    pub(crate) fn raw(&self) -> *mut sv_exchange {
        std::ptr::without_provenance_mut(encode(KIND_EXCHANGE, self.index as usize, self.generation))
    }

    pub(crate) fn raw_session(&self) -> *mut sv_session {
        session_of(self.raw())
    }

    /// Whether the library has ended it, by complete.
    pub(crate) fn has_ended(&self) -> bool {
        self.slot.generation.load(Ordering::Acquire) != self.generation
    }

    /// From here on nobody gets through any more.
    fn end(&self) {
        if !self.has_ended() {
            self.slot.generation.store(next(self.generation), Ordering::Release);
        }
    }

    /// Lets the calling thread, whose call this is, reach the exchange until the returned value is dropped.
    pub(crate) fn enter<'e>(
        &'e self,
        exchange: &'e mut dyn Exchange,
        memory: &'e mut Memory,
        who: &'e str,
    ) -> Entry<'e> {
        let exchange: *mut (dyn Exchange + 'e) = exchange;
        // SAFETY: only the lifetime of the pointer's type changes; it is used only until the entry is dropped.
        let exchange =
            unsafe { std::mem::transmute::<*mut (dyn Exchange + 'e), *mut (dyn Exchange + 'static)>(exchange) };
        self.sit(Target::Exchange(exchange), memory, who)
    }

    /// As [`Handle::enter`], for what has a session only.
    pub(crate) fn enter_session<'e>(
        &'e self,
        session: &'e mut dyn Session,
        memory: &'e mut Memory,
        who: &'e str,
    ) -> Entry<'e> {
        let session: *mut (dyn Session + 'e) = session;
        // SAFETY: as in `enter`.
        let session = unsafe { std::mem::transmute::<*mut (dyn Session + 'e), *mut (dyn Session + 'static)>(session) };
        self.sit(Target::Session(session), memory, who)
    }

    fn sit<'e>(&'e self, target: Target, memory: &'e mut Memory, who: &'e str) -> Entry<'e> {
        // SAFETY: nobody owns the slot, and only its handle's holder makes an owner.
        unsafe { *self.slot.seat.get() = Some(Seat { target, memory, who }) };
        self.slot.owner.store(thread(), Ordering::Release);
        Entry { handle: self, outer: INSIDE.replace(self.raw().addr()), life: PhantomData }
    }

    /// Lets any thread reach a detached exchange, until [`Handle::leave_detached`].
    ///
    /// # Safety
    /// What the pointers lead to stays where it is, and nobody else touches it but while holding the slot, until then.
    pub(crate) unsafe fn enter_detached(&self, exchange: *mut dyn Exchange, memory: *mut Memory, who: *const str) {
        let _held = self.slot.hold();
        // SAFETY: the owner is DETACHED, and the lock is held.
        unsafe { *self.slot.seat.get() = Some(Seat { target: Target::Exchange(exchange), memory, who }) };
    }

    /// Nobody gets through any more, and nobody is inside.
    pub(crate) fn leave_detached(&self) {
        let _held = self.slot.hold();
        self.end();
        // SAFETY: as in `enter_detached`.
        unsafe { *self.slot.seat.get() = None };
        self.slot.owner.store(0, Ordering::Release);
    }

    pub(crate) fn slot(&self) -> &'static Slot {
        self.slot
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.slot.owner.load(Ordering::Acquire) != 0 {
            self.leave_detached();
        }
        self.end();
        give_free(self.index);
    }
}

/// While the calling thread may use a handle.
pub(crate) struct Entry<'e> {
    handle: &'e Handle,
    /// What this thread was inside of before.
    outer: usize,
    /// Stays on its thread, and does not outlive what the seat points to.
    life: PhantomData<(*mut (), &'e mut ())>,
}

impl Entry<'_> {
    pub(crate) fn raw(&self) -> *mut sv_exchange {
        self.handle.raw()
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        INSIDE.set(self.outer);
        let slot = self.handle.slot;
        if slot.owner.load(Ordering::Relaxed) == DETACHED {
            let _held = slot.hold();
            // SAFETY: the lock is held. A thread that comes now waits until the exchange has its own place.
            unsafe { *slot.seat.get() = None };
            return;
        }
        // SAFETY: this thread is the owner.
        unsafe { *slot.seat.get() = None };
        slot.owner.store(0, Ordering::Release);
    }
}

thread_local! {
    /// The handle that this thread has given to a library's function, innermost; 0: none.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
    /// A `told` of a library runs on this thread, which may call no function of an exchange.
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Runs a library's `told`.
pub(crate) fn telling<T>(tell: impl FnOnce() -> T) -> T {
    let before = IS_TOLD.replace(true);
    let told = tell();
    IS_TOLD.set(before);
    told
}

/// The handle of the session of the exchange that this is one of.
pub(crate) fn session_of(exchange: *mut sv_exchange) -> *mut sv_session {
    let kind = (KIND_SESSION ^ KIND_EXCHANGE) << INDEX_BITS;
    std::ptr::without_provenance_mut(exchange.addr() ^ kind as usize)
}

/// What a call does while another thread is inside of a detached exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Waits,
    Fails,
}

/// Calls `work` with the frame behind a handle of an exchange, if the calling thread may.
pub(crate) fn with_frame<T>(
    handle: *mut sv_exchange,
    work: impl FnOnce(&mut Frame<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    frame(handle, Meanwhile::Waits, work)
}

/// As [`with_frame`], for what is not worth waiting for another thread.
pub(crate) fn with_frame_at_once<T>(
    handle: *mut sv_exchange,
    work: impl FnOnce(&mut Frame<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    frame(handle, Meanwhile::Fails, work)
}

fn frame<T>(
    handle: *mut sv_exchange,
    meanwhile: Meanwhile,
    work: impl FnOnce(&mut Frame<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    through((handle.addr(), KIND_EXCHANGE), meanwhile, |seat, ending| {
        let Target::Exchange(exchange) = seat.target else {
            return Err(Fault::new(SV_E_STALE, "there is no exchange"));
        };
        // SAFETY: the seat was taken out of its slot, so these are the only references; they live as long as it is there.
        let (exchange, memory, who) = unsafe { (&mut *exchange, &mut *seat.memory, &*seat.who) };
        work(&mut Frame { exchange, memory, who, ending })
    })
}

/// As [`with_frame`], for the innermost handle of the call that this thread is in.
pub(crate) fn with_innermost<T>(work: impl FnOnce(&mut Frame<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
    with_frame(std::ptr::without_provenance_mut(INSIDE.get()), work)
}

/// As [`with_frame`], for a handle of a session.
pub(crate) fn with_session<T>(
    handle: *mut sv_session,
    work: impl FnOnce(&mut dyn Session, &mut Memory) -> Result<T, Fault>,
) -> Result<T, Fault> {
    through((handle.addr(), KIND_SESSION), Meanwhile::Waits, |seat, _| {
        // SAFETY: as in `with_frame`.
        let memory = unsafe { &mut *seat.memory };
        match seat.target {
            Target::Exchange(exchange) => {
                // SAFETY: as in `with_frame`.
                let session: &mut dyn Session = unsafe { &mut *exchange };
                work(session, memory)
            }
            // SAFETY: as in `with_frame`.
            Target::Session(session) => work(unsafe { &mut *session }, memory),
        }
    })
}

/// What a function of the table may do to the handle that it came through.
pub(crate) struct Ending {
    slot: &'static Slot,
    generation: u64,
    detaches: bool,
}

impl Ending {
    /// Nobody gets through any more.
    pub(crate) fn end(&mut self) {
        self.slot.generation.store(next(self.generation), Ordering::Release);
    }

    /// From the function's end on any thread may call.
    pub(crate) fn detach(&mut self) {
        self.detaches = true;
    }
}

fn through<T>(
    (handle, kind): (usize, u64),
    meanwhile: Meanwhile,
    work: impl FnOnce(Seat, &mut Ending) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let stale = || Fault::new(SV_E_STALE, "the exchange has ended");
    let (index, generation) = decode(handle, kind)?;
    let slot = slot(index).ok_or_else(stale)?;
    let is_open = || generation % 2 == 1 && slot.generation.load(Ordering::Acquire) == generation;
    if !is_open() {
        return Err(stale());
    }
    let owner = slot.owner.load(Ordering::Acquire);
    if owner == thread() {
        // SAFETY: this thread owns the slot, which is in use; only this thread could end that.
        return unsafe { seated(slot, generation, work) };
    }
    if owner != DETACHED {
        return Err(Fault::new(SV_E_THREAD, "another thread owns the exchange, or none does now"));
    }
    if meanwhile == Meanwhile::Fails {
        let Some(_held) = slot.try_hold().filter(|_| is_open()) else { return Err(inside()) };
        // SAFETY: the owner stays DETACHED as long as the slot is open, and the slot is held.
        return unsafe { seated(slot, generation, work) };
    }
    if IS_TOLD.get() {
        return Err(Fault::new(SV_E_STATE, "`told` calls no function of an exchange"));
    }
    let since = Instant::now();
    loop {
        let Some(held) = slot.hold() else { return Err(inside()) };
        if !is_open() {
            return Err(stale());
        }
        // SAFETY: the owner stays DETACHED as long as the slot is open, and the slot is held.
        if let Some(seat) = unsafe { &*slot.seat.get() } {
            // SAFETY: the seat is there, so nobody else has the memory.
            let awaited = unsafe { &mut (*seat.memory).awaited };
            if *awaited == 0 || *awaited == thread() || since.elapsed() > MOMENT {
                if *awaited != thread() {
                    *awaited = 0;
                }
                // SAFETY: as above.
                return unsafe { seated(slot, generation, work) };
            }
        }
        drop(held);
        if since.elapsed() > GAP_MAX {
            return Err(Fault::new(SV_E_STATE, "the service of this exchange has not returned"));
        }
        // Service returns, and the exchange gets a place of its own.
        std::thread::sleep(LOOK);
    }
}

fn inside() -> Fault {
    Fault::new(SV_E_STATE, "the exchange is inside another function of the host")
}

/// # Safety
/// The calling thread may touch the seat of this slot, until this returns.
unsafe fn seated<T>(
    slot: &'static Slot,
    generation: u64,
    work: impl FnOnce(Seat, &mut Ending) -> Result<T, Fault>,
) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    let Some(seat) = (unsafe { (*slot.seat.get()).take() }) else {
        return Err(inside());
    };
    struct GiveBack(Seat, Ending);
    impl Drop for GiveBack {
        fn drop(&mut self) {
            // SAFETY: as above: the seat's holder is a call that is under way, and outlives this.
            unsafe { *self.1.slot.seat.get() = Some(self.0) };
            if self.1.detaches {
                self.1.slot.owner.store(DETACHED, Ordering::Release);
            }
        }
    }
    let mut give_back = GiveBack(seat, Ending { slot, generation, detaches: false });
    work(seat, &mut give_back.1)
}

/// The live contexts; few, and asked for only by the functions tagged [any].
static CONTEXTS: RwLock<Vec<Place>> = RwLock::new(Vec::new());

/// The generation of its use, and who uses it.
type Place = (u64, Option<Arc<OpenContext>>);

pub(crate) struct OpenContext {
    pub context: Arc<dyn Context>,
    parameters: OnceLock<Pairs>,
}

struct Pairs(Box<[sv_pair]>);

// SAFETY: they point into the parameters of the context beside them, which do not change.
unsafe impl Send for Pairs {}
// SAFETY: as above.
unsafe impl Sync for Pairs {}

impl OpenContext {
    /// The context's parameters as the ABI shows them; they live as long as the context.
    pub fn parameters(&self) -> &[sv_pair] {
        let pair = |(name, value): &(String, String)| sv_pair { name: sv_str::new(name), value: sv_str::new(value) };
        &self.parameters.get_or_init(|| Pairs(self.context.parameters().iter().map(pair).collect())).0
    }
}

/// An open handle of a context; ends when dropped.
pub struct ContextHandle(usize);

impl ContextHandle {
    pub fn open(context: Arc<dyn Context>) -> ContextHandle {
        let mut contexts = CONTEXTS.write().unwrap_or_else(PoisonError::into_inner);
        let free = contexts.iter().position(|(_, context)| context.is_none());
        let index = free.unwrap_or_else(|| {
            contexts.push((0, None));
            contexts.len() - 1
        });
        contexts[index].0 = next(contexts[index].0);
        contexts[index].1 = Some(Arc::new(OpenContext { context, parameters: OnceLock::new() }));
        ContextHandle(encode(KIND_CONTEXT, index, contexts[index].0))
    }

    pub(crate) fn raw(&self) -> *mut sv_context {
        std::ptr::without_provenance_mut(self.0)
    }
}

impl Drop for ContextHandle {
    fn drop(&mut self) {
        if let Ok((index, _)) = decode(self.0, KIND_CONTEXT) {
            let mut contexts = CONTEXTS.write().unwrap_or_else(PoisonError::into_inner);
            let context = contexts.get_mut(index).and_then(|(_, context)| context.take());
            drop(contexts);
            drop(context);
            waker::purge(self.0);
        }
    }
}

pub(crate) fn context(handle: *mut sv_context) -> Result<Arc<OpenContext>, Fault> {
    let (index, generation) = decode(handle.addr(), KIND_CONTEXT)?;
    let contexts = CONTEXTS.read().unwrap_or_else(PoisonError::into_inner);
    match contexts.get(index) {
        Some((current, Some(context))) if *current == generation => Ok(context.clone()),
        _ => Err(Fault::new(SV_E_STALE, "the context has ended")),
    }
}
