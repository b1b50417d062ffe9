//! Compression of answers on their way, of files and of servlets alike.
//!
//! Made with a generation, asked where the head of an answer is complete: by `sending`, and by `dispatch` for files without an exchange.
//! Off unless an operator or a webapp names codings, for two reasons: it costs CPU, and over TLS the length of a compressed page that
//! shows both a secret and what a request said can tell the secret (BREACH).
//!
//! What a client asks for is judged where coded files are chosen too (`serval_static_files::preferred`).

use std::io::{self, Write};
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame};
use serval_config::{Coding, WebCompression};
use serval_static_files::{TypePattern, preferred};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::BodyError;
use crate::body::ResponseBody;
use crate::tokens::has_token;

/// What is compressed in one go, in less than a millisecond.
const STEP_BYTES: usize = 16 << 10;
/// After so much the I/O thread's other connections have their turn.
const TURN_BYTES: usize = 32 << 10;
/// What goes out at once.
const PIECE_BYTES: usize = 64 << 10;

/// LIMIT: memory of all encoders, in units of 256 KiB: 1 GiB. Slow clients hold one each, and there may be thousands of them. For what
/// finds no room the answer goes out as it is.
static ROOM: Semaphore = Semaphore::const_new(4096);

/// What a generation compresses.
pub struct Compression {
    /// By preference.
    codings: Vec<&'static str>,
    bytes_min: u64,
    types: Vec<TypePattern>,
    room: &'static Semaphore,
}

/// What of it counts for one request.
pub struct Wanted {
    compression: Arc<Compression>,
    /// What the client takes; `None`: only what is not coded.
    coding: Option<&'static str>,
    for_head: bool,
}

impl Compression {
    /// `codings` are those of the context, for a webapp that names none. `None`: nothing is compressed.
    pub fn new(web: &WebCompression, codings: &[Coding]) -> Option<Arc<Compression>> {
        let codings = web.codings.as_deref().unwrap_or(codings);
        (!codings.is_empty()).then(|| {
            Arc::new(Compression {
                codings: codings.iter().copied().map(Coding::name).collect(),
                bytes_min: web.bytes_min,
                types: web.types.iter().map(|pattern| TypePattern::new(pattern)).collect(),
                room: &ROOM,
            })
        })
    }

    pub fn wanted(self: &Arc<Self>, method: &Method, headers: &HeaderMap) -> Wanted {
        let coding = preferred(headers, &self.codings);
        Wanted { compression: self.clone(), coding, for_head: method == Method::HEAD }
    }
}

impl Wanted {
    /// Compresses an answer whose head is complete, or leaves it as it is. `Vary` is set whenever another client's answer could be
    /// another one (RFC 9110 12.5.5). An answer to HEAD gets the head that GET would get.
    pub fn apply(&self, response: &mut Response<ResponseBody>) {
        if response.status() == StatusCode::NOT_MODIFIED {
            // What it is about is not known any more: a type that is never compressed varies here for nothing.
            vary(response.headers_mut());
            if self.coding.is_some() {
                weaken(response.headers_mut());
            }
            return;
        }
        if response.status() == StatusCode::PARTIAL_CONTENT && self.fits_in_part(response.headers()) {
            vary(response.headers_mut());
        }
        if !self.fits(response) {
            return;
        }
        vary(response.headers_mut());
        let Some(coding) = self.coding else { return };
        if !self.for_head {
            let Ok(place) = self.compression.room.try_acquire_many(Encoder::units(coding)) else { return };
            let encoder = match Encoder::new(coding) {
                Ok(encoder) => encoder,
                Err(error) => return tracing::error!("an answer is not compressed by {coding}: {error}"),
            };
            let inner = std::mem::replace(response.body_mut(), ResponseBody::empty());
            *response.body_mut() = ResponseBody::Compressed(Box::new(Compressed::new(inner, encoder, Some(place))));
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        weaken(headers);
    }

    fn fits(&self, response: &Response<ResponseBody>) -> bool {
        const NEVER: [StatusCode; 3] = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT];
        let headers = response.headers();
        self.is_of_its_types(headers)
            && !response.status().is_informational()
            && !NEVER.contains(&response.status())
            && !is_bound_to_its_bytes(headers)
            && self.len(response).is_none_or(|len| len >= self.compression.bytes_min.max(1))
    }

    /// Whether the whole might have been compressed: a part says so too (RFC 9110 15.3.7). Of several parts the type is not known.
    fn fits_in_part(&self, headers: &HeaderMap) -> bool {
        !headers.contains_key(CONTENT_ENCODING) && (self.is_of_its_types(headers) || has_several_parts(headers))
    }

    fn is_of_its_types(&self, headers: &HeaderMap) -> bool {
        let content_type = headers.get(CONTENT_TYPE);
        content_type.is_some_and(|value| self.compression.types.iter().any(|pattern| pattern.fits(value.as_bytes())))
    }

    /// What is known of the length.
    fn len(&self, response: &Response<ResponseBody>) -> Option<u64> {
        let of_body = response.body().size_hint().exact();
        match response.headers().get(CONTENT_LENGTH) {
            Some(value) => value.to_str().ok()?.parse().ok(),
            // It may have been left out.
            None => of_body.filter(|&len| len > 0 || !self.for_head),
        }
    }
}

fn has_several_parts(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"multipart/byteranges"))
}

/// Is coded or a part already, is not to be changed, or carries a digest of what a servlet has made, which would be wrong.
fn is_bound_to_its_bytes(headers: &HeaderMap) -> bool {
    const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];
    headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || has_token(headers, CACHE_CONTROL, "no-transform")
        || DIGESTS.iter().any(|&name| headers.contains_key(name))
}

/// Adds Accept-Encoding to what is there.
fn vary(headers: &mut HeaderMap) {
    if has_token(headers, VARY, "accept-encoding") || has_token(headers, VARY, "*") {
        return;
    }
    let mut all: Vec<&[u8]> = headers.get_all(VARY).iter().map(HeaderValue::as_bytes).collect();
    all.push(b"accept-encoding");
    let all = HeaderValue::from_bytes(&all.join(&b", "[..])).expect("values of headers, with commas between them");
    headers.insert(VARY, all);
}

/// One tag for what is coded and what is not is weak (RFC 9110 8.8.1). To keep it strong, with the coding's name in it, would need
/// the name taken out again of each If-Match and If-None-Match, which servlets read too. So what was compressed cannot be the base of
/// a PUT with If-Match, nor of a range.
fn weaken(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

/// A body that is compressed while it is sent. Piece by piece: what the inner body has given is sent on, however little it is, before
/// this one waits for more, so events and slow pages come through. An error of the inner body is this one's, and trailers pass.
pub struct Compressed {
    inner: ResponseBody,
    /// Until the end.
    encoder: Option<Encoder>,
    /// Of the inner body, and not in the encoder yet.
    input: Bytes,
    /// Of the encoder, and not sent yet.
    output: Bytes,
    /// The encoder may hold something back.
    holds: bool,
    /// What comes after all output.
    last: Option<Result<Frame<Bytes>, BodyError>>,
    /// Bytes since other connections had their turn.
    worked: usize,
    /// Of the encoder. None in tests.
    _place: Option<SemaphorePermit<'static>>,
}

impl Compressed {
    fn new(inner: ResponseBody, encoder: Encoder, place: Option<SemaphorePermit<'static>>) -> Compressed {
        let (input, output) = (Bytes::new(), Bytes::new());
        let encoder = Some(encoder);
        Compressed { inner, encoder, input, output, holds: false, last: None, worked: 0, _place: place }
    }

    pub fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if !self.output.is_empty() {
                let piece = self.output.split_to(self.output.len().min(PIECE_BYTES));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            // A flush inside of a call polls once, and brings no waker: all of it goes out in that poll.
            if self.worked >= TURN_BYTES && !task.waker().will_wake(Waker::noop()) {
                self.worked = 0;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.encoder.is_none() {
                return Poll::Ready(self.last.take());
            }
            let done = match self.input.is_empty() {
                false => self.encode(),
                true => match Pin::new(&mut self.inner).poll_frame(task) {
                    Poll::Pending if !self.holds => {
                        self.worked = 0;
                        return Poll::Pending;
                    }
                    Poll::Pending => self.flush(),
                    Poll::Ready(None) => self.finish(),
                    Poll::Ready(Some(Err(error))) => self.cut(error),
                    Poll::Ready(Some(Ok(frame))) => self.take_in(frame),
                },
            };
            if let Err(error) = done {
                (self.encoder, self.last) = (None, Some(Err(error)));
            }
        }
    }

    fn take_in(&mut self, frame: Frame<Bytes>) -> Result<(), BodyError> {
        match frame.into_data() {
            Ok(piece) => self.input = piece,
            Err(frame) => {
                self.last = Some(Ok(frame));
                self.finish()?;
            }
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), BodyError> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let step = self.input.split_to(self.input.len().min(STEP_BYTES));
        encoder.writer().write_all(&step)?;
        self.output = take(encoder.made()).into();
        self.holds = true;
        self.worked += step.len();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BodyError> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        encoder.writer().flush()?;
        self.output = take(encoder.made()).into();
        self.holds = false;
        Ok(())
    }

    /// Sends what there was, without an end that a decoder would take for one. The connection waits once before it sees the error:
    /// it sends what it holds when it waits, and drops it when it fails.
    fn cut(&mut self, error: BodyError) -> Result<(), BodyError> {
        self.flush()?;
        (self.encoder, self.last) = (None, Some(Err(error)));
        self.worked = TURN_BYTES;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), BodyError> {
        if let Some(encoder) = self.encoder.take() {
            self.output = encoder.finish()?.into();
        }
        Ok(())
    }
}

/// Compresses into a vector.
///
/// There may be one for each connection, so its window is small; with 1 MB of text through it, one of brotli holds 6 MiB, of zstd 1 MiB,
/// of gzip 0.3 MiB. All of them are within [`ROOM`].
enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

/// The least that is smaller than gzip's 6 for text, by 6 %, at half of its speed.
const BROTLI_QUALITY: u32 = 5;
/// As small as gzip's 6, at more than twice its speed.
const ZSTD_LEVEL: i32 = 3;
/// The window of both, 512 KiB. A browser takes zstd up to 8 MiB (RFC 9659).
const WINDOW_BITS: u32 = 19;

impl Encoder {
    fn new(coding: &str) -> io::Result<Encoder> {
        let made = Vec::new();
        Ok(match coding {
            "br" => {
                let (quality, window) = (BROTLI_QUALITY, WINDOW_BITS);
                Encoder::Brotli(Box::new(brotli::CompressorWriter::new(made, 4096, quality, window)))
            }
            "zstd" => {
                let mut encoder = zstd::stream::write::Encoder::new(made, ZSTD_LEVEL)?;
                encoder.window_log(WINDOW_BITS)?;
                Encoder::Zstd(encoder)
            }
            _ => Encoder::Gzip(GzEncoder::new(made, flate2::Compression::default())),
        })
    }

    /// Its memory, as `ROOM` counts.
    fn units(coding: &str) -> u32 {
        match coding {
            "br" => 24,
            "zstd" => 4,
            _ => 2,
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Brotli(encoder) => encoder,
            Encoder::Zstd(encoder) => encoder,
            Encoder::Gzip(encoder) => encoder,
        }
    }

    /// What it has made and nobody has taken yet.
    fn made(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Brotli(encoder) => encoder.get_mut(),
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Brotli(encoder) => Ok(encoder.into_inner()),
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Stream;
    use crate::pipe::{Writer, pipe};
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const ALL: [&str; 3] = ["br", "zstd", "gzip"];

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn compression(codings: &[Coding]) -> Arc<Compression> {
        let web = WebCompression { bytes_min: 10, ..WebCompression::default() };
        Compression::new(&web, codings).unwrap()
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn compressed(coding: &str, inner: ResponseBody) -> Compressed {
        Compressed::new(inner, Encoder::new(coding).unwrap(), None)
    }

    fn stream() -> (Writer, ResponseBody) {
        let (writer, reader) = pipe();
        (writer, ResponseBody::Stream(Stream(reader)))
    }

    /// What a client can read of what it has got so far.
    fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn Read> = match coding {
            "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
            "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            _ => Box::new(flate2::read::GzDecoder::new(bytes)),
        };
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(len @ 1..) = reader.read(&mut piece) {
            all.extend_from_slice(&piece[..len]);
        }
        all
    }

    fn is_whole(coding: &str, bytes: &[u8]) -> bool {
        match coding {
            "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut Vec::new()).is_ok(),
            "zstd" => zstd::stream::decode_all(bytes).is_ok(),
            _ => flate2::read::GzDecoder::new(bytes).read_to_end(&mut Vec::new()).is_ok(),
        }
    }

    /// Polls until there is nothing more now. The last is an error, trailers, or `None`: it waits.
    fn drain(body: &mut Compressed) -> (Vec<u8>, Option<Result<Option<HeaderMap>, String>>) {
        let woken = Arc::new(Counting::default());
        let waker = Waker::from(woken.clone());
        let mut bytes = Vec::new();
        loop {
            match body.poll_frame(&mut Context::from_waker(&waker)) {
                Poll::Pending if woken.0.swap(0, Ordering::Relaxed) == 0 => return (bytes, None),
                Poll::Pending => {}
                Poll::Ready(None) => return (bytes, Some(Ok(None))),
                Poll::Ready(Some(Err(error))) => return (bytes, Some(Err(error.to_string()))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => {
                        assert!((1..=PIECE_BYTES).contains(&piece.len()));
                        bytes.extend_from_slice(&piece);
                    }
                    Err(frame) => return (bytes, Some(Ok(frame.into_trailers().ok()))),
                },
            }
        }
    }

    /// Bytes without any pattern, by xorshift.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn what_is_compressed_is_what_was_there() {
        let text = "<p>It was the best of times, it was the worst of times.</p>\n".repeat(20_000);
        for coding in ALL {
            for content in [Vec::new(), b"x".to_vec(), text.clone().into_bytes(), noise(300_000)] {
                let mut body = compressed(coding, ResponseBody::Full(content.clone().into()));
                let (bytes, end) = drain(&mut body);
                assert_eq!(end, Some(Ok(None)), "{coding}");
                assert!(is_whole(coding, &bytes) && decoded(coding, &bytes) == content, "{coding} {}", content.len());
                assert!(bytes.len() < content.len() + 1000, "{coding}: {} for {}", bytes.len(), content.len());
                assert_eq!(drain(&mut body), (Vec::new(), Some(Ok(None))));
            }
        }
    }

    #[test]
    fn without_room_for_another_encoder_an_answer_goes_out_as_it_is() {
        static ROOM_FOR_ONE: Semaphore = Semaphore::const_new(4);
        let of_one = compression(&[Coding::Zstd]);
        let Compression { codings, bytes_min, types, .. } = Arc::into_inner(of_one).unwrap();
        let compression = Arc::new(Compression { codings, bytes_min, types, room: &ROOM_FOR_ONE });
        let wanted = compression.wanted(&Method::GET, &headers(&[("accept-encoding", "zstd")]));
        let answer = || {
            let body = ResponseBody::Full(Bytes::from_static(b"of some length"));
            let mut response = Response::builder().header(CONTENT_TYPE, "text/plain").body(body).unwrap();
            wanted.apply(&mut response);
            response
        };
        let is_coded = |response: &Response<ResponseBody>| response.headers().contains_key(CONTENT_ENCODING);
        let first = answer();
        let second = answer();
        assert!(is_coded(&first) && !is_coded(&second) && second.headers()[VARY] == "accept-encoding");
        drop(first);
        assert!(is_coded(&answer()));
    }

    #[test]
    fn each_event_goes_out_at_once() {
        for coding in ALL {
            let (writer, inner) = stream();
            let mut body = compressed(coding, inner);
            let (mut sent, mut seen) = (Vec::new(), Vec::new());
            assert_eq!(drain(&mut body), (Vec::new(), None));
            for number in 0..100 {
                let event = format!("data: {number}\n\n");
                writer.push(event.clone().into()).unwrap();
                sent.extend_from_slice(event.as_bytes());
                let (bytes, end) = drain(&mut body);
                seen.extend(bytes);
                assert_eq!((decoded(coding, &seen), end), (sent.clone(), None), "{coding}");
                // Nothing new, nothing to send.
                assert_eq!(drain(&mut body), (Vec::new(), None), "{coding}");
            }
            writer.finish(HeaderMap::new());
            let (bytes, end) = drain(&mut body);
            seen.extend(bytes);
            assert_eq!(end, Some(Ok(None)));
            assert!(is_whole(coding, &seen) && decoded(coding, &seen) == sent, "{coding}");
        }
    }

    #[test]
    fn a_cut_body_is_cut() {
        for coding in ALL {
            let (writer, inner) = stream();
            let mut body = compressed(coding, inner);
            writer.push("half a page".into()).unwrap();
            drop(writer);
            let (bytes, end) = drain(&mut body);
            assert_eq!(end, Some(Err(crate::body::Cut.to_string())), "{coding}");
            assert!(!is_whole(coding, &bytes) && decoded(coding, &bytes) == b"half a page", "{coding}");
            assert_eq!(drain(&mut body), (Vec::new(), Some(Ok(None))));
        }
    }

    #[test]
    fn trailers_come_after_the_body() {
        for coding in ALL {
            let (writer, inner) = stream();
            let mut body = compressed(coding, inner);
            writer.push("the body".into()).unwrap();
            let trailers = headers(&[("x-sum", "8")]);
            writer.finish(trailers.clone());
            let (bytes, end) = drain(&mut body);
            assert_eq!(end, Some(Ok(Some(trailers))), "{coding}");
            assert!(is_whole(coding, &bytes) && decoded(coding, &bytes) == b"the body", "{coding}");
        }
    }

    #[test]
    fn others_have_their_turn_while_much_is_compressed() {
        let woken = Arc::new(Counting::default());
        let waker = Waker::from(woken.clone());
        let mut body = compressed("gzip", ResponseBody::Full(vec![b'x'; 1 << 20].into()));
        let mut turns = 0;
        loop {
            match body.poll_frame(&mut Context::from_waker(&waker)) {
                Poll::Pending => turns += 1,
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => drop(frame.unwrap()),
            }
        }
        assert_eq!((turns, woken.0.load(Ordering::Relaxed)), ((1 << 20) / TURN_BYTES, turns));
    }

    /// The status and headers of an answer, before and after. The body is long enough.
    #[track_caller]
    fn check(
        accepts: &'static str,
        before: (u16, &[(&'static str, &'static str)]),
        after: &[(&'static str, &'static str)],
    ) {
        let compression = compression(&[Coding::Brotli, Coding::Gzip]);
        for method in [Method::GET, Method::HEAD] {
            let mut response = Response::new(ResponseBody::Full("A page of some length.".into()));
            *response.status_mut() = StatusCode::from_u16(before.0).unwrap();
            *response.headers_mut() = headers(before.1);
            compression.wanted(&method, &headers(&[("accept-encoding", accepts)])).apply(&mut response);
            assert_eq!(*response.headers(), headers(after), "{method} {accepts} {before:?}");
            let becomes_coded = !before.1.iter().any(|(name, _)| *name == "content-encoding")
                && response.headers().contains_key(CONTENT_ENCODING);
            let coded = matches!(response.body(), ResponseBody::Compressed(_));
            assert_eq!(coded, becomes_coded && method == Method::GET);
        }
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
    const VARIES: (&str, &str) = ("vary", "accept-encoding");
    const BR: (&str, &str) = ("content-encoding", "br");

    #[test]
    fn heads() {
        check("br, gzip", (200, &[HTML]), &[HTML, BR, VARIES]);
        check("gzip", (200, &[HTML]), &[HTML, ("content-encoding", "gzip"), VARIES]);
        check("GZIP;q=1, br;q=0", (200, &[HTML]), &[HTML, ("content-encoding", "gzip"), VARIES]);
        check("identity", (200, &[HTML]), &[HTML, VARIES]);
        check("deflate", (404, &[HTML]), &[HTML, VARIES]);
        check("br", (404, &[HTML]), &[HTML, BR, VARIES]);
        let file = [HTML, ("content-length", "22"), ("accept-ranges", "bytes"), ("last-modified", "then")];
        check("br", (200, &file), &[HTML, ("last-modified", "then"), BR, VARIES]);
        check("x", (200, &file), &[file[0], file[1], file[2], file[3], VARIES]);
        check("br", (200, &[HTML, ("content-length", "10")]), &[HTML, BR, VARIES]);
    }

    #[test]
    fn what_goes_out_as_it_is() {
        for (status, lines) in [
            (200, &[("content-type", "image/png")][..]),
            (200, &[]),
            (200, &[HTML, ("content-length", "9")]),
            (200, &[HTML, ("content-length", "0")]),
            (200, &[HTML, ("content-encoding", "gzip")]),
            (200, &[HTML, ("content-encoding", "identity")]),
            (200, &[HTML, ("content-range", "bytes 0-21/22")]),
            (200, &[HTML, ("cache-control", "private"), ("cache-control", "max-age=1, No-Transform")]),
            (200, &[HTML, ("repr-digest", "sha-256=:x:")]),
            (206, &[("content-type", "image/png")]),
            (206, &[HTML, ("content-encoding", "gzip"), ("content-range", "bytes 0-1/9")]),
            (204, &[HTML]),
            (416, &[HTML, ("content-range", "bytes */22")]),
        ] {
            check("br", (status, lines), lines);
        }
    }

    #[test]
    fn a_part_varies_as_the_whole_does() {
        let parts = ("content-type", "multipart/byteranges; boundary=x");
        for accepts in ["br", "x"] {
            check(accepts, (206, &[HTML, ("etag", "\"a\"")]), &[HTML, ("etag", "\"a\""), VARIES]);
            check(accepts, (206, &[parts]), &[parts, VARIES]);
        }
    }

    #[test]
    fn a_short_page_is_short_for_head_too() {
        for (method, body, varies) in
            [(Method::GET, "short", false), (Method::HEAD, "short", false), (Method::HEAD, "", true)]
        {
            let mut response = Response::new(ResponseBody::Full(body.into()));
            *response.headers_mut() = headers(&[HTML]);
            compression(&[Coding::Gzip]).wanted(&method, &HeaderMap::new()).apply(&mut response);
            assert_eq!(response.headers().contains_key(VARY), varies, "{method} {body:?}");
        }
    }

    #[test]
    fn tags_are_weak_for_what_is_coded_and_what_is_not() {
        check("br", (200, &[HTML, ("etag", "\"a\"")]), &[HTML, ("etag", "W/\"a\""), BR, VARIES]);
        check("br", (200, &[HTML, ("etag", "W/\"a\"")]), &[HTML, ("etag", "W/\"a\""), BR, VARIES]);
        check("x", (200, &[HTML, ("etag", "\"a\"")]), &[HTML, ("etag", "\"a\""), VARIES]);
        check("br", (304, &[("etag", "\"a\"")]), &[("etag", "W/\"a\""), VARIES]);
        check("x", (304, &[("etag", "\"a\"")]), &[("etag", "\"a\""), VARIES]);
    }

    #[test]
    fn an_answer_varies_by_what_it_did_before_too() {
        check("x", (200, &[HTML, ("vary", "Origin")]), &[HTML, ("vary", "Origin, accept-encoding")]);
        check("x", (200, &[HTML, ("vary", "a"), ("vary", "b, c")]), &[HTML, ("vary", "a, b, c, accept-encoding")]);
        check("x", (200, &[HTML, ("vary", "*")]), &[HTML, ("vary", "*")]);
        check("x", (200, &[HTML, ("vary", "a,Accept-Encoding")]), &[HTML, ("vary", "a,Accept-Encoding")]);
        check("br", (304, &[("vary", "Origin")]), &[("vary", "Origin, accept-encoding")]);
    }

    #[test]
    fn a_webapp_goes_before_its_context() {
        let web = |codings| WebCompression { codings, ..WebCompression::default() };
        let codings =
            |web: &WebCompression, context: &[Coding]| Compression::new(web, context).map(|made| made.codings.clone());
        assert_eq!(codings(&web(None), &[]), None);
        assert_eq!(codings(&web(None), &[Coding::Zstd]), Some(vec!["zstd"]));
        assert_eq!(codings(&web(Some(Vec::new())), &[Coding::Zstd]), None);
        assert_eq!(codings(&web(Some(vec![Coding::Gzip])), &[Coding::Zstd]), Some(vec!["gzip"]));
    }
}
