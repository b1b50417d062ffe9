//! PUT and DELETE of the static servlet: the client's body becomes a file (SEMANTICS 14).
//!
//! Called where the exchange would answer by a file, on a thread that may block.

use http::{Method, StatusCode};
use serval_loader::exchange::Fault;
use serval_static_files::{Folder, Refused};

use super::Exchange;
use crate::{answer, files};

/// Why no file was changed.
enum Stopped {
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
    pub(super) fn change_file(&mut self) {
        let folder = self.context.folder.load_full();
        let path = self.request.target.path().to_owned();
        let changed = match self.request.method {
            Method::DELETE => folder.delete(&path, &self.request.headers).map_err(Stopped::from),
            _ => self.put(&folder, &path),
        };
        match changed {
            Ok(status) => self.answer(answer::empty(status)),
            Err(Stopped::ByFile(refused)) => self.raise(files::unchanged(&self.request, &self.context, &refused)),
            Err(Stopped::ByBody(fault)) => self.failed(fault.status, &fault.text),
        }
    }

    fn put(&mut self, folder: &Folder, path: &str) -> Result<StatusCode, Stopped> {
        let len_max = self.context.settings.request_body_bytes_max;
        if self.content_length.is_some_and(|len| len > len_max) {
            return Err(Refused::With(StatusCode::PAYLOAD_TOO_LARGE).into());
        }
        let headers = self.request.headers.clone();
        let mut upload = folder.upload(path, &headers, len_max)?;
        while let Some(bytes) = self.next_chunk().map_err(Stopped::ByBody)? {
            upload.write(&bytes)?;
        }
        Ok(upload.finish(&headers)?)
    }
}
