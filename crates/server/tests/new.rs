//! `serval new` from outside: where it makes what, and what it refuses. That what it made runs is tested in `e2e`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SERVAL: &str = env!("CARGO_BIN_EXE_serval");

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(SERVAL).current_dir(folder).arg("new").args(arguments).output().unwrap()
}

#[track_caller]
fn fails(output: Output, says: &str) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(says), "{said}");
    assert_eq!(output.stdout, b"", "{said}");
}

#[track_caller]
fn says(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn home(server_toml: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("webapps")).unwrap();
    fs::create_dir_all(home.path().join("conf")).unwrap();
    fs::write(home.path().join("conf/server.toml"), server_toml).unwrap();
    home
}

/// The names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_name_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fails(new(folder.path(), &["my shop"]), "write for example `my-shop`");
    fails(new(folder.path(), &["a/shop"]), "`a/shop` is a path, not a name: write `serval new shop --path a`");
    fails(new(folder.path(), &["WEB-INF"]), "`WEB-INF` cannot be the name of a webapp");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn what_is_there_is_never_touched() {
    let home = home("");
    let webapps = home.path().join("webapps");
    fs::create_dir(webapps.join("empty")).unwrap();
    fs::write(webapps.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", webapps.join("link")).unwrap();
    for name in ["empty", "file", "link"] {
        let expected =
            format!("{} is there already: take another name, or remove it first", webapps.join(name).display());
        fails(new(home.path(), &[name]), &expected);
    }
    assert_eq!(names(&webapps), ["empty", "file", "link"]);
    assert!(names(&webapps.join("empty")).is_empty());
    assert_eq!(fs::read_to_string(webapps.join("file")).unwrap(), "mine");

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shop")).unwrap();
    fails(new(folder.path(), &["shop"]), "/shop is there already");
    assert!(names(&folder.path().join("shop")).is_empty());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let home = home("");
    let text = home.path().to_str().unwrap();
    // No user may make folders there, root neither.
    let refused = "/proc cannot be written: ";
    fails(new(Path::new("/"), &["shop", "--path", "/proc"]), refused);
    fails(new(Path::new("/"), &["shop", "--path", "/proc", "--home", text]), refused);
    fails(new(home.path(), &["shop", "--path", "nowhere"]), "there is no folder nowhere: make it first");
    assert_eq!(names(home.path()), ["conf", "var", "webapps"]);
}

#[test]
fn it_does_not_need_to_write_what_the_server_writes() {
    let home = home("");
    fs::write(home.path().join("var"), "").unwrap();
    let output = new(home.path(), &["shop"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!("warning: the SDK cannot be written into {}/var: ", home.path().display());
    assert!(said.starts_with(&expected) && said.ends_with("; until serval does, no editor finds it\n"), "{said}");
    let manifest = fs::read_to_string(home.path().join("webapps/shop/WEB-INF/Cargo.toml")).unwrap();
    assert!(manifest.contains("path = \"../../../var/sdk/"), "{manifest}");
}

#[test]
fn a_configuration_that_is_wrong_is_said() {
    let home = home("a = 1");
    fails(new(home.path(), &["shop"]), "conf/server.toml:1:1: unknown key `a`");
    fails(new(Path::new("/"), &["shop", "--home", "/nowhere"]), "there is no /nowhere/conf/server.toml");
    assert!(names(&home.path().join("webapps")).is_empty());
}

#[test]
fn it_tells_what_is_still_to_do() {
    let home = home(
        "[[listener]]\naddress = \"0.0.0.0:8099\"\n[[host]]\n[[host.context]]\npath = \"/taken\"\nwebapp = \"../other\"\n",
    );
    // It must be there: no folder of `webapps` comes and goes under this name.
    fs::create_dir(home.path().join("other")).unwrap();
    let shown = home.path().display();
    let said = says(new(home.path(), &["ROOT"]));
    let expected = format!(
        "Made {shown}/webapps/ROOT\n\nLet serval build it: `sources = true` below [build] in {shown}/conf/server.toml\n\n\
         Start serval, or stop it and start it again:\n\n    serval run --home {shown}\n\nOpen http://localhost:8099/\n\n\
         Edit {shown}/webapps/ROOT/WEB-INF/src/lib.rs: each save is built.\n"
    );
    assert_eq!(said, expected);
    let manifest = fs::read_to_string(home.path().join("webapps/ROOT/WEB-INF/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"root\"\n"), "{manifest}");
    let sdk = concat!("../../../var/sdk/", env!("CARGO_PKG_VERSION"));
    assert!(manifest.contains(&format!("path = \"{sdk}/servlet\"")), "{manifest}");
    assert!(home.path().join("webapps/ROOT/WEB-INF").join(sdk).join("servlet/Cargo.toml").is_file());

    fails(new(home.path(), &["taken"]), &format!("serves {shown}/webapps/../other at /taken: take another name"));

    fs::create_dir(home.path().join("sites")).unwrap();
    let said = says(new(home.path(), &["shop#eu", "--path", "sites", "--lang", "cpp"]));
    let entry = format!("    [[host.context]]\n    path = \"/shop/eu\"\n    webapp = \"{shown}/sites/shop#eu\"\n");
    assert!(said.contains(&format!("Name it in {shown}/conf/server.toml, below [[host]]:\n\n{entry}")), "{said}");
    assert!(said.contains("Open http://localhost:8099/shop/eu/\n"), "{said}");
    assert_eq!(names(&home.path().join("sites")), ["shop#eu"]);
    // The folder of the webapps, however it is written.
    let said = says(new(&home.path().join("sites"), &["plain", "--path", "../webapps/."]));
    assert!(said.starts_with(&format!("Made {shown}/webapps/plain\n")) && !said.contains("[[host.context]]"), "{said}");
}
