//! The webapp that a module belongs to.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use serval_abi::{SV_PATH_ROOT, SV_PATH_TEMP, SV_PATH_WORK, sv_str};

use crate::Result;
use crate::background::{Background, Stopping};
use crate::host::{self, ContextHandle};

/// The webapp: its parameters, named values, folders and shared attributes. It may be used on any thread.
///
/// ```
/// use servlet::prelude::*;
///
/// struct Notes {
///     file: std::path::PathBuf,
/// }
///
/// #[start]
/// fn start(context: &Context) -> Result<Notes> {
///     let folder = context.work_folder().ok_or_else(|| error(500, "no work folder"))?;
///     Ok(Notes { file: folder.join("notes.txt") })
/// }
/// ```
pub struct Context {
    handle: ContextHandle,
    background: Arc<Background>,
}

impl Context {
    pub(crate) fn new(handle: ContextHandle, background: Arc<Background>) -> Context {
        Context { handle, background }
    }

    fn text(&self, view: sv_str) -> Option<&str> {
        // SAFETY: strings of a context live until destroy returns. The module owns this context and is dropped before; it
        // cannot be cloned or moved out of it.
        unsafe { host::text(view) }
    }

    /// Returns the path that the webapp is mounted at; `""` for the root.
    pub fn path(&self) -> &str {
        self.handle.path().and_then(|path| self.text(path)).unwrap_or_default()
    }

    /// Returns a context parameter, of `[params]` in web.toml or of server.toml.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.handle.parameter(name).and_then(|value| self.text(value))
    }

    /// Returns all context parameters.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let (first, count) = self.handle.parameters();
        // SAFETY: as in `text`.
        let pairs = unsafe { host::pairs(first, count) };
        pairs.iter().map(|pair| (self.text(pair.name).unwrap_or_default(), self.text(pair.value).unwrap_or_default()))
    }

    /// Returns a named value of the webapp: of `[env]` in web.toml or of server.toml, as text or as a link to what the server
    /// calls so. It may be a secret, which the server never shows; do not log it either. It stays as it is until a reload.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[start]
    /// fn start(context: &Context) -> Result<Shop> {
    ///     let database = context.resource("database").ok_or_else(|| error(500, "[env] has no `database`"))?;
    ///     Ok(Shop { database: database.to_owned() })
    /// }
    ///
    /// struct Shop {
    ///     database: String,
    /// }
    /// ```
    pub fn resource(&self, name: &str) -> Option<&str> {
        self.handle.resource(name).and_then(|value| self.text(value))
    }

    /// Returns the webapp's folder. Read it; do not write into it.
    pub fn root_folder(&self) -> Option<&Path> {
        self.folder(SV_PATH_ROOT)
    }

    /// Returns a folder of the webapp's own, kept over reloads and restarts.
    pub fn work_folder(&self) -> Option<&Path> {
        self.folder(SV_PATH_WORK)
    }

    /// Returns a folder that is emptied when the server starts.
    pub fn temp_folder(&self) -> Option<&Path> {
        self.folder(SV_PATH_TEMP)
    }

    fn folder(&self, which: i32) -> Option<&Path> {
        self.handle.folder(which).and_then(|path| self.text(path)).map(Path::new)
    }

    /// Returns the media type of a file by its name.
    pub fn mime_type(&self, file_name: &str) -> Option<&str> {
        self.handle.mime_type(file_name).and_then(|found| self.text(found))
    }

    /// Returns a copy of an attribute: bytes that the libraries of a webapp share.
    pub fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.handle.attribute(name)
    }

    /// Sets an attribute.
    pub fn set_attribute(&self, name: &str, value: impl AsRef<[u8]>) -> Result {
        self.handle.set_attribute(name, Some(value.as_ref()))
    }

    /// Removes an attribute.
    pub fn remove_attribute(&self, name: &str) -> Result {
        self.handle.set_attribute(name, None)
    }

    /// Returns which load of the webapp this is, counted from 1.
    pub fn generation(&self) -> u64 {
        self.handle.generation()
    }

    /// Runs a future beside the requests, on a thread of the library's own, and with the feature `tokio` in its runtime.
    ///
    /// It belongs to this generation: when that ends, [`stopping`](Context::stopping) tells it. It then has 2 s to end by
    /// itself, and is dropped at its next `.await` after that; all before [`stop`](macro@crate::stop) runs. A panic is
    /// logged. An error (503) if 10,000 run already, or the generation ends.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/order", methods = [POST])]
    /// async fn order(request: &Request, response: &mut Response) -> Result {
    ///     let id = request.id();
    ///     request.context().spawn(async move {
    ///         if let Err(wrong) = send_mail(id).await {
    ///             servlet::log::error!("no mail for order {id}: {wrong}");
    ///         }
    ///     })?;
    ///     response.status(202)?.done()
    /// }
    ///
    /// async fn send_mail(order: u64) -> Result {
    ///     servlet::log::info!("order {order} is confirmed");
    ///     Ok(())
    /// }
    /// ```
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result {
        self.background.spawn(future)
    }

    /// Starts a thread of the library's own; it has to end when it is told to, for it is waited for, however long that takes.
    /// An error (503) if 64 run already, or the generation ends.
    ///
    /// ```
    /// use servlet::prelude::*;
    /// use std::time::Duration;
    ///
    /// #[start]
    /// fn start(context: &Context) -> Result<()> {
    ///     context.spawn_thread("counter", |stopping| {
    ///         while !stopping.wait(Duration::from_secs(1)) {
    ///             servlet::log::debug!("tick");
    ///         }
    ///     })
    /// }
    /// ```
    pub fn spawn_thread(&self, name: &str, body: impl FnOnce(Stopping) + Send + 'static) -> Result {
        self.background.spawn_thread(name, body)
    }

    /// Returns what tells that this generation ends.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[start]
    /// fn start(context: &Context) -> Result<()> {
    ///     let stopping = context.stopping();
    ///     context.spawn(async move {
    ///         stopping.stopped().await;
    ///         servlet::log::info!("good bye");
    ///     })
    /// }
    /// ```
    pub fn stopping(&self) -> Stopping {
        self.background.stopping()
    }

    /// Writes a line to the webapp's log, as [`log::info!`](crate::log::info) does.
    pub fn log(&self, text: &str) {
        crate::log::write(crate::log::Level::Info, format_args!("{text}"));
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Context({:?}, generation {})", self.path(), self.generation())
    }
}
