//! Tomcat 10 as it is installed, in a folder of its own, with a webapp for each way of replacing one. Its class is compiled by the JDK's
//! javac.

use super::{Way, await_first_answer, stamped};
use crate::pin::find_program;
use anyhow::{Context, Result};
use e2e::process::{self, Program};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Every which time it looks for changes (`backgroundProcessorDelay`): once a second, and as it is shipped.
pub const SCANS: [Duration; 2] = [Duration::from_secs(1), SHIPPED_SCAN];
const SHIPPED_SCAN: Duration = Duration::from_secs(10);

/// Where Debian's packages have it; `CATALINA_HOME` says otherwise.
const HOME: &str = "/usr/share/tomcat10";
const STARTED_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(45);
const COMPILED_WITHIN: Duration = Duration::from_secs(120);
const LISTENING: &str = "Starting ProtocolHandler";
const STARTED: &str = "Server startup in ";

const CLASS: &str = "webapps/class";
const WEB_XML: &str = "webapps/web-xml";
const WAR: &str = "webapps/war.war";

/// What is there to run it.
pub struct Installed {
    home: PathBuf,
    conf: PathBuf,
    javac: PathBuf,
    jar: PathBuf,
}

impl Installed {
    /// The error names what is missing.
    pub fn find() -> Result<Installed, String> {
        let home = std::env::var_os("CATALINA_HOME").map_or_else(|| PathBuf::from(HOME), PathBuf::from);
        // Debian keeps there what an instance starts with.
        let conf = ["skel/conf", "conf"].iter().map(|conf| home.join(conf)).find(|conf| conf.join("web.xml").is_file());
        let tomcat =
            conf.filter(|_| home.join("bin/catalina.sh").is_file() && home.join("lib/servlet-api.jar").is_file());
        let conf = tomcat.ok_or_else(|| {
            format!("it is not installed in {} (Debian: tomcat10-user), or set CATALINA_HOME", home.display())
        })?;
        let jdk = |name| {
            find_program(name).ok_or_else(|| format!("{name} is not installed (Debian: openjdk-17-jdk-headless)"))
        };
        jdk("java")?;
        Ok(Installed { javac: jdk("javac")?, jar: jdk("jar")?, home, conf })
    }

    /// Returns the class of a servlet that answers with a version.
    pub fn compile(&self) -> Result<Vec<u8>> {
        let folder = temporary()?;
        let source = folder.path().join("Version.java");
        fs::write(&source, include_str!("Version.java"))?;
        let mut command = Command::new(&self.javac);
        command.arg("-cp").arg(self.home.join("lib/servlet-api.jar")).arg(&source);
        process::run(command, COMPILED_WITHIN)?;
        Ok(fs::read(folder.path().join("Version.class"))?)
    }
}

/// A running Tomcat.
pub struct Server {
    program: Program,
    address: SocketAddr,
    scan: Duration,
    base: TempDir,
    class: Vec<u8>,
    jar: PathBuf,
}

impl Server {
    pub fn start(installed: &Installed, class: &[u8], scan: Duration) -> Result<Server> {
        let base = temporary()?;
        let at = |path: &str| base.path().join(path);
        for folder in ["conf", "temp", "logs", "work"] {
            fs::create_dir(at(folder))?;
        }
        for file in ["web.xml", "context.xml", "catalina.properties"] {
            fs::copy(installed.conf.join(file), at("conf").join(file))
                .with_context(|| format!("copy Tomcat's {file}"))?;
        }
        let server_xml = include_str!("server.xml").replace("SCAN", &scan.as_secs().to_string());
        fs::write(at("conf/server.xml"), server_xml)?;
        let first = stamped(class, 0)?;
        for webapp in [CLASS, WEB_XML] {
            write_webapp(&at(webapp), &first)?;
        }
        fs::create_dir(at(CLASS).join("META-INF"))?;
        fs::write(at(CLASS).join("META-INF/context.xml"), "<Context reloadable=\"true\"/>\n")?;
        pack(&installed.jar, base.path(), &first)?;

        // The script becomes java.
        let mut command = Command::new(installed.home.join("bin/catalina.sh"));
        command.arg("run").env("CATALINA_HOME", &installed.home).env("CATALINA_BASE", base.path());
        command.env("CATALINA_OPTS", "-Xmx512m");
        let program = Program::start("tomcat", command)?;
        program.wait_for_line(0, STARTED_WITHIN, |line| line.contains(STARTED))?;
        let line = program.wait_for_line(0, STARTED_WITHIN, |line| line.contains(LISTENING))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port_of(&line)?));
        for target in ["/class/plain", "/web-xml/plain", "/war/plain"] {
            await_first_answer(address, target)?;
        }
        Ok(Server { program, address, scan, base, class: class.to_vec(), jar: installed.jar.clone() })
    }

    pub fn ways(&self) -> Vec<Way<'_>> {
        let way = |name, target, change| {
            let (program, address, scan) = (&self.program, self.address, self.scan);
            Way { name, program, address, target, scan, change: Some(change) }
        };
        if self.scan == SHIPPED_SCAN {
            return vec![way(
                "tomcat, class, 10 s",
                "/class/plain",
                Box::new(|version| self.write_class(CLASS, version)),
            )];
        }
        let touched = |version| {
            self.write_class(WEB_XML, version)?;
            fs::File::open(self.base.path().join(WEB_XML).join("WEB-INF/web.xml"))?.set_modified(SystemTime::now())?;
            Ok(Instant::now())
        };
        let packed = |version| pack(&self.jar, self.base.path(), &stamped(&self.class, version)?);
        vec![
            way("tomcat, class, 1 s", "/class/plain", Box::new(|version| self.write_class(CLASS, version))),
            way("tomcat, web.xml, 1 s", "/web-xml/plain", Box::new(touched)),
            way("tomcat, WAR, 1 s", "/war/plain", Box::new(packed)),
        ]
    }

    pub fn stop(mut self) -> Result<()> {
        // A JVM that is told to end says so by an exit code of its own.
        self.program.stop(STOP_WITHIN).map(drop)
    }

    fn write_class(&self, webapp: &str, version: u64) -> Result<Instant> {
        fs::write(self.base.path().join(webapp).join("WEB-INF/classes/Version.class"), stamped(&self.class, version)?)?;
        Ok(Instant::now())
    }
}

fn write_webapp(folder: &Path, class: &[u8]) -> Result<()> {
    let classes = folder.join("WEB-INF/classes");
    fs::create_dir_all(&classes)?;
    fs::write(folder.join("WEB-INF/web.xml"), include_str!("web.xml"))?;
    Ok(fs::write(classes.join("Version.class"), class)?)
}

/// Makes the archive beside, and puts it in the place of the one before.
fn pack(jar: &Path, base: &Path, class: &[u8]) -> Result<Instant> {
    let (folder, beside) = (base.join("packed"), base.join("packed.war"));
    write_webapp(&folder, class)?;
    let mut command = Command::new(jar);
    command.args([
        OsString::from("--create"),
        "--file".into(),
        (&beside).into(),
        "-C".into(),
        folder.into(),
        ".".into(),
    ]);
    process::run(command, COMPILED_WITHIN)?;
    fs::rename(&beside, base.join(WAR))?;
    Ok(Instant::now())
}

fn temporary() -> Result<TempDir> {
    tempfile::Builder::new().prefix("serval-bench-").tempdir().context("make a temporary folder")
}

/// Reads `Starting ProtocolHandler ["http-nio-127.0.0.1-auto-1-43211"]`: its name ends with the port.
fn port_of(line: &str) -> Result<u16> {
    let port = line.trim_end().trim_end_matches("\"]").rsplit('-').next().unwrap_or_default();
    port.parse().with_context(|| format!("Tomcat names no port: {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_line_that_names_it() {
        let line = "INFO: Starting ProtocolHandler [\"http-nio-127.0.0.1-auto-1-43211\"]";
        assert_eq!(port_of(line).expect("a port"), 43211);
        assert!(port_of("INFO: Starting").is_err());
    }
}
