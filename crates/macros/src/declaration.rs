//! What stands between the parentheses of `#[servlet(...)]`, as pieces of Rust code.

use std::collections::HashSet;

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree, token_stream};

use crate::words::{comma, group, init, number, pattern, text, value};
use crate::wrong::Wrong;

const WORDS: &str = "allowed are URL patterns such as \"/hello/*\", and methods = [...], inline, blocking, keep, multipart, \
                     name = \"...\", init = { \"...\" = \"...\" }, load_order = 1, last_modified = function, unmapped";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];

/// Text stays the literal that the author wrote, with its quotes and escapes.
pub struct Declaration {
    pub patterns: Vec<String>,
    pub methods: String,
    pub flags: String,
    pub name: Option<String>,
    pub init: Vec<(String, String)>,
    pub load_order: String,
    /// The name of a function.
    pub last_modified: Option<String>,
}

impl Declaration {
    pub fn parse(arguments: TokenStream) -> Result<Declaration, Wrong> {
        let mut declaration = Declaration {
            patterns: Vec::new(),
            methods: method("GET"),
            flags: "0".to_owned(),
            name: None,
            init: Vec::new(),
            load_order: "-1".to_owned(),
            last_modified: None,
        };
        let mut seen = HashSet::new();
        let mut tokens = arguments.into_iter();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Literal(literal) => {
                    let pattern = pattern(&literal)?;
                    if !seen.insert(pattern.clone()) {
                        return Err(Wrong::new(literal.span(), "this URL pattern stands here twice"));
                    }
                    declaration.patterns.push(pattern);
                }
                TokenTree::Ident(word) => {
                    if !seen.insert(word.to_string()) {
                        return Err(Wrong::new(word.span(), format!("`{word}` stands here twice")));
                    }
                    declaration.word(&word, &mut tokens)?;
                }
                other => return Err(Wrong::new(other.span(), format!("`{other}` does not belong here; {WORDS}"))),
            }
            comma(&mut tokens)?;
        }
        if declaration.patterns.is_empty() && !seen.contains("unmapped") {
            return Err(Wrong::new(
                Span::call_site(),
                "a servlet needs a URL pattern, such as #[servlet(\"/hello/*\")]",
            ));
        }
        Ok(declaration)
    }

    fn word(&mut self, word: &Ident, tokens: &mut token_stream::IntoIter) -> Result<(), Wrong> {
        match word.to_string().as_str() {
            "inline" if self.flags.contains("SV_BLOCKING") => Err(contradiction(word)),
            "blocking" if self.flags.contains("SV_NONBLOCKING") => Err(contradiction(word)),
            "inline" => self.flag("SV_NONBLOCKING"),
            "blocking" => self.flag("SV_BLOCKING"),
            "multipart" => self.flag("SV_MULTIPART"),
            "keep" => self.flag("SV_KEEP"),
            "methods" => {
                let list = group(word, tokens, Delimiter::Bracket, "a list such as [GET, POST]")?;
                self.methods = methods(&list)?;
                Ok(())
            }
            "name" => {
                let name = text(word.span(), value(word, tokens)?, "a name such as \"hello\"")?;
                if name.trim_matches('"').is_empty() {
                    return Err(Wrong::new(word.span(), "the name of a servlet is not empty"));
                }
                self.name = Some(name);
                Ok(())
            }
            "init" => {
                let list = group(word, tokens, Delimiter::Brace, "parameters such as { \"greeting\" = \"Hello\" }")?;
                self.init = init(&list)?;
                Ok(())
            }
            "load_order" => {
                self.load_order = number(word, tokens)?;
                Ok(())
            }
            "last_modified" => match value(word, tokens)? {
                Some(TokenTree::Ident(function)) => {
                    self.last_modified = Some(function.to_string());
                    Ok(())
                }
                _ => Err(Wrong::new(word.span(), "`last_modified` is the name of a function: last_modified = changed")),
            },
            "unmapped" => Ok(()),
            other => Err(Wrong::new(word.span(), format!("`{other}` is not known here; {WORDS}"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<(), Wrong> {
        self.flags.push_str(" | ::servlet::__glue::");
        self.flags.push_str(name);
        Ok(())
    }
}

fn contradiction(word: &Ident) -> Wrong {
    Wrong::new(
        word.span(),
        "`inline` and `blocking` contradict each other; keep one, or neither to let the server find out",
    )
}

fn method(name: &str) -> String {
    format!("::servlet::Method::{name}.bits()")
}

fn methods(list: &Group) -> Result<String, Wrong> {
    let allowed = format!("allowed are {}, or ANY alone", METHODS.join(", "));
    let mut names = Vec::new();
    let mut any = false;
    let mut tokens = list.stream().into_iter();
    while let Some(token) = tokens.next() {
        let name = token.to_string();
        match &token {
            TokenTree::Ident(_) if name == "ANY" => any = true,
            TokenTree::Ident(_) if METHODS.contains(&name.as_str()) => names.push(method(&name)),
            _ => return Err(Wrong::new(token.span(), format!("`{name}` is not a method of HTTP here; {allowed}"))),
        }
        comma(&mut tokens)?;
    }
    match (any, names.is_empty()) {
        (true, true) => Ok("0".to_owned()),
        (false, false) => Ok(names.join(" | ")),
        (true, false) => Err(Wrong::new(list.span(), "ANY stands alone: methods = [ANY]")),
        (false, true) => Err(Wrong::new(list.span(), format!("a servlet handles at least one method; {allowed}"))),
    }
}
