//! servlet.h as a page: its manual, an entry for each thing that it declares, and the examples. One file of HTML that
//! needs nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::parse::{Entry, Header, is_word};

/// An example's file name and its text.
pub struct Example {
    pub name: String,
    pub text: String,
}

pub fn page(header: &Header, examples: &[Example]) -> String {
    let names: BTreeSet<&str> = header.sections.iter().flat_map(|section| &section.entries).flat_map(anchors).collect();
    let page = Page { names, examples };
    let (manual, mut contents) = page.manual(&header.manual);
    let mut reference = String::new();
    for section in &header.sections {
        let title = sentence(if section.title.is_empty() { "basics" } else { &section.title });
        let id = slug(&title);
        let _ = write!(contents, "<li><a href=\"#{id}\">{}</a>", escaped(&title));
        let _ = writeln!(reference, "<section id=\"{id}\"><h2>{}</h2>", escaped(&title));
        for entry in &section.entries {
            page.entry(entry, "", &mut reference);
            let groups = entry.members.iter().filter(|member| member.is_title);
            let links: String = groups
                .map(|group| format!("<li><a href=\"#{}\">{}</a>", slug(&group.name), escaped(&sentence(&group.name))))
                .collect();
            if !links.is_empty() {
                let _ = write!(contents, "<ul>{links}</ul>");
            }
        }
        reference.push_str("</section>\n");
    }
    contents.push_str("<li><a href=\"#examples\">Examples</a>");
    let _ = writeln!(reference, "<section id=\"examples\"><h2>Examples</h2>");
    for example in examples {
        let (id, text) = (slug(&example.name), page.linked(&example.text));
        let _ = writeln!(
            reference,
            "<details id=\"{id}\"><summary>{}</summary><pre>{text}</pre></details>",
            escaped(&example.name)
        );
    }
    reference.push_str("</section>\n");
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>servlet.h</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n\
         <nav><details><summary>servlet.h</summary><ul>{contents}</ul></details></nav>\n\
         <main>\n{manual}{reference}</main>\n\
         <script>{SCRIPT}</script>\n</html>\n"
    )
}

const STYLE: &str = include_str!("page.css");

/// A link into what is folded opens it; on a wide screen the contents are open.
const SCRIPT: &str = "const open=()=>{const it=document.getElementById(location.hash.slice(1));\
if(it&&it.tagName==='DETAILS'){it.open=true;it.scrollIntoView()}};addEventListener('hashchange',open);open();\
if(matchMedia('(min-width:60rem)').matches)document.querySelector('nav details').open=true";

/// What can be linked to of an entry by its name alone: itself, and the functions of the host's table.
fn anchors(entry: &Entry) -> Vec<&str> {
    let members = entry.members.iter().filter(|member| is_function(member) && entry.name == HOST);
    members.map(|member| member.name.as_str()).chain([entry.name.as_str()]).collect()
}

const HOST: &str = "sv_host";

fn is_function(entry: &Entry) -> bool {
    entry.code.contains("(*")
}

struct Page<'a> {
    names: BTreeSet<&'a str>,
    examples: &'a [Example],
}

impl Page<'_> {
    /// The first comment, and the items of its sections for the contents.
    fn manual(&self, lines: &[String]) -> (String, String) {
        let (mut html, mut contents) = (String::new(), String::new());
        let mut text: Vec<&str> = Vec::new();
        let mut lines = lines.iter();
        let first = lines.next().map(String::as_str).unwrap_or_default();
        let (name, about) = first.split_once(" - ").unwrap_or((first, ""));
        let _ = writeln!(html, "<section><h1>{}</h1><p>{}</p>", escaped(name), escaped(&sentence(about)));
        for line in lines {
            let Some((number, title, rest)) = heading(line) else {
                text.push(line);
                continue;
            };
            self.text(&text.join("\n"), &mut html);
            text.clear();
            let id = slug(&title);
            let _ = write!(contents, "<li><a href=\"#{id}\">{number}. {}</a>", escaped(&title));
            let _ = writeln!(html, "</section><section id=\"{id}\"><h2>{number}. {}</h2>", escaped(&title));
            if let Some(note) = rest.strip_prefix('(') {
                let _ = writeln!(html, "<p>{}.</p>", self.linked(&sentence(note.trim_end_matches(')'))));
            } else if !rest.is_empty() {
                // A title without a point is how its first sentence begins.
                let is_whole = line.contains(&format!("{}. ", title.to_ascii_uppercase()));
                let begin = if is_whole { rest.to_owned() } else { format!("{title} {rest}") };
                let _ = writeln!(html, "<p>{}", self.linked(&begin));
                text.push("\u{1}");
            }
        }
        self.text(&text.join("\n"), &mut html);
        html.push_str("</section>\n");
        (html, contents)
    }

    /// A struct, a function, or any other declaration, with its members.
    fn entry(&self, entry: &Entry, within: &str, html: &mut String) {
        if entry.is_title {
            let _ = writeln!(html, "<h3 id=\"{}\">{}</h3>", slug(&entry.name), escaped(&sentence(&entry.name)));
            self.text(&entry.text.join("\n"), html);
            return;
        }
        let (element, class) = match entry.members.is_empty() {
            false => ("section", "entry"),
            true if is_function(entry) => ("div", "entry"),
            // A row: what it is, and what it means.
            true => ("div", "entry row"),
        };
        let of_the_host = within == HOST && is_function(entry);
        let id = if within.is_empty() || of_the_host {
            slug(&entry.name)
        } else {
            slug(&format!("{within} {}", entry.name))
        };
        // Who calls it, and where, stands behind a function's name.
        let mut tag = "";
        let mut texts = Vec::new();
        for text in &entry.text {
            match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((who, rest)) if TAGS.contains(&who) => {
                    tag = who;
                    texts.push(rest);
                }
                _ => texts.push(text.as_str()),
            }
        }
        let tag = if tag.is_empty() { String::new() } else { format!(" <b class=\"tag\">{tag}</b>") };
        let code = self.code(&entry.code, &entry.name, &id);
        let _ = writeln!(html, "<{element} class=\"{class}\" id=\"{id}\"><pre>{code}{tag}</pre>");
        for text in texts {
            self.text(text, html);
        }
        let call = format!("->{}(", entry.name);
        let users = self.examples.iter().filter(|example| of_the_host && example.text.contains(&call));
        let used: Vec<String> =
            users.map(|user| format!("<a href=\"#{}\">{}</a>", slug(&user.name), escaped(&user.name))).collect();
        if !used.is_empty() {
            let _ = writeln!(html, "<p class=\"used\">Example: {}</p>", used.join(", "));
        }
        for member in &entry.members {
            self.entry(member, &entry.name, html);
        }
        let _ = writeln!(html, "</{element}>");
    }

    /// A comment: paragraphs, lists, words with their meaning, and lines of a shell.
    fn text(&self, text: &str, html: &mut String) {
        let base = text.lines().filter(|line| !line.trim().is_empty()).skip(1).map(indent).min().unwrap_or(0);
        let mut open = "";
        let mut begun = false;
        for line in text.lines() {
            if line == "\u{1}" {
                // A paragraph that was begun already goes on.
                (open, begun) = ("p", true);
                continue;
            }
            let trimmed = line.trim();
            let deep = indent(line) > base && begun;
            let (kind, content) = if trimmed.is_empty() {
                ("", String::new())
            } else if let Some(item) = trimmed.strip_prefix("- ") {
                ("ul", format!("<li>{}", self.linked(item)))
            } else if trimmed.starts_with("cc -") {
                ("pre", escaped(trimmed))
            } else if let Some((word, meaning)) = word_and_meaning(trimmed).filter(|_| indent(line) <= 3 && base <= 3) {
                ("dl", format!("<dt>{}<dd>{}", tagged(&escaped(word)), self.linked(meaning)))
            } else if deep && !open.is_empty() {
                (open, self.linked(trimmed))
            } else {
                ("p", self.linked(trimmed))
            };
            if kind != open {
                if !open.is_empty() {
                    let _ = writeln!(html, "</{open}>");
                }
                if !kind.is_empty() {
                    let _ = write!(html, "<{kind}>");
                }
                open = kind;
            }
            begun |= !trimmed.is_empty();
            let _ = writeln!(html, "{content}");
        }
        if !open.is_empty() {
            let _ = writeln!(html, "</{open}>");
        }
    }

    /// A declaration, in which its own name is a link to it, and types and macros lead to theirs.
    fn code(&self, code: &str, name: &str, id: &str) -> String {
        let own = |word: &str| name.split(", ").any(|own| own == word);
        let is_type = |word: &str| word.starts_with("sv_") || word.starts_with("SV_");
        in_words(code, |word, _| match word {
            word if own(word) => format!("<a class=\"own\" href=\"#{id}\">{word}</a>"),
            word if is_type(word) && self.names.contains(word) => format!("<a href=\"#{word}\">{word}</a>"),
            word => word.to_owned(),
        })
    }

    /// Text in which the names of the header are links: those that cannot be other words.
    fn linked(&self, text: &str) -> String {
        let html = in_words(text, |word, after| match self.names.contains(word) {
            true if word.contains('_') || after.starts_with('(') => format!("<a href=\"#{word}\">{word}</a>"),
            _ => word.to_owned(),
        });
        tagged(&html)
    }
}

/// Text as HTML, with each word as `write` writes it, which sees what comes after.
fn in_words(text: &str, write: impl Fn(&str, &str) -> String) -> String {
    let mut html = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !is_word(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        html.push_str(&if word.is_empty() { String::new() } else { write(word, after) });
        let next = after.find(is_word).unwrap_or(after.len());
        html.push_str(&escaped(&after[..next]));
        rest = &after[next..];
    }
    html
}

const TAGS: [&str; 4] = ["control", "worker", "exchange", "any"];

/// `[any]` and the others, as marks.
fn tagged(html: &str) -> String {
    TAGS.iter()
        .fold(html.to_owned(), |html, tag| html.replace(&format!("[{tag}]"), &format!("<b class=\"tag\">{tag}</b>")))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// `word    what it means`, in columns; a tag in brackets needs no more than one space.
fn word_and_meaning(line: &str) -> Option<(&str, &str)> {
    let (word, meaning) = line.split_once(' ')?;
    let in_columns = meaning.starts_with(' ') || (word.starts_with('[') && word.ends_with(']'));
    in_columns.then(|| (word, meaning.trim_start()))
}

/// ` 2. WHO CALLS, AND WHERE (the tags)`: its number, its title as a sentence, and what follows.
fn heading(line: &str) -> Option<(&str, String, &str)> {
    let (number, title) = line.split_once(". ").filter(|(number, _)| number.parse::<u32>().is_ok())?;
    let mut end = 0;
    for word in title.split_inclusive(' ') {
        if word.chars().any(|letter| letter.is_ascii_lowercase()) || word.starts_with('(') {
            break;
        }
        end += word.len();
        if word.trim_end().ends_with('.') {
            break;
        }
    }
    let (title, rest) = title.split_at(end);
    let title = title.trim().trim_end_matches('.');
    (!title.is_empty()).then(|| (number, sentence(&title.to_ascii_lowercase()), rest.trim()))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// A name for an anchor.
pub fn slug(text: &str) -> String {
    let words = text.split(|letter: char| !is_word(letter)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
