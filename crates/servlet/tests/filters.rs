//! Filters as an author writes them: one that traces and one that compresses, their panics, and what is declared.

mod mock;

use std::io::{Read, Write as _};
use std::sync::Mutex;
use std::time::Instant;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use mock::{Exchange, Module, assert_logged, filters, text};
use serval_abi::{SV_E_FAILED, SV_E_PANIC, SV_NEXT, SV_OK};
use servlet::prelude::*;

servlet::module!();

struct Shop {
    seen: Mutex<Vec<String>>,
}

#[start]
fn start(_: &Context) -> Result<Shop> {
    Ok(Shop { seen: Mutex::new(Vec::new()) })
}

/// Notes who asked, and how it ended; refuses some.
struct Trace {
    refused: String,
}

#[filter("/*", "*", order = -3, dispatches = [REQUEST, FORWARD], servlets = ["hello"], inline, init = { "refused" = "/no" })]
impl Filter for Trace {
    type State = Instant;

    fn create(config: &FilterConfig<'_>) -> Result<Trace> {
        config.state::<Shop>()?;
        let refused = config.init("refused").ok_or_else(|| error(500, "refused is missing"))?;
        Ok(Trace { refused: refused.to_owned() })
    }

    fn request(&self, request: &Request, response: &mut Response) -> Result<Flow<Instant>> {
        match request.path_info() {
            Some(path) if path == self.refused => {
                response.status(403)?.text("not here")?;
                Ok(Flow::Answered)
            }
            Some("/broken") => Err(error(418, "broken")),
            _ => Ok(Flow::Next(Instant::now())),
        }
    }

    fn end(&self, began: Instant, end: &FilterEnd<'_>) {
        let shop: &Shop = end.request().state().unwrap();
        let line = format!("{} {} {}", end.request().uri(), end.status().unwrap(), end.is_ok());
        assert!(began.elapsed().as_secs() < 60);
        shop.seen.lock().unwrap().push(line.clone());
        servlet::log::info!("trace: {line}");
    }
}

/// Compresses what is text.
#[derive(Default)]
struct Gzip;

#[filter("/*")]
impl Filter for Gzip {
    type State = Option<GzEncoder<Vec<u8>>>;

    fn request(&self, request: &Request, _: &mut Response) -> Result<Flow<Self::State>> {
        let wants = request.header("user-agent").is_some_and(|agent| agent.contains("test"));
        Ok(Flow::Next(wants.then(|| GzEncoder::new(Vec::new(), Compression::fast()))))
    }

    fn response(&self, encoder: &mut Self::State, head: &mut ResponseHead<'_>) -> Result {
        if encoder.is_some() && head.get("content-type")?.is_some_and(|of| of.starts_with("text/")) {
            head.header("content-encoding", "gzip")?.add_header("vary", "accept-encoding")?;
        } else {
            *encoder = None;
        }
        Ok(())
    }

    fn body(&self, encoder: &mut Self::State, chunk: Chunk<'_>, out: &mut BodyWriter) -> Result {
        let Some(encoder) = encoder else { return out.write(chunk.bytes()) };
        encoder.write_all(chunk.bytes())?;
        if chunk.is_last() {
            encoder.try_finish()?;
        } else if chunk.is_flush() {
            encoder.flush()?;
        }
        out.write(std::mem::take(encoder.get_mut()))
    }
}

/// Panics where it is told to.
#[derive(Default)]
struct Panics;

#[filter(servlets = ["*"], name = "panics")]
impl Filter for Panics {
    type State = ();

    fn request(&self, request: &Request, _: &mut Response) -> Result<Flow<()>> {
        assert!(request.path_info().is_some(), "in request");
        Ok(Flow::Next(()))
    }

    fn response(&self, _: &mut (), head: &mut ResponseHead<'_>) -> Result {
        match head.request().path_info() {
            Some("/error") => Err(error(404, "too late for a page")),
            _ => panic!("in response"),
        }
    }

    fn body(&self, _: &mut (), chunk: Chunk<'_>, _: &mut BodyWriter) -> Result {
        assert!(!chunk.is_last(), "in body");
        Err(error(500, "no more"))
    }

    fn end(&self, _: (), _: &FilterEnd<'_>) {
        panic!("in end");
    }
}

#[derive(Default)]
struct Wrong;

#[filter("/wrong")]
impl Filter for Wrong {
    type State = ();

    fn create(config: &FilterConfig<'_>) -> Result<Wrong> {
        config.state::<String>()?;
        Ok(Wrong)
    }

    fn request(&self, _: &Request, _: &mut Response) -> Result<Flow<()>> {
        Ok(Flow::Next(()))
    }
}

/// The log and the panic hook are of the whole library.
static ALONE: Mutex<()> = Mutex::new(());

fn with(filter: &str, test: impl FnOnce(&mock::Filter)) {
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let module = Module::start().unwrap();
    let filter = module.filter(filter, &[("refused", "/no")]).unwrap();
    test(&filter);
    drop(filter);
    drop(module);
    drop(alone);
}

#[test]
fn filters_are_declared_as_written_and_what_they_lack_is_null() {
    let all = |list: *const serval_abi::sv_str, count| {
        // SAFETY: the declaration's own.
        let list = unsafe { std::slice::from_raw_parts(list, count) };
        list.iter().map(|pattern| text(*pattern)).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = filters()
        .iter()
        .map(|filter| {
            format!(
                "{}: {} of {:?} dispatches {} order {} flags {} init {}, request {} response {} body {} end {}",
                text(filter.name),
                all(filter.patterns, filter.pattern_count),
                all(filter.servlets, filter.servlet_count),
                filter.dispatches,
                filter.order,
                filter.flags,
                filter.init_count,
                filter.on_request.is_some(),
                filter.on_response.is_some(),
                filter.on_body.is_some(),
                filter.on_end.is_some(),
            )
        })
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "Gzip: /* of \"\" dispatches 0 order 0 flags 0 init 0, request true response true body true end true",
            "Trace: /* * of \"hello\" dispatches 3 order -3 flags 1 init 1, request true response false body false end true",
            "Wrong: /wrong of \"\" dispatches 0 order 0 flags 0 init 0, request true response false body false end true",
            "panics:  of \"*\" dispatches 0 order 0 flags 0 init 0, request true response true body true end true",
        ]
    );
}

#[test]
fn a_filter_sees_the_end_and_may_answer_itself() {
    with("Trace", |filter| {
        let mut exchange = Exchange::get("/yes");
        let (status, state) = filter.request(&mut exchange);
        assert_eq!(status, SV_NEXT);
        exchange.seen.borrow_mut().status = 201;
        filter.end(&mut exchange, state, SV_OK);
        assert_logged("3 7 trace: /x 201 true");

        let mut exchange = Exchange::get("/no");
        assert_eq!(filter.request(&mut exchange).0, SV_OK);
        assert_eq!(exchange.outcome(SV_OK), "403\ncontent-type: text/plain; charset=utf-8\nnot here");

        let mut exchange = Exchange::get("/broken");
        assert_eq!(filter.request(&mut exchange).0, SV_OK);
        assert_eq!(exchange.outcome(SV_OK), "418\npage: broken");
    });
}

#[test]
fn a_filter_may_rewrite_the_body() {
    with("Gzip", |filter| {
        let mut exchange = Exchange::get("");
        let (_, state) = filter.request(&mut exchange);
        exchange.seen.borrow_mut().headers.push(("content-type".to_owned(), "text/plain".to_owned()));
        assert_eq!(filter.response(&mut exchange, state), SV_OK);
        let text = "many many many words ".repeat(500);
        for (index, piece) in text.as_bytes().chunks(1000).enumerate() {
            assert_eq!(filter.body(&mut exchange, state, piece, false), SV_OK);
            if index == 3 {
                let before = exchange.seen.borrow().body.len();
                assert_eq!(filter.body(&mut exchange, state, b"", false), SV_OK);
                assert!(exchange.seen.borrow().body.len() > before, "a flush goes through");
            }
        }
        assert_eq!(filter.body(&mut exchange, state, b"", true), SV_OK);
        filter.end(&mut exchange, state, SV_OK);
        let seen = exchange.seen.borrow();
        assert!(seen.body.len() < text.len() / 10);
        assert!(seen.headers.contains(&("content-encoding".to_owned(), "gzip".to_owned())), "{:?}", seen.headers);
        let mut plain = String::new();
        GzDecoder::new(&seen.body[..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, text);
    });
    with("Gzip", |filter| {
        let mut exchange = Exchange::get("");
        let (_, state) = filter.request(&mut exchange);
        assert_eq!(filter.response(&mut exchange, state), SV_OK);
        filter.body(&mut exchange, state, b"as it is", true);
        filter.end(&mut exchange, state, SV_OK);
        assert_eq!(exchange.outcome(SV_OK), "200\nas it is");
    });
}

#[test]
fn panics_and_errors_of_each_function_are_caught() {
    with("panics", |filter| {
        let mut exchange = Exchange::get("");
        let (status, state) = filter.request(&mut exchange);
        assert_eq!((status, state.is_null()), (SV_E_PANIC, true));
        assert_logged("panic of 8: in request");

        let mut exchange = Exchange::get("/error");
        let (status, state) = filter.request(&mut exchange);
        assert_eq!(status, SV_NEXT);
        assert_eq!(filter.response(&mut exchange, state), SV_E_FAILED);
        assert_eq!(exchange.seen.borrow().failed.as_deref(), Some("failed status: too late for a page"));
        assert_eq!(filter.body(&mut exchange, state, b"x", false), SV_E_FAILED);
        assert_logged("1 7 the filter panics: no more");
        assert_eq!(filter.body(&mut exchange, state, b"x", true), SV_E_PANIC);
        assert_logged("panic of 8: in body");
        filter.end(&mut exchange, state, SV_E_FAILED);
        assert_logged("panic of 8: in end");

        let mut exchange = Exchange::get("/x");
        let (_, state) = filter.request(&mut exchange);
        assert_eq!(filter.response(&mut exchange, state), SV_E_PANIC);
        assert_logged("panic of 8: in response");
        filter.end(&mut exchange, state, SV_E_PANIC);
    });
}

#[test]
fn a_filter_that_cannot_be_made_is_refused_with_the_reason() {
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let module = Module::start().unwrap();
    let refused = |filter| module.filter(filter, &[]).err().unwrap();
    assert_eq!(refused("Trace"), "-13: the filter Trace: refused is missing");
    let text = "Wrong wants alloc::string::String, but the #[start] function returns filters::Shop";
    assert_eq!(refused("Wrong"), format!("-13: the filter Wrong: {text}"));
    drop(module);
    drop(alone);
}
