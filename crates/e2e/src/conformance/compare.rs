//! An answer against what a case expects.

use anyhow::{Context, Result};
use fancy_regex::Regex;
use serde_json::Value;

use super::format::{Expect, Header};
use super::keys::KINDS;
use crate::http_client::Response;

/// Returns what is wrong with an answer, one line for each; an error when the expectation cannot be read.
pub fn compare(expect: &Expect, response: &Response) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    if !expect.status.is_empty() && !expect.status.contains(&response.status) {
        let wanted: Vec<String> = expect.status.iter().map(u16::to_string).collect();
        wrong.push(format!("status: {} expected, {} came", wanted.join(" or "), response.status));
    }
    for (name, wanted) in &expect.headers {
        wrong.extend(header(name, wanted.as_ref(), response)?);
    }
    let body = String::from_utf8_lossy(&response.body);
    if let Some(wanted) = expect.body.as_ref().filter(|wanted| **wanted != body) {
        wrong.push(format!("body: {wanted:?} expected"));
    }
    if let Some(wanted) = expect.body_len.filter(|wanted| *wanted != response.body.len()) {
        wrong.push(format!("body: {wanted} bytes expected, {} came", response.body.len()));
    }
    if let Some(wanted) = &expect.body_re
        && !regex(wanted)?.is_match(&body).with_context(|| wanted.clone())?
    {
        wrong.push(format!("body: nothing matches {wanted:?}"));
    }
    if let Some(unwanted) = &expect.body_not
        && regex(unwanted)?.is_match(&body).with_context(|| unwanted.clone())?
    {
        wrong.push(format!("body: something matches {unwanted:?}"));
    }
    if let Some(wanted) = &expect.echo {
        match serde_json::from_slice::<Value>(&response.body) {
            Ok(found) => echo("", wanted, &found, &mut wrong),
            Err(error) => wrong.push(format!("echo: the body is not JSON: {error}")),
        }
    }
    Ok(wrong)
}

/// A line of the access log, whole.
pub fn log_line(wanted: &str, line: &str) -> Result<Option<String>> {
    let matches = Regex::new(&format!("^(?:{wanted})$"))
        .and_then(|regex| regex.is_match(line))
        .with_context(|| format!("the regular expression {wanted:?}"))?;
    Ok((!matches).then(|| format!("log: {wanted:?} expected, {line:?} came")))
}

fn header(name: &str, wanted: Option<&Header>, response: &Response) -> Result<Option<String>> {
    let found: Vec<&str> = response
        .headers
        .iter()
        .filter(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    let joined = found.join(", ");
    let wrong = match wanted {
        None if found.is_empty() => None,
        None => Some("none".to_owned()),
        Some(Header::One(value)) => (found != [value.as_str()]).then(|| format!("{value:?}")),
        Some(Header::All(values)) => (found != *values).then(|| format!("{values:?}")),
        Some(Header::Matches { re }) => {
            let matches = !found.is_empty() && regex(re)?.is_match(&joined).with_context(|| re.clone())?;
            (!matches).then(|| format!("a match of {re:?}"))
        }
        Some(Header::IsNot { not }) => {
            (found.is_empty() || joined == *not).then(|| format!("another one than {not:?}"))
        }
    };
    Ok(wrong.map(|wanted| format!("header {name}: {wanted} expected, {found:?} came")))
}

/// Dots match line ends too, as the vectors want it.
fn regex(text: &str) -> Result<Regex> {
    Regex::new(&format!("(?s){text}")).with_context(|| format!("the regular expression {text:?}"))
}

/// Objects are compared by the keys that are given; null is null, or absent.
fn echo(place: &str, wanted: &Value, found: &Value, wrong: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, wanted) in wanted {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let (wanted, found) = of_kind(key, wanted, found);
                echo(&place, &wanted, found, wrong);
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                echo(&format!("{place}[{index}]"), wanted, found, wrong);
            }
        }
        (wanted, found) if wanted == found => {}
        (wanted, found) => wrong.push(format!("echo {place}: {wanted} expected, {found} came")),
    }
}

/// The class of an exception is a kind here. Tomcat tells its type only to a page that is for it, as we tell its text.
fn of_kind<'a>(key: &str, wanted: &Value, found: &'a serde_json::Map<String, Value>) -> (Value, &'a Value) {
    if !matches!(key, "error.exception" | "error.exception_type") {
        return (wanted.clone(), found.get(key).unwrap_or(&Value::Null));
    }
    let kind = wanted.as_str().and_then(|class| KINDS.iter().find(|(known, _)| *known == class));
    let wanted = kind.map_or_else(|| wanted.clone(), |(_, kind)| Value::from(*kind));
    let is_told = key == "error.exception"
        || found.get("error.message").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    (wanted, found.get("error.kind").filter(|_| is_told).unwrap_or(&Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expect: &str, answer: &str, expected: &[&str]) {
        let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.parse().ok()).expect("a status");
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let response = Response {
            status,
            reason: String::new(),
            minor: 1,
            headers,
            body: body.as_bytes().to_vec(),
            trailers: Vec::new(),
            head: Vec::new(),
        };
        let expect = serde_json::from_str(expect).expect("an expectation");
        assert_eq!(compare(&expect, &response).expect("compared"), expected);
    }

    #[test]
    fn each_kind_of_expectation_holds_or_says_why_not() {
        check(r#"{"status": [200, 204]}"#, "204", &[]);
        check(r#"{"status": 200}"#, "204", &["status: 200 expected, 204 came"]);
        check(r#"{"headers": {"a": "1", "b": null, "C": ["1", "2"]}}"#, "200\nA: 1\nc: 1\nc: 2", &[]);
        check(r#"{"headers": {"a": null}}"#, "200\na: 1", &["header a: none expected, [\"1\"] came"]);
        check(r#"{"headers": {"a": {"re": "x"}}}"#, "200", &["header a: a match of \"x\" expected, [] came"]);
        check(r#"{"headers": {"a": {"re": "1, 2$"}, "b": {"not": "x"}}}"#, "200\na: 1\na: 2\nb: y", &[]);
        check(r#"{"bodyRe": "a.b(?=c)", "bodyLen": 4, "bodyNot": "z"}"#, "200\n\na\nbc", &[]);
        check(r#"{"body": "x"}"#, "200\n\ny", &["body: \"x\" expected"]);
    }

    #[test]
    fn echoed_facts_are_compared_by_what_is_given() {
        check(
            r#"{"echo": {"a": null, "b": {"c": [1, {"d": 2}]}}}"#,
            "200\n\n{\"b\": {\"c\": [1, {\"d\": 2, \"e\": 3}], \"f\": 4}}",
            &[],
        );
        check(r#"{"echo": {"a": "1"}}"#, "200\n\n{\"a\": null}", &["echo a: \"1\" expected, null came"]);
        check(r#"{"echo": {"a": ["1"]}}"#, "200\n\n{\"a\": []}", &["echo a: [\"1\"] expected, [] came"]);
        let kinds = r#"{"echo": {"attrs": {"error.exception": "java.io.IOException", "error.exception_type": null}}}"#;
        let came = "echo attrs.error.exception_type: null expected, \"io\" came";
        check(kinds, "200\n\n{\"attrs\": {\"error.kind\": \"io\", \"error.message\": \"lost\"}}", &[came]);
        check(kinds, "200\n\n{\"attrs\": {\"error.kind\": \"io\", \"error.message\": \"\"}}", &[]);
    }

    #[test]
    fn a_line_of_the_log_is_matched_whole() {
        assert_eq!(log_line("1|22", "22").expect("compared"), None);
        assert!(log_line("1|22", "221").expect("compared").is_some());
    }
}
