//! What came back on a connection of HTTP/1.

/// The statuses of all answers, without interim ones; `None`: they are not one behind the other, each whole.
pub fn statuses(mut bytes: &[u8]) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
        let status: u16 = head.strip_prefix("http/1.")?.get(2..5)?.parse().ok()?;
        bytes = &bytes[end..];
        if (100..200).contains(&status) {
            continue;
        }
        all.push(status);
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if field("transfer-encoding").is_some() {
            bytes = behind_chunks(bytes)?;
        } else if let Some(length) = field("content-length") {
            bytes = bytes.get(length.parse().ok()?..)?;
        } else if !matches!(status, 204 | 304) {
            return None;
        }
    }
    Some(all)
}

fn behind_chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let end = find(bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        bytes = bytes.get(end + 2 + size + 2..)?;
        if size == 0 {
            return Some(bytes);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub fn contains(bytes: &[u8], what: &[u8]) -> bool {
    find(bytes, what).is_some()
}
