//! A generation that ends leaves no memory behind: a library is loaded and unloaded as often as it is saved.

mod mock;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::Duration;

use mock::{Exchange, Module};
use serval_abi::{SV_NEXT, SV_OK, SV_PENDING};
use servlet::prelude::*;
use servlet::time::sleep;

servlet::module!();

struct Counting;

/// Bytes that are allocated.
static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

// SAFETY: it hands everything to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Shop {
    news: Broadcast<String>,
    ticked: Arc<AtomicBool>,
}

#[start]
fn start(context: &Context) -> Result<Shop> {
    let stopping = context.stopping();
    context.spawn(async move { stopping.stopped().await })?;
    context.spawn_thread("waits", |stopping| while !stopping.wait(Duration::from_secs(3600)) {})?;
    Ok(Shop { news: Broadcast::new(8), ticked: Arc::default() })
}

#[job(every = "1ms")]
async fn tick(shop: &Shop) {
    shop.news.send("tick".to_owned());
    shop.ticked.store(true, Ordering::SeqCst);
    sleep(Duration::from_micros(10)).await;
}

#[servlet("/listen")]
async fn listen(shop: &Shop, request: &Request, response: &mut Response) -> Result {
    let mut news = shop.news.subscribe();
    let seen = news.recv().await?;
    if request.path_info() == Some("/long") {
        std::future::pending::<()>().await;
    }
    response.text(seen)
}

#[derive(Default)]
struct Pass;

#[filter("/*")]
impl Filter for Pass {
    type State = String;

    fn request(&self, request: &Request, _: &mut Response) -> Result<Flow<String>> {
        Ok(Flow::Next(request.uri().to_owned()))
    }
}

fn generation() {
    let module = Module::start().unwrap();
    let servlet = module.servlet("listen", &[]).unwrap();
    let seen = servlet.call(&mut Exchange::get(""));
    assert_eq!(seen, "200\ncontent-type: text/plain; charset=utf-8\ntick");
    let mut exchange = Exchange::get("/long");
    let mut task = servlet.begin(&mut exchange);
    Arc::clone(&exchange.bell).wait();
    assert_eq!(task.poll(&mut exchange), SV_PENDING);
    drop(task);
    let filter = module.filter("Pass", &[]).unwrap();
    let mut exchange = Exchange::get("");
    let (status, state) = filter.request(&mut exchange);
    assert_eq!(status, SV_NEXT);
    filter.end(&mut exchange, state, SV_OK);
}

#[test]
fn a_generation_leaves_nothing_behind() {
    // What is made once for the process.
    for _ in 0..3 {
        generation();
    }
    let before = ALLOCATED.load(Ordering::SeqCst);
    for _ in 0..20 {
        generation();
    }
    assert_eq!(ALLOCATED.load(Ordering::SeqCst) - before, 0, "bytes are left of 20 generations");
}
