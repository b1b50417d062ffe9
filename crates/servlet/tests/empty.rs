//! A library without servlets links, and says so.

mod mock;

servlet::module!();

#[test]
fn a_module_without_servlets() {
    assert_eq!(mock::declared().servlet_count, 0);
    let module = mock::Module::start().map(drop);
    assert_eq!(module, Ok(()));
}
