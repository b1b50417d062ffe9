//! Errors and panics, each where the query asks for it.

use std::time::Duration;

use servlet::prelude::*;
use servlet::time::sleep;

use crate::Kitchen;

#[servlet("/wrong")]
fn wrong(request: &Request, response: &mut Response) -> Result {
    match request.query() {
        Some("io") => drop(std::fs::read("/there/is/no/such/file")?),
        Some("parse") => drop("seven".parse::<u32>()?),
        Some("404") => return Err(error(404, "no such dish")),
        Some("503") => return Err(servlet::unavailable(7, "the cook sleeps")),
        _ => {}
    }
    response.text("right")
}

#[servlet("/wrong-async")]
async fn wrong_async(request: &Request, response: &mut Response) -> Result {
    sleep(Duration::from_millis(1)).await;
    wrong(request, response)
}

/// The page for what web.toml sends here.
#[servlet("/failed")]
fn failed(request: &Request, response: &mut Response) -> Result {
    response.text(format!("{:?}", request.error()?))
}

#[servlet("/panics")]
fn panics(_: &Request, _: &mut Response) -> Result {
    panic!("in a servlet");
}

#[servlet("/panics-async")]
async fn panics_async(_: &Request, _: &mut Response) -> Result {
    sleep(Duration::from_millis(1)).await;
    panic!("after an await");
}

#[servlet("/panics-beside")]
fn panics_beside(request: &Request, response: &mut Response) -> Result {
    let context = request.context();
    match request.query() {
        Some("future") => context.spawn(async {
            sleep(Duration::from_millis(1)).await;
            panic!("in a future")
        })?,
        Some("thread") => context.spawn_thread("clumsy", |_| panic!("in a thread"))?,
        _ => context.set_attribute("drops", "it")?,
    }
    response.text("begun")
}

#[on(context_attribute)]
fn attribute(event: &AttributeEvent) {
    if event.name() == "drops" {
        panic!("in a listener");
    }
}

/// Panics once for each time that the test asks for it.
#[job(every = "20ms")]
fn clumsy_job(kitchen: &Kitchen) {
    if std::fs::remove_file(kitchen.work.join("job")).is_ok() {
        panic!("in a job");
    }
}

#[servlet("/filtered/*")]
fn filtered(_: &Request, response: &mut Response) -> Result {
    response.text("passed")
}

struct Fragile;

#[filter("/filtered/*", order = 3)]
impl Filter for Fragile {
    type State = bool;

    fn create(config: &FilterConfig) -> Result<Fragile> {
        let work = config.context().work_folder().ok_or_else(|| error(500, "no work folder"))?;
        match std::fs::read_to_string(work.join("create")).as_deref() {
            Ok("panic") => panic!("the filter breaks"),
            _ => Ok(Fragile),
        }
    }

    fn request(&self, request: &Request, _: &mut Response) -> Result<Flow<bool>> {
        if request.query() == Some("request") {
            panic!("in request");
        }
        Ok(Flow::Next(request.query() == Some("body")))
    }

    fn response(&self, _: &mut bool, head: &mut ResponseHead) -> Result {
        if head.request().query() == Some("response") {
            panic!("in response");
        }
        head.header("x-fragile", "whole")?.done()
    }

    fn body(&self, breaks: &mut bool, chunk: Chunk, out: &mut BodyWriter) -> Result {
        if *breaks {
            panic!("in body");
        }
        out.write(chunk.bytes().to_ascii_uppercase())
    }

    fn end(&self, _: bool, end: &FilterEnd) {
        if end.request().query() == Some("end") {
            panic!("in end");
        }
    }
}
