//! The item under an attribute: is it a plain function, and what is its name?

use proc_macro::{Delimiter, Ident, Span, TokenStream, TokenTree};

use crate::wrong::Wrong;

pub struct Function {
    pub name: Ident,
}

impl Function {
    pub fn parse(attribute: &str, item: TokenStream) -> Result<Function, Wrong> {
        let mut tokens = item.into_iter().peekable();
        let mut first = None;
        while let Some(token) = tokens.next() {
            let span = token.span();
            match &token {
                // Attributes: `#` and `[...]`.
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    tokens.next();
                    continue;
                }
                TokenTree::Ident(word) => match word.to_string().as_str() {
                    "fn" => return Function::named(attribute, span, tokens),
                    "async" => {
                        return Err(Wrong::new(
                            span,
                            format!(
                                "#[{attribute}] on an async fn comes with a later version of the SDK; write a plain fn"
                            ),
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

    fn named(attribute: &str, at: Span, mut tokens: impl Iterator<Item = TokenTree>) -> Result<Function, Wrong> {
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(not_a_function(attribute, at));
        };
        for token in tokens {
            let TokenTree::Group(arguments) = token else { continue };
            if arguments.delimiter() != Delimiter::Parenthesis {
                break;
            }
            let receiver = arguments.stream().into_iter().take(4).find(|token| token.to_string() == "self");
            return match receiver {
                Some(receiver) => Err(Wrong::new(
                    receiver.span(),
                    format!(
                        "#[{attribute}] goes on a function outside of an impl, so there is no `self`; take the module's state as `&State`"
                    ),
                )),
                None => Ok(Function { name }),
            };
        }
        Ok(Function { name })
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
            _ => "hello(request: &Request, response: &mut Response) -> Result",
        }))
}
