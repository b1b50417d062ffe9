//! Handles: what a library holds of an exchange or a context is never an address, but the number of a slot and the
//! generation of its use. Slots are never unmapped, so a handle that has ended, was made up, or is used by a thread that does
//! not own it is found out by reading two atomics, and nothing else is touched.
//!
//! A handle is 64 bits: generation (41), kind (2), index + 1 (21). Called by the table, and by whoever opens a handle.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use serval_abi::{SV_E_ARG, SV_E_LIMIT, SV_E_STALE, SV_E_STATE, SV_E_THREAD, sv_context, sv_exchange, sv_pair, sv_str};

use crate::exchange::{Context, Fault};
use crate::table::Frame;

const _: () = assert!(size_of::<usize>() == 8, "handles need 64-bit pointers");

const KIND_EXCHANGE: u64 = 1;
const KIND_CONTEXT: u64 = 2;
/// LIMIT: 1,048,576 exchanges inside servlets at once, far above what threads and connections allow.
const CHUNK: usize = 1024;
const CHUNKS: usize = 1024;
/// How many free slots a thread keeps to itself; beyond, half of them go to the others.
const KEPT: usize = 128;

const INDEX_BITS: u32 = 21;
const GENERATION_AT: u32 = INDEX_BITS + 2;
/// Of 41 bits: one slot used 100,000 times a second comes round after months.
const GENERATIONS: u64 = (1 << (64 - GENERATION_AT)) - 1;

fn encode(kind: u64, index: usize, generation: u64) -> usize {
    ((generation << GENERATION_AT) | (kind << INDEX_BITS) | (index as u64 + 1)) as usize
}

fn next(generation: u64) -> u64 {
    (generation + 1) & GENERATIONS
}

/// Index and generation, if the handle is of that kind at all.
fn decode(handle: usize, kind: u64) -> Result<(usize, u64), Fault> {
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
fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static MINE: Cell<u64> = const { Cell::new(0) });
    MINE.with(|mine| {
        if mine.get() == 0 {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get()
    })
}

/// INVARIANT: `frame` is read and written only by the thread whose number is in `owner`, and only while the generation is
/// odd, which means: in use.
struct Slot {
    generation: AtomicU64,
    owner: AtomicU64,
    frame: UnsafeCell<*mut Frame<'static>>,
}

// SAFETY: `frame` is touched by one thread at a time, by the invariant of `Slot`; the rest is atomic.
unsafe impl Sync for Slot {}

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
                frame: UnsafeCell::new(null_mut()),
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
    FREE.with_borrow_mut(|free| {
        free.0.push(index);
        if free.0.len() > KEPT {
            let half = free.0.split_off(KEPT / 2);
            SHARED.lock().unwrap_or_else(PoisonError::into_inner).0.extend(half);
        }
    });
}

/// An open handle of an exchange, owned by the thread that opened it.
pub(crate) struct ExchangeHandle<'f> {
    slot: &'static Slot,
    index: u32,
    generation: u64,
    /// Stays on its thread, and does not outlive the frame.
    frame: PhantomData<(*mut Frame<'static>, &'f ())>,
}

impl<'f> ExchangeHandle<'f> {
    /// Opens a handle through which the calling thread reaches `frame`, until it is dropped.
    pub(crate) fn open(frame: &'f mut Frame<'_>) -> Result<ExchangeHandle<'f>, Fault> {
        let full = || Fault::new(SV_E_LIMIT, "too many exchanges are inside servlets");
        let index = take_free().ok_or_else(full)?;
        let slot = slot(index as usize).ok_or_else(full)?;
        // SAFETY: the slot is free (its generation is even), so nobody else reads or writes the frame.
        unsafe { *slot.frame.get() = std::ptr::from_mut(frame).cast() };
        slot.owner.store(thread(), Ordering::Relaxed);
        let generation = next(slot.generation.load(Ordering::Relaxed));
        slot.generation.store(generation, Ordering::Release);
        Ok(ExchangeHandle { slot, index, generation, frame: PhantomData })
    }

    pub(crate) fn raw(&self) -> *mut sv_exchange {
        std::ptr::without_provenance_mut(encode(KIND_EXCHANGE, self.index as usize, self.generation))
    }
}

impl Drop for ExchangeHandle<'_> {
    fn drop(&mut self) {
        self.slot.generation.store(next(self.generation), Ordering::Release);
        self.slot.owner.store(0, Ordering::Relaxed);
        // SAFETY: the generation is even again, and this thread was the owner.
        unsafe { *self.slot.frame.get() = null_mut() };
        give_free(self.index);
    }
}

/// Calls `work` with the frame behind a handle, if the calling thread may.
pub(crate) fn with_frame<T>(
    handle: *mut sv_exchange,
    work: impl FnOnce(&mut Frame<'static>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let stale = || Fault::new(SV_E_STALE, "the exchange has ended");
    let (index, generation) = decode(handle.addr(), KIND_EXCHANGE)?;
    let slot = slot(index).ok_or_else(stale)?;
    if generation % 2 == 0 || slot.generation.load(Ordering::Acquire) != generation {
        return Err(stale());
    }
    if slot.owner.load(Ordering::Relaxed) != thread() {
        return Err(Fault::new(SV_E_THREAD, "another thread owns the exchange"));
    }
    // SAFETY: this thread owns the slot, which is in use; only this thread could end that.
    let frame = unsafe { std::mem::replace(&mut *slot.frame.get(), null_mut()) };
    let Some(mut frame) = NonNull::new(frame) else {
        return Err(Fault::new(SV_E_STATE, "the exchange is inside another function of the host"));
    };
    struct GiveBack<'a>(&'a Slot, NonNull<Frame<'static>>);
    impl Drop for GiveBack<'_> {
        fn drop(&mut self) {
            // SAFETY: as above; the handle cannot have been dropped meanwhile, since its frame is borrowed by its opener.
            unsafe { *self.0.frame.get() = self.1.as_ptr() };
        }
    }
    let _give_back = GiveBack(slot, frame);
    // SAFETY: the pointer was taken out of the slot, so this is the only reference; it lives as long as the handle.
    work(unsafe { frame.as_mut() })
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
