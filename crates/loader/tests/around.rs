//! What is called around servlets: filters, listener functions, and what a module hands over to the next one; and
//! sessions, which all of them reach. Needs `cc`.

#![allow(clippy::macro_metavars_in_unsafe, reason = "arguments of `call` may be calls, too")]

mod mock;
mod puppet;

use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use mock::{MockExchange, MockSession};
use puppet::{Acts, Puppet, Raw, X, puppet};
use serval_abi::*;
use serval_loader::filter::{Entered, Filter};
use serval_loader::module::Event;
use serval_loader::servlet::{Outcome, Scope};

fn new() -> MockExchange {
    MockExchange::new("/x")
}

fn filter(puppet: &Puppet, name: &str) -> Filter {
    let index = ["all", "none"].iter().position(|known| *known == name).unwrap();
    Filter::create(&puppet.module, index, name, Vec::new()).unwrap()
}

fn on_another_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(work).join().unwrap()
}

fn bytes_of(text: sv_str) -> Option<Vec<u8>> {
    if text.ptr.is_null() {
        assert_eq!(text.len, 0);
        return None;
    }
    // SAFETY: the host's promise.
    Some(unsafe { std::slice::from_raw_parts(text.ptr, text.len) }.to_vec())
}

fn text_of(text: sv_str) -> String {
    bytes_of(text).map_or_else(|| "(absent)".to_owned(), |bytes| String::from_utf8(bytes).unwrap())
}

// ---------------------------------------------------------------------------------------------- filters

#[test]
fn the_hooks_of_a_filter_share_a_handle_and_a_state() {
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let xs: Arc<Mutex<Vec<X>>> = Arc::default();
    let note = |said: &Arc<Mutex<Vec<String>>>, xs: &Arc<Mutex<Vec<X>>>| {
        let (said, xs) = (said.clone(), xs.clone());
        move |x: X, text: String| {
            // A filter never detaches, and makes no tasks.
            assert_eq!((x.touch(), x.detach(), x.complete(SV_OK)), (SV_OK, SV_E_STATE, SV_E_STATE));
            said.lock().unwrap().push(text);
            xs.lock().unwrap().push(x);
        }
    };
    let (request, response, body, end) = (note(&said, &xs), note(&said, &xs), note(&said, &xs), note(&said, &xs));
    let puppet = puppet(Acts {
        on_request: Box::new(move |x, state| {
            request(x, format!("request {state}"));
            *state = 42;
            SV_NEXT
        }),
        on_response: Box::new(move |x, state| {
            response(x, format!("response {state}"));
            SV_OK
        }),
        on_body: Box::new(move |x, given| {
            body(x, format!("body {} {} {}", given.state, String::from_utf8_lossy(given.bytes), given.last));
            x.write("instead")
        }),
        on_end: Box::new(move |x, state, result| end(x, format!("end {state} {result}"))),
        ..Acts::default()
    });
    let filter = filter(&puppet, "all");
    assert!(filter.has_on_response() && filter.has_on_body() && !filter.is_nonblocking());
    let (mut entered, mut exchange) = (Entered::new(), new());
    assert!(matches!(filter.on_request(&mut entered, &mut exchange), Outcome::Next));
    let x = xs.lock().unwrap()[0];
    // Nobody owns it between the calls.
    assert_eq!((x.touch(), on_another_thread(move || x.touch())), (SV_E_THREAD, SV_E_THREAD));
    assert!(filter.on_response(&mut entered, &mut exchange).is_ok());
    assert!(filter.on_body(&mut entered, &mut exchange, b"some", false).is_ok());
    assert!(filter.on_body(&mut entered, &mut exchange, b"", true).is_ok());
    filter.on_end(entered, &mut exchange, SV_E_FAILED);
    assert_eq!(x.touch(), SV_E_STALE);
    assert!(xs.lock().unwrap().iter().all(|seen| *seen == x));
    let all = ["request 0", "response 42", "body 42 some 0", "body 42  1", "end 42 -13"];
    assert_eq!(*said.lock().unwrap(), all);
    assert_eq!(exchange.written, 14);
}

#[test]
fn what_the_hooks_of_a_filter_return() {
    let returns = Arc::new(Mutex::new(0));
    let (request, response, body) = (returns.clone(), returns.clone(), returns.clone());
    let puppet = puppet(Acts {
        on_request: Box::new(move |_, _| *request.lock().unwrap()),
        on_response: Box::new(move |_, _| *response.lock().unwrap()),
        on_body: Box::new(move |_, _| *body.lock().unwrap()),
        ..Acts::default()
    });
    let filter = filter(&puppet, "all");
    let mut exchange = new();
    for (status, of_request, of_others) in [
        (SV_OK, "Done", None),
        (SV_NEXT, "Next", Some((SV_E_STATE, "it returned a status that means nothing here"))),
        (SV_E_FAILED, "Failed(-13, \"it returned status -13\")", Some((SV_E_FAILED, "it returned status -13"))),
        (SV_E_PANIC, "Failed(-12, \"it panicked\")", Some((SV_E_PANIC, "it panicked"))),
        (SV_PENDING, "Failed(-2, \"a filter cannot return SV_PENDING\")", Some((SV_PENDING, "it returned status 1"))),
        (4711, "Failed(4711, \"it returned status 4711\")", Some((4711, "it returned status 4711"))),
    ] {
        *returns.lock().unwrap() = status;
        let mut entered = Entered::new();
        assert_eq!(format!("{:?}", filter.on_request(&mut entered, &mut exchange)), of_request);
        let others = of_others.map_or(Ok(()), |(status, text)| Err((status, text.to_owned())));
        assert_eq!(filter.on_response(&mut entered, &mut exchange), others);
        assert_eq!(filter.on_body(&mut entered, &mut exchange, b"a", true), others);
    }
}

#[test]
fn a_filter_without_hooks_lets_all_pass() {
    let puppet = puppet(Acts::default());
    let filter = filter(&puppet, "none");
    assert!(!filter.has_on_response() && !filter.has_on_body());
    let (mut entered, mut exchange) = (Entered::new(), new());
    assert!(matches!(filter.on_request(&mut entered, &mut exchange), Outcome::Next));
    assert!(filter.on_response(&mut entered, &mut exchange).is_ok());
    assert!(filter.on_body(&mut entered, &mut exchange, b"some", true).is_ok());
    filter.on_end(entered, &mut exchange, SV_OK);
    assert_eq!(exchange.written, 0);
}

// ---------------------------------------------------------------------------------------------- events

const KINDS: [u32; 10] = [
    SV_EVENT_CONTEXT_INITIALIZED,
    SV_EVENT_CONTEXT_DESTROYED,
    SV_EVENT_REQUEST_INITIALIZED,
    SV_EVENT_REQUEST_DESTROYED,
    SV_EVENT_SESSION_CREATED,
    SV_EVENT_SESSION_DESTROYED,
    SV_EVENT_SESSION_ID_CHANGED,
    SV_EVENT_CONTEXT_ATTRIBUTE,
    SV_EVENT_REQUEST_ATTRIBUTE,
    SV_EVENT_SESSION_ATTRIBUTE,
];

fn bare<'a>(kind: u32) -> Event<'a> {
    Event {
        kind,
        exchange: None,
        session: None,
        has_session: false,
        session_id: "",
        name: "",
        value: None,
        old_value: None,
    }
}

#[test]
fn an_event_of_each_kind_is_told_to_those_that_asked() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let (notes, context) = (told.clone(), Arc::new(Mutex::new(None::<Raw<sv_context>>)));
    let expected = context.clone();
    let puppet = puppet(Acts {
        on_event: Box::new(move |event| {
            assert_eq!(event.struct_size as usize, size_of::<sv_event>());
            assert!(expected.lock().unwrap().unwrap() == Raw::of(event.context));
            let texts = [event.session_id, event.name, event.value, event.old_value].map(text_of);
            let handles = (event.exchange.is_null(), event.session.is_null());
            notes.lock().unwrap().push(format!("{:#x} {handles:?} {}", event.kind, texts.join(" ")));
            SV_OK
        }),
        ..Acts::default()
    });
    *context.lock().unwrap() = Some(puppet.context);
    assert_eq!(puppet.module.listens_to(), u32::MAX);
    for kind in KINDS {
        assert!(puppet.module.event(&mut bare(kind)).is_ok());
        // The second function asked for this kind only.
        let times = if kind == SV_EVENT_SESSION_CREATED { 2 } else { 1 };
        let line = format!("{kind:#x} (true, true) (absent) (absent) (absent) (absent)");
        assert_eq!(std::mem::take(&mut *told.lock().unwrap()), vec![line; times]);
    }
    let mut exchange = new();
    let result = puppet.module.event(&mut Event {
        exchange: Some(&mut exchange),
        has_session: true,
        session_id: "s1",
        name: "cart",
        value: Some(b""),
        old_value: Some(b"old"),
        ..bare(SV_EVENT_SESSION_ATTRIBUTE)
    });
    assert!(result.is_ok());
    let result = puppet.module.event(&mut Event { exchange: Some(&mut exchange), ..bare(SV_EVENT_REQUEST_DESTROYED) });
    assert!(result.is_ok());
    let both = ["0x400 (false, false) s1 cart  old", "0x8 (false, true) (absent) (absent) (absent) (absent)"];
    assert_eq!(*told.lock().unwrap(), both);
}

#[test]
fn an_error_of_a_listener_function_is_told_and_keeps_it_from_no_other() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let puppet = puppet(Acts {
        // In turn, by the two that listen to new sessions.
        on_event: Box::new(move |_| [SV_E_FAILED, SV_NEXT, SV_OK, SV_E_IO][count.fetch_add(1, Ordering::SeqCst)]),
        ..Acts::default()
    });
    let event = || puppet.module.event(&mut bare(SV_EVENT_SESSION_CREATED)).unwrap_err();
    assert_eq!(event(), (SV_E_FAILED, "it returned status -13".to_owned()));
    assert_eq!(event(), (SV_E_IO, "it returned status -11".to_owned()));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[test]
fn the_handles_of_an_event_end_with_it() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let puppet = puppet(Acts {
        on_event: Box::new(move |event| {
            let (x, session): (X, _) = (Raw::of(event.exchange), Raw::of(event.session));
            assert_eq!((x.touch(), x.detach(), x.complete(SV_OK)), (SV_OK, SV_E_STATE, SV_E_STATE));
            assert_eq!(set(session, "seen", Some(b"1")), SV_OK);
            assert_eq!(on_another_thread(move || (x.touch(), get(session, "seen").0)), (SV_E_THREAD, SV_E_THREAD));
            keep.lock().unwrap().push((x, session));
            SV_OK
        }),
        ..Acts::default()
    });
    let mut exchange = new();
    exchange.session = Some(MockSession::default());
    for _ in 0..2 {
        let result = puppet.module.event(&mut Event {
            exchange: Some(&mut exchange),
            has_session: true,
            ..bare(SV_EVENT_SESSION_ATTRIBUTE)
        });
        assert!(result.is_ok());
    }
    for (x, session) in kept.lock().unwrap().iter() {
        assert_eq!((x.touch(), get(*session, "seen").0), (SV_E_STALE, SV_E_STALE));
    }
}

#[test]
fn a_session_without_an_exchange_can_be_read_while_it_is_told() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let puppet = puppet(Acts {
        on_event: Box::new(move |event| {
            assert!(event.exchange.is_null());
            let session = Raw::of(event.session);
            assert_eq!(get(session, "user"), (SV_OK, Some(b"Ada".to_vec())));
            assert_eq!(get(session, "nobody"), (SV_NONE, None));
            assert_eq!(on_another_thread(move || get(session, "user").0), SV_E_THREAD);
            // The exchange that this would be a session of.
            for kind in 0..4 {
                let made_up: *mut sv_exchange = std::ptr::without_provenance_mut(session.raw().addr() ^ kind << 21);
                assert_eq!(Raw::of(made_up).touch(), SV_E_STALE);
            }
            *keep.lock().unwrap() = Some(session);
            SV_OK
        }),
        ..Acts::default()
    });
    let mut session = MockSession { attributes: vec![("user".to_owned(), "Ada".into())], ..MockSession::default() };
    let result = puppet.module.event(&mut Event {
        session: Some(&mut session),
        has_session: true,
        session_id: "s1",
        ..bare(SV_EVENT_SESSION_DESTROYED)
    });
    assert!(result.is_ok());
    let session = kept.lock().unwrap().unwrap();
    assert_eq!(get(session, "user"), (SV_E_STALE, None));
}

// ---------------------------------------------------------------------------------------------- sessions

fn get(session: Raw<sv_session>, name: &str) -> (sv_status, Option<Vec<u8>>) {
    let mut value = sv_str::new("poison");
    let status = call!(session_attribute(session.raw(), name.as_ptr(), name.len(), &mut value));
    (status, bytes_of(value))
}

fn set(session: Raw<sv_session>, name: &str, value: Option<&[u8]>) -> sv_status {
    let (value, len) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), value.len()));
    call!(session_set_attribute(session.raw(), name.as_ptr(), name.len(), value, len))
}

fn session(x: X, create: i32) -> (sv_status, Raw<sv_session>) {
    let mut session = std::ptr::without_provenance_mut(77);
    let status = call!(session(x.raw(), create, &mut session));
    assert_eq!(status == SV_OK, !session.is_null());
    (status, Raw::of(session))
}

/// Each function on it answers this, and changes nothing.
fn each_answers(session: Raw<sv_session>, want: sv_status) {
    let raw = session.raw();
    let (mut text, mut pairs, mut count) = (sv_str::new("poison"), std::ptr::without_provenance(77), 77);
    assert_eq!(get(session, "a"), (want, None));
    assert_eq!(call!(session_attributes(raw, &mut pairs, &mut count)), want);
    assert!(pairs.is_null() && count == 0);
    assert_eq!(set(session, "a", Some(b"wrong")), want);
    assert_eq!(call!(session_change_id(raw, &mut text)), want);
    assert_eq!(bytes_of(text), None);
    assert_eq!(call!(session_set_max_inactive(raw, 1)), want);
    assert_eq!(call!(session_invalidate(raw)), want);
}

/// Runs this as a service.
fn in_service(exchange: &mut MockExchange, work: impl Fn(X) + Send + Sync + 'static) {
    let puppet = puppet(Acts {
        service: Box::new(move |x, _| {
            work(x);
            SV_OK
        }),
        ..Acts::default()
    });
    puppet.plain.service(&mut Scope::new(), exchange);
}

#[test]
fn a_session_is_reached_by_one_handle() {
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        assert_eq!(session(x, 0).0, SV_NONE);
        let (status, of_x) = session(x, 1);
        assert_eq!(status, SV_OK);
        assert!(session(x, 0) == (SV_OK, of_x) && session(x, 1) == (SV_OK, of_x));
        assert_eq!((set(of_x, "a", Some(b"1")), set(of_x, "b", Some(b""))), (SV_OK, SV_OK));
        assert_eq!((get(of_x, "a"), get(of_x, "b")), ((SV_OK, Some(b"1".to_vec())), (SV_OK, Some(Vec::new()))));
        assert_eq!(set(of_x, "a", None), SV_OK);
        assert_eq!(get(of_x, "a"), (SV_NONE, None));
        let (mut pairs, mut count) = (std::ptr::null(), 0);
        assert_eq!(call!(session_attributes(of_x.raw(), &mut pairs, &mut count)), SV_OK);
        assert_eq!(count, 1);
        // SAFETY: the host's promise.
        assert_eq!(text_of(unsafe { (*pairs).name }), "b");
        let mut id = sv_str::ABSENT;
        assert_eq!((call!(session_change_id(of_x.raw(), &mut id)), text_of(id).as_str()), (SV_OK, "1"));
        let mut info = std::ptr::null();
        assert_eq!(call!(session_info(x.raw(), &mut info)), SV_OK);
        // SAFETY: the host's promise.
        let info = unsafe { &*info };
        assert_eq!(info.struct_size as usize, size_of::<sv_session_info>());
        assert_eq!((text_of(info.id).as_str(), text_of(info.requested_id).as_str()), ("1", "(absent)"));
        // Names and places that are none.
        for name in ["", "\u{0}".repeat((64 << 10) + 1).as_str()] {
            assert_eq!((get(of_x, name), set(of_x, name, Some(b"1"))), ((SV_E_ARG, None), SV_E_ARG));
        }
        assert_eq!(call!(session_attribute(of_x.raw(), b"\xff".as_ptr(), 1, &mut id)), SV_E_ARG);
        assert_eq!(call!(session_attribute(of_x.raw(), b"b".as_ptr(), 1, null_mut())), SV_E_ARG);
        assert_eq!(call!(session_attributes(of_x.raw(), null_mut(), &mut count)), SV_E_ARG);
        assert_eq!(call!(session_attributes(of_x.raw(), &mut pairs, null_mut())), SV_E_ARG);
        assert_eq!(call!(session_set_attribute(of_x.raw(), b"b".as_ptr(), 1, std::ptr::null(), 1)), SV_E_ARG);
        assert_eq!(call!(session_change_id(of_x.raw(), null_mut())), SV_E_ARG);
        assert_eq!(call!(session(x.raw(), 1, null_mut())), SV_E_ARG);
        // What went wrong with the session is told by its exchange.
        let mut text = sv_str::ABSENT;
        assert_eq!(get(of_x, "").0, SV_E_ARG);
        assert_eq!(call!(error_text(x.raw(), &mut text)), SV_OK);
        assert_eq!(text_of(text), "the name of an attribute is empty, or longer than 64 KiB");
        assert_eq!(call!(session_set_max_inactive(of_x.raw(), -1)), SV_OK);
    });
    let session = exchange.session.unwrap();
    assert_eq!((session.id, session.max_inactive, session.attributes.len()), (1, -1, 1));
}

#[test]
fn a_session_that_was_invalidated_is_over() {
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        let of_x = session(x, 1).1;
        assert_eq!(call!(session_invalidate(of_x.raw())), SV_OK);
        each_answers(of_x, SV_E_STATE);
    });
    assert!(exchange.session.unwrap().has_ended);
}

#[test]
fn handles_of_sessions_that_may_not_be_used() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let mut exchange = new();
    in_service(&mut exchange, move |x| {
        let of_x = session(x, 1).1;
        *keep.lock().unwrap() = Some(of_x);
        on_another_thread(move || each_answers(of_x, SV_E_THREAD));
        each_answers(Raw::of(x.raw().cast()), SV_E_STALE);
        each_answers(Raw::of(null_mut()), SV_E_ARG);
        each_answers(Raw::of(std::ptr::without_provenance_mut(usize::MAX)), SV_E_STALE);
        // And it is no exchange.
        assert_eq!(Raw::of(of_x.raw().cast::<sv_exchange>()).touch(), SV_E_STALE);
        assert_eq!(set(of_x, "a", Some(b"right")), SV_OK);
    });
    let of_x = kept.lock().unwrap().unwrap();
    each_answers(of_x, SV_E_STALE);
    let mut other = new();
    in_service(&mut other, move |x| {
        each_answers(of_x, SV_E_STALE);
        // Before there is one.
        let made_up: *mut sv_session = std::ptr::without_provenance_mut(x.raw().addr() ^ 2 << 21);
        each_answers(Raw::of(made_up), SV_E_STATE);
    });
    assert!(other.session.is_none());
    assert_eq!(exchange.session.unwrap().attributes, [("a".to_owned(), "right".into())]);
}

// ---------------------------------------------------------------------------------------------- save and restore

const MAX: usize = 16 << 20;

/// A library that saves so many bytes, told at each call, and how often it was asked.
fn saving(lens: impl Fn(usize, usize) -> usize + Send + Sync + 'static) -> (Puppet, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let puppet = puppet(Acts {
        save: Box::new(move |buffer, len| {
            *len = lens(count.fetch_add(1, Ordering::SeqCst), buffer.len());
            let copied = buffer.len().min(*len);
            buffer[..copied].fill(b's');
            SV_OK
        }),
        ..Acts::default()
    });
    (puppet, asked)
}

#[test]
fn what_is_saved_is_handed_over_up_to_16_mib() {
    for (len, calls) in [(1, 1), (64 << 10, 1), ((64 << 10) + 1, 2), (MAX, 2)] {
        let (puppet, asked) = saving(move |_, _| len);
        let saved = puppet.module.save().unwrap();
        assert_eq!((saved.len(), asked.load(Ordering::SeqCst)), (len, calls));
        assert!(saved.iter().all(|&byte| byte == b's'));
    }
    for len in [0, MAX + 1, usize::MAX] {
        assert_eq!(saving(move |_, _| len).0.module.save(), None, "{len}");
    }
    // Less at the second time.
    let (puppet, _) = saving(|time, _| if time == 0 { 1 << 20 } else { 3 });
    assert_eq!(puppet.module.save().unwrap(), b"sss");
    // Always a little more than there is room for.
    let (puppet, asked) = saving(|_, capacity| capacity + 1);
    assert_eq!(puppet.module.save(), None);
    assert!(asked.load(Ordering::SeqCst) < 20, "{asked:?}");
}

#[test]
fn what_cannot_be_saved_is_not_handed_over() {
    for status in [SV_NONE, SV_E_FAILED, SV_E_PANIC, SV_PENDING] {
        let puppet = puppet(Acts {
            save: Box::new(move |_, len| {
                *len = 5;
                status
            }),
            ..Acts::default()
        });
        assert_eq!(puppet.module.save(), None);
    }
}

#[test]
fn restore_gets_what_was_saved_and_may_refuse_it() {
    let (send, receive) = channel();
    let taking = puppet(Acts {
        restore: Box::new(move |bytes| {
            send.send(bytes.to_vec()).unwrap();
            if bytes == b"old" { SV_OK } else { SV_E_FAILED }
        }),
        ..Acts::default()
    });
    assert!(taking.module.restore(b"old").is_ok());
    let refusal = taking.module.restore(b"").unwrap_err().to_string();
    assert_eq!(refusal, "its restore refuses what the generation before has handed over: status -13, and no text");
    assert_eq!(receive.try_iter().collect::<Vec<_>>(), [b"old".to_vec(), Vec::new()]);
}
