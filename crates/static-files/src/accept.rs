//! What a client says of a media type by Accept (RFC 9110 12.5.1).
//!
//! Called for lists, which are pages or JSON, and by the container for the page of a single-page application and pages for errors.

use http::header::{ACCEPT, HeaderMap};

use crate::coding::thousandths;

/// Says whether a media type is listed by its own name, and not refused.
pub fn accepts_by_name(headers: &HeaderMap, media_type: &str) -> bool {
    let (quality, closeness) = preference(headers, media_type);
    closeness == BY_NAME && quality > 0
}

/// Says whether one of these media types is liked better than HTML, or as well and asked for more closely.
pub fn prefers_to_html(headers: &HeaderMap, media_types: &[&str]) -> bool {
    let best = media_types.iter().map(|media_type| preference(headers, media_type)).max().unwrap_or_default();
    best > preference(headers, "text/html") && best.0 > 0
}

const BY_NAME: usize = 3;

/// Returns the quality of a media type, and how closely it was named: of several that fit it the closest counts.
fn preference(headers: &HeaderMap, media_type: &str) -> (u16, usize) {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let ranges = lines.flat_map(|line| line.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?;
        let closeness = match name.strip_suffix('*') {
            Some("*/") => 1,
            Some(kind) if starts_with(media_type, kind) => 2,
            None if name.eq_ignore_ascii_case(media_type) => BY_NAME,
            _ => return None,
        };
        let quality = parts.find(|part| starts_with(part, "q"));
        Some((closeness, quality.map_or(1000, |quality| thousandths(quality.as_bytes()))))
    });
    ranges.max().map_or((0, 0), |(closeness, quality)| (quality, closeness))
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_type_is_named_and_not_refused() {
        for (line, expected) in [
            ("text/html", true),
            ("application/json, TEXT/html;q=0.1", true),
            ("text/html;q=0", false),
            ("text/*, */*", false),
            ("text/htmlx", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(line))]);
            assert_eq!(accepts_by_name(&headers, "text/html"), expected, "{line:?}");
        }
    }
}
