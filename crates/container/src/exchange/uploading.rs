//! PUT and DELETE of the static servlet: the client's body becomes a file (SEMANTICS 14).
//!
//! Called where the exchange would answer by a file. A client may take as long as it likes to send one, so no thread is kept between
//! its pieces.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::{Method, StatusCode};
use serval_abi::{SV_E_BUSY, SV_WOULD_BLOCK};
use serval_loader::exchange::{Answer, Fault};
use serval_static_files::Refused;

use super::{Exchange, NO_THREAD};
use crate::execution::{Pool, wait};
use crate::{answer, files};

/// Why no file was changed.
pub enum Stopped {
    ByFile(Refused),
    /// The body did not come.
    ByBody(Fault),
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Stopped {
        Stopped::ByFile(refused)
    }
}

impl Exchange {
    /// Whether a file is still to be received before it is answered.
    pub(super) fn change_file(&mut self) -> bool {
        if self.request.method != Method::DELETE {
            return true;
        }
        let folder = self.generation.folder.clone();
        let changed = folder.delete(self.request.target.path(), &self.request.headers);
        self.answer_change(changed.map_err(Stopped::from));
        false
    }

    /// The answer of a change; calls the filters.
    pub fn answer_change(&mut self, changed: Result<StatusCode, Stopped>) {
        match changed {
            Ok(status) => self.answer(answer::empty(status)),
            Err(Stopped::ByFile(refused)) => {
                self.raise(files::unchanged(&self.request, &self.context, &self.generation, &refused))
            }
            Err(Stopped::ByBody(fault)) => self.failed(fault.status, &fault.text),
        }
    }

    /// Receives the client's file inside of a call, which keeps its thread.
    pub(super) fn receive_file_here(&mut self) {
        let pool = self.generation.pool.clone();
        let _inside = self.inside(&pool);
        let received =
            wait(&pool, self.receive_file(None)).unwrap_or(Err(Stopped::ByBody(Fault::new(SV_E_BUSY, NO_THREAD))));
        self.answer_change(received);
    }

    /// Receives the client's file. What blocks counts as a thread of the pool's; without one, this is called on such a thread.
    pub async fn receive_file(&mut self, pool: Option<&Pool>) -> Result<StatusCode, Stopped> {
        let len_max = self.generation.settings.request_body_bytes_max;
        if self.content_length.is_some_and(|len| len > len_max) {
            return Err(Refused::With(StatusCode::PAYLOAD_TOO_LARGE).into());
        }
        let (folder, headers) = (self.generation.folder.clone(), self.request.headers.clone());
        let path = self.request.target.path().to_owned();
        let mut upload = blocking(pool, || folder.upload(&path, &headers, len_max)).await?;
        while let Some(bytes) = self.next_piece().await.map_err(Stopped::ByBody)? {
            blocking(pool, || upload.write(&bytes)).await?;
        }
        Ok(blocking(pool, || upload.finish(&headers)).await?)
    }

    async fn next_piece(&mut self) -> Answer<Option<Bytes>> {
        poll_fn(|task| {
            let polled = self.polled.replace(task.waker().clone());
            let piece = self.next_chunk();
            self.polled = polled;
            match piece {
                Err(fault) if fault.status == SV_WOULD_BLOCK => Poll::Pending,
                piece => Poll::Ready(piece),
            }
        })
        .await
    }
}

async fn blocking<T>(pool: Option<&Pool>, work: impl FnOnce() -> T) -> T {
    let Some(pool) = pool else { return work() };
    let _permit = pool.enter_patiently().await;
    tokio::task::block_in_place(work)
}
