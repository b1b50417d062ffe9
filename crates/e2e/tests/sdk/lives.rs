//! Generations: what runs beside the requests, what is handed over, and what tokio leaves behind, which is nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use e2e::load::{Load, Outcome};

use crate::kitchen::{Kitchen, LONG, body, wait_until};

const TICKERS: [&str; 5] = ["spawned", "stubborn", "thread", "job", "async job"];

fn ticks(kitchen: &Kitchen) -> PathBuf {
    kitchen.home.path("var/work/localhost/app/ticks")
}

/// Waits until each of them has ticked again, and returns which generations have since now.
fn who_ticks(kitchen: &Kitchen) -> Vec<u64> {
    fs::remove_file(ticks(kitchen)).unwrap();
    let mut text = String::new();
    wait_until(|| {
        text = fs::read_to_string(ticks(kitchen)).unwrap_or_default();
        TICKERS.iter().all(|ticker| text.lines().filter(|line| line.starts_with(&format!("{ticker} "))).count() >= 3)
    });
    let mut generations: Vec<u64> =
        text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    generations.sort_unstable();
    generations.dedup();
    generations
}

/// The names of the server's threads, as the kernel has them.
fn threads(kitchen: &Kitchen) -> Vec<String> {
    let folder = format!("/proc/{}/task", kitchen.serval.program().id());
    let tasks = fs::read_dir(folder).unwrap().flatten();
    // One may end while this looks.
    tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect()
}

fn of_libraries(kitchen: &Kitchen) -> usize {
    let names = ["servlet-tokio", "servlet-jobs", "servlet-work", "ticker"];
    threads(kitchen).iter().filter(|name| names.contains(&name.trim())).count()
}

#[test]
fn one_generation_ticks_whatever_was_before() {
    let mut kitchen = Kitchen::open_with("[params]\nstubborn = \"yes\"\n", "");
    wait_until(|| ticks(&kitchen).exists());
    assert_eq!(who_ticks(&kitchen), [1]);
    for _ in 0..5 {
        let generation = kitchen.reload();
        kitchen.wait_until_destroyed(generation - 1);
        // All that it had spawned ended before its #[stop].
        kitchen.wait_for(&format!("the kitchen of generation {} closes, 0 live, 0 late", generation - 1));
        assert_eq!(who_ticks(&kitchen), [generation]);
    }
    kitchen.close();
}

#[test]
fn named_values_are_those_of_the_generation() {
    let kitchen = Kitchen::open_with("[env]\ndb = { resource = \"database\" }\n", "[resources]\ndatabase = \"d\"\n");
    kitchen.check("/given", 200, "None Some(\"d\")");
    kitchen.home.write("webapps/app/WEB-INF/web.toml", "params = { currency = \"EUR\" }\n").unwrap();
    kitchen.wait_for("/app ready (generation 2");
    kitchen.check("/given", 200, "Some(\"EUR\") None");
    kitchen.close();
}

#[test]
fn what_is_carried_arrives() {
    let mut kitchen = Kitchen::open();
    kitchen.check("/visits", 200, "1");
    kitchen.check("/visits", 200, "2");
    for visit in 3..6 {
        kitchen.reload();
        kitchen.check("/visits", 200, &visit.to_string());
    }
    // Another file may have taken the place of one before that was kept.
    let warnings = kitchen.lines_with(0, "WARN").into_iter().filter(|line| !line.contains("there will be no way back"));
    assert_eq!(warnings.collect::<Vec<_>>(), Vec::<String>::new());
    kitchen.close();
}

/// Ten reloads under load by servlets that sleep in tokio and talk through its sockets.
#[test]
fn a_runtime_of_tokio_comes_and_goes_with_its_generation() {
    const RELOADS: u64 = 10;
    let mut kitchen = Kitchen::open();
    kitchen.check("/asks", 200, "generation 1");
    let load = Load::start(kitchen.serval.address(), 4, LONG, |_, connection| {
        let answer = connection.get("/app/asks")?;
        let text = body(&answer);
        Ok(match (answer.status, text.strip_prefix("generation ").map(str::parse::<u64>)) {
            (200, Some(Ok(1..))) => Outcome::Good,
            (status, _) => Outcome::Wrong(format!("{status} {text}")),
        })
    });
    for _ in 0..RELOADS {
        let generation = kitchen.reload();
        kitchen.wait_until_destroyed(generation - 1);
        wait_until(|| of_libraries(&kitchen) == 5);
    }
    kitchen.check("/asks", 200, &format!("generation {}", RELOADS + 1));
    let counts = load.stop();
    assert!(counts.requests > RELOADS, "{counts:#?}");
    assert_eq!((counts.failed, counts.wrong), (0, 0), "{counts:#?}");
    // Two of tokio, one for jobs, one for work, and the ticker; those of all former generations are gone.
    assert_eq!(of_libraries(&kitchen), 5, "{:?}", threads(&kitchen));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(kitchen.lines_with(0, "ERROR"), Vec::<String>::new());
    kitchen.close();
}
