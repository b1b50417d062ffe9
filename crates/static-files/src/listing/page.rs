//! The page of a listing: one self-contained text without scripts. Every name in it is somebody's input: escaped as text, and
//! percent-encoded behind `./` in links, so that none is a scheme, a host, or a query.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Column, Entry, Kind, Listing, Order, text_of};

/// All but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const STYLE: &str = include_str!("page.css");

/// Drawn once, used by each row.
const ICONS: &str = "<svg id=\"icons\" aria-hidden=\"true\"><symbol id=\"d\" viewBox=\"0 0 16 22\"><path d=\"M1 6.5a1 1 0 0 1 1-1h4l1.5 2H14a1 1 0 0 1 1 \
    1v7a1 1 0 0 1-1 1H2a1 1 0 0 1-1-1z\"/></symbol><symbol id=\"f\" viewBox=\"0 0 16 22\"><path d=\"M3 5a1 1 0 0 1 1-1h5l4 \
    4v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1zM9 4v4h4\"/></symbol></svg>\n";

/// Makes the page of a listing whose entries are in this order.
pub(super) fn write(listing: &Listing, order: Order, context_path: &str) -> String {
    let mut page = String::with_capacity(4096 + listing.entries.len() * 320);
    let path = format!("{context_path}{}", listing.path);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n{ICONS}<main>\n",
        Escaped(&path)
    );
    write_crumbs(&mut page, listing, context_path);
    let _ = writeln!(page, "<p>{}</p>", summary(listing));
    page.push_str("<table>\n<thead><tr>");
    for (column, name, label, class) in [
        (Column::Name, "name", "Name", "name"),
        (Column::Size, "size", "Size", "size"),
        (Column::Time, "time", "Modified (UTC)", "time"),
    ] {
        write_heading(&mut page, order, column, (name, label, class));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    if listing.path != "/" {
        page.push_str(
            "<tr><th scope=\"row\"><a href=\"../\"><svg aria-hidden=\"true\"><use href=\"#d\"/></svg>\
             <span>Parent folder</span></a></th><td class=\"size\"></td><td class=\"time\"></td></tr>\n",
        );
    }
    for entry in &listing.entries {
        write_row(&mut page, entry);
    }
    page.push_str("</tbody>\n</table>\n</main>\n</html>\n");
    page
}

/// The way from the root of the webapp, each step a link but the last.
fn write_crumbs(page: &mut String, listing: &Listing, context_path: &str) {
    let root = context_path.strip_prefix('/').filter(|root| !root.is_empty()).unwrap_or("Home");
    let below: Vec<&str> = listing.path.split('/').filter(|segment| !segment.is_empty()).collect();
    page.push_str("<h1><nav aria-label=\"Path\"><ol>");
    for (at, &name) in std::iter::once(&root).chain(&below).enumerate() {
        let _ = match below.len() - at {
            0 => write!(page, "<li aria-current=\"page\"><bdi>{}</bdi></li>", Escaped(name)),
            up => write!(page, "<li><a href=\"{}\"><bdi>{}</bdi></a></li>", "../".repeat(up), Escaped(name)),
        };
    }
    page.push_str("</ol></nav></h1>\n");
}

/// How much there is, for people.
fn summary(listing: &Listing) -> String {
    let files: Vec<u64> = listing.entries.iter().filter_map(|entry| entry.size).collect();
    let folders = listing.entries.len() - files.len();
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let mut text = match (folders, files.len()) {
        (0, 0) => "Nothing is here.".to_owned(),
        (_, 0) => count(folders, "folder"),
        (0, _) => count(files.len(), "file"),
        _ => format!("{}, {}", count(folders, "folder"), count(files.len(), "file")),
    };
    if !files.is_empty() {
        let _ = write!(text, ", {}", size(files.iter().copied().fold(0, u64::saturating_add)));
    }
    if listing.is_cut {
        text.push_str(". There are more: only so many are shown.");
    }
    text
}

/// A link that sorts by this column; by the one that is sorted by, the other way round.
fn write_heading(page: &mut String, order: Order, column: Column, (name, label, class): (&str, &str, &str)) {
    let (sorted, next) = match (order.by == column, order.descends) {
        (false, _) => ("", "asc"),
        (true, false) => (" aria-sort=\"ascending\"", "desc"),
        (true, true) => (" aria-sort=\"descending\"", "asc"),
    };
    let _ = write!(
        page,
        "<th scope=\"col\" class=\"{class}\"{sorted}><a href=\"?sort={name}&amp;order={next}\">{label}</a></th>"
    );
}

fn write_row(page: &mut String, entry: &Entry) {
    let (icon, slash) = match entry.kind {
        Kind::Directory => ("d", "/"),
        Kind::File => ("f", ""),
    };
    let _ = write!(
        page,
        "<tr><th scope=\"row\"><a href=\"./{}{slash}\"><svg aria-hidden=\"true\"><use href=\"#{icon}\"/></svg>\
         <span><bdi>{}</bdi>{slash}</span></a></th>",
        utf8_percent_encode(&entry.name, ENCODED),
        Escaped(&entry.name),
    );
    let _ = match entry.size {
        Some(bytes) => write!(page, "<td class=\"size\" title=\"{bytes} bytes\">{}</td>", size(bytes)),
        None => write!(page, "<td class=\"size\"></td>"),
    };
    let time = text_of(entry.modified);
    let (day, clock) = (&time[..10], &time[11..16]);
    let _ = writeln!(
        page,
        "<td class=\"time\"><time datetime=\"{time}\" title=\"{time}\">{day}<span class=\"clock\"> {clock}</span></time></td></tr>"
    );
}

/// In three digits or so: `1.2 kB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    // Not by 1000: what would be written as 1000 is written in the next unit.
    while amount >= 999.5 {
        amount /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && amount < 9.95);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// Text inside of elements and of quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                _ => out.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
