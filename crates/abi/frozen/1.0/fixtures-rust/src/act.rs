//! `act`: runs the script in its init parameter `do`, one command a line.
//!
//! Commands that leave the request open (`async...`) need an async servlet, so there are two of it: `act`, and `act-async` for
//! scripts with such a command.

use std::future::pending;
use std::time::Duration;

use servlet::prelude::*;
use servlet::{Dispatcher, unavailable};

use crate::echo;

/// Attributes of the request, because a script may go on in another servlet.
const KIND: &str = "act.kind";
const CHARSET: &str = "act.charset";
/// After an error, a redirect or a forward Java drops what is done to the head; servlet.h would still take headers.
const CLOSED: &str = "act.closed";

#[servlet(unmapped, methods = [ANY])]
fn act(request: &Request, body: &mut Body, response: &mut Response) -> Result {
    if request.dispatcher() == Dispatcher::Error {
        // The answer of an error page is a new one.
        request.remove_attribute(KIND)?;
        request.remove_attribute(CLOSED)?;
    }
    let mut script = Script { request, response, shown: String::new() };
    for line in lines(request) {
        script.line(line, Some(body))?;
    }
    Ok(())
}

#[servlet(unmapped, name = "act-async", methods = [ANY])]
async fn act_async(request: &Request, response: &mut Response) -> Result {
    let mut last = None;
    {
        let mut script = Script { request, response, shown: String::new() };
        for line in lines(request) {
            let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
            match command {
                "asyncTimeout" => request.set_timeout(Some(Duration::from_millis(rest.parse()?)))?,
                "asyncComplete" => script.write("writer", rest)?,
                "asyncDispatch" => {}
                _ => {
                    script.line(line, None)?;
                    continue;
                }
            }
            last = Some((command, rest));
        }
    }
    match last {
        Some(("asyncTimeout", _)) => pending().await,
        Some(("asyncDispatch", path)) => request.async_dispatch(Some(path)).await,
        _ => Ok(()),
    }
}

fn lines(request: &Request) -> impl Iterator<Item = &str> {
    request.init("do").unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty())
}

struct Script<'a> {
    request: &'a Request,
    response: &'a mut Response,
    /// What `committed` and `try:` have found, for `show`.
    shown: String,
}

impl Script<'_> {
    fn line(&mut self, line: &str, body: Option<&mut Body>) -> Result {
        let guarded = line.strip_prefix("try:");
        let Err(error) = self.command(guarded.unwrap_or(line), body) else { return Ok(()) };
        let exception = match error.kind() {
            "servlet/state" => "IllegalStateException",
            "servlet/argument" => "IllegalArgumentException",
            _ => return Err(error),
        };
        if guarded.is_none() {
            return Err(error.with_kind("runtime/state"));
        }
        self.shown.push_str(&format!("caught:{exception}"));
        tell(self.request, self.response, "X-Caught", exception)
    }

    fn command(&mut self, line: &str, body: Option<&mut Body>) -> Result {
        let (request, response) = (self.request, &mut *self.response);
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        let of_head = ["status", "header", "addHeader", "type", "encoding", "length", "cookie"].contains(&command);
        if of_head && is_closed(request)? {
            return Ok(());
        }
        match command {
            "status" => swallow(response.status(first.parse()?).map(drop)),
            "header" => unsendable(response.header(first, second).map(drop)),
            "addHeader" => unsendable(response.add_header(first, second).map(drop)),
            "type" => swallow(self.content_type(rest)),
            "encoding" => self.encoding(first),
            "write" => self.write("writer", rest),
            "writeN" => self.write("writer", &"x".repeat(first.parse()?)),
            "show" => self.write("writer", &self.shown.clone()),
            "bytes" => self.write("stream", rest),
            "flush" => response.flush(),
            "buffer" => response.buffer_size(first.parse()?).map(drop),
            "length" => response.content_length(first.parse()?).map(drop),
            "reset" => {
                response.reset()?;
                request.remove_attribute(KIND)?;
                request.remove_attribute(CHARSET)
            }
            "resetBuffer" => response.reset_buffer().map(drop),
            "error" => response.error(first.parse()?, second).and_then(|()| close(request)),
            "redirect" => response.redirect(rest).and_then(|()| close(request)),
            "committed" => {
                let committed = response.is_committed()?.to_string();
                self.shown.push_str(&committed);
                tell(request, response, "X-Committed", committed)
            }
            "throw" => Err(thrown(first, second)),
            "forward" => request.forward(rest).and_then(|()| close(request)),
            "include" => request.include(rest),
            "namedForward" => request.forward_named(first).and_then(|()| close(request)),
            "namedInclude" => request.include_named(first),
            // Those of the server cannot be set: the script fails, as it does in Tomcat, where a text is no exception.
            "attr" => request.set_attribute(first.strip_prefix("jakarta.").unwrap_or(first), second),
            "encodeURL" => {
                let encoded = response.encode_url(rest)?;
                tell(request, response, "X-Encoded", encoded)
            }
            "cookie" => cookie(response, rest),
            "login" => match request.login(first, second)? {
                true => Ok(()),
                false => Err(error(500, "wrong name or password").with_kind("servlet")),
            },
            "logout" => request.logout(),
            "hasRole" => {
                let has = request.has_role(first)?.to_string();
                tell(request, response, &format!("X-Role-{first}"), has)
            }
            "read" => {
                let body = body.ok_or_else(|| error(500, "an async script does not read"))?;
                let mut count = 0;
                while let Some(chunk) = body.chunk()? {
                    count += chunk.len();
                }
                tell(request, response, "X-Read", count.to_string())
            }
            "echo" => echo::print(request, response),
            "mimeOf" => {
                let found = request.context().mime_type(rest).unwrap_or("null").to_owned();
                tell(request, response, "X-Mime", found)
            }
            _ => self.session(command, first, second),
        }
    }

    fn session(&mut self, command: &str, first: &str, second: &str) -> Result {
        let (request, response) = (self.request, &mut *self.response);
        match command {
            "session" => {
                let session = request.session()?;
                let (is_new, id) = (session.is_new()?.to_string(), session.id()?);
                tell(request, response, "X-Session-New", is_new)?;
                tell(request, response, "X-Session-Id", id)
            }
            "sessionIf" => {
                let id = request.session_if_any()?.map_or(Ok("none"), |session| session.id())?;
                tell(request, response, "X-Session", id)
            }
            "put" => request.session()?.set_bytes(first, second),
            "get" => {
                let value = match request.session_if_any()? {
                    Some(session) => session.get_bytes(first)?,
                    None => None,
                };
                tell(request, response, "X-Get", value.unwrap_or(b"null"))
            }
            "rotate" => {
                let Some(session) = request.session_if_any()? else {
                    return Err(error(500, "there is no session").with_kind("servlet/state"));
                };
                tell(request, response, "X-Rotated", session.change_id()?)
            }
            "invalidate" => request.session()?.invalidate(),
            "maxInactive" => request.session()?.set_max_inactive(Some(Duration::from_secs(first.parse()?))),
            _ => Err(error(500, format!("bad command {command}")).with_kind("servlet")),
        }
    }

    /// The charset stays when the writer was taken.
    fn encoding(&mut self, charset: &str) -> Result {
        if self.kind()?.as_deref() == Some("writer") {
            return Ok(());
        }
        self.request.set_attribute(CHARSET, charset)?;
        swallow(self.response.charset(charset).map(drop))
    }

    fn content_type(&mut self, given: &str) -> Result {
        let Some((kind, charset)) = given.split_once(";").and_then(|(kind, parameters)| {
            let charset = parameters.trim().strip_prefix("charset=")?;
            Some((kind, charset))
        }) else {
            return self.response.content_type(given).map(drop);
        };
        if self.kind()?.as_deref() == Some("writer") {
            return self.response.content_type(kind).map(drop);
        }
        self.request.set_attribute(CHARSET, charset)?;
        self.response.content_type(given).map(drop)
    }

    /// `writer` or `stream`: what the body is written by, of which a response has one only.
    fn kind(&self) -> Result<Option<String>> {
        Ok(self.request.attribute(KIND)?.map(|kind| String::from_utf8_lossy(kind).into_owned()))
    }

    fn write(&mut self, kind: &str, text: &str) -> Result {
        match self.kind()? {
            Some(before) if before != kind => {
                return Err(error(500, format!("the body has a {before}")).with_kind("servlet/state"));
            }
            Some(_) => {}
            None => {
                self.request.set_attribute(KIND, kind)?;
                if kind == "writer" && self.request.attribute(CHARSET)?.is_none() {
                    self.request.set_attribute(CHARSET, "UTF-8")?;
                    swallow(self.response.charset("UTF-8").map(drop))?;
                }
            }
        }
        let latin = kind == "stream"
            || self.request.attribute(CHARSET)?.is_some_and(|charset| charset.eq_ignore_ascii_case(b"iso-8859-1"));
        let bytes = match latin {
            true => text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect(),
            false => text.as_bytes().to_vec(),
        };
        // What is written after an error, a redirect or a forward is dropped in Java.
        swallow(self.response.write(bytes))
    }
}

fn close(request: &Request) -> Result {
    request.set_attribute(CLOSED, "1")
}

fn is_closed(request: &Request) -> Result<bool> {
    Ok(request.attribute(CLOSED)?.is_some())
}

/// Sets a header, maybe late.
fn tell(request: &Request, response: &mut Response, name: &str, value: impl AsRef<[u8]>) -> Result {
    if is_closed(request)? {
        return Ok(());
    }
    swallow(response.header(name, value).map(drop))
}

/// In Java a head that is too late changes nothing, and is no error.
fn swallow(result: Result) -> Result {
    match result {
        Err(error) if error.kind() == "servlet/state" => Ok(()),
        result => result,
    }
}

/// A header that cannot be sent is not sent.
fn unsendable(result: Result) -> Result {
    match result {
        Err(error) if error.kind() == "servlet/argument" => Ok(()),
        result => swallow(result),
    }
}

fn thrown(what: &str, seconds: &str) -> Error {
    let kind = match what {
        "io" | "servlet-io" => "io",
        "fnf" => "io/not-found",
        "servlet" => "servlet",
        "custom" => "runtime/custom",
        "unavailable" => return unavailable(seconds.parse().unwrap_or(1), "later"),
        "unavailable-forever" => return unavailable(0, "never"),
        _ => "runtime",
    };
    // The text of the outer one, the kind of the inner one, as Tomcat tells them to the error page.
    let text = if what == "servlet-io" { "wrapped" } else { "boom" };
    error(500, text).with_kind(kind)
}

/// `name|value|key=value|...`
fn cookie(response: &mut Response, given: &str) -> Result {
    let mut pieces = given.split('|');
    let (name, value) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
    let mut cookie = Cookie::new(name, value);
    for piece in pieces {
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        cookie = match key {
            "path" => cookie.path(value),
            "domain" => cookie.domain(value),
            // A negative one is a cookie of the browser's session, as none is.
            "maxAge" => match value.parse() {
                Ok(seconds) => cookie.max_age(seconds),
                Err(_) => cookie,
            },
            "secure" => cookie.secure(),
            "httpOnly" => cookie.http_only(),
            _ => cookie.attribute(key, value),
        };
    }
    swallow(response.cookie(&cookie).map(drop))
}
