//! `serval check`: what a start, and the deployment of each webapp, would say of the configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use serval_config::{ContextName, Server, load_web};

use crate::{doubts, listener};

/// Opens each address and reads each descriptor as a start would, so that the two cannot differ.
pub fn run(config: &Server) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let _inside = runtime.as_ref().map(|runtime| runtime.enter());
    for listener in &config.listeners {
        if let (Err(error), Ok(_)) = (listener::bind(listener), &runtime) {
            eprintln!("warning: {error}");
        }
    }
    let unserved = serval_container::not_served(config);
    for doubt in doubts::of_server(config).into_iter().chain(unserved) {
        eprintln!("warning: {doubt}");
    }
    let mut good = vec![config.file.clone()];
    let mut wrong = false;
    for descriptor in descriptors(config) {
        match load_web(&descriptor) {
            // Most webapps have none.
            Ok(_) if !descriptor.exists() => {}
            Ok(web) => {
                let webapp = descriptor.ancestors().nth(2).unwrap_or(&descriptor);
                doubts::of_web(&descriptor, webapp, &web).iter().for_each(|doubt| eprintln!("warning: {doubt}"));
                good.push(descriptor);
            }
            Err(problems) => {
                wrong = true;
                eprintln!("{problems}");
            }
        }
    }
    if wrong {
        return ExitCode::FAILURE;
    }
    good.iter().for_each(|file| println!("{}: ok", file.display()));
    ExitCode::SUCCESS
}

/// Where the webapps of all hosts have their descriptors.
fn descriptors(config: &Server) -> BTreeSet<PathBuf> {
    let mut webapps: BTreeSet<PathBuf> = BTreeSet::new();
    for host in &config.hosts {
        webapps.extend(host.contexts.iter().map(|entry| entry.webapp.clone()));
        let folders = std::fs::read_dir(&host.webapps).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_webapp = |folder: &PathBuf| {
            let name = folder.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| ContextName::from_folder(name).is_ok()) && folder.is_dir()
        };
        webapps.extend(folders.filter(|_| host.auto_deploy).filter(is_webapp));
    }
    webapps.into_iter().map(|webapp| webapp.join("WEB-INF/web.toml")).collect()
}
