//! Requests of a context whose generation is not there: one that an operator has stopped, or whose next one is on its way
//! (`stop-start`). Those are held, as many as may wait for a thread of the context, and as long (`queue_max`, `queue_timeout`).

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::answering::Answer;
use crate::body::ResponseBody;
use crate::context::Context;
use crate::exchange::Request;
use crate::generation::{Gate, Generation};
use crate::problem::Problem;
use crate::turn::Turn;
use crate::{error_page, within};

const STARTS: &str = "This application is starting.";

/// A request that is held, until it is dropped.
struct Held(Arc<Context>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer to a request that has met a gate.
pub fn answer(context: Arc<Context>, generation: Arc<Generation>, request: Box<Request>, turn: &Arc<Turn>) -> Answer {
    let before = context.held.fetch_add(1, Ordering::Relaxed);
    let held = Held(context.clone());
    if before >= generation.settings.queue_max {
        return problem(&Problem::unavailable(1).because_public(STARTS), &request.headers, &context, &generation)
            .into();
    }
    let turn = turn.clone();
    Answer::Later(Box::pin(async move {
        let entered = wait(&context, generation).await;
        drop(held);
        let mut answer = match entered {
            Ok(generation) => within(context, generation, request, &turn),
            Err((met, generation)) => problem(&met, &request.headers, &context, &generation).into(),
        };
        poll_fn(|task| answer.poll(&turn, task)).await
    }))
}

/// Waits for a generation that lets it in.
async fn wait(
    context: &Context,
    mut generation: Arc<Generation>,
) -> Result<Arc<Generation>, (Box<Problem>, Arc<Generation>)> {
    let deadline = Instant::now() + generation.settings.queue_timeout;
    loop {
        let mut gone = match &generation.gate {
            None => return Ok(generation),
            _ if context.is_gone() => return Err((Problem::new(StatusCode::NOT_FOUND), generation)),
            Some(Gate::Stopped) => {
                return Err((Problem::unavailable(10).because_public("This application is stopped."), generation));
            }
            Some(Gate::Held(sender)) => sender.subscribe(),
        };
        drop(generation);
        // It never changes; an error is the gate's end.
        let is_late = timeout_at(deadline, gone.changed()).await.is_err();
        generation = context.current.load_full();
        if is_late && generation.gate.is_some() {
            return Err((Problem::unavailable(1).because_public(STARTS), generation));
        }
    }
}

fn problem(
    problem: &Problem,
    headers: &HeaderMap,
    context: &Context,
    generation: &Generation,
) -> Response<ResponseBody> {
    error_page::without(problem, headers, context, generation)
}
