//! A generation as its libraries see it: parameters, named values, folders, attributes, the log, and the jobs that they post.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serval_abi::{SV_E_LIMIT, SV_EVENT_CONTEXT_ATTRIBUTE};
use serval_config::Values;
use serval_loader::exchange::{Answer, Fault, Level, Place};
use serval_loader::module::Module;

use crate::events::{Change, event_of_context, log_failure};
use crate::generation::Plan;
use crate::jobs::Jobs;

/// LIMIT: bytes of all context attributes together.
const ATTRIBUTE_BYTES_MAX: usize = 16 << 20;

/// The generation as its libraries see it.
pub struct Side {
    pub context: Arc<str>,
    path: String,
    pub number: u64,
    parameters: Values,
    env: Values,
    mime: Vec<(String, String)>,
    root: Option<String>,
    work: Option<String>,
    temp: PathBuf,
    /// Once it was asked for.
    temp_text: OnceLock<Option<String>>,
    attributes: Mutex<Vec<(String, Vec<u8>)>>,
    pub jobs: Arc<Jobs>,
    /// Whom to tell of attributes; they hold this.
    pub modules: OnceLock<Vec<Weak<Module>>>,
}

impl Side {
    pub fn new(plan: &Plan) -> Side {
        let ground = &plan.ground;
        let path = if &*ground.context == "/" { String::new() } else { ground.context.to_string() };
        let text = |path: &Path| path.to_str().map(str::to_owned);
        Side {
            context: ground.context.clone(),
            path,
            number: ground.number,
            parameters: ground.web.params.clone(),
            env: ground.web.env.clone(),
            mime: ground.web.mime.clone(),
            root: text(&ground.webapp),
            work: text(&plan.work).filter(|_| std::fs::create_dir_all(&plan.work).is_ok()),
            temp: plan.temp.clone(),
            temp_text: OnceLock::new(),
            attributes: Mutex::default(),
            jobs: Jobs::new(ground.pool.clone(), ground.settings.queue_max.max(1)),
            modules: OnceLock::new(),
        }
    }
}

impl serval_loader::exchange::Context for Side {
    fn log_enabled(&self, level: Level) -> bool {
        match level {
            Level::Error => tracing::enabled!(target: "serval::servlet", tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(target: "serval::servlet", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "serval::servlet", tracing::Level::INFO),
            Level::Debug => tracing::enabled!(target: "serval::servlet", tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(target: "serval::servlet", tracing::Level::TRACE),
        }
    }

    fn log(&self, request: Option<u64>, level: Level, text: &str) {
        let (context, generation) = (&*self.context, self.number);
        match level {
            Level::Error => tracing::error!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Warn => tracing::warn!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Info => tracing::info!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Debug => tracing::debug!(target: "serval::servlet", context, generation, request, "{text}"),
            Level::Trace => tracing::trace!(target: "serval::servlet", context, generation, request, "{text}"),
        }
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    fn folder(&self, place: Place) -> Option<&str> {
        match place {
            Place::Root => self.root.as_deref(),
            Place::Work => self.work.as_deref(),
            Place::Temp => {
                let made =
                    || self.temp.to_str().filter(|_| std::fs::create_dir_all(&self.temp).is_ok()).map(str::to_owned);
                self.temp_text.get_or_init(made).as_deref()
            }
        }
    }

    fn mime_type(&self, file_name: &str) -> Option<&str> {
        let (_, extension) = file_name.rsplit_once('.')?;
        let own = self.mime.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
        own.map(|(_, value)| value.as_str()).or_else(|| serval_static_files::media_type(file_name))
    }

    fn attribute(&self, name: &str) -> Option<Vec<u8>> {
        let attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn set_attribute(&self, name: &str, value: Option<&[u8]>) -> Answer {
        let mut attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        let others = attributes.iter().filter(|(known, _)| known != name);
        let used: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if value.is_some_and(|value| used + name.len() + value.len() > ATTRIBUTE_BYTES_MAX) {
            return Err(Fault::new(SV_E_LIMIT, "the context attributes are over 16 MiB"));
        }
        let at = attributes.iter().position(|(known, _)| known == name);
        let old = at.map(|at| attributes.remove(at).1);
        attributes.extend(value.map(|value| (name.to_owned(), value.to_vec())));
        drop(attributes);
        // A module that is being destroyed is told no more, and is not destroyed while it is told.
        if (old.is_some() || value.is_some())
            && let Some(_hold) = self.jobs.hold()
        {
            for module in self.modules.get().into_iter().flatten().filter_map(Weak::upgrade) {
                let change = Change { name, value, old_value: old.as_deref() };
                let told = event_of_context(&module, SV_EVENT_CONTEXT_ATTRIBUTE, change);
                log_failure(&self.context, self.number, told);
            }
        }
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.number
    }

    fn post(&self, job: Box<dyn FnOnce() + Send>) -> Answer {
        self.jobs.post(job)
    }

    fn resource(&self, name: &str) -> Option<&str> {
        self.env.get(name)
    }
}
