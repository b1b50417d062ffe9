//! `#[filter(...)]` on `impl Filter for T`: what stands in its parentheses, and which functions the `impl` has.

use std::collections::HashSet;

use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

use crate::words::{comma, group, init, names, number, pattern, text, value};
use crate::wrong::Wrong;
use crate::{pairs, slot, texts};

const WORDS: &str = "allowed are URL patterns such as \"/*\", and servlets = [\"...\"], order = 1, dispatches = [...], inline, \
                     name = \"...\", init = { \"...\" = \"...\" }, unmapped";

const DISPATCHES: [&str; 5] = ["REQUEST", "FORWARD", "INCLUDE", "ERROR", "ASYNC"];

struct Declaration {
    patterns: Vec<String>,
    servlets: Vec<String>,
    dispatches: String,
    flags: &'static str,
    name: Option<String>,
    init: Vec<(String, String)>,
    order: String,
}

/// The `impl` below the attribute.
struct Item {
    /// The type, as it is written.
    of: TokenStream,
    functions: HashSet<String>,
}

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Wrong> {
    let item = Item::parse(item)?;
    let declaration = Declaration::parse(arguments)?;
    let has = |function| item.functions.contains(function);
    let name = declaration.name.unwrap_or_else(|| {
        // `shop::Trace` is `Trace`.
        let last = item.of.clone().into_iter().filter(|token| matches!(token, TokenTree::Ident(_))).last();
        format!("{:?}", last.map(|name| name.to_string()).unwrap_or_default())
    });
    let make = if has("create") {
        "|config| <__function as ::servlet::Filter>::create(config)"
    } else {
        "::servlet::__glue::by_default::<__function>"
    };
    let code = format!(
        "const _: () = {{
            static PATTERNS: [::servlet::__glue::sv_str; {patterns_len}] = [{patterns}];
            static SERVLETS: [::servlet::__glue::sv_str; {servlets_len}] = [{servlets}];
            static INIT: [::servlet::__glue::sv_pair; {init_len}] = [{init}];
            static FILTER: ::servlet::__glue::sv_filter = ::servlet::__glue::filter::<__function, _>(
                ::servlet::__glue::DeclaredFilter {{
                    name: {name},
                    patterns: &PATTERNS,
                    servlets: &SERVLETS,
                    init: &INIT,
                    flags: {flags},
                    dispatches: {dispatches},
                    order: {order},
                    has_response: {has_response},
                    has_body: {has_body},
                }},
                {make}
            );
            {slot}
        }};",
        patterns_len = declaration.patterns.len(),
        patterns = texts(&declaration.patterns),
        servlets_len = declaration.servlets.len(),
        servlets = texts(&declaration.servlets),
        init_len = declaration.init.len(),
        init = pairs(&declaration.init),
        flags = declaration.flags,
        dispatches = declaration.dispatches,
        order = declaration.order,
        has_response = has("response"),
        has_body = has("body"),
        slot = slot("sv_filters", "sv_filter", "FILTER"),
    );
    Ok(crate::put(code.parse().expect("the template above is Rust"), &item.of))
}

impl Item {
    fn parse(item: TokenStream) -> Result<Item, Wrong> {
        let at = item.clone().into_iter().next().map_or_else(Span::call_site, |first| first.span());
        let wrong =
            || Wrong::new(at, "#[filter] goes on the implementation of a filter: `impl Filter for Trace { ... }`");
        let mut tokens = item.into_iter().skip_while(|token| token.to_string() != "impl");
        let mut tokens = match tokens.next() {
            Some(_) => tokens.skip_while(|token| token.to_string() != "for"),
            None => return Err(wrong()),
        };
        tokens.next().ok_or_else(wrong)?;
        let mut of = TokenStream::new();
        for token in tokens {
            match token {
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                    return Ok(Item { of, functions: functions(&body) });
                }
                other => of.extend([other]),
            }
        }
        Err(wrong())
    }
}

fn functions(body: &Group) -> HashSet<String> {
    let mut tokens = body.stream().into_iter();
    let mut names = HashSet::new();
    while let Some(token) = tokens.next() {
        if token.to_string() == "fn" {
            names.extend(tokens.next().map(|name| name.to_string()));
        }
    }
    names
}

impl Declaration {
    fn parse(arguments: TokenStream) -> Result<Declaration, Wrong> {
        let mut declaration = Declaration {
            patterns: Vec::new(),
            servlets: Vec::new(),
            dispatches: "0".to_owned(),
            flags: "0",
            name: None,
            init: Vec::new(),
            order: "0".to_owned(),
        };
        let mut seen = HashSet::new();
        let mut tokens = arguments.into_iter();
        while let Some(token) = tokens.next() {
            if !seen.insert(token.to_string()) {
                return Err(Wrong::new(token.span(), format!("{token} stands here twice")));
            }
            match token {
                TokenTree::Literal(literal) if literal.to_string() == "\"*\"" => {
                    declaration.patterns.push(literal.to_string());
                }
                TokenTree::Literal(literal) => declaration.patterns.push(pattern(&literal)?),
                TokenTree::Ident(word) => match word.to_string().as_str() {
                    "inline" => declaration.flags = "::servlet::__glue::SV_NONBLOCKING",
                    "unmapped" => {}
                    "order" => declaration.order = number(&word, &mut tokens)?,
                    "name" => {
                        declaration.name =
                            Some(text(word.span(), value(&word, &mut tokens)?, "a name such as \"trace\"")?);
                    }
                    "init" => {
                        let expected = "parameters such as { \"greeting\" = \"Hello\" }";
                        declaration.init = init(&group(&word, &mut tokens, Delimiter::Brace, expected)?)?;
                    }
                    "servlets" => {
                        let list = group(&word, &mut tokens, Delimiter::Bracket, "a list such as [\"hello\"]")?;
                        declaration.servlets = names(&list, |token| {
                            let is_text =
                                matches!(token, TokenTree::Literal(name) if name.to_string().starts_with('"'));
                            (!is_text).then(|| format!("here stands the name of a servlet in quotes, not `{token}`"))
                        })?;
                    }
                    "dispatches" => {
                        let list = group(&word, &mut tokens, Delimiter::Bracket, "a list such as [REQUEST, FORWARD]")?;
                        let dispatches = names(&list, |token| {
                            let known = DISPATCHES.contains(&token.to_string().as_str());
                            let allowed = DISPATCHES.join(", ");
                            (!known).then(|| format!("`{token}` is not a dispatch; allowed are {allowed}"))
                        })?;
                        let bits = dispatches.iter().map(|name| format!("::servlet::__glue::SV_DISPATCH_{name}"));
                        declaration.dispatches = bits.chain(["0".to_owned()]).collect::<Vec<_>>().join(" | ");
                    }
                    other => return Err(Wrong::new(word.span(), format!("`{other}` is not known here; {WORDS}"))),
                },
                other => return Err(Wrong::new(other.span(), format!("`{other}` does not belong here; {WORDS}"))),
            }
            comma(&mut tokens)?;
        }
        if declaration.patterns.is_empty() && declaration.servlets.is_empty() && !seen.contains("unmapped") {
            return Err(Wrong::new(
                Span::call_site(),
                "a filter needs a URL pattern or a servlet, such as #[filter(\"/*\")] or #[filter(servlets = [\"hello\"])]",
            ));
        }
        Ok(declaration)
    }
}
