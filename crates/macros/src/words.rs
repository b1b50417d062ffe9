//! What the arguments of several attributes are made of: texts, numbers, lists, URL patterns.

use proc_macro::{Delimiter, Group, Ident, Literal, Span, TokenTree, token_stream};

use crate::wrong::Wrong;

pub fn comma(tokens: &mut token_stream::IntoIter) -> Result<(), Wrong> {
    match tokens.next() {
        None => Ok(()),
        Some(TokenTree::Punct(mark)) if mark.as_char() == ',' => Ok(()),
        Some(other) => Err(Wrong::new(other.span(), format!("a comma is missing before `{other}`"))),
    }
}

/// What follows `word =`.
pub fn value(word: &Ident, tokens: &mut token_stream::IntoIter) -> Result<Option<TokenTree>, Wrong> {
    match tokens.next() {
        Some(TokenTree::Punct(mark)) if mark.as_char() == '=' => Ok(tokens.next()),
        _ => Err(Wrong::new(word.span(), format!("`{word}` takes a value: `{word} = ...`"))),
    }
}

pub fn group(
    word: &Ident,
    tokens: &mut token_stream::IntoIter,
    delimiter: Delimiter,
    expected: &str,
) -> Result<Group, Wrong> {
    match value(word, tokens)? {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Ok(group),
        Some(other) => Err(Wrong::new(other.span(), format!("`{word}` is {expected}"))),
        None => Err(Wrong::new(word.span(), format!("`{word}` is {expected}"))),
    }
}

pub fn text(before: Span, token: Option<TokenTree>, expected: &str) -> Result<String, Wrong> {
    match token {
        Some(TokenTree::Literal(literal)) if is_text(&literal) => Ok(literal.to_string()),
        Some(other) => Err(Wrong::new(other.span(), format!("here stands {expected}, not `{other}`"))),
        None => Err(Wrong::new(before, format!("here stands {expected}"))),
    }
}

pub fn is_text(literal: &Literal) -> bool {
    let written = literal.to_string();
    written.ends_with(['"', '#']) && (written.starts_with('"') || written.starts_with('r'))
}

pub fn number(word: &Ident, tokens: &mut token_stream::IntoIter) -> Result<String, Wrong> {
    let expected = format!("`{word}` is a whole number, such as 1 or -1");
    let (sign, number) = match value(word, tokens)? {
        Some(TokenTree::Punct(mark)) if mark.as_char() == '-' => ("-", tokens.next()),
        other => ("", other),
    };
    let Some(number) = number else { return Err(Wrong::new(word.span(), expected)) };
    match format!("{sign}{number}").parse::<i32>() {
        Ok(parsed) => Ok(parsed.to_string()),
        Err(_) => Err(Wrong::new(number.span(), expected)),
    }
}

/// Checks a URL pattern as far as it is written plainly; with escapes the server looks at it when it loads the library.
pub fn pattern(literal: &Literal) -> Result<String, Wrong> {
    let wrong = |text: &str| {
        Err(Wrong::new(
            literal.span(),
            format!(
                "{text}; a URL pattern is exact \"/a\", path \"/a/*\", extension \"*.txt\", template \"/a/{{id}}\", default \"/\", or the \
                 root \"\""
            ),
        ))
    };
    if !is_text(literal) {
        return wrong(&format!("`{literal}` is not a URL pattern"));
    }
    let written = literal.to_string();
    let plain = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|text| !text.contains('\\'));
    if let Some(pattern) = plain {
        let extension = pattern.strip_prefix("*.");
        if !(pattern.is_empty() || pattern.starts_with('/') || extension.is_some()) {
            return wrong("it begins with `/`");
        }
        if extension.is_some_and(|extension| extension.is_empty() || extension.contains(['/', '*'])) {
            return wrong("after `*.` comes an extension, without `/` and `*`");
        }
        if pattern.split('/').any(|segment| segment.contains(['{', '}']) && !is_name(segment)) {
            return wrong("between `/` and `/`, `{id}` stands alone, with a name of letters, digits and `_`");
        }
    }
    Ok(written)
}

pub fn init(list: &Group) -> Result<Vec<(String, String)>, Wrong> {
    let mut parameters = Vec::new();
    let mut tokens = list.stream().into_iter();
    while let Some(token) = tokens.next() {
        let at = token.span();
        let name = text(at, Some(token), "the name of a parameter in quotes, as in \"greeting\" = \"Hello\"")?;
        match tokens.next() {
            Some(TokenTree::Punct(mark)) if mark.as_char() == '=' => {}
            _ => return Err(Wrong::new(at, format!("{name} takes a value: {name} = \"...\""))),
        }
        let value = text(at, tokens.next(), "a text in quotes, as in \"greeting\" = \"Hello\"")?;
        if parameters.iter().any(|(other, _)| *other == name) {
            return Err(Wrong::new(at, format!("{name} stands here twice")));
        }
        parameters.push((name, value));
        comma(&mut tokens)?;
    }
    Ok(parameters)
}

/// Is that segment of a template `{name}`?
fn is_name(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

/// A list of words of one kind, such as `[GET, POST]`.
pub fn names(list: &Group, wrong: impl Fn(&TokenTree) -> Option<String>) -> Result<Vec<String>, Wrong> {
    let mut names = Vec::new();
    let mut tokens = list.stream().into_iter();
    while let Some(token) = tokens.next() {
        if let Some(wrong) = wrong(&token) {
            return Err(Wrong::new(token.span(), wrong));
        }
        names.push(token.to_string());
        comma(&mut tokens)?;
    }
    Ok(names)
}
