//! Async servlets, driven as a server drives them: service, polls when they are woken, and drop, at every place.

mod mock;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use mock::{Exchange, Module, WAKERS, assert_logged};
use serval_abi::{SV_BLOCKING, SV_NONBLOCKING, SV_OK, SV_PENDING};
use servlet::prelude::*;
use servlet::time::{sleep, timeout};

servlet::module!();

struct Shop {
    news: Broadcast<String>,
    asked: AtomicUsize,
}

#[start]
fn start(_: &Context) -> Result<Shop> {
    Ok(Shop { news: Broadcast::new(4), asked: AtomicUsize::new(0) })
}

#[servlet("/ready")]
async fn ready(shop: &Shop, request: &Request, response: &mut Response) -> Result {
    let asked = shop.asked.fetch_add(1, Ordering::Relaxed) + 1;
    response.text(format!("{} asks, the {asked}.", request.header("user-agent").unwrap()))
}

#[servlet("/slow", blocking)]
async fn slow(_: &Request, response: &mut Response) -> Result {
    response.write("at ")?;
    sleep(Duration::from_millis(20)).await;
    write!(response, "last")
}

#[servlet("/echo", methods = [POST])]
async fn echo(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    response.content_type("text/plain")?.write("<")?;
    let mut stream = response.stream().await?;
    while let Some(chunk) = body.chunk().await? {
        stream.write(chunk).await?;
    }
    stream.write_owned("x".repeat(10_000)).await?;
    stream.finish().await?;
    response.write(">")
}

#[servlet("/all", methods = [POST])]
async fn all(shop: &Shop, _: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    shop.asked.fetch_add(1, Ordering::Relaxed);
    response.text(body.text(8).await?.to_owned())
}

#[servlet("/read", methods = [POST])]
async fn read(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    let mut buffer = [0; 3];
    loop {
        match body.read(&mut buffer).await? {
            0 => return Ok(()),
            len => response.write(&buffer[..len])?,
        }
    }
}

#[servlet("/form", methods = [POST])]
async fn form(request: &Request, response: &mut Response) -> Result {
    sleep(Duration::from_millis(1)).await;
    let early = request.param("a").unwrap_err();
    request.form_read().await?;
    response.text(format!("{} then {:?}", early.kind(), request.param("a")?))
}

#[servlet("/held")]
async fn held(_: &Request, response: &mut Response) -> Result {
    let half = vec![b'x'; 600_000];
    response.write(&half)?;
    let (long, flushed) = (response.write(&half).unwrap_err(), response.flush().unwrap_err());
    response.reset_buffer()?;
    write!(response, "{long}; {flushed}")
}

#[servlet("/dropped")]
async fn dropped(_: &Request, response: &mut Response) -> Result {
    response.write("half of it")?;
    response.redirect("elsewhere")
}

#[servlet("/failed")]
async fn failed(request: &Request, _: &mut Response) -> Result {
    sleep(Duration::from_millis(1)).await;
    request.path::<u8>("id")?;
    Ok(())
}

#[servlet("/panic-early")]
async fn panic_early(_: &Request, _: &mut Response) -> Result {
    panic!("too early");
}

#[servlet("/panic-late")]
async fn panic_late(_: &Request, response: &mut Response) -> Result {
    response.write("half")?;
    sleep(Duration::from_millis(1)).await;
    panic!("too late");
}

/// How many of what an interrupted servlet holds were dropped.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

#[servlet("/interrupted", methods = [POST])]
async fn interrupted(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    let held = Held;
    sleep(Duration::from_millis(1)).await;
    let _text = body.all(100).await?;
    let mut stream = response.stream().await?;
    stream.write("0123456789").await?;
    timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
    stream.finish().await?;
    drop(held);
    Ok(())
}

/// Polls its futures with wakers of its own, and each only when that was woken, as sets of futures do.
async fn each_with_its_own_waker<'a, const N: usize>(mut futures: [Pin<Box<dyn Future<Output = ()> + Send + 'a>>; N]) {
    struct Own {
        woken: AtomicBool,
        outer: Mutex<Waker>,
    }
    impl Wake for Own {
        fn wake(self: Arc<Self>) {
            self.woken.store(true, Ordering::SeqCst);
            self.outer.lock().unwrap().wake_by_ref();
        }
    }
    let owns: [Arc<Own>; N] = std::array::from_fn(|_| {
        Arc::new(Own { woken: AtomicBool::new(true), outer: Mutex::new(Waker::noop().clone()) })
    });
    let mut done = [false; N];
    poll_fn(|context| {
        for index in 0..N {
            *owns[index].outer.lock().unwrap() = context.waker().clone();
            if !done[index] && owns[index].woken.swap(false, Ordering::SeqCst) {
                let waker = Waker::from(Arc::clone(&owns[index]));
                done[index] = futures[index].as_mut().poll(&mut TaskContext::from_waker(&waker)).is_ready();
            }
        }
        if done.iter().all(|done| *done) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[servlet("/set", methods = [POST])]
async fn set(request: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    let read = Mutex::new(0);
    each_with_its_own_waker([
        Box::pin(sleep(Duration::from_millis(2))),
        Box::pin(async { *read.lock().unwrap() = body.all(100).await.unwrap().len() }),
        Box::pin(request.retired()),
    ])
    .await;
    response.text(format!("{} bytes", read.into_inner().unwrap()))
}

#[servlet("/events")]
async fn events(shop: &Shop, _: &Request, response: &mut Response) -> Result {
    let mut news = shop.news.subscribe();
    let mut events = response.events().await?;
    // Long enough that a busy machine is not silent before its first event.
    events.heartbeat(Duration::from_millis(500));
    while let Some(item) = events.next(news.recv()).await? {
        events.send(&Event::new().id("1").data(item?)).await?;
    }
    events.finish().await
}

#[servlet("/publish")]
fn publish(shop: &Shop, _: &Request, response: &mut Response) -> Result {
    let receivers = shop.news.send("one\ntwo".to_owned());
    response.text(receivers.to_string())
}

#[servlet("/in-time")]
async fn in_time(_: &Request, response: &mut Response) -> Result {
    let answer = timeout(Duration::from_secs(3600), async { "in time" }).await?;
    response.text(answer)
}

#[servlet("/other-thread")]
async fn other_thread(_: &Request, response: &mut Response) -> Result {
    let mut first = true;
    poll_fn(|context| {
        if std::mem::take(&mut first) {
            let waker = context.waker();
            let kept = std::thread::scope(|scope| scope.spawn(|| waker.clone()).join().unwrap());
            kept.wake();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
    response.text("woken")
}

/// Wakers, the log and what is dropped are counted for the whole library.
static ALONE: Mutex<()> = Mutex::new(());

#[track_caller]
fn with(servlet: &str, test: impl FnOnce(&Module, &mock::Servlet)) {
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let module = Module::start().unwrap();
    let servlet = module.servlet(servlet, &[]).unwrap();
    test(&module, &servlet);
    drop(servlet);
    drop(module);
    drop(alone);
}

#[track_caller]
fn check(servlet: &str, mut exchange: Exchange, expected: &str) {
    with(servlet, |_, servlet| {
        assert_eq!(servlet.call(&mut exchange), expected);
        wait_for_no_wakers();
    });
}

/// Timers of the mock that fire late hold the last ones.
#[track_caller]
fn wait_for_no_wakers() {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while WAKERS.load(Ordering::SeqCst) > 0 {
        assert!(std::time::Instant::now() < deadline, "{} wakers are left", WAKERS.load(Ordering::SeqCst));
        std::thread::yield_now();
    }
}

const PLAIN: &str = "200\ncontent-type: text/plain; charset=utf-8\n";

#[test]
fn async_servlets_are_nonblocking_unless_they_say_otherwise() {
    let flags = |name| mock::servlets().iter().find(|servlet| mock::text(servlet.name) == name).unwrap().flags;
    assert_eq!((flags("ready"), flags("slow"), flags("publish")), (SV_NONBLOCKING, SV_BLOCKING, 0));
}

#[test]
fn a_future_that_is_ready_at_once_is_no_task() {
    with("ready", |_, servlet| {
        let mut exchange = Exchange::get("");
        assert_eq!(servlet.begin(&mut exchange).status, SV_OK);
        assert_eq!(exchange.outcome(SV_OK), format!("{PLAIN}test/1 asks, the 1."));
        assert!(!exchange.bell.take());
        assert_eq!(WAKERS.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_timer_of_the_server_wakes() {
    with("slow", |_, servlet| {
        let mut exchange = Exchange::get("");
        let task = servlet.begin(&mut exchange);
        assert_eq!(task.status, SV_PENDING);
        assert_eq!(WAKERS.load(Ordering::SeqCst), 2, "the task's, and the timer's");
        assert_eq!(task.finish(&mut exchange), "200\nat last");
        wait_for_no_wakers();
    });
}

#[test]
fn a_slow_client_is_waited_for_and_nothing_is_lost() {
    let xs = "x".repeat(10_000);
    for step in [1, 3, 4, 100] {
        let mut exchange = Exchange::slow("Hello, slow world", step);
        with("echo", |_, servlet| {
            let seen = servlet.call(&mut exchange);
            assert_eq!(seen, format!("200\ncontent-type: text/plain\n<Hello, slow world{xs}>"), "step {step}");
            assert!(exchange.seen.borrow().released);
            assert!(exchange.waits > 1 || step == 100, "step {step}: {}", exchange.waits);
        });
    }
    check("all", Exchange::slow("12345678", 3), &format!("{PLAIN}12345678"));
    check("all", Exchange::slow("123456789", 3), "200\n\nreturned -6");
    check("read", Exchange::slow("12345678", 2), "200\n12345678");
}

#[test]
fn a_form_on_its_way_is_an_error_until_it_is_waited_for() {
    check("form", Exchange::slow("a=1", 1), &format!("{PLAIN}servlet/would-block then None"));
}

#[test]
fn what_is_written_without_waiting_has_a_bound() {
    let expected = "200\nan async servlet may write 1 MiB before it returns; write more with `response.stream().await?`; flush would have \
                    to wait; in an async servlet use `response.stream().await?`";
    check("dropped", Exchange::get(""), "302\nlocation: elsewhere\n");
    with("held", |_, servlet| {
        let mut exchange = Exchange::get("");
        assert_eq!(servlet.call(&mut exchange), expected);
        assert_eq!(exchange.seen.borrow().responds, 1);
    });
}

#[test]
fn errors_and_panics_are_answered_as_those_of_plain_servlets() {
    let mut exchange = Exchange::get("");
    exchange.params.push(("id", "300"));
    let text = "the path parameter id is \"300\": number too large to fit in target type";
    check("failed", exchange, &format!("400\npage: {text}"));
    check("failed", Exchange::get(""), "500\npage: the URL pattern \"/x/*\" has no {id}");
    check("panic_early", Exchange::get(""), "200\n\nreturned -12");
    assert_logged(&format!("panic of 8: too early ({}", file!()));
    check("panic_late", Exchange::get(""), "200\n\nreturned -12");
    assert_logged(&format!("panic of 8: too late ({}", file!()));
}

#[test]
fn a_task_may_be_dropped_at_every_await() {
    with("interrupted", |_, servlet| {
        let mut polls = 0;
        loop {
            DROPPED.store(0, Ordering::SeqCst);
            let mut exchange = Exchange::slow("body", 2);
            let mut task = servlet.begin(&mut exchange);
            for _ in 0..polls {
                if task.status != SV_PENDING {
                    break;
                }
                if !std::mem::take(&mut exchange.blocked) {
                    Arc::clone(&exchange.bell).wait();
                }
                exchange.give_way();
                task.poll(&mut exchange);
            }
            let status = task.status;
            drop(task);
            assert_eq!(DROPPED.load(Ordering::SeqCst), 1, "after {polls} polls");
            wait_for_no_wakers();
            if status == SV_OK {
                break;
            }
            polls += 1;
        }
        assert!(polls >= 6, "it waits at {polls} places");
    });
}

#[test]
fn futures_with_wakers_of_their_own_are_woken_too() {
    with("set", |_, servlet| {
        let mut exchange = Exchange::slow("some body", 4);
        let mut task = servlet.begin(&mut exchange);
        for _ in 0..100 {
            if task.status != SV_PENDING || exchange.arrived >= 9 {
                break;
            }
            if !std::mem::take(&mut exchange.blocked) {
                Arc::clone(&exchange.bell).wait();
            }
            exchange.give_way();
            task.poll(&mut exchange);
        }
        exchange.retiring = true;
        exchange.blocked = true;
        assert_eq!(task.finish(&mut exchange), format!("{PLAIN}9 bytes"));
        wait_for_no_wakers();
    });
}

#[test]
fn a_timeout_that_is_not_needed_leaves_no_timer() {
    check("in_time", Exchange::get(""), &format!("{PLAIN}in time"));
}

#[test]
fn a_wake_of_another_thread_in_the_first_poll_is_not_lost() {
    check("other_thread", Exchange::get(""), &format!("{PLAIN}woken"));
}

/// Polls until that many bytes were sent.
#[track_caller]
fn poll_until(task: &mut mock::Task<'_>, exchange: &mut Exchange, text: &str) {
    for _ in 0..1000 {
        if String::from_utf8_lossy(&exchange.seen.borrow().body).ends_with(text) {
            return;
        }
        Arc::clone(&exchange.bell).wait();
        assert_eq!(task.poll(exchange), SV_PENDING);
    }
    panic!("{text:?} does not come: {}", exchange.outcome(0));
}

const EVENTS: &str = "200\ncontent-type: text/event-stream\ncache-control: no-cache\nx-accel-buffering: no\n";

#[test]
fn events_are_sent_until_the_generation_retires() {
    with("events", |module, servlet| {
        let mut exchange = Exchange::get("");
        let mut task = servlet.begin(&mut exchange);
        assert_eq!(task.status, SV_PENDING);
        // It subscribes before its head goes out.
        Arc::clone(&exchange.bell).wait();
        task.poll(&mut exchange);
        assert!(exchange.seen.borrow().committed);
        assert_eq!(exchange.timeout, Some(0));
        assert_eq!(module.servlet("publish", &[]).unwrap().call(&mut Exchange::get("")), format!("{PLAIN}1"));
        poll_until(&mut task, &mut exchange, "id: 1\ndata: one\ndata: two\n\n");
        // Then it is silent, and shows that it lives.
        poll_until(&mut task, &mut exchange, "\n\n: \n\n");
        exchange.retiring = true;
        exchange.blocked = true;
        let seen = task.finish(&mut exchange);
        assert!(seen.starts_with(&format!("{EVENTS}id: 1\n")) && seen.ends_with(": \n\n"), "{seen}");
        wait_for_no_wakers();
    });
}

#[test]
fn events_end_when_the_client_has_gone() {
    with("events", |_, servlet| {
        let mut exchange = Exchange::get("");
        let mut task = servlet.begin(&mut exchange);
        Arc::clone(&exchange.bell).wait();
        task.poll(&mut exchange);
        exchange.cancelled = true;
        exchange.blocked = true;
        let seen = task.finish(&mut exchange);
        assert_eq!(seen, format!("{EVENTS}\nreturned -7\nfailed client/closed: events: the client has gone"));
    });
}

#[test]
fn a_broadcast_reaches_who_listens() {
    let news = Broadcast::new(2);
    assert_eq!(news.send(0), 0);
    let (mut one, mut two) = (news.subscribe(), news.subscribe());
    let waker = Waker::noop();
    {
        let mut waits = pin!(one.recv());
        assert!(waits.as_mut().poll(&mut TaskContext::from_waker(waker)).is_pending());
        assert_eq!(news.send(1), 2);
        assert_eq!(waits.as_mut().poll(&mut TaskContext::from_waker(waker)), Poll::Ready(Ok(1)));
    }
    for number in 2..=4 {
        news.send(number);
    }
    assert_eq!(two.try_recv(), Some(Err(RecvError::Lagged(2))));
    assert_eq!((two.try_recv(), two.try_recv(), two.try_recv()), (Some(Ok(3)), Some(Ok(4)), None));
    drop(two);
    assert_eq!(news.receivers(), 1);
    drop(news);
    assert_eq!(one.try_recv(), Some(Err(RecvError::Lagged(1))));
    assert_eq!((one.try_recv(), one.try_recv()), (Some(Ok(3)), Some(Ok(4))));
    assert_eq!(one.try_recv(), Some(Err(RecvError::Closed)));
}
