//! A small host for tests of the SDK: a table whose handles are addresses of what is below. It does not check what a
//! server checks.

#![allow(dead_code, reason = "each test file uses a part")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use serval_abi::*;

unsafe extern "C" {
    fn servlet_module_v1() -> *const sv_module;
}

/// What was logged, and which panics were reported, by all contexts: tests look for their own lines.
pub static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[track_caller]
pub fn assert_logged(line: &str) {
    // A thread that was seen at its work may be about to log.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // Not held when this panics: that is logged too.
        let log = LOG.lock().unwrap().clone();
        if log.iter().any(|logged| logged.starts_with(line)) {
            return;
        }
        assert!(Instant::now() < deadline, "{line:?} is not in {log:?}");
        std::thread::yield_now();
    }
}

pub fn declared() -> &'static sv_module {
    // SAFETY: the library's own.
    unsafe { &*servlet_module_v1() }
}

pub fn text(view: sv_str) -> String {
    if view.ptr.is_null() {
        return String::new();
    }
    // SAFETY: a valid view.
    String::from_utf8(unsafe { std::slice::from_raw_parts(view.ptr, view.len) }.to_vec()).unwrap()
}

pub fn servlets() -> Vec<&'static sv_servlet> {
    let module = declared();
    // SAFETY: the module's own.
    let all = unsafe { std::slice::from_raw_parts(module.servlets, module.servlet_count) };
    // SAFETY: as above.
    all.iter().map(|servlet| unsafe { &**servlet }).collect()
}

/// A module that init started, until it is dropped.
pub struct Module(*mut c_void);

/// The test's context: its handle is a number, for it has no state.
const CONTEXT: *mut sv_context = std::ptr::without_provenance_mut(8);

impl Module {
    pub fn start() -> Result<Module, String> {
        let (mut module, mut error) = (null_mut(), sv_str::ABSENT);
        let init = declared().init.unwrap();
        // SAFETY: as servlet.h asks.
        match unsafe { init(&raw const TABLE, CONTEXT, &raw mut module, &raw mut error) } {
            SV_OK => Ok(Module(module)),
            status => Err(format!("{status}: {}", text(error))),
        }
    }

    pub fn servlet(&self, name: &str, init: &[(&'static str, &'static str)]) -> Result<Servlet, String> {
        let servlet = servlets().into_iter().find(|servlet| text(servlet.name) == name).expect("a declared servlet");
        // SAFETY: the declaration's own.
        let defaults = if servlet.init_count == 0 {
            &[][..]
        } else {
            unsafe { std::slice::from_raw_parts(servlet.init, servlet.init_count) }
        };
        let mut pairs: Vec<sv_pair> = init.iter().map(|(name, value)| pair(name, value)).collect();
        pairs.extend_from_slice(defaults);
        let config = Box::new(sv_config {
            struct_size: size_of::<sv_config>() as u32,
            reserved: 0,
            name: servlet.name,
            init: pairs.as_ptr(),
            init_count: pairs.len(),
        });
        let (mut instance, mut error) = (null_mut(), sv_str::ABSENT);
        let create = servlet.create.unwrap();
        // SAFETY: as servlet.h asks.
        match unsafe { create(CONTEXT, self.0, &raw const *config, &raw mut instance, &raw mut error) } {
            SV_OK => Ok(Servlet { servlet, instance, _config: config, _pairs: pairs }),
            status => Err(format!("{status}: {}", text(error))),
        }
    }
}

impl Module {
    /// What save hands over, asked for as a server does: first with no room, then with enough.
    pub fn save(&self) -> Result<Vec<u8>, sv_status> {
        let save = declared().save.expect("it is declared");
        let mut bytes = Vec::new();
        loop {
            let mut len = 0;
            // SAFETY: as servlet.h asks.
            match unsafe { save(self.0, bytes.as_mut_ptr(), bytes.len(), &raw mut len) } {
                SV_OK if len == bytes.len() => return Ok(bytes),
                SV_OK => bytes.resize(len, 0),
                status => return Err(status),
            }
        }
    }

    pub fn restore(&self, bytes: &[u8]) -> sv_status {
        // SAFETY: as servlet.h asks.
        unsafe { declared().restore.expect("it is declared")(self.0, bytes.as_ptr(), bytes.len()) }
    }

    /// Tells all listener functions that asked for that kind.
    /// The last status that is an error.
    pub fn event(&self, event: &sv_event) -> sv_status {
        let mut told = SV_OK;
        let module = declared();
        // SAFETY: the module's own.
        let all = unsafe { std::slice::from_raw_parts(module.listeners, module.listener_count) };
        for listener in all {
            // SAFETY: as above.
            let listener = unsafe { &**listener };
            if listener.kinds & event.kind != 0 {
                // SAFETY: as servlet.h asks.
                let status = unsafe { listener.on_event.unwrap()(self.0, event) };
                told = if status == SV_OK { told } else { status };
            }
        }
        told
    }

    pub fn filter(&self, name: &str, init: &[(&'static str, &'static str)]) -> Result<Filter, String> {
        let filter = filters().into_iter().find(|filter| text(filter.name) == name).expect("a declared filter");
        let pairs: Vec<sv_pair> = init.iter().map(|(name, value)| pair(name, value)).collect();
        let config = Box::new(sv_config {
            struct_size: size_of::<sv_config>() as u32,
            reserved: 0,
            name: filter.name,
            init: pairs.as_ptr(),
            init_count: pairs.len(),
        });
        let (mut instance, mut error) = (null_mut(), sv_str::ABSENT);
        let create = filter.create.unwrap();
        // SAFETY: as servlet.h asks.
        match unsafe { create(CONTEXT, self.0, &raw const *config, &raw mut instance, &raw mut error) } {
            SV_OK => Ok(Filter { filter, instance, _config: config, _pairs: pairs }),
            status => Err(format!("{status}: {}", text(error))),
        }
    }
}

pub fn filters() -> Vec<&'static sv_filter> {
    let module = declared();
    // SAFETY: the module's own.
    let all = unsafe { std::slice::from_raw_parts(module.filters, module.filter_count) };
    // SAFETY: as above.
    all.iter().map(|filter| unsafe { &**filter }).collect()
}

/// An instance of a filter. Its functions are called with the test's thread as the owner of the exchange.
pub struct Filter {
    filter: &'static sv_filter,
    instance: *mut c_void,
    _config: Box<sv_config>,
    _pairs: Vec<sv_pair>,
}

impl Filter {
    pub fn request(&self, exchange: &mut Exchange) -> (sv_status, *mut c_void) {
        let mut state = null_mut();
        let hook = self.filter.on_request.unwrap();
        // SAFETY: as servlet.h asks; so below.
        let status = exchange.owned(|handle| unsafe { hook(self.instance, handle, &raw mut state) });
        (status, state)
    }

    pub fn response(&self, exchange: &mut Exchange, state: *mut c_void) -> sv_status {
        let hook = self.filter.on_response.unwrap();
        exchange.owned(|handle| unsafe { hook(self.instance, handle, state) })
    }

    pub fn body(&self, exchange: &mut Exchange, state: *mut c_void, bytes: &[u8], last: bool) -> sv_status {
        let hook = self.filter.on_body.unwrap();
        exchange.owned(|handle| unsafe { hook(self.instance, handle, state, bytes.as_ptr(), bytes.len(), last.into()) })
    }

    pub fn end(&self, exchange: &mut Exchange, state: *mut c_void, result: sv_status) {
        let hook = self.filter.on_end.unwrap();
        exchange.owned(|handle| unsafe { hook(self.instance, handle, state, result) });
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: made by create, and its last use.
        unsafe { self.filter.destroy.unwrap()(self.instance) };
    }
}

/// How many wakers the library holds.
pub static WAKERS: AtomicUsize = AtomicUsize::new(0);

/// What the wakers of an exchange ring.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<u32>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Tells whether it was rung, and forgets it.
    pub fn take(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().unwrap()) > 0
    }

    #[track_caller]
    pub fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let (mut rung, late) =
            self.changed.wait_timeout_while(rung, Duration::from_secs(10), |rung| *rung == 0).unwrap();
        assert!(!late.timed_out(), "nothing has woken the task");
        *rung = 0;
    }
}

/// A task, or the status of a servlet that needed none.
pub struct Task<'a> {
    servlet: &'a Servlet,
    pub status: sv_status,
    task: *mut c_void,
}

impl Task<'_> {
    pub fn poll(&mut self, exchange: &mut Exchange) -> sv_status {
        assert_eq!(self.status, SV_PENDING);
        let poll = self.servlet.servlet.poll.unwrap();
        exchange.polled = true;
        // SAFETY: as servlet.h asks.
        self.status = exchange.owned(|handle| unsafe { poll(self.task, handle) });
        self.status
    }

    /// Polls whenever it is woken, to the end, and returns what a client would see.
    #[track_caller]
    pub fn finish(mut self, exchange: &mut Exchange) -> String {
        while self.status == SV_PENDING {
            if !std::mem::take(&mut exchange.blocked) {
                Arc::clone(&exchange.bell).wait();
            }
            exchange.give_way();
            self.poll(exchange);
        }
        let status = self.status;
        drop(self);
        exchange.outcome(status)
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.task.is_null() {
            // SAFETY: once, and last.
            unsafe { self.servlet.servlet.drop.unwrap()(self.task) };
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: started by init, and last of all.
        unsafe { declared().destroy.unwrap()(self.0) };
    }
}

pub struct Servlet {
    servlet: &'static sv_servlet,
    instance: *mut c_void,
    _config: Box<sv_config>,
    _pairs: Vec<sv_pair>,
}

impl Servlet {
    /// Calls service, and returns what a client would see with the status that service returned, if it is not SV_OK.
    #[track_caller]
    pub fn call(&self, exchange: &mut Exchange) -> String {
        self.begin(exchange).finish(exchange)
    }

    /// Calls service.
    pub fn begin(&self, exchange: &mut Exchange) -> Task<'_> {
        let mut task = null_mut();
        let service = self.servlet.service.unwrap();
        // SAFETY: as servlet.h asks.
        let status = exchange.owned(|handle| unsafe { service(self.instance, handle, &raw mut task) });
        assert_eq!(status == SV_PENDING, !task.is_null());
        Task { servlet: self, status, task }
    }
}

impl Drop for Servlet {
    fn drop(&mut self) {
        // SAFETY: made by create, and its last use.
        unsafe { self.servlet.destroy.unwrap()(self.instance) };
    }
}

fn pair(name: &'static str, value: &'static str) -> sv_pair {
    sv_pair { name: sv_str::new(name), value: sv_str::new(value) }
}

#[derive(Default)]
pub struct Seen {
    pub status: u32,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub committed: bool,
    pub failed: Option<String>,
    pub responds: u32,
    pub released: bool,
}

pub struct Exchange {
    head: sv_request,
    _headers: Vec<sv_pair>,
    pub params: Vec<(&'static str, &'static str)>,
    pub body: &'static str,
    owner: Option<ThreadId>,
    pub seen: RefCell<Seen>,
    pub bell: Arc<Bell>,
    polled: bool,
    /// How many bytes of the body have come; the rest is on its way.
    pub arrived: usize,
    /// How many bytes the client takes until it has to be waited for.
    pub room: usize,
    /// How many more come, and are taken, each time that the task has waited for it.
    pub step: usize,
    /// A call has answered SV_WOULD_BLOCK.
    pub blocked: bool,
    pub retiring: bool,
    pub cancelled: bool,
    pub timeout: Option<u64>,
    /// How many times it had to wait for the client.
    pub waits: usize,
}

impl Exchange {
    pub fn get(path_info: &'static str) -> Exchange {
        let headers = vec![pair("host", "localhost"), pair("user-agent", "test/1")];
        Exchange {
            head: sv_request {
                struct_size: size_of::<sv_request>() as u32,
                method: SV_GET,
                method_name: sv_str::new("GET"),
                http_version: 11,
                dispatch: SV_DISPATCH_REQUEST,
                scheme: sv_str::new("http"),
                server_name: sv_str::new("localhost"),
                server_port: 8080,
                secure: 0,
                target: sv_str::new("/x"),
                request_uri: sv_str::new("/x"),
                query: sv_str::ABSENT,
                context_path: sv_str::new("/app"),
                servlet_path: sv_str::new("/x"),
                path_info: if path_info.is_empty() { sv_str::ABSENT } else { sv_str::new(path_info) },
                match_kind: SV_MATCH_PATH,
                reserved: 0,
                match_pattern: sv_str::new("/x/*"),
                match_value: sv_str::ABSENT,
                servlet_name: sv_str::new("x"),
                headers: headers.as_ptr(),
                header_count: headers.len(),
                content_length: -1,
                content_type: sv_str::ABSENT,
                charset: sv_str::ABSENT,
                remote_addr: sv_str::new("127.0.0.1"),
                local_addr: sv_str::new("127.0.0.1"),
                remote_port: 50_000,
                local_port: 8080,
                id: 7,
                connection_id: 3,
            },
            _headers: headers,
            params: Vec::new(),
            body: "",
            owner: None,
            seen: RefCell::new(Seen { status: 200, ..Seen::default() }),
            bell: Arc::default(),
            polled: false,
            arrived: usize::MAX,
            room: usize::MAX,
            step: 0,
            blocked: false,
            retiring: false,
            cancelled: false,
            timeout: None,
            waits: 0,
        }
    }

    /// A client that sends and takes so many bytes at a time.
    pub fn slow(body: &'static str, step: usize) -> Exchange {
        Exchange { body, arrived: 0, room: 0, step, ..Exchange::get("") }
    }

    pub fn owned<T>(&mut self, call: impl FnOnce(*mut sv_exchange) -> T) -> T {
        self.owner = Some(std::thread::current().id());
        let handle: *mut Exchange = self;
        let done = call(handle.cast());
        self.owner = None;
        done
    }

    /// The client goes on.
    pub fn give_way(&mut self) {
        self.arrived = self.arrived.saturating_add(self.step);
        self.room = self.room.saturating_add(self.step);
    }

    fn would_block(&mut self) -> sv_status {
        self.blocked = true;
        self.waits += 1;
        SV_WOULD_BLOCK
    }

    /// What a client would see, with the status that the servlet returned, if it is not SV_OK.
    pub fn outcome(&self, status: sv_status) -> String {
        let seen = self.seen.borrow();
        let mut lines = vec![seen.status.to_string()];
        lines.extend(seen.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push(String::from_utf8_lossy(&seen.body).into_owned());
        if status != SV_OK {
            lines.push(format!("returned {status}"));
        }
        lines.extend(seen.failed.clone());
        lines.join("\n")
    }
}

/// The exchange, if this is its thread.
fn owned<'a>(handle: *mut sv_exchange) -> Result<&'a mut Exchange, sv_status> {
    // SAFETY: handles here are addresses.
    let exchange = unsafe { &mut *handle.cast::<Exchange>() };
    if exchange.owner == Some(std::thread::current().id()) { Ok(exchange) } else { Err(SV_E_THREAD) }
}

macro_rules! owned {
    ($handle:expr) => {
        match owned($handle) {
            Ok(exchange) => exchange,
            Err(status) => return status,
        }
    };
}

fn bytes<'a>(ptr: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the SDK's promise.
    if ptr.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(ptr, len) } }
}

fn string(ptr: *const u8, len: usize) -> String {
    String::from_utf8(bytes(ptr, len).to_vec()).unwrap()
}

unsafe extern "C" fn log_enabled(_: *mut sv_context, level: i32) -> i32 {
    i32::from(level <= SV_LOG_INFO)
}

unsafe extern "C" fn log_message(
    _: *mut sv_context,
    ex: *mut sv_exchange,
    level: i32,
    ptr: *const u8,
    len: usize,
) -> sv_status {
    let of = if ex.is_null() { "" } else { " 7" };
    LOG.lock().unwrap().push(format!("{level}{of} {}", string(ptr, len)));
    SV_OK
}

unsafe extern "C" fn report_panic(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    file: *const u8,
    file_len: usize,
    line: u32,
) -> sv_status {
    let (text, file) = (string(ptr, len), string(file, file_len));
    eprintln!("panic: {text} ({file}:{line})");
    LOG.lock().unwrap().push(format!("panic of {}: {text} ({file}", context.addr()));
    SV_OK
}

unsafe extern "C" fn request(exchange: *mut sv_exchange) -> *const sv_request {
    owned(exchange).map_or(null(), |exchange| &raw const exchange.head)
}

unsafe extern "C" fn parameter(
    ex: *mut sv_exchange,
    name: *const u8,
    len: usize,
    _: u32,
    out: *mut sv_str,
) -> sv_status {
    let exchange = owned!(ex);
    let name = string(name, len);
    if name == "too-long" {
        return SV_E_LIMIT;
    }
    if exchange.polled && exchange.arrived < exchange.body.len() {
        return exchange.would_block();
    }
    match exchange.params.iter().find(|(found, _)| *found == name) {
        // SAFETY: the SDK's promise.
        Some((_, value)) => unsafe { out.write(sv_str::new(value)) },
        None => return SV_NONE,
    }
    SV_OK
}

impl Exchange {
    /// So much of the body, at most, as has come. In service, where a server would wait, all has.
    fn take_body(&mut self, most: usize) -> Result<&'static str, sv_status> {
        let most = if self.polled { most.min(self.arrived) } else { most };
        if most == 0 && !self.body.is_empty() {
            return Err(self.would_block());
        }
        let (chunk, rest) = self.body.split_at(self.body.len().min(most));
        self.body = rest;
        self.arrived = self.arrived.saturating_sub(chunk.len());
        Ok(chunk)
    }
}

unsafe extern "C" fn read_chunk(ex: *mut sv_exchange, out: *mut sv_str) -> sv_status {
    let chunk = match owned!(ex).take_body(4) {
        Ok(chunk) => chunk,
        Err(status) => return status,
    };
    // SAFETY: the SDK's promise.
    unsafe { out.write(sv_str::new(chunk)) };
    if chunk.is_empty() { SV_END } else { SV_OK }
}

unsafe extern "C" fn read(ex: *mut sv_exchange, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status {
    let exchange = owned!(ex);
    if exchange.body.starts_with("endless") {
        return SV_E_LIMIT;
    }
    let chunk = match exchange.take_body(capacity) {
        Ok(chunk) => chunk,
        Err(status) => return status,
    };
    // SAFETY: the SDK's promise.
    unsafe { buffer.copy_from_nonoverlapping(chunk.as_ptr(), chunk.len()) };
    // SAFETY: as above.
    unsafe { len.write(chunk.len()) };
    if chunk.is_empty() { SV_END } else { SV_OK }
}

unsafe extern "C" fn read_all(ex: *mut sv_exchange, bytes_max: usize, out: *mut sv_str) -> sv_status {
    let exchange = owned!(ex);
    if exchange.body.len() > bytes_max {
        return SV_E_LIMIT;
    }
    if exchange.polled && exchange.arrived < exchange.body.len() {
        return exchange.would_block();
    }
    // SAFETY: the SDK's promise.
    unsafe { out.write(sv_str::new(exchange.body)) };
    SV_OK
}

unsafe extern "C" fn respond(ex: *mut sv_exchange, response: *const sv_response) -> sv_status {
    let exchange = owned!(ex);
    // SAFETY: the SDK's promise.
    let response = unsafe { &*response };
    let mut seen = exchange.seen.borrow_mut();
    if seen.committed {
        return SV_E_STATE;
    }
    for index in 0..response.header_count {
        // SAFETY: the SDK's promise.
        let header = unsafe { &*response.headers.add(index) };
        seen.headers.push((text(header.name), text(header.value)));
    }
    seen.status = response.status;
    seen.body = bytes(response.body, response.body_len).to_vec();
    seen.committed = true;
    seen.responds += 1;
    if let Some(release) = response.release {
        // SAFETY: once.
        unsafe { release(response.release_arg) };
        seen.released = true;
    }
    SV_OK
}

unsafe extern "C" fn response_status(ex: *mut sv_exchange, status: *mut u32) -> sv_status {
    let seen = owned!(ex).seen.borrow();
    // SAFETY: the SDK's promise.
    unsafe { status.write(seen.status) };
    SV_OK
}

unsafe extern "C" fn set_status(ex: *mut sv_exchange, status: u32) -> sv_status {
    let mut seen = owned!(ex).seen.borrow_mut();
    if seen.committed {
        return SV_E_STATE;
    }
    seen.status = status;
    SV_OK
}

unsafe extern "C" fn set_header(
    ex: *mut sv_exchange,
    _: i32,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    owned!(ex).seen.borrow_mut().headers.push((string(name, len), string(value, value_len)));
    SV_OK
}

unsafe extern "C" fn set_content_type(ex: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    owned!(ex).seen.borrow_mut().headers.push(("content-type".to_owned(), string(ptr, len)));
    SV_OK
}

unsafe extern "C" fn set_cookie(ex: *mut sv_exchange, cookie: *const sv_cookie) -> sv_status {
    // SAFETY: the SDK's promise.
    let cookie = unsafe { &*cookie };
    // SAFETY: as above.
    let site = unsafe { &*cookie.attributes };
    let value = format!(
        "{}={}; {}; {}; {}={} ({})",
        text(cookie.name),
        text(cookie.value),
        cookie.max_age,
        text(cookie.path),
        text(site.name),
        text(site.value),
        cookie.flags
    );
    owned!(ex).seen.borrow_mut().headers.push(("set-cookie".to_owned(), value));
    SV_OK
}

unsafe extern "C" fn write(ex: *mut sv_exchange, ptr: *const u8, len: usize, taken: *mut usize) -> sv_status {
    let exchange = owned!(ex);
    if exchange.cancelled {
        return SV_E_CLOSED;
    }
    let take = if exchange.polled { len.min(exchange.room) } else { len };
    if take == 0 && len > 0 {
        return exchange.would_block();
    }
    exchange.room -= if exchange.polled { take } else { 0 };
    exchange.seen.borrow_mut().body.extend_from_slice(bytes(ptr, take));
    if !taken.is_null() {
        // SAFETY: the SDK's promise.
        unsafe { taken.write(take) };
    }
    SV_OK
}

unsafe extern "C" fn write_owned(
    ex: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    owned: *mut c_void,
) -> sv_status {
    let exchange = owned!(ex);
    if exchange.polled && exchange.room == 0 {
        return exchange.would_block();
    }
    let mut seen = exchange.seen.borrow_mut();
    seen.body.extend_from_slice(bytes(ptr, len));
    seen.released = true;
    // SAFETY: once.
    unsafe { release.unwrap()(owned) };
    SV_OK
}

unsafe extern "C" fn flush(ex: *mut sv_exchange) -> sv_status {
    let exchange = owned!(ex);
    if exchange.cancelled {
        return SV_E_CLOSED;
    }
    exchange.seen.borrow_mut().committed = true;
    SV_OK
}

unsafe extern "C" fn cancelled(ex: *mut sv_exchange) -> i32 {
    owned!(ex).cancelled.into()
}

unsafe extern "C" fn retiring(ex: *mut sv_exchange) -> i32 {
    owned!(ex).retiring.into()
}

unsafe extern "C" fn set_timeout(ex: *mut sv_exchange, milliseconds: u64) -> sv_status {
    owned!(ex).timeout = Some(milliseconds);
    SV_OK
}

unsafe extern "C" fn waker(ex: *mut sv_exchange) -> *mut sv_waker {
    owned(ex).map_or(null_mut(), |exchange| {
        WAKERS.fetch_add(1, Ordering::SeqCst);
        Arc::into_raw(Arc::clone(&exchange.bell)).cast_mut().cast()
    })
}

unsafe extern "C" fn waker_clone(waker: *mut sv_waker) -> *mut sv_waker {
    WAKERS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: made by `waker`, and not given back yet.
    unsafe { Arc::increment_strong_count(waker.cast::<Bell>()) };
    waker
}

unsafe extern "C" fn waker_wake(waker: *mut sv_waker, consume: i32) {
    // SAFETY: as above.
    unsafe { &*waker.cast::<Bell>() }.ring();
    if consume == 1 {
        // SAFETY: as above.
        unsafe { waker_drop(waker) };
    }
}

unsafe extern "C" fn waker_drop(waker: *mut sv_waker) {
    WAKERS.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: as above, and it is given back now.
    drop(unsafe { Arc::from_raw(waker.cast::<Bell>()) });
}

unsafe extern "C" fn context_timer(_: *mut sv_context, milliseconds: u64, waker: *mut sv_waker) -> sv_status {
    let (due, waker) = (Instant::now() + Duration::from_millis(milliseconds), waker.expose_provenance());
    std::thread::spawn(move || {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // SAFETY: it was given to the timer.
        unsafe { waker_wake(std::ptr::with_exposed_provenance_mut(waker), 1) };
    });
    SV_OK
}

unsafe extern "C" fn parameters(ex: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    let exchange = owned!(ex);
    if exchange.polled && exchange.arrived < exchange.body.len() {
        return exchange.would_block();
    }
    // SAFETY: the SDK's promise.
    unsafe { (out.write(null()), count.write(0)) };
    SV_OK
}

unsafe extern "C" fn path_parameter(ex: *mut sv_exchange, name: *const u8, len: usize, out: *mut sv_str) -> sv_status {
    // SAFETY: as of `parameter`.
    unsafe { parameter(ex, name, len, 0, out) }
}

unsafe extern "C" fn response_header(
    ex: *mut sv_exchange,
    name: *const u8,
    len: usize,
    _: u32,
    out: *mut sv_str,
) -> sv_status {
    let (seen, name) = (owned!(ex).seen.borrow(), string(name, len));
    match seen.headers.iter().find(|(found, _)| *found == name) {
        // SAFETY: the SDK's promise; the test does not change them meanwhile.
        Some((_, value)) => unsafe { out.write(sv_str::new(value)) },
        None => return SV_NONE,
    }
    SV_OK
}

unsafe extern "C" fn session_attribute(_: *mut sv_session, name: *const u8, len: usize, out: *mut sv_str) -> sv_status {
    if string(name, len) != "user" {
        return SV_NONE;
    }
    // SAFETY: the SDK's promise.
    unsafe { out.write(sv_str::new("Ada")) };
    SV_OK
}

unsafe extern "C" fn reset_buffer(ex: *mut sv_exchange) -> sv_status {
    owned!(ex).seen.borrow_mut().body.clear();
    SV_OK
}

unsafe extern "C" fn send_error(ex: *mut sv_exchange, status: u32, ptr: *const u8, len: usize) -> sv_status {
    let mut seen = owned!(ex).seen.borrow_mut();
    if seen.committed {
        return SV_E_STATE;
    }
    seen.status = status;
    seen.body = format!("page: {}", string(ptr, len)).into_bytes();
    SV_OK
}

unsafe extern "C" fn redirect(ex: *mut sv_exchange, status: u32, ptr: *const u8, len: usize) -> sv_status {
    let mut seen = owned!(ex).seen.borrow_mut();
    seen.status = status;
    seen.headers.push(("location".to_owned(), string(ptr, len)));
    SV_OK
}

unsafe extern "C" fn committed(ex: *mut sv_exchange) -> i32 {
    owned!(ex).seen.borrow().committed.into()
}

unsafe extern "C" fn error_text(_: *mut sv_exchange, text: *mut sv_str) -> sv_status {
    // SAFETY: a place of the caller's.
    unsafe { text.write(sv_str::ABSENT) };
    SV_OK
}

unsafe extern "C" fn fail(
    ex: *mut sv_exchange,
    kind: *const u8,
    kind_len: usize,
    ptr: *const u8,
    len: usize,
) -> sv_status {
    owned!(ex).seen.borrow_mut().failed = Some(format!("failed {}: {}", string(kind, kind_len), string(ptr, len)));
    SV_OK
}

unsafe extern "C" fn context_parameter(_: *mut sv_context, name: *const u8, len: usize, out: *mut sv_str) -> sv_status {
    if string(name, len) != "currency" {
        return SV_NONE;
    }
    // SAFETY: the SDK's promise.
    unsafe { out.write(sv_str::new("EUR")) };
    SV_OK
}

unsafe extern "C" fn context_attribute(
    _: *mut sv_context,
    _: *const u8,
    _: usize,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    let value = [b'x'; 1000];
    // SAFETY: the SDK's promise.
    unsafe { buffer.copy_from_nonoverlapping(value.as_ptr(), capacity.min(1000)) };
    // SAFETY: as above.
    unsafe { len.write(1000) };
    SV_OK
}

static TABLE: sv_host = {
    // SAFETY: numbers, NULL pointers, and no functions.
    let mut table: sv_host = unsafe { std::mem::zeroed() };
    table.struct_size = size_of::<sv_host>() as u32;
    table.abi_major = SV_ABI_MAJOR;
    table.abi_minor = SV_ABI_MINOR;
    table.log_enabled = Some(log_enabled);
    table.log_message = Some(log_message);
    table.report_panic = Some(report_panic);
    table.request = Some(request);
    table.parameter = Some(parameter);
    table.read = Some(read);
    table.read_chunk = Some(read_chunk);
    table.read_all = Some(read_all);
    table.respond = Some(respond);
    table.response_status = Some(response_status);
    table.set_status = Some(set_status);
    table.set_header = Some(set_header);
    table.set_content_type = Some(set_content_type);
    table.set_cookie = Some(set_cookie);
    table.write = Some(write);
    table.flush = Some(flush);
    table.send_error = Some(send_error);
    table.committed = Some(committed);
    table.redirect = Some(redirect);
    table.error_text = Some(error_text);
    table.fail = Some(fail);
    table.reset_buffer = Some(reset_buffer);
    table.write_owned = Some(write_owned);
    table.cancelled = Some(cancelled);
    table.retiring = Some(retiring);
    table.set_timeout = Some(set_timeout);
    table.waker = Some(waker);
    table.waker_clone = Some(waker_clone);
    table.waker_wake = Some(waker_wake);
    table.waker_drop = Some(waker_drop);
    table.context_timer = Some(context_timer);
    table.parameters = Some(parameters);
    table.path_parameter = Some(path_parameter);
    table.response_header = Some(response_header);
    table.session_attribute = Some(session_attribute);
    table.context_parameter = Some(context_parameter);
    table.context_attribute = Some(context_attribute);
    table
};
