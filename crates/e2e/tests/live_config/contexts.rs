//! Contexts get a next generation when what the configuration gives them is another one, and no other context does.

use super::*;

fn two_webapps(toml: &str) -> Home {
    let home = home(toml);
    for webapp in ["shop", "blog"] {
        add_library(&home, webapp);
    }
    home.write("webapps/blog/WEB-INF/web.toml", "[env]\ndb = { resource = \"database\" }\nmail = \"${file:secret}\"\n")
        .unwrap();
    home.write("webapps/blog/WEB-INF/secret", "one\n").unwrap();
    home
}

const RESOURCES: &str = "[resources]\ndatabase = \"${file:conf/db}\"\nunused = \"1\"\n";

fn shop(color: &str) -> String {
    format!("{RESOURCES}[[host]]\n[[host.context]]\npath = \"/shop\"\n[host.context.params]\ncolor = \"{color}\"\n")
}

#[test]
fn exactly_those_that_are_given_something_else_get_a_next_generation_and_no_request_fails() {
    let home = two_webapps(&shop("red"));
    home.write("conf/db", "first").unwrap();
    let serval = Serval::start(&home).unwrap();
    answers(&serval, "/shop/values", "color=red\n");
    answers(&serval, "/blog/values", "db: first\nmail: one\n");
    let generations = |shop, blog| {
        let told = status(&home);
        assert_eq!((generation(&told, "/shop"), generation(&told, "/blog")), (shop, blog), "{told:#}");
    };
    generations(1, 1);
    let under_load = load(&serval, &["/shop/values", "/blog/values"]);

    // An entry's parameters: seen by itself.
    configure(&home, &shop("blue"));
    answers(&serval, "/shop/values", "color=blue\n");
    generations(2, 1);
    // A resource that nobody links.
    configure(&home, &shop("blue").replace("unused = \"1\"", "unused = \"2\""));
    assert_eq!(reload(&home)["changed"], serde_json::json!(["resources.unused"]));
    generations(2, 1);
    // A secret file of server.toml, which one links; and one of web.toml.
    home.write("conf/db", "second").unwrap();
    answers(&serval, "/blog/values", "db: second\nmail: one\n");
    generations(2, 2);
    home.write("webapps/blog/WEB-INF/secret", "two").unwrap();
    answers(&serval, "/blog/values", "db: second\nmail: two\n");
    generations(2, 3);
    // The same value in other words.
    configure(&home, &format!("# again\n{}", shop("\\u0062lue").replace("unused = \"1\"", "unused = \"2\"")));
    assert_eq!(reload(&home)["changed"], serde_json::json!([]));
    generations(2, 3);
    // Settings of all.
    let settings = format!("{}[defaults.context]\nworkers_max = 3\nqueue_max = 10000\n", shop("blue"));
    configure(&home, &settings);
    assert_eq!(reload(&home)["not_taken"], serde_json::json!([]));
    generations(3, 4);
    // An entry comes for one that had none, and goes again.
    configure(
        &home,
        &format!("{settings}[[host]]\nname = \"localhost\"\n")
            .replace("[[host]]\nname", "[[host.context]]\npath = \"/blog\"\ncookie_count_max = 7\n#"),
    );
    reload(&home);
    generations(3, 5);
    configure(&home, &settings);
    reload(&home);
    generations(3, 6);
    ends_well(under_load);
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
    let secrets = lines.iter().any(|line| line.contains("second") || line.contains("two"));
    assert!(!secrets, "{lines:#?}");
}

#[test]
fn a_context_that_refuses_what_it_is_given_serves_on_with_what_it_had_and_the_rest_is_in_force() {
    let home = two_webapps(&shop("red"));
    home.write("conf/db", "first").unwrap();
    let serval = Serval::start(&home).unwrap();
    answers(&serval, "/blog/values", "db: first\nmail: one\n");
    configure(&home, &shop("blue").replace("database", "data"));
    let (code, told, _) = run(&home, &["config", "reload"]);
    assert_eq!(code, Some(3), "{told}");
    let expected = "in force: host[0].context[0].params.color, resources.data, resources.database\n";
    assert!(told.starts_with(expected), "{told}");
    let refusal = "localhost/blog has refused it, and its last generation serves on: ";
    assert!(told.contains(refusal) && told.contains("`database` is not in [resources] of server.toml"), "{told}");
    assert_eq!(get(&serval, "/shop/values"), "color=blue\n");
    assert_eq!(get(&serval, "/blog/values"), "db: first\nmail: one\n");
    let (code, table, _) = run(&home, &["status"]);
    assert_eq!(code, Some(3));
    assert!(table.contains("/blog: the last change was refused, and generation 1 serves on: "), "{table}");
    // A secret file that is gone, and comes again.
    configure(&home, &shop("blue"));
    reload(&home);
    std::fs::remove_file(home.path("webapps/blog/WEB-INF/secret")).unwrap();
    serval.wait_for_log("secret` cannot be read (No such file or directory", LONG).unwrap();
    assert_eq!(get(&serval, "/blog/values"), "db: first\nmail: one\n");
    home.write("webapps/blog/WEB-INF/secret", "three").unwrap();
    answers(&serval, "/blog/values", "db: first\nmail: three\n");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_file_of_conf_d_comes_changes_and_goes() {
    let home = home("");
    add_library(&home, "shop");
    let serval = Serval::start(&home).unwrap();
    answers(&serval, "/shop/values", "");
    let entry = |color: &str| format!("[[host]]\n[[host.context]]\npath = \"/shop\"\nparams.color = \"{color}\"\n");
    home.write("conf/conf.d/10-shop.toml", entry("red")).unwrap();
    answers(&serval, "/shop/values", "color=red\n");
    // As editors do that write beside and rename.
    home.write("conf/conf.d/.10-shop.toml.new", entry("blue")).unwrap();
    std::fs::rename(home.path("conf/conf.d/.10-shop.toml.new"), home.path("conf/conf.d/10-shop.toml")).unwrap();
    answers(&serval, "/shop/values", "color=blue\n");
    // Behind a link, whose own folder has no event when the target changes.
    home.write("elsewhere/shop.toml", entry("green")).unwrap();
    std::fs::remove_file(home.path("conf/conf.d/10-shop.toml")).unwrap();
    std::os::unix::fs::symlink(home.path("elsewhere/shop.toml"), home.path("conf/conf.d/10-shop.toml")).unwrap();
    answers(&serval, "/shop/values", "color=green\n");
    home.write("elsewhere/shop.toml", entry("white")).unwrap();
    reload(&home);
    assert_eq!(get(&serval, "/shop/values"), "color=white\n");
    std::fs::remove_dir_all(home.path("conf/conf.d")).unwrap();
    answers(&serval, "/shop/values", "");
    assert!(serval.stop().unwrap().success());
}
