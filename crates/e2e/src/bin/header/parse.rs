//! Reads a C header of the shape of servlet.h: a manual in its first comment, and then declarations with comments,
//! between lines of dashes with titles. It is no C parser: it knows what that one header has.

/// What a header has, in its order.
pub struct Header {
    /// The lines of the first comment.
    pub manual: Vec<String>,
    pub sections: Vec<Section>,
}

/// What stands between two lines of dashes.
#[derive(Default)]
pub struct Section {
    pub title: String,
    pub entries: Vec<Entry>,
}

/// A declaration with what is said of it; a struct has members, which are entries too.
#[derive(Default)]
pub struct Entry {
    pub name: String,
    /// As it is written, without comments; of a struct without its members.
    pub code: String,
    /// The comments before it and beside it, as paragraphs of lines.
    pub text: Vec<String>,
    pub members: Vec<Entry>,
    /// Not a declaration, but a title between members, with its text.
    pub is_title: bool,
}

enum Piece {
    Comment {
        text: String,
        indent: usize,
        line: usize,
    },
    /// Until `;`, or a line of the preprocessor; `line` is its last.
    Code {
        text: String,
        line: usize,
    },
    Open {
        text: String,
        line: usize,
    },
    Close {
        line: usize,
    },
}

/// A comment that begins beyond this column belongs to what stands before it.
const BESIDE: usize = 20;

pub fn read(source: &str) -> Header {
    let mut pieces = pieces(source).into_iter().peekable();
    let manual = match pieces.next() {
        Some(Piece::Comment { text, .. }) => text.lines().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut sections = vec![Section::default()];
    let mut before: Vec<String> = Vec::new();
    // The struct that is open.
    let mut open: Option<Entry> = None;
    let mut last_line = 0;
    for piece in pieces {
        let section = sections.last_mut().expect("there is one from the beginning");
        match piece {
            Piece::Comment { text, indent, line } => {
                let is_title = text.trim_start().starts_with("---");
                let (members, in_struct) = match &mut open {
                    None if is_title => {
                        let title = text.trim_matches(['-', ' ']).to_owned();
                        sections.push(Section { title, ..Section::default() });
                        continue;
                    }
                    None => (&mut section.entries, false),
                    // Beside the struct's first line: of the struct.
                    Some(open) if line == last_line && open.members.is_empty() => {
                        open.text.push(text);
                        continue;
                    }
                    Some(open) => (&mut open.members, true),
                };
                match members.last_mut() {
                    _ if is_title && in_struct => members.push(title_between_members(&text)),
                    Some(last) if line == last_line || indent > BESIDE => last.text.push(text),
                    _ => before.push(text),
                }
            }
            Piece::Code { text, line } => {
                last_line = line;
                let Some(name) = name_of(&text) else {
                    before.clear();
                    continue;
                };
                let entry = Entry { name, code: text, text: std::mem::take(&mut before), ..Entry::default() };
                let entries = open.as_mut().map_or(&mut section.entries, |entry| &mut entry.members);
                // SV_EXPORT is defined once for each system.
                if !entries.iter().any(|other| other.name == entry.name && !entry.name.is_empty()) {
                    entries.push(entry);
                }
            }
            Piece::Open { text, line } => {
                last_line = line;
                if let Some(name) = text.strip_prefix("typedef struct ") {
                    let text = std::mem::take(&mut before);
                    let code = format!("struct {}", name.trim());
                    open = Some(Entry { name: name.trim().to_owned(), code, text, ..Entry::default() });
                }
            }
            Piece::Close { line } => {
                last_line = line;
                section.entries.extend(open.take());
                before.clear();
            }
        }
    }
    sections.retain(|section| !section.entries.is_empty());
    Header { manual, sections }
}

/// `--- async (Servlet 2.3.3.3). What is said of it`: a point inside of parentheses does not end the title.
fn title_between_members(comment: &str) -> Entry {
    let comment = comment.trim_start_matches(['-', ' ']);
    let mut depth = 0;
    let end = comment.find(|letter: char| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == '\n' || (letter == '.' && depth == 0)
    });
    let (name, text) = comment.split_at(end.unwrap_or(comment.len()));
    let text = text.trim_start_matches(['.', '\n', ' ']).to_owned();
    let text = if text.is_empty() { Vec::new() } else { vec![text] };
    Entry { name: name.to_owned(), text, is_title: true, ..Entry::default() }
}

/// What a declaration declares; `None`: it is only for the compiler.
fn name_of(code: &str) -> Option<String> {
    if let Some(macro_) = code.strip_prefix("#define ") {
        let name = macro_.split(|letter: char| !is_word(letter)).next()?;
        return Some(name.to_owned()).filter(|name| name != "SERVLET_H");
    }
    if code.starts_with('#') {
        return None;
    }
    // A function pointer has its name in `(*name)(`, but an argument may be one as well: the first counts.
    if let Some((_, rest)) = code.split_once("(*") {
        return Some(rest.split(')').next()?.to_owned());
    }
    let declared = code.split('(').next()?;
    // `uint32_t remote_port, local_port` is one entry.
    let (first, more) = declared.split_once(',').map_or((declared, ""), |(first, more)| (first, more));
    let name = first.rsplit(|letter: char| !is_word(letter)).find(|word| !word.is_empty())?;
    let more: String =
        more.split(',').filter(|word| !word.trim().is_empty()).map(|word| format!(", {}", word.trim())).collect();
    Some(format!("{name}{more}"))
}

pub fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn pieces(source: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = source;
    let line_of = |rest: &str| source[..source.len() - rest.len()].matches('\n').count();
    loop {
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return pieces;
        }
        let at = source.len() - trimmed.len();
        let indent = at - source[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = line_of(trimmed);
        if let Some(comment) = trimmed.strip_prefix("/*") {
            let (text, after) = comment.split_once("*/").unwrap_or((comment, ""));
            pieces.push(Piece::Comment { text: without_stars(text), indent, line });
            rest = after;
            continue;
        }
        let is_directive = trimmed.starts_with('#');
        let end = if is_directive {
            let end = trimmed.find('\n').unwrap_or(trimmed.len());
            trimmed[..end].find("/*").unwrap_or(end)
        } else {
            trimmed.find([';', '{', '}']).unwrap_or(trimmed.len())
        };
        let text = trimmed[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        rest = &trimmed[end..];
        let line = line_of(rest);
        let last = if is_directive { None } else { rest.chars().next() };
        rest = &rest[last.map_or(0, char::len_utf8)..];
        pieces.push(match last {
            // `extern "C" {` is between #ifdef and #endif, as is its end.
            Some('{') => Piece::Open { text, line },
            Some('}') => {
                // With the name behind it: `} sv_str;`.
                let end = rest.find([';', '\n']).map_or(rest.len(), |end| end + 1);
                let name = &rest[..end];
                let line = if name.ends_with(';') { line } else { usize::MAX };
                rest = &rest[end..];
                Piece::Close { line }
            }
            _ => Piece::Code { text, line },
        });
    }
}

/// The lines of a comment, without the stars that begin them.
fn without_stars(text: &str) -> String {
    let lines = text.lines().enumerate().map(|(index, line)| {
        let trimmed = line.trim_start();
        match trimmed.strip_prefix('*') {
            Some(starred) if index > 0 => starred.strip_prefix(' ').unwrap_or(starred).trim_end().to_owned(),
            _ => trimmed.trim_end().to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
