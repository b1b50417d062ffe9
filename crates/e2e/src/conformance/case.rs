//! One case: its steps, one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fancy_regex::Regex;
use serde_json::Value;

use super::compare::{compare, log_line};
use super::format::{Case, Expect, RawStep, Request};
use super::report::Verdict;
use super::send;
use super::setup::{Lack, Plan};
use super::world::World;
use crate::http_client::Response;

/// How long the line of a request may take to the access log.
const LOGGED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// How much of a body a failure shows.
const SHOWN_BYTES: usize = 1500;

pub fn run(world: &World, plan: &Plan, case: &Case) -> Verdict {
    let ran = steps(world, plan, case);
    let about = |why: String| match &*case.note {
        "" => format!("{why}\nsource: {}", case.source),
        note => format!("{why}\nsource: {}; note: {note}", case.source),
    };
    match ran {
        Ok(Ended::Well) => Verdict::Passed,
        Ok(Ended::Wrong(why)) => Verdict::Failed(about(why)),
        Ok(Ended::NotApplicable(reason)) => Verdict::NotApplicable(reason),
        Err(error) => Verdict::Failed(about(format!("{error:#}"))),
    }
}

enum Ended {
    Well,
    Wrong(String),
    NotApplicable(&'static str),
}

fn steps(world: &World, plan: &Plan, case: &Case) -> Result<Ended> {
    let steps = case.steps()?;
    let address = world.address(plan)?;
    let mut variables = BTreeMap::from([("port".to_owned(), address.port().to_string())]);
    for (index, step) in steps.iter().enumerate() {
        let (request, expect) = read(step, &variables).with_context(|| format!("step {}", index + 1))?;
        if let Some(ended) = lacking(plan, &request) {
            return Ok(ended);
        }
        thread::sleep(Duration::try_from_secs_f64(request.sleep.unwrap_or_default())?);
        let host = host_of(plan, &request);
        for operation in &request.fs {
            world.operate(host, operation)?;
        }
        let deadline = Instant::now() + Duration::try_from_secs_f64(request.within.unwrap_or_default())?;
        let response = loop {
            match attempt(world, plan, host, &request, &expect)? {
                Ok(response) => break response,
                Err(_) if Instant::now() < deadline => thread::sleep(10 * POLL),
                Err(why) if steps.len() > 1 => return Ok(Ended::Wrong(format!("step {}: {why}", index + 1))),
                Err(why) => return Ok(Ended::Wrong(why)),
            }
        };
        for (name, what) in &request.capture {
            variables.insert(name.clone(), capture(what, &response)?);
        }
    }
    Ok(Ended::Well)
}

fn read(step: &RawStep, variables: &BTreeMap<String, String>) -> Result<(Request, Expect)> {
    let read = |value: &Value| put_in(value, variables);
    let request = serde_json::from_value(read(&step.request)).context("the request")?;
    Ok((request, serde_json::from_value(read(&step.expect)).context("the expectation")?))
}

/// Replaces each `${name}` of a variable that there is.
fn put_in(value: &Value, variables: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => {
            let put = |text: String, (name, value): (&String, &String)| text.replace(&format!("${{{name}}}"), value);
            Value::String(variables.iter().fold(text.clone(), put))
        }
        Value::Array(items) => items.iter().map(|item| put_in(item, variables)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), put_in(member, variables))).collect()
        }
        other => other.clone(),
    }
}

fn lacking(plan: &Plan, request: &Request) -> Option<Ended> {
    let not_yet = |key: &str| Ended::Wrong(format!("needs {key}, which is not there yet"));
    plan.lacks(request.host.as_deref(), &request.target).into_iter().next().map(|lack| match lack {
        Lack::Missing(key) => not_yet(key),
        Lack::NotApplicable(reason) => Ended::NotApplicable(reason),
    })
}

/// The setup's host that the request is for, whose log and files are meant.
fn host_of<'a>(plan: &'a Plan, request: &Request) -> &'a str {
    let named = plan.hosts.iter().find(|host| request.host.as_ref().is_some_and(|name| *name == host.name));
    named.map_or_else(|| plan.first_host(), |host| &host.name)
}

/// Sends a request once; why its answer is wrong, with all that was sent and came.
fn attempt(
    world: &World,
    plan: &Plan,
    host: &str,
    request: &Request,
    expect: &Expect,
) -> Result<Result<Response, String>> {
    let bytes = send::bytes(request, plan.first_host())?;
    let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]).trim_end().to_owned();
    let log = world.access_log(host);
    let logged = lines(&log);
    let response = match send::exchange(world.address(plan)?, request, &bytes) {
        Ok(response) => response,
        Err(error) => return Ok(Err(format!("{error:#}\nsent:\n{}", indent(&sent)))),
    };
    let mut wrong = compare(expect, &response)?;
    if let Some(wanted) = &expect.log {
        wrong.extend(wait_for_log(&log, logged.len(), wanted)?);
    }
    if wrong.is_empty() {
        return Ok(Ok(response));
    }
    let body = String::from_utf8_lossy(&response.body[..response.body.len().min(SHOWN_BYTES)]).into_owned();
    let got = format!("{}{body}", String::from_utf8_lossy(&response.head));
    Ok(Err(format!("{}\nsent:\n{}\ngot:\n{}", wrong.join("\n"), indent(&sent), indent(got.trim_end()))))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {}", line.trim_end_matches('\r'))).collect::<Vec<_>>().join("\n")
}

/// Whole lines alone.
fn lines(log: &Path) -> Vec<String> {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// Waits for a new line that fits.
fn wait_for_log(log: &Path, before: usize, wanted: &str) -> Result<Option<String>> {
    let deadline = Instant::now() + LOGGED_WITHIN;
    loop {
        let lines = lines(log);
        let mut wrong = None;
        for line in lines.iter().skip(before) {
            wrong = log_line(wanted, line)?;
            if wrong.is_none() {
                return Ok(None);
            }
        }
        if Instant::now() >= deadline {
            return Ok(wrong.or_else(|| Some(format!("log: {wanted:?} expected, no line came"))));
        }
        thread::sleep(POLL);
    }
}

/// `cookie:NAME`, `header:Name`, or `re:(...)` of the body.
fn capture(what: &str, response: &Response) -> Result<String> {
    let found = match what.split_once(':') {
        Some(("cookie", name)) => {
            let set = response.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case("set-cookie"));
            set.filter_map(|(_, value)| value.split(';').next()?.split_once('='))
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value.to_owned())
        }
        Some(("header", name)) => response.header(name).map(str::to_owned),
        Some(("re", regex)) => {
            let body = String::from_utf8_lossy(&response.body);
            let captures = Regex::new(&format!("(?s){regex}"))?.captures(&body)?;
            captures.and_then(|captures| captures.get(1).map(|group| group.as_str().to_owned()))
        }
        _ => bail!("nothing can be captured as {what:?}"),
    };
    found.with_context(|| format!("the answer has nothing to capture as {what:?}"))
}
