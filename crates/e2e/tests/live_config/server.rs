//! What is of the whole server, what needs a restart, and what `serval config` tells.

use super::*;

#[test]
fn what_needs_no_restart_gets_none_and_what_does_says_so() {
    let home = home("");
    home.write("webapps/ROOT/index.html", "one").unwrap();
    let serval = Serval::start(&home).unwrap();
    let told = "[server]\ndevelopment = true\nshutdown_timeout = \"7s\"\nio_threads = 9\nvar = \"elsewhere\"\n\
                [log]\nlevel = \"debug\"\nformat = \"json\"\n[build]\nsources = true\n[access_log]\n";
    let told = change(&home, "", &told.replace("var = \"elsewhere\"\n", ""));
    assert_eq!(told["needs_restart"], serde_json::json!(["`io_threads` in [server]", "`format` in [log]"]));
    let changed: Vec<&str> = told["changed"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    for key in
        ["server.development", "server.shutdown_timeout", "log.level", "build.sources", "host[0].access_log.file"]
    {
        assert!(changed.contains(&key), "{changed:?}");
    }
    assert!(!changed.contains(&"log.format"), "{changed:?}");
    let status = status(&home);
    assert_eq!(status["configuration"]["needs_restart"], told["needs_restart"]);
    let (code, table, _) = run(&home, &["status"]);
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains("the configuration has another `io_threads` in [server], which needs a restart"), "{table}");
    get(&serval, "/");
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"nonsense\r\n\r\n").unwrap();
    serval.wait_for_log("DEBUG a connection ended", LONG).unwrap();
    serval.wait_for_log("a restart is needed for `io_threads` in [server], `format` in [log]", LONG).unwrap();
    configure(&home, "");
    assert_eq!(reload(&home)["needs_restart"], serde_json::json!([]));
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.starts_with('{')), "the format stays: {lines:#?}");
    assert!(home.path("var/log/localhost.access.log").exists());
}

#[test]
fn another_var_is_for_the_next_start() {
    let home = home("[access_log]\n");
    home.write("webapps/ROOT/index.html", "one").unwrap();
    let serval = Serval::start(&home).unwrap();
    configure(&home, "[server]\nvar = \"elsewhere\"\n[access_log]\n");
    serval.wait_for_log("a restart is needed for `var` in [server]", LONG).unwrap();
    // The commands know only the file.
    let (code, _, error) = run(&home, &["status"]);
    let files = format!("with its files in {}", home.path("elsewhere").display());
    assert!(code == Some(1) && error.contains(&files) && error.contains("another `var`"), "{error}");
    get(&serval, "/");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("access_log.folder")), "{lines:#?}");
    assert!(home.path("var/log/localhost.access.log").exists() && !home.path("elsewhere").exists());
}

#[test]
fn sighup_has_the_files_looked_at() {
    let home = home("");
    let serval = Serval::start(&home).unwrap();
    let hangup = || {
        let id = rustix::process::Pid::from_raw(serval.program().id() as i32).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    };
    configure(&home, "[server]\ndevelopment = true\n");
    hangup();
    serval.wait_for_log("SIGHUP: the configuration is read", LONG).unwrap();
    serval.wait_for_log("is in force: `server.development`", LONG).unwrap();
    // What is wrong is said again to who asks again.
    configure(&home, "[serv");
    serval.wait_for_log("refused as a whole", LONG).unwrap();
    let position = serval.program().position();
    hangup();
    serval.program().wait_for_line(position, LONG, |line| line.contains("refused as a whole")).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn config_show_tells_each_value_where_it_is_from_and_what_the_running_server_has_otherwise() {
    let toml = "[resources]\ndatabase = \"postgres://${file:conf/db}\"\n[server]\nio_threads = \"${env:SERVAL_TEST_NONE:-3}\"\n";
    let home = home(toml);
    home.write("conf/db", "s3cret").unwrap();
    let (code, text, error) = run(&home, &["config", "show"]);
    assert_eq!(code, Some(0), "{error}");
    for line in [
        "[server]",
        "io_threads = 3                           # conf/server.toml:6, ${env:SERVAL_TEST_NONE}",
        "development = false                      # default",
        "# database is not shown                  # conf/server.toml:4, ${file:conf/db}",
        "[[listener]]",
        "address = \"127.0.0.1:0\"                  # conf/server.toml:2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("s3cret") && text.contains("\n# no Serval runs in "), "{text}");

    let serval = Serval::start(&home).unwrap();
    let (code, text, _) = run(&home, &["config", "show"]);
    assert_eq!(code, Some(0), "{text}");
    let process = serval.program().id();
    assert!(
        text.ends_with(&format!("\n# The server that runs (process {process}) has all of it in force.\n")),
        "{text}"
    );
    // One that is refused, but for a reason that only a server that runs can have.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = format!("[[listener]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    home.write("conf/db", "0ther").unwrap();
    configure(&home, &format!("{toml}development = true\n{listener}"));
    serval.wait_for_log("refused as a whole", LONG).unwrap();
    let (code, text, _) = run(&home, &["config", "show"]);
    assert_eq!(code, Some(3), "{text}");
    for line in [
        "# server.development: false (default)",
        "# resources.database: another value, which is not shown",
        "# listener[1].address: nothing",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let (_, json, _) = run(&home, &["config", "show", "--json"]);
    let told: Value = serde_json::from_str(&json).unwrap();
    let find = |settings: &Value, key: &str| {
        settings.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    let expected = serde_json::json!({ "key": "server.development", "value": true, "from": "conf/server.toml:7" });
    assert_eq!(find(&told["settings"], "server.development"), expected);
    let expected = serde_json::json!({ "key": "server.development", "value": false, "from": "default" });
    assert_eq!(find(&told["running"]["settings"], "server.development"), expected);
    let expected = serde_json::json!({ "key": "resources.database", "value": null, "hidden": true,
        "from": "conf/server.toml:4", "put_in": ["${file:conf/db}"] });
    assert_eq!(find(&told["settings"], "resources.database"), expected);
    assert!(told["running"]["differs"].as_array().unwrap().contains(&"resources.database".into()));
    assert!(!json.contains("s3cret") && !json.contains("0ther"), "{json}");
    assert!(serval.stop().unwrap().success());
}
