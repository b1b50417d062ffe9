//! Random calls of the server's functions by a library, against real exchanges of the container, from the thread that owns them and from
//! another one: nothing crashes, hangs, or is lost, and what servlet.h says of errors, threads and handles holds.
//!
//! A library in C, compiled here, hands each call of the server to [`act`], which makes calls of its own as the fuzzer's bytes say
//! (`calls`). There are no sockets: requests are given to `Container::handle`, and the client is a future. Run by the fuzz target `border`,
//! and with its seeds by a test of `serval-container`.

mod calls;
mod program;
mod world;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serval_abi::*;

use calls::{Called, Given, Head, What};
use program::Program;

/// Nothing takes nearly as long.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// What a call of the server has given to the library.
#[derive(Clone, Copy)]
struct Handles {
    host: &'static sv_host,
    context: usize,
    exchange: usize,
    session: usize,
}

/// One input: a request, and what the library does with it.
struct Run {
    program: Mutex<Program>,
    /// Memory that the server has taken over, and jobs that have not run.
    owed: AtomicUsize,
    /// Tasks that were not dropped.
    tasks: AtomicIsize,
    /// A handle of a session, once there is one.
    session: AtomicUsize,
    has_detached: AtomicBool,
    detached: Mutex<Vec<usize>>,
    handles: Mutex<Vec<Handles>>,
    wakers: Mutex<Vec<usize>>,
}

/// The input that runs now.
static RUN: Mutex<Option<Arc<Run>>> = Mutex::new(None);
/// LIMIT: handles of earlier inputs.
static OLD: Mutex<VecDeque<usize>> = Mutex::new(VecDeque::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    fn an_old_handle(&self, number: u8) -> Option<usize> {
        let old = locked(&OLD);
        old.get(usize::from(number) % old.len().max(1)).copied()
    }

    fn is_detached(&self, exchange: usize) {
        self.has_detached.store(true, Ordering::SeqCst);
        locked(&self.detached).push(exchange);
    }

    fn keep_waker(&self, waker: usize) {
        let mut wakers = locked(&self.wakers);
        if waker != 0 {
            wakers.push(waker);
        }
    }

    /// Maybe one that was given back, or none.
    fn a_waker(&self, number: u8) -> usize {
        let wakers = locked(&self.wakers);
        wakers.get(usize::from(number) % wakers.len().max(1)).copied().unwrap_or(0)
    }
}

/// The thread that owns no exchange.
struct Stranger(Sender<Box<dyn FnOnce() + Send>>);

thread_local!(static IS_STRANGER: AtomicBool = const { AtomicBool::new(false) });

fn stranger() -> &'static Stranger {
    static STRANGER: OnceLock<Stranger> = OnceLock::new();
    STRANGER.get_or_init(|| {
        let (jobs, wanted) = channel::<Box<dyn FnOnce() + Send>>();
        thread::spawn(move || {
            IS_STRANGER.with(|is| is.store(true, Ordering::Relaxed));
            wanted.iter().for_each(|job| job());
        });
        Stranger(jobs)
    })
}

impl Stranger {
    fn does(&self, job: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(job)).expect("the stranger lives");
    }

    fn returns<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.does(move || drop(done.send(job())));
        result.recv_timeout(HANGS_AFTER).unwrap_or_else(|_| hangs("a call of another thread does not return"))
    }
}

fn hangs(why: &str) -> ! {
    eprintln!("it hangs: {why}");
    // Not by a panic, which a thread could catch.
    std::process::abort()
}

/// What the library does when the server calls it; returns as its function. A panic here would unwind into C.
fn act(what: What, handles: Handles, held: &mut usize) -> sv_status {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| acts(what, handles, held)));
    result.unwrap_or_else(|_| std::process::abort())
}

fn acts(what: What, handles: Handles, held: &mut usize) -> sv_status {
    let run = locked(&RUN).clone();
    let Some(run) = run else { return if what == What::OnRequest { SV_NEXT } else { SV_OK } };
    if what == What::Drop {
        run.tasks.fetch_sub(1, Ordering::SeqCst);
        return SV_OK;
    }
    if handles.exchange != 0 {
        locked(&run.handles).push(handles);
    }
    let owns = handles.exchange != 0 && !matches!(what, What::OnEvent | What::OnEnd);
    let mut head = owns.then(|| Head::of(handles.host, handles.exchange));
    let mut views = Vec::new();
    let rounds = locked(&run.program).byte() % 16;
    for _ in 0..rounds {
        let (mut part, by) = {
            let mut program = locked(&run.program);
            if program.is_over() {
                break;
            }
            (program.part(), program.byte())
        };
        let strange = IS_STRANGER.with(|is| is.load(Ordering::Relaxed));
        let detached = run.has_detached.load(Ordering::SeqCst);
        if by < 160 || strange {
            let called = calls::call(&run, &handles, &mut part);
            check(&called);
            if owns && !detached && !strange && !run.has_detached.load(Ordering::SeqCst) {
                let now = Head::of(handles.host, handles.exchange);
                if called.status < 0 && called.atomic {
                    assert_eq!(
                        Some(&now),
                        head.as_ref(),
                        "function {} failed by {}, and changed this",
                        called.function,
                        called.status
                    );
                }
                head = Some(now);
            }
            views.extend(called.view);
        } else if detached {
            let run = run.clone();
            stranger().does(move || check(&calls::call(&run, &handles, &mut part)));
        } else {
            let of = run.clone();
            let called = stranger().returns(move || {
                let called = calls::call(&of, &handles, &mut part);
                check(&called);
                called
            });
            if called.of_exchange && called.handle == Given::Own && handles.exchange != 0 {
                assert_eq!(called.status, SV_E_THREAD, "function {} by another thread", called.function);
            }
        }
    }
    let may_have_ended =
        run.has_detached.load(Ordering::SeqCst) || calls::touch(handles.host, handles.exchange) == SV_E_STALE;
    if !may_have_ended {
        assert!(views.iter().all(calls::View::is_same), "what the server has returned has changed");
    }
    returns(&run, what, handles, held)
}

/// What holds for each call.
fn check(called: &Called) {
    assert_ne!(called.status, SV_E_INTERNAL, "function {} panicked", called.function);
    let expected = match called.handle {
        Given::Own => return,
        Given::Null => SV_E_ARG,
        Given::Wrong | Given::Old => SV_E_STALE,
    };
    if called.of_exchange {
        assert_eq!(called.status, expected, "function {} with a handle that is {:?}", called.function, called.handle);
    }
}

fn returns(run: &Arc<Run>, what: What, handles: Handles, held: &mut usize) -> sv_status {
    let (end, with_waker, is_over) = {
        let mut program = locked(&run.program);
        (program.byte(), program.byte().is_multiple_of(2), program.is_over())
    };
    const ODD: [sv_status; 10] = [
        SV_NEXT,
        SV_E_FAILED,
        SV_E_LIMIT,
        SV_E_CLOSED,
        SV_E_TIMEOUT,
        SV_E_PANIC,
        SV_WOULD_BLOCK,
        SV_END,
        4711,
        SV_E_BUSY,
    ];
    let odd = ODD[usize::from(end) % ODD.len()];
    match what {
        What::OnRequest => {
            if end < 200 {
                SV_NEXT
            } else if end < 220 {
                SV_OK
            } else {
                odd
            }
        }
        What::Service | What::ServiceWithPoll if run.has_detached.load(Ordering::SeqCst) => {
            if end < 200 {
                SV_PENDING
            } else if end < 220 {
                SV_OK
            } else {
                odd
            }
        }
        What::ServiceWithPoll if end < 160 && !is_over => {
            *held = 1;
            run.tasks.fetch_add(1, Ordering::SeqCst);
            wake_if(with_waker, &handles);
            SV_PENDING
        }
        What::Poll if end < 160 && !is_over => {
            wake_if(with_waker, &handles);
            SV_PENDING
        }
        _ => {
            if end < 200 {
                SV_OK
            } else {
                odd
            }
        }
    }
}

fn wake_if(wanted: bool, handles: &Handles) {
    if wanted {
        let waker = calls::take_waker(handles.host, handles.exchange);
        calls::wake(handles.host, waker);
    }
}

/// The fuzz target: bytes for the request and the client, then what the library does.
pub fn run(data: &[u8]) {
    let mut program = Program::new(data);
    let client = world::Client::read(&mut program);
    let run = Arc::new(Run {
        program: Mutex::new(program),
        owed: AtomicUsize::new(0),
        tasks: AtomicIsize::new(0),
        session: AtomicUsize::new(0),
        has_detached: AtomicBool::new(false),
        detached: Mutex::default(),
        handles: Mutex::default(),
        wakers: Mutex::default(),
    });
    // Made before the library does anything odd.
    let world = world::world();
    *locked(&RUN) = Some(run.clone());
    let turn = world.request(client);
    // From here on the client has gone.
    turn.client_leaves();
    stranger().returns(|| ());
    let began = Instant::now();
    // Asked each time: its service may begin late.
    let host = || locked(&run.handles).first().map(|handles| handles.host);
    while Arc::strong_count(&turn) > 1 {
        if let Some(host) = host() {
            locked(&run.detached).retain(|&exchange| calls::complete(host, exchange) == SV_E_STATE);
        }
        if began.elapsed() > HANGS_AFTER {
            let why = |exchange: &usize| host().map(|host| calls::why_not_complete(host, *exchange));
            let detached: Vec<_> = locked(&run.detached).iter().map(why).collect();
            hangs(&format!("the exchange does not end; {detached:?}, {} tasks", run.tasks.load(Ordering::SeqCst)));
        }
        thread::sleep(Duration::from_micros(20));
    }
    while run.owed.load(Ordering::SeqCst) > 0 {
        if began.elapsed() > HANGS_AFTER {
            hangs("memory was not released, or a job has not run");
        }
        thread::sleep(Duration::from_micros(20));
    }
    stranger().returns(|| ());
    *locked(&RUN) = None;
    assert_eq!(run.tasks.load(Ordering::SeqCst), 0, "tasks were not dropped, or twice");
    let mut old = locked(&OLD);
    for handles in locked(&run.handles).iter() {
        assert_eq!(calls::touch(handles.host, handles.exchange), SV_E_STALE, "after the end of the exchange");
        old.push_back(handles.exchange);
    }
    let more = old.len().saturating_sub(64);
    drop(old.drain(..more));
    if let Some(host) = host() {
        locked(&run.wakers).drain(..).for_each(|waker| calls::drop_waker(host, waker));
    }
}
