//! The servlets `echo`, `act`, `http`, `lastmod` and the filter `trace` of the conformance vectors, as `crates/abi/FIXTURES.md`
//! works them out. They have no URL patterns: the runner's web.toml makes instances, with patterns and init parameters.

mod act;
mod echo;
mod trace;

use std::time::{Duration, SystemTime};

use servlet::prelude::*;

servlet::module!();

#[servlet(unmapped, methods = [ANY])]
fn echo(request: &Request, response: &mut Response) -> Result {
    echo::print(request, response)
}

/// Answers GET and POST; the server answers other methods.
#[servlet(unmapped, methods = [GET, POST])]
fn http(request: &Request, response: &mut Response) -> Result {
    response.content_type("text/plain")?.charset("UTF-8")?;
    write!(response, "did {}", request.method_name())
}

#[servlet(unmapped, last_modified = changed)]
fn lastmod(_: &Request, response: &mut Response) -> Result {
    response.content_type("text/plain")?.charset("UTF-8")?.write("body")
}

fn changed(request: &Request) -> Option<SystemTime> {
    let milliseconds = request.init("ms")?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds))
}
