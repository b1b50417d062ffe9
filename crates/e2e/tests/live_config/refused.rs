//! What cannot be put in force is refused as a whole, with one error in the log, and `serval status` tells.

use std::ffi::OsString;
use std::os::unix::fs::symlink;

use super::*;

struct Case {
    home: Home,
    serval: Serval,
}

impl Case {
    fn new() -> Case {
        Case::under(&[])
    }

    fn under(wrapper: &[&str]) -> Case {
        let home = home("");
        home.write("webapps/ROOT/who", "one").unwrap();
        let wrapper: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
        let serval = Serval::start_under(&home, &wrapper).unwrap();
        Case { home, serval }
    }

    /// Does something to the files, which is refused with this; puts it right again, and that is in force.
    #[track_caller]
    fn check(&self, wrong: impl FnOnce(&Home), expected: &str, right: impl FnOnce(&Home)) {
        let position = self.serval.program().position();
        let under_load = load(&self.serval, &["/who"]);
        wrong(&self.home);
        let is_said = |line: &str| line.contains("ERROR") && line.contains("the configuration is refused as a whole");
        self.serval.program().wait_for_line(position, LONG, is_said).unwrap();
        let told = becomes(&self.home, |told| !told["configuration"]["refused"].is_null());
        let refused = told["configuration"]["refused"].as_str().unwrap();
        let refused = refused.replace(&self.home.path("").display().to_string(), "");
        assert_eq!(refused, expected);
        let (code, table, _) = run(&self.home, &["status"]);
        assert_eq!(code, Some(3), "{table}");
        assert!(table.contains("the configuration was refused, and the one before stays in force:\n  "), "{table}");
        // Who asks is told the same, and the log is not told again.
        let (code, _, error) = run(&self.home, &["config", "reload"]);
        assert_eq!(code, Some(3), "{error}");
        ends_well(under_load);
        right(&self.home);
        self.serval.program().wait_for_line(position, LONG, |line| line.contains("is good again")).unwrap();
        becomes(&self.home, |told| told["configuration"]["refused"].is_null());
        let lines = self.serval.program().lines_from(position);
        assert_eq!(lines.iter().filter(|line| is_said(line)).count(), 1, "{lines:#?}");
    }

    #[track_caller]
    fn check_file(&self, server: &str, expected: &str) {
        self.check(|home| home.write("conf/server.toml", server).unwrap(), expected, |home| configure(home, ""));
    }
}

#[test]
fn a_server_toml_that_is_wrong() {
    let case = Case::new();
    let empty =
        "conf/server.toml is empty, as a file is that is being written; to have all defaults, write a comment into it";
    case.check_file("", empty);
    case.check_file(
        "[[listener]]\naddress = \"127.0",
        "conf/server.toml:2:17: not TOML: invalid basic string, expected `\"`; write `key = value`, `[table]` or `[[table]]`, with strings in quotes",
    );
    case.check_file(
        "[server]\ndevelopmnt = true\n",
        "conf/server.toml:2:1: unknown key `developmnt` in [server]; did you mean `development`?",
    );
    case.check_file(
        "[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n",
        "conf/server.toml:4:11: a second [[listener]] at `127.0.0.1:1`; give it another port, or remove it",
    );
    case.check_file(
        "[[host]]\nwebapps = \"none\"\n",
        "conf/server.toml:2:11: the webapps folder `none` does not exist; create it, or set `webapps` in [[host]] to the folder of your webapps",
    );
    case.check_file(
        "[log]\nlevel = \"serval=debug=x=info\"\n",
        "`level` in [log] cannot be used: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
    );
    case.check(
        |home| std::fs::remove_file(home.path("conf/server.toml")).unwrap(),
        "conf/server.toml: does not exist; create it (an empty file will do), or name another one with --config",
        |home| configure(home, ""),
    );
    let replace = |home: &Home| std::fs::remove_file(home.path("conf/server.toml")).unwrap();
    case.check(
        |home| {
            replace(home);
            std::fs::create_dir(home.path("conf/server.toml")).unwrap();
        },
        "conf/server.toml: is a folder, but a file is needed; name the file inside it",
        |home| {
            std::fs::remove_dir(home.path("conf/server.toml")).unwrap();
            configure(home, "");
        },
    );
    assert!(case.serval.stop().unwrap().success());
}

#[test]
fn files_that_are_emptied() {
    let case = Case::new();
    let toml = "[resources]\na = \"${file:conf/secret}\"\n";
    case.home.write("conf/secret", "a").unwrap();
    case.home.write("conf/conf.d/a.toml", toml).unwrap();
    // One that was empty from the first is as good as none.
    case.home.write("conf/conf.d/b.toml", "").unwrap();
    reload(&case.home);
    case.check(
        |home| home.write("conf/conf.d/a.toml", "").unwrap(),
        "conf/conf.d/a.toml is empty, as a file is that is being written; to have nothing of it, write a comment into it, or remove it",
        |home| home.write("conf/conf.d/a.toml", toml).unwrap(),
    );
    case.check(
        |home| home.write("conf/secret", "").unwrap(),
        "conf/secret is empty, as a file is that is being written; to have an empty value, write an empty line into it",
        |home| home.write("conf/secret", "a").unwrap(),
    );
    case.home.write("conf/secret", "\n").unwrap();
    reload(&case.home);
    case.home.write("conf/conf.d/a.toml", "# Nothing.\n").unwrap();
    reload(&case.home);
    assert!(case.serval.stop().unwrap().success());
}

#[test]
fn a_reason_that_no_file_has_is_looked_for_again() {
    let case = Case::new();
    configure(&case.home, "[[host]]\n[[host]]\nname = \"other\"\nwebapps = \"other\"\n");
    case.serval.wait_for_log("does not exist; create it", LONG).unwrap();
    std::fs::create_dir(case.home.path("other")).unwrap();
    case.serval.wait_for_log("the configuration has changed, and is in force", LONG).unwrap();
    assert!(status(&case.home)["configuration"]["refused"].is_null());
    assert!(case.serval.stop().unwrap().success());
}

#[test]
fn a_folder_of_webapps_that_is_gone() {
    let case = Case::new();
    // By itself that is no change of the configuration; what is there serves on, and the next change is refused.
    std::fs::create_dir(case.home.path("other")).unwrap();
    configure(&case.home, "[[host]]\n[[host]]\nname = \"other\"\nwebapps = \"other\"\n");
    reload(&case.home);
    std::fs::remove_dir(case.home.path("other")).unwrap();
    configure(&case.home, "[[host]]\n[[host]]\nname = \"other\"\nwebapps = \"other\"\naliases = [\"a.test\"]\n");
    let (code, _, error) = run(&case.home, &["config", "reload"]);
    assert_eq!(code, Some(3));
    assert!(error.contains("the webapps folder") && error.contains("does not exist; create it"), "{error}");
    assert_eq!(get(&case.serval, "/who"), "one");
    assert!(case.serval.stop().unwrap().success());
}

#[test]
fn a_conf_d_that_is_wrong() {
    let case = Case::new();
    std::fs::create_dir(case.home.path("conf/conf.d")).unwrap();
    let remove = |home: &Home| std::fs::remove_file(home.path("conf/conf.d/a.toml")).unwrap();
    case.check(
        |home| std::fs::create_dir(home.path("conf/conf.d/a.toml")).unwrap(),
        "conf/conf.d/a.toml: is a folder, but a file is needed; name the file inside it",
        |home| std::fs::remove_dir(home.path("conf/conf.d/a.toml")).unwrap(),
    );
    case.check(
        |home| symlink("a.toml", home.path("conf/conf.d/a.toml")).unwrap(),
        "conf/conf.d/a.toml: cannot be read: Too many levels of symbolic links (os error 40); let the user that Serval runs as read it, and its folders",
        remove,
    );
    case.check(
        |home| home.write("conf/conf.d/a.toml", "[server]\n\nport = 1\n").unwrap(),
        "conf/conf.d/a.toml:3:1: unknown key `port` in [server]; its keys are `var`, `shutdown_timeout`, `stop_delay`, `ready_path`, `user`, `io_threads`, `development`",
        remove,
    );
    case.check(
        |home| home.write("conf/conf.d/a.toml", "[resources]\na = \"${file:conf/none}\"\n").unwrap(),
        "conf/conf.d/a.toml:2:5: `conf/none` cannot be read (No such file or directory (os error 2)); create it, or correct the path",
        remove,
    );
    case.check(
        |home| {
            std::fs::remove_dir(home.path("conf/conf.d")).unwrap();
            home.write("conf/conf.d", "").unwrap();
        },
        "conf/conf.d: is not a folder; make it a folder of files such as `10-shop.toml`, or remove it",
        |home| std::fs::remove_file(home.path("conf/conf.d")).unwrap(),
    );
    assert!(case.serval.stop().unwrap().success());
}

#[test]
fn a_file_that_only_root_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    // Root reads everything, unless it may not.
    let case = match rustix::process::geteuid().is_root() {
        true => Case::under(&["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]),
        false => Case::new(),
    };
    let mode = |home: &Home, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(home.path("conf/server.toml"), permissions).unwrap();
    };
    let expected = "conf/server.toml: cannot be read: Permission denied (os error 13); let the user that Serval runs as read it, and its folders";
    case.check(|home| mode(home, 0), expected, |home| mode(home, 0o600));
    assert!(case.serval.stop().unwrap().success());
}

#[test]
fn thousands_of_changes_are_as_few() {
    let case = Case::new();
    let under_load = load(&case.serval, &["/who"]);
    let begun = Instant::now();
    for number in 0..5000 {
        // Most of them are wrong.
        configure(&case.home, &format!("[server]\nshutdown_timeout = \"{number}x\"\n"));
    }
    let took = begun.elapsed();
    configure(&case.home, "[server]\nshutdown_timeout = \"7s\"\n");
    case.serval.wait_for_log("is in force: `server.shutdown_timeout`", LONG).unwrap();
    ends_well(under_load);
    let lines = case.serval.stop_and_read().unwrap();
    let refused = lines.iter().filter(|line| line.contains("refused as a whole")).count();
    // Each needs the files at rest.
    assert!(refused as u128 <= 1 + took.as_millis() / 200, "{refused} in {took:?}");
}
