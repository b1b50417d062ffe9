//! The request, as it is lent to a servlet.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ptr::null_mut;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::Poll;
use std::time::Duration;

use serval_abi::{
    SV_MATCH_CONTEXT_ROOT, SV_MATCH_EXACT, SV_MATCH_EXTENSION, SV_MATCH_PATH, SV_MATCH_TEMPLATE, sv_pair, sv_request,
    sv_str,
};

use crate::glue::Instance;
use crate::host::{self, Current, Exchange, waiting};
use crate::task::Turn;
use crate::{Context, Dispatcher, Method, Result, error};

/// A request. All that it returns by reference lives as long as the call of the servlet.
///
/// What stands in the request's head is answered without a `Result`. What the server has to be asked for (parameters,
/// cookies, attributes) may fail: `?` then answers as fits, for example with 413 for a form that is too long.
///
/// Other threads may read it while the servlet runs, with two bounds: functions that return a `Result` belong to the
/// servlet's own thread and are an error on others; and the head is fetched at its first use, which has to be on that thread
/// too (the first use on another one panics).
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/about")]
/// fn about(request: &Request, response: &mut Response) -> Result {
///     let agent = request.header("user-agent").unwrap_or("somebody");
///     response.text(format!("{agent} asks for {} from {}", request.uri(), request.remote_addr()))
/// }
/// ```
pub struct Request {
    exchange: Exchange,
    /// INVARIANT: NULL, or what the server returned for this exchange; it lives until `service` returns, as `self` does.
    head: AtomicPtr<sv_request>,
    /// Where `async_dispatch` leads to.
    goes_to: OnceLock<Option<String>>,
    /// INVARIANT: outlives each call of `service`.
    instance: &'static Instance,
}

impl Request {
    /// `instance` is not really `'static`: a `Request` never outlives the call of `service` that it is made for.
    pub(crate) fn new(exchange: Exchange, instance: &'static Instance) -> Request {
        Request { exchange, head: AtomicPtr::new(null_mut()), goes_to: OnceLock::new(), instance }
    }

    pub(crate) fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Where another servlet goes on with the response, `Some(None)`: at the path that was asked for.
    pub(crate) fn goes_to(&self) -> &OnceLock<Option<String>> {
        &self.goes_to
    }

    /// Fetched at the first use, because it costs the server something, and many servlets do not look at it.
    fn head(&self) -> &sv_request {
        let mut head = self.head.load(Ordering::Acquire);
        if head.is_null() {
            head = self.exchange.request().cast_mut();
            self.head.store(head, Ordering::Release);
        }
        // SAFETY: by the invariant of `head`.
        unsafe { head.as_ref() }
            .expect("the request is used first on the servlet's own thread, before others may read it")
    }

    /// A text of the head that is always there.
    fn text(&self, view: sv_str) -> &str {
        self.optional(view).unwrap_or_default()
    }

    pub(crate) fn optional(&self, view: sv_str) -> Option<&str> {
        // SAFETY: views of the head, and values that the server returns for an exchange, live until `service` returns
        // (servlet.h 4), and so at least as long as this borrow.
        unsafe { host::text(view) }
    }

    fn pairs(&self, first: *const sv_pair, count: usize) -> &[sv_pair] {
        // SAFETY: as in `optional`.
        unsafe { host::pairs(first, count) }
    }

    /// Returns the method.
    pub fn method(&self) -> Method {
        Method(self.head().method)
    }

    /// Returns the method's name as the client sent it.
    pub fn method_name(&self) -> &str {
        self.text(self.head().method_name)
    }

    /// Returns the target of the request line as the client sent it.
    pub fn target(&self) -> &[u8] {
        // SAFETY: as in `optional`.
        unsafe { host::bytes(self.head().target) }.unwrap_or_default()
    }

    /// Returns the path of the target, undecoded: `/shop/item%201`.
    pub fn uri(&self) -> &str {
        self.text(self.head().request_uri)
    }

    /// Returns the query, undecoded, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.optional(self.head().query)
    }

    /// Returns the path of the webapp, undecoded; `""` for the root.
    pub fn context_path(&self) -> &str {
        self.text(self.head().context_path)
    }

    /// Returns the part of the path that chose the servlet, decoded.
    pub fn servlet_path(&self) -> &str {
        self.text(self.head().servlet_path)
    }

    /// Returns the part of the path after that, decoded: `/Ada` for the pattern `/greet/*` and the path `/greet/Ada`.
    pub fn path_info(&self) -> Option<&str> {
        self.optional(self.head().path_info)
    }

    /// Returns the URL pattern that matched.
    pub fn pattern(&self) -> &str {
        self.text(self.head().match_pattern)
    }

    /// Returns what the wildcard of that pattern stood for, without a slash before it: `Ada` for `/greet/*` and `/greet/Ada`;
    /// `None` where it stood for nothing.
    pub fn pattern_value(&self) -> Option<&str> {
        self.optional(self.head().match_value)
    }

    /// Returns how that pattern matched, as the Servlet specification (12.1) names it: `CONTEXT_ROOT`, `DEFAULT`, `EXACT`,
    /// `EXTENSION`, `PATH`; and `TEMPLATE` for `/items/{id}`.
    pub fn pattern_kind(&self) -> &'static str {
        match self.head().match_kind {
            SV_MATCH_CONTEXT_ROOT => "CONTEXT_ROOT",
            SV_MATCH_EXACT => "EXACT",
            SV_MATCH_EXTENSION => "EXTENSION",
            SV_MATCH_PATH => "PATH",
            SV_MATCH_TEMPLATE => "TEMPLATE",
            _ => "DEFAULT",
        }
    }

    /// Returns the name of the servlet that the path was mapped to. In an include, and in a dispatch by name, that is the one
    /// before; see [`instance_name`](Request::instance_name).
    pub fn servlet_name(&self) -> &str {
        self.text(self.head().servlet_name)
    }

    /// Returns the name of the servlet (for a filter: of the filter) that is asking: of its declaration, or of web.toml.
    pub fn instance_name(&self) -> &str {
        self.instance.name()
    }

    /// Returns why the servlet or filter is called.
    pub fn dispatcher(&self) -> Dispatcher {
        Dispatcher::of(self.head().dispatch)
    }

    /// Returns the first header of that name, in any case of letters; `None` also when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// Returns the first header of that name, as bytes.
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers().find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Returns all headers in the order in which they came, their names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let head = self.head();
        self.fields(self.pairs(head.headers, head.header_count))
    }

    /// Returns the trailer fields that came behind a chunked body (RFC 9110 6.5), their names in lower case; none before the
    /// body was read to its end.
    pub fn trailers(&self) -> Result<impl Iterator<Item = (&str, &[u8])>> {
        let (first, count) = self.exchange.request_trailers()?;
        Ok(self.fields(self.pairs(first, count)))
    }

    fn fields<'a>(&'a self, pairs: &'a [sv_pair]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        pairs.iter().map(|pair| {
            // SAFETY: as in `optional`.
            let value = unsafe { host::bytes(pair.value) };
            (self.text(pair.name), value.unwrap_or_default())
        })
    }

    /// Returns the length of the body, if the client told it in advance.
    pub fn content_length(&self) -> Option<u64> {
        u64::try_from(self.head().content_length).ok()
    }

    /// Returns the type of the body.
    pub fn content_type(&self) -> Option<&str> {
        self.optional(self.head().content_type)
    }

    /// Returns the charset of the body: told by the client, or the default in effect.
    pub fn charset(&self) -> Option<&str> {
        self.optional(self.head().charset)
    }

    /// Returns `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.text(self.head().scheme)
    }

    /// Returns the name of the server as the client knows it, without port.
    pub fn server_name(&self) -> &str {
        self.text(self.head().server_name)
    }

    /// Returns the port of the server as the client knows it.
    pub fn server_port(&self) -> u16 {
        port(self.head().server_port)
    }

    /// Tells whether the client's connection is protected.
    pub fn is_secure(&self) -> bool {
        self.head().secure != 0
    }

    /// Returns the client's address, without port; empty: it came by a Unix socket.
    pub fn remote_addr(&self) -> &str {
        self.text(self.head().remote_addr)
    }

    /// Returns the client's port.
    pub fn remote_port(&self) -> u16 {
        port(self.head().remote_port)
    }

    /// Returns the server's address on this connection, without port; empty: that is a Unix socket.
    pub fn local_addr(&self) -> &str {
        self.text(self.head().local_addr)
    }

    /// Returns the server's port on this connection.
    pub fn local_port(&self) -> u16 {
        port(self.head().local_port)
    }

    /// Returns the version of HTTP: 10, 11, 20 or 30.
    pub fn http_version(&self) -> u32 {
        self.head().http_version
    }

    /// Returns the number of the request, as in the log.
    pub fn id(&self) -> u64 {
        self.head().id
    }

    /// Returns the number of the connection.
    pub fn connection_id(&self) -> u64 {
        self.head().connection_id
    }

    /// Returns a parameter's first value: of the query or, if there is none, of a form body, which is then read whole.
    pub fn param(&self, name: &str) -> Result<Option<&str>> {
        let value = self.exchange.parameter(name).map_err(crate::Error::of_client)?;
        Ok(value.and_then(|value| self.optional(value)))
    }

    /// Returns all parameters in order, those of the query first.
    ///
    /// ```
    /// # use servlet::prelude::*;
    /// # fn colours(request: &Request) -> Result<Vec<String>> {
    /// let colours = request.params()?.filter(|(name, _)| *name == "colour");
    /// # Ok(colours.map(|(_, value)| value.to_owned()).collect())
    /// # }
    /// ```
    pub fn params(&self) -> Result<impl Iterator<Item = (&str, &str)>> {
        let (first, count) = self.exchange.parameters().map_err(crate::Error::of_client)?;
        Ok(self.texts(self.pairs(first, count)))
    }

    /// Returns what stood for `{name}` in the URL pattern that matched.
    pub fn path_param(&self, name: &str) -> Result<Option<&str>> {
        Ok(self.exchange.path_parameter(name)?.and_then(|value| self.optional(value)))
    }

    /// Returns what stood for `{name}` in the URL pattern that matched, as any type that can be made of text. 400 when it
    /// cannot; 500 when the pattern has no such name.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/items/{id}")]
    /// fn item(request: &Request, response: &mut Response) -> Result {
    ///     let id: u64 = request.path("id")?;
    ///     response.text(format!("item {id}"))
    /// }
    /// ```
    pub fn path<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T> {
        let Some(text) = self.path_param(name)? else {
            return Err(error(500, format!("the URL pattern {:?} has no {{{name}}}", self.pattern())));
        };
        text.parse().map_err(|wrong| error(400, format!("the path parameter {name} is {text:?}: {wrong}")))
    }

    /// In an async servlet: waits until a form body has come, so that [`param`](Request::param) and
    /// [`params`](Request::params) can answer at once. Without it they answer with an error of the kind
    /// `servlet/would-block` as long as the form is still on its way.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/name", methods = [POST])]
    /// async fn name(request: &Request, response: &mut Response) -> Result {
    ///     request.form_read().await?;
    ///     response.text(format!("Hello, {}", request.param("name")?.unwrap_or("World")))
    /// }
    /// ```
    pub async fn form_read(&self) -> Result {
        waiting(|| self.exchange.parameters().map(drop)).await.map_err(crate::Error::of_client)
    }

    /// Returns the first cookie of that name.
    pub fn cookie(&self, name: &str) -> Result<Option<&str>> {
        Ok(self.exchange.cookie(name)?.and_then(|value| self.optional(value)))
    }

    /// Returns all cookies, name and value.
    pub fn cookies(&self) -> Result<impl Iterator<Item = (&str, &str)>> {
        let (first, count) = self.exchange.cookies()?;
        Ok(self.texts(self.pairs(first, count)))
    }

    fn texts<'a>(&'a self, pairs: &'a [sv_pair]) -> impl Iterator<Item = (&'a str, &'a str)> {
        pairs.iter().map(|pair| (self.text(pair.name), self.text(pair.value)))
    }

    /// Returns an attribute of the request: bytes that filters and servlets hand on to each other.
    pub fn attribute(&self, name: &str) -> Result<Option<&[u8]>> {
        let value = self.exchange.attribute(name)?;
        // SAFETY: as in `optional`; a value that is replaced lives on until then.
        Ok(value.and_then(|value| unsafe { host::bytes(value) }))
    }

    /// Returns all attributes of the request, those of the server (`servlet.forward.request_uri`, ...) too.
    pub fn attributes(&self) -> Result<impl Iterator<Item = (&str, &[u8])>> {
        let (first, count) = self.exchange.attributes()?;
        Ok(self.fields(self.pairs(first, count)))
    }

    /// Sets an attribute of the request.
    pub fn set_attribute(&self, name: &str, value: impl AsRef<[u8]>) -> Result {
        self.exchange.set_attribute(name, Some(value.as_ref()))
    }

    /// Removes an attribute of the request.
    pub fn remove_attribute(&self, name: &str) -> Result {
        self.exchange.set_attribute(name, None)
    }

    /// Returns an init parameter of the servlet: of web.toml or, if there is none, of its declaration.
    pub fn init(&self, name: &str) -> Option<&str> {
        self.instance.init(name)
    }

    /// Returns the module's state, for those who are not given it as an argument, as filters and listener functions; an error
    /// when [`start`](macro@crate::start) makes another type, or none.
    ///
    /// ```
    /// # use servlet::prelude::*;
    /// # struct Shop { open: bool }
    /// #[derive(Default)]
    /// struct Closed;
    ///
    /// #[filter("/buy/*")]
    /// impl Filter for Closed {
    ///     type State = ();
    ///
    ///     fn request(&self, request: &Request, _: &mut Response) -> Result<Flow<()>> {
    ///         let shop: &Shop = request.state()?;
    ///         if shop.open { Ok(Flow::Next(())) } else { Err(error(503, "the shop is closed")) }
    ///     }
    /// }
    /// ```
    pub fn state<S: Send + Sync + 'static>(&self) -> Result<&S> {
        self.instance.state()
    }

    /// Returns the webapp.
    pub fn context(&self) -> &Context {
        self.instance.context()
    }

    /// Tells whether the answer is of no use any more: the client has gone, or its time is up. Long work looks here.
    pub fn is_cancelled(&self) -> bool {
        self.exchange.cancelled()
    }

    /// Tells whether a newer generation of the webapp has taken over. Endless answers end then.
    pub fn is_retiring(&self) -> bool {
        self.exchange.retiring()
    }

    /// In an async servlet: waits until a newer generation has taken over, to be raced with other work.
    /// [`EventStream::next`](crate::EventStream::next) does that by itself.
    pub fn retired(&self) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(|context| {
            if self.exchange.retiring() {
                return Poll::Ready(());
            }
            // The server polls the task when that happens.
            Current::with_turn(|turn| turn.map(|turn| Turn::wake_with_next(turn, context.waker())));
            Poll::Pending
        })
    }

    /// In an async servlet: sets how long the answer may take from now on, in place of the webapp's time-out; `None`: as long
    /// as it likes. After it the client gets the error page for 500, or a cut answer.
    ///
    /// ```
    /// # use servlet::prelude::*;
    /// # use std::time::Duration;
    /// #[servlet("/report")]
    /// async fn report(request: &Request, response: &mut Response) -> Result {
    ///     request.set_timeout(Some(Duration::from_secs(300)))?;
    ///     response.text(count_everything().await)
    /// }
    /// # async fn count_everything() -> String { String::new() }
    /// ```
    pub fn set_timeout(&self, after: Option<Duration>) -> Result {
        self.exchange.set_timeout(after)
    }
}

fn port(number: u32) -> u16 {
    u16::try_from(number).unwrap_or_default()
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Request({} {}, id {})", self.method_name(), self.uri(), self.id())
    }
}
