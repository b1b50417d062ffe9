//! Sessions: what is kept for one client between its requests.

use std::fmt;
use std::time::{Duration, SystemTime};

use serval_abi::{sv_session_info, sv_str};

use crate::host::{self, Exchange, SessionHandle};
use crate::{Request, Result};

impl Request {
    /// Returns the client's session; there is one from now on.
    ///
    /// An error when a new one cannot be made any more, because the response is committed: ask for it before writing.
    pub fn session(&self) -> Result<Session<'_>> {
        let handle = self.exchange().session(true)?;
        let handle = handle.ok_or_else(|| crate::error(500, "the server made no session"))?;
        Ok(Session { request: self, handle })
    }

    /// Returns the id of a session that the client has sent, and what became of it; `None`: it has sent none.
    pub fn requested_session(&self) -> Result<Option<RequestedSession<'_>>> {
        // SAFETY: NULL, or what lives until `service` returns (servlet.h 4), as this borrow of the request ends before.
        let Some(info) = (unsafe { self.exchange().session_info()?.as_ref() }) else { return Ok(None) };
        Ok(self.optional(info.requested_id).map(|id| RequestedSession {
            id,
            by_cookie: info.requested_by_cookie != 0,
            by_url: info.requested_by_url != 0,
            is_valid: info.requested_valid != 0,
        }))
    }

    /// Returns the client's session, if it has one.
    pub fn session_if_any(&self) -> Result<Option<Session<'_>>> {
        Ok(self.exchange().session(false)?.map(|handle| Session { request: self, handle }))
    }
}

/// The id of a session as a client has sent it; from [`Request::requested_session`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestedSession<'a> {
    /// As it came: it is a secret while the session lives.
    pub id: &'a str,
    /// It came in a cookie.
    pub by_cookie: bool,
    /// It came in the path.
    pub by_url: bool,
    /// There is such a session, and it has not ended.
    pub is_valid: bool,
}

impl fmt::Debug for RequestedSession<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the id.
        write!(formatter, "RequestedSession(valid: {})", self.is_valid)
    }
}

/// What is kept for one client between its requests: values under names (*attributes*), in the server.
///
/// The server holds them as bytes, so that they survive reloads of the library, and limits their
/// size. With feature `json` any serde value can be kept; it is stored as JSON. Requests of one client may run at the same
/// time and share the session: the last one that sets a value wins.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use servlet::prelude::*;
///
/// #[servlet("/visits")]
/// fn visits(request: &Request, response: &mut Response) -> Result {
///     let session = request.session()?;
///     let visits = session.get_or_default::<u32>("visits")? + 1;
///     session.set("visits", &visits)?;
///     response.text(format!("visit {visits}"))
/// }
///
/// #[servlet("/login", methods = [POST])]
/// fn login(request: &Request, response: &mut Response) -> Result {
///     // ... after the password was checked:
///     let session = request.session()?;
///     session.change_id()?; // whoever knew the id before is not logged in
///     session.set("user", "ada")?;
///     response.redirect("home")
/// }
///
/// #[servlet("/logout", methods = [POST])]
/// fn logout(request: &Request, response: &mut Response) -> Result {
///     if let Some(session) = request.session_if_any()? {
///         session.invalidate()?;
///     }
///     response.redirect("home")
/// }
///
/// servlet::module!();
/// # fn main() {
/// let app = servlet::test::App::new();
/// app.get("/visits").send().assert_text("visit 1");
/// app.get("/visits").send().assert_text("visit 2");
/// let before = app.cookie("JSESSIONID");
/// app.post("/login").send().assert_status(302);
/// assert_ne!(app.cookie("JSESSIONID"), before);
/// app.get("/visits").send().assert_text("visit 3");
/// app.post("/logout").send();
/// app.get("/visits").send().assert_text("visit 1");
/// # }
/// ```
///
/// # Values of another shape
/// Sessions outlive the library, so a value may be there that a former version wrote, and that `T` does not fit any more.
/// `get` then is an error, answered with 500, whose text for the log names the attribute, the type and
/// what does not fit. Where the value is not worth that, `get_or_remove` treats it as absent and
/// removes it, and `get_or_default` takes the default in its place. `#[serde(default)]` on new
/// fields avoids it.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    request: &'a Request,
    handle: SessionHandle,
}

impl<'a> Session<'a> {
    fn exchange(&self) -> Exchange {
        self.request.exchange()
    }

    fn info(&self) -> Result<&'a sv_session_info> {
        let info = self.exchange().session_info()?;
        // SAFETY: NULL, or what lives until `service` returns (servlet.h 4), as the request lent for 'a does.
        unsafe { info.as_ref() }.ok_or_else(|| crate::error(500, "the server says nothing of the session"))
    }

    fn text(&self, view: sv_str) -> Option<&'a str> {
        // SAFETY: as in `info`.
        unsafe { host::text(view) }
    }

    /// Returns the id, as the client holds it in its cookie. It is a secret: do not log it.
    pub fn id(&self) -> Result<&'a str> {
        Ok(self.text(self.info()?.id).unwrap_or_default())
    }

    /// Tells whether the client does not know of the session yet.
    pub fn is_new(&self) -> Result<bool> {
        Ok(self.info()?.is_new != 0)
    }

    /// Returns when it was created.
    pub fn created(&self) -> Result<SystemTime> {
        Ok(time(self.info()?.created))
    }

    /// Returns when the client's request before this one came.
    pub fn accessed(&self) -> Result<SystemTime> {
        Ok(time(self.info()?.accessed))
    }

    /// Returns how long the session lives without a request; `None`: it never ends by itself.
    pub fn max_inactive(&self) -> Result<Option<Duration>> {
        let seconds = self.info()?.max_inactive;
        Ok(u64::try_from(seconds).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs))
    }

    /// Sets how long the session lives without a request, in whole seconds, at least one; `None`: it never ends by itself.
    pub fn set_max_inactive(&self, time: Option<Duration>) -> Result {
        let seconds = time.map_or(0, |time| i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX));
        self.exchange().session_set_max_inactive(self.handle, seconds)
    }

    /// Gives the session a new id, and returns it. Do it when a user logs in, so that nobody who gave the client an id of his
    /// own shares the session then. The values stay.
    pub fn change_id(&self) -> Result<&'a str> {
        let id = self.exchange().session_change_id(self.handle)?;
        Ok(id.and_then(|id| self.text(id)).unwrap_or_default())
    }

    /// Ends the session and forgets its values. What is asked of it afterwards is an error; the next
    /// [`Request::session`] makes a new one.
    pub fn invalidate(self) -> Result {
        self.exchange().session_invalidate(self.handle)
    }

    /// Returns the names of the values.
    pub fn names(&self) -> Result<impl Iterator<Item = &'a str> + use<'a>> {
        let (first, count) = self.exchange().session_attributes(self.handle)?;
        // SAFETY: as in `info`.
        let pairs = unsafe { host::pairs::<'a>(first, count) };
        // SAFETY: as in `info`.
        Ok(pairs.iter().map(|pair| unsafe { host::text(pair.name) }.unwrap_or_default()))
    }

    /// Returns the value of that name as it is stored.
    pub fn get_bytes(&self, name: &str) -> Result<Option<&'a [u8]>> {
        let value = self.exchange().session_attribute(self.handle, name)?;
        // SAFETY: as in `info`; a value that is replaced lives on until then.
        Ok(value.and_then(|value| unsafe { host::bytes(value) }))
    }

    /// Returns the value of that name as text; an error if it is not UTF-8.
    ///
    /// It is for values of [`set_bytes`](Session::set_bytes); what `set` stores is JSON.
    pub fn get_str(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(bytes) = self.get_bytes(name)? else { return Ok(None) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(wrong) => Err(misfit(name, "str", &wrong)),
        }
    }

    /// Stores bytes, or text, as they are. An error when the session gets larger than the server allows.
    pub fn set_bytes(&self, name: &str, value: impl AsRef<[u8]>) -> Result {
        self.exchange().session_set_attribute(self.handle, name, Some(value.as_ref()))
    }

    /// Removes the value of that name, if there is one.
    pub fn remove(&self, name: &str) -> Result {
        self.exchange().session_set_attribute(self.handle, name, None)
    }
}

/// Feature `json`.
#[cfg(feature = "json")]
impl<'a> Session<'a> {
    /// Returns the value of that name. Feature `json`.
    ///
    /// An error when it does not fit `T`; see [above](Session#values-of-another-shape).
    pub fn get<T: serde::Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get_bytes(name)? else { return Ok(None) };
        match crate::json::decode(bytes) {
            Ok(value) => Ok(Some(value)),
            Err(wrong) => Err(misfit(name, std::any::type_name::<T>(), &wrong)),
        }
    }

    /// Returns the value of that name; one that does not fit `T` is removed, with a warning in the log. Feature `json`.
    pub fn get_or_remove<T: serde::Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get_bytes(name)? else { return Ok(None) };
        match crate::json::decode(bytes) {
            Ok(value) => Ok(Some(value)),
            Err(wrong) => {
                let text = misfit(name, std::any::type_name::<T>(), &wrong);
                crate::log::write(crate::log::Level::Warn, format_args!("{}; it is removed", text.text()));
                self.remove(name)?;
                Ok(None)
            }
        }
    }

    /// Returns the value of that name, or the default where there is none, or one that does not fit `T`; that one is
    /// removed, with a warning in the log. Feature `json`.
    pub fn get_or_default<T: serde::Deserialize<'a> + Default>(&self, name: &str) -> Result<T> {
        Ok(self.get_or_remove(name)?.unwrap_or_default())
    }

    /// Stores a value as JSON. An error when the session gets larger than the server allows. Feature `json`.
    pub fn set<T: serde::Serialize + ?Sized>(&self, name: &str, value: &T) -> Result {
        self.set_bytes(name, crate::json::encode(value)?)
    }
}

fn misfit(name: &str, wanted: &str, reason: &dyn fmt::Display) -> crate::Error {
    crate::error(500, format!("the session attribute {name:?} is not a {wanted}: {reason}"))
        .with_kind("servlet/session-attribute")
}

fn time(milliseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the id, which is a secret.
        formatter.write_str("Session")
    }
}
