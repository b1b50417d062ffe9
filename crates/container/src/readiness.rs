//! Whether the server as a whole is to be sent requests, and the path of its own at which whoever spreads them asks for it (`ready_path`).

use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use crate::answer::Answered;
use crate::body::ResponseBody;
use crate::problem::Problem;

/// What the server tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// Not all webapps have been tried yet.
    Starting,
    Ready,
    /// It was told to stop. It may still answer, for `stop_delay`, and ends what it has begun.
    Stopping,
}

impl Readiness {
    pub fn word(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Stopping => "stopping",
        }
    }

    /// What is told at `ready_path`, to GET and HEAD.
    pub(crate) fn answer(self, method: &Method) -> Answered {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Problem::not_allowed("GET, HEAD"));
        }
        let mut response = Response::new(ResponseBody::Full(Bytes::from(format!("{}\n", self.word()))));
        if self != Readiness::Ready {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// The readiness now; it goes on, and never back.
#[derive(Default)]
pub struct Now(AtomicU8);

impl Now {
    pub fn get(&self) -> Readiness {
        match self.0.load(Ordering::Relaxed) {
            0 => Readiness::Starting,
            1 => Readiness::Ready,
            _ => Readiness::Stopping,
        }
    }

    pub fn becomes(&self, readiness: Readiness) {
        self.0.fetch_max(readiness as u8, Ordering::Relaxed);
    }
}
