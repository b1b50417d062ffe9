//! Server-sent events (HTML Living Standard, "Server-sent events").

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use serval_abi::SV_E_CLOSED;

use crate::host::Current;
use crate::stream::Stream;
use crate::task::Turn;
use crate::time::{Sleep, sleep};
use crate::{Error, Result, error};

/// One server-sent event.
///
/// ```
/// use servlet::Event;
/// use std::time::Duration;
///
/// let event = Event::new().event("price").id("7").retry(Duration::from_secs(2)).data("EUR\n12");
/// assert_eq!(event.to_text().unwrap(), "event: price\nid: 7\nretry: 2000\ndata: EUR\ndata: 12\n\n");
/// // A name or an id is one line.
/// assert!(Event::new().event("two\nlines").to_text().is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event<'a> {
    event: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    retry: Option<Duration>,
    data: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// Returns an event without anything.
    pub fn new() -> Event<'a> {
        Event::default()
    }

    /// Sets its name; without one a browser calls it `message`.
    pub fn event(mut self, name: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.event = Some(name.into());
        self
    }

    /// Sets its id. A client that connects again tells the last one it has seen in the header `Last-Event-ID`.
    pub fn id(mut self, id: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.id = Some(id.into());
        self
    }

    /// Sets how long the client waits before it connects again.
    pub fn retry(mut self, after: Duration) -> Event<'a> {
        self.retry = Some(after);
        self
    }

    /// Sets its text, of any number of lines. Without one a browser does not report the event.
    pub fn data(mut self, data: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.data = Some(data.into());
        self
    }

    /// Returns it as it is sent; an error when the name or the id has more than one line, or the id a NUL.
    pub fn to_text(&self) -> Result<String> {
        let mut text = String::new();
        for (field, value) in [("event", &self.event), ("id", &self.id)] {
            let Some(value) = value else { continue };
            if value.contains(['\n', '\r', '\0']) {
                return Err(error(500, format!("the {field} of a server-sent event is one line, not {value:?}")));
            }
            text.extend([field, ": ", value, "\n"]);
        }
        if let Some(retry) = self.retry {
            text.extend(["retry: ", &retry.as_millis().to_string(), "\n"]);
        }
        if let Some(data) = &self.data {
            lines(&mut text, "data: ", data);
        }
        text.push('\n');
        Ok(text)
    }
}

/// A line ends with `\r\n`, `\n` or `\r`.
fn lines(text: &mut String, before: &str, content: &str) {
    let content = content.replace("\r\n", "\n");
    for line in content.split(['\n', '\r']) {
        text.extend([before, line, "\n"]);
    }
}

/// How often a silent stream shows that it lives, unless it is told otherwise. Proxies cut silent connections after 30 s or 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A response of server-sent events: [`Response::events`](crate::Response::events). Each is sent at once.
///
/// ```
/// use servlet::prelude::*;
/// use servlet::time::sleep;
/// use std::time::Duration;
///
/// #[servlet("/ticks")]
/// async fn ticks(request: &Request, response: &mut Response) -> Result {
///     let mut tick: u64 = request.header("last-event-id").and_then(|id| id.parse().ok()).unwrap_or(0);
///     let mut events = response.events().await?;
///     while events.next(sleep(Duration::from_secs(1))).await?.is_some() {
///         tick += 1;
///         events.send(&Event::new().id(tick.to_string()).data("tick")).await?;
///     }
///     events.finish().await
/// }
/// ```
pub struct EventStream<'a> {
    stream: Stream<'a>,
    heartbeat: Duration,
    /// One timer for the whole stream, however many events are sent.
    beat: Sleep,
    sent: Instant,
}

impl<'a> EventStream<'a> {
    pub(crate) fn new(stream: Stream<'a>) -> EventStream<'a> {
        EventStream { stream, heartbeat: HEARTBEAT, beat: sleep(HEARTBEAT), sent: Instant::now() }
    }

    /// Sets how long a stream that waits in [`next`](EventStream::next) is silent before it sends an empty comment, which
    /// keeps proxies from cutting it, and shows that the client has gone. 15 s unless set.
    pub fn heartbeat(&mut self, every: Duration) -> &mut Self {
        // LIMIT: more often would be work without use.
        self.heartbeat = every.max(Duration::from_millis(10));
        self.beat = sleep(self.heartbeat);
        self
    }

    /// Sends an event; an error when the client has gone.
    pub async fn send(&mut self, event: &Event<'_>) -> Result {
        let text = event.to_text()?;
        self.write(text).await
    }

    /// Sends a comment, which clients do not report.
    pub async fn comment(&mut self, comment: &str) -> Result {
        let mut text = String::new();
        lines(&mut text, ": ", comment);
        text.push('\n');
        self.write(text).await
    }

    async fn write(&mut self, text: String) -> Result {
        self.stream.write(text).await?;
        self.stream.flush().await?;
        self.sent = Instant::now();
        Ok(())
    }

    /// Waits for `message`, such as `receiver.recv()`. `None`: the stream has to end, because a newer generation of the webapp
    /// has taken over; the client connects again by itself. An error: the client has gone.
    ///
    /// While it waits it sends heartbeats. See [`Response::events`](crate::Response::events) for a whole servlet.
    pub async fn next<F: Future>(&mut self, message: F) -> Result<Option<F::Output>> {
        enum Seen<T> {
            Message(T),
            Retiring,
            Gone,
            Beat,
        }
        let mut message = pin!(message);
        let exchange = self.stream.exchange();
        loop {
            let seen = poll_fn(|context| {
                // Before the message, which then is not taken.
                if exchange.retiring() {
                    return Poll::Ready(Seen::Retiring);
                }
                if exchange.cancelled() {
                    return Poll::Ready(Seen::Gone);
                }
                if let Poll::Ready(message) = message.as_mut().poll(context) {
                    return Poll::Ready(Seen::Message(message));
                }
                // The server polls the task when one of the first two happens.
                Current::with_turn(|turn| turn.map(|turn| Turn::wake_with_next(turn, context.waker())));
                Pin::new(&mut self.beat).poll(context).map(|()| Seen::Beat)
            })
            .await;
            match seen {
                Seen::Message(message) => return Ok(Some(message)),
                Seen::Retiring => return Ok(None),
                Seen::Gone => return Err(Error::of_host(SV_E_CLOSED, "events", "")),
                Seen::Beat => {
                    let silent = self.sent.elapsed();
                    if silent >= self.heartbeat {
                        self.comment("").await?;
                        self.beat = sleep(self.heartbeat);
                    } else {
                        self.beat = sleep(self.heartbeat - silent);
                    }
                }
            }
        }
    }

    /// Waits until the stream has to end; an error: the client has gone.
    pub async fn closed(&mut self) -> Result {
        self.next(pending::<()>()).await.map(drop)
    }

    /// Ends the stream.
    pub async fn finish(self) -> Result {
        self.stream.finish().await
    }
}

impl fmt::Debug for EventStream<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EventStream")
    }
}
