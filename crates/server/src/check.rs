//! `serval check`: what a start, and the deployment of each webapp, would say of the configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use serval_config::{ContextName, Server};

use crate::doubts;
use crate::inherited::Inherited;
use crate::socket::Socket;
use crate::tls::InForce;
use crate::user::User;

/// Opens each address and reads each descriptor as a start would, so that the two cannot differ.
pub fn run(config: &Server) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let _inside = runtime.as_ref().map(|runtime| runtime.enter());
    for listener in &config.listeners {
        if let (Err(error), Ok(_)) = (Socket::bind(listener, &Inherited::default()), &runtime) {
            eprintln!("warning: {error}");
        }
    }
    if let Some(Err(error)) = config.user.as_ref().map(User::named) {
        eprintln!("warning: {error}");
    }
    let unserved = serval_container::not_served(config);
    let tls = InForce::default().prepare(&config.listeners);
    let of_tls = tls.as_ref().map(|tls| [tls.doubts(), tls.unnamed(&config.hosts)].concat()).unwrap_or_default();
    for doubt in doubts::of_server(config).into_iter().chain(unserved).chain(of_tls) {
        eprintln!("warning: {doubt}");
    }
    let mut good = BTreeSet::from([config.file.clone()]);
    // Contexts that share a webapp have the same problems, but for what server.toml gives them.
    let mut wrong: BTreeSet<String> = tls.err().into_iter().collect();
    for (webapp, host, path) in contexts(config) {
        let descriptor = webapp.join("WEB-INF/web.toml");
        match config.load_web(&config.hosts[host], &path, &webapp) {
            // Most webapps have none.
            Ok(_) if !descriptor.exists() => {}
            Ok(web) => {
                if good.insert(descriptor.clone()) {
                    doubts::of_web(&descriptor, &webapp, &web).iter().for_each(|doubt| eprintln!("warning: {doubt}"));
                }
            }
            Err(problems) => drop(wrong.insert(problems.to_string())),
        }
    }
    wrong.iter().for_each(|problems| eprintln!("{problems}"));
    if !wrong.is_empty() {
        return ExitCode::FAILURE;
    }
    good.iter().for_each(|file| println!("{}: ok", file.display()));
    ExitCode::SUCCESS
}

/// The webapps of all hosts, each with the number of its host and the path that it is served at.
fn contexts(config: &Server) -> BTreeSet<(PathBuf, usize, String)> {
    let mut contexts = BTreeSet::new();
    for (number, host) in config.hosts.iter().enumerate() {
        contexts.extend(host.contexts.iter().map(|entry| (entry.webapp.clone(), number, entry.path.clone())));
        let folders = std::fs::read_dir(&host.webapps).into_iter().flatten().flatten().map(|entry| entry.path());
        let has_entry = |folder: &PathBuf| host.contexts.iter().any(|entry| entry.webapp == *folder);
        for folder in folders.filter(|folder| host.auto_deploy && !has_entry(folder) && folder.is_dir()) {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if let Ok(name) = ContextName::from_folder(name) {
                contexts.insert((folder, number, name.path));
            }
        }
    }
    contexts
}
