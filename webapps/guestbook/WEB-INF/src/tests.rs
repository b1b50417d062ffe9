//! The guestbook as its clients see it, without a server.

use std::time::Duration;

use serde_json::{Value, json};
use servlet::test::{Answer, App, Call};

/// A GIF of one pixel.
const GIF: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

fn write(app: &App, message: &str) -> Value {
    let answer = app.post("/api/entries").json(&json!({ "name": "Ada", "message": message })).send();
    answer.assert_status(201).json()
}

#[track_caller]
fn check_refused(call: Call<'_>, status: u16, text: &str) {
    let answer = call.send();
    answer.assert_status(status).assert_header("content-type", "application/json");
    assert_eq!(answer.json::<Value>(), json!({ "error": text }));
}

fn form<'a>(app: &'a App, name: &str, message: &str) -> Call<'a> {
    app.post("/api/entries").part("name", name).part("message", message)
}

/// Listens for a moment, and returns what was sent.
fn events(call: Call<'_>) -> Answer {
    let answer = call.cancel_after(Duration::from_millis(300)).send();
    answer.assert_status(200).assert_header("content-type", "text/event-stream").clone()
}

#[test]
fn an_entry_is_written_listed_and_taken_back() {
    let app = App::new();
    let entry = write(&app, " Hello,\r\nthere! ");
    assert_eq!((&entry["id"], &entry["message"], &entry["own"]), (&json!(1), &json!("Hello,\nthere!"), &json!(true)));
    let page: Value = app.get("/api/entries").send().json();
    assert_eq!((&page["count"], &page["more"], &page["entries"][0]), (&json!(1), &json!(false), &entry));
    assert_eq!(app.get("/api/me").send().json::<Value>(), json!({ "name": "Ada", "entries": 1 }));
    app.delete("/api/entries/1").send().assert_status(204);
    check_refused(app.delete("/api/entries/1"), 404, "This entry is gone.");
    assert_eq!(app.get("/api/entries").send().json::<Value>()["count"], 0);
}

#[test]
fn an_entry_is_only_its_authors() {
    let app = App::new();
    write(&app, "mine");
    app.forget_cookies();
    assert_eq!(app.get("/api/entries").send().json::<Value>()["entries"][0]["own"], false);
    check_refused(app.delete("/api/entries/1"), 403, "This entry is somebody else's.");
    assert!(!app.get("/api/entries").send().text().contains("author"));
}

#[test]
fn pictures_are_kept_as_they_are_and_never_asked_for_twice() {
    let app = App::setup().part_bytes_in_memory(10).start().unwrap();
    let entry: Value =
        form(&app, "Ada", "look").file("picture", "a.gif", "text/html", GIF).send().assert_status(201).json();
    assert_eq!(entry["picture"], json!({ "url": "pictures/1", "width": 1, "height": 1 }));
    let picture = app.get("/pictures/1").send();
    picture.assert_header("content-type", "image/gif").assert_header("x-content-type-options", "nosniff");
    assert_eq!(picture.body, GIF);
    let tag = picture.header("etag").unwrap();
    app.get("/pictures/1").header("if-none-match", tag).send().assert_status(304);
    app.get("/pictures/2").send().assert_status(404);
    app.get("/pictures/x").send().assert_status(404);
}

#[test]
fn what_is_wrong_is_said_in_words_for_visitors() {
    let app = App::new();
    let post = || app.post("/api/entries");
    check_refused(form(&app, "", "hi"), 422, "Your name is missing.");
    check_refused(form(&app, "Ada", " \n "), 422, "Your message is missing.");
    check_refused(
        form(&app, "Ada", &"ä".repeat(2001)),
        422,
        "Your message has 2001 characters; there is room for 2000.",
    );
    check_refused(form(&app, "Ada", "\u{7}"), 422, "Your message has characters that cannot be shown.");
    check_refused(form(&app, "Ada", "hi").part("role", "admin"), 422, "An entry has no field \"role\".");
    let text = "This file is no picture that can be shown here: JPEG, PNG, GIF or WebP.";
    check_refused(form(&app, "Ada", "hi").file("picture", "a.png", "image/png", "no picture"), 415, text);
    let large = vec![b'x'; 2 * 1024 * 1024 + 1];
    let text = "This picture is too large. It may have at most 2 MB.";
    check_refused(form(&app, "Ada", "hi").file("picture", "a.png", "image/png", large), 413, text);
    post().body("name=Ada").header("content-type", "text/plain").send().assert_status(415);
    post().json_text("{").send().assert_status(400).assert_contains("line 1 column 1");
    post().json_text(r#"{"name": "Ada"}"#).send().assert_status(400).assert_contains("missing field `message`");
    post().json_text(&format!("{{\"name\": \"{}\"}}", "x".repeat(40_000))).send().assert_status(413);
    check_refused(app.get("/api/entries?limit=all"), 400, "limit is \"all\", but a number is needed.");
    check_refused(app.delete("/api/entries/x"), 404, "There is no entry with such a number.");
    assert_eq!(app.get("/api/entries").send().json::<Value>()["count"], 0);
}

#[test]
fn lists_come_in_pages() {
    let app = App::new();
    (0..5).for_each(|number| drop(write(&app, &number.to_string())));
    let page: Value = app.get("/api/entries?limit=2&before=4").send().json();
    let messages: Vec<_> = page["entries"].as_array().unwrap().iter().map(|entry| &entry["message"]).collect();
    assert_eq!((messages, &page["more"], &page["change"]), (vec![&json!("2"), &json!("1")], &json!(true), &json!(5)));
}

#[test]
fn a_stream_begins_with_what_was_missed() {
    let app = App::new();
    let answer = app.post("/api/entries").json(&json!({ "name": "Ada", "message": "one" })).send();
    let entry = answer.text();
    write(&app, "two");
    app.delete("/api/entries/2").send().assert_status(204);
    let shown = format!("event: entry\nid: 1\ndata: {entry}\n\n");
    let all = events(app.get("/api/events?after=0"));
    let rest = "event: deleted\nid: 2\ndata: 2\n\nevent: deleted\nid: 3\ndata: 2\n\n";
    all.assert_text(&format!("retry: 500\n\n{shown}{rest}"));
    // What the browser has seen goes before what the page has said.
    let missed = events(app.get("/api/events?after=0").header("last-event-id", "2"));
    missed.assert_text("retry: 500\n\nevent: deleted\nid: 3\ndata: 2\n\n");
    // To others the entry is not their own.
    app.forget_cookies();
    events(app.get("/api/events?after=0")).assert_contains("\"own\":false");
    // From a guestbook that had more: that one was replaced.
    let answer = app.get("/api/events").header("last-event-id", "99").send();
    answer.assert_cut(false).assert_text("retry: 500\n\nevent: reset\ndata: \n\n");
}

#[test]
fn a_stream_tells_what_happens_and_ends_with_its_generation() {
    let app = App::new();
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| app.get("/api/events").send());
        // When it has begun cannot be seen from here; one of them will be after that.
        while !stream.is_finished() {
            if app.get("/api/entries").send().json::<Value>()["count"].as_i64() > Some(20) {
                app.retire();
            }
            write(&app, "hello");
            std::thread::sleep(Duration::from_millis(10));
        }
        let answer = stream.join().unwrap();
        answer.assert_cut(false).assert_contains("event: entry");
    });
}

#[test]
fn a_reload_loses_nothing() {
    let app = App::new();
    write(&app, "before");
    app.reload().unwrap();
    assert_eq!(app.get("/api/me").send().json::<Value>(), json!({ "name": "Ada", "entries": 1 }));
    let entry = write(&app, "after");
    assert_eq!(entry["id"], 2);
    events(app.get("/api/events").header("last-event-id", "0")).assert_contains("before").assert_contains("after");
    app.delete("/api/entries/1").send().assert_status(204);
}

#[test]
fn each_answer_has_the_headers_that_keep_browsers_safe() {
    let app = App::new();
    for target in ["/api/me", "/api/entries", "/pictures/1"] {
        let answer = app.get(target).send();
        answer.assert_header("x-content-type-options", "nosniff").assert_header("referrer-policy", "same-origin");
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src"));
    }
}
