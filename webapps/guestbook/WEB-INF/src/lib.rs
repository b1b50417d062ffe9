//! A guestbook: a page with its own JavaScript, and behind it a JSON API, SQLite, pictures, and a stream of events.
//!
//! This file is the way of a request; `visitor` knows who asks, `store` the database, `picture` what is taken as one,
//! and `events` tells open pages what is new. The page itself is plain files, which the server answers; `safety` is
//! the filter around all of it.
#![forbid(unsafe_code)]

mod events;
mod picture;
mod safety;
mod store;
#[cfg(test)]
mod tests;
mod visitor;

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::json;
use servlet::prelude::*;

use crate::events::Feed;
use crate::picture::{PICTURE_BYTES_MAX, Picture};
use crate::store::{Deletion, Entry, NewEntry, Store};
use crate::visitor::Visitor;

servlet::module!();

/// LIMIT: characters, as the page has them too.
const NAME_LEN_MAX: usize = 60;
const MESSAGE_LEN_MAX: usize = 2000;
/// LIMIT: bytes of a text field, or of an entry as JSON, where a character may take twelve (`\ud83d\udc06`).
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// LIMIT: entries in one answer.
const PAGE_LEN_MAX: u32 = 100;
const PAGE_LEN: u32 = 20;

/// What this generation keeps between requests.
pub struct Guestbook {
    store: Store,
    feed: Feed,
}

#[start]
fn start(context: &Context) -> Result<Guestbook> {
    let folder = context.work_folder().ok_or_else(|| error(500, "the server gives no work folder"))?;
    let store = Store::open(folder)?;
    let feed = Feed::open(&store)?;
    Ok(Guestbook { store, feed })
}

/// An entry as one visitor sees it.
#[derive(Serialize)]
pub struct Shown<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// It is the visitor's own, who may delete it.
    own: bool,
}

impl<'a> Shown<'a> {
    fn to(visitor: &Visitor, entry: &'a Entry) -> Shown<'a> {
        Shown { entry, own: visitor.wrote(&entry.author) }
    }
}

/// `GET api/me`: who asks. It begins a session, so that the visitor is known from the first entry on.
#[servlet("/api/me", blocking)]
fn me(guestbook: &Guestbook, request: &Request, response: &mut Response) -> Result {
    let visitor = Visitor::known(request, &guestbook.store)?;
    let entries = guestbook.store.count_of(&visitor.author)?;
    response.header("cache-control", "no-store")?.json(&json!({ "name": visitor.name, "entries": entries }))
}

/// `GET api/entries?before=ID&limit=20`: a page of entries. `POST api/entries`: one more, as multipart/form-data (name,
/// message, picture) or as JSON (name, message); 201 with the entry.
#[servlet("/api/entries", methods = [GET, POST], multipart, blocking)]
fn entries(guestbook: &Guestbook, request: &Request, body: &mut Body, response: &mut Response) -> Result {
    let done = match request.method() {
        Method::POST => write(guestbook, request, body, response),
        _ => list(guestbook, request, response),
    };
    or_say_why(done, response)
}

/// `DELETE api/entries/{id}`: takes back an entry of one's own; 204.
#[servlet("/api/entries/{id}", methods = [DELETE], blocking)]
fn delete(guestbook: &Guestbook, request: &Request, response: &mut Response) -> Result {
    or_say_why(take_back(guestbook, request, response), response)
}

/// `GET pictures/{id}`: the picture of an entry. It never changes, so a browser need not ask twice.
#[servlet("/pictures/{id}", blocking)]
fn picture(guestbook: &Guestbook, request: &Request, response: &mut Response) -> Result {
    let id: i64 = id(request)?;
    let Some(picture) = guestbook.store.picture(id)? else {
        return Err(error(404, "there is no such picture"));
    };
    let tag = format!("\"{id}\"");
    response.header("etag", &tag)?.header("cache-control", "public, max-age=31536000, immutable")?;
    if request.header("if-none-match").is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag)) {
        return response.status(304)?.done();
    }
    // It is from a stranger: whoever opens it alone shall not run what it might hold.
    response.header("content-security-policy", "default-src 'none'; sandbox")?;
    response.content_type(&picture.media_type)?.bytes(picture.bytes)
}

fn list(guestbook: &Guestbook, request: &Request, response: &mut Response) -> Result {
    let before = number(request.param("before")?, "before")?;
    let limit = number(request.param("limit")?, "limit")?.unwrap_or(PAGE_LEN).clamp(1, PAGE_LEN_MAX);
    let visitor = Visitor::of(request)?;
    let page = guestbook.store.page(before, limit)?;
    let entries: Vec<_> = page.entries.iter().map(|entry| Shown::to(&visitor, entry)).collect();
    response
        .header("cache-control", "no-store")?
        .json(&json!({ "entries": entries, "more": page.more, "count": page.count, "change": page.change }))
}

fn write(guestbook: &Guestbook, request: &Request, body: &mut Body, response: &mut Response) -> Result {
    let written = if is_multipart(request) { from_form(request)? } else { from_json(body)? };
    let name = line(&written.name, "Your name", NAME_LEN_MAX)?;
    let message = text(&written.message, "Your message", MESSAGE_LEN_MAX)?;
    let picture = written.picture.map(Picture::parse).transpose()?;

    let mut visitor = Visitor::known(request, &guestbook.store)?;
    let new = NewEntry { author: &visitor.author, name: &name, message: &message, picture: picture.as_ref() };
    let entry = guestbook.store.add(&new)?;
    guestbook.feed.catch_up(&guestbook.store)?;
    visitor.name = name;
    visitor.remember(request)?;
    response.status(201)?.json(&Shown::to(&visitor, &entry))
}

fn take_back(guestbook: &Guestbook, request: &Request, response: &mut Response) -> Result {
    match guestbook.store.delete(id(request)?, &Visitor::of(request)?.author)? {
        Deletion::Done => {
            guestbook.feed.catch_up(&guestbook.store)?;
            response.status(204)?.done()
        }
        Deletion::OfSomebodyElse => Err(error(403, "This entry is somebody else's.")),
        Deletion::NoSuchEntry => Err(error(404, "This entry is gone.")),
    }
}

/// What a client sends as an entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    message: String,
    #[serde(skip)]
    picture: Option<Vec<u8>>,
}

fn is_multipart(request: &Request) -> bool {
    let kind = request.content_type().and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

fn from_json(body: &mut Body) -> Result<Written> {
    body.json(TEXT_BYTES_MAX)
}

fn from_form(request: &Request) -> Result<Written> {
    let mut written = Written { name: String::new(), message: String::new(), picture: None };
    // The server has checked the limits of web.toml while the parts came; a file is the only one that visitors meet.
    let parts = request.parts().map_err(|wrong| if wrong.status() == 413 { picture::too_large() } else { wrong })?;
    for part in parts {
        match part.name() {
            "name" => written.name = part.text(TEXT_BYTES_MAX)?.into_owned(),
            "message" => written.message = part.text(TEXT_BYTES_MAX)?.into_owned(),
            // A form sends an empty part where no file was chosen.
            "picture" if part.size() == 0 => (),
            "picture" if part.size() > PICTURE_BYTES_MAX as u64 => return Err(picture::too_large()),
            "picture" => written.picture = Some(part.all(PICTURE_BYTES_MAX)?.into_owned()),
            other => return Err(error(422, format!("An entry has no field {other:?}."))),
        }
    }
    Ok(written)
}

/// Takes a text without what cannot be seen, and with something that can; 422 otherwise.
fn text(written: &str, what: &str, len_max: usize) -> Result<String> {
    let text = written.replace("\r\n", "\n");
    let text = text.trim();
    let len = text.chars().count();
    if len == 0 {
        return Err(error(422, format!("{what} is missing.")));
    }
    if len > len_max {
        return Err(error(422, format!("{what} has {len} characters; there is room for {len_max}.")));
    }
    if text.chars().any(|char| char.is_control() && char != '\n' && char != '\t') {
        return Err(error(422, format!("{what} has characters that cannot be shown.")));
    }
    Ok(text.to_owned())
}

/// The same in one line.
fn line(written: &str, what: &str, len_max: usize) -> Result<String> {
    text(&written.split_whitespace().collect::<Vec<_>>().join(" "), what, len_max)
}

fn id(request: &Request) -> Result<i64> {
    let id = request.path_param("id")?.and_then(|id| id.parse().ok());
    id.ok_or_else(|| error(404, "There is no entry with such a number."))
}

/// Reads a number that may be left out.
fn number<N: FromStr>(written: Option<&str>, what: &str) -> Result<Option<N>> {
    let wrong = |text: &str| error(400, format!("{what} is {text:?}, but a number is needed."));
    written.map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

/// Answers what a visitor did wrong with `{"error": "..."}`, which the page shows. Anything else is a fault of ours:
/// the server answers it and logs why.
fn or_say_why(done: Result, response: &mut Response) -> Result {
    match done {
        Err(wrong) if (400..500).contains(&wrong.status()) || wrong.status() == 507 => {
            response.reset()?.status(wrong.status())?.json(&json!({ "error": wrong.text() }))
        }
        done => done,
    }
}
