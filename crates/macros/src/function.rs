//! The item under an attribute: is it a function, what is its name, is it async, and how many arguments does it have?

use proc_macro::{Delimiter, Ident, Span, TokenStream, TokenTree};

use crate::wrong::Wrong;

pub struct Function {
    pub name: Ident,
    pub is_async: bool,
    pub arguments: usize,
}

impl Function {
    pub fn parse(attribute: &str, item: TokenStream) -> Result<Function, Wrong> {
        let mut tokens = item.into_iter().peekable();
        let mut first = None;
        let mut is_async = false;
        while let Some(token) = tokens.next() {
            let span = token.span();
            match &token {
                // Attributes: `#` and `[...]`.
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    tokens.next();
                    continue;
                }
                TokenTree::Ident(word) => match word.to_string().as_str() {
                    "fn" => return Function::named(attribute, span, is_async, tokens),
                    "async" if matches!(attribute, "servlet" | "job") => is_async = true,
                    "async" => {
                        return Err(Wrong::new(
                            span,
                            format!("a #[{attribute}] function is a plain fn; it may hand work to `Context::spawn`"),
                        ));
                    }
                    "unsafe" | "extern" => {
                        return Err(Wrong::new(
                            span,
                            format!("a #[{attribute}] function is a plain safe fn: without `{word}`"),
                        ));
                    }
                    "pub" | "crate" | "const" => {}
                    _ => return Err(not_a_function(attribute, span)),
                },
                // `pub(crate)`, and what a macro wraps without delimiters.
                TokenTree::Group(group) if matches!(group.delimiter(), Delimiter::Parenthesis | Delimiter::None) => {}
                _ => return Err(not_a_function(attribute, span)),
            }
            first.get_or_insert(span);
        }
        Err(not_a_function(attribute, first.unwrap_or_else(Span::call_site)))
    }

    fn named(
        attribute: &str,
        at: Span,
        is_async: bool,
        mut tokens: impl Iterator<Item = TokenTree>,
    ) -> Result<Function, Wrong> {
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(not_a_function(attribute, at));
        };
        let group = tokens.find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(group.stream()),
            _ => None,
        });
        let arguments = group.unwrap_or_default();
        if let Some(receiver) = arguments.clone().into_iter().take(4).find(|token| token.to_string() == "self") {
            return Err(Wrong::new(
                receiver.span(),
                format!(
                    "#[{attribute}] goes on a function outside of an impl, so there is no `self`; take the module's state as `&State`"
                ),
            ));
        }
        Ok(Function { name, is_async, arguments: count(arguments) })
    }

    /// The name as a string literal of Rust.
    pub fn name_literal(&self) -> String {
        format!("{:?}", self.name.to_string().trim_start_matches("r#"))
    }
}

fn not_a_function(attribute: &str, at: Span) -> Wrong {
    Wrong::new(at, format!("#[{attribute}] goes on a function, such as `fn hello(request: &Request, response: &mut Response) -> Result`")
        .replace("hello(request: &Request, response: &mut Response) -> Result", match attribute {
            "start" => "start(context: &Context) -> Result<State>",
            "stop" => "stop(state: State)",
            "carry" => "carry(state: &State) -> Vec<u8>",
            "restore" => "restore(state: &State, bytes: &[u8]) -> Result",
            "on" => "created(event: &SessionEvent)",
            "job" => "tick(state: &State)",
            _ => "hello(request: &Request, response: &mut Response) -> Result",
        }))
}

/// Counts arguments: they are parted by commas that stand in no other type's `<...>`.
fn count(arguments: TokenStream) -> usize {
    let (mut count, mut depth, mut before, mut open) = (0, 0, ' ', false);
    for token in arguments {
        let mark = if let TokenTree::Punct(mark) = &token { mark.as_char() } else { ' ' };
        match mark {
            '<' => depth += 1,
            // Not that of `->`.
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        let parts = mark == ',' && depth == 0;
        count += usize::from(!parts && !open);
        open = !parts;
        before = mark;
    }
    count
}
