//! The conformance runner: a file of vectors, run against the real program. Called by `bin/conformance.rs` and by
//! `tests/conformance.rs`.
//!
//! A setup is a virtual host (or some); all that can share a process do. The cases of one setup run one after the other, for they
//! share its files and its log, and setups run beside each other.

pub mod format;

pub mod fixtures;

mod keys;

mod setup;

mod world;

mod case;

mod send;

mod compare;

pub mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use fixtures::Fixtures;
use format::{Case, File, Setup};
use report::{Outcome, Report, Verdict};
use setup::Plan;
use world::World;

/// Setups at once.
const AT_ONCE: usize = 8;

/// Which cases are run.
#[derive(Default)]
pub struct Selection {
    /// Empty: all.
    pub areas: Vec<String>,
    pub case: Option<String>,
}

impl Selection {
    fn takes(&self, case: &Value) -> bool {
        let text = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default();
        let area = self.areas.is_empty() || self.areas.iter().any(|area| area == text("area"));
        area && self.case.as_ref().is_none_or(|id| id == text("id"))
    }
}

/// Runs the cases of a file. What cannot be run of it fails as a case; an error is something that concerns all of them.
pub fn run(text: &str, selection: &Selection, fixtures: &Fixtures) -> Result<Report> {
    let file: File = serde_json::from_str(text).context("this is no file of vectors")?;
    let mut report = Report::default();
    let mut cases: Vec<Case> = Vec::new();
    for (index, value) in file.cases.iter().enumerate().filter(|(_, value)| selection.takes(value)) {
        match serde_json::from_value(value.clone()) {
            Ok(case) => cases.push(case),
            Err(error) => report.outcomes.push(unreadable(index, value, &error.to_string())),
        }
    }
    let mut setups: BTreeMap<String, Result<(Setup, Plan), String>> = BTreeMap::new();
    for name in cases.iter().map(|case| &case.setup) {
        if !setups.contains_key(name) {
            let read = read_setup(&file, name).map_err(|error| format!("the setup {name:?}: {error:#}"));
            setups.insert(name.clone(), read);
        }
    }
    let readable: BTreeMap<&str, &(Setup, Plan)> =
        setups.iter().filter_map(|(name, read)| Some((name.as_str(), read.as_ref().ok()?))).collect();
    let library = &fixtures.library()?;
    let worlds = share(&readable).into_iter().map(|names| {
        let setups: Vec<(&Setup, &Plan)> = names.iter().map(|name| readable[name]).map(|(s, p)| (s, p)).collect();
        Ok((names, World::start(&setups, library)?))
    });
    let worlds: Vec<(BTreeSet<&str>, World)> = worlds.collect::<Result<_>>()?;
    let ran = run_setups(&cases, &readable, &worlds, library);
    report.complaints = worlds.iter().flat_map(|(_, world)| world.complaints()).collect();
    let mut ran: BTreeMap<&str, Verdict> = ran.into_inner().expect("no case panics").into_iter().collect();
    for case in &cases {
        let verdict = match setups[&case.setup].as_ref() {
            Err(error) => Verdict::Failed(error.clone()),
            Ok(_) => ran.remove(&*case.id).unwrap_or_else(|| Verdict::Failed("a second case with this id".into())),
        };
        let (id, area, level) = (case.id.clone(), case.area.clone(), case.level.clone());
        report.outcomes.push(Outcome { id, area, level, verdict });
    }
    if report.outcomes.is_empty() {
        bail!("no case of the file is selected");
    }
    Ok(report)
}

fn unreadable(index: usize, case: &Value, why: &str) -> Outcome {
    let text = |key: &str| case.get(key).and_then(Value::as_str).map(str::to_owned);
    Outcome {
        id: text("id").unwrap_or_else(|| format!("case {index}")),
        area: text("area").unwrap_or_default(),
        level: text("level").unwrap_or_default(),
        verdict: Verdict::Failed(format!("the case cannot be read: {why}")),
    }
}

fn read_setup(file: &File, name: &str) -> Result<(Setup, Plan)> {
    let value = file.setups.get(name).context("it is not in the file")?;
    let setup: Setup = serde_json::from_value(value.clone())?;
    let plan = Plan::of(name, &setup)?;
    Ok((setup, plan))
}

/// Puts the setups that may share a process together: as long as no two have a host of one name.
fn share<'a>(setups: &BTreeMap<&'a str, &(Setup, Plan)>) -> Vec<BTreeSet<&'a str>> {
    let mut worlds: Vec<(BTreeSet<&str>, BTreeSet<&str>)> = Vec::new();
    for (name, (_, plan)) in setups.iter().filter(|(_, (_, plan))| !plan.alone) {
        let hosts: BTreeSet<&str> = plan
            .hosts
            .iter()
            .flat_map(|host| [&host.name].into_iter().chain(&host.aliases))
            .map(String::as_str)
            .collect();
        match worlds.iter_mut().find(|(_, taken)| taken.is_disjoint(&hosts)) {
            Some((names, taken)) => {
                names.insert(name);
                taken.extend(hosts);
            }
            None => worlds.push((BTreeSet::from([*name]), hosts)),
        }
    }
    worlds.into_iter().map(|(names, _)| names).collect()
}

type Verdicts<'a> = Mutex<Vec<(&'a str, Verdict)>>;

fn run_setups<'a>(
    cases: &'a [Case],
    setups: &BTreeMap<&str, &(Setup, Plan)>,
    worlds: &[(BTreeSet<&str>, World)],
    library: &Path,
) -> Verdicts<'a> {
    let verdicts = Verdicts::default();
    let waiting: Mutex<VecDeque<&str>> = Mutex::new(setups.keys().copied().collect());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(name) = { waiting.lock().expect("no case panics").pop_front() } {
                    let (setup, plan) = setups[name];
                    let own = plan.alone.then(|| World::start(&[(setup, plan)], library));
                    for case in cases.iter().filter(|case| case.setup == name) {
                        let verdict = match &own {
                            Some(Ok(world)) => case::run(world, plan, case),
                            Some(Err(error)) => Verdict::Failed(format!("the server did not start: {error:#}")),
                            None => {
                                let (_, world) = (worlds.iter().find(|(names, _)| names.contains(name)))
                                    .expect("each setup that is not alone is in one of them");
                                case::run(world, plan, case)
                            }
                        };
                        verdicts.lock().expect("no case panics").push((&case.id, verdict));
                    }
                }
            });
        }
    });
    verdicts
}
