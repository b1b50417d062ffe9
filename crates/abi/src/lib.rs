//! The Rust mirror of `include/servlet.h`, which is the manual: what each member means stands there.
//!
//! Layouts only, written by hand, and held to the header by `tests/layout.rs`. `char` is `u8` here. Nothing here is
//! safe to use on its own; servlet authors use the crate `servlet`, and the host's side is the crate `serval-loader`.
#![no_std]
#![allow(non_camel_case_types)]

use core::ffi::c_void;
use core::marker::{PhantomData, PhantomPinned};

/// The text of `servlet.h`.
pub const HEADER: &str = include_str!("../include/servlet.h");

/// The name of the one export, for `dlsym`.
pub const ENTRY: &core::ffi::CStr = c"servlet_module_v1";

/// Sizes in 1.0 of the structs that say their own: nothing shorter exists.
pub const SV_HOST_SIZE_1_0: usize = 672;
pub const SV_MODULE_SIZE_1_0: usize = 160;
pub const SV_SERVLET_SIZE_1_0: usize = 120;
pub const SV_FILTER_SIZE_1_0: usize = 136;
pub const SV_LISTENER_SIZE_1_0: usize = 24;
pub const SV_RESPONSE_SIZE_1_0: usize = 64;
pub const SV_COOKIE_SIZE_1_0: usize = 96;

pub type sv_status = i32;

/// The one export: [`ENTRY`].
pub type sv_module_fn = unsafe extern "C" fn() -> *const sv_module;

pub const SV_ABI_MAJOR: u16 = 1;
pub const SV_ABI_MINOR: u16 = 0;
pub const SV_MAGIC: u32 = 0x314C_5653;
pub const SV_OK: sv_status = 0;
pub const SV_PENDING: sv_status = 1;
pub const SV_WOULD_BLOCK: sv_status = 2;
pub const SV_END: sv_status = 3;
pub const SV_NONE: sv_status = 4;
pub const SV_NEXT: sv_status = 5;
pub const SV_E_ARG: sv_status = -1;
pub const SV_E_STATE: sv_status = -2;
pub const SV_E_THREAD: sv_status = -3;
pub const SV_E_STALE: sv_status = -4;
pub const SV_E_NOMEM: sv_status = -5;
pub const SV_E_LIMIT: sv_status = -6;
pub const SV_E_CLOSED: sv_status = -7;
pub const SV_E_TIMEOUT: sv_status = -8;
pub const SV_E_CANCELLED: sv_status = -9;
pub const SV_E_UNSUPPORTED: sv_status = -10;
pub const SV_E_IO: sv_status = -11;
pub const SV_E_PANIC: sv_status = -12;
pub const SV_E_FAILED: sv_status = -13;
pub const SV_E_REQUEST: sv_status = -14;
pub const SV_E_BUSY: sv_status = -15;
pub const SV_E_INTERNAL: sv_status = -100;
pub const SV_GET: u32 = 0x001;
pub const SV_HEAD: u32 = 0x002;
pub const SV_POST: u32 = 0x004;
pub const SV_PUT: u32 = 0x008;
pub const SV_DELETE: u32 = 0x010;
pub const SV_PATCH: u32 = 0x020;
pub const SV_OPTIONS: u32 = 0x040;
pub const SV_TRACE: u32 = 0x080;
pub const SV_CONNECT: u32 = 0x100;
pub const SV_METHOD_OTHER: u32 = 0x8000_0000;
pub const SV_DISPATCH_REQUEST: u32 = 0x01;
pub const SV_DISPATCH_FORWARD: u32 = 0x02;
pub const SV_DISPATCH_INCLUDE: u32 = 0x04;
pub const SV_DISPATCH_ERROR: u32 = 0x08;
pub const SV_DISPATCH_ASYNC: u32 = 0x10;
pub const SV_MATCH_CONTEXT_ROOT: i32 = 1;
pub const SV_MATCH_DEFAULT: i32 = 2;
pub const SV_MATCH_EXACT: i32 = 3;
pub const SV_MATCH_EXTENSION: i32 = 4;
pub const SV_MATCH_PATH: i32 = 5;
pub const SV_MATCH_TEMPLATE: i32 = 6;
pub const SV_HEADER_SET: i32 = 0;
pub const SV_HEADER_ADD: i32 = 1;
pub const SV_HEADER_REMOVE: i32 = 2;
pub const SV_BODY_COPY: u32 = 0;
pub const SV_BODY_STATIC: u32 = 1;
pub const SV_BODY_OWNED: u32 = 2;
pub const SV_COOKIE_SECURE: u32 = 0x1;
pub const SV_COOKIE_HTTP_ONLY: u32 = 0x2;
pub const SV_COOKIE_MAX_AGE: u32 = 0x4;
pub const SV_EVENT_CONTEXT_INITIALIZED: u32 = 0x0001;
pub const SV_EVENT_CONTEXT_DESTROYED: u32 = 0x0002;
pub const SV_EVENT_REQUEST_INITIALIZED: u32 = 0x0004;
pub const SV_EVENT_REQUEST_DESTROYED: u32 = 0x0008;
pub const SV_EVENT_SESSION_CREATED: u32 = 0x0010;
pub const SV_EVENT_SESSION_DESTROYED: u32 = 0x0020;
pub const SV_EVENT_SESSION_ID_CHANGED: u32 = 0x0040;
pub const SV_EVENT_CONTEXT_ATTRIBUTE: u32 = 0x0100;
pub const SV_EVENT_REQUEST_ATTRIBUTE: u32 = 0x0200;
pub const SV_EVENT_SESSION_ATTRIBUTE: u32 = 0x0400;
pub const SV_LOG_ERROR: i32 = 1;
pub const SV_LOG_WARN: i32 = 2;
pub const SV_LOG_INFO: i32 = 3;
pub const SV_LOG_DEBUG: i32 = 4;
pub const SV_LOG_TRACE: i32 = 5;
pub const SV_PATH_ROOT: i32 = 1;
pub const SV_PATH_WORK: i32 = 2;
pub const SV_PATH_TEMP: i32 = 3;
pub const SV_FORWARD: i32 = 1;
pub const SV_INCLUDE: i32 = 2;
pub const SV_BY_NAME: i32 = 0x10;
pub const SV_NONBLOCKING: u32 = 0x1;
pub const SV_BLOCKING: u32 = 0x2;
pub const SV_KEEP: u32 = 0x4;
pub const SV_MULTIPART: u32 = 0x8;
pub const SV_MODULE_NO_UNLOAD: u32 = 0x1;

/// Opaque.
#[repr(C)]
pub struct sv_exchange {
    _opaque: [u8; 0],
    _not_send: PhantomData<(*mut u8, PhantomPinned)>,
}
/// Opaque.
#[repr(C)]
pub struct sv_context {
    _opaque: [u8; 0],
    _not_send: PhantomData<(*mut u8, PhantomPinned)>,
}
/// Opaque.
#[repr(C)]
pub struct sv_session {
    _opaque: [u8; 0],
    _not_send: PhantomData<(*mut u8, PhantomPinned)>,
}
/// Opaque.
#[repr(C)]
pub struct sv_waker {
    _opaque: [u8; 0],
    _not_send: PhantomData<(*mut u8, PhantomPinned)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_str {
    pub ptr: *const u8,
    pub len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_pair {
    pub name: sv_str,
    pub value: sv_str,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_request {
    pub struct_size: u32,
    pub method: u32,
    pub method_name: sv_str,
    pub http_version: u32,
    pub dispatch: u32,
    pub scheme: sv_str,
    pub server_name: sv_str,
    pub server_port: u32,
    pub secure: i32,
    pub target: sv_str,
    pub request_uri: sv_str,
    pub query: sv_str,
    pub context_path: sv_str,
    pub servlet_path: sv_str,
    pub path_info: sv_str,
    pub match_kind: i32,
    pub reserved: u32,
    pub match_pattern: sv_str,
    pub match_value: sv_str,
    pub servlet_name: sv_str,
    pub headers: *const sv_pair,
    pub header_count: usize,
    pub content_length: i64,
    pub content_type: sv_str,
    pub charset: sv_str,
    pub remote_addr: sv_str,
    pub local_addr: sv_str,
    pub remote_port: u32,
    pub local_port: u32,
    pub id: u64,
    pub connection_id: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_tls {
    pub struct_size: u32,
    pub certificate_count: u32,
    pub certificates: *const sv_str,
    pub protocol: sv_str,
    pub cipher: sv_str,
    pub server_name: sv_str,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_part {
    pub struct_size: u32,
    pub header_count: u32,
    pub headers: *const sv_pair,
    pub name: sv_str,
    pub file_name: sv_str,
    pub content_type: sv_str,
    pub path: sv_str,
    pub data: sv_str,
    pub size: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_response {
    pub struct_size: u32,
    pub status: u32,
    pub headers: *const sv_pair,
    pub header_count: usize,
    pub body: *const u8,
    pub body_len: usize,
    pub body_kind: u32,
    pub reserved: u32,
    pub release: Option<unsafe extern "C" fn(release_arg: *mut c_void)>,
    pub release_arg: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_cookie {
    pub struct_size: u32,
    pub flags: u32,
    pub name: sv_str,
    pub value: sv_str,
    pub path: sv_str,
    pub domain: sv_str,
    pub max_age: i64,
    pub attributes: *const sv_pair,
    pub attribute_count: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_session_info {
    pub struct_size: u32,
    pub is_new: u32,
    pub id: sv_str,
    pub requested_id: sv_str,
    pub requested_by_cookie: u32,
    pub requested_by_url: u32,
    pub requested_valid: u32,
    pub reserved: u32,
    pub created: i64,
    pub accessed: i64,
    pub max_inactive: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_event {
    pub struct_size: u32,
    pub kind: u32,
    pub context: *mut sv_context,
    pub exchange: *mut sv_exchange,
    pub session: *mut sv_session,
    pub session_id: sv_str,
    pub name: sv_str,
    pub value: sv_str,
    pub old_value: sv_str,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_host {
    pub struct_size: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub server: sv_str,
    pub extension: Option<unsafe extern "C" fn(id: *const u8) -> *const c_void>,
    pub log_enabled: Option<unsafe extern "C" fn(*mut sv_context, level: i32) -> i32>,
    pub log_message: Option<
        unsafe extern "C" fn(
            *mut sv_context,
            or_null: *mut sv_exchange,
            level: i32,
            text: *const u8,
            len: usize,
        ) -> sv_status,
    >,
    pub report_panic: Option<
        unsafe extern "C" fn(
            or_null: *mut sv_context,
            text: *const u8,
            len: usize,
            file: *const u8,
            file_len: usize,
            line: u32,
        ) -> sv_status,
    >,
    pub request: Option<unsafe extern "C" fn(*mut sv_exchange) -> *const sv_request>,
    pub tls: Option<unsafe extern "C" fn(*mut sv_exchange) -> *const sv_tls>,
    pub header:
        Option<unsafe extern "C" fn(*mut sv_exchange, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub parameter: Option<
        unsafe extern "C" fn(*mut sv_exchange, name: *const u8, len: usize, nth: u32, value: *mut sv_str) -> sv_status,
    >,
    pub parameters:
        Option<unsafe extern "C" fn(*mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status>,
    pub path_parameter:
        Option<unsafe extern "C" fn(*mut sv_exchange, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub cookie:
        Option<unsafe extern "C" fn(*mut sv_exchange, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub cookies:
        Option<unsafe extern "C" fn(*mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status>,
    pub part_count: Option<unsafe extern "C" fn(*mut sv_exchange, count: *mut usize) -> sv_status>,
    pub part: Option<unsafe extern "C" fn(*mut sv_exchange, index: usize, out: *mut *const sv_part) -> sv_status>,
    pub attribute:
        Option<unsafe extern "C" fn(*mut sv_exchange, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub attributes:
        Option<unsafe extern "C" fn(*mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status>,
    pub set_attribute: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            name: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
        ) -> sv_status,
    >,
    pub principal: Option<unsafe extern "C" fn(*mut sv_exchange, name: *mut sv_str, method: *mut sv_str) -> sv_status>,
    pub in_role: Option<unsafe extern "C" fn(*mut sv_exchange, role: *const u8, len: usize) -> sv_status>,
    pub login: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            name: *const u8,
            len: usize,
            password: *const u8,
            password_len: usize,
        ) -> sv_status,
    >,
    pub logout: Option<unsafe extern "C" fn(*mut sv_exchange) -> sv_status>,
    pub read:
        Option<unsafe extern "C" fn(*mut sv_exchange, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status>,
    pub read_chunk: Option<unsafe extern "C" fn(*mut sv_exchange, chunk: *mut sv_str) -> sv_status>,
    pub read_all: Option<unsafe extern "C" fn(*mut sv_exchange, bytes_max: usize, body: *mut sv_str) -> sv_status>,
    pub request_trailers:
        Option<unsafe extern "C" fn(*mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status>,
    pub respond: Option<unsafe extern "C" fn(*mut sv_exchange, *const sv_response) -> sv_status>,
    pub set_status: Option<unsafe extern "C" fn(*mut sv_exchange, status: u32) -> sv_status>,
    pub set_header: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            how: i32,
            name: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
        ) -> sv_status,
    >,
    pub response_header: Option<
        unsafe extern "C" fn(*mut sv_exchange, name: *const u8, len: usize, nth: u32, value: *mut sv_str) -> sv_status,
    >,
    pub response_status: Option<unsafe extern "C" fn(*mut sv_exchange, status: *mut u32) -> sv_status>,
    pub set_content_type: Option<unsafe extern "C" fn(*mut sv_exchange, r#type: *const u8, len: usize) -> sv_status>,
    pub set_charset: Option<unsafe extern "C" fn(*mut sv_exchange, charset: *const u8, len: usize) -> sv_status>,
    pub set_content_length: Option<unsafe extern "C" fn(*mut sv_exchange, bytes: u64) -> sv_status>,
    pub set_buffer_size: Option<unsafe extern "C" fn(*mut sv_exchange, bytes: usize) -> sv_status>,
    pub set_cookie: Option<unsafe extern "C" fn(*mut sv_exchange, *const sv_cookie) -> sv_status>,
    pub set_trailer: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            name: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
        ) -> sv_status,
    >,
    pub informational:
        Option<unsafe extern "C" fn(*mut sv_exchange, status: u32, headers: *const sv_pair, count: usize) -> sv_status>,
    pub write:
        Option<unsafe extern "C" fn(*mut sv_exchange, bytes: *const u8, len: usize, taken: *mut usize) -> sv_status>,
    pub write_owned: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            bytes: *const u8,
            len: usize,
            Option<unsafe extern "C" fn(*mut c_void)>,
            release_arg: *mut c_void,
        ) -> sv_status,
    >,
    pub flush: Option<unsafe extern "C" fn(*mut sv_exchange) -> sv_status>,
    pub reset: Option<unsafe extern "C" fn(*mut sv_exchange) -> sv_status>,
    pub reset_buffer: Option<unsafe extern "C" fn(*mut sv_exchange) -> sv_status>,
    pub send_error:
        Option<unsafe extern "C" fn(*mut sv_exchange, status: u32, text: *const u8, len: usize) -> sv_status>,
    pub redirect:
        Option<unsafe extern "C" fn(*mut sv_exchange, status: u32, location: *const u8, len: usize) -> sv_status>,
    pub committed: Option<unsafe extern "C" fn(*mut sv_exchange) -> i32>,
    pub encode_url:
        Option<unsafe extern "C" fn(*mut sv_exchange, url: *const u8, len: usize, out: *mut sv_str) -> sv_status>,
    pub alloc: Option<unsafe extern "C" fn(*mut sv_exchange, size: usize, align: usize) -> *mut c_void>,
    pub error_text: Option<unsafe extern "C" fn(*mut sv_exchange, text: *mut sv_str) -> sv_status>,
    pub fail: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            kind: *const u8,
            kind_len: usize,
            text: *const u8,
            len: usize,
        ) -> sv_status,
    >,
    pub unavailable:
        Option<unsafe extern "C" fn(*mut sv_exchange, seconds: u32, text: *const u8, len: usize) -> sv_status>,
    pub dispatch: Option<unsafe extern "C" fn(*mut sv_exchange, how: i32, target: *const u8, len: usize) -> sv_status>,
    pub cancelled: Option<unsafe extern "C" fn(*mut sv_exchange) -> i32>,
    pub retiring: Option<unsafe extern "C" fn(*mut sv_exchange) -> i32>,
    pub detach: Option<
        unsafe extern "C" fn(
            *mut sv_exchange,
            told: Option<unsafe extern "C" fn(told_arg: *mut c_void, why: sv_status)>,
            told_arg: *mut c_void,
        ) -> sv_status,
    >,
    pub complete: Option<unsafe extern "C" fn(*mut sv_exchange, result: sv_status) -> sv_status>,
    pub async_dispatch: Option<unsafe extern "C" fn(*mut sv_exchange, path: *const u8, len: usize) -> sv_status>,
    pub set_timeout: Option<unsafe extern "C" fn(*mut sv_exchange, milliseconds: u64) -> sv_status>,
    pub waker: Option<unsafe extern "C" fn(*mut sv_exchange) -> *mut sv_waker>,
    pub waker_clone: Option<unsafe extern "C" fn(*mut sv_waker) -> *mut sv_waker>,
    pub waker_wake: Option<unsafe extern "C" fn(*mut sv_waker, consume: i32)>,
    pub waker_drop: Option<unsafe extern "C" fn(*mut sv_waker)>,
    pub session: Option<unsafe extern "C" fn(*mut sv_exchange, create: i32, out: *mut *mut sv_session) -> sv_status>,
    pub session_info: Option<unsafe extern "C" fn(*mut sv_exchange, out: *mut *const sv_session_info) -> sv_status>,
    pub session_attribute:
        Option<unsafe extern "C" fn(*mut sv_session, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub session_attributes:
        Option<unsafe extern "C" fn(*mut sv_session, out: *mut *const sv_pair, count: *mut usize) -> sv_status>,
    pub session_set_attribute: Option<
        unsafe extern "C" fn(
            *mut sv_session,
            name: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
        ) -> sv_status,
    >,
    pub session_change_id: Option<unsafe extern "C" fn(*mut sv_session, id: *mut sv_str) -> sv_status>,
    pub session_set_max_inactive: Option<unsafe extern "C" fn(*mut sv_session, seconds: i64) -> sv_status>,
    pub session_invalidate: Option<unsafe extern "C" fn(*mut sv_session) -> sv_status>,
    pub context: Option<unsafe extern "C" fn(*mut sv_exchange) -> *mut sv_context>,
    pub context_path: Option<unsafe extern "C" fn(*mut sv_context, out: *mut sv_str) -> sv_status>,
    pub context_parameter:
        Option<unsafe extern "C" fn(*mut sv_context, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub context_parameters:
        Option<unsafe extern "C" fn(*mut sv_context, out: *mut *const sv_pair, count: *mut usize) -> sv_status>,
    pub context_folder: Option<unsafe extern "C" fn(*mut sv_context, which: i32, path: *mut sv_str) -> sv_status>,
    pub context_mime_type: Option<
        unsafe extern "C" fn(*mut sv_context, file_name: *const u8, len: usize, r#type: *mut sv_str) -> sv_status,
    >,
    pub context_resource:
        Option<unsafe extern "C" fn(*mut sv_context, name: *const u8, len: usize, value: *mut sv_str) -> sv_status>,
    pub context_attribute: Option<
        unsafe extern "C" fn(
            *mut sv_context,
            name: *const u8,
            name_len: usize,
            buffer: *mut u8,
            capacity: usize,
            len: *mut usize,
        ) -> sv_status,
    >,
    pub context_set_attribute: Option<
        unsafe extern "C" fn(
            *mut sv_context,
            name: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
        ) -> sv_status,
    >,
    pub context_generation: Option<unsafe extern "C" fn(*mut sv_context) -> u64>,
    pub context_post: Option<
        unsafe extern "C" fn(*mut sv_context, Option<unsafe extern "C" fn(*mut c_void)>, arg: *mut c_void) -> sv_status,
    >,
    pub context_timer: Option<unsafe extern "C" fn(*mut sv_context, milliseconds: u64, *mut sv_waker) -> sv_status>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_config {
    pub struct_size: u32,
    pub reserved: u32,
    pub name: sv_str,
    pub init: *const sv_pair,
    pub init_count: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_servlet {
    pub struct_size: u32,
    pub flags: u32,
    pub flags_required: u32,
    pub methods: u32,
    pub name: sv_str,
    pub patterns: *const sv_str,
    pub pattern_count: usize,
    pub init: *const sv_pair,
    pub init_count: usize,
    pub load_order: i32,
    pub reserved: u32,
    pub create: Option<
        unsafe extern "C" fn(
            *mut sv_context,
            module: *mut c_void,
            *const sv_config,
            servlet: *mut *mut c_void,
            error: *mut sv_str,
        ) -> sv_status,
    >,
    pub destroy: Option<unsafe extern "C" fn(servlet: *mut c_void)>,
    pub service:
        Option<unsafe extern "C" fn(servlet: *mut c_void, *mut sv_exchange, task: *mut *mut c_void) -> sv_status>,
    pub poll: Option<unsafe extern "C" fn(task: *mut c_void, *mut sv_exchange) -> sv_status>,
    pub drop: Option<unsafe extern "C" fn(task: *mut c_void)>,
    pub last_modified: Option<unsafe extern "C" fn(servlet: *mut c_void, *mut sv_exchange) -> i64>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_filter {
    pub struct_size: u32,
    pub flags: u32,
    pub flags_required: u32,
    pub dispatches: u32,
    pub name: sv_str,
    pub patterns: *const sv_str,
    pub pattern_count: usize,
    pub servlets: *const sv_str,
    pub servlet_count: usize,
    pub init: *const sv_pair,
    pub init_count: usize,
    pub order: i32,
    pub reserved: u32,
    pub create: Option<
        unsafe extern "C" fn(
            *mut sv_context,
            module: *mut c_void,
            *const sv_config,
            filter: *mut *mut c_void,
            error: *mut sv_str,
        ) -> sv_status,
    >,
    pub destroy: Option<unsafe extern "C" fn(filter: *mut c_void)>,
    pub on_request:
        Option<unsafe extern "C" fn(filter: *mut c_void, *mut sv_exchange, state: *mut *mut c_void) -> sv_status>,
    pub on_response:
        Option<unsafe extern "C" fn(filter: *mut c_void, *mut sv_exchange, state: *mut c_void) -> sv_status>,
    pub on_body: Option<
        unsafe extern "C" fn(
            filter: *mut c_void,
            *mut sv_exchange,
            state: *mut c_void,
            bytes: *const u8,
            len: usize,
            last: i32,
        ) -> sv_status,
    >,
    pub on_end:
        Option<unsafe extern "C" fn(filter: *mut c_void, *mut sv_exchange, state: *mut c_void, result: sv_status)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_listener {
    pub struct_size: u32,
    pub flags: u32,
    pub flags_required: u32,
    pub kinds: u32,
    pub on_event: Option<unsafe extern "C" fn(module: *mut c_void, *const sv_event) -> sv_status>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct sv_module {
    pub magic: u32,
    pub struct_size: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub need_minor: u16,
    pub reserved: u16,
    pub flags: u32,
    pub flags_required: u32,
    pub name: sv_str,
    pub version: sv_str,
    pub built_with: sv_str,
    pub init: Option<
        unsafe extern "C" fn(
            *const sv_host,
            *mut sv_context,
            module: *mut *mut c_void,
            error: *mut sv_str,
        ) -> sv_status,
    >,
    pub destroy: Option<unsafe extern "C" fn(module: *mut c_void)>,
    pub save: Option<
        unsafe extern "C" fn(module: *mut c_void, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status,
    >,
    pub restore: Option<unsafe extern "C" fn(module: *mut c_void, bytes: *const u8, len: usize) -> sv_status>,
    pub servlets: *const *const sv_servlet,
    pub servlet_count: usize,
    pub filters: *const *const sv_filter,
    pub filter_count: usize,
    pub listeners: *const *const sv_listener,
    pub listener_count: usize,
    pub extension: Option<unsafe extern "C" fn(id: *const u8) -> *const c_void>,
}

impl sv_str {
    /// An absent value.
    pub const ABSENT: sv_str = sv_str { ptr: core::ptr::null(), len: 0 };

    /// A view of `text`, which has to outlive it.
    pub const fn new(text: &str) -> sv_str {
        sv_str { ptr: text.as_ptr(), len: text.len() }
    }

    /// A view of `bytes`, which have to outlive it.
    pub const fn from_bytes(bytes: &[u8]) -> sv_str {
        sv_str { ptr: bytes.as_ptr(), len: bytes.len() }
    }
}

// SAFETY: a descriptor is constant data; its pointers lead to constant data and functions of the same library.
unsafe impl Sync for sv_str {}
// SAFETY: as above.
unsafe impl Sync for sv_pair {}
// SAFETY: as above.
unsafe impl Sync for sv_servlet {}
// SAFETY: as above.
unsafe impl Sync for sv_filter {}
// SAFETY: as above.
unsafe impl Sync for sv_listener {}
// SAFETY: as above.
unsafe impl Sync for sv_module {}
// SAFETY: the host's table is constant data.
unsafe impl Sync for sv_host {}
