//! A file and a request's headers to a response, in the order of RFC 9110 13.2.2.
//!
//! Called by the container once the path is found and the method is known to be one that reads.

use std::io;
use std::sync::Arc;

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::conditions::{self, IfRange};
use crate::file::File;
use crate::range::{self, Part, Wanted};

/// How often a small file is read that is written to at the same time, before giving up.
const READS_MAX: u32 = 4;

/// Why a response is a 500; among its extensions.
#[derive(Debug, Clone)]
pub struct ReadFailure(pub Arc<io::Error>);

/// Returns the response for a file; for GET and HEAD only.
///
/// The status is one of:
///
/// | status | when | source |
/// | --- | --- | --- |
/// | 200 | the whole file; also when several ranges are asked for | RFC 9110 15.3.1 |
/// | 206 | GET of one range | 14.2 |
/// | 304 | the client has it: `ETag`, no `Content-Type` | 15.4.5 |
/// | 400 | a list of tags or an If-Range that is malformed | as Tomcat |
/// | 412 | If-Match or If-Unmodified-Since fails | 13.1 |
/// | 416 | no range is within the file, or Range is malformed; `Content-Range: bytes */N` | 15.5.17, as Tomcat |
/// | 500 | a small file that could not be read; see [`ReadFailure`] | |
///
/// Those from 400 up have an empty body, for the caller to fill. 200 and 206 have a `Content-Length`, in
/// answer to HEAD too.
///
/// A file of at most 16 KiB is read here, the rest while the body is sent.
pub fn respond(mut file: File, method: &Method, headers: &HeaderMap) -> Response<Body> {
    for _ in 1..READS_MAX {
        match respond_once(file, method, headers) {
            Ok(response) => return response,
            Err(Unread::Changed(unread)) => file = unread,
            Err(Unread::Failed(error)) => return failed(error),
        }
        // What was decided about the file is decided again about the file as it is now.
        if let Err(error) = file.refresh() {
            return failed(error);
        }
    }
    match respond_once(file, method, headers) {
        Ok(response) => response,
        Err(Unread::Changed(_)) => failed(io::Error::other("the file changes faster than it can be read")),
        Err(Unread::Failed(error)) => failed(error),
    }
}

/// Returns the status for a path where nothing is: 404; 412 when an If-Match asks for something; 400 when
/// a list of tags is malformed.
pub fn status_when_missing(headers: &HeaderMap) -> StatusCode {
    conditions::evaluate_missing(headers)
}

/// Why a small file was not read.
enum Unread {
    Changed(File),
    Failed(io::Error),
}

fn respond_once(file: File, method: &Method, headers: &HeaderMap) -> Result<Response<Body>, Unread> {
    if let Some(status) = conditions::evaluate(&file, method, headers) {
        let mut response = with_status(status);
        if status == StatusCode::NOT_MODIFIED {
            response.headers_mut().insert(ETAG, ascii(file.etag()));
        }
        return Ok(response);
    }
    match wanted(&file, method, headers) {
        Err(IfRangeMalformed) => Ok(with_status(StatusCode::BAD_REQUEST)),
        Ok(Wanted::Refused) => Ok(refused(&file)),
        Ok(Wanted::Whole | Wanted::Several) => whole(file, method),
        Ok(Wanted::Part(part)) => partial(file, part),
    }
}

struct IfRangeMalformed;

fn wanted(file: &File, method: &Method, headers: &HeaderMap) -> Result<Wanted, IfRangeMalformed> {
    if method != Method::GET || !headers.contains_key(http::header::RANGE) {
        return Ok(Wanted::Whole);
    }
    match conditions::evaluate_if_range(file, headers) {
        IfRange::Same => Ok(range::wanted(headers, file.len())),
        IfRange::Changed => Ok(Wanted::Whole),
        IfRange::Malformed => Err(IfRangeMalformed),
    }
}

fn whole(file: File, method: &Method) -> Result<Response<Body>, Unread> {
    let mut response = with_status(StatusCode::OK);
    describe(&mut response, &file, file.len());
    if method != Method::HEAD {
        let len = file.len();
        *response.body_mut() = body(file, 0, len)?;
    }
    Ok(response)
}

fn partial(file: File, part: Part) -> Result<Response<Body>, Unread> {
    let mut response = with_status(StatusCode::PARTIAL_CONTENT);
    let len = part.last - part.first + 1;
    describe(&mut response, &file, len);
    let content_range = format!("bytes {}-{}/{}", part.first, part.last, file.len());
    response.headers_mut().insert(CONTENT_RANGE, ascii(content_range));
    *response.body_mut() = body(file, part.first, len)?;
    Ok(response)
}

fn refused(file: &File) -> Response<Body> {
    let mut response = with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    response.headers_mut().insert(CONTENT_RANGE, ascii(format!("bytes */{}", file.len())));
    response
}

fn failed(error: io::Error) -> Response<Body> {
    let mut response = with_status(StatusCode::INTERNAL_SERVER_ERROR);
    response.extensions_mut().insert(ReadFailure(Arc::new(error)));
    response
}

fn with_status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets what 200 and 206 say about the file. Costs three small allocations: tag, date, and the map.
fn describe(response: &mut Response<Body>, file: &File, len: u64) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, ascii(file.etag()));
    if let Some(date) = file.last_modified() {
        headers.insert(LAST_MODIFIED, ascii(date));
    }
    if let Some(content_type) = &file.content_type {
        headers.insert(CONTENT_TYPE, content_type.clone());
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
}

fn body(file: File, offset: u64, len: u64) -> Result<Body, Unread> {
    if len > Body::READ_AT_ONCE_MAX {
        return Ok(Body::in_pieces(file, offset, len));
    }
    match Body::at_once(&file, offset, len) {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(Unread::Changed(file)),
        Err(error) => Err(Unread::Failed(error)),
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("tags, dates and ranges are printable ASCII")
}
