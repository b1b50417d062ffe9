//! The attributes of the servlet SDK: `#[servlet]`, `#[filter]`, `#[on]`, `#[job]`, and those of the module's state.
//!
//! An author uses them through the crate `servlet`, which documents them. Each leaves its function as it is and adds one
//! static to a section of the library; `servlet::module!()` finds them there. What a function's arguments are is decided by
//! their types, in the crate `servlet`, not here. Written without syn and quote, so that a webapp builds offline and fast.

mod declaration;
mod filter;
mod function;
mod words;
mod wrong;

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

use crate::declaration::Declaration;
use crate::function::Function;
use crate::wrong::Wrong;

#[doc = include_str!("servlet.md")]
#[proc_macro_attribute]
pub fn servlet(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("servlet", item, |function| {
        let mut declaration = Declaration::parse(arguments)?;
        if function.is_async && declaration.flags.contains("SV_NONBLOCKING") {
            return Err(Wrong::new(
                function.name.span(),
                "an async servlet is `inline` by itself; leave the word out, or write `blocking` if it may hold its thread",
            ));
        }
        // An async function only waits where it gives its thread back.
        if function.is_async && !declaration.flags.contains("SV_BLOCKING") {
            declaration.flags.push_str(" | ::servlet::__glue::SV_NONBLOCKING");
        }
        let name = declaration.name.unwrap_or_else(|| function.name_literal());
        let code = format!(
            "const _: () = {{
                {check}
                static PATTERNS: [::servlet::__glue::sv_str; {patterns_len}] = [{patterns}];
                static INIT: [::servlet::__glue::sv_pair; {init_len}] = [{init}];
                static SERVLET: ::servlet::__glue::sv_servlet = ::servlet::__glue::{servlet}(
                    ::servlet::__glue::Declared {{
                        name: {name},
                        patterns: &PATTERNS,
                        init: &INIT,
                        methods: {methods},
                        flags: {flags},
                        load_order: {load_order},
                        last_modified: {last_modified},
                    }},
                    __function
                );
                {slot}
            }};",
            check = moves_between_threads(function),
            patterns_len = declaration.patterns.len(),
            patterns = texts(&declaration.patterns),
            init_len = declaration.init.len(),
            init = pairs(&declaration.init),
            servlet = if function.is_async { "async_servlet" } else { "servlet" },
            methods = declaration.methods,
            flags = declaration.flags,
            load_order = declaration.load_order,
            last_modified = declaration.last_modified.map_or_else(
                || "None".to_owned(),
                |function| format!("Some(::servlet::__glue::last_modified({function}))")
            ),
            slot = slot("sv_servlets", "sv_servlet", "SERVLET"),
        );
        Ok(code)
    })
}

/// Never run: it lets the compiler say what of a future is not Send, and over which `.await` it is held.
fn moves_between_threads(function: &Function) -> String {
    if !function.is_async {
        return String::new();
    }
    let arguments = vec!["::servlet::__glue::any()"; function.arguments].join(", ");
    format!(
        "#[allow(dead_code, unreachable_code)]
        fn __moves_between_threads() {{ ::servlet::__glue::moves_between_threads(__function({arguments})) }}"
    )
}

#[doc = include_str!("filter.md")]
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let added = match filter::expand(arguments, item.clone()) {
        Ok(code) => code,
        Err(wrong) => wrong.into_compile_error(),
    };
    [item, added].into_iter().collect()
}

/// Calls a function when something happens: `fn(&E)` or `fn(&State, &E)`, where `E` fits the kinds in the attribute.
///
/// | kinds | `E` |
/// |---|---|
/// | `context_initialized`, `context_destroyed` | `ContextEvent` |
/// | `request_initialized`, `request_destroyed` | `RequestEvent` |
/// | `session_created`, `session_destroyed`, `session_id_changed` | `SessionEvent` |
/// | `context_attribute`, `request_attribute`, `session_attribute` | `AttributeEvent` |
///
/// Several kinds of one row may stand in one attribute. The function returns nothing or a `Result`. An error or a panic at
/// `context_initialized` refuses the webapp's new version, at `request_initialized` it is answered with 500 (a filter can
/// answer with anything else); of the others it is logged and changes nothing else.
///
/// ```
/// use servlet::prelude::*;
///
/// #[on(session_created, session_destroyed)]
/// fn sessions(event: &SessionEvent) {
///     servlet::log::info!("session {} {:?}", event.id(), event.happened());
/// }
/// ```
#[proc_macro_attribute]
pub fn on(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("on", item, |function| {
        let (kinds, event) = listener_kinds(arguments)?;
        Ok(format!(
            "const _: () = {{
                static LISTENER: ::servlet::__glue::sv_listener =
                    ::servlet::__glue::listener({kinds}, ::servlet::__glue::{event}, __function);
                {slot}
                {hook}
            }};",
            slot = slot("sv_listeners", "sv_listener", "LISTENER"),
            hook = hook(
                function,
                &format!("wants(NAME, ::servlet::__glue::listener_state(::servlet::__glue::{event}, __function))")
            ),
        ))
    })
}

fn listener_kinds(arguments: TokenStream) -> Result<(String, &'static str), Wrong> {
    const KINDS: [(&str, &str); 10] = [
        ("context_initialized", "OfContext"),
        ("context_destroyed", "OfContext"),
        ("request_initialized", "OfRequest"),
        ("request_destroyed", "OfRequest"),
        ("session_created", "OfSession"),
        ("session_destroyed", "OfSession"),
        ("session_id_changed", "OfSession"),
        ("context_attribute", "OfAttribute"),
        ("request_attribute", "OfAttribute"),
        ("session_attribute", "OfAttribute"),
    ];
    let allowed = || format!("allowed are {}", KINDS.map(|(kind, _)| kind).join(", "));
    let (mut bits, mut event) = (Vec::new(), None);
    let mut tokens = arguments.into_iter();
    while let Some(token) = tokens.next() {
        let word = token.to_string();
        let Some((kind, of)) = KINDS.iter().find(|(kind, _)| *kind == word) else {
            return Err(Wrong::new(token.span(), format!("`{word}` is not a kind of event; {}", allowed())));
        };
        if event.is_some_and(|event| event != *of) {
            return Err(Wrong::new(token.span(), format!("`{word}` has another type of event than those before it")));
        }
        event = Some(*of);
        bits.push(format!("::servlet::__glue::SV_EVENT_{}", kind.to_uppercase()));
        words::comma(&mut tokens)?;
    }
    let event = event.ok_or_else(|| {
        Wrong::new(proc_macro::Span::call_site(), format!("#[on(...)] says what it is called for; {}", allowed()))
    })?;
    Ok((bits.join(" | "), event))
}

/// Runs a function again and again beside the requests: `fn()`, `fn(&State)`, and both async.
///
/// `every` is how long after the start, and after each end, it is run: a number with `ms`, `s`, `m`, `h` or `d`. It belongs to
/// one generation: it begins after `#[start]` and has ended when `#[stop]` runs; an async one is dropped at its next `.await` if
/// it takes longer than 2 s then. Plain functions run on one thread of the library's own, one after the other, async ones on
/// another. An error that it returns, and a panic, is logged, and it is run again all the same.
///
/// ```
/// use servlet::prelude::*;
///
/// #[job(every = "10s")]
/// fn tick() {
///     servlet::log::info!("still here");
/// }
/// ```
#[proc_macro_attribute]
pub fn job(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("job", item, |function| {
        let milliseconds = job_every(arguments)?;
        Ok(format!(
            "const _: () = {{
                {check}
                static JOB: ::servlet::__glue::Job = ::servlet::__glue::job({milliseconds}, __function);
                {hook}
            }};",
            check = moves_between_threads(function),
            hook = hook(function, "job(NAME, &JOB)"),
        ))
    })
}

fn job_every(arguments: TokenStream) -> Result<u64, Wrong> {
    let expected = "a job says how often it runs, as in #[job(every = \"10s\")]; units are ms, s, m, h and d";
    let mut tokens = arguments.into_iter();
    let word = match tokens.next() {
        Some(TokenTree::Ident(word)) if word.to_string() == "every" => word,
        Some(other) => return Err(Wrong::new(other.span(), expected)),
        None => return Err(Wrong::new(proc_macro::Span::call_site(), expected)),
    };
    let value = words::value(&word, &mut tokens)?;
    let at = value.as_ref().map_or(word.span(), TokenTree::span);
    let text = words::text(at, value, "a time such as \"10s\"")?;
    if let Some(more) = tokens.next() {
        return Err(Wrong::new(more.span(), expected));
    }
    let text = text.trim_matches('"');
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(Wrong::new(at, expected)),
    };
    match digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(milliseconds) if milliseconds > 0 => Ok(milliseconds),
        _ => Err(Wrong::new(at, expected)),
    }
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
        Ok(only_hook("start", function))
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
        Ok(only_hook("stop", function))
    })
}

/// Hands bytes over to the next generation: `fn(&State) -> Vec<u8>`.
///
/// They are given to the `#[restore]` function of the next generation of this library. It is called while the old one still
/// serves, so they may miss its last changes, and maybe more than once. More than 16 MiB are not handed over.
///
/// ```
/// use servlet::prelude::*;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// struct Visits(AtomicU64);
///
/// #[start]
/// fn start(_: &Context) -> Result<Visits> {
///     Ok(Visits(AtomicU64::new(0)))
/// }
///
/// #[carry]
/// fn carry(visits: &Visits) -> Vec<u8> {
///     visits.0.load(Ordering::Relaxed).to_string().into_bytes()
/// }
///
/// #[restore]
/// fn restore(visits: &Visits, bytes: &[u8]) -> Result {
///     visits.0.store(std::str::from_utf8(bytes)?.parse()?, Ordering::Relaxed);
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn carry(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("carry", item, |function| {
        wrong::none_allowed("carry", arguments)?;
        Ok(only_hook("carry", function))
    })
}

/// Takes over what `#[carry]` of the generation before has handed over: `fn(&State, &[u8]) -> Result`.
///
/// It is called after `#[start]` and before the first request. An error, or a panic, refuses the new generation; so the bytes of
/// another version of the library are better left alone than refused. See [`macro@carry`].
#[proc_macro_attribute]
pub fn restore(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand("restore", item, |function| {
        wrong::none_allowed("restore", arguments)?;
        Ok(only_hook("restore", function))
    })
}

fn only_hook(kind: &str, function: &Function) -> String {
    let hook = hook(function, &format!("{kind}(NAME, &::servlet::__glue::Function(__function))"));
    format!("const _: () = {{ {hook} }};")
}

/// Declares a hook, made by a function of `Hook`.
fn hook(function: &Function, made: &str) -> String {
    format!(
        "const NAME: &str = ::core::concat!(::core::module_path!(), \"::\", {name});
        static HOOK: ::servlet::__glue::Hook = ::servlet::__glue::Hook::{made};
        const _: () = {{ {slot} }};",
        name = function.name_literal(),
        slot = slot("sv_hooks", "Hook", "HOOK"),
    )
}

/// Puts a static into a section, where `servlet::module!()` finds it.
fn slot(section: &str, of: &str, target: &str) -> String {
    format!(
        "#[used]
        #[unsafe(link_section = \"{section}\")]
        static SLOT: ::servlet::__glue::Slot<::servlet::__glue::{of}> = ::servlet::__glue::Slot::new(&{target});"
    )
}

/// Adds what `code` writes to the item. The item stays also when it is wrong, so that no error follows from its absence.
fn expand(attribute: &str, item: TokenStream, code: impl FnOnce(&Function) -> Result<String, Wrong>) -> TokenStream {
    let added = match Function::parse(attribute, item.clone()).and_then(|function| Ok((code(&function)?, function))) {
        Ok((code, function)) => {
            let tokens = code.parse().expect("the templates above are Rust");
            put(tokens, &TokenTree::Ident(function.name.clone()).into())
        }
        Err(wrong) => wrong.into_compile_error(),
    };
    [item, added].into_iter().collect()
}

/// Puts the author's tokens, with their place in the source, where the template says `__function`; so the compiler points there
/// when the types are wrong.
fn put(template: TokenStream, with: &TokenStream) -> TokenStream {
    template
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(ident) if ident.to_string() == "__function" => with.clone(),
            TokenTree::Group(group) if group.delimiter() != Delimiter::None => {
                TokenTree::Group(Group::new(group.delimiter(), put(group.stream(), with))).into()
            }
            other => other.into(),
        })
        .collect()
}

fn texts(items: &[String]) -> String {
    list(items, |text| format!("::servlet::__glue::sv_str::new({text})"))
}

fn pairs(items: &[(String, String)]) -> String {
    list(items, |(name, value)| format!("::servlet::__glue::pair({name}, {value})"))
}

fn list<T>(items: &[T], write: impl Fn(&T) -> String) -> String {
    items.iter().map(write).collect::<Vec<_>>().join(", ")
}
