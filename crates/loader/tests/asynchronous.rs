//! What goes on after service has returned: tasks, detached exchanges, and wakers, with threads that call when they
//! should not. Needs `cc`.

#![allow(clippy::macro_metavars_in_unsafe, reason = "arguments of `call` may be calls, too")]

mod mock;
mod puppet;

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mock::{MockExchange, MockWake};
use puppet::{Acts, Puppet, Raw, X, puppet, tell};
use serval_abi::*;
use serval_loader::detached::Detached;
use serval_loader::servlet::{Outcome, Polled, Scope, Servlet, Task};

type Shared = Arc<Detached<MockExchange>>;

/// On a thread of the library's own.
fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

fn on_another_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    elsewhere(work).join().unwrap()
}

/// A library with only this service.
fn serving(service: impl Fn(X, &mut usize) -> sv_status + Send + Sync + 'static) -> Puppet {
    puppet(Acts { service: Box::new(service), ..Acts::default() })
}

#[track_caller]
fn failure(outcome: Outcome) -> (sv_status, String) {
    match outcome {
        Outcome::Failed(status, text) => (status, text),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn task(servlet: &Servlet, scope: &mut Scope, exchange: &mut MockExchange) -> Task {
    match servlet.service(scope, exchange) {
        Outcome::Pending(task) => task,
        other => panic!("{other:?}"),
    }
}

/// An exchange that was detached, and whose service has returned.
struct Open {
    x: X,
    detached: Shared,
    completions: Arc<Mutex<Vec<sv_status>>>,
    _puppet: Puppet,
}

fn detach(exchange: MockExchange, told: Option<Box<dyn Fn(sv_status) + Send + Sync>>) -> Open {
    let (send, receive) = channel();
    let told = Mutex::new(told);
    let puppet = serving(move |x, _| {
        let status = match told.lock().unwrap().take() {
            Some(told) => call!(detach(x.raw(), Some(tell), Box::into_raw(Box::new(told)).cast())),
            None => x.detach(),
        };
        send.send((x, status)).unwrap();
        SV_PENDING
    });
    let (mut scope, mut exchange) = (Scope::new(), Box::new(exchange));
    let completions = exchange.completions.clone();
    let outcome = puppet.plain.service(&mut scope, &mut *exchange);
    assert!(matches!(outcome, Outcome::Detached), "{outcome:?}");
    let (x, status) = receive.recv().unwrap();
    assert_eq!(status, SV_OK);
    Open { x, detached: Detached::begin(scope, exchange).unwrap(), completions, _puppet: puppet }
}

fn new() -> MockExchange {
    MockExchange::new("/x")
}

// ---------------------------------------------------------------------------------------------- tasks

#[test]
fn a_task_keeps_its_handle_and_nobody_owns_it_between_polls() {
    let seen: Arc<Mutex<Vec<X>>> = Arc::default();
    let dropped: Arc<Mutex<Vec<(usize, sv_status)>>> = Arc::default();
    let (in_service, in_poll, in_drop) = (seen.clone(), seen.clone(), seen.clone());
    let drops = dropped.clone();
    let puppet = puppet(Acts {
        service: Box::new(move |x, task| {
            in_service.lock().unwrap().push(x);
            *task = 7;
            SV_PENDING
        }),
        poll: Box::new(move |task, x| {
            let mut seen = in_poll.lock().unwrap();
            seen.push(x);
            assert_eq!((task, x.touch(), x.write("a")), (7, SV_OK, SV_OK));
            // A task is not detached.
            assert_eq!((x.complete(SV_OK), x.detach()), (SV_E_STATE, SV_E_STATE));
            if seen.len() < 4 { SV_PENDING } else { SV_OK }
        }),
        drop: Box::new(move |task| {
            let x = in_drop.lock().unwrap()[0];
            drops.lock().unwrap().push((task, x.touch()));
        }),
        ..Acts::default()
    });
    let (mut scope, mut exchange) = (Scope::new(), new());
    let mut task = task(&puppet.tasks, &mut scope, &mut exchange);
    let x = seen.lock().unwrap()[0];
    for _ in 0..2 {
        assert_eq!((x.touch(), x.complete(SV_OK), x.detach()), (SV_E_THREAD, SV_E_THREAD, SV_E_THREAD));
        assert_eq!(on_another_thread(move || x.touch()), SV_E_THREAD);
        // Wherever it is polled.
        std::thread::scope(|threads| {
            let polled = threads.spawn(|| task.poll(&mut scope, &mut exchange)).join().unwrap();
            assert_eq!(polled, Polled::Pending);
        });
    }
    assert_eq!(task.poll(&mut scope, &mut exchange), Polled::Done);
    assert!(seen.lock().unwrap().iter().all(|seen| *seen == x));
    drop(task);
    assert_eq!(*dropped.lock().unwrap(), [(7, SV_E_THREAD)], "once, while the handle lives");
    assert_eq!(x.touch(), SV_E_THREAD);
    drop(scope);
    assert_eq!(x.touch(), SV_E_STALE);
    assert_eq!(on_another_thread(move || x.touch()), SV_E_STALE);
    assert_eq!(exchange.written, 3);
}

#[test]
fn what_poll_returns() {
    for (status, expected) in [
        (SV_E_FAILED, Polled::Failed(SV_E_FAILED, "it returned status -13".to_owned())),
        (SV_NEXT, Polled::Failed(SV_E_STATE, "its poll returned status 5".to_owned())),
        (SV_WOULD_BLOCK, Polled::Failed(SV_WOULD_BLOCK, "it returned status 2".to_owned())),
    ] {
        let puppet = puppet(Acts {
            service: Box::new(|_, task| {
                *task = 1;
                SV_PENDING
            }),
            poll: Box::new(move |_, _| status),
            ..Acts::default()
        });
        let (mut scope, mut exchange) = (Scope::new(), new());
        let mut task = task(&puppet.tasks, &mut scope, &mut exchange);
        assert_eq!(task.poll(&mut scope, &mut exchange), expected);
    }
}

#[test]
fn a_task_of_a_servlet_without_poll_is_refused() {
    let puppet = serving(|_, task| {
        *task = 1;
        SV_PENDING
    });
    let outcome = puppet.plain.service(&mut Scope::new(), &mut new());
    assert_eq!(failure(outcome), (SV_E_STATE, "it returned a task and has no poll".to_owned()));
}

#[test]
fn a_poll_takes_what_there_is_room_for() {
    let puppet = puppet(Acts {
        service: Box::new(|_, task| {
            *task = 1;
            SV_PENDING
        }),
        poll: Box::new(|_, x| {
            let mut taken = 77;
            assert_eq!(call!(write(x.raw(), b"abcd".as_ptr(), 4, std::ptr::null_mut())), SV_WOULD_BLOCK);
            assert_eq!(call!(write(x.raw(), b"abcd".as_ptr(), 4, &mut taken)), SV_OK);
            assert_eq!(taken, 3);
            assert_eq!(call!(write(x.raw(), b"d".as_ptr(), 1, &mut taken)), SV_WOULD_BLOCK);
            assert_eq!(taken, 0);
            assert_eq!(x.write_owned(b"d", || unreachable!()), SV_WOULD_BLOCK);
            // It is no error, and has no text.
            let mut text = sv_str::ABSENT;
            assert_eq!((call!(error_text(x.raw(), &mut text)), text.len), (SV_OK, 0));
            SV_PENDING
        }),
        ..Acts::default()
    });
    let (mut scope, mut exchange) = (Scope::new(), new());
    let mut task = task(&puppet.tasks, &mut scope, &mut exchange);
    exchange.room = Some(3);
    assert_eq!(task.poll(&mut scope, &mut exchange), Polled::Pending);
    assert_eq!(exchange.written, 3);
}

#[test]
fn a_task_goes_on_elsewhere() {
    let puppet = puppet(Acts {
        service: Box::new(|_, task| {
            *task = 1;
            SV_PENDING
        }),
        poll: Box::new(|_, x| {
            assert_eq!(call!(async_dispatch(x.raw(), b"\xff".as_ptr(), 1)), SV_E_ARG);
            call!(async_dispatch(x.raw(), b"/b".as_ptr(), 2))
        }),
        ..Acts::default()
    });
    let (mut scope, mut exchange) = (Scope::new(), new());
    exchange.wake = Some(Arc::default());
    let mut task = task(&puppet.tasks, &mut scope, &mut exchange);
    assert_eq!(task.poll(&mut scope, &mut exchange), Polled::Done);
    assert_eq!(exchange.goes_to, Some(Some("/b".to_owned())));
}

// ---------------------------------------------------------------------------------------------- detached

#[test]
fn complete_before_service_returns_takes_effect_after() {
    for (result, expected) in
        [(SV_OK, None), (SV_E_FAILED, Some(SV_E_FAILED)), (SV_NEXT, Some(SV_NEXT)), (SV_PENDING, Some(SV_PENDING))]
    {
        for returned in [SV_PENDING, SV_OK, SV_E_IO] {
            let kept: Arc<Mutex<Option<X>>> = Arc::default();
            let keep = kept.clone();
            let puppet = serving(move |x, _| {
                *keep.lock().unwrap() = Some(x);
                assert_eq!(x.detach(), SV_OK);
                assert_eq!((x.detach(), x.touch(), x.write("here")), (SV_E_STATE, SV_OK, SV_OK));
                let there = move || (x.write(" there"), x.complete(result), x.complete(result), x.touch());
                assert_eq!(on_another_thread(there), (SV_OK, SV_OK, SV_E_STALE, SV_E_STALE));
                assert_eq!((x.touch(), x.detach(), x.complete(SV_OK)), (SV_E_STALE, SV_E_STALE, SV_E_STALE));
                returned
            });
            let (mut scope, mut exchange) = (Scope::new(), new());
            let outcome = puppet.plain.service(&mut scope, &mut exchange);
            match expected {
                None => assert!(matches!(outcome, Outcome::Done), "{outcome:?}"),
                Some(status) => {
                    assert_eq!(failure(outcome), (status, format!("it was completed with status {status}")));
                }
            }
            assert_eq!(exchange.written, "here there".len());
            assert!(exchange.completions.lock().unwrap().is_empty(), "it is in the outcome");
            let x = kept.lock().unwrap().unwrap();
            assert_eq!(x.touch(), SV_E_STALE);
            drop(scope);
            assert_eq!(x.touch(), SV_E_STALE);
        }
    }
}

#[test]
fn complete_after_service_has_returned() {
    let open = detach(new(), None);
    let x = open.x;
    assert_eq!(x.write("a"), SV_OK);
    assert_eq!(on_another_thread(move || x.write("b")), SV_OK);
    assert_eq!(open.detached.with(|exchange| exchange.written), Some(2));
    let there = move || (x.complete(SV_E_FAILED), x.complete(SV_OK), x.touch());
    assert_eq!(on_another_thread(there), (SV_OK, SV_E_STALE, SV_E_STALE));
    assert_eq!(*open.completions.lock().unwrap(), [SV_E_FAILED]);
    let (scope, exchange) = open.detached.take().unwrap();
    assert_eq!(exchange.written, 2);
    assert!(open.detached.take().is_none());
    assert!(open.detached.with(|_| ()).is_none());
    drop(scope);
    assert_eq!(x.complete(SV_OK), SV_E_STALE);
    open.detached.tell(SV_E_CLOSED);
}

#[test]
fn a_thread_that_is_early_waits_until_service_has_returned() {
    let thread: Arc<Mutex<Option<JoinHandle<[sv_status; 3]>>>> = Arc::default();
    let started = thread.clone();
    let (go, gone): (Sender<()>, Receiver<()>) = channel();
    let gone = Mutex::new(Some(gone));
    let puppet = serving(move |x, _| {
        assert_eq!(x.detach(), SV_OK);
        let gone = gone.lock().unwrap().take().unwrap();
        *started.lock().unwrap() = Some(elsewhere(move || {
            gone.recv().unwrap();
            [x.write("late"), x.complete(SV_OK), x.touch()]
        }));
        SV_PENDING
    });
    let (mut scope, mut exchange) = (Scope::new(), Box::new(new()));
    assert!(matches!(puppet.plain.service(&mut scope, &mut *exchange), Outcome::Detached));
    let completions = exchange.completions.clone();
    // Now it comes, and finds no place.
    go.send(()).unwrap();
    std::thread::yield_now();
    let detached = Detached::begin(scope, exchange).unwrap();
    let statuses = thread.lock().unwrap().take().unwrap().join().unwrap();
    assert_eq!(statuses, [SV_OK, SV_OK, SV_E_STALE]);
    assert_eq!(*completions.lock().unwrap(), [SV_OK]);
    assert_eq!(detached.take().unwrap().1.written, 4);
}

#[test]
fn an_error_of_service_after_detach_ends_the_handle_at_once() {
    for (returned, expected) in [
        (SV_OK, None),
        (SV_E_IO, Some((SV_E_IO, "it returned status -11"))),
        (SV_NEXT, Some((SV_E_STATE, "it returned SV_NEXT after detach"))),
    ] {
        let kept: Arc<Mutex<Option<X>>> = Arc::default();
        let keep = kept.clone();
        let puppet = serving(move |x, _| {
            *keep.lock().unwrap() = Some(x);
            assert_eq!(x.detach(), SV_OK);
            returned
        });
        let mut scope = Scope::new();
        let outcome = puppet.plain.service(&mut scope, &mut new());
        match expected {
            None => assert!(matches!(outcome, Outcome::Done), "{outcome:?}"),
            Some((status, text)) => assert_eq!(failure(outcome), (status, text.to_owned())),
        }
        // The scope still lives.
        let x = kept.lock().unwrap().unwrap();
        assert_eq!((x.touch(), on_another_thread(move || x.complete(SV_OK))), (SV_E_STALE, SV_E_STALE));
    }
}

#[test]
fn a_task_after_detach_is_dropped() {
    let dropped: Arc<Mutex<Vec<usize>>> = Arc::default();
    let drops = dropped.clone();
    let puppet = puppet(Acts {
        service: Box::new(|x, task| {
            assert_eq!(x.detach(), SV_OK);
            *task = 9;
            SV_PENDING
        }),
        drop: Box::new(move |task| drops.lock().unwrap().push(task)),
        ..Acts::default()
    });
    let outcome = puppet.tasks.service(&mut Scope::new(), &mut new());
    assert!(matches!(outcome, Outcome::Detached), "{outcome:?}");
    assert_eq!(*dropped.lock().unwrap(), [9]);
}

#[test]
fn a_second_thread_waits_until_the_first_has_returned() {
    let open = detach(new(), None);
    let x = open.x;
    let (inside, is_inside) = channel();
    let (comes, is_coming) = channel();
    let second_is_through = Arc::new(AtomicBool::new(false));
    let through = second_is_through.clone();
    let first = elsewhere(move || {
        // The mock drops what it was given, so this runs inside of write_owned.
        x.write_owned(b"first", move || {
            inside.send(()).unwrap();
            is_coming.recv().unwrap();
            for _ in 0..100 {
                std::thread::yield_now();
                assert!(!through.load(Ordering::SeqCst));
            }
        })
    });
    is_inside.recv().unwrap();
    let second = elsewhere(move || {
        comes.send(()).unwrap();
        let status = x.write("second");
        second_is_through.store(true, Ordering::SeqCst);
        status
    });
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (SV_OK, SV_OK));
    assert_eq!(open.detached.with(|exchange| exchange.written), Some(11));
}

#[test]
fn a_line_of_the_log_waits_for_no_other_thread() {
    let open = detach(new(), None);
    let x = open.x;
    let (inside, is_inside) = channel();
    let (logged, is_logged) = channel();
    let first = elsewhere(move || {
        x.write_owned(b"first", move || {
            inside.send(()).unwrap();
            is_logged.recv().unwrap();
        })
    });
    is_inside.recv().unwrap();
    let context = open._puppet.context.raw();
    assert_eq!(call!(log_message(context, x.raw(), SV_LOG_INFO, b"line".as_ptr(), 4)), SV_OK);
    logged.send(()).unwrap();
    assert_eq!(first.join().unwrap(), SV_OK);
}

/// A library's function that is called inside of one of the host's cannot wait for that one: it once did, when another
/// exchange was between the two, or when the server itself was inside.
#[test]
fn a_call_inside_of_a_call_does_not_wait_for_itself() {
    let (one, other) = (detach(new(), None), detach(MockExchange { owned: Some(Vec::new()), ..new() }, None));
    let (x, y) = (one.x, other.x);
    let statuses: Arc<Mutex<Vec<sv_status>>> = Arc::default();
    let deep = statuses.clone();
    let middle = detach(new(), None);
    let z = middle.x;
    let status = x.write_owned(b"outer", move || {
        let mut statuses = deep.lock().unwrap();
        statuses.extend([x.touch(), x.complete(SV_OK)]);
        let deep = Arc::new(Mutex::new(Vec::new()));
        let deeper = deep.clone();
        statuses.push(z.write_owned(b"inner", move || deeper.lock().unwrap().extend([x.touch(), z.touch()])));
        statuses.extend(deep.lock().unwrap().iter());
        statuses.push(x.touch());
    });
    assert_eq!(status, SV_OK);
    assert_eq!(*statuses.lock().unwrap(), [SV_E_STATE, SV_E_STATE, SV_OK, SV_E_STATE, SV_E_STATE, SV_E_STATE]);
    // And it is over when it is over.
    assert_eq!((x.touch(), z.touch()), (SV_OK, SV_OK));

    // The mock keeps it until the server drops it, inside of `with`.
    let (send, receive) = channel();
    assert_eq!(y.write_owned(b"kept", move || send.send(y.touch()).unwrap()), SV_OK);
    other.detached.with(|exchange| drop(exchange.owned.take())).unwrap();
    assert_eq!(receive.recv().unwrap(), SV_E_STATE);
}

/// Nothing unwinds into a library, and the handle is as before.
#[test]
fn a_panic_of_the_server_is_a_status() {
    let puppet = serving(|x, _| {
        for _ in 0..2 {
            assert_eq!((call!(flush(x.raw())), x.touch()), (SV_E_INTERNAL, SV_OK));
        }
        assert_eq!(x.detach(), SV_OK);
        SV_PENDING
    });
    let (mut scope, mut exchange) = (Scope::new(), Box::new(MockExchange { panics: true, ..new() }));
    assert!(matches!(puppet.plain.service(&mut scope, &mut *exchange), Outcome::Detached));

    let open = detach(MockExchange { panics: true, ..new() }, None);
    let x = open.x;
    for _ in 0..2 {
        assert_eq!((call!(flush(x.raw())), x.touch()), (SV_E_INTERNAL, SV_OK));
        assert_eq!(on_another_thread(move || (call!(flush(x.raw())), x.touch())), (SV_E_INTERNAL, SV_OK));
    }
    assert_eq!(x.complete(SV_OK), SV_OK);
    assert!(open.detached.take().is_some());
}

#[test]
fn taking_an_exchange_ends_its_handle_and_waits_for_who_is_inside() {
    for drops in [false, true] {
        let Open { x, detached, completions, .. } = detach(new(), None);
        let (inside, is_inside) = channel();
        let (go, gone): (Sender<()>, Receiver<()>) = channel();
        let is_out = Arc::new(AtomicBool::new(false));
        let out = is_out.clone();
        let thread = elsewhere(move || {
            let status = x.write_owned(b"inside", move || {
                inside.send(()).unwrap();
                gone.recv().unwrap();
                out.store(true, Ordering::SeqCst);
            });
            (status, x.touch())
        });
        is_inside.recv().unwrap();
        let taking = elsewhere(move || {
            if !drops {
                let (scope, exchange) = detached.take().unwrap();
                assert_eq!(exchange.written, 6);
                drop(scope);
            }
            drop(detached);
            is_out.load(Ordering::SeqCst)
        });
        std::thread::yield_now();
        go.send(()).unwrap();
        assert!(taking.join().unwrap(), "after the call");
        let (inner, after) = thread.join().unwrap();
        assert_eq!(inner, SV_OK);
        // It may still have come in before the end.
        assert!(after == SV_E_STALE || after == SV_OK, "{after}");
        assert_eq!((x.touch(), x.complete(SV_OK)), (SV_E_STALE, SV_E_STALE));
        assert!(completions.lock().unwrap().is_empty());
    }
}

#[test]
fn an_exchange_is_completed_once_whoever_tries() {
    for round in 0..200 {
        let Open { x, detached, completions, .. } = detach(new(), None);
        let threads = 3;
        let barrier = Arc::new(Barrier::new(threads + 1));
        let tries: Vec<JoinHandle<sv_status>> = (0..threads)
            .map(|_| {
                let barrier = barrier.clone();
                elsewhere(move || {
                    barrier.wait();
                    assert!([SV_OK, SV_E_STALE].contains(&x.write("a")));
                    x.complete(SV_OK)
                })
            })
            .collect();
        barrier.wait();
        if round % 2 == 0 {
            // To give it up.
            drop(detached.take());
        }
        let statuses: Vec<sv_status> = tries.into_iter().map(|thread| thread.join().unwrap()).collect();
        let done = statuses.iter().filter(|status| **status == SV_OK).count();
        assert!(statuses.iter().all(|status| [SV_OK, SV_E_STALE].contains(status)), "{statuses:?}");
        assert_eq!(completions.lock().unwrap().len(), done);
        assert!(done == 1 || (done == 0 && round % 2 == 0), "{statuses:?}");
        drop(detached);
        assert_eq!(x.touch(), SV_E_STALE);
    }
}

#[test]
fn a_detached_one_goes_on_elsewhere() {
    let open = detach(new(), Some(Box::new(|_| unreachable!("it has ended"))));
    let x = open.x;
    assert_eq!(call!(async_dispatch(x.raw(), null_mut(), 1)), SV_E_ARG);
    assert_eq!(call!(async_dispatch(x.raw(), null_mut(), 0)), SV_OK);
    assert_eq!(call!(async_dispatch(x.raw(), null_mut(), 0)), SV_E_STALE);
    assert_eq!(x.complete(SV_OK), SV_E_STALE);
    open.detached.tell(SV_E_CLOSED);
    assert_eq!(*open.completions.lock().unwrap(), [SV_OK]);
    assert_eq!(open.detached.take().unwrap().1.goes_to, Some(None));

    let puppet = serving(|x, _| {
        assert_eq!(x.detach(), SV_OK);
        assert_eq!(on_another_thread(move || call!(async_dispatch(x.raw(), b"/b".as_ptr(), 2))), SV_OK);
        assert_eq!(x.touch(), SV_E_STALE);
        SV_PENDING
    });
    let mut exchange = new();
    let outcome = puppet.plain.service(&mut Scope::new(), &mut exchange);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(exchange.goes_to, Some(Some("/b".to_owned())));
}

#[test]
fn a_time_out_is_set_for_what_goes_on() {
    let open = detach(new(), None);
    assert_eq!(call!(set_timeout(open.x.raw(), 1500)), SV_OK);
    assert_eq!(open.detached.with(|exchange| exchange.timeout).unwrap(), Some(Duration::from_millis(1500)));
    assert_eq!(call!(set_timeout(open.x.raw(), u64::MAX)), SV_OK);
    assert_eq!(call!(set_timeout(open.x.raw(), 0)), SV_OK);
    assert_eq!(open.detached.with(|exchange| exchange.timeout).unwrap(), None);
}

#[test]
fn told_is_called_once_for_each_reason_and_may_call_no_function_of_an_exchange() {
    let others = detach(new(), None);
    let other = others.x;
    let (send, receive) = channel();
    let place = Arc::new(Mutex::new(None::<(X, Raw<sv_context>)>));
    let told = place.clone();
    let open = detach(
        new(),
        Some(Box::new(move |why| {
            let (x, context) = told.lock().unwrap().unwrap();
            let mut path = sv_str::ABSENT;
            let of_context = call!(context_path(context.raw(), &mut path));
            let log = call!(log_message(context.raw(), x.raw(), SV_LOG_INFO, b"told".as_ptr(), 4));
            send.send((why, [x.touch(), x.complete(SV_OK), other.touch(), of_context, log])).unwrap();
        })),
    );
    *place.lock().unwrap() = Some((open.x, open._puppet.context));
    for why in [SV_OK, SV_OK, SV_E_TIMEOUT, SV_E_CLOSED, SV_OK] {
        open.detached.tell(why);
    }
    let answers = [SV_E_STATE, SV_E_STATE, SV_E_STATE, SV_OK, SV_OK];
    assert_eq!(receive.try_iter().collect::<Vec<_>>(), [(SV_OK, answers), (SV_E_TIMEOUT, answers)]);
    // complete is still owed.
    assert_eq!((open.x.touch(), open.x.complete(SV_OK)), (SV_OK, SV_OK));
    assert_eq!(open.completions.lock().unwrap().len(), 1);
}

#[test]
fn told_is_never_called_after_complete_has_returned() {
    for _ in 0..200 {
        let is_completed = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicUsize::new(0));
        let (completed, count) = (is_completed.clone(), calls.clone());
        let open = detach(
            new(),
            Some(Box::new(move |_| {
                assert!(!completed.load(Ordering::SeqCst));
                std::thread::yield_now();
                assert!(!completed.load(Ordering::SeqCst), "complete waits for it");
                count.fetch_add(1, Ordering::SeqCst);
            })),
        );
        let barrier = Arc::new(Barrier::new(3));
        let (x, waits) = (open.x, barrier.clone());
        let completes = elsewhere(move || {
            waits.wait();
            let status = x.complete(SV_OK);
            is_completed.store(true, Ordering::SeqCst);
            status
        });
        let (detached, waits) = (open.detached.clone(), barrier.clone());
        let tells = elsewhere(move || {
            waits.wait();
            detached.tell(SV_OK);
            detached.tell(SV_E_CLOSED);
        });
        barrier.wait();
        tells.join().unwrap();
        assert_eq!(completes.join().unwrap(), SV_OK);
        assert!(calls.load(Ordering::SeqCst) <= 2);
        assert!(open.detached.take().is_some());
    }
}

/// Threads of a library that go on calling while exchanges end in the same slots.
#[test]
fn threads_that_never_stop_calling_harm_nobody() {
    let current = Arc::new(Mutex::new(None::<X>));
    let stop = Arc::new(AtomicBool::new(false));
    let wrong = Arc::new(AtomicI32::new(0));
    let hammers: Vec<JoinHandle<()>> = (0..2)
        .map(|_| {
            let (current, stop, wrong) = (current.clone(), stop.clone(), wrong.clone());
            elsewhere(move || {
                while !stop.load(Ordering::SeqCst) {
                    let Some(x) = *current.lock().unwrap() else { continue };
                    let mut value = sv_str::ABSENT;
                    let status = call!(set_attribute(x.raw(), b"a".as_ptr(), 1, b"some bytes".as_ptr(), 10));
                    let read = call!(attribute(x.raw(), b"a".as_ptr(), 1, &mut value));
                    for status in [status, read] {
                        if ![SV_OK, SV_NONE, SV_E_STALE, SV_E_THREAD].contains(&status) {
                            wrong.store(status, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    let here = current.clone();
    let puppet = serving(move |x, _| {
        *here.lock().unwrap() = Some(x);
        assert_eq!(x.touch(), SV_OK);
        assert_eq!(x.detach(), SV_OK);
        assert_eq!(x.write("a"), SV_OK);
        SV_PENDING
    });
    for round in 0..1000 {
        let (mut scope, mut exchange) = (Scope::new(), Box::new(new()));
        assert!(matches!(puppet.plain.service(&mut scope, &mut *exchange), Outcome::Detached));
        let detached = Detached::begin(scope, exchange).unwrap();
        let x = current.lock().unwrap().unwrap();
        match round % 3 {
            0 => assert_eq!(x.complete(SV_OK), SV_OK),
            1 => drop(detached.with(|exchange| exchange.written)),
            _ => {}
        }
        if round % 2 == 0 {
            drop(detached.take());
        }
        drop(detached);
    }
    stop.store(true, Ordering::SeqCst);
    hammers.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
}

// ---------------------------------------------------------------------------------------------- wakers

type Waker = Raw<sv_waker>;

/// A library whose service takes a waker, and that waker.
fn waker(wake: &Arc<MockWake>) -> (Puppet, Waker) {
    let (send, receive) = channel();
    let puppet = serving(move |x, _| {
        send.send(Raw::of(call!(waker(x.raw())))).unwrap();
        SV_OK
    });
    let mut exchange = MockExchange { wake: Some(wake.clone()), ..new() };
    puppet.tasks.service(&mut Scope::new(), &mut exchange);
    let waker = receive.recv().unwrap();
    assert!(!waker.raw().is_null());
    (puppet, waker)
}

fn woken(wake: &MockWake) -> usize {
    wake.woken.load(Ordering::SeqCst)
}

#[test]
fn a_waker_wakes_at_any_time_until_it_is_given_back() {
    let wake: Arc<MockWake> = Arc::default();
    let (_puppet, waker) = waker(&wake);
    let copy = Raw::of(call!(waker_clone(waker.raw())));
    assert!(!copy.raw().is_null() && copy != waker);
    // The exchange has long ended.
    on_another_thread(move || (0..10_000).for_each(|_| call!(waker_wake(waker.raw(), 0))));
    assert_eq!(woken(&wake), 10_000);
    call!(waker_wake(waker.raw(), 1));
    assert_eq!(woken(&wake), 10_001);
    for _ in 0..3 {
        call!(waker_wake(waker.raw(), 0));
        call!(waker_wake(waker.raw(), 1));
        call!(waker_drop(waker.raw()));
        assert!(call!(waker_clone(waker.raw())).is_null());
    }
    call!(waker_drop(copy.raw()));
    call!(waker_drop(copy.raw()));
    call!(waker_wake(copy.raw(), 0));
    assert_eq!(woken(&wake), 10_001);
    assert_eq!(Arc::strong_count(&wake), 1, "nothing is kept");
}

#[test]
fn wakers_that_are_none() {
    let wake: Arc<MockWake> = Arc::default();
    let (puppet, waker) = waker(&wake);
    let odd =
        [0, 1, 2, usize::MAX, waker.raw().addr() ^ 1 << 63, waker.raw().addr() ^ 1 << 22, puppet.context.raw().addr()];
    for made_up in odd.into_iter().chain([(&raw const wake).addr()]) {
        let made_up: *mut sv_waker = std::ptr::without_provenance_mut(made_up);
        assert!(call!(waker_clone(made_up)).is_null());
        call!(waker_wake(made_up, 0));
        call!(waker_wake(made_up, 1));
        call!(waker_drop(made_up));
    }
    assert_eq!(woken(&wake), 0);
    // Where there is no poll, none is made.
    let (send, receive) = channel();
    let puppet = serving(move |x, _| {
        send.send(Raw::of(call!(waker(x.raw())))).unwrap();
        SV_OK
    });
    puppet.plain.service(&mut Scope::new(), &mut new());
    assert!(receive.recv().unwrap().raw().is_null());
}

#[test]
fn wakers_end_with_their_context() {
    let wake: Arc<MockWake> = Arc::default();
    let (puppet, waker) = waker(&wake);
    let copy = Raw::of(call!(waker_clone(waker.raw())));
    let (still, other) = (Arc::<MockWake>::default(), Arc::<MockWake>::default());
    let (others, kept) = self::waker(&other);
    let context = puppet.context;
    drop(puppet);
    assert_eq!(Arc::strong_count(&wake), 1);
    for waker in [waker, copy] {
        call!(waker_wake(waker.raw(), 0));
        assert!(call!(waker_clone(waker.raw())).is_null());
        call!(waker_drop(waker.raw()));
        assert_eq!(call!(context_timer(context.raw(), 1, waker.raw())), SV_E_STALE);
    }
    assert_eq!(woken(&wake), 0);
    // Their places are used anew, and the old handles do not reach the new ones.
    let (_again, next) = self::waker(&still);
    for waker in [waker, copy] {
        call!(waker_wake(waker.raw(), 1));
    }
    call!(waker_wake(next.raw(), 1));
    assert_eq!(woken(&still), 1);
    call!(waker_wake(kept.raw(), 1));
    assert_eq!(woken(&other), 1, "of another context");
    drop(others);
}

#[test]
fn a_timer_takes_its_waker() {
    let wake: Arc<MockWake> = Arc::default();
    let (puppet, waker) = waker(&wake);
    let copy = Raw::of(call!(waker_clone(waker.raw())));
    assert_eq!(call!(context_timer(puppet.context.raw(), 1500, waker.raw())), SV_OK);
    assert_eq!(*wake.timers.lock().unwrap(), [Duration::from_millis(1500)]);
    assert_eq!(call!(context_timer(puppet.context.raw(), 1500, waker.raw())), SV_E_STALE);
    assert_eq!(call!(context_timer(puppet.context.raw(), 1500, null_mut())), SV_E_ARG);
    assert_eq!(call!(context_timer(null_mut(), 1500, copy.raw())), SV_E_ARG, "given back on an error, too");
    assert!(call!(waker_clone(copy.raw())).is_null());
    assert_eq!(wake.timers.lock().unwrap().len(), 1);
    assert_eq!(Arc::strong_count(&wake), 1);
}

#[test]
fn wakers_of_many_threads() {
    let wake: Arc<MockWake> = Arc::default();
    let (_puppet, waker) = waker(&wake);
    let threads: Vec<JoinHandle<()>> = (0..4)
        .map(|_| {
            elsewhere(move || {
                for _ in 0..1000 {
                    let copy = call!(waker_clone(waker.raw()));
                    call!(waker_wake(copy, 0));
                    call!(waker_wake(copy, 1));
                    call!(waker_drop(copy));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(woken(&wake), 8000);
    call!(waker_drop(waker.raw()));
    assert_eq!(Arc::strong_count(&wake), 1);
}

#[test]
fn a_detached_exchange_has_no_waker() {
    let open = detach(MockExchange { wake: Some(Arc::default()), ..new() }, None);
    assert!(call!(waker(open.x.raw())).is_null());
}
