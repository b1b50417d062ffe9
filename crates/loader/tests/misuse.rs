//! Whatever a library does with the table gets a status, changes nothing, and harms nobody: the checks stand in misuse.c, in the
//! language of the header, and run here with a mock of the container. e2e's faults.rs runs them with the real one, where those
//! about the state of the response mean something. Needs `cc`.

mod mock;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use mock::{MockContext, MockExchange};
use serval_abi::SV_E_UNSUPPORTED;
use serval_loader::library::{Library, Module, Outcome, Servlet};

fn library() -> Arc<Library> {
    static LIBRARY: OnceLock<Arc<Library>> = OnceLock::new();
    let open = || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("misuse.so");
        mock::compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/misuse.c"), &[], &file);
        Arc::new(Library::open(&file).unwrap().expect("it has an entry"))
    };
    LIBRARY.get_or_init(open).clone()
}

/// A module that ends with its last servlet.
fn start() -> Servlet {
    let module: Arc<Module> = Arc::new(library().start(Arc::new(MockContext)).unwrap());
    Servlet::create(&module, 0, "misuse", Vec::new()).unwrap()
}

/// One for all tests, but the one about what has ended.
fn servlet() -> &'static Servlet {
    static SERVLET: OnceLock<Servlet> = OnceLock::new();
    SERVLET.get_or_init(|| {
        // So that there is a context that has ended.
        drop(start());
        start()
    })
}

fn call(name: &str) -> (Outcome, MockExchange) {
    let mut exchange = MockExchange::new(&format!("/{name}"));
    let outcome = servlet().service(&mut exchange);
    (outcome, exchange)
}

#[track_caller]
fn check(name: &str) -> MockExchange {
    let (outcome, exchange) = call(name);
    if let Some(failure) = exchange.failure.as_deref().filter(|failure| failure.starts_with("check: ")) {
        panic!("{}", failure.replace("; ", "\n"));
    }
    assert_eq!(outcome, Outcome::Done, "{name}");
    exchange
}

#[test]
fn handles_that_are_none() {
    check("null_handles");
    check("made_up_handles");
    check("handles_of_another_kind");
}

#[test]
fn a_thread_that_does_not_own_the_exchange_changes_nothing() {
    check("another_thread");
}

#[test]
fn threads_that_call_while_exchanges_begin_and_end() {
    check("hammer_begins");
    for _ in 0..2000 {
        check("is_hammered");
    }
    check("hammer_ends");
}

#[test]
fn handles_that_have_ended() {
    check("keep_the_handle");
    check("ended_handle");
    check("ended_context");
}

#[test]
fn texts_and_bytes_that_are_none() {
    check("texts");
    assert!(check("no_text_is_the_empty_text").answer.contains_key("x-empty"));
}

#[test]
fn header_fields_that_would_break_the_message() {
    assert_eq!(check("header_fields").answer.len(), 1);
}

#[test]
fn numbers_and_structs_that_are_none() {
    check("numbers");
    check("sizes_of_structs");
}

#[test]
fn places_for_results_that_are_none() {
    assert_eq!(check("places").written, 0);
}

#[test]
fn a_body_is_taken_over_only_with_sv_ok() {
    assert_eq!(check("owned_bodies_of_errors").written, 10);
    assert_eq!(check("release_that_calls").written, "whole answer".len());
}

#[test]
fn what_comes_later_is_unsupported() {
    check("unsupported");
}

#[test]
fn the_last_error_is_told() {
    check("error_texts");
}

#[test]
fn memory_of_a_dispatch_has_a_bound() {
    check("memory");
    check("memory_that_is_used_up");
    check("attributes_keep_their_value");
}

#[test]
fn what_service_returns_and_means_nothing() {
    let pending = "it returned SV_PENDING, and this server does not run async servlets yet";
    assert_eq!(call("pending").0, Outcome::Failed(SV_E_UNSUPPORTED, pending.to_owned()));
    assert_eq!(call("pending_task").0, Outcome::Failed(SV_E_UNSUPPORTED, pending.to_owned()));
    assert_eq!(call("dropped").0, Outcome::Done, "the task is dropped, once");
    assert_eq!(call("lost_task").0, Outcome::Done);
    assert_eq!(call("dropped").0, Outcome::Done, "only SV_PENDING gives a task");
    assert_eq!(call("unknown_status").0, Outcome::Failed(4711, "it returned status 4711".to_owned()));
}
