//! Tests of servlets without a server: a small host in memory, in the test's own process.
//!
//! [`App::new`] starts the library as a server does: it calls `#[start]`, makes the servlets and filters, and tells the
//! listeners. Requests run on the thread of the test, through the filters to the servlet that the path is mapped to. Async
//! servlets are driven to their end; time is real.
//!
//! ```
//! use servlet::prelude::*;
//!
//! #[servlet("/hello/*", methods = [GET, POST])]
//! fn hello(request: &Request, body: &mut Body, response: &mut Response) -> Result {
//!     let name = request.path_info().unwrap_or("/World").trim_start_matches('/');
//!     response.header("x-read", body.all(1024)?.len().to_string())?.text(format!("Hello, {name}!"))
//! }
//!
//! servlet::module!();
//!
//! # /*
//! #[cfg(test)]
//! mod tests {
//!     use servlet::test::App;
//!
//!     #[test]
//!     fn it_greets() {
//! # */
//! # use servlet::test::App;
//! # fn main() {
//!         let app = App::new();
//!         app.get("/hello/Ada").send().assert_status(200).assert_text("Hello, Ada!");
//!         let answer = app.post("/hello/Bob").header("x-from", "Ada").body("tea?").send();
//!         answer.assert_text("Hello, Bob!").assert_header("x-read", "4");
//!         app.get("/nowhere").send().assert_status(404);
//! # }
//! # /*
//!     }
//! }
//! # */
//! ```
//!
//! # What it is not
//! A server: there is no network, no web.toml, no error pages (an error's status and text are in the [`Answer`]), no static
//! files (404), no login but the one that [`Call::user`] makes up, and no limits but those of the interface. What depends on
//! them is tested with a server.

pub use answer::Answer;
pub use call::Call;

mod answer;
mod call;
mod exchange;
mod mapping;
mod session;
mod table;
mod webapp;

use std::path::Path;

use serval_abi::sv_module;

use crate::Method;
use webapp::Webapp;

/// A webapp that runs in the test's own process, until it is dropped.
///
/// It keeps cookies as a browser does (without looking at their paths and domains), so that sessions work across requests.
/// Tests may have several at a time, and use one on several threads.
pub struct App {
    webapp: std::sync::Arc<Webapp>,
}

/// How an [`App`] is set up: what web.toml and server.toml say otherwise. See [`App::setup`].
#[derive(Debug, Clone, Default)]
pub struct Setup {
    pub(crate) path: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) resources: Vec<(String, String)>,
    pub(crate) init: Vec<(String, String, String)>,
    pub(crate) part_bytes_in_memory: Option<usize>,
}

impl Setup {
    /// Sets the path that the webapp is mounted at, such as `/shop`; the root when left out. Requests name paths inside it.
    pub fn path(mut self, path: &str) -> Setup {
        path.clone_into(&mut self.path);
        self
    }

    /// Sets a context parameter.
    pub fn param(mut self, name: &str, value: &str) -> Setup {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a named value, of `[env]`.
    pub fn resource(mut self, name: &str, value: &str) -> Setup {
        self.resources.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets an init parameter of a servlet or filter, by its name.
    pub fn init(mut self, of: &str, name: &str, value: &str) -> Setup {
        self.init.push((of.to_owned(), name.to_owned(), value.to_owned()));
        self
    }

    /// Writes parts of multipart bodies that are longer than so many bytes into files, as a server does; none when left out.
    pub fn part_bytes_in_memory(mut self, bytes: usize) -> Setup {
        self.part_bytes_in_memory = Some(bytes);
        self
    }

    /// Starts the webapp. An error is the text with which the library refused: of `#[start]`, or of what is declared wrong.
    #[inline]
    pub fn start(self) -> std::result::Result<App, String> {
        // `servlet::module!()` of the tested package exports it. This function is compiled into the package that calls it, for
        // it is inline: so nothing refers to that symbol in packages without tests.
        unsafe extern "C" {
            safe fn servlet_module_v1() -> *const sv_module;
        }
        // SAFETY: what it returns is constant data that lives as long as the library (servlet.h).
        unsafe { App::of(servlet_module_v1(), self) }
    }
}

impl App {
    /// Starts the webapp as it is declared. Panics with the library's text if it refuses; see [`Setup::start`].
    #[inline]
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it may panic, and does a lot")]
    pub fn new() -> App {
        match App::setup().start() {
            Ok(app) => app,
            Err(text) => panic!("the library refused to start: {text}"),
        }
    }

    /// Sets up a webapp.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[start]
    /// fn start(context: &Context) -> Result<String> {
    ///     context.param("currency").map(str::to_owned).ok_or_else(|| error(500, "currency is missing"))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// # use servlet::test::App;
    /// assert_eq!(App::setup().start().unwrap_err(), "currency is missing");
    /// assert!(App::setup().param("currency", "EUR").start().is_ok());
    /// # }
    /// ```
    pub fn setup() -> Setup {
        Setup::default()
    }

    /// # Safety
    /// `module` is NULL, or constant data that lives as long as the library.
    #[doc(hidden)]
    pub unsafe fn of(module: *const sv_module, setup: Setup) -> std::result::Result<App, String> {
        // SAFETY: the caller's promise.
        let module = unsafe { module.as_ref() }.ok_or("servlet_module_v1 returned NULL")?;
        Ok(App { webapp: Webapp::start(module, setup)? })
    }

    /// Starts the next generation as a reload does: it takes over what `#[carry]` saves, sessions stay, and the one before
    /// ends. An error is the text with which the next one refused; then the one before serves on.
    pub fn reload(&self) -> std::result::Result<(), String> {
        self.webapp.reload()
    }

    /// Makes the webapp say that a newer generation has taken over: see [`Request::is_retiring`](crate::Request::is_retiring).
    pub fn retire(&self) {
        self.webapp.retire();
    }

    /// Begins a GET request; the target is a path inside the webapp, maybe with a query: `/search?words=tea`.
    pub fn get(&self, target: &str) -> Call<'_> {
        self.request(Method::GET, target)
    }

    /// Begins a POST request.
    pub fn post(&self, target: &str) -> Call<'_> {
        self.request(Method::POST, target)
    }

    /// Begins a PUT request.
    pub fn put(&self, target: &str) -> Call<'_> {
        self.request(Method::PUT, target)
    }

    /// Begins a DELETE request.
    pub fn delete(&self, target: &str) -> Call<'_> {
        self.request(Method::DELETE, target)
    }

    /// Begins a request of any method.
    pub fn request(&self, method: Method, target: &str) -> Call<'_> {
        Call::new(&self.webapp, method, target)
    }

    /// Returns the value of a cookie that the client has.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.webapp.cookie(name)
    }

    /// Makes the client forget its cookies, and so its session: the next requests are those of somebody else.
    pub fn forget_cookies(&self) {
        self.webapp.forget_cookies();
    }

    /// Returns the lines that were logged, as `INFO sold 3`; panics among them.
    pub fn log(&self) -> Vec<String> {
        self.webapp.logged()
    }

    /// Returns the webapp's folder, which is empty: tests may write into it.
    pub fn root_folder(&self) -> &Path {
        self.webapp.folder("root")
    }

    /// Returns the work folder. All three are below the system's folder for temporary files, until the app is dropped.
    pub fn work_folder(&self) -> &Path {
        self.webapp.folder("work")
    }

    /// Returns the folder for temporary files.
    pub fn temp_folder(&self) -> &Path {
        self.webapp.folder("temp")
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("App")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The library takes its panic hook back, which a thread may not do while it panics.
            std::thread::scope(|scope| scope.spawn(|| self.webapp.end()).join().ok());
        } else {
            self.webapp.end();
        }
    }
}
