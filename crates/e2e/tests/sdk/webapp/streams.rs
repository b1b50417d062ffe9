//! What flows: bodies in and out, events, time, and what tokio has.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use servlet::prelude::*;
use servlet::time::{sleep, timeout};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Kitchen;

/// Counts a task for as long as it lives, whatever ends it.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(kitchen: &Kitchen) -> Live {
        kitchen.live.fetch_add(1, Ordering::SeqCst);
        Live(kitchen.live.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[servlet("/live")]
fn live(kitchen: &Kitchen, _: &Request, response: &mut Response) -> Result {
    response.text(format!("{} {}", kitchen.live.load(Ordering::SeqCst), kitchen.news.receivers()))
}

#[servlet("/events")]
async fn events(kitchen: &Kitchen, _: &Request, response: &mut Response) -> Result {
    let _live = Live::new(kitchen);
    let mut news = kitchen.news.subscribe();
    let mut events = response.events().await?;
    let mut number = 0;
    while let Some(message) = events.next(news.recv()).await? {
        number += 1;
        let event = match message {
            Ok(text) => Event::new().id(number.to_string()).data(text),
            Err(RecvError::Lagged(lost)) => Event::new().event("lost").data(lost.to_string()),
            Err(RecvError::Closed) => break,
        };
        events.send(&event).await?;
    }
    events.send(&Event::new().event("end").data("good bye")).await?;
    events.finish().await
}

#[servlet("/say", methods = [POST])]
fn say(kitchen: &Kitchen, _: &Request, body: &mut Body, response: &mut Response) -> Result {
    let text = body.text(1000)?.to_owned();
    response.text(format!("{}", kitchen.news.send(text)))
}

#[servlet("/echo-async", methods = [POST])]
async fn echo_async(kitchen: &Kitchen, _: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    let _live = Live::new(kitchen);
    let mut stream = response.stream().await?;
    while let Some(chunk) = body.chunk().await? {
        stream.write(chunk).await?;
    }
    stream.finish().await
}

/// Writes more than a connection takes at once, and lets another servlet go on.
#[servlet("/hands-over")]
async fn hands_over(request: &Request, response: &mut Response) -> Result {
    response.stream().await?.write_owned(vec![b'x'; 32 << 20]).await?;
    response.write(" and more")?;
    request.async_dispatch(Some("/goes-on")).await
}

#[servlet("/goes-on")]
fn goes_on(_: &Request, response: &mut Response) -> Result {
    response.write(" to the end")
}

#[servlet("/echo", methods = [POST])]
fn echo(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let mut buffer = [0; 8192];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(response.flush()?),
            len => response.write_all(&buffer[..len])?,
        }
    }
}

#[servlet("/sleeps")]
async fn sleeps(request: &Request, response: &mut Response) -> Result {
    let mut stream = response.stream().await?;
    for tick in 0..5 {
        stream.write(format!("{tick} ")).await?;
        stream.flush().await?;
        sleep(Duration::from_millis(20)).await;
    }
    // Far apart: on a busy machine this may be polled when both are over, and then the sleep goes first.
    let (limit, time) = if request.query() == Some("long") { (60_000, 100) } else { (10, 60_000) };
    let timed = timeout(Duration::from_millis(limit), sleep(Duration::from_millis(time))).await;
    stream.write(format!("{timed:?}")).await?;
    stream.finish().await
}

/// Asks another servlet of this server through a socket of tokio's.
#[servlet("/asks")]
async fn asks(request: &Request, response: &mut Response) -> Result {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut stream = tokio::net::TcpStream::connect((request.local_addr(), request.local_port())).await?;
    stream.write_all(b"GET /app/waits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    response.text(answer.rsplit("\r\n").next().unwrap_or_default().to_owned())
}
