//! Why a library is refused, each as the sentence that its author reads: the cases stand in refusals.txt, in C below
//! refusals.h. Needs `cc`.

mod mock;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use mock::MockContext;
use serval_loader::Refusal;
use serval_loader::filter::Filter;
use serval_loader::library::Library;
use serval_loader::servlet::Servlet;

#[test]
fn a_library_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let cases = include_str!("refusals.txt").split("====\n").skip(1);
    let mut wrong = String::new();
    for (number, case) in cases.enumerate() {
        let (source, expected) = case.split_once("----\n").expect("source, dashes, sentence");
        let said = check(folder.path(), number, source);
        if said != expected.trim_end() {
            writeln!(wrong, "{source}----\n{said}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "said otherwise than expected:\n\n{wrong}");
}

#[test]
fn a_library_that_the_system_does_not_find_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("deep.c"), "__attribute__((visibility(\"default\"))) int deep(void) { return 0; }").unwrap();
    mock::compile(&path("deep.c"), &[], &path("libdeep.so"));
    let source = "extern int deep(void);\nINIT(return deep();)\n";
    std::fs::write(path("needs.c"), format!("{}{source}", include_str!("refusals.h"))).unwrap();
    mock::compile(&path("needs.c"), &[&path("libdeep.so")], &path("needs.so"));
    std::fs::remove_file(path("libdeep.so")).unwrap();
    let library = path("libdeep.so");
    assert_eq!(
        load(&path("needs.so")).unwrap_err().to_string(),
        format!(
            "it needs {}, which the system does not find; put that library into the same lib folder and link with \
             -Wl,-rpath,'$ORIGIN', or install it",
            library.display()
        )
    );
}

/// Each case is a file of its own name: the system loads a library once.
fn check(folder: &Path, number: usize, source: &str) -> String {
    let (from, to) = (folder.join(format!("{number}.c")), folder.join(format!("{number}.so")));
    std::fs::write(&from, format!("{}{source}", include_str!("refusals.h"))).unwrap();
    mock::compile(&from, &[], &to);
    match load(&to) {
        Ok(Some(())) => "(it is taken)".to_owned(),
        Ok(None) => "(it has no entry)".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

fn load(path: &Path) -> Result<Option<()>, Refusal> {
    let Some(library) = Library::open(path)? else { return Ok(None) };
    let library = Arc::new(library);
    let module = Arc::new(library.start(Arc::new(MockContext))?);
    module.restore(b"old")?;
    for (index, servlet) in library.declared().servlets.iter().enumerate() {
        Servlet::create(&module, index, &servlet.name, servlet.init.clone())?;
    }
    for (index, filter) in library.declared().filters.iter().enumerate() {
        Filter::create(&module, index, &filter.name, filter.init.clone())?;
    }
    Ok(Some(()))
}
