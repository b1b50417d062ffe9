//! Whatever a library does with the table gets a status, changes nothing, and harms nobody: the checks stand in misuse.c, in the
//! language of the header, and run here with a mock of the container. e2e's faults.rs runs them with the real one, where those
//! about the state of the response mean something. Needs `cc`.

mod mock;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use mock::{MockContext, MockExchange};
use serval_abi::{SV_E_STATE, sv_status};
use serval_loader::library::Library;
use serval_loader::module::Module;
use serval_loader::servlet::{Outcome, Scope, Servlet};

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
    let outcome = servlet().service(&mut Scope::new(), &mut exchange);
    (outcome, exchange)
}

#[track_caller]
fn check(name: &str) -> MockExchange {
    let (outcome, exchange) = call(name);
    if let Some(failure) = exchange.failure.as_deref().filter(|failure| failure.starts_with("check: ")) {
        panic!("{}", failure.replace("; ", "\n"));
    }
    assert!(matches!(outcome, Outcome::Done), "{name}: {outcome:?}");
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
fn what_there_is_nothing_for() {
    check("unsupported");
    check("nothing_asynchronous");
    check("no_session");
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
    fn failure(name: &str) -> (sv_status, String) {
        match call(name).0 {
            Outcome::Failed(status, text) => (status, text),
            other => panic!("{name}: {other:?}"),
        }
    }
    let pending = "it returned SV_PENDING with neither a task nor detach";
    assert_eq!(failure("pending"), (SV_E_STATE, pending.to_owned()));
    check("lost_task");
    assert_eq!(failure("unknown_status"), (4711, "it returned status 4711".to_owned()));
    let (outcome, _) = call("pending_task");
    assert!(matches!(outcome, Outcome::Pending(_)), "{outcome:?}");
    drop(outcome);
    check("dropped");
}
