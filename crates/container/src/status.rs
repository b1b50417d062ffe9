//! What the server tells of itself (`serval status`): contexts with their generations, and what is left of old ones.

use std::sync::Arc;

use serde::Serialize;

use crate::context::{Context, Waiting};
use crate::dispatch::servlet_count;
use crate::execution::calls_in;
use crate::lives::{LeftMapped, Old};
use crate::{Container, Readiness};

/// As JSON, field by field.
#[derive(Debug, Serialize)]
pub struct Status {
    /// What is told at `ready_path`: `starting`, `ready`, `stopping`.
    pub readiness: Readiness,
    /// By host and path.
    pub contexts: Vec<ContextStatus>,
    /// What is wrong with webapps that are not served, or not as they lie there, and with sessions that cannot be saved; a sentence
    /// each.
    pub problems: Vec<String>,
    /// Generations that newer ones have replaced and that are not gone.
    pub old: Vec<Old>,
    /// How many libraries could not be unloaded since the start.
    pub left_mapped: usize,
    /// The last hundred of them.
    pub left_mapped_last: Vec<LeftMapped>,
}

#[derive(Debug, Serialize)]
pub struct ContextStatus {
    pub host: String,
    /// "/" for the root context, "/shop##2".
    pub context: String,
    /// Where its files lie; of a proxy, its upstream.
    pub webapp: String,
    /// `ready`; `starting`, `building`: its servlets are to come; `failed`: they do not come, the log says why; `stopped` by an operator.
    pub state: &'static str,
    /// That requests get.
    pub generation: u64,
    /// How long it has been the current one.
    pub seconds: u64,
    pub servlets: usize,
    pub sessions: usize,
    /// Calls of its servlets and filters that run now, each on a thread; of a proxy, requests that are at the upstream.
    pub calls: usize,
    /// The generation that is on its way.
    pub next: Option<NextStatus>,
    /// Generations to which `rollback` can go back, the last one first.
    pub kept: Vec<u64>,
    /// Why the last change was refused; the current generation serves on.
    pub refused: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct NextStatus {
    pub generation: u64,
    /// `starting`; `draining`: the current one ends before (`stop-start`); `checking`.
    pub state: &'static str,
    /// How long it has been on its way.
    pub seconds: u64,
}

impl Container {
    pub fn status(&self) -> Status {
        let mut contexts: Vec<ContextStatus> =
            self.hosts.load().contexts().iter().map(|context| self.status_of(context)).collect();
        contexts.sort_by(|one, other| (&one.host, &one.context).cmp(&(&other.host, &other.context)));
        let (left_mapped, left_mapped_last) = self.lives.left();
        Status {
            readiness: self.readiness(),
            contexts,
            problems: [self.deployment.complaints(), self.deployment.snapshots.problems()].concat(),
            old: self.lives.old(),
            left_mapped,
            left_mapped_last,
        }
    }

    fn status_of(&self, context: &Arc<Context>) -> ContextStatus {
        let generation = context.current.load_full();
        ContextStatus {
            host: context.host.load().name.clone(),
            context: context.name.to_string(),
            webapp: match &generation.proxy {
                Some(proxy) => proxy.upstream.to_string(),
                None => generation.webapp.display().to_string(),
            },
            state: match context.waiting() {
                _ if context.is_stopped() => "stopped",
                _ if context.is_held() => "starting",
                Waiting::No => "ready",
                Waiting::Starting => "starting",
                Waiting::Building => "building",
                Waiting::Failed => "failed",
            },
            generation: generation.number,
            seconds: generation.since.elapsed().as_secs(),
            servlets: servlet_count(&generation),
            sessions: context.sessions.count(),
            calls: generation.proxy.as_ref().map_or_else(|| calls_in(generation.id), |proxy| proxy.busy()),
            next: context.next().map(|next| NextStatus {
                generation: next.number,
                state: next.state,
                seconds: next.since.elapsed().as_secs(),
            }),
            kept: self.kept(context).into_iter().filter(|&number| number != generation.origin).collect(),
            refused: context.refused(),
        }
    }
}
