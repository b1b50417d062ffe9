//! With the feature `tokio`: what is made for tokio works in async servlets, jobs and spawned futures, and its threads end.

#![cfg(feature = "tokio")]

mod mock;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mock::{Exchange, Module};
use servlet::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

servlet::module!(tokio_workers = 2);

struct Shop {
    address: std::net::SocketAddr,
    ticks: AtomicUsize,
    spawned: tokio::task::JoinHandle<()>,
}

static DROPPED: AtomicBool = AtomicBool::new(false);

#[start]
fn start(context: &Context) -> Result<Shop> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    // Without a runtime around it, this would panic.
    let listener = TcpListener::from_std(listener)?;
    context.spawn(async move {
        struct Held;
        impl Drop for Held {
            fn drop(&mut self) {
                DROPPED.store(true, Ordering::SeqCst);
            }
        }
        let _held = Held;
        // It never looks whether it has to stop.
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asked = [0; 4];
            client.read_exact(&mut asked).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            client.write_all(&asked.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
        }
    })?;
    let spawned = tokio::spawn(std::future::pending());
    Ok(Shop { address, ticks: AtomicUsize::new(0), spawned })
}

#[stop]
fn stop(shop: Shop) {
    assert!(!shop.spawned.is_finished());
    assert!(DROPPED.load(Ordering::SeqCst));
    tokio::runtime::Handle::current();
}

#[job(every = "1ms")]
async fn tick(shop: &Shop) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    shop.ticks.fetch_add(1, Ordering::SeqCst);
}

#[servlet("/asks")]
async fn asks(shop: &Shop, _: &Request, response: &mut Response) -> Result {
    let mut stream = TcpStream::connect(shop.address).await?;
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    while shop.ticks.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    response.text(String::from_utf8_lossy(&answer))
}

#[servlet("/select")]
async fn select(_: &Request, response: &mut Response) -> Result {
    let (sender, receiver) = oneshot::channel();
    let work = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        sender.send("sent").unwrap();
    });
    let seen = tokio::select! {
        seen = receiver => seen?,
        () = servlet::time::sleep(Duration::from_secs(3600)) => "slept",
    };
    work.await?;
    response.text(seen)
}

/// The threads of the process are counted.
static ALONE: Mutex<()> = Mutex::new(());

#[track_caller]
fn check(servlet: &str, expected: &str) {
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    DROPPED.store(false, Ordering::SeqCst);
    let module = Module::start().unwrap();
    let mut exchange = Exchange::get("");
    let seen = module.servlet(servlet, &[]).unwrap().call(&mut exchange);
    assert_eq!(seen, format!("200\ncontent-type: text/plain; charset=utf-8\n{expected}"));
    drop(module);
    // They are joined; the system may show them a little longer.
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads() > 0 {
        assert!(Instant::now() < deadline, "threads of the runtime are left");
        std::thread::yield_now();
    }
    drop(alone);
}

/// How many threads of runtimes there are.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("servlet-tokio")).count()
}

#[test]
fn sockets_and_timers_of_tokio_work() {
    check("asks", "PING");
}

#[test]
fn channels_and_select_work() {
    check("select", "sent");
}
