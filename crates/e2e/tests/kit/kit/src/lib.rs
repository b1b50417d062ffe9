//! The kit in Rust: as kit.c and kit.cpp, on the SDK.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use servlet::prelude::*;

servlet::module!();

fn put(response: &mut Response, label: &str, value: Option<&str>) -> Result {
    match value {
        Some(value) => writeln!(response, "{label}: {value}"),
        None => writeln!(response, "{label} is absent"),
    }
}

fn plain(response: &mut Response) -> Result {
    response.content_type("text/plain; charset=utf-8")?.done()
}

#[servlet("/facts/*", methods = [ANY])]
fn facts(request: &Request, response: &mut Response) -> Result {
    plain(response)?;
    put(response, "method", Some(request.method_name()))?;
    put(response, "uri", Some(request.uri()))?;
    put(response, "query", request.query())?;
    put(response, "context path", Some(request.context_path()))?;
    put(response, "servlet path", Some(request.servlet_path()))?;
    put(response, "path info", request.path_info())?;
    put(response, "pattern", Some(request.pattern()))?;
    put(response, "servlet", Some(request.servlet_name()))?;
    put(response, "scheme", Some(request.scheme()))?;
    put(response, "server", Some(request.server_name()))?;
    put(response, "remote", Some(request.remote_addr()))?;
    put(response, "content type", request.content_type())?;
    put(response, "x-tester", request.header("X-Tester"))
}

#[servlet("/params", methods = [GET, POST])]
fn params(request: &Request, response: &mut Response) -> Result {
    let a = request.param("a")?;
    plain(response)?;
    put(response, "a", a)?;
    for (name, value) in request.params()? {
        writeln!(response, "{name}={value}")?;
    }
    Ok(())
}

#[servlet("/items/{id}")]
fn items(request: &Request, response: &mut Response) -> Result {
    plain(response)?;
    put(response, "id", request.path_param("id")?)
}

#[servlet("/cookies")]
fn cookies(request: &Request, response: &mut Response) -> Result {
    response.cookie(&Cookie::new("seen", "yes").path("/").max_age(60).http_only())?;
    plain(response)?;
    put(response, "taste", request.cookie("taste")?)?;
    for (name, value) in request.cookies()? {
        writeln!(response, "{name}={value}")?;
    }
    Ok(())
}

#[servlet("/attributes")]
fn attributes(request: &Request, response: &mut Response) -> Result {
    request.set_attribute("a", "1")?;
    request.set_attribute("b", "2")?;
    request.remove_attribute("a")?;
    plain(response)?;
    for name in ["a", "b"] {
        let value = request.attribute(name)?.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        put(response, name, value.as_deref())?;
    }
    Ok(())
}

#[servlet("/count", methods = [POST])]
fn count(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let mut bytes = 0;
    while let Some(chunk) = body.chunk()? {
        bytes += chunk.len();
    }
    plain(response)?;
    writeln!(response, "{bytes} bytes")
}

#[servlet("/upload", methods = [POST], multipart)]
fn upload(request: &Request, response: &mut Response) -> Result {
    let parts = request.parts()?;
    plain(response)?;
    for part in parts {
        let (file, kind) = (part.file_name().unwrap_or("-"), part.content_type().unwrap_or("-"));
        writeln!(response, "{} {file} {kind} {}", part.name(), part.size())?;
    }
    Ok(())
}

#[servlet("/stream")]
fn stream(_: &Request, response: &mut Response) -> Result {
    let piece: Vec<u8> = (b'a'..=b'z').cycle().take(26 * 1024).collect();
    plain(response)?;
    let mut left = 1 << 20;
    while left > 0 {
        let len = piece.len().min(left);
        response.write(&piece[..len])?;
        left -= len;
    }
    Ok(())
}

#[servlet("/missing")]
fn missing(_: &Request, _: &mut Response) -> Result {
    Err(error(404, "no such item"))
}

#[servlet("/broken")]
fn broken(_: &Request, _: &mut Response) -> Result {
    Err(error(500, "it broke").with_kind("kit/broken"))
}

#[servlet("/redirect")]
fn redirect(_: &Request, response: &mut Response) -> Result {
    response.redirect("facts?from=redirect")
}

// The SDK has no word for last_modified, so this one has no conditional answers.
#[servlet("/modified")]
fn modified(_: &Request, response: &mut Response) -> Result {
    plain(response)?;
    writeln!(response, "old news")
}

// -------------------------------------------------------------------------------------------------- sessions

#[servlet("/session")]
fn session(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    let before = session.get_str("visits")?.unwrap_or("0").parse::<u32>().unwrap_or(0);
    let visits = (before + 1).to_string();
    session.set_bytes("visits", &visits)?;
    plain(response)?;
    writeln!(response, "visits: {visits}")
}

#[servlet("/session/end", methods = [POST])]
fn session_end(request: &Request, response: &mut Response) -> Result {
    let session = request.session_if_any()?.ok_or_else(|| error(409, "there is no session"))?;
    session.invalidate()?;
    plain(response)?;
    writeln!(response, "ended")
}

static CREATED: AtomicU32 = AtomicU32::new(0);
static DESTROYED: AtomicU32 = AtomicU32::new(0);

#[on(session_created, session_destroyed)]
fn on_session(event: &SessionEvent) {
    let counter = if event.happened() == servlet::Happened::Created { &CREATED } else { &DESTROYED };
    counter.fetch_add(1, Ordering::Relaxed);
}

#[servlet("/sessions")]
fn sessions(_: &Request, response: &mut Response) -> Result {
    plain(response)?;
    writeln!(response, "created: {}", CREATED.load(Ordering::Relaxed))?;
    writeln!(response, "destroyed: {}", DESTROYED.load(Ordering::Relaxed))
}

// -------------------------------------------------------------------------------------------------- async

#[servlet("/timer")]
async fn timer(_: &Request, response: &mut Response) -> Result {
    servlet::time::sleep(Duration::from_millis(20)).await;
    plain(response)?;
    response.text("after a while\n")
}

/// The SDK detaches nothing; its way is a future that waits for the thread.
#[servlet("/detached")]
async fn detached(request: &Request, response: &mut Response) -> Result {
    let channel = Broadcast::new(1);
    let mut answer = channel.subscribe();
    request.context().spawn_thread("kit", move |_| {
        channel.send("from a thread");
    })?;
    let text = answer.recv().await.map_err(|wrong| error(500, wrong.to_string()))?;
    response.text(format!("{text}: {}\n", request.servlet_path()))
}

#[derive(Default)]
struct Stamp;

#[filter("/*", name = "stamp")]
impl Filter for Stamp {
    type State = ();

    fn request(&self, _: &Request, _: &mut Response) -> Result<Flow<()>> {
        Ok(Flow::Next(()))
    }

    fn response(&self, _: &mut (), head: &mut ResponseHead<'_>) -> Result {
        head.header("X-Kit", "stamped")?.done()
    }
}
