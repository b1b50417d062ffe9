//! Setups on disk, and the real program that serves them: many in one process, each a virtual host of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::format::{App, Coded, Content, FileOperation, Setup};
use super::keys::{self, text};
use super::setup::{HostPlan, Plan, Table, Webapp, lines, webapp_alone};
use crate::serval::{Home, Serval};

/// The name of a host without webapps: for names that belong to none, as Tomcat's `localhost`.
const NOBODY: &str = "nobody.invalid";

/// A running server, and where its setups are.
pub struct World {
    home: Home,
    serval: Serval,
    listeners: Vec<Table>,
    library: PathBuf,
}

impl World {
    /// Writes the setups and starts a server for them. `library` is that of the fixtures.
    pub fn start(setups: &[(&Setup, &Plan)], library: &Path) -> Result<World> {
        let home = Home::new()?;
        let mut listeners: Vec<Table> = Vec::new();
        for (_, plan) in setups {
            if !listeners.contains(&plan.listener) {
                listeners.push(plan.listener.clone());
            }
        }
        home.write("conf/server.toml", server_toml(&listeners, setups.iter().map(|(_, plan)| *plan)))?;
        fs::create_dir_all(home.path(&format!("hosts/{NOBODY}")))?;
        fs::create_dir_all(home.path("logs"))?;
        // A copy of its own: each link that another world makes changes the file, and a server waits until it is at rest.
        let own = home.path("fixtures.so");
        fs::copy(library, &own).with_context(|| format!("copy {}", library.display()))?;
        let library = own;
        for (setup, plan) in setups {
            for host in &plan.hosts {
                let apps = match (&setup.apps, &setup.hosts) {
                    (Some(apps), _) => apps,
                    (_, Some(hosts)) => &hosts[&host.name].apps,
                    _ => bail!("a setup without webapps"),
                };
                let folder = home.path(&format!("hosts/{}", host.name));
                for (app, webapp) in apps.iter().zip(&host.webapps) {
                    write_webapp(&folder, app, webapp, &library)
                        .with_context(|| format!("write the webapp {:?}", app.dir))?;
                }
            }
        }
        let serval = Serval::start(&home)?;
        Ok(World { home, serval, listeners, library })
    }

    /// Returns where a setup is to be asked.
    pub fn address(&self, plan: &Plan) -> Result<SocketAddr> {
        let place = self.listeners.iter().position(|listener| *listener == plan.listener);
        place
            .and_then(|place| self.serval.addresses().get(place).copied())
            .context("the setup's listener did not start")
    }

    /// Returns the access log of a host.
    pub fn access_log(&self, host: &str) -> PathBuf {
        self.home.path(&format!("logs/{}", log_file(host)))
    }

    /// Returns what the server said of webapps that it does not serve, and the like; not what it says of the scripts of `act`,
    /// which use the interface wrongly on purpose.
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.serval.program().lines_from(0);
        let is_complaint = |line: &String| line.contains("ERROR") || line.contains("WARN");
        let on_purpose = |line: &String| line.contains("wrong use of the servlet ABI");
        lines.into_iter().filter(|line| is_complaint(line) && !on_purpose(line)).collect()
    }

    /// Changes the webapps of a host.
    pub fn operate(&self, host: &str, operation: &FileOperation) -> Result<()> {
        let folder = self.home.path(&format!("hosts/{host}"));
        match operation {
            FileOperation::App { app, .. } => write_webapp(&folder, app, &webapp_alone(app)?, &self.library),
            FileOperation::Write { path, text, size, b64, mtime } => {
                let coded = Coded { text: text.clone(), size: *size, b64: b64.clone(), mtime: *mtime };
                // Tomcat's descriptor is web.xml.
                let path = match path.strip_suffix("WEB-INF/web.xml") {
                    Some(webapp) => format!("{webapp}WEB-INF/web.toml"),
                    None => path.clone(),
                };
                write_file(&inside(&folder, &path)?, &Content::Coded(coded))
            }
            FileOperation::Touch { path, mtime } => {
                let time = mtime.map_or_else(SystemTime::now, at);
                Ok(fs::File::open(inside(&folder, path)?)?.set_modified(time)?)
            }
            FileOperation::Rm { path } => {
                let path = inside(&folder, path)?;
                if path.is_dir() { Ok(fs::remove_dir_all(path)?) } else { Ok(fs::remove_file(path)?) }
            }
            FileOperation::Mv { path, to } => Ok(fs::rename(inside(&folder, path)?, inside(&folder, to)?)?),
        }
    }
}

fn log_file(host: &str) -> String {
    format!("{host}.log")
}

fn server_toml<'a>(listeners: &[Table], plans: impl Iterator<Item = &'a Plan>) -> String {
    let mut toml = format!("[server]\n{}", lines(&Table::from(keys::SERVER_DEFAULTS.map(|(k, v)| (k, v.to_owned())))));
    for listener in listeners {
        toml += &format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{}", lines(listener));
    }
    toml += &format!("[[host]]\nname = \"{NOBODY}\"\nwebapps = \"hosts/{NOBODY}\"\n");
    for host in plans.flat_map(|plan| &plan.hosts) {
        toml += &host_toml(host);
    }
    toml
}

fn host_toml(host: &HostPlan) -> String {
    let aliases = keys::texts(host.aliases.iter().map(String::as_str));
    let folder = text(&format!("hosts/{}", host.name));
    let mut toml = format!("[[host]]\nname = {}\naliases = {aliases}\nwebapps = {folder}\n", text(&host.name));
    if let Some(log) = &host.access_log {
        let file = text(&log_file(&host.name));
        toml += &format!("[host.access_log]\nfolder = \"logs\"\nfile = {file}\n{}", lines(log));
    }
    // Versions share a path, and its settings.
    let paths: BTreeMap<&str, &Webapp> = host.webapps.iter().map(|webapp| (&*webapp.path, webapp)).collect();
    for (path, webapp) in paths {
        toml += &format!("[[host.context]]\npath = {}\n{}", text(path), lines(&webapp.context));
        if let Some(remote_ip) = &webapp.remote_ip {
            toml += &format!("[host.context.remote_ip]\n{}", lines(remote_ip));
        }
    }
    toml
}

fn write_webapp(folder: &Path, app: &App, webapp: &Webapp, library: &Path) -> Result<()> {
    let root = inside(folder, &webapp.folder)?;
    for (path, content) in &app.files {
        write_file(&inside(&root, path)?, content).with_context(|| path.clone())?;
    }
    let place = root.join("WEB-INF/lib");
    fs::create_dir_all(&place)?;
    let place = place.join("fixtures.so");
    if !place.exists() {
        // A link costs nothing; where there can be none, a copy.
        fs::hard_link(library, &place).or_else(|_| fs::copy(library, &place).map(drop))?;
    }
    // Put in place whole, for a server that watches.
    let unfinished = root.join("WEB-INF/web.toml.tmp");
    fs::write(&unfinished, &webapp.web)?;
    Ok(fs::rename(unfinished, root.join("WEB-INF/web.toml"))?)
}

fn write_file(path: &Path, content: &Content) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content.bytes()?)?;
    if let Some(mtime) = content.mtime() {
        fs::File::open(path)?.set_modified(at(mtime))?;
    }
    Ok(())
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A file of vectors names nothing outside of its own folders.
fn inside(folder: &Path, path: &str) -> Result<PathBuf> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(plain && !path.is_empty(), "{path:?} is not a path inside of the webapps");
    Ok(folder.join(path))
}
