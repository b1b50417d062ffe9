//! Filters: what looks at requests and responses on their way to and from servlets.

use std::ffi::c_void;
use std::fmt;

use serval_abi::{
    SV_E_FAILED, SV_E_PANIC, SV_HEADER_ADD, SV_HEADER_REMOVE, SV_HEADER_SET, SV_NEXT, SV_OK, sv_config, sv_context,
    sv_exchange, sv_filter, sv_pair, sv_status, sv_str,
};

use crate::glue::{Instance, the};
use crate::host::{self, Exchange};
use crate::module::{caught, refuse};
use crate::{Context, Error, Request, Response, Result, error};

/// A filter. The attribute [`filter`](macro@crate::filter) on the `impl` declares it; what the `impl` leaves out the server does not call.
///
/// The functions are called in the order in which they stand here, each with what `request` has returned for this request.
/// Several requests go through a filter at once, so what it shares between them is `Sync`.
///
/// ```
/// use servlet::prelude::*;
/// use std::time::Instant;
///
/// #[derive(Default)]
/// struct Timing;
///
/// #[filter("/*", order = 10)]
/// impl Filter for Timing {
///     type State = Instant;
///
///     fn request(&self, _: &Request, _: &mut Response) -> Result<Flow<Instant>> {
///         Ok(Flow::Next(Instant::now()))
///     }
///
///     fn response(&self, began: &mut Instant, head: &mut ResponseHead) -> Result {
///         head.header("server-timing", format!("app;dur={}", began.elapsed().as_millis()))?.done()
///     }
/// }
/// ```
pub trait Filter: Sized + Send + Sync + 'static {
    /// What it keeps of one request.
    type State: Send + 'static;

    /// Makes an instance of it when the webapp is loaded. An error refuses the new generation. Without it the filter is
    /// made by [`Default`].
    fn create(config: &FilterConfig<'_>) -> Result<Self> {
        Err(error(500, format!("the filter {} has neither a create function nor Default", config.name())))
    }

    /// Lets a request pass, or answers it. Reading and writing wait while the client is slow. An error is answered as that of
    /// a servlet.
    fn request(&self, request: &Request, response: &mut Response) -> Result<Flow<Self::State>>;

    /// May change status and headers of a response which is about to be sent.
    fn response(&self, state: &mut Self::State, head: &mut ResponseHead<'_>) -> Result {
        let _ = (state, head);
        Ok(())
    }

    /// Gets the body piece by piece; what it writes goes on in its place. A filter that has this function takes the
    /// Content-Length of all responses that go through it away. Not called where there is no body.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Loud;
    ///
    /// #[filter("*.txt")]
    /// impl Filter for Loud {
    ///     type State = ();
    ///
    ///     fn request(&self, _: &Request, _: &mut Response) -> Result<Flow<()>> {
    ///         Ok(Flow::Next(()))
    ///     }
    ///
    ///     fn body(&self, _: &mut (), chunk: Chunk, out: &mut BodyWriter) -> Result {
    ///         out.write(chunk.bytes().to_ascii_uppercase())
    ///     }
    /// }
    /// ```
    fn body(&self, state: &mut Self::State, chunk: Chunk<'_>, out: &mut BodyWriter) -> Result {
        let _ = state;
        out.write(chunk.bytes())
    }

    /// Called once for each request that was let pass, however it ended.
    fn end(&self, state: Self::State, end: &FilterEnd<'_>) {
        let _ = (state, end);
    }
}

/// What a filter says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow<S> {
    /// It passes, and this is kept for it.
    Next(S),
    /// It was answered; nothing behind this filter is called.
    Answered,
}

/// How an instance of a filter is configured.
pub struct FilterConfig<'a>(&'a Instance);

impl FilterConfig<'_> {
    /// Returns the name of the instance: of the declaration, or of web.toml.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Returns an init parameter: of web.toml or, if there is none, of the declaration.
    pub fn init(&self, name: &str) -> Option<&str> {
        self.0.init(name)
    }

    /// Returns the webapp.
    pub fn context(&self) -> &Context {
        self.0.context()
    }

    /// Returns the module's state, which [`start`](macro@crate::start) has made. A filter may keep clones of what is in it;
    /// for the whole there is [`Request::state`].
    pub fn state<S: Send + Sync + 'static>(&self) -> Result<&S> {
        self.0.state()
    }
}

/// Status and headers of a response before they are sent.
pub struct ResponseHead<'a> {
    exchange: Exchange,
    request: &'a Request,
}

impl ResponseHead<'_> {
    /// Returns the request.
    pub fn request(&self) -> &Request {
        self.request
    }

    /// Returns the status.
    pub fn status(&self) -> Result<u16> {
        self.exchange.response_status()
    }

    /// Sets the status.
    pub fn set_status(&mut self, status: u16) -> Result<&mut Self> {
        self.exchange.set_status(status)?;
        Ok(self)
    }

    /// Returns the first header of that name; `None` also when it is not UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>> {
        let value = self.exchange.response_header(name)?;
        // SAFETY: it lives until `on_end` has returned (servlet.h 4), as `self` does not.
        let bytes = value.and_then(|value| unsafe { host::bytes(value) });
        Ok(bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()))
    }

    /// Sets a header, in place of all of that name.
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.exchange.set_header(SV_HEADER_SET, name, value.as_ref())?;
        Ok(self)
    }

    /// Adds a header to those of that name.
    pub fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.exchange.set_header(SV_HEADER_ADD, name, value.as_ref())?;
        Ok(self)
    }

    /// Removes all headers of that name.
    pub fn remove_header(&mut self, name: &str) -> Result<&mut Self> {
        self.exchange.set_header(SV_HEADER_REMOVE, name, b"")?;
        Ok(self)
    }

    /// Ends a chain of calls.
    pub fn done(&mut self) -> Result {
        Ok(())
    }
}

/// A piece of a body on its way through a filter.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
    last: bool,
}

impl<'a> Chunk<'a> {
    /// Returns its bytes; none in a flush, and maybe none at the end.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Tells whether it is the last one.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Tells whether the servlet has flushed, so that what a filter holds back should go out.
    pub fn is_flush(&self) -> bool {
        self.bytes.is_empty() && !self.last
    }
}

/// Where a filter writes the body to.
pub struct BodyWriter {
    exchange: Exchange,
}

impl BodyWriter {
    /// Writes all of it; the writer before is stopped while the client is slow, not the filter.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        let bytes = bytes.as_ref();
        if bytes.is_empty() { Ok(()) } else { self.exchange.write(bytes) }
    }
}

impl std::io::Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        BodyWriter::write(self, bytes).map_err(Error::into_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How a request has ended.
pub struct FilterEnd<'a> {
    request: &'a Request,
    exchange: Exchange,
    result: sv_status,
}

impl FilterEnd<'_> {
    /// Returns the request.
    pub fn request(&self) -> &Request {
        self.request
    }

    /// Returns the status of the response.
    pub fn status(&self) -> Result<u16> {
        self.exchange.response_status()
    }

    /// Tells whether the servlet and all filters behind did their work; otherwise the client got an error page or a cut answer.
    pub fn is_ok(&self) -> bool {
        self.result >= 0
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BodyWriter")
    }
}

impl fmt::Debug for FilterConfig<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FilterConfig({})", self.name())
    }
}

impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ResponseHead of {:?}", self.request)
    }
}

impl fmt::Debug for FilterEnd<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FilterEnd({}) of {:?}", self.result, self.request)
    }
}

// ---------------------------------------------------------------------------------------------- for the server

/// What stands in the attribute of a filter, and which functions its `impl` has.
#[derive(Clone, Copy)]
pub struct DeclaredFilter {
    pub name: &'static str,
    pub patterns: &'static [sv_str],
    pub servlets: &'static [sv_str],
    pub init: &'static [sv_pair],
    pub flags: u32,
    pub dispatches: u32,
    pub order: i32,
    pub has_response: bool,
    pub has_body: bool,
}

/// How the author's type is made.
pub trait MakeFilter<F>: Fn(&FilterConfig<'_>) -> Result<F> + Copy + 'static {}
impl<F, M: Fn(&FilterConfig<'_>) -> Result<F> + Copy + 'static> MakeFilter<F> for M {}

/// What a filter without a `create` function needs.
#[diagnostic::on_unimplemented(
    message = "the filter `{Self}` has neither a `create` function nor Default",
    label = "write `fn create(config: &FilterConfig<'_>) -> Result<Self>` below, or #[derive(Default)] on the type"
)]
pub trait MadeByDefault: Sized {
    fn made() -> Self;
}

impl<F: Default> MadeByDefault for F {
    fn made() -> F {
        F::default()
    }
}

pub fn by_default<F: MadeByDefault>(_: &FilterConfig<'_>) -> Result<F> {
    Ok(F::made())
}

/// Describes a filter; what `#[filter]` expands to.
pub const fn filter<F: Filter, M: MakeFilter<F>>(declared: DeclaredFilter, _make: M) -> sv_filter {
    sv_filter {
        struct_size: size_of::<sv_filter>() as u32,
        flags: declared.flags,
        flags_required: 0,
        dispatches: declared.dispatches,
        name: sv_str::new(declared.name),
        patterns: declared.patterns.as_ptr(),
        pattern_count: declared.patterns.len(),
        servlets: declared.servlets.as_ptr(),
        servlet_count: declared.servlets.len(),
        init: declared.init.as_ptr(),
        init_count: declared.init.len(),
        order: declared.order,
        reserved: 0,
        create: Some(create::<F, M>),
        destroy: Some(destroy::<F>),
        on_request: Some(on_request::<F>),
        on_response: if declared.has_response { Some(on_response::<F>) } else { None },
        on_body: if declared.has_body { Some(on_body::<F>) } else { None },
        // It frees the state.
        on_end: Some(on_end::<F>),
    }
}

/// What `create` makes.
struct Made<F> {
    filter: F,
    instance: Instance,
}

/// What `on_request` makes.
struct Passing<S> {
    state: S,
    /// INVARIANT: `on_end` comes before the filter's `destroy`.
    request: Request,
}

unsafe extern "C" fn create<F: Filter, M: MakeFilter<F>>(
    _context: *mut sv_context,
    module: *mut c_void,
    config: *const sv_config,
    filter: *mut *mut c_void,
    error: *mut sv_str,
) -> sv_status {
    // SAFETY: as servlet.h says of `create`.
    let Some(instance) = (unsafe { Instance::new(module, config) }) else { return SV_E_FAILED };
    let made = caught(|| {
        let _current = instance.module().enter(std::ptr::null_mut());
        let _tokio = instance.module().background().enter();
        the::<M>()(&FilterConfig(&instance))
    });
    let (status, text) = match made {
        Ok(Ok(made)) => {
            // SAFETY: a place of the server's.
            unsafe { filter.write(Box::into_raw(Box::new(Made { filter: made, instance })).cast()) };
            return SV_OK;
        }
        Ok(Err(wrong)) => (SV_E_FAILED, wrong.text().to_owned()),
        Err(text) => (SV_E_PANIC, format!("panicked: {text}")),
    };
    // SAFETY: as servlet.h says of `create`.
    unsafe { refuse(error, format!("the filter {}: {text}", instance.name())) };
    status
}

unsafe extern "C" fn destroy<F: Filter>(filter: *mut c_void) {
    if !filter.is_null() {
        // SAFETY: made by `create`, and this is its last use.
        let made = unsafe { Box::from_raw(filter.cast::<Made<F>>()) };
        // A panic was reported by the hook.
        let _ = caught(move || {
            let Made { filter, instance } = *made;
            let _current = instance.module().enter(std::ptr::null_mut());
            drop(filter);
        });
    }
}

/// Calls a function of the filter, and makes a status of what it returns.
///
/// # Safety
/// As servlet.h says of the functions of a filter; `F` is the type of `create`.
unsafe fn on<F: Filter>(
    filter: *mut c_void,
    handle: *mut sv_exchange,
    hook: impl FnOnce(&'static Made<F>, Exchange) -> Result<sv_status>,
) -> sv_status {
    // SAFETY: made by `create`; its `destroy` comes after the last call. As in `Request::new` it is not really static.
    let made: Option<&'static Made<F>> = unsafe { filter.cast::<Made<F>>().as_ref() };
    let (Some(made), Some(table)) = (made, host::host()) else { return SV_E_FAILED };
    let exchange = Exchange::new(table, handle);
    let done = caught(|| {
        let _current = made.instance.module().enter(handle);
        hook(made, exchange).unwrap_or_else(|wrong| wrong.answer(exchange))
    });
    done.unwrap_or(SV_E_PANIC)
}

unsafe extern "C" fn on_request<F: Filter>(
    filter: *mut c_void,
    exchange: *mut sv_exchange,
    state: *mut *mut c_void,
) -> sv_status {
    let hook = |made: &'static Made<F>, exchange| {
        let request = Request::new(exchange, &made.instance);
        match made.filter.request(&request, &mut Response::new(exchange))? {
            Flow::Answered => Ok(SV_OK),
            Flow::Next(kept) => {
                let passing = Box::into_raw(Box::new(Passing { state: kept, request }));
                // SAFETY: a place of the server's.
                unsafe { state.write(passing.cast()) };
                Ok(SV_NEXT)
            }
        }
    };
    // SAFETY: as servlet.h says.
    unsafe { on::<F>(filter, exchange, hook) }
}

unsafe extern "C" fn on_response<F: Filter>(
    filter: *mut c_void,
    exchange: *mut sv_exchange,
    state: *mut c_void,
) -> sv_status {
    // SAFETY: made by `on_request`, and freed by `on_end`; one function at a time.
    let Some(passing) = (unsafe { state.cast::<Passing<F::State>>().as_mut() }) else { return SV_E_FAILED };
    let hook = |made: &'static Made<F>, exchange| {
        let Passing { state, request } = passing;
        let done = made.filter.response(state, &mut ResponseHead { exchange, request });
        // An error page can only be asked for by a status here.
        Ok(done.map_or_else(|wrong| wrong.fail(exchange), |()| SV_OK))
    };
    // SAFETY: as servlet.h says.
    unsafe { on::<F>(filter, exchange, hook) }
}

unsafe extern "C" fn on_body<F: Filter>(
    filter: *mut c_void,
    exchange: *mut sv_exchange,
    state: *mut c_void,
    bytes: *const u8,
    len: usize,
    last: i32,
) -> sv_status {
    // SAFETY: as in `on_response`.
    let Some(passing) = (unsafe { state.cast::<Passing<F::State>>().as_mut() }) else { return SV_E_FAILED };
    // SAFETY: the server's, until this returns.
    let bytes = unsafe { host::bytes(sv_str { ptr: bytes, len }) }.unwrap_or_default();
    let hook = |made: &'static Made<F>, exchange| {
        let chunk = Chunk { bytes, last: last != 0 };
        let done = made.filter.body(&mut passing.state, chunk, &mut BodyWriter { exchange });
        Ok(done.map_or_else(
            |wrong| {
                // Here the server is told nothing but the status.
                crate::log::error!("the filter {}: {wrong}", made.instance.name());
                wrong.code()
            },
            |()| SV_OK,
        ))
    };
    // SAFETY: as servlet.h says.
    unsafe { on::<F>(filter, exchange, hook) }
}

unsafe extern "C" fn on_end<F: Filter>(
    filter: *mut c_void,
    exchange: *mut sv_exchange,
    state: *mut c_void,
    result: sv_status,
) {
    if state.is_null() {
        return;
    }
    // SAFETY: made by `on_request`, and this is its last use.
    let passing = unsafe { Box::from_raw(state.cast::<Passing<F::State>>()) };
    let hook = move |made: &'static Made<F>, exchange| {
        let Passing { state, request } = *passing;
        made.filter.end(state, &FilterEnd { request: &request, exchange, result });
        Ok(SV_OK)
    };
    // SAFETY: as servlet.h says. There is nobody to tell a status.
    let _ = unsafe { on::<F>(filter, exchange, hook) };
}
