//! Requests of HTTP/1: as they should be in many forms, wrong in ways that must be refused (SEMANTICS 13), and spoilt anyhow.

use fastrand::Rng;

use crate::case::{Answers, Case, SMUGGLED, any, pieces, spoil};

/// More than `head_bytes_max`, `target_bytes_max` and `header_count_max`, as they are shipped.
const HEAD_BYTES: usize = 9 << 10;
const FIELDS: usize = 120;

pub fn case(rng: &mut Rng) -> Case {
    let (mut bytes, mut good) = (Vec::new(), 0);
    for _ in 0..rng.usize(0..4) {
        bytes.extend(well(rng, true, Goes::On));
        good += 1;
    }
    let mut requests = good as u64 + 1;
    let answers = match rng.u8(0..10) {
        0..2 => {
            let goes = [Goes::On, Goes::Closes, Goes::Old][rng.usize(0..3)];
            bytes.extend(well(rng, true, goes));
            if goes != Goes::On {
                bytes.extend(SMUGGLED.repeat(rng.usize(0..4)).into_bytes());
            }
            Answers::Good(good + 1)
        }
        2..6 => {
            bytes.extend(wrong_head(rng));
            // Whatever it takes for the end of that one.
            bytes.extend(SMUGGLED.repeat(rng.usize(1..4)).into_bytes());
            Answers::Refused(good)
        }
        6 => {
            bytes.extend(wrong_body(rng));
            bytes.extend(SMUGGLED.repeat(rng.usize(1..4)).into_bytes());
            Answers::CutInBody(good)
        }
        _ => {
            // What becomes of it nobody knows, so nothing that leads there may be in it.
            bytes.clear();
            requests = 0;
            for _ in 0..rng.usize(1..4) {
                let mut one = well(rng, false, Goes::On);
                if rng.u8(0..4) > 0 {
                    spoil(rng, &mut one);
                }
                bytes.extend(one);
                requests += 1;
            }
            Answers::Any
        }
    };
    let finishes = rng.u16(0..2000) > 0;
    Case { pieces: pieces(rng, &bytes), requests, answers, finishes }
}

/// What becomes of the connection behind a request.
#[derive(Clone, Copy, PartialEq)]
enum Goes {
    On,
    /// The client asks for its end.
    Closes,
    /// It is of HTTP/1.0, where that is the custom.
    Old,
}

/// A request that is answered 200. With `canary`, its body may be full of other ones.
fn well(rng: &mut Rng, canary: bool, goes: Goes) -> Vec<u8> {
    let mut head = "\r\n".repeat(rng.usize(0..3) * usize::from(rng.u8(0..10) == 0));
    let has_body = rng.bool();
    let target = match has_body {
        true => any(rng, &["/x/take", "/x/take?a=b&c", "/x/%74ake", "http://localhost/x/take", "/x/a/../take"]),
        false => any(
            rng,
            &["/x/hello", "/x/hello?q=%00", "/x/hell%6F", "http://localhost/x/hello", "/page.txt", "/./page.txt"],
        ),
    };
    head.push_str(&format!(
        "{} {target} HTTP/1.{}\r\n",
        if has_body { "POST" } else { "GET" },
        u8::from(goes != Goes::Old)
    ));
    let mut fields = vec![format!("{}:{}localhost", cased(rng, "Host"), space(rng))];
    for _ in 0..rng.usize(0..5) {
        fields.push(
            any(
                rng,
                &[
                    "Accept: */*",
                    "X-A:",
                    "X-B:\tb \t",
                    "Cookie: a=b; c",
                    "Accept-Encoding: gzip;q=0",
                    "x!#$%&'*+-.^_`|~: \"\\",
                ],
            )
            .to_owned(),
        );
    }
    match goes {
        Goes::Closes => {
            fields.push(any(rng, &["Connection: close", "connection:CLOSE", "Connection: x, close"]).to_owned())
        }
        // What nobody here speaks: it is answered as if it had not been asked for.
        Goes::On if rng.u8(0..10) == 0 => {
            let protocol = any(rng, &["websocket", "h2c", "TLS/1.0", "x"]);
            fields.extend([format!("Upgrade: {protocol}"), "Connection: Upgrade".to_owned()]);
        }
        _ => {}
    }
    let mut body = Vec::new();
    if has_body {
        let content = content(rng, canary);
        if goes == Goes::Old || rng.bool() {
            fields.push(format!("{}:{}{}", cased(rng, "Content-Length"), space(rng), content.len()));
            body = content;
        } else {
            fields.push(format!("{}:{}{}", cased(rng, "Transfer-Encoding"), space(rng), cased(rng, "chunked")));
            body = chunks(rng, &content);
        }
        if goes != Goes::Old && rng.u8(0..20) == 0 {
            fields.push("Expect: 100-continue".to_owned());
        }
    }
    rng.shuffle(&mut fields);
    fields.iter().for_each(|field| head.extend([field, "\r\n"]));
    head.push_str("\r\n");
    [head.into_bytes(), body].concat()
}

fn content(rng: &mut Rng, canary: bool) -> Vec<u8> {
    if canary && rng.u8(0..4) > 0 {
        let before = any(rng, &["", "\r\n", "0\r\n\r\n", "\r\n\r\n", "x"]);
        return format!("{before}{}", SMUGGLED.repeat(rng.usize(1..4))).into_bytes();
    }
    (0..rng.usize(0..3000)).map(|_| rng.u8(..)).collect()
}

fn chunks(rng: &mut Rng, mut content: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !content.is_empty() {
        let (chunk, rest) = content.split_at(rng.usize(1..=content.len()));
        let zeros = "0".repeat(rng.usize(0..3));
        let size = if rng.bool() { format!("{zeros}{:x}", chunk.len()) } else { format!("{zeros}{:X}", chunk.len()) };
        let extension = any(rng, &["", "", "", ";a", ";a=b", ";a=\"b c\"", " ;a"]);
        all.extend([size.as_bytes(), extension.as_bytes(), b"\r\n", chunk, b"\r\n"].concat());
        content = rest;
    }
    all.extend(
        any(rng, &["0\r\n\r\n", "0\r\n\r\n", "00;a=b\r\n\r\n", "0\r\nX-Trailer: GET /smuggled\r\n\r\n"]).as_bytes(),
    );
    all
}

fn cased(rng: &mut Rng, name: &str) -> String {
    match rng.u8(0..4) {
        0 => name.to_ascii_lowercase(),
        1 => name.to_ascii_uppercase(),
        2 => name
            .chars()
            .map(|char| if rng.bool() { char.to_ascii_uppercase() } else { char.to_ascii_lowercase() })
            .collect(),
        _ => name.to_owned(),
    }
}

fn space(rng: &mut Rng) -> &'static str {
    any(rng, &["", " ", "\t", "   ", " \t "])
}

/// A head that must be refused, and the connection ended, whatever follows.
fn wrong_head(rng: &mut Rng) -> Vec<u8> {
    let (line, host) = ("POST /x/take HTTP/1.1", "Host: localhost");
    let (length, chunked) = (cased(rng, "Content-Length"), cased(rng, "Transfer-Encoding"));
    let small = rng.usize(0..60);
    let of = |lines: &[&str]| lines.join("\r\n") + "\r\n\r\n";
    let head = match rng.u8(0..12) {
        // Both, in both orders.
        0 => {
            let mut both = [format!("{length}: {small}"), format!("{chunked}: chunked")];
            rng.shuffle(&mut both);
            let body = any(rng, &["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", ""]);
            of(&[line, host, &both[0], &both[1]]) + body
        }
        // Two lengths, equal or not, in one field or two.
        1 => {
            let other = if rng.bool() { small } else { rng.usize(0..100) };
            match rng.bool() {
                true => of(&[
                    line,
                    host,
                    &format!("{length}: {small}"),
                    &format!("{}: {other}", cased(rng, "Content-Length")),
                ]),
                false => of(&[line, host, &format!("{length}: {small},{}{other}", space(rng))]),
            }
        }
        // What is no length.
        2 => {
            let wrong = any(
                rng,
                &[
                    "+5",
                    "-5",
                    "5x",
                    "0x5",
                    "",
                    "5 5",
                    "5.0",
                    "1e1",
                    "99999999999999999999",
                    "9223372036854775808",
                    "\"5\"",
                    "5;",
                    "½",
                    "٥",
                    "0 0",
                ],
            );
            of(&[line, host, &format!("{length}: {wrong}")])
        }
        // What is no coding of ours.
        3 => {
            let wrong = any(
                rng,
                &[
                    "chunked, chunked",
                    "gzip",
                    "gzip, chunked",
                    "identity",
                    "xchunked",
                    "chunkedx",
                    "chunked;q=1",
                    "chunked, gzip",
                    "\"chunked\"",
                    "chunked chunked",
                    "chunked,",
                    ", chunked",
                    "",
                    "chun ked",
                    "\u{b}chunked",
                    "chunked\u{1}",
                ],
            );
            of(&[line, host, &format!("{chunked}: {wrong}")]) + "0\r\n\r\n"
        }
        4 => {
            of(&[
                line,
                host,
                &format!("{chunked}: chunked"),
                &format!("{}: {}", cased(rng, "Transfer-Encoding"), any(rng, &["chunked", "gzip", "identity", ""])),
            ]) + "0\r\n\r\n"
        }
        5 => of(&[&line.replace("1.1", "1.0"), host, &format!("{chunked}: chunked")]) + "0\r\n\r\n",
        // Names, and their ends.
        6 => {
            let wrong = any(rng, &[" :", "\t:", "\u{b}:", "\r:", "\0:", ":", " x:", "(:", "\u{e9}:"]);
            let name = if wrong == ":" { String::new() } else { length };
            of(&[line, host, &format!("{name}{wrong} {small}")])
        }
        // Values, and their ends: folded, with control characters, with ends of lines that are none.
        7 => {
            let wrong = any(
                rng,
                &[
                    "X: a\r\n b",
                    "X: a\r\n\tContent-Length: 3",
                    "X: a\rb",
                    "X: a\0b",
                    "X: a\u{1}b",
                    "X: a\u{7f}",
                    "X: a\r\r",
                    "X: a\nContent-Length: 3",
                    "X: a\n",
                    "X",
                    "X\r\n : a",
                    " X: a",
                ],
            );
            let lines = [host, wrong];
            of(&[line, lines[0], lines[1]])
        }
        8 => {
            let wrong = any(
                rng,
                &[
                    "HTTP/2.0",
                    "HTTP/3.1",
                    "HTTP/0.9",
                    "HTTP/1.1x",
                    "HTTP/11",
                    "HTTP/1.",
                    "HTTP/1",
                    "HTTP/ 1.1",
                    "http/1.1",
                    "HTP/1.1",
                    "HTTP/-1.1",
                    "HTTP/1.1 HTTP/1.1",
                    "",
                    "HTTP/1,1",
                    "HTTPS/1.1",
                    "HTTP/1.1\0",
                ],
            );
            of(&[&format!("POST /x/take {wrong}"), host])
        }
        // Methods and targets.
        9 => {
            let wrong = any(
                rng,
                &[
                    "P(ST /x/take",
                    "P\tST /x/take",
                    " POST /x/take",
                    "POST  /x/take",
                    "POST\t/x/take",
                    "/x/take",
                    "POST /x/ta ke",
                    "POST /x/take#a",
                    "POST x/take",
                    "POST /x/ta\0ke",
                    "POST /x/ta\rke",
                    "POST \u{1}/x/take",
                    "CONNECT /x/take",
                    "GET *",
                    "POST /x/take\u{7f}",
                    "\0POST /x/take",
                    "POST /x/../../take",
                    "POST /x/%2e%2e/%2fa",
                    "POST http://other/x/take",
                ],
            );
            of(&[&format!("{wrong} HTTP/1.1"), host])
        }
        // Hosts.
        10 => {
            let wrong = any(
                rng,
                &[
                    "",
                    "Host: a b",
                    "Host: a/b",
                    "Host: localhost\r\nHost: localhost",
                    "Host: a\r\nHOST: b",
                    "Host: a:b",
                    "Host: a@b",
                    "Host: [::1",
                ],
            );
            if wrong.is_empty() { of(&[line]) } else { of(&[line, wrong]) }
        }
        // Bounds.
        _ => match rng.u8(0..4) {
            0 => of(&[&format!("POST /x/take?{} HTTP/1.1", "a".repeat(HEAD_BYTES)), host]),
            1 => of(&[line, host, &format!("X: {}", "a".repeat(HEAD_BYTES))]),
            2 => of(&[line, host, &"X: a\r\n".repeat(FIELDS)]),
            _ => "\r\n".repeat(rng.usize(3..6)) + &of(&[line, host]),
        },
    };
    head.into_bytes()
}

/// A body that does not end as it should: what is behind it is not a request.
fn wrong_body(rng: &mut Rng) -> Vec<u8> {
    let head = "POST /x/take HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(HEAD_BYTES));
    let trailer = format!("0\r\nX: {}\r\n\r\n", "a".repeat(HEAD_BYTES));
    let body = any(
        rng,
        &[
            "zz\r\n",
            "-1\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "\r\n",
            "\r\n0\r\n\r\n",
            ";\r\n",
            "0\n\n",
            "0\r\n\n",
            "0\r\nX : a\r\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\n X: a\r\n\r\n",
            "0\r\nX: a\0\r\n\r\n",
            "5\0\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5,\r\nhello\r\n0\r\n\r\n",
            "0\r\n: a\r\n\r\n",
            "\u{ff15}\r\nhello\r\n0\r\n\r\n",
            &long,
            &trailer,
        ],
    );
    format!("{head}{body}").into_bytes()
}
