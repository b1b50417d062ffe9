//! The conformance vectors in `vectors/`, against the real program: the same code as `cargo run -p e2e --bin conformance`.

use std::collections::BTreeSet;

use e2e::conformance::fixtures::Fixtures;
use e2e::conformance::{Selection, run};

/// What must hold.
const NOW: &[&str] = &[
    "naming",
    "context",
    "vhost",
    "canon",
    "path-param",
    "mapping",
    "mapping-object",
    "protected",
    "welcome",
    "method",
    "static",
    "range",
    "conditional",
    "precompressed",
    "put",
    "access-log",
    "remote-ip",
    "parallel",
    "error-page",
    "filter",
    "response",
    "dispatch",
    "params",
    "multipart",
    "cookie-in",
    "cookie-out",
    "session",
    "async",
    "auto-deploy",
];

/// What needs what is not built yet.
const LATER: &[&str] = &["auth", "cors", "rewrite", "builtin", "manager"];

#[track_caller]
fn check(text: &str) {
    let areas = NOW.iter().map(|area| (*area).to_owned()).collect();
    let selection = Selection { areas, case: None };
    for (fixtures, language) in [(Fixtures::Rust, "Rust"), (Fixtures::C, "C")] {
        let report = run(text, &selection, &fixtures).expect("the cases can be run");
        assert_eq!(report.failed(), 0, "with the fixtures in {language}\n{report}");
    }
}

#[test]
fn the_sample_holds() {
    check(include_str!("../vectors/sample.json"));
}

#[test]
fn our_own_cases_hold() {
    check(include_str!("../vectors/serval.json"));
}

#[test]
fn our_own_cases_of_urls_hold() {
    check(include_str!("../vectors/urls.json"));
}

#[test]
fn our_own_cases_of_sessions_and_dispatches_hold() {
    check(include_str!("../vectors/sessions.json"));
}

#[test]
fn our_own_cases_of_parameters_cookies_and_responses_hold() {
    check(include_str!("../vectors/params.json"));
}

#[test]
fn what_tomcat_answered_holds() {
    check(include_str!("../vectors/servlet.json"));
}

#[test]
fn every_area_of_the_sample_is_now_or_later() {
    let sample: serde_json::Value = serde_json::from_str(include_str!("../vectors/sample.json")).expect("JSON");
    let cases = sample["cases"].as_array().expect("cases");
    let areas: BTreeSet<&str> = cases.iter().filter_map(|case| case["area"].as_str()).collect();
    assert_eq!(areas, NOW.iter().chain(LATER).copied().collect());
}
