//! What a client of HTTP/2 may do by the rules, and nobody does who wants an answer: the connection is cut, the log says so once, and
//! others are served meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use e2e::serval::Serval;

use crate::{LONG, open, start};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// LIMIT: frames that are sent before the server is given up: it takes too much.
const FRAMES_MAX: u32 = 200_000;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The frames of a flood, by their numbers.
type Frames = Box<dyn FnMut(u32) -> Vec<u8>>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A GET of `/x/look`, in HPACK without its tables, or the beginning of a POST.
fn headers(flags: u8, stream: u32, method: u8) -> Vec<u8> {
    // Indexed :method and :scheme, then :path and :authority by their names.
    let block = [&[0x80 | method, 0x86, 0x04, 7], &b"/x/look"[..], &[0x01, 1], b"a"].concat();
    frame(HEADERS, flags, stream, &block)
}

/// Sends until the server ends the connection; the frames by their number. Returns whether it said GOAWAY with ENHANCE_YOUR_CALM.
#[track_caller]
fn flood(serval: &Serval, what: &str, mut frames: impl FnMut(u32) -> Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let read = std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all);
        all
    });
    stream.write_all(PREFACE).unwrap();
    let sent = (0..FRAMES_MAX).take_while(|number| stream.write_all(&frames(*number)).is_ok()).count();
    assert!(sent < FRAMES_MAX as usize, "{what}: {sent} were taken");
    let read = read.join().unwrap();
    read.windows(17).any(|bytes| bytes[..9] == [0, 0, 8, 7, 0, 0, 0, 0, 0] && bytes[13..] == [0, 0, 0, 0x0b])
}

#[test]
fn floods_are_cut_and_others_served() {
    let (_home, serval) = start("");
    let mut other = open(&serval);
    let mut calm = 0;
    let kinds: [(&str, Frames); 8] = [
        ("PING", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))),
        ("PRIORITY", Box::new(|number| frame(PRIORITY, 0, number * 2 + 1, &[0, 0, 0, 0, 1]))),
        ("unknown frames", Box::new(|_| frame(77, 0, 0, b""))),
        (
            "rapid reset",
            Box::new(|number| {
                let stream = number * 2 + 1;
                [headers(5, stream, 2), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
            }),
        ),
        ("empty DATA", Box::new(|number| if number == 0 { headers(4, 1, 3) } else { frame(DATA, 0, 1, b"") })),
        ("small WINDOW_UPDATE", Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        (
            "CONTINUATION without end",
            Box::new(|number| match number {
                0 => headers(0, 1, 2),
                _ => frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']),
            }),
        ),
    ];
    for (what, mut frames) in kinds {
        calm += u32::from(flood(&serval, what, &mut frames));
        let answer = other.get("/x/look").unwrap();
        assert!(answer.body.starts_with(b"11 127.0.0.1\n"), "{what}");
    }
    assert!(calm > 0, "none was told why");
    let said = serval.stop_and_read().unwrap();
    let told = said.iter().filter(|line| line.contains("streams that are reset")).count();
    assert!(told <= 1, "{said:#?}");
    assert!(said.iter().any(|line| line.contains("a client was cut off or refused: ")), "{said:#?}");
    assert!(said.len() < 100, "{} lines", said.len());
}

#[test]
fn headers_that_trickle_are_cut() {
    let (_home, serval) = start("head_timeout = \"500ms\"\nkeep_alive_timeout = \"1h\"");
    for (what, begun) in [
        ("nothing behind the preface", PREFACE.to_vec()),
        ("headers without their end", [PREFACE, &headers(0, 1, 2)].concat()),
        ("a part of a frame", [PREFACE, &headers(0, 1, 2), &[0, 0, 5, 9]].concat()),
    ] {
        let mut stream = TcpStream::connect(serval.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(&begun).unwrap();
        let mut all = Vec::new();
        assert!(
            !matches!(stream.read_to_end(&mut all), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "{what}"
        );
    }
    assert!(serval.stop().unwrap().success());
}
