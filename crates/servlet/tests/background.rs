//! What belongs to a generation beside its servlets: listener functions, hand-over, jobs, spawned futures and threads.

mod mock;

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mock::{Exchange, Module, assert_logged};
use serval_abi::*;
use servlet::prelude::*;
use servlet::time::sleep;

servlet::module!();

#[derive(Default)]
struct Shop {
    kept: Mutex<Vec<u8>>,
    ticks: AtomicUsize,
    async_ticks: AtomicUsize,
    thread: Arc<AtomicBool>,
}

/// What ran last when a module ended, and whether its state was still there.
static ENDED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

#[start]
fn start(context: &Context) -> Result<Shop> {
    let shop = Shop::default();
    let stopping = context.stopping();
    context.spawn(async move {
        stopping.stopped().await;
        sleep(Duration::from_millis(5)).await;
        ENDED.lock().unwrap().push("future");
    })?;
    context.spawn(async { panic!("in a future") })?;
    let seen = Arc::clone(&shop.thread);
    context.spawn_thread("counter", move |stopping| {
        seen.store(true, Ordering::SeqCst);
        while !stopping.wait(Duration::from_secs(3600)) {}
        ENDED.lock().unwrap().push("thread");
    })?;
    Ok(shop)
}

#[stop]
fn stop(shop: Shop) {
    ENDED.lock().unwrap().push("stop");
    drop(shop);
}

#[carry]
fn carry(shop: &Shop) -> Vec<u8> {
    let kept = shop.kept.lock().unwrap().clone();
    assert!(kept != b"panic", "nothing to carry");
    kept
}

#[restore]
fn restore(shop: &Shop, bytes: &[u8]) -> Result {
    if bytes == b"old" {
        return Err(error(500, "of another version"));
    }
    shop.kept.lock().unwrap().extend_from_slice(bytes);
    Ok(())
}

#[job(every = "1ms")]
fn tick(shop: &Shop) {
    let ticks = shop.ticks.fetch_add(1, Ordering::SeqCst);
    assert!(ticks != 3, "in a job");
}

#[job(every = "1ms")]
async fn async_tick(shop: &Shop) -> Result {
    sleep(Duration::from_millis(1)).await;
    shop.async_ticks.fetch_add(1, Ordering::SeqCst);
    Err(error(500, "not today"))
}

#[job(every = "1h")]
async fn seldom() {
    unreachable!("it is never time for it");
}

#[servlet("/ticks")]
async fn ticks(shop: &Shop, _: &Request, response: &mut Response) -> Result {
    let ticks = || [&shop.ticks, &shop.async_ticks].map(|ticks| ticks.load(Ordering::SeqCst));
    while ticks().iter().any(|ticks| *ticks < 5) || !shop.thread.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(1)).await;
    }
    response.text("enough")
}

/// Many spawned futures listen while two threads send: no wake is lost, and what is lost of the messages is told.
#[servlet("/storm")]
async fn storm(request: &Request, response: &mut Response) -> Result {
    const LISTENERS: usize = 40;
    const MESSAGES: u64 = 2000;
    let news = Arc::new(Broadcast::new(64));
    let done = Arc::new(Broadcast::new(LISTENERS));
    let mut ended = done.subscribe();
    for _ in 0..LISTENERS {
        let (mut messages, done) = (news.subscribe(), Arc::clone(&done));
        request.context().spawn(async move {
            let mut seen = 0;
            loop {
                match messages.recv().await {
                    Ok(_) => seen += 1,
                    Err(RecvError::Lagged(lost)) => seen += lost,
                    Err(RecvError::Closed) => break,
                }
            }
            done.send(seen);
        })?;
    }
    for _ in 0..2 {
        let news = Arc::clone(&news);
        request.context().spawn_thread("sends", move |_| (0..MESSAGES / 2).for_each(|number| _ = news.send(number)))?;
    }
    drop(news);
    let mut counts = Vec::new();
    while counts.len() < LISTENERS {
        counts.push(ended.recv().await?);
    }
    response.text(format!("{}", counts.iter().all(|count| *count == MESSAGES)))
}

#[on(session_created, session_destroyed, session_id_changed)]
fn sessions(shop: &Shop, event: &SessionEvent) {
    let user = event.attribute("user").map(String::from_utf8_lossy);
    let line = format!("{:?} {} {:?} {user:?}\n", event.happened(), event.id(), event.old_id());
    shop.kept.lock().unwrap().extend_from_slice(line.as_bytes());
}

#[on(request_initialized)]
fn requests(event: &RequestEvent) -> Result {
    let request = event.request().unwrap();
    servlet::log::info!("{:?} {} of {:?}", event.happened(), request.uri(), request.init("x"));
    if request.path_info() == Some("/refused") { Err(error(403, "not today")) } else { Ok(()) }
}

#[on(context_attribute, session_attribute)]
fn attributes(event: &AttributeEvent) {
    assert!(event.name() != "panic", "in a listener function");
    let session = event.session_id();
    servlet::log::info!("{:?} {} {:?} {session:?}", event.change(), event.name(), event.value().map(<[u8]>::len));
}

#[on(context_initialized)]
fn context(event: &ContextEvent) -> Result {
    servlet::log::info!("context {:?} at {}", event.happened(), event.context().generation());
    Err(error(500, "not ready"))
}

/// The log, the panic hook, and what ended are of the whole library.
static ALONE: Mutex<()> = Mutex::new(());

fn with(test: impl FnOnce(&Module)) {
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let module = Module::start().unwrap();
    test(&module);
    drop(module);
    drop(alone);
}

fn event(kind: u32) -> sv_event {
    sv_event {
        struct_size: size_of::<sv_event>() as u32,
        kind,
        context: null_mut(),
        exchange: null_mut(),
        session: null_mut(),
        session_id: sv_str::ABSENT,
        name: sv_str::ABSENT,
        value: sv_str::ABSENT,
        old_value: sv_str::ABSENT,
    }
}

#[test]
fn listener_functions_are_told_what_they_ask_for() {
    with(|module| {
        let session = sv_event { session_id: sv_str::new("s2"), ..event(0) };
        module.event(&sv_event { kind: SV_EVENT_SESSION_CREATED, ..session });
        let old_value = sv_str::new("s1");
        module.event(&sv_event { kind: SV_EVENT_SESSION_ID_CHANGED, old_value, ..session });
        let expected = "Created s2 None Some(\"Ada\")\nIdChanged s2 Some(\"s1\") Some(\"Ada\")\n";
        assert_eq!(String::from_utf8(module.save().unwrap()).unwrap(), expected);

        let mut exchange = Exchange::get("");
        let begin = |exchange| module.event(&sv_event { exchange, ..event(SV_EVENT_REQUEST_INITIALIZED) });
        assert_eq!(exchange.owned(begin), SV_OK);
        assert_logged("3 7 Initialized /x of None");
        let mut exchange = Exchange::get("/refused");
        assert_eq!(exchange.owned(begin), SV_E_FAILED);
        assert_eq!(exchange.seen.into_inner().failed.as_deref(), Some("failed status: not today"));

        let attribute = sv_event { name: sv_str::new("a"), ..event(SV_EVENT_CONTEXT_ATTRIBUTE) };
        module.event(&sv_event { value: sv_str::new("12"), ..attribute });
        module.event(&sv_event { value: sv_str::new(""), old_value, ..attribute });
        module.event(&sv_event { old_value, ..attribute });
        assert_eq!(module.event(&sv_event { name: sv_str::new("panic"), ..attribute }), SV_E_PANIC);
        assert_logged("3 Added a Some(2) None");
        assert_logged("3 Replaced a Some(0) None");
        assert_logged("3 Removed a None None");
        assert_logged("panic of 8: in a listener function");

        assert_eq!(module.event(&event(SV_EVENT_CONTEXT_INITIALIZED)), SV_E_FAILED);
        assert_logged("3 context Initialized at 0");
        assert_logged("1 a listener function: not ready");
    });
}

#[test]
fn bytes_are_handed_over_to_the_next_generation() {
    with(|module| {
        assert_eq!(module.restore(b"some bytes"), SV_OK);
        assert_eq!(module.save(), Ok(b"some bytes".to_vec()));
        assert_eq!(module.restore(b"old"), SV_E_FAILED);
        assert_logged("1 background::restore: of another version");
    });
    with(|module| {
        assert_eq!(module.restore(b"panic"), SV_OK);
        assert_eq!(module.save(), Err(SV_E_PANIC));
        assert_logged("panic of 8: nothing to carry");
    });
}

#[test]
fn no_wake_is_lost_in_a_storm() {
    with(|module| {
        let seen = module.servlet("storm", &[]).unwrap().call(&mut Exchange::get(""));
        assert_eq!(seen, "200\ncontent-type: text/plain; charset=utf-8\ntrue");
    });
}

#[test]
fn what_runs_beside_requests_ends_before_the_state() {
    ENDED.lock().unwrap().clear();
    with(|module| {
        ENDED.lock().unwrap().clear();
        let seen = module.servlet("ticks", &[]).unwrap().call(&mut Exchange::get(""));
        assert_eq!(seen, "200\ncontent-type: text/plain; charset=utf-8\nenough");
        let began = Instant::now();
        // Awaited by the drop of the module.
        assert!(ENDED.lock().unwrap().is_empty());
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_logged("panic of 8: in a job");
        assert_logged("1 background::async_tick: not today");
        assert_logged("panic of 8: in a future");
    });
    let mut ended = ENDED.lock().unwrap().clone();
    ended[..2].sort_unstable();
    assert_eq!(ended[..3], ["future", "thread", "stop"]);
}
