//! `echo`: prints what a servlet is told of a request, as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use servlet::prelude::*;

/// Texts in the order of their first name.
type Groups = Vec<(String, Vec<String>)>;

pub fn print(request: &Request, response: &mut Response) -> Result {
    let session = request.requested_session()?;
    let cookies: Vec<[&str; 2]> = request.cookies()?.map(|(name, value)| [name, value]).collect();
    let mut facts = json!({
        "servlet": request.instance_name(),
        "app": request.context().param("app"),
        "method": request.method_name(),
        "protocol": protocol(request.http_version()),
        "scheme": request.scheme(),
        "secure": request.is_secure(),
        "serverName": request.server_name(),
        "serverPort": request.server_port(),
        "remoteAddr": request.remote_addr(),
        // Names are not looked up.
        "remoteHost": request.remote_addr(),
        "contextPath": request.context_path(),
        "servletPath": request.servlet_path(),
        "pathInfo": request.path_info(),
        "requestURI": request.uri(),
        "requestURL": url(request),
        "queryString": request.query(),
        "dispatcher": request.dispatcher().to_string(),
        "mapping": mapping(request),
        "user": request.user()?,
        "authType": request.auth_method()?,
        "contentType": request.content_type(),
        // As forms are read.
        "charset": request.charset().unwrap_or("UTF-8"),
        "headers": object(group(request.headers().map(|(name, value)| (name.to_owned(), text(value))))),
        "cookies": cookies,
        "params": object(group(request.params()?.map(|(name, value)| (name.to_owned(), value.to_owned())))),
        "session": {
            "requested": session.map(|session| session.id),
            "fromCookie": session.is_some_and(|session| session.by_cookie),
            "fromURL": session.is_some_and(|session| session.by_url),
            "valid": session.is_some_and(|session| session.is_valid),
        },
        "attrs": attributes(request)?,
    });
    let multipart = request.content_type().is_some_and(|kind| kind.starts_with("multipart/"));
    if request.init("parts") == Some("1") && multipart {
        facts["parts"] = parts(request)?;
    }
    response.content_type("application/json")?.charset("UTF-8")?.write(facts.to_string())
}

fn protocol(version: u32) -> &'static str {
    match version {
        10 => "HTTP/1.0",
        11 => "HTTP/1.1",
        20 => "HTTP/2.0",
        _ => "HTTP/3.0",
    }
}

fn url(request: &Request) -> String {
    let (scheme, name, port) = (request.scheme(), request.server_name(), request.server_port());
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{name}{}", request.uri()),
        _ => format!("{scheme}://{name}:{port}{}", request.uri()),
    }
}

fn mapping(request: &Request) -> Value {
    let kind = request.pattern_kind();
    // For these two the interface has no value, and Java the empty text.
    let none = if matches!(kind, "CONTEXT_ROOT" | "DEFAULT") { Some("") } else { None };
    json!({
        "value": request.pattern_value().or(none),
        "pattern": request.pattern(),
        "match": kind,
        "servlet": request.servlet_name(),
    })
}

/// Those that the vectors look at; `mapping.value` and its kind become members of one object.
fn attributes(request: &Request) -> Result<Value> {
    let mut shown = Map::new();
    for (name, value) in request.attributes()? {
        let (of_server, name) = match name.strip_prefix("servlet.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        if !of_server && !["cors.", "fx.", "X-"].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let value = text(value);
        if let Some((outer, member)) = name.split_once(".mapping.").filter(|_| of_server) {
            let object = shown.entry(format!("{outer}.mapping")).or_insert_with(|| json!({}));
            // As Java writes it, and `mapping` above.
            let value = if member == "match" { value.to_uppercase() } else { value };
            object[member] = value.into();
        } else if name == "fx.trail" {
            shown.insert(name.to_owned(), value.split(',').collect());
        } else {
            shown.insert(name.to_owned(), value.into());
        }
    }
    Ok(shown.into())
}

fn parts(request: &Request) -> Result<Value> {
    let mut shown = Vec::new();
    for part in request.parts()? {
        shown.push(json!({
            "name": part.name(),
            "file": part.file_name(),
            "size": part.size(),
            "type": part.content_type(),
        }));
    }
    Ok(shown.into())
}

fn group(pairs: impl Iterator<Item = (String, String)>) -> Groups {
    let mut places = BTreeMap::new();
    let mut groups = Groups::new();
    for (name, value) in pairs {
        let place = *places.entry(name.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push((name, Vec::new()));
        }
        groups[place].1.push(value);
    }
    groups
}

fn object(groups: Groups) -> Value {
    groups.into_iter().map(|(name, values)| (name, Value::from(values))).collect::<Map<_, _>>().into()
}

/// Bytes that are not UTF-8 are Latin-1, as Tomcat reads headers.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}
