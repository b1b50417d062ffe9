//! JSON, forms, uploads, cookies, sessions and logging, as an author uses them: through `servlet::test`.

#![cfg(all(feature = "json", feature = "forms", feature = "log", feature = "tracing"))]

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use servlet::prelude::*;
use servlet::test::{Answer, App};

servlet::module!();

// ---------------------------------------------------------------------------------------------- JSON

#[derive(Debug, Deserialize, Serialize, PartialEq)]
struct Order {
    item: String,
    count: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

#[servlet("/json", methods = [POST])]
fn json(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let order: Order = body.json(200)?;
    response.status(201)?.json(&order)
}

#[servlet("/json/borrowed", methods = [POST])]
fn borrowed(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let text = body.json::<&str>(200)?;
    response.text(text)
}

#[servlet("/json/none")]
fn no_json(_: &Request, response: &mut Response) -> Result {
    response.json(&BTreeMap::from([(vec![1], 2)]))
}

#[servlet("/json/any", methods = [POST])]
fn any(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    body.json::<serde_json::Value>(1_000_000)?;
    response.text("fine")
}

#[track_caller]
fn check_json(content_type: &str, body: impl AsRef<[u8]>, status: u16, error: &str) {
    let app = App::new();
    let mut call = app.post("/json").body(body.as_ref());
    if !content_type.is_empty() {
        call = call.header("content-type", content_type);
    }
    let answer = call.send();
    answer.assert_status(status);
    assert_eq!(answer.error.as_deref().unwrap_or_default(), error);
}

#[test]
fn json_comes_and_goes() {
    let app = App::new();
    let order = Order { item: "tea".into(), count: 2, tags: vec!["hot".into()] };
    let answer = app.post("/json").json(&order).send();
    answer.assert_status(201).assert_header("content-type", "application/json");
    assert_eq!(answer.json::<Order>(), order);
    app.post("/json/borrowed").json("tea").send().assert_text("tea");
    let answer = app.get("/json/none").send();
    answer.assert_status(500).assert_error("key must be a string");
}

#[test]
fn json_that_is_wrong_says_where() {
    let fine = r#"{"item": "tea", "count": 2}"#;
    check_json("application/json; charset=utf-8", fine, 201, "");
    check_json("application/vnd.order+json", fine, 201, "");
    check_json("", fine, 415, "the body has no content type; application/json is expected");
    check_json("text/json", fine, 415, "the body is \"text/json\"; application/json is expected");
    let json =
        |body: &str, error: &str| check_json("application/json", body, 400, &format!("the JSON in the body: {error}"));
    json("", "EOF while parsing a value at line 1 column 0");
    json("{\n  \"item\": tea}", "expected ident at line 2 column 12");
    json(r#"{"item": "tea"}"#, "missing field `count` at line 1 column 15");
    json(r#"{"item": "tea", "count": 256}"#, "count: invalid value: integer `256`, expected u8 at line 1 column 28");
    json(
        r#"{"item": "tea", "count": 1, "tags": ["a", 7]}"#,
        "tags[1]: invalid type: integer `7`, expected a string at line 1 column 43",
    );
    json(r#"{"item": "tea", "count": 1, "count": 2}"#, "duplicate field `count` at line 1 column 35");
    json(&format!("{fine} x"), "trailing characters at line 1 column 29");
    check_json(
        "application/json",
        b"{\"item\": \"\xff\"}",
        400,
        "the JSON in the body: invalid unicode code point at line 1 column 11",
    );
    check_json("application/json", " ".repeat(201), 413, "");
}

#[test]
fn json_made_to_harm_is_an_error() {
    let app = App::new();
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "1e999".to_owned(), format!("1{}", "0".repeat(500))] {
        let answer = app.post("/json/any").json_text(&body).send();
        answer.assert_status(400);
    }
}

// ---------------------------------------------------------------------------------------------- forms

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Size {
    Small,
    ExtraLarge,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Meters(f32);

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "Debug shows it")]
struct Form {
    name: String,
    #[serde(default)]
    news: bool,
    age: Option<u8>,
    size: Option<Size>,
    #[serde(default)]
    colour: Vec<String>,
    #[serde(default)]
    number: Vec<i64>,
    height: Option<Meters>,
    letter: Option<char>,
}

#[servlet("/form", methods = [GET, POST])]
fn form(request: &Request, response: &mut Response) -> Result {
    let form: Form = request.form()?;
    response.text(format!("{form:?}"))
}

#[servlet("/query", methods = [POST])]
fn query(request: &Request, body: &mut Body, response: &mut Response) -> Result {
    let pairs: BTreeMap<String, String> = request.query_as()?;
    let left = body.all(1000)?.len();
    response.text(format!("{pairs:?}, {left} bytes left"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "Debug shows it")]
struct Strict {
    page: (u32, u32),
}

#[servlet("/strict")]
fn strict(request: &Request, response: &mut Response) -> Result {
    response.text(format!("{:?}", request.query_as::<Strict>()?))
}

#[track_caller]
fn check_form(pairs: &[(&str, &str)], expected: &str) {
    let answer = App::new().post("/form").form(pairs).send();
    match answer.status {
        200 => answer.assert_text(&format!("Form {{ {expected} }}")),
        _ => answer.assert_status(400).assert_error(expected),
    };
}

#[test]
fn forms_are_values() {
    let rest = "colour: [], number: [], height: None, letter: None";
    check_form(&[("name", "Ada")], &format!("name: \"Ada\", news: false, age: None, size: None, {rest}"));
    check_form(
        &[("age", ""), ("news", "on"), ("name", ""), ("size", "extra-large"), ("other", "1"), ("other", "2")],
        &format!("name: \"\", news: true, age: None, size: Some(ExtraLarge), {rest}"),
    );
    check_form(
        &[
            ("colour", "red"),
            ("number", "-1"),
            ("name", "ä&="),
            ("colour", ""),
            ("number", " 2 "),
            ("height", "1.5"),
            ("letter", "ü"),
        ],
        "name: \"ä&=\", news: false, age: None, size: None, colour: [\"red\", \"\"], number: [-1, 2], \
         height: Some(Meters(1.5)), letter: Some('ü')",
    );
}

#[test]
fn forms_that_are_wrong_name_the_field() {
    check_form(&[], "the parameter \"name\" is missing");
    check_form(&[("name", "a"), ("name", "b")], "the parameter \"name\": it is given 2 times, and may be given once");
    check_form(
        &[("name", "a"), ("age", "256")],
        "the parameter \"age\": \"256\" is not a number: number too large to fit in target type",
    );
    check_form(
        &[("name", "a"), ("number", "1"), ("number", "x")],
        "the parameter \"number\": \"x\" is not a number: invalid digit found in string",
    );
    check_form(&[("name", "a"), ("news", "maybe")], "the parameter \"news\": \"maybe\" is neither true nor false");
    check_form(
        &[("name", "a"), ("size", "tiny")],
        "the parameter \"size\": unknown variant `tiny`, expected `small` or `extra-large`",
    );
    check_form(
        &[("name", "a"), ("letter", "ab")],
        "the parameter \"letter\": \"ab\" is not a character: too many characters in string",
    );
    let app = App::new();
    app.get("/form?name=%ff").send().assert_status(400).assert_error("\"%ff\" is not UTF-8");
    app.get("/strict?page=1&page=2").send().assert_text("Strict { page: (1, 2) }");
    let answer = app.get("/strict?page=1&page=2&x=3").send();
    answer.assert_status(400).assert_error("the parameter \"x\" is not known here; known are page");
    app.get("/strict?page=1").send().assert_status(400);
    app.get("/strict?page=%f")
        .send()
        .assert_status(400)
        .assert_error("the query: \"%f\" has a broken percent-encoding");
}

#[test]
fn a_query_leaves_the_body_alone() {
    let answer = App::new().post("/query?a=1&b=x+y").form(&[("c", "3")]).send();
    answer.assert_text("{\"a\": \"1\", \"b\": \"x y\"}, 3 bytes left");
}

// ---------------------------------------------------------------------------------------------- uploads

#[servlet("/upload", methods = [POST], multipart)]
fn upload(request: &Request, response: &mut Response) -> Result {
    let folder = request.context().work_folder().unwrap();
    for part in request.parts()? {
        let mut last = String::new();
        let mut reader = part.open()?;
        reader.seek(SeekFrom::Start(part.size().saturating_sub(2)))?;
        reader.read_to_string(&mut last)?;
        write!(response, "{} {:?} {:?} ", part.name(), part.file_name(), part.safe_file_name())?;
        write!(response, "{} {:?} {last:?} ", part.size(), part.bytes().map(<[u8]>::len))?;
        writeln!(response, "{:?}", part.header("Content-Type"))?;
        if let Some(name) = part.safe_file_name() {
            part.save_to(folder.join(&name))?;
            part.save_to(folder.join(&name))?;
            assert_eq!(part.all(100)?.len() as u64, part.size());
        }
    }
    Ok(())
}

#[servlet("/field", methods = [POST], multipart)]
fn field(request: &Request, response: &mut Response) -> Result {
    let title = request.part("title")?.ok_or_else(|| error(400, "title is missing"))?;
    response.text(title.text(5)?)
}

#[servlet("/save", methods = [POST], multipart)]
fn save(request: &Request, response: &mut Response) -> Result {
    request.part("file")?.unwrap().save_to("/nowhere/at/all")?;
    response.text("?")
}

#[servlet("/undeclared", methods = [POST])]
fn undeclared(request: &Request, response: &mut Response) -> Result {
    let count = request.parts()?.count();
    response.text(count.to_string())
}

fn check_upload(app: &App, in_memory: &str) {
    let call = app.post("/upload").part("title", "My cat").file("photo", "..\\..\\cat.png", "image/png", "PNG\0abc");
    call.send().assert_status(200).assert_text(&format!(
        "title None None 6 Some(6) \"at\" None\n\
         photo Some(\"..\\\\..\\\\cat.png\") Some(\"cat.png\") 7 {in_memory} \"bc\" Some(\"image/png\")\n"
    ));
    assert_eq!(std::fs::read(app.work_folder().join("cat.png")).unwrap(), b"PNG\0abc");
    assert_eq!(std::fs::read_dir(app.work_folder()).unwrap().count(), 1, "nothing unfinished is left");
}

#[test]
fn uploads_are_in_memory_or_in_files() {
    check_upload(&App::new(), "Some(7)");
    check_upload(&App::setup().part_bytes_in_memory(6).start().unwrap(), "None");
}

#[test]
fn uploads_that_are_wrong() {
    let app = App::new();
    let answer = app.post("/upload").json_text("{}").send();
    answer.assert_status(415).assert_error("the body is application/json; multipart/form-data is expected");
    let answer = app.post("/undeclared").part("a", "b").send();
    answer.assert_status(500).assert_error(
        "part_count: the servlet is not declared for multipart; to read parts, declare the servlet with `multipart`: \
         #[servlet(\"/upload\", methods = [POST], multipart)]",
    );
    app.post("/field").part("title", "hello").send().assert_text("hello");
    let answer = app.post("/field").part("title", "hello!").send();
    answer.assert_status(413).assert_error("the part \"title\" has 6 bytes, at most 5 are taken");
    app.post("/field").file("title", "", "text/plain", b"\xff").send().assert_status(400);
    let answer = app.post("/save").file("file", "a", "text/plain", "x").send();
    answer
        .assert_status(500)
        .assert_error("cannot save the part \"file\" as /nowhere/at/all: No such file or directory (os error 2)");
    assert_eq!(answer.error_kind.as_deref(), Some("io/not-found"));
}

// ---------------------------------------------------------------------------------------------- cookies

#[servlet("/cookies")]
fn cookies(request: &Request, response: &mut Response) -> Result {
    response.cookie(&Cookie::new("a", "1").path("/shop").domain("example.org").max_age(60).secure().http_only())?;
    response.cookie(&Cookie::new("b", "2").same_site(SameSite::Strict))?;
    response.cookie(&Cookie::new("c", "3").same_site(SameSite::None).partitioned())?;
    response.cookie(&Cookie::remove("d").path("/"))?;
    response.cookie(&Cookie::new("e", "\"größe\"").path("").domain("").attribute("Odd", ""))?;
    let all: Vec<String> = request.cookies()?.map(|(name, value)| format!("{name}={value}")).collect();
    response.text(all.join(" "))
}

#[servlet("/bad-cookie")]
fn bad_cookie(_: &Request, response: &mut Response) -> Result {
    response.cookie(&Cookie::new("a", "1; Path=/"))?.text("?")
}

#[test]
fn cookies_have_their_attributes() {
    let app = App::new();
    let answer = app.get("/cookies").cookie("x", "y").cookie("d", "4").send();
    answer.assert_text("x=y d=4");
    let set: Vec<&str> =
        answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| &**value).collect();
    let expected = [
        "a=1; Path=/shop; Domain=example.org; Max-Age=60; Secure; HttpOnly",
        "b=2; SameSite=Strict",
        "c=3; Secure; SameSite=None; Partitioned",
        "d=; Path=/; Max-Age=0",
        "e=\"größe\"; Odd",
    ];
    assert_eq!(set, expected);
    app.get("/cookies").send().assert_text("a=1 b=2 c=3 e=\"größe\"");
    app.get("/bad-cookie").send().assert_status(500);
}

// ---------------------------------------------------------------------------------------------- sessions

#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Cart {
    items: Vec<String>,
}

#[servlet("/cart", methods = [GET, POST, DELETE])]
fn cart(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    let mut cart: Cart = session.get_or_default("cart")?;
    match request.method() {
        Method::POST => cart.items.push(request.param("item")?.unwrap_or("?").to_owned()),
        Method::DELETE => return session.remove("cart"),
        _ => {}
    }
    session.set("cart", &cart)?;
    response.json(&cart)
}

#[servlet("/session/facts")]
fn facts(request: &Request, response: &mut Response) -> Result {
    let Some(session) = request.session_if_any()? else { return response.text("none") };
    let age = session.created()?.elapsed()?;
    assert!(age < Duration::from_secs(60) && session.accessed()? >= session.created()?, "{age:?}");
    let names: Vec<&str> = session.names()?.collect();
    let before = session.max_inactive()?;
    session.set_max_inactive(None)?;
    let never = session.max_inactive()?;
    session.set_max_inactive(Some(Duration::from_secs(90)))?;
    let after = session.max_inactive()?;
    response.text(format!("new {}, {names:?}, {before:?} {never:?} {after:?}", session.is_new()?))
}

#[servlet("/session/raw", methods = [POST])]
fn raw(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    session.set_bytes("cart", request.param("value")?.unwrap_or_default())?;
    session.set_bytes("binary", b"\xff")?;
    assert!(session.get_str("binary").is_err());
    assert_eq!(session.get_bytes("binary")?, Some(&b"\xff"[..]));
    response.text(session.get_str("cart")?.unwrap_or("none"))
}

#[servlet("/session/strict")]
fn strict_session(request: &Request, response: &mut Response) -> Result {
    let cart: Option<Cart> = request.session()?.get("cart")?;
    response.text(format!("{cart:?}"))
}

#[servlet("/session/forgiving")]
fn forgiving_session(request: &Request, response: &mut Response) -> Result {
    let cart: Option<Cart> = request.session()?.get_or_remove("cart")?;
    response.text(format!("{cart:?}"))
}

#[servlet("/session/id", methods = [POST])]
fn id(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    let before = session.id()?;
    let after = session.change_id()?;
    assert!(before != after && session.id()? == after);
    response.text(after)
}

#[servlet("/session/end", methods = [POST])]
fn end(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    session.invalidate()?;
    assert_eq!(session.get_bytes("cart").unwrap_err().kind(), "servlet/state");
    assert!(request.session_if_any()?.is_none());
    response.text("gone")
}

#[servlet("/session/late")]
fn late(request: &Request, response: &mut Response) -> Result {
    response.flush()?;
    request.session().map(|_| ())
}

#[test]
fn sessions_keep_values() {
    let app = App::new();
    app.get("/session/facts").send().assert_text("none");
    app.post("/cart?item=tea").send().assert_text(r#"{"items":["tea"]}"#);
    app.post("/cart?item=milk").send().assert_text(r#"{"items":["tea","milk"]}"#);
    app.get("/session/facts").send().assert_text("new false, [\"cart\"], Some(1800s) None Some(90s)");
    app.reload().unwrap();
    app.get("/cart").send().assert_text(r#"{"items":["tea","milk"]}"#);
    app.request(Method::DELETE, "/cart").send();
    app.get("/cart").send().assert_text(r#"{"items":[]}"#);
    let answer = app.post("/session/id").send();
    assert_eq!(app.cookie("JSESSIONID").as_deref(), Some(answer.text()));
    app.post("/session/end").send().assert_text("gone");
    app.get("/session/facts").send().assert_text("none");
    app.post("/cart?item=jam").send();
    app.forget_cookies();
    app.get("/session/facts").send().assert_text("none");
    app.get("/session/late").send().assert_cut(true);
}

#[test]
fn a_value_of_another_shape_is_told_or_forgotten() {
    let app = App::new();
    app.post("/session/raw?value={\"items\":7}").send().assert_text("{\"items\":7}");
    let answer = app.get("/session/strict").send();
    let text = "the session attribute \"cart\" is not a data::Cart: items: invalid type: integer `7`, expected a \
                sequence at line 1 column 10";
    answer.assert_status(500).assert_error(text);
    assert_eq!(answer.error_kind.as_deref(), Some("servlet/session-attribute"));
    app.get("/session/forgiving").send().assert_text("None");
    assert!(app.log().contains(&format!("WARN {text}; it is removed")), "{:?}", app.log());
    app.get("/session/strict").send().assert_text("None");
    app.post("/session/raw?value=x").send();
    app.get("/cart").send().assert_text(r#"{"items":[]}"#);
}

// ---------------------------------------------------------------------------------------------- logging

#[servlet("/log")]
fn logs(_: &Request, response: &mut Response) -> Result {
    log::warn!("by log: {}", 1);
    log::trace!("not kept");
    let order = tracing::info_span!("order", id = 7, user = tracing::field::Empty);
    let inner = order.in_scope(|| tracing::info_span!("pay", method = "card"));
    order.record("user", "ada");
    tracing::info!(parent: &order, "asked");
    inner.in_scope(|| tracing::error!(amount = 12, paid = true, "by {}", "tracing"));
    drop((order, inner));
    tracing::debug!(alone = ?Some(1));
    tracing::trace!("not kept");
    response.text("logged")
}

#[test]
fn other_ways_to_log_end_in_the_servers_log() {
    let app = App::new();
    app.get("/log").send().assert_text("logged");
    let expected = [
        "WARN data: by log: 1",
        "INFO order{id=7 user=\"ada\"}: data: asked",
        "ERROR order{id=7 user=\"ada\"}:pay{method=\"card\"}: data: by tracing amount=12 paid=true",
        "DEBUG data alone=Some(1)",
    ];
    assert_eq!(app.log(), expected);
}

// ---------------------------------------------------------------------------------------------- the app

#[servlet("/panic")]
fn panics(_: &Request, _: &mut Response) -> Result {
    panic!("no tea");
}

#[servlet("/items/{id}")]
fn item(request: &Request, response: &mut Response) -> Result {
    response.text(request.path_param("id")?.unwrap_or_default())
}

#[servlet("/read", methods = [POST])]
fn read(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let mut chunks = 0;
    while body.chunk()?.is_some() {
        chunks += 1;
    }
    response.text(chunks.to_string())
}

#[servlet("/endless")]
fn endless(_: &Request, response: &mut Response) -> Result {
    loop {
        response.write("tea\n")?;
        response.flush()?;
    }
}

#[test]
fn an_app_answers_as_a_server() {
    let app = App::new();
    let answer = app.get("/panic").send();
    answer.assert_status(500).assert_error("panicked: no tea");
    assert!(app.log()[0].starts_with("ERROR panic: no tea ("), "{:?}", app.log());
    app.get("/items/a%20b").send().assert_text("a b");
    app.get("/nowhere").send().assert_status(404);
    app.get("/read").send().assert_status(405).assert_header("allow", "POST, OPTIONS");
    app.request(Method::OPTIONS, "/read").send().assert_status(200).assert_header("allow", "POST, OPTIONS");
    app.request(Method::HEAD, "/items/x").send().assert_status(200).assert_text("");
    app.post("/read").send_slowly(["a", "b", "c"]).send().assert_text("3");
    let answer: Answer = app.get("/endless").leave_after(6).send();
    answer.assert_cut(true).assert_text("tea\nte");
    let answer = app.get("/endless").cancel_after(Duration::from_millis(200)).send();
    answer.assert_cut(true);
}
