//! One HTTP request: to an operation, to the audit, or to nothing.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::audit::{AuditScope, Names, audit};
use super::refusal::Refusal;
use super::reply::{self, Delivery, ReplyBody};
use super::request::{Request, Route, parse_query};
use super::world::{Answer, Simulation};

/// Longest body of an operation, bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Longest list of serial numbers, bytes.
const MAX_AUDIT_BODY: usize = 16 * 1024 * 1024;
/// Longest time for a body to arrive.
const MAX_UPLOAD: Duration = Duration::from_secs(60);
/// Longest time that a fault leaves a client without an answer.
const MAX_HANG: Duration = Duration::from_secs(120);

/// Answers requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    simulation: Arc<Simulation>,
    rtt: Duration,
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("the connection is closed on purpose")]
    Close,
    #[error("the connection is reset on purpose")]
    Reset,
    #[error("the request did not arrive whole")]
    Upload,
}

impl Service {
    pub(crate) fn new(simulation: Arc<Simulation>, rtt: Duration) -> Self {
        Self { simulation, rtt }
    }

    /// Hands the ledger to the system.
    pub(crate) fn flush(&self) {
        self.simulation.world().ledger.flush();
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The connection is to be closed instead.
    pub(crate) async fn answer(
        self,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<ReplyBody>, Dropped> {
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with("/__") {
            return self.answer_own(&parts, body).await;
        }
        if parts.method == Method::POST && parts.uri.path() == "/" {
            return self.answer_sts(body).await;
        }
        let Some(route) = Route::find(&parts.method, parts.uri.path()) else {
            return respond(self.simulation.refuse_unknown());
        };
        let Some(body) = collect(body, MAX_BODY).await? else {
            let refusal = Refusal::new("RequestEntityTooLargeException", 413, "The body is too large");
            return respond(self.simulation.refuse(&route, refusal));
        };
        let request = match Request::new(route.clone(), &parts, body) {
            Ok(request) => request,
            Err(refusal) => return respond(self.simulation.refuse(&route, refusal)),
        };
        let answer = self.through_the_net(request, parts).await?;
        match Delivery::of(answer) {
            Delivery::Respond(response) => Ok(response),
            Delivery::Close => Err(Dropped::Close),
            Delivery::Reset => Err(Dropped::Reset),
            Delivery::Hang => {
                tokio::time::sleep(MAX_HANG).await;
                Err(Dropped::Close)
            }
        }
    }

    /// Lets half the round trip pass, then the request take effect, then the other half.
    async fn through_the_net(self, request: Request, parts: Parts) -> Result<Answer, Dropped> {
        if self.rtt.is_zero() {
            return Ok(self.simulation.answer(&request, &parts.headers));
        }
        let there = self.rtt / 2;
        let back = self.rtt - there;
        // On a task of its own: a request that has left takes effect though its sender dies.
        let under_way = tokio::spawn(async move {
            tokio::time::sleep(there).await;
            self.simulation.answer(&request, &parts.headers)
        });
        let answer = under_way.await.map_err(|_| Dropped::Close)?;
        tokio::time::sleep(back).await;
        Ok(answer)
    }

    /// STS, as far as it says whose the credentials are: anybody's are the account's.
    async fn answer_sts(self, body: Incoming) -> Result<Response<ReplyBody>, Dropped> {
        let body = collect(body, MAX_BODY).await?.unwrap_or_default();
        let form = parse_query(std::str::from_utf8(&body).unwrap_or_default()).unwrap_or_default();
        if !form.iter().any(|(key, value)| key == "Action" && value == "GetCallerIdentity") {
            return respond(self.simulation.refuse_unknown());
        }
        Ok(reply::caller_identity(&self.simulation.world().account.id))
    }

    async fn answer_own(self, parts: &Parts, body: Incoming) -> Result<Response<ReplyBody>, Dropped> {
        let refuse = |status, message: &str| Ok(reply::json(status, &json!({ "message": message })));
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/__stats") => {
                let stats = self.simulation.world().ledger.stats().clone();
                Ok(reply::json(StatusCode::OK, &stats))
            }
            (&Method::POST, "/__audit") => {
                let scope = match audit_scope(parts.uri.query().unwrap_or_default()) {
                    Ok(scope) => scope,
                    Err(message) => return refuse(StatusCode::BAD_REQUEST, &message),
                };
                let Some(body) = collect(body, MAX_AUDIT_BODY).await? else {
                    return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the list is longer than 16 MiB");
                };
                let Ok(text) = std::str::from_utf8(&body) else {
                    return refuse(StatusCode::BAD_REQUEST, "the list is not UTF-8");
                };
                let serials: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
                let world = self.simulation.world();
                let devices: Vec<_> = serials.into_iter().map(Names::from).collect();
                let audit = audit(&world.account, &devices, scope, world.ledger.stats().calls.clone());
                Ok(reply::json(StatusCode::OK, &audit))
            }
            _ => refuse(StatusCode::NOT_FOUND, "there are POST /__audit and GET /__stats"),
        }
    }
}

fn respond(answer: Answer) -> Result<Response<ReplyBody>, Dropped> {
    match Delivery::of(answer) {
        Delivery::Respond(response) => Ok(response),
        _ => Err(Dropped::Close),
    }
}

/// The whole body, or `None` if it is longer than `limit`.
async fn collect(body: Incoming, limit: usize) -> Result<Option<Bytes>, Dropped> {
    let collected = tokio::time::timeout(MAX_UPLOAD, Limited::new(body, limit).collect()).await;
    match collected.map_err(|_| Dropped::Upload)? {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(_) => Err(Dropped::Upload),
    }
}

fn audit_scope(query: &str) -> Result<AuditScope, String> {
    let mut scope = AuditScope::default();
    for (key, value) in parse_query(query).ok_or("the query string is not well encoded")? {
        let taken = match key.as_str() {
            "locker" => value.parse().map(|it| scope.locker = it),
            "policy" => value.parse().map(|it| scope.policy = it),
            "certificate" => value.parse().map(|it| scope.certificate = it),
            _ => return Err(format!("{key:?} is not among locker, policy, certificate")),
        };
        taken.map_err(|error: super::audit::UnknownScope| error.to_string())?;
    }
    Ok(scope)
}
