//! `servlet::test::App`: that a servlet meets there what it meets in a server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use servlet::prelude::*;
use servlet::test::App;

servlet::module!();

#[derive(Default)]
struct State {
    visits: AtomicU32,
    ticks: AtomicU32,
    events: Mutex<Vec<String>>,
}

#[start]
fn start(context: &Context) -> Result<State> {
    if context.param("broken").is_some() {
        return Err(error(500, "it is broken"));
    }
    Ok(State::default())
}

#[stop]
fn stop(state: State) {
    servlet::log::info!("stopped after {} visits", state.visits.into_inner());
}

#[carry]
fn carry(state: &State) -> Vec<u8> {
    state.visits.load(Ordering::Relaxed).to_le_bytes().to_vec()
}

#[restore]
fn restore(state: &State, bytes: &[u8]) -> Result {
    state.visits.store(u32::from_le_bytes(bytes.try_into()?), Ordering::Relaxed);
    Ok(())
}

#[servlet("/visits")]
fn visits(state: &State, request: &Request, response: &mut Response) -> Result {
    let visits = state.visits.fetch_add(1, Ordering::Relaxed) + 1;
    response.text(format!("{visits} in generation {}", request.context().generation()))
}

#[test]
fn a_reload_hands_over() {
    let app = App::new();
    app.get("/visits").send().assert_text("1 in generation 1");
    app.get("/visits").send().assert_text("2 in generation 1");
    app.reload().unwrap();
    app.get("/visits").send().assert_text("3 in generation 2");
    assert_eq!(app.log(), ["INFO stopped after 2 visits"]);
}

#[test]
fn a_library_that_refuses_says_why() {
    assert_eq!(App::setup().param("broken", "yes").start().unwrap_err(), "it is broken");
}

#[servlet("/facts/*", init = { "greeting" = "Hello" })]
fn facts(request: &Request, response: &mut Response) -> Result {
    let context = request.context();
    context.set_attribute("seen", request.uri())?;
    let (uri, path, info) = (request.uri(), request.servlet_path(), request.path_info());
    let greeting = request.init("greeting").unwrap_or_default();
    write!(response, "{uri} {path} {info:?} {greeting} {} ", request.context_path())?;
    let (currency, db) = (context.param("currency"), context.resource("db"));
    write!(response, "{} {} {currency:?} {db:?}", request.scheme(), request.remote_addr())
}

#[test]
fn a_request_is_set_up() {
    let app = App::setup().path("/shop").param("currency", "EUR").resource("db", "d").init("facts", "greeting", "Hi");
    let app = app.start().unwrap();
    let answer = app.get("/facts/a%20b;x=1/c?d").from("10.0.0.1").secure().send();
    answer.assert_text(
        "/shop/facts/a%20b;x=1/c /facts Some(\"/a b/c\") Hi /shop https 10.0.0.1 Some(\"EUR\") Some(\"d\")",
    );
}

#[servlet("/hints")]
fn hints(_: &Request, response: &mut Response) -> Result {
    let was_sent = response.early_hints([("link", "</a.css>; rel=preload")])?;
    response.flush()?;
    let committed = response.early_hints([("link", "</b.css>; rel=preload")]).is_err();
    write!(response, "{was_sent} {committed}")
}

#[test]
fn early_hints_come_before_the_response() {
    let answer = App::new().get("/hints").send();
    answer.assert_text("true true");
    assert_eq!(answer.informational, [103]);
}

// ---------------------------------------------------------------------------------------------- async

#[servlet("/async/sleep")]
async fn sleeps(_: &Request, response: &mut Response) -> Result {
    servlet::time::sleep(Duration::from_millis(20)).await;
    response.text("awake")
}

#[servlet("/async/echo", methods = [POST])]
async fn echo(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    let mut stream = response.content_type("text/plain")?.stream().await?;
    while let Some(chunk) = body.chunk().await? {
        let chunk = chunk.to_ascii_uppercase();
        stream.write(chunk).await?;
        stream.write(",").await?;
    }
    stream.finish().await
}

#[servlet("/async/all", methods = [POST])]
async fn all(request: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    request.form_read().await?;
    let name = request.param("name")?.unwrap_or("nobody").to_owned();
    let rest = body.text(100).await?;
    response.text(format!("{name} {rest}"))
}

#[servlet("/async/endless")]
async fn endless(state: &State, _: &Request, response: &mut Response) -> Result {
    struct Gone<'a>(&'a State);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            self.0.events.lock().unwrap().push("gone".to_owned());
        }
    }
    let _gone = Gone(state);
    let mut events = response.events().await?;
    for number in 0.. {
        events.send(&Event::new().data(number.to_string())).await?;
        servlet::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[servlet("/async/late")]
async fn late(request: &Request, response: &mut Response) -> Result {
    request.set_timeout(Some(Duration::from_millis(20)))?;
    servlet::time::sleep(Duration::from_secs(20)).await;
    response.text("?")
}

#[servlet("/async/panic")]
async fn panics(_: &Request, _: &mut Response) -> Result {
    servlet::time::sleep(Duration::from_millis(1)).await;
    panic!("in a task");
}

#[servlet("/async/retired")]
async fn until_retired(request: &Request, response: &mut Response) -> Result {
    while !request.is_retiring() {
        servlet::time::sleep(Duration::from_millis(2)).await;
    }
    response.text("retired")
}

#[servlet("/async/data", methods = [POST], multipart)]
async fn data(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    request.parts_read().await?;
    let parts = request.parts()?;
    for part in parts {
        servlet::time::sleep(Duration::from_millis(1)).await;
        session.set_bytes(part.name(), part.all(10)?)?;
    }
    let mut names: Vec<&str> = session.names()?.collect();
    names.sort();
    response.text(names.join(" "))
}

#[servlet("/events")]
fn events(state: &State, _: &Request, response: &mut Response) -> Result {
    response.text(state.events.lock().unwrap().join("\n"))
}

#[test]
fn async_servlets_are_driven_to_their_end() {
    let app = App::new();
    let began = Instant::now();
    app.get("/async/sleep").send().assert_text("awake");
    assert!(began.elapsed() >= Duration::from_millis(20));
    app.post("/async/echo").send_slowly(["a", "b", "c"]).send().assert_text("A,B,C,");
    app.post("/async/echo").body("x".repeat(20_000)).read_slowly(3000).send().assert_status(200);
    app.post("/async/all").send_slowly(["a", "b"]).send().assert_text("nobody ab");
    let form = app.post("/async/all").header("content-type", "application/x-www-form-urlencoded");
    form.send_slowly(["na", "me=", "Ada"]).send().assert_text("Ada ");
    let answer = app.get("/async/late").send();
    answer.assert_status(500).assert_error("the servlet did not finish in the time of set_timeout");
    app.post("/async/data").part("a", "1").part("b", "2").send().assert_text("a b");
    app.get("/async/panic").send().assert_status(500).assert_error("panicked: in a task");
}

#[test]
fn a_slow_client_gets_all_of_a_stream() {
    let answer = App::new().post("/async/echo").body("x".repeat(20_000)).read_slowly(3000).send();
    answer.assert_text(&format!("{},", "X".repeat(20_000)));
}

#[test]
fn a_client_that_leaves_ends_a_stream() {
    let app = App::new();
    let answer = app.get("/async/endless").cancel_after(Duration::from_millis(500)).send();
    answer.assert_cut(true).assert_contains("data: 1\n").assert_header("content-type", "text/event-stream");
    let answer = app.get("/async/endless").leave_after(30).send();
    assert_eq!(answer.body.len(), 30);
    app.get("/events").send().assert_text("gone\ngone");
}

#[test]
fn an_app_can_retire() {
    let app = App::new();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| app.get("/async/retired").send());
        app.retire();
        answer.join().unwrap().assert_text("retired");
    });
}

#[job(every = "2ms")]
async fn tick(state: &State) {
    state.ticks.fetch_add(1, Ordering::Relaxed);
}

#[servlet("/async/tick")]
async fn next_tick(state: &State, _: &Request, response: &mut Response) -> Result {
    let before = state.ticks.load(Ordering::Relaxed);
    while state.ticks.load(Ordering::Relaxed) == before {
        servlet::time::sleep(Duration::from_millis(1)).await;
    }
    response.text("ticked")
}

#[test]
fn the_jobs_of_an_app_go_on_when_another_one_ends() {
    let app = App::new();
    let another = App::new();
    app.get("/async/tick").send().assert_text("ticked");
    another.get("/async/tick").send().assert_text("ticked");
    drop(another);
    app.get("/async/tick").send().assert_text("ticked");
    app.get("/async/tick").send().assert_text("ticked");
}

// ---------------------------------------------------------------------------------------------- filters and listeners

#[derive(Default)]
struct Outer;

#[filter("/filtered/*", order = 1)]
impl Filter for Outer {
    type State = String;

    fn request(&self, request: &Request, response: &mut Response) -> Result<Flow<String>> {
        if request.header("x-stop").is_some() {
            response.status(403)?.text("stopped")?;
            return Ok(Flow::Answered);
        }
        request.set_attribute("by", "outer")?;
        Ok(Flow::Next(request.uri().to_owned()))
    }

    fn response(&self, uri: &mut String, head: &mut ResponseHead) -> Result {
        let before = head.get("x-order")?.unwrap_or_default().to_owned();
        head.header("x-order", format!("{before}outer {uri} {}", head.status()?))?.done()
    }

    fn body(&self, _: &mut String, chunk: Chunk, out: &mut BodyWriter) -> Result {
        out.write(String::from_utf8_lossy(chunk.bytes()).replace('a', "(a)"))?;
        if chunk.is_last() { out.write("|outer") } else { Ok(()) }
    }

    fn end(&self, uri: String, end: &FilterEnd) {
        if let Ok(state) = end.request().state::<State>() {
            state.events.lock().unwrap().push(format!("end {uri} {}", end.is_ok()));
        }
    }
}

#[derive(Default)]
struct Inner;

#[filter("/filtered/*", order = 2)]
impl Filter for Inner {
    type State = ();

    fn request(&self, request: &Request, _: &mut Response) -> Result<Flow<()>> {
        request.set_attribute("by", [request.attribute("by")?.unwrap_or_default(), b" inner"].concat())?;
        Ok(Flow::Next(()))
    }

    fn response(&self, (): &mut (), head: &mut ResponseHead) -> Result {
        head.header("x-order", "inner, ")?.done()
    }

    fn body(&self, (): &mut (), chunk: Chunk, out: &mut BodyWriter) -> Result {
        out.write(chunk.bytes())?;
        if chunk.is_last() { out.write("|inner a") } else { Ok(()) }
    }
}

#[servlet("/filtered/whole")]
fn whole(request: &Request, response: &mut Response) -> Result {
    response.text(String::from_utf8_lossy(request.attribute("by")?.unwrap_or_default()).into_owned() + " a")
}

#[servlet("/filtered/fails")]
fn fails(_: &Request, _: &mut Response) -> Result {
    Err(error(409, "no"))
}

#[servlet("/filtered/stream")]
async fn stream(_: &Request, response: &mut Response) -> Result {
    let mut stream = response.stream().await?;
    for piece in ["a1", "a2"] {
        stream.write(piece).await?;
        stream.flush().await?;
        servlet::time::sleep(Duration::from_millis(1)).await;
    }
    stream.finish().await
}

#[test]
fn filters_see_requests_and_responses_in_order() {
    let app = App::new();
    let answer = app.get("/filtered/whole").send();
    answer.assert_text("outer inner (a)|inner (a)|outer");
    answer.assert_header("x-order", "inner, outer /filtered/whole 200");
    app.get("/filtered/stream").send().assert_text("(a)1(a)2|inner (a)|outer");
    app.get("/filtered/whole").header("x-stop", "1").send().assert_status(403).assert_text("stopped");
    let answer = app.get("/filtered/fails").send();
    answer.assert_status(409).assert_error("no").assert_header("x-order", "inner, outer /filtered/fails 409");
    app.get("/filtered/nowhere").send().assert_status(404);
    app.get("/events").send().assert_text(
        "end /filtered/whole true\nend /filtered/stream true\nend /filtered/fails true\nend /filtered/nowhere true",
    );
}

#[on(session_created, session_id_changed, session_destroyed)]
fn session(event: &SessionEvent) {
    servlet::log::info!("session {:?}", event.happened());
}

#[on(session_attribute)]
fn attribute(event: &AttributeEvent) {
    servlet::log::info!("attribute {} {:?}", event.name(), event.change());
}

#[servlet("/session")]
fn sessions(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    session.set_bytes("a", "1")?;
    session.set_bytes("a", "2")?;
    session.remove("a")?;
    session.change_id()?;
    session.invalidate()?;
    response.text("done")
}

#[test]
fn listeners_are_told() {
    let app = App::new();
    app.get("/session").send().assert_text("done");
    let expected = [
        "INFO session Created",
        "INFO attribute a Added",
        "INFO attribute a Replaced",
        "INFO attribute a Removed",
        "INFO session IdChanged",
        "INFO session Destroyed",
    ];
    assert_eq!(app.log(), expected);
}
