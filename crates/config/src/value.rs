//! How values that are not any text are written: durations, `"30s"`, byte sizes, `"8KiB"`, and tokens.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 3600 * 1000), ("d", 24 * 3600 * 1000)];
const BYTE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a whole number with `ms`, `s`, `m`, `h` or `d` behind it.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// Reads a whole number with `B`, `KiB`, `MiB`, `GiB` or `TiB` behind it, or without a unit.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    match text.parse() {
        Ok(bytes) if !text.starts_with('+') => Some(bytes),
        _ => with_unit(text, &BYTE_UNITS),
    }
}

/// Returns true for a token: what a method, a cookie or a header is named (RFC 9110 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Writes a duration in the largest unit that needs no fraction; in days from two of them on.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let units = if millis < 2 * DURATION_UNITS[4].1 { &DURATION_UNITS[..4] } else { &DURATION_UNITS[..] };
    let fits = units.iter().rev().find(|(_, factor)| millis.is_multiple_of(*factor));
    let (unit, factor) = fits.expect("every number is a multiple of the first factor, 1");
    format!("{}{unit}", millis / factor)
}

/// Writes a byte size in the largest unit that needs no fraction.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let fits = BYTE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (unit, factor) = fits.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_end = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(text: &str, millis: Option<u64>) {
        assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
    }

    #[track_caller]
    fn check_bytes(text: &str, expected: Option<u64>) {
        assert_eq!(bytes(text), expected, "{text}");
    }

    #[test]
    fn durations() {
        check_duration("30s", Some(30_000));
        check_duration("250ms", Some(250));
        check_duration("5m", Some(300_000));
        check_duration("2 h", Some(7_200_000));
        check_duration("1d", Some(86_400_000));
        check_duration("0s", Some(0));
        for wrong in [
            "",
            "s",
            "30",
            "-1s",
            "+1s",
            "1.5s",
            "30 seconds",
            "30S",
            "1m30s",
            "99999999999999999999s",
            "99999999999999999d",
            "３s",
        ] {
            check_duration(wrong, None);
        }
    }

    #[test]
    fn byte_sizes() {
        check_bytes("8KiB", Some(8192));
        check_bytes("2 MiB", Some(2 << 20));
        check_bytes("1GiB", Some(1 << 30));
        check_bytes("7B", Some(7));
        check_bytes("8192", Some(8192));
        for wrong in ["", "KiB", "8KB", "8k", "+8", "-1B", "1.5KiB", "99999999TiB", "8  KiB"] {
            check_bytes(wrong, None);
        }
    }

    #[test]
    fn shown_as_one_would_write_it() {
        let seconds = Duration::from_secs;
        for (duration, text) in [
            (seconds(0), "0s"),
            (seconds(90), "90s"),
            (seconds(600), "10m"),
            (seconds(86_400), "24h"),
            (seconds(365 * 86_400), "365d"),
        ] {
            assert_eq!(show_duration(duration), text);
        }
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        for (bytes, text) in [(0, "0B"), (100, "100B"), (8192, "8KiB"), (1 << 30, "1GiB"), (1025, "1025B")] {
            assert_eq!(show_bytes(bytes), text);
        }
    }
}
