//! The attributes of the servlet SDK: `#[servlet]`, `#[start]` and `#[stop]`.
//!
//! An author uses them through the crate `servlet`, which documents them. Each leaves its function as it is and adds one
//! static to a section of the library; `servlet::module!()` finds them there. What a function's arguments are is decided by
//! their types, in the crate `servlet`, not here. Written without syn and quote, so that a webapp builds offline and fast.

mod declaration;
mod function;
mod wrong;

use proc_macro::{Delimiter, Group, Ident, TokenStream, TokenTree};

use crate::declaration::Declaration;
use crate::function::Function;
use crate::wrong::Wrong;

#[doc = include_str!("servlet.md")]
#[proc_macro_attribute]
pub fn servlet(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("servlet", item, |function| {
        let declaration = Declaration::parse(arguments)?;
        let name = declaration.name.unwrap_or_else(|| function.name_literal());
        let code = format!(
            "const _: () = {{
                static PATTERNS: [::servlet::__glue::sv_str; {patterns_len}] = [{patterns}];
                static INIT: [::servlet::__glue::sv_pair; {init_len}] = [{init}];
                static SERVLET: ::servlet::__glue::sv_servlet = ::servlet::__glue::servlet(
                    {name}, &PATTERNS, &INIT, {methods}, {flags}, {load_order}, __function
                );
                #[used]
                #[unsafe(link_section = \"sv_servlets\")]
                static SLOT: ::servlet::__glue::Slot<::servlet::__glue::sv_servlet> =
                    ::servlet::__glue::Slot::new(&SERVLET);
            }};",
            patterns_len = declaration.patterns.len(),
            patterns = list(&declaration.patterns, |pattern| format!("::servlet::__glue::sv_str::new({pattern})")),
            init_len = declaration.init.len(),
            init = list(&declaration.init, |(name, value)| format!("::servlet::__glue::pair({name}, {value})")),
            methods = declaration.methods,
            flags = declaration.flags,
            load_order = declaration.load_order,
        );
        Ok(code)
    })
}

/// Makes the module's state when the library is loaded: `fn(&Context) -> Result<State>`.
///
/// Servlets receive it as their first argument, `&State`. An error, or a panic, refuses the new generation with its text;
/// the one before serves on. A module has at most one.
///
/// ```
/// use servlet::prelude::*;
///
/// struct Shop {
///     currency: String,
/// }
///
/// #[start]
/// fn start(context: &Context) -> Result<Shop> {
///     Ok(Shop { currency: context.param("currency").unwrap_or("EUR").to_owned() })
/// }
/// ```
#[proc_macro_attribute]
pub fn start(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("start", item, |function| {
        wrong::none_allowed("start", arguments)?;
        Ok(hook("start", function))
    })
}

/// Takes the module's state apart when its generation ends: `fn(State)`.
///
/// It is the last that runs of the library; every thread that the library started has to end in it. Without it the state is
/// dropped. A module has at most one.
///
/// ```
/// # use servlet::prelude::*;
/// # struct Shop;
/// # #[start] fn start(_: &Context) -> Result<Shop> { Ok(Shop) }
/// #[stop]
/// fn stop(shop: Shop) {
///     servlet::log::info!("the shop closes");
///     drop(shop);
/// }
/// ```
#[proc_macro_attribute]
pub fn stop(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("stop", item, |function| {
        wrong::none_allowed("stop", arguments)?;
        Ok(hook("stop", function))
    })
}

fn hook(kind: &str, function: &Function) -> String {
    format!(
        "const _: () = {{
            static HOOK: ::servlet::__glue::Hook = ::servlet::__glue::Hook::{kind}(
                ::core::concat!(::core::module_path!(), \"::\", {name}),
                &::servlet::__glue::Function(__function),
            );
            #[used]
            #[unsafe(link_section = \"sv_hooks\")]
            static SLOT: ::servlet::__glue::Slot<::servlet::__glue::Hook> = ::servlet::__glue::Slot::new(&HOOK);
        }};",
        name = function.name_literal(),
    )
}

/// Adds what `code` writes to the item. The item stays also when it is wrong, so that no error follows from its absence.
fn expand(attribute: &str, item: TokenStream, code: impl FnOnce(&Function) -> Result<String, Wrong>) -> TokenStream {
    let added = match Function::parse(attribute, item.clone()).and_then(|function| Ok((code(&function)?, function))) {
        Ok((code, function)) => {
            let tokens = code.parse().expect("the templates above are Rust");
            name_function(tokens, &function.name)
        }
        Err(wrong) => wrong.into_compile_error(),
    };
    [item, added].into_iter().collect()
}

/// Puts the function's name, with its place in the source, where the template says `__function`; so the compiler points
/// there when its arguments are wrong.
fn name_function(tokens: TokenStream, name: &Ident) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(ident) if ident.to_string() == "__function" => TokenTree::Ident(name.clone()),
            TokenTree::Group(group) if group.delimiter() != Delimiter::None => {
                TokenTree::Group(Group::new(group.delimiter(), name_function(group.stream(), name)))
            }
            other => other,
        })
        .collect()
}

fn list<T>(items: &[T], write: impl Fn(&T) -> String) -> String {
    items.iter().map(write).collect::<Vec<_>>().join(", ")
}
