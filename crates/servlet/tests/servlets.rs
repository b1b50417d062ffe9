//! Servlets as an author writes them, called through `servlet_module_v1` by a mock of the host.

mod mock;

use std::io::{Read, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mock::{Exchange, Module, assert_logged, declared, servlets, text};
use servlet::prelude::*;

servlet::module!();

struct Shop {
    currency: String,
    sold: AtomicUsize,
}

/// Makes start fail or panic, or stop panic: each in a test of its own process would cost more than this.
static MOOD: std::sync::Mutex<&str> = std::sync::Mutex::new("");
static STOPPED: AtomicBool = AtomicBool::new(false);

fn mood() -> &'static str {
    *MOOD.lock().unwrap()
}

#[start]
fn start(context: &Context) -> Result<Shop> {
    match mood() {
        "fail" => return Err(error(500, "the till is locked")),
        "panic" => return panic_in_start(),
        _ => {}
    }
    assert_eq!(context.attribute("long")?.unwrap().len(), 1000);
    Ok(Shop { currency: context.param("currency").unwrap_or("?").to_owned(), sold: AtomicUsize::new(0) })
}

fn panic_in_start() -> Result<Shop> {
    panic!("no {}", "shop");
}

#[stop]
fn stop(shop: Shop) {
    STOPPED.store(true, Ordering::Relaxed);
    assert!(mood() != "panic in stop", "{} sold", shop.sold.load(Ordering::Relaxed));
}

#[servlet("/hello/*", "/hi", methods = [GET, POST], inline, load_order = 3, init = { "greeting" = "Hello" })]
fn hello(request: &Request, response: &mut Response) -> Result {
    let name = request.path_info().unwrap_or("/World").trim_start_matches('/');
    response.text(format!("{}, {name}!", request.init("greeting").unwrap()))
}

#[servlet("*.big", name = "large", blocking, multipart)]
pub(crate) fn big(_: &Request, response: &mut Response) -> Result {
    response.status(201)?.content_type("text/css")?.text("x".repeat(100_000))
}

#[servlet("/sell", methods = [ANY])]
fn sell(shop: &Shop, request: &Request, response: &mut Response) -> Result {
    let count: usize = request.param("count")?.ok_or_else(|| error(400, "count is missing"))?.parse()?;
    request.param("too-long").map_or(Ok(()), |_| Ok::<(), Error>(()))?;
    let sold = shop.sold.fetch_add(count, Ordering::Relaxed) + count;
    servlet::log::debug!("{}", unreachable_text());
    servlet::log::info!("sold {count}");
    write!(response, "{sold} {}", shop.currency)
}

fn unreachable_text() -> &'static str {
    panic!("debug is off, so nothing is formatted")
}

#[servlet("/long")]
fn long_param(request: &Request, _: &mut Response) -> Result {
    request.param("too-long")?;
    Ok(())
}

#[servlet("/body")]
fn body(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    while let Some(chunk) = body.chunk()? {
        response.write(chunk)?.flush_comma(response)?;
    }
    Ok(())
}

/// Shows that `write` returns a plain `Result` here, not that of `io::Write`.
trait Comma {
    fn flush_comma(self, response: &mut Response) -> Result;
}

impl Comma for () {
    fn flush_comma(self, response: &mut Response) -> Result {
        response.write_all(b",")?;
        Ok(())
    }
}

#[servlet("/state-and-body")]
fn state_and_body(shop: &Shop, _: &Request, body: &mut Body, response: &mut Response) -> Result {
    response.text(format!("{} {}", body.text(8)?, shop.currency))
}

#[servlet("/io")]
fn through_io(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let mut text = String::new();
    body.read_to_string(&mut text)?;
    response.html(escape(&text).to_string())
}

#[servlet("/panic")]
fn panics(_: &Request, response: &mut Response) -> Result {
    response.write("half")?;
    panic!("the roof is on fire");
}

#[servlet("/late")]
fn late(_: &Request, response: &mut Response) -> Result {
    response.write("half")?;
    response.flush()?;
    Err(error(404, "too late"))
}

#[servlet("/committed")]
fn committed(_: &Request, response: &mut Response) -> Result {
    response.flush()?;
    response.status(404)?.done()
}

#[servlet("/failed")]
fn failed(_: &Request, _: &mut Response) -> Result {
    Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied))?
}

#[servlet("/missing-function")]
fn unsupported(request: &Request, _: &mut Response) -> Result {
    request.cookie("x")?;
    Ok(())
}

#[servlet("/thread")]
fn threads(request: &Request, response: &mut Response) -> Result {
    request.uri();
    let (agent, wrong, written) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let wrong = request.param("count").unwrap_err();
            (request.header("User-Agent"), wrong, response.write("x").is_err())
        });
        other.join().unwrap()
    });
    response.text(format!("{} {wrong:?} {written}", agent.unwrap()))
}

#[servlet("/thread-first")]
fn thread_first(request: &Request, response: &mut Response) -> Result {
    let joined = std::thread::scope(|scope| scope.spawn(|| request.uri().len()).join().is_err());
    response.text(joined.to_string())
}

#[servlet("/nice")]
fn nice(request: &Request, response: &mut Response) -> Result {
    let names: Vec<&str> = request.headers().map(|(name, _)| name).collect();
    response.header("x-names", names.join("+"))?;
    response.cookie(&Cookie::new("a", "b").path("/").max_age(5).secure().same_site(SameSite::Lax))?;
    response.redirect("there")
}

#[servlet("/wrong-state")]
fn wrong_state(_: &String, _: &Request, _: &mut Response) -> Result {
    Ok(())
}

/// The log, the panic hook and `MOOD` are of the whole library.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[track_caller]
fn check(servlet: &str, mut exchange: Exchange, expected: &str) {
    let _alone = alone();
    let module = Module::start().unwrap();
    let seen = module.servlet(servlet, &[]).unwrap().call(&mut exchange);
    assert_eq!(seen, expected);
}

#[test]
fn the_module_describes_itself() {
    let module = declared();
    assert_eq!(text(module.name), "serval-servlet");
    assert_eq!(text(module.version), env!("CARGO_PKG_VERSION"));
    let built_with = text(module.built_with);
    assert!(built_with.starts_with("rustc 1.") && built_with.ends_with(", servlet 0.1.0"), "{built_with}");
    assert!(std::ptr::eq(module, declared()));
}

#[track_caller]
fn check_declared(name: &str, expected: &str) {
    let servlet = *servlets().iter().find(|servlet| text(servlet.name) == name).unwrap();
    // SAFETY: the declaration's own.
    let patterns = unsafe { std::slice::from_raw_parts(servlet.patterns, servlet.pattern_count) };
    let patterns: Vec<String> = patterns.iter().map(|pattern| text(*pattern)).collect();
    let seen = format!(
        "{} methods {:#x} flags {} order {} init {}",
        patterns.join(" "),
        servlet.methods,
        servlet.flags,
        servlet.load_order,
        servlet.init_count
    );
    assert_eq!(seen, expected);
}

#[test]
fn servlets_are_declared_as_written() {
    check_declared("hello", "/hello/* /hi methods 0x5 flags 1 order 3 init 1");
    check_declared("large", "*.big methods 0x1 flags 10 order -1 init 0");
    check_declared("sell", "/sell methods 0x0 flags 0 order -1 init 0");
}

const PLAIN: &str = "200\ncontent-type: text/plain; charset=utf-8\n";

#[test]
fn a_hello_is_one_respond() {
    check("hello", Exchange::get("/Ada"), &format!("{PLAIN}Hello, Ada!"));
    let _alone = alone();
    let module = Module::start().unwrap();
    let servlet = module.servlet("hello", &[("greeting", "Good day")]).unwrap();
    let mut exchange = Exchange::get("");
    assert_eq!(servlet.call(&mut exchange), format!("{PLAIN}Good day, World!"));
    assert_eq!(exchange.seen.borrow().responds, 1);
}

#[test]
fn a_long_string_is_handed_over_and_released() {
    let _alone = alone();
    let module = Module::start().unwrap();
    let mut exchange = Exchange::get("");
    let seen = module.servlet("large", &[]).unwrap().call(&mut exchange);
    assert_eq!(seen, format!("201\ncontent-type: text/css\n{}", "x".repeat(100_000)));
    assert!(exchange.seen.borrow().released);
}

#[test]
fn state_and_parameters() {
    let mut exchange = Exchange::get("");
    exchange.params.push(("count", "3"));
    check("sell", exchange, "200\n3 EUR");
    assert_logged("3 7 sold 3");
    assert!(STOPPED.load(Ordering::Relaxed));
    check("sell", Exchange::get(""), "400\npage: count is missing");
    let mut exchange = Exchange::get("");
    exchange.params.push(("count", "many"));
    check("sell", exchange, "200\n\nreturned -13\nfailed core/num/error/ParseIntError: invalid digit found in string");
    check("long_param", Exchange::get(""), "200\n\nreturned -6");
}

#[test]
fn bodies() {
    let with_body = |body| {
        let mut exchange = Exchange::get("");
        exchange.body = body;
        exchange
    };
    check("body", with_body("0123456789"), "200\n0123,4567,89,");
    check("state_and_body", with_body("12345678"), &format!("{PLAIN}12345678 EUR"));
    check("state_and_body", with_body("123456789"), "200\n\nreturned -6");
    check("through_io", with_body("<b>"), "200\ncontent-type: text/html; charset=utf-8\n&lt;b&gt;");
    check("through_io", with_body("endless"), "200\n\nreturned -6");
}

#[test]
fn errors_after_the_commit_cut_the_connection() {
    check("late", Exchange::get(""), "200\nhalf\nreturned -13\nfailed status: too late");
    let text = "set_status: not in this state; the response may be committed";
    check("committed", Exchange::get(""), &format!("200\n\nreturned -2\nfailed servlet/state: {text}"));
    check("failed", Exchange::get(""), "200\n\nreturned -13\nfailed io/permission-denied: permission denied");
    let text = "cookie: this server does not offer it yet";
    check("unsupported", Exchange::get(""), &format!("200\n\nreturned -10\nfailed servlet/unsupported: {text}"));
}

#[test]
fn a_panic_ends_the_exchange_and_nothing_else() {
    check("panics", Exchange::get(""), "200\nhalf\nreturned -12");
    assert_logged(&format!("panic of 8: the roof is on fire ({}", file!()));
    check("hello", Exchange::get(""), &format!("{PLAIN}Hello, World!"));
}

#[test]
fn other_threads_may_look_but_not_touch() {
    let text = "500 (servlet/thread): parameter: called on a thread that does not own the exchange";
    check("threads", Exchange::get(""), &format!("{PLAIN}test/1 {text} true"));
    check("thread_first", Exchange::get(""), &format!("{PLAIN}true"));
}

#[test]
fn headers_cookies_and_redirects() {
    check(
        "nice",
        Exchange::get(""),
        "302\nx-names: host+user-agent\nset-cookie: a=b; 5; /; SameSite=Lax (5)\nlocation: there\n",
    );
}

#[test]
fn a_servlet_that_wants_another_state_is_refused() {
    let _alone = alone();
    let refused = Module::start().unwrap().servlet("wrong_state", &[]).err().unwrap();
    let text = "takes &alloc::string::String, but the #[start] function returns servlets::Shop";
    assert_eq!(refused, format!("-13: the servlet wrong_state {text}"));
}

#[test]
fn a_start_that_fails_tells_why() {
    let _alone = alone();
    let start_in = |mood| {
        *MOOD.lock().unwrap() = mood;
        let started = Module::start().map(drop);
        *MOOD.lock().unwrap() = "";
        started
    };
    assert_eq!(start_in("fail"), Err("-13: the till is locked".to_owned()));
    assert_eq!(start_in("panic"), Err("-12: panicked: no shop".to_owned()));
    assert_logged("panic of 8: no shop");
    assert_eq!(start_in(""), Ok(()));
}

#[test]
fn a_panic_in_stop_is_reported() {
    let _alone = alone();
    let module = Module::start().unwrap();
    *MOOD.lock().unwrap() = "panic in stop";
    drop(module);
    *MOOD.lock().unwrap() = "";
    assert_logged("panic of 8: 0 sold");
}
