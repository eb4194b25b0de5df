//! `POST /v1/reconcile`: holds the account against the journal, and puts right what can be, if that is asked
//! for. The answer is one JSON object a line, as they come; an empty line now and then says that it goes on.
//! Whoever hangs up ends it; repairs that are journaled by then are finished all the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Problem;
use super::access::Caller;
use super::commands::stopping;
use super::door::EndlessAnswer;
use super::orders::{operator, or_empty, read};
use super::problem::{Refused, bad_request, conflict};
use super::query;
use super::server::{Command, Context};
use crate::reconcile::{Told, Wish};

/// What is noted where nobody says why.
const NO_REASON: &str = "reconciliation";

/// Holds the account against the journal.
#[utoipa::path(
    post,
    path = "/v1/reconcile",
    operation_id = "reconcile",
    tag = "devices",
    request_body(content = Option<Wish>, description = "What is looked at, and whether it is put right: docs/reconcile.md"),
    responses(
        (status = 200, description = "Progress, findings and at the end a summary, a document a line",
            content((serde_json::Value = "application/x-ndjson"))),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "One runs already, or the selection names nothing", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn run(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Refused> {
    let body = or_empty(&body);
    let wish: Wish = read(body)?;
    check(&wish)?;
    let whole: serde_json::Value = read(body)?;
    if whole.get("selection").is_some_and(|it| !it.is_object()) {
        return Err(bad_request("\"selection\" is an object"));
    }
    let reason = wish.reason.clone().unwrap_or_else(|| NO_REASON.to_owned());
    let by = operator(&context, caller, reason).await?;
    let (reply, answer) = oneshot::channel();
    context.commands.send(Command::Reconcile { wish, by, reply }).await.map_err(|_| stopping())?;
    let told = answer.await.map_err(|_| stopping())?.map_err(conflict)?;
    let lines = Lines { told, ending: context.ending.clone(), keep_alive: context.limits.keep_alive };
    let body = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    let mut response =
        ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response();
    response.extensions_mut().insert(EndlessAnswer);
    Ok(response)
}

fn check(wish: &Wish) -> Result<(), Refused> {
    if let Some(after) = &wish.after {
        query::serial("after", after)?;
    }
    if wish.repair && wish.quick {
        return Err(bad_request("a repair needs the whole look: \"quick\" does not go with \"repair\""));
    }
    if wish.repair && wish.after.is_some() {
        return Err(bad_request(
            "a repair begins at the first device: \"after\" does not go with \"repair\"",
        ));
    }
    if wish.delete_extras && !wish.repair {
        return Err(bad_request("\"delete_extras\" goes with \"repair\" only"));
    }
    Ok(())
}

struct Lines {
    told: mpsc::Receiver<Told>,
    ending: CancellationToken,
    keep_alive: Duration,
}

impl Lines {
    /// The next line; none at the end, or when the daemon ends.
    async fn next(&mut self) -> Option<Bytes> {
        let told = tokio::select! {
            biased;
            () = self.ending.cancelled() => return None,
            told = tokio::time::timeout(self.keep_alive, self.told.recv()) => told,
        };
        let Ok(told) = told else { return Some(Bytes::from_static(b"\n")) };
        // Strings, numbers and maps of them: cannot fail.
        let mut line = serde_json::to_vec(&told?).unwrap_or_default();
        line.push(b'\n');
        Some(line.into())
    }
}
