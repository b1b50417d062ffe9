//! The name of an entry: that it stays in its folder, and which others would be the same file elsewhere.

use unicode_normalization::UnicodeNormalization as _;

use crate::refusal::Fault;

/// LIMIT: bytes of a file's name, by Linux.
const SEGMENT_BYTES_MAX: usize = 255;
/// LIMIT: bytes of a path: far below Linux's 4096, of which the folder takes some.
const PATH_BYTES_MAX: usize = 1024;

/// Reads the name of an entry: the path of a file or, with a `/` behind it, of a folder. Returns it without that `/`.
pub fn read(raw: &[u8], depth_max: usize) -> Result<&str, Fault> {
    let name = std::str::from_utf8(raw).map_err(|_| Fault::NotUtf8)?;
    let path = name.strip_suffix('/').unwrap_or(name);
    if path.is_empty() {
        return Err(if name.is_empty() { Fault::Empty } else { Fault::Outside });
    }
    if path.starts_with('/') {
        return Err(Fault::Outside);
    }
    let has_drive = matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if has_drive || path.contains('\\') || path.contains(char::is_control) {
        return Err(Fault::Unsafe);
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err(Fault::Empty),
            "." | ".." => return Err(Fault::Outside),
            _ if segment.len() > SEGMENT_BYTES_MAX => return Err(Fault::TooLong),
            _ => {}
        }
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    if path.split('/').count() > depth_max {
        return Err(Fault::TooDeep(depth_max));
    }
    Ok(path)
}

/// The same for all names that a file system may take for one: without case, and with accents in one way. Upper case first, since
/// more letters become one there (`ß` and `ss`, `ſ` and `s`).
pub fn folded(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    path.nfd().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfd().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "a/", "a/b.c", "WEB-INF/lib/libshop.so", "ä/ö ü", "ab:c", "...", "-", "~", "a..b/.c", "CON"]
        {
            assert_eq!(read(good.as_bytes(), 8), Ok(good.trim_end_matches('/')));
        }
        for (bad, fault) in [
            (&b""[..], Fault::Empty),
            (b"/", Fault::Outside),
            (b"/etc/passwd", Fault::Outside),
            (b"//a", Fault::Outside),
            (b"..", Fault::Outside),
            (b"../", Fault::Outside),
            (b"a/../b", Fault::Outside),
            (b"./a", Fault::Outside),
            (b"a/.", Fault::Outside),
            (b"a//b", Fault::Empty),
            (b"a//", Fault::Empty),
            (b"C:/a", Fault::Unsafe),
            (b"c:a", Fault::Unsafe),
            (b"..\\a", Fault::Unsafe),
            (b"a\0b", Fault::Unsafe),
            (b"a\nb", Fault::Unsafe),
            ("a\u{85}b".as_bytes(), Fault::Unsafe),
            (b"a\xffb", Fault::NotUtf8),
            (&[b'a'; 256], Fault::TooLong),
            (&b"abc/".repeat(300), Fault::TooLong),
            (b"a/b/c/d/e/f/g/h/i", Fault::TooDeep(8)),
        ] {
            assert_eq!(read(bad, 8), Err(fault), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn what_some_file_system_takes_for_one() {
        for (one, other) in [
            ("README", "readme"),
            ("Ä", "a\u{308}"),
            ("Straße", "STRASSE"),
            ("\u{212a}", "k"),
            ("ΣΑΣ", "σας"),
            ("\u{1e9b}\u{323}", "\u{1e69}"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        assert_ne!(folded("a"), folded("ä"));
        assert_ne!(folded("İ"), folded("ı"));
    }
}
