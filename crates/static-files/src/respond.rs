//! A file and a request's headers to a response, in the order of RFC 9110 13.2.2.
//!
//! Called by the container once the path is found and the method is known to be one that reads.

use std::io;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::byteranges::ByteRanges;
use crate::cache_control::set_cache_control;
use crate::conditions::{self, IfRange, Validators};
use crate::file::File;
use crate::folder::Folder;
use crate::range::{self, Part, Wanted};
use crate::strong::Patience;
use crate::variants::Representation;

/// How often a small file is read that is written to at the same time, before giving up.
const READS_MAX: u32 = 4;
const TOO_FAST: &str = "the file changes faster than it can be read";

/// Why a response is a 500; among its extensions.
#[derive(Debug, Clone)]
pub struct ReadFailure(pub Arc<io::Error>);

/// Returns the response for a file that was looked up by this path in this folder; for GET, HEAD, and POST that is answered as
/// GET.
///
/// The status is one of:
///
/// | status | when | source |
/// | --- | --- | --- |
/// | 200 | the whole file | RFC 9110 15.3.1 |
/// | 206 | GET of one range, or several as `multipart/byteranges` | 14.2, 14.6 |
/// | 304 | GET or HEAD of what the client has: `ETag`, no `Content-Type` | 15.4.5 |
/// | 400 | a list of tags or an If-Range that is malformed | as Tomcat |
/// | 412 | If-Match or If-Unmodified-Since fails; If-None-Match does to POST | 13.1 |
/// | 416 | no range is within the file, Range is malformed, or asks for too much; `Content-Range: bytes */N` | 15.5.17, as Tomcat |
/// | 500 | a file that could not be read; see [`ReadFailure`] | |
///
/// Those from 400 up have an empty body, for the caller to fill. 200 and 206 have a `Content-Length`, in
/// answer to HEAD too.
///
/// What is sent may be a coded file beside it ([`Options::precompressed`](crate::Options)): with its own length and ranges, and, if
/// tags are strong, its own tag (RFC 9110 8.8.3.3); type, time and weak tag are the file's, as in Tomcat. Several ranges of a
/// coded file are answered with all of it: `Content-Encoding` would be read as the coding of the multipart text.
///
/// A file of at most 16 KiB is read here, the rest while the body is sent. A strong tag that is not known yet is made here, for
/// which a file of any length is read: see [`respond_at_once`] for threads that must not wait.
pub fn respond(folder: &Folder, path: &str, file: File, method: &Method, headers: &HeaderMap) -> Response<Body> {
    let response = respond_patiently(folder, path, file, method, headers, Patience::Long);
    response.unwrap_or_else(|| failed(io::Error::other("a strong tag was not made")))
}

/// As [`respond`], but `None` when a large file would have to be read first, for its strong tag.
pub fn respond_at_once(
    folder: &Folder,
    path: &str,
    file: File,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    respond_patiently(folder, path, file, method, headers, Patience::None)
}

/// Returns all of a file without a word about it, for an include or an error page, where the request's headers say nothing of it.
///
/// # Errors
///
/// The system's error of a read, and `Other` when the file changes faster than it can be read.
pub fn content(mut file: File) -> io::Result<Body> {
    for _ in 0..READS_MAX {
        let len = file.len();
        if len > Body::READ_AT_ONCE_MAX {
            return Ok(Body::in_pieces(file, 0, len));
        }
        if let Some(body) = Body::at_once(&file, 0, len)? {
            return Ok(body);
        }
        file.refresh()?;
    }
    Err(io::Error::other(TOO_FAST))
}

/// Returns the status for a path where nothing is: 404; 412 when an If-Match asks for something; 400 when
/// a list of tags is malformed.
pub fn status_when_missing(headers: &HeaderMap) -> StatusCode {
    conditions::evaluate_missing(headers).unwrap_or(StatusCode::NOT_FOUND)
}

fn respond_patiently(
    folder: &Folder,
    path: &str,
    mut file: File,
    method: &Method,
    headers: &HeaderMap,
    patience: Patience,
) -> Option<Response<Body>> {
    let cache_control = folder.cache_rules().find(path, &file);
    for _ in 0..READS_MAX {
        let representation = Representation::choose(folder, path, file, headers);
        let validators = match folder.validators(&representation.file, representation.sent(), patience) {
            Ok(Some(validators)) => validators,
            Ok(None) => return None,
            Err(error) => return Some(failed(error)),
        };
        match respond_once(representation, &validators, method, headers) {
            Ok(mut response) => {
                if let Some(value) = cache_control {
                    set_cache_control(&mut response, value);
                }
                return Some(response);
            }
            Err(Unread::Changed(unread)) => file = unread,
            Err(Unread::Failed(error)) => return Some(failed(error)),
        }
        // What was decided about the file is decided again about the file as it is now.
        if let Err(error) = file.refresh() {
            return Some(failed(error));
        }
    }
    Some(failed(io::Error::other(TOO_FAST)))
}

/// Why a small file was not read.
enum Unread {
    Changed(File),
    Failed(io::Error),
}

fn respond_once(
    representation: Representation,
    validators: &Validators,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, Unread> {
    let (varies, wanted) = match conditions::evaluate(validators, method, headers) {
        Some(status) => (representation.varies, Err(status)),
        None => (representation.varies, wanted(&representation, validators, method, headers)),
    };
    let mut response = match wanted {
        Err(status) => with_status(status),
        Ok(Wanted::Refused) => refused(representation.sent()),
        Ok(Wanted::Whole) => whole(representation, validators, method)?,
        Ok(Wanted::Several(_)) if representation.variant.is_some() => whole(representation, validators, method)?,
        Ok(Wanted::Part(part)) => partial(representation, validators, part)?,
        Ok(Wanted::Several(parts)) => several(representation.file, validators, parts),
    };
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(ETAG, validators.etag.clone());
    }
    if varies {
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    Ok(response)
}

fn wanted(
    representation: &Representation,
    validators: &Validators,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Wanted, StatusCode> {
    if method != Method::GET || !headers.contains_key(http::header::RANGE) {
        return Ok(Wanted::Whole);
    }
    match conditions::evaluate_if_range(validators, headers) {
        IfRange::Same => Ok(range::wanted(headers, representation.sent().len())),
        IfRange::Changed => Ok(Wanted::Whole),
        IfRange::Malformed => Err(StatusCode::BAD_REQUEST),
    }
}

fn whole(representation: Representation, validators: &Validators, method: &Method) -> Result<Response<Body>, Unread> {
    let mut response = with_status(StatusCode::OK);
    let len = representation.sent().len();
    describe(&mut response, &representation, validators, len);
    if method != Method::HEAD {
        *response.body_mut() = body(representation, 0, len)?;
    }
    Ok(response)
}

fn partial(representation: Representation, validators: &Validators, part: Part) -> Result<Response<Body>, Unread> {
    let mut response = with_status(StatusCode::PARTIAL_CONTENT);
    describe(&mut response, &representation, validators, part.len());
    let content_range = format!("bytes {}-{}/{}", part.first, part.last, representation.sent().len());
    response.headers_mut().insert(CONTENT_RANGE, ascii(content_range));
    *response.body_mut() = body(representation, part.first, part.len())?;
    Ok(response)
}

fn several(file: File, validators: &Validators, parts: Vec<Part>) -> Response<Body> {
    let mut response = with_status(StatusCode::PARTIAL_CONTENT);
    let representation = Representation { file, variant: None, varies: false };
    describe(&mut response, &representation, validators, 0);
    let content_type = representation.file.content_type.clone();
    let parts = ByteRanges::new(representation.file, content_type, parts);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, ascii(parts.media_type()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(parts.remaining()));
    *response.body_mut() = Body::parts(parts);
    response
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
fn describe(response: &mut Response<Body>, representation: &Representation, validators: &Validators, len: u64) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, validators.etag.clone());
    if let Some(date) = representation.file.last_modified() {
        headers.insert(LAST_MODIFIED, ascii(date));
    }
    if let Some(content_type) = &representation.file.content_type {
        headers.insert(CONTENT_TYPE, content_type.clone());
    }
    if let Some(variant) = &representation.variant {
        headers.insert(CONTENT_ENCODING, variant.coding.clone());
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
}

fn body(representation: Representation, offset: u64, len: u64) -> Result<Body, Unread> {
    if len > Body::READ_AT_ONCE_MAX {
        return Ok(Body::in_pieces(representation.into_sent(), offset, len));
    }
    match Body::at_once(representation.sent(), offset, len) {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(Unread::Changed(representation.file)),
        Err(error) => Err(Unread::Failed(error)),
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("tags, dates and ranges are printable ASCII")
}
