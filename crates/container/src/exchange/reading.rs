//! The request side of an exchange: its body, and what is read from it.
//!
//! A function that has to wait does so on the calling thread, or in a poll answers "would block" and goes on where it was when it is
//! called again.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, StatusCode};
use http_body::Body as _;
use serval_abi::{SV_E_BUSY, SV_E_CLOSED, SV_E_IO, SV_E_LIMIT, SV_E_REQUEST, SV_E_STATE, SV_E_TIMEOUT, SV_WOULD_BLOCK};
use serval_loader::exchange::{Answer, Fault, Part};

use super::{Exchange, NO_THREAD, Parts};
use crate::execution::wait;
use crate::multipart::{self, Bad};
use crate::parameters::{self, BadParameters, Charset};
use crate::unread;

impl Exchange {
    /// The next piece of the body, never empty.
    pub(super) fn next_chunk(&mut self) -> Answer<Option<Bytes>> {
        if let Some(fault) = &self.asynchronous.over {
            return Err(fault.clone());
        }
        if !self.unread.is_empty() {
            return Ok(Some(std::mem::take(&mut self.unread)));
        }
        loop {
            if self.request.body.is_none() {
                return match &self.hindered {
                    Some((_, fault)) => Err(fault.clone()),
                    None => Ok(None),
                };
            }
            let frame = match self.next_frame()? {
                Some(frame) => frame,
                None => {
                    self.request.body = None;
                    return Ok(None);
                }
            };
            let data = match frame.into_data() {
                Ok(data) if data.is_empty() => continue,
                Ok(data) => data,
                Err(frame) => {
                    self.keep_trailers(frame.into_trailers().unwrap_or_default())?;
                    continue;
                }
            };
            self.body_read += data.len() as u64;
            if self.body_read > self.generation.settings.request_body_bytes_max {
                let text = "the body is longer than request_body_bytes_max";
                return Err(self.body_failed(StatusCode::PAYLOAD_TOO_LARGE, SV_E_LIMIT, text));
            }
            return Ok(Some(data));
        }
    }

    /// Of the trailers those that the listener lets through, for a proxy in front may not have looked at them.
    fn keep_trailers(&mut self, trailers: HeaderMap) -> Answer {
        let listener = &self.request.peer.listener;
        let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > listener.trailer_bytes_max {
            let text = "the trailers are longer than trailer_bytes_max";
            return Err(self.body_failed(StatusCode::BAD_REQUEST, SV_E_LIMIT, text));
        }
        let allowed = |name: &HeaderName| listener.trailers.iter().any(|known| known == name.as_str());
        let mut kept = HeaderMap::new();
        for (name, value) in trailers.iter().filter(|(name, _)| allowed(name)) {
            kept.append(name, value.clone());
        }
        self.trailers = Some(kept);
        Ok(())
    }

    fn next_frame(&mut self) -> Answer<Option<http_body::Frame<Bytes>>> {
        const SLOW: &str = "the client has not sent its body for body_timeout";
        let limit = self.request.peer.listener.body_timeout;
        let Some(body) = self.request.body.as_mut() else { return Ok(None) };
        self.pace.waits();
        let frame = if let Some(waker) = &self.polled {
            let mut task = Task::from_waker(waker);
            match Pin::new(&mut *body).poll_frame(&mut task) {
                Poll::Ready(frame) => {
                    self.body_wait = None;
                    Ok(frame)
                }
                Poll::Pending => {
                    let wait = self.body_wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                    if wait.as_mut().poll(&mut task).is_pending() {
                        return Err(Fault::would_block());
                    }
                    Err((StatusCode::REQUEST_TIMEOUT, SV_E_TIMEOUT, SLOW))
                }
            }
        } else {
            let pool = self.generation.pool.clone();
            // As `inside`, which would borrow the body, too.
            let _inside = self.asynchronous.completion.as_ref().map(|_| pool.runtime().enter());
            let next = poll_fn(|task| Pin::new(&mut *body).poll_frame(task));
            match wait(&pool, tokio::time::timeout(limit, next)) {
                Ok(Ok(frame)) => Ok(frame),
                Ok(Err(_)) => Err((StatusCode::REQUEST_TIMEOUT, SV_E_TIMEOUT, SLOW)),
                Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, SV_E_BUSY, NO_THREAD)),
            }
        };
        match frame {
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => {
                self.pace.comes(frame.data_ref().map_or(0, Bytes::len));
                if self.pace.is_slow(&self.request.peer.listener) {
                    const TRICKLES: &str = "the client sends its body slower than body_rate_min";
                    return Err(self.body_failed(StatusCode::REQUEST_TIMEOUT, SV_E_TIMEOUT, TRICKLES));
                }
                Ok(Some(frame))
            }
            Ok(Some(Err(_))) => {
                Err(self.body_failed(StatusCode::BAD_REQUEST, SV_E_CLOSED, "the body was cut or is broken"))
            }
            Err((status, code, text)) => Err(self.body_failed(status, code, text)),
        }
    }

    pub(super) fn body_failed(&mut self, status: StatusCode, code: i32, text: impl Into<Cow<'static, str>>) -> Fault {
        if let Some(body) = self.request.body.take() {
            self.body_is_lost = true;
            let pool = self.generation.pool.clone();
            let _inside = self.inside(&pool);
            // The client is there, and may look for the answer only when it has sent all.
            if !matches!(code, SV_E_CLOSED | SV_E_TIMEOUT) {
                unread::take(body, &self.request.headers, &self.request.peer.listener);
            }
        }
        self.hindered(status, Fault::new(code, text))
    }

    pub(super) fn read_parameters(&mut self) -> Answer<()> {
        if self.parameters.is_some() {
            return Ok(());
        }
        match self.find_parameters() {
            Err(fault) if fault.status == SV_WOULD_BLOCK => Err(fault),
            found => {
                self.parameters = Some(found);
                Ok(())
            }
        }
    }

    fn find_parameters(&mut self) -> Answer<Vec<(String, String)>> {
        let count_max = self.generation.settings.parameter_count_max;
        let form = self.read_form()?;
        let mut all = self.first_parameters.clone();
        let query = self.request.target.client_query().as_bytes();
        let parsed = parameters::parse(query, Charset::Utf8, count_max, &mut all)
            .and_then(|()| parameters::parse(&form, self.form_charset(), count_max, &mut all));
        match parsed {
            Ok(()) => {}
            Err(BadParameters::Malformed(text)) => {
                return Err(self.hindered(StatusCode::BAD_REQUEST, Fault::new(SV_E_REQUEST, text)));
            }
            Err(BadParameters::TooMany) => return Err(self.too_many_parameters()),
        }
        if self.is_multipart_here() && self.multipart_boundary().is_some() {
            let bytes_max = self.generation.settings.form_bytes_max;
            let parts = self.read_parts()?.unwrap_or_default();
            if all.len() + parts.len() > count_max {
                return Err(self.too_many_parameters());
            }
            // A part with a file name is no parameter (SEMANTICS 15), the others are a form in memory.
            let fields = parts.iter().filter(|part| part.file_name.is_none());
            let fields: Answer<Vec<_>> = match fields.clone().map(|part| part.size).sum::<u64>() > bytes_max {
                true => Err(Fault::new(SV_E_LIMIT, "the fields of the form are longer than form_bytes_max")),
                false => fields.map(|part| Ok((part.name.clone(), text_of(part)?))).collect(),
            };
            all.extend(fields.map_err(|fault| match fault.status {
                SV_E_REQUEST => self.hindered(StatusCode::BAD_REQUEST, fault),
                SV_E_LIMIT => self.hindered(StatusCode::PAYLOAD_TOO_LARGE, fault),
                _ => fault,
            })?);
        }
        Ok(all)
    }

    fn too_many_parameters(&mut self) -> Fault {
        let fault = Fault::new(SV_E_LIMIT, "more parameters than parameter_count_max");
        self.hindered(StatusCode::BAD_REQUEST, fault)
    }

    fn content_type(&self) -> Option<&str> {
        self.request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
    }

    /// The form body, when this request has one that parameters are read from (SEMANTICS 15).
    fn read_form(&mut self) -> Answer<Vec<u8>> {
        let is_form = self.content_type().is_some_and(|value| {
            value.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        let untouched = self.body_read == 0 || self.form.is_some();
        let by_method =
            self.generation.settings.form_methods.iter().any(|method| method == self.request.method.as_str());
        if !by_method || !is_form || !untouched {
            return Ok(Vec::new());
        }
        let bytes_max = self.generation.settings.form_bytes_max;
        self.form.get_or_insert_default();
        while let Some(chunk) = self.next_chunk()? {
            let form = self.form.get_or_insert_default();
            if (form.len() + chunk.len()) as u64 > bytes_max {
                let text = "the form is longer than form_bytes_max";
                return Err(self.body_failed(StatusCode::PAYLOAD_TOO_LARGE, SV_E_LIMIT, text));
            }
            form.extend_from_slice(&chunk);
        }
        Ok(self.form.take().unwrap_or_default())
    }

    fn form_charset(&self) -> Charset {
        let parameters = self.content_type().and_then(|value| value.split_once(';')).unwrap_or_default().1;
        multipart::parameter(parameters, "charset").map_or(Charset::Utf8, |name| Charset::named(&name))
    }

    fn is_multipart_here(&self) -> bool {
        self.serving.servlet().is_some_and(|servlet| self.generation.is_multipart(servlet))
    }

    fn multipart_boundary(&self) -> Option<Result<String, Bad>> {
        self.content_type().and_then(multipart::boundary)
    }

    /// The parts of a multipart body, which is read whole by the first call; `None`: the body is of another type.
    pub(super) fn read_parts(&mut self) -> Answer<Option<&[Part]>> {
        if !self.is_multipart_here() {
            if self.parameters.is_some() {
                // As Tomcat has it: who asks for them after the parameters finds none.
                return Ok(Some(&[]));
            }
            let text = "this servlet does not take multipart bodies: declare it with SV_MULTIPART, or set multipart = true in web.toml";
            return Err(Fault::new(SV_E_STATE, text));
        }
        if let Parts::Unread = self.parts {
            let Some(boundary) = self.multipart_boundary() else { return Ok(None) };
            let limits = self.generation.web.multipart_settings(&self.generation.settings);
            self.parts = match boundary {
                _ if self.body_read > 0 => {
                    return Err(Fault::new(SV_E_STATE, "the body has been read otherwise already"));
                }
                Ok(boundary) => Parts::Reading(Box::new(multipart::Reader::new(
                    &boundary,
                    limits,
                    self.generation.temp.as_deref().unwrap_or(std::path::Path::new("")),
                ))),
                Err(bad) => Parts::Read(Err(self.bad_parts(bad))),
            };
        }
        if let Parts::Reading(_) = self.parts {
            let read = match self.read_rest_of_parts() {
                Err(fault) if fault.status == SV_WOULD_BLOCK => return Err(fault),
                read => read,
            };
            self.parts = Parts::Read(read);
        }
        match &self.parts {
            Parts::Read(Ok(parts)) => Ok(Some(&parts.0)),
            Parts::Read(Err(fault)) => Err(fault.clone()),
            _ => Ok(None),
        }
    }

    fn read_rest_of_parts(&mut self) -> Answer<multipart::Parts> {
        while let Some(chunk) = self.next_chunk()? {
            let Parts::Reading(reader) = &mut self.parts else { break };
            if let Err(bad) = reader.feed(&chunk) {
                return Err(self.bad_parts(bad));
            }
        }
        match std::mem::replace(&mut self.parts, Parts::Unread) {
            Parts::Reading(reader) => {
                let parts = reader.finish().map_err(|bad| self.bad_parts(bad))?;
                match parts.0.len() > self.generation.settings.parameter_count_max {
                    true => Err(self.too_many_parameters()),
                    false => Ok(parts),
                }
            }
            _ => Ok(multipart::Parts::default()),
        }
    }

    fn bad_parts(&mut self, Bad(status, text): Bad) -> Fault {
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => SV_E_LIMIT,
            StatusCode::BAD_REQUEST => SV_E_REQUEST,
            _ => SV_E_IO,
        };
        self.body_failed(status, code, text)
    }
}

/// The value of a part that is a parameter.
fn text_of(part: &Part) -> Answer<String> {
    use serval_loader::exchange::PartContent;
    let bytes = match &part.content {
        PartContent::Data(data) => data.to_vec(),
        PartContent::File(path) => std::fs::read(path)
            .map_err(|error| Fault::new(SV_E_IO, format!("a part that was written to a file is gone: {error}")))?,
    };
    String::from_utf8(bytes).map_err(|_| Fault::new(SV_E_REQUEST, format!("the part {:?} is not UTF-8", part.name)))
}
