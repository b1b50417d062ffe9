//! What is wrong with an attribute, and at which token; becomes a `compile_error!` there.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

pub struct Wrong {
    at: Span,
    text: String,
}

impl Wrong {
    pub fn new(at: Span, text: impl Into<String>) -> Wrong {
        Wrong { at, text: text.into() }
    }

    pub fn into_compile_error(self) -> TokenStream {
        let mut text = Literal::string(&self.text);
        text.set_span(self.at);
        let mut arguments = Group::new(Delimiter::Brace, TokenTree::Literal(text).into());
        arguments.set_span(self.at);
        let mut bang = Punct::new('!', Spacing::Alone);
        bang.set_span(self.at);
        let path = ":: core ::".parse::<TokenStream>().expect("a path").into_iter().map(|mut token| {
            token.set_span(self.at);
            token
        });
        path.chain([
            TokenTree::Ident(Ident::new("compile_error", self.at)),
            TokenTree::Punct(bang),
            TokenTree::Group(arguments),
        ])
        .collect()
    }
}

/// Refuses arguments of an attribute that has none.
pub fn none_allowed(attribute: &str, arguments: TokenStream) -> Result<(), Wrong> {
    match arguments.into_iter().next() {
        None => Ok(()),
        Some(first) => {
            Err(Wrong::new(first.span(), format!("#[{attribute}] takes nothing; write just #[{attribute}]")))
        }
    }
}
