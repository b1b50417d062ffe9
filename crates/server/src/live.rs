//! The configuration while the server runs: its files are watched, and another one is put in force as a whole, or not at all.
//!
//! A change is looked at when its files have been at rest for a moment, at once on SIGHUP, and when `serval config reload` asks. What can
//! fail comes first: the files, the addresses, the threads of logs. What it gives contexts, they get by a next generation each, which has
//! to start as any other.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serval_config::{Listener, Read, Server, Setting, read_server};
use serval_container::{Container, NotTaken};
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::listeners::Listeners;
use crate::tls::{self, InForce};
use crate::watch::Folders;
use crate::{dev, home, run};

/// How long the files must be at rest: editors write in pieces, and by way of other names.
const SETTLE: Duration = Duration::from_millis(200);
/// What was refused may be so for a reason that no file has: a port that is taken, a folder that is to be made.
const TRIED_AGAIN: Duration = Duration::from_secs(10);
/// Files that keep changing for so long are named in the log.
const RESTLESS: Duration = Duration::from_secs(5);
/// LIMIT: those who ask at once and wait.
const ASKS_MAX: usize = 64;
/// LIMIT: how often files are read anew, since they name other ones, or have changed meanwhile.
const READS_MAX: usize = 5;
/// LIMIT: keys that the log names of one change.
const NAMED_MAX: usize = 20;

/// The configuration of all files, with each value's origin.
type WholeRead = Read<(Server, Vec<Setting>)>;

/// A configuration, where its values are from, and the files that it depends on.
pub struct Loaded {
    pub server: Server,
    pub settings: Vec<Setting>,
    pub files: Files,
    /// How they lay there.
    pub stamp: Stamp,
}

/// The files that a configuration depends on.
pub struct Files {
    pub all: BTreeSet<PathBuf>,
    /// Those that had nothing in them.
    pub empty: BTreeSet<PathBuf>,
}

impl Files {
    /// They are read again when one of them changes, and this process may have become somebody else since the first time.
    pub fn warn_of_unreadable(&self) {
        let is_denied = |file: &&PathBuf| {
            std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        for file in self.all.iter().filter(is_denied) {
            tracing::warn!(
                "{file} cannot be read by the user that Serval has become: a change of the configuration will be refused; run \
                 `chgrp {} {file}` and `chmod g+r {file}`",
                rustix::process::getegid().as_raw(),
                file = file.display(),
            );
        }
    }
}

/// What the commands ask.
pub struct Live {
    pub container: Arc<Container>,
    /// The certificates.
    pub tls: Arc<InForce>,
    known: Mutex<Known>,
    asks: mpsc::Sender<oneshot::Sender<Outcome>>,
}

/// Of the configuration in force, and of the last change.
#[derive(Clone)]
pub struct Known {
    pub settings: Arc<Vec<Setting>>,
    /// Why the last change is not in force.
    pub refused: Option<String>,
    /// What of the files needs a restart.
    pub needs_restart: Vec<String>,
}

/// An error is a sentence: why nothing of it is in force.
pub type Outcome = Result<Applied, String>;

#[derive(Debug, Clone)]
pub struct Applied {
    /// The keys that have other values, or have come or gone.
    pub changed: Vec<String>,
    pub needs_restart: Vec<String>,
    /// Contexts that have refused what it gives them: their last generations serve on.
    pub not_taken: Vec<NotTaken>,
}

/// Keeps the configuration in step with its files.
pub struct Keeper {
    live: Arc<Live>,
    asks: mpsc::Receiver<oneshot::Sender<Outcome>>,
    listeners: Listeners,
    hangups: Signal,
    /// Those of the configuration in force.
    files: Files,
    /// What was tried last: these files, as they lay there.
    tried: Stamp,
    /// When that was refused.
    refused: Option<Instant>,
    /// Asks for a pass of the deployment.
    deploy: Arc<Notify>,
    /// Those who wait for generations.
    waiting: JoinSet<()>,
}

impl Live {
    pub fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the files looked at now, and waits until what they say is in force everywhere, or is refused.
    pub async fn reload(&self) -> Outcome {
        let (told, outcome) = oneshot::channel();
        let stops = || Err("the server stops".to_owned());
        match self.asks.send(told).await {
            Ok(()) => outcome.await.unwrap_or_else(|_| stops()),
            Err(_) => stops(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Keeper {
    /// `listeners`: those of the configuration, which are open.
    pub fn new(
        (container, tls): (Arc<Container>, Arc<InForce>),
        listeners: Listeners,
        settings: Vec<Setting>,
        (files, tried): (Files, Stamp),
        deploy: Arc<Notify>,
        hangups: Signal,
    ) -> Keeper {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let known = Known { settings: Arc::new(settings), refused: None, needs_restart: Vec::new() };
        let live = Arc::new(Live { container, tls, known: Mutex::new(known), asks });
        Keeper { live, asks: asked, listeners, hangups, files, tried, refused: None, deploy, waiting: JoinSet::new() }
    }

    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    /// Runs until `stopped` turns true, and the connections of all listeners have ended.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), tokio::task::JoinError> {
        let mut folders = Folders::new();
        let mut rest = Rest::new(&self.tried);
        // Something may have changed since the start has read it.
        let mut again = Some(Duration::ZERO);
        loop {
            let anyway = folders.anyway().min(self.tries_again().unwrap_or(Duration::MAX));
            let is_new = folders.follow(&self.folders());
            tokio::select! {
                () = folders.changed(), if !is_new => {}
                () = tokio::time::sleep(if is_new { Duration::ZERO } else { again.unwrap_or(anyway) }) => {}
                Some(told) = self.asks.recv() => {
                    self.asked(told).await;
                }
                _ = self.hangups.recv() => {
                    tracing::info!("SIGHUP: the configuration is read");
                    // What is wrong is said again to who asks again.
                    self.live.change(|known| known.refused = None);
                    drop(self.renew().await);
                }
                error = self.listeners.broken() => return Err(error),
                Some(_) = self.waiting.join_next() => continue,
                () = run::told(&mut stopped) => break,
            }
            self.live.tls.remind();
            let now = self.stamp();
            again = rest.look(&now, &self.tried, &self.main());
            if again.is_none() && (now != self.tried || self.tries_again().is_some_and(|left| left.is_zero())) {
                drop(self.renew().await);
            }
        }
        self.waiting.shutdown().await;
        self.listeners.stop().await;
        Ok(())
    }

    /// `None`: nothing is refused.
    fn tries_again(&self) -> Option<Duration> {
        self.refused.map(|refused| TRIED_AGAIN.saturating_sub(refused.elapsed()))
    }

    fn main(&self) -> PathBuf {
        self.live.container.config().file.clone()
    }

    /// The files as they lie there now.
    fn stamp(&self) -> Stamp {
        Stamp::of(&self.tried.files(), &self.main())
    }

    /// What is to be watched: files come and go by their folders.
    fn folders(&self) -> Vec<(PathBuf, bool)> {
        let files = self.tried.files();
        let mut folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        folders.insert(beside(&self.main()));
        folders.into_iter().map(|folder| (folder, false)).collect()
    }

    async fn asked(&mut self, mut told: oneshot::Sender<Outcome>) {
        let outcome = self.renew().await;
        let Ok(mut applied) = outcome else {
            let _ = told.send(outcome);
            return;
        };
        let (container, deploy) = (self.live.container.clone(), self.deploy.clone());
        self.waiting.spawn(async move {
            tokio::select! {
                not_taken = container.taken() => {
                    deploy.notify_one();
                    applied.not_taken = not_taken;
                    let _ = told.send(Ok(applied));
                }
                // Nobody waits any more.
                () = told.closed() => {}
            }
        });
    }

    /// Reads the files, and puts in force what they say.
    async fn renew(&mut self) -> Outcome {
        let outcome = self.apply().await;
        self.refused = outcome.is_err().then(Instant::now);
        match &outcome {
            Err(sentence) => {
                self.renew_certificates().await;
                let before = self.live.known().refused;
                if before.as_ref() != Some(sentence) {
                    tracing::error!(
                        "the configuration is refused as a whole, and the one before stays in force: {sentence}"
                    );
                }
                self.live.change(|known| known.refused = Some(sentence.clone()));
            }
            Ok(applied) => {
                let before = self.live.known();
                let is_back = before.refused.is_some();
                let needs_restart = applied.needs_restart.clone();
                if needs_restart != before.needs_restart && !needs_restart.is_empty() {
                    let keys = needs_restart.join(", ");
                    tracing::warn!(
                        "a restart is needed for {keys}: until then what was in force stays so; all else is in force"
                    );
                }
                if !applied.changed.is_empty() {
                    tracing::info!("the configuration has changed, and is in force: {}", shown(&applied.changed));
                } else if is_back {
                    tracing::info!("the configuration is good again, and the same as before");
                }
                self.live.change(|known| (known.refused, known.needs_restart) = (None, needs_restart));
            }
        }
        outcome
    }

    /// Those of the configuration in force, which another one that is refused must not let expire.
    async fn renew_certificates(&mut self) {
        let listeners = self.live.container.config().listeners.clone();
        // What is wrong with them is said with the configuration.
        if let Ok(tls) = self.certificates(&listeners).await
            && let Ok(listeners) = self.listeners.prepare(&listeners, &tls)
        {
            self.listeners.put_in_force(listeners);
            self.live.tls.put_in_force(tls);
        }
    }

    /// An error is a sentence.
    async fn certificates(&self, listeners: &[Listener]) -> Result<tls::State, String> {
        let (tls, listeners) = (self.live.tls.clone(), listeners.to_vec());
        let read = tokio::task::spawn_blocking(move || tls.prepare(&listeners)).await;
        read.unwrap_or_else(|error| Err(format!("the certificates could not be read: {error}; please report it")))
    }

    async fn apply(&mut self) -> Outcome {
        let before = self.live.container.config();
        let read = self.read(&before).await?;
        self.refuse_emptied(&read.empty, &before.file)?;
        let (mut server, mut settings) = read.settings.map_err(|problems| problems.to_string())?;
        dev::adapt(&mut server, &mut settings);
        let known = self.live.known();
        let needs_restart = keep_what_needs_restart(&mut server, &mut settings, (&before, &known.settings));
        let level = run::level_filter(&server.log.level)?;
        let tls = self.certificates(&server.listeners).await?;
        let listeners = self.listeners.prepare(&server.listeners, &tls)?;
        let server = Arc::new(server);
        let prepared = self.live.container.prepare(server.clone())?;

        self.live.container.put_in_force(prepared).await;
        self.listeners.put_in_force(listeners);
        self.live.tls.put_in_force(tls);
        if server.log.level != before.log.level {
            run::set_level(level);
        }
        if server.listeners != before.listeners {
            home::raise_file_limit(&server);
        }
        let changed = changed(&known.settings, &settings);
        self.live.change(|known| known.settings = Arc::new(settings));
        self.files = Files { all: read.files, empty: read.empty };
        self.deploy.notify_one();
        Ok(Applied { changed, needs_restart, not_taken: Vec::new() })
    }

    /// A file that had something in it and has nothing now is being written, as by `make > file`.
    fn refuse_emptied(&self, empty: &BTreeSet<PathBuf>, main: &Path) -> Result<(), String> {
        let emptied = |file: &&PathBuf| self.files.all.contains(*file) && !self.files.empty.contains(*file);
        let Some(file) = empty.iter().find(emptied) else { return Ok(()) };
        let instead = match file {
            file if file == main => "to have all defaults, write a comment into it",
            file if file.parent() == Some(&beside(main)) => {
                "to have nothing of it, write a comment into it, or remove it"
            }
            _ => "to have an empty value, write an empty line into it",
        };
        Err(format!("{} is empty, as a file is that is being written; {instead}", file.display()))
    }

    /// Reads the files, and remembers how they lay there. An error is a sentence.
    async fn read(&mut self, before: &Arc<Server>) -> Result<Read<(Server, Vec<Setting>)>, String> {
        let (config, known) = (before.clone(), self.files.all.clone());
        let read = tokio::task::spawn_blocking(move || read_as_one(&config.file, &config.home, &known)).await;
        let (read, stamp) = read.map_err(|error| format!("it could not be read: {error}; please report it"))?;
        self.tried = stamp;
        read
    }
}

/// Reads the files as they lie there at one time, which is the second: some as before a change and others as behind it would be what
/// nobody has written. `known`: what is watched besides those that they name. An error is a sentence.
pub fn read_as_one(file: &Path, home: &Path, known: &BTreeSet<PathBuf>) -> (Result<WholeRead, String>, Stamp) {
    let mut files = known.clone();
    let mut stamp = Stamp::of(&files, file);
    for _ in 0..READS_MAX {
        let read = read_server(file, home);
        let all: BTreeSet<PathBuf> = known.union(&read.files).cloned().collect();
        if all.is_subset(&files) && Stamp::of(&files, file) == stamp {
            return (Ok(read), stamp);
        }
        if all.is_subset(&files) {
            std::thread::sleep(SETTLE);
        }
        files = all;
        // Before they are read: what is written from now on is seen at the next look.
        stamp = Stamp::of(&files, file);
    }
    (Err("the files of the configuration keep changing while they are read".to_owned()), stamp)
}

/// The folder of further files.
fn beside(file: &Path) -> PathBuf {
    file.with_file_name("conf.d")
}

/// Leaves in force what no running server can change, and returns the keys of it that have other values.
fn keep_what_needs_restart(
    server: &mut Server,
    settings: &mut [Setting],
    (before, known): (&Server, &[Setting]),
) -> Vec<String> {
    server.keep_until_restart(settings, before);
    let mut keys = Vec::new();
    for setting in settings.iter_mut().filter(|setting| setting.needs_restart()) {
        let in_force = known.iter().find(|known| (&known.table, &known.key) == (&setting.table, &setting.key));
        if let Some(in_force) = in_force.filter(|in_force| **in_force != *setting) {
            keys.push(format!("`{}` in [{}]", setting.key, setting.table));
            *setting = in_force.clone();
        }
    }
    keys
}

/// The keys whose values are not the same.
pub fn changed(one: &[Setting], other: &[Setting]) -> Vec<String> {
    let way = |setting: &Setting| format!("{}.{}", setting.table, setting.key);
    let missing = |from: &[Setting], in_them: &[Setting]| -> BTreeSet<String> {
        let known: std::collections::HashMap<(&str, &str), &Setting> =
            in_them.iter().map(|setting| ((&*setting.table, &*setting.key), setting)).collect();
        let differs = |setting: &&Setting| known.get(&(&*setting.table, &*setting.key)) != Some(setting);
        from.iter().filter(differs).map(way).collect()
    };
    missing(one, other).union(&missing(other, one)).cloned().collect()
}

fn shown(keys: &[String]) -> String {
    let mut text = keys.iter().take(NAMED_MAX).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    if keys.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", keys.len() - NAMED_MAX));
    }
    text
}

/// How files lay there: device, number, length, and the times of content and record. None: one is not there, or cannot be seen.
#[derive(Clone, PartialEq)]
pub struct Stamp(Vec<(PathBuf, Option<[i64; 7]>)>);

impl Stamp {
    fn of(files: &BTreeSet<PathBuf>, main: &Path) -> Stamp {
        let look = |path: PathBuf| {
            let found = std::fs::metadata(&path).ok().map(|found| {
                let (device, number, len) = (found.dev() as i64, found.ino() as i64, found.len() as i64);
                // What a folder is long says nothing of the files that are read.
                let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
                [device, number, len, times[0], times[1], times[2], times[3]]
            });
            (path, found)
        };
        let mut all = files.clone();
        all.insert(beside(main));
        Stamp(all.into_iter().map(look).collect())
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        self.0.iter().map(|(file, _)| file.clone()).collect()
    }
}

/// Whether the files are at rest.
struct Rest {
    seen: Stamp,
    since: Instant,
    /// Since when there is something new.
    pending: Option<Instant>,
    said: bool,
}

impl Rest {
    fn new(now: &Stamp) -> Rest {
        Rest { seen: now.clone(), since: Instant::now(), pending: None, said: false }
    }

    /// Says when to look again; `None`: what is there now is what was tried, or has been at rest for long enough.
    fn look(&mut self, now: &Stamp, tried: &Stamp, main: &Path) -> Option<Duration> {
        if now == tried {
            (self.pending, self.said) = (None, false);
            self.seen = now.clone();
            return None;
        }
        if *now != self.seen {
            (self.seen, self.since) = (now.clone(), Instant::now());
        }
        let pending = self.pending.get_or_insert_with(Instant::now).elapsed();
        let left = SETTLE.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero());
        if left.is_some() && pending > RESTLESS && !std::mem::replace(&mut self.said, true) {
            let main = main.display();
            tracing::warn!(
                "{main}, or a file that it depends on, keeps changing; it is read when it has been at rest for {SETTLE:?}"
            );
        }
        left
    }
}
