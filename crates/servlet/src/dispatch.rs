//! One servlet hands a request on to another one (Servlet 9), and what a dispatch knows of itself.

use std::fmt;

use serval_abi::{
    SV_BY_NAME, SV_DISPATCH_ASYNC, SV_DISPATCH_ERROR, SV_DISPATCH_FORWARD, SV_DISPATCH_INCLUDE, SV_FORWARD, SV_INCLUDE,
};

use crate::host::waiting;
use crate::{Request, Result, error};

/// Why a servlet or filter is called (Servlet 6.2.5); from [`Request::dispatcher`]. It shows as its name in the
/// Servlet specification: `FORWARD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatcher {
    /// A client asks for it.
    Request,
    /// Another servlet hands its request over.
    Forward,
    /// Another servlet takes its output into its own.
    Include,
    /// It makes an error page.
    Error,
    /// It goes on with a request that was async.
    Async,
}

impl Dispatcher {
    pub(crate) fn of(bit: u32) -> Dispatcher {
        match bit {
            SV_DISPATCH_FORWARD => Dispatcher::Forward,
            SV_DISPATCH_INCLUDE => Dispatcher::Include,
            SV_DISPATCH_ERROR => Dispatcher::Error,
            SV_DISPATCH_ASYNC => Dispatcher::Async,
            _ => Dispatcher::Request,
        }
    }
}

impl fmt::Display for Dispatcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Dispatcher::Request => "REQUEST",
            Dispatcher::Forward => "FORWARD",
            Dispatcher::Include => "INCLUDE",
            Dispatcher::Error => "ERROR",
            Dispatcher::Async => "ASYNC",
        })
    }
}

/// Dispatches. They wait for their target, so an async servlet cannot forward or include: it uses
/// [`async_dispatch`](Request::async_dispatch).
///
/// A path belongs to this webapp: it starts with `/`, or is relative to the path that is being served; a query may follow. It
/// may lead into WEB-INF. What the target answers with stays its answer: its status, its error, and its error's page.
impl Request {
    /// Lets another servlet, or file, answer in place of this one (Servlet 9.4).
    ///
    /// What was written is dropped; status and headers stay. After it the response is finished, and writing is an error. It is
    /// an error, too, when the response is committed, and (500) when the webapp has nothing at that path.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/old/*")]
    /// fn old(request: &Request, _: &mut Response) -> Result {
    ///     request.forward("/new?from=old")
    /// }
    ///
    /// #[servlet("/new")]
    /// fn new(request: &Request, response: &mut Response) -> Result {
    ///     response.text(format!("{} {}", request.dispatcher(), request.param("from")?.unwrap_or("nowhere")))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.get("/old/page").send().assert_text("FORWARD old");
    /// app.get("/new").send().assert_text("REQUEST nowhere");
    /// # }
    /// ```
    pub fn forward(&self, path: &str) -> Result {
        self.dispatch(SV_FORWARD, path)
    }

    /// Lets the servlet of that name answer in place of this one, which sees the same paths as this one (Servlet 9.1).
    pub fn forward_named(&self, servlet: &str) -> Result {
        self.dispatch(SV_FORWARD | SV_BY_NAME, servlet)
    }

    /// Takes what another servlet, or file, writes into this answer (Servlet 9.3). It cannot change status and headers.
    ///
    /// An error when the webapp has nothing at that path: of the kind `io/not-found` for a missing file.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/page")]
    /// fn page(request: &Request, response: &mut Response) -> Result {
    ///     response.content_type("text/html; charset=utf-8")?.write("<h1>News</h1>")?;
    ///     request.include("/footer?year=2026")?;
    ///     response.write("<!-- end -->")
    /// }
    ///
    /// #[servlet("/footer")]
    /// fn footer(request: &Request, response: &mut Response) -> Result {
    ///     response.status(404)?; // has no effect in an include
    ///     write!(response, "<p>{}</p>", escape(request.param("year")?.unwrap_or_default()))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.get("/page").send().assert_status(200).assert_text("<h1>News</h1><p>2026</p><!-- end -->");
    /// # }
    /// ```
    pub fn include(&self, path: &str) -> Result {
        self.dispatch(SV_INCLUDE, path)
    }

    /// Takes what the servlet of that name writes into this answer.
    pub fn include_named(&self, servlet: &str) -> Result {
        self.dispatch(SV_INCLUDE | SV_BY_NAME, servlet)
    }

    fn dispatch(&self, how: i32, target: &str) -> Result {
        match self.exchange().dispatch(how, target)? {
            true => Ok(()),
            false => {
                Err(error(500, format!("this webapp has no {target:?} to dispatch to"))
                    .with_kind("runtime/no-such-target"))
            }
        }
    }

    /// In an async servlet: hands the request on to that path, or with `None` to the one that was asked for, as soon as this
    /// servlet has returned and what it has written is on its way (Servlet 9.7). Nothing may be done with request and response
    /// after it. A path that the webapp does not have is an error of this servlet, when it has returned.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/slow")]
    /// async fn slow(request: &Request, _: &mut Response) -> Result {
    ///     request.async_dispatch(Some("/result?of=slow")).await
    /// }
    ///
    /// #[servlet("/result")]
    /// fn result(request: &Request, response: &mut Response) -> Result {
    ///     response.text(format!("{} {}", request.dispatcher(), request.param("of")?.unwrap_or_default()))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// servlet::test::App::new().get("/slow").send().assert_text("ASYNC slow");
    /// # }
    /// ```
    pub async fn async_dispatch(&self, path: Option<&str>) -> Result {
        let noted = self.goes_to().set(path.map(str::to_owned));
        noted.map_err(|_| error(500, "async_dispatch was called already"))
    }

    /// Does what `async_dispatch` has noted. The server may end the task at the next wait.
    pub(crate) async fn go_on(&self) -> Result {
        let Some(path) = self.goes_to().get() else { return Ok(()) };
        // The server wants a task for it, which there is not before the first poll has returned.
        waiting(|| self.exchange().async_dispatch(path.as_deref())).await
    }
}
