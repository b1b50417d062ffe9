//! What `servlet::test` offers beyond the SDK of today: a library that calls the table itself, as one in C does.

use std::ffi::c_void;
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use serval_abi::*;
use servlet::test::App;

static HOST: AtomicPtr<sv_host> = AtomicPtr::new(null_mut());

/// Calls a function of the table.
macro_rules! host {
    ($function:ident($($argument:expr),*)) => {
        // SAFETY: the table lives as long as the process, and has all functions; arguments live for the call.
        unsafe { (*HOST.load(Ordering::Acquire)).$function.unwrap()($($argument),*) }
    };
}

fn write(exchange: *mut sv_exchange, text: &str) -> sv_status {
    host!(write(exchange, text.as_ptr(), text.len(), null_mut()))
}

fn dispatch(exchange: *mut sv_exchange, how: i32, target: &str) -> sv_status {
    host!(dispatch(exchange, how, target.as_ptr(), target.len()))
}

fn parameter(exchange: *mut sv_exchange, name: &str) -> String {
    let mut value = sv_str::ABSENT;
    match host!(parameter(exchange, name.as_ptr(), name.len(), 0, &raw mut value)) {
        // SAFETY: it lives as long as the exchange.
        SV_OK => String::from_utf8(unsafe { std::slice::from_raw_parts(value.ptr, value.len) }.to_vec()).unwrap(),
        status => status.to_string(),
    }
}

unsafe extern "C" fn init(host: *const sv_host, _: *mut sv_context, _: *mut *mut c_void, _: *mut sv_str) -> sv_status {
    HOST.store(host.cast_mut(), Ordering::Release);
    SV_OK
}

unsafe extern "C" fn target(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    let head = host!(request(exchange));
    // SAFETY: it lives as long as the exchange.
    let kind = unsafe { (*head).dispatch };
    host!(set_status(exchange, 201));
    write(exchange, &format!("[{kind} {} {}]", parameter(exchange, "a"), parameter(exchange, "b")))
}

unsafe extern "C" fn forward(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    write(exchange, "dropped");
    assert_eq!(dispatch(exchange, SV_FORWARD, "target?b=2"), SV_OK);
    assert_eq!(write(exchange, "too late"), SV_E_STATE);
    SV_OK
}

unsafe extern "C" fn include(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    write(exchange, "before ");
    assert_eq!(dispatch(exchange, SV_INCLUDE, "/target?b=3"), SV_OK);
    assert_eq!(dispatch(exchange, SV_INCLUDE | SV_BY_NAME, "target"), SV_OK);
    assert_eq!(dispatch(exchange, SV_INCLUDE | SV_BY_NAME, "nobody"), SV_NONE);
    assert_eq!(dispatch(exchange, SV_FORWARD, "../outside"), SV_NONE);
    assert_eq!(dispatch(exchange, SV_INCLUDE, "/missing"), SV_E_FAILED);
    write(exchange, " after")
}

unsafe extern "C" fn endless(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    dispatch(exchange, SV_FORWARD, "/endless")
}

unsafe extern "C" fn detach(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    assert_eq!(host!(detach(exchange, None, null_mut())), SV_OK);
    let handle = exchange.addr();
    std::thread::spawn(move || {
        let exchange = without_provenance_mut(handle);
        write(exchange, "from elsewhere");
        assert_eq!(host!(complete(exchange, SV_OK)), SV_OK);
    });
    SV_PENDING
}

unsafe extern "C" fn again(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    assert_eq!(host!(detach(exchange, None, null_mut())), SV_OK);
    let path = "/target?b=4";
    assert_eq!(host!(async_dispatch(exchange, path.as_ptr(), path.len())), SV_OK);
    SV_PENDING
}

unsafe extern "C" fn wrong(_: *mut c_void, exchange: *mut sv_exchange, _: *mut *mut c_void) -> sv_status {
    let handle = exchange.addr();
    let elsewhere = std::thread::spawn(move || write(without_provenance_mut(handle), "x"));
    assert_eq!(elsewhere.join().unwrap(), SV_E_THREAD);
    assert_eq!(write(null_mut(), "x"), SV_E_STALE);
    assert_eq!(host!(request(without_provenance_mut(1_000_000_000))), null());
    let name = "bad name";
    let set = host!(set_header(exchange, SV_HEADER_SET, name.as_ptr(), name.len(), name.as_ptr(), name.len()));
    assert_eq!(set, SV_E_ARG);
    assert!(host!(alloc(exchange, 10, 64)).addr() % 64 == 0 && host!(alloc(exchange, 10, 3)).is_null());
    write(exchange, "fine")
}

/// A servlet with one pattern: its name with a slash.
fn servlet(
    pattern: &'static str,
    service: unsafe extern "C" fn(*mut c_void, *mut sv_exchange, *mut *mut c_void) -> sv_status,
) -> *const sv_servlet {
    let patterns: &'static [sv_str] = vec![sv_str::new(pattern)].leak();
    Box::leak(Box::new(sv_servlet {
        struct_size: size_of::<sv_servlet>() as u32,
        flags: 0,
        flags_required: 0,
        methods: 0,
        name: sv_str::new(&pattern[1..]),
        patterns: patterns.as_ptr(),
        pattern_count: 1,
        init: null(),
        init_count: 0,
        load_order: -1,
        reserved: 0,
        create: None,
        destroy: None,
        service: Some(service),
        poll: None,
        drop: None,
        last_modified: None,
    }))
}

fn app() -> App {
    let servlets: &'static [*const sv_servlet] = vec![
        servlet("/target", target),
        servlet("/forward", forward),
        servlet("/include", include),
        servlet("/endless", endless),
        servlet("/detach", detach),
        servlet("/again", again),
        servlet("/wrong", wrong),
    ]
    .leak();
    let module: &'static sv_module = Box::leak(Box::new(sv_module {
        magic: SV_MAGIC,
        struct_size: size_of::<sv_module>() as u32,
        abi_major: SV_ABI_MAJOR,
        abi_minor: SV_ABI_MINOR,
        need_minor: 0,
        reserved: 0,
        flags: 0,
        flags_required: 0,
        name: sv_str::new("raw"),
        version: sv_str::new("1"),
        built_with: sv_str::new("hand"),
        init: Some(init),
        destroy: None,
        save: None,
        restore: None,
        servlets: servlets.as_ptr(),
        servlet_count: servlets.len(),
        filters: null(),
        filter_count: 0,
        listeners: null(),
        listener_count: 0,
        extension: None,
    }));
    // SAFETY: constant, and never freed.
    unsafe { App::of(module, App::setup()) }.unwrap()
}

#[test]
fn dispatches_go_to_other_servlets() {
    let app = app();
    app.get("/forward?a=1").send().assert_status(201).assert_text("[2 1 2]");
    app.get("/include?a=1").send().assert_status(200).assert_text("before [4 1 3][4 1 4] after");
    app.get("/endless").send().assert_status(413);
}

#[test]
fn a_detached_exchange_is_completed_elsewhere() {
    let app = app();
    app.get("/detach").send().assert_status(200).assert_text("from elsewhere");
    app.get("/again?a=1").send().assert_text("[16 1 4]");
}

#[test]
fn wrong_use_gets_a_status() {
    app().get("/wrong").send().assert_text("fine");
}
