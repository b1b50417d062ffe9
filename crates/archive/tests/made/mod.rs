//! Archives of tests, good and bad. The end-to-end tests have them too.

use std::io::Write as _;

use rawzip::path::EntryPath;
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, ZipArchiveWriter};

/// What an entry has beside its content; `Default` for nothing.
#[derive(Clone, Copy, Default)]
pub struct Looks {
    /// As in a unix mode, with the kind of file.
    pub mode: Option<u32>,
    /// Seconds since 1970.
    pub modified: Option<i64>,
    pub is_encrypted: bool,
    pub is_stored: bool,
    /// Another method than the one by which it is written.
    pub method: Option<u16>,
}

pub struct Made(ZipArchiveWriter<Vec<u8>>);

impl Made {
    pub fn new() -> Made {
        Made(ZipArchiveWriter::new(Vec::new()))
    }

    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Made {
        self.looking(name, content, Looks::default())
    }

    pub fn folder(mut self, name: &str) -> Made {
        self.0.new_dir(EntryPath::verbatim(name.as_bytes())).create().expect("a folder");
        self
    }

    /// `name` goes in as it is.
    pub fn looking(mut self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>, looks: Looks) -> Made {
        let method = match looks.is_stored {
            true => CompressionMethod::STORE,
            false => CompressionMethod::DEFLATE,
        };
        let shown = looks.method.map_or(method, CompressionMethod::from);
        let name = EntryPath::verbatim(name.as_ref().to_vec());
        let mut file = self.0.new_file(name).compression_method(shown).encrypted(looks.is_encrypted);
        if let Some(mode) = looks.mode {
            file = file.unix_permissions(mode);
        }
        if let Some(seconds) = looks.modified {
            file = file.last_modified(UtcDateTime::from_unix(seconds));
        }
        let (mut entry, config) = file.start().expect("an entry");
        let descriptor = if looks.is_stored {
            let mut plain = config.wrap(&mut entry);
            plain.write_all(content.as_ref()).expect("content");
            plain.finish().expect("content").1
        } else {
            let mut deflated =
                config.wrap(flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default()));
            deflated.write_all(content.as_ref()).expect("content");
            let (encoder, descriptor) = deflated.finish().expect("content");
            encoder.finish().expect("content");
            descriptor
        };
        entry.finish(descriptor).expect("an entry");
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.finish().expect("an archive")
    }
}

/// Where `what` begins for the `nth` time, from 0.
pub fn place(bytes: &[u8], what: &[u8], nth: usize) -> usize {
    let mut places = bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what);
    places.nth(nth).expect("the bytes are there").0
}

/// With `with` in the place of what stands there, `after` bytes behind the beginning of the `nth` `what`.
pub fn patched(mut bytes: Vec<u8>, (what, nth, after): (&[u8], usize, usize), with: &[u8]) -> Vec<u8> {
    let begin = place(&bytes, what, nth) + after;
    bytes[begin..begin + with.len()].copy_from_slice(with);
    bytes
}

/// The signature of an entry in the list at the end.
const LISTED: &[u8] = b"PK\x01\x02";
/// The signature of what stands before an entry's content.
const LOCAL: &[u8] = b"PK\x03\x04";

/// Archives that are refused by `Limits` of 4 MiB, a ratio of 100, 1000 entries and a depth of 20; each with what it is, and what
/// the refusal says.
pub fn bad() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let looking = |looks| Made::new().file("index.html", "x").looking("odd", "target", looks).bytes();
    let mode = |mode| looking(Looks { mode: Some(mode), ..Looks::default() });
    let two = |one: &str, other: &str| Made::new().file(one, "1").file(other, "2").bytes();
    let one = |name: &[u8]| Made::new().file("index.html", "x").file(name, "out").bytes();
    let good = || two("one.txt", "two.txt");
    let noise: Vec<u8> = (0..100_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = Made::new().file("noise", &noise).bytes();
    let many = (0..1001).fold(Made::new(), |made, number| made.file(number.to_string(), ""));
    let implied = (0..501).fold(Made::new(), |made, number| made.file(format!("{number}/x"), ""));
    vec![
        ("a way out", one(b"../../outside"), "`../../outside` that would lie outside of the folder"),
        ("a way out in between", one(b"a/../../outside"), "would lie outside of the folder"),
        ("an absolute path", one(b"/tmp/outside"), "would lie outside of the folder"),
        ("the folder itself", one(b"."), "would lie outside of the folder"),
        ("a drive", one(b"C:/outside"), "colon behind a letter"),
        ("a backslash", one(b"..\\..\\outside"), "has a backslash"),
        ("a NUL", one(b"out\0side"), "has an entry `out\\u{0}side` that has a backslash"),
        ("a control character", one(b"out\x1b[2Jside"), "has an entry `out\\u{1b}[2Jside`"),
        ("another encoding", one(b"gr\xfc\xdfe"), "has an entry `gr\\xfc\\xdfe` that has a name that is not UTF-8"),
        ("no name", one(b""), "has an empty name"),
        ("an empty folder's name", one(b"a//b"), "has an empty name"),
        ("a long name", one(&[b'n'; 256]), "has a name that is too long"),
        ("a long path", one(&b"abc/".repeat(257)), "has a name that is too long"),
        ("a deeper path", one(format!("{}x", "d/".repeat(20)).as_bytes()), "lies deeper than 20 folders"),
        ("a link", mode(0o120_777), "`odd` that is a link"),
        ("a device", mode(0o020_666), "is a device"),
        ("a named pipe", mode(0o010_666), "is a device"),
        ("a socket", mode(0o140_666), "is a device"),
        ("a folder by its mode alone", mode(0o040_755), "is a file and a folder"),
        ("a password", looking(Looks { is_encrypted: true, ..Looks::default() }), "is encrypted"),
        ("another method", looking(Looks { method: Some(12), ..Looks::default() }), "by method 12 (BZIP2)"),
        ("one name twice", two("a/b", "a/b"), "`a/b` that is there twice"),
        ("one folder twice", Made::new().folder("a/").folder("a/").bytes(), "is there twice"),
        ("another case", two("README", "readme"), "`readme` that differs from `README` in the case"),
        ("folders of another case", two("lib/a", "Lib/b"), "`Lib/b` that differs from `lib` in the case"),
        ("other accents", two("caf\u{e9}", "cafe\u{301}"), "in how accents are written"),
        ("a file that is a folder", two("a", "a/b"), "`a/b` that is a file and a folder"),
        ("a folder that is a file", two("a/b", "a"), "`a` that is a file and a folder"),
        ("a folder with content", Made::new().file("a/", "x").bytes(), "is a folder that has content"),
        (
            "entries of the same bytes",
            {
                // Both listed entries lead to the first one.
                let bytes = patched(two("same", "same"), (LISTED, 1, 42), &[0; 4]);
                patched(bytes, (b"same", 3, 0), b"diff")
            },
            "otherwise where its content lies",
        ),
        (
            "an entry in another one",
            {
                let inner = Made::new().file("inner", "x").bytes();
                let begin = place(&inner, LISTED, 0);
                let stored = Looks { is_stored: true, ..Looks::default() };
                let outer = Made::new().looking("outer", &inner[..begin], stored).file("inner", "x").bytes();
                let within = place(&outer, LOCAL, 1) as u32;
                patched(outer, (LISTED, 1, 42), &within.to_le_bytes())
            },
            "shares bytes with another entry",
        ),
        (
            "another name at its content",
            patched(good(), (b"one.txt", 0, 0), b"two.sh\0"),
            "otherwise where its content",
        ),
        ("more bytes than are allowed", Made::new().file("zero", vec![0; 5 << 20]).bytes(), "more than 4194304"),
        ("a bomb", Made::new().file("zero", vec![0; 2 << 20]).bytes(), "which looks like a bomb"),
        ("a length of 64 bits that is not there", patched(good(), (LISTED, 0, 20), &[0xff; 4]), "shares bytes"),
        ("many files", many.bytes(), "more than 1000 files and folders"),
        ("many folders", implied.bytes(), "more than 1000 files and folders"),
        ("more content than is told", patched(long.clone(), (LISTED, 0, 24), &99_999u32.to_le_bytes()), "is damaged"),
        ("less content than is told", patched(long.clone(), (LISTED, 0, 24), &100_001u32.to_le_bytes()), "is damaged"),
        ("another checksum", patched(good(), (LISTED, 1, 16), b"abcd"), "`two.txt` that is damaged: "),
        ("another byte", patched(long.clone(), (b"noise", 0, 2_000), b"\x55\xaa\x55"), "`noise` that is damaged"),
        ("half of it", long[..long.len() / 2].to_vec(), "is no zip archive, or not all of it"),
        ("all but the end", long[..long.len() - 10].to_vec(), "is no zip archive, or not all of it"),
        ("the end alone", long[long.len() - 60..].to_vec(), "is no zip archive, or not all of it"),
        ("another count", patched(good(), (b"PK\x05\x06", 0, 10), &[3]), "2 entries and says that it has 3"),
        ("a place behind the end", patched(good(), (LISTED, 1, 42), &[0xff, 0xff, 0xff, 0x7f]), "damaged"),
        ("no archive", b"<html>not found</html>".to_vec(), "is no zip archive"),
        ("nothing", Vec::new(), "is no zip archive"),
    ]
}
