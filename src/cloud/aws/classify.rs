//! From the SDK's error to [`CloudError`]: by AWS's error code, and never by the HTTP status alone.
//!
//! AWS throttles with 400 here and 429 there, and a plant's proxy answers 403, 404 and 502 in
//! AWS's place. So a failure without an AWS error code says nothing about what AWS did.

mod words;

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use hyper_util::client::legacy;

use super::super::{CloudError, FailureKind, Operation, StopCause};
pub(super) use words::{chain, credentials as credentials_cause, one_line};

/// No server may hold a lane longer than this with one answer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// What the SDK's identity cache says when a lookup hangs; its type is private.
const LOOKUP_TIMED_OUT: &str = "identity resolver timed out";

/// An error of `operation` that has neither code nor status.
pub(super) fn bare(operation: Operation, kind: FailureKind, message: &str) -> CloudError {
    CloudError::new(operation, kind, one_line(message))
}

/// What the failure of one request means.
pub(super) fn failure<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    // Wherever the SDK wraps it, a lookup that failed means that nothing was sent.
    if let Some((kind, cause)) = lookup(error) {
        return bare(operation, kind, &cause);
    }
    match error {
        SdkError::ConstructionFailure(_) => bare(operation, FailureKind::Refused, &words::chain(error)),
        SdkError::TimeoutError(_) => {
            bare(operation, FailureKind::Unknown, "no complete answer within the time for a call")
        }
        SdkError::DispatchFailure(_) => bare(operation, dispatch(error), &words::deepest(error)),
        SdkError::ResponseError(_) => {
            let broken = bare(operation, FailureKind::Unknown, "the answer is incomplete or garbled");
            CloudError { request_id: error.request_id().map(one_line), status: status(error), ..broken }
        }
        SdkError::ServiceError(_) => answered(operation, error),
        _ => bare(operation, FailureKind::Unknown, &words::chain(error)),
    }
}

/// Why the credentials were not found, if it is that. Short-lived ones come over the network: where that is away
/// they are neither missing nor refused.
fn lookup(error: &(dyn Error + 'static)) -> Option<(FailureKind, String)> {
    if let Some(cause) = find::<CredentialsError>(error) {
        let kind =
            if is_away(cause) { FailureKind::Unreachable } else { FailureKind::Stop(StopCause::Credentials) };
        return Some((kind, words::credentials(cause)));
    }
    let timed_out = causes(error).any(|it| it.to_string().starts_with(LOOKUP_TIMED_OUT));
    timed_out.then(|| (FailureKind::Unreachable, "the credentials lookup took too long".to_owned()))
}

/// Whether who gives the credentials was not reached.
fn is_away(error: &CredentialsError) -> bool {
    let unreached = |it: &(dyn Error + 'static)| {
        it.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect)
            || it.downcast_ref::<ConnectorError>().is_some_and(|it| it.is_io() || it.is_timeout())
    };
    match error {
        // Nobody was asked, or what is configured cannot work.
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => false,
        CredentialsError::ProviderTimedOut(_) => true,
        other => causes(other).any(unreached) || words::tells_of_no_network(other),
    }
}

/// A request that was never sent, or one of which nobody knows.
fn dispatch(error: &(dyn Error + 'static)) -> FailureKind {
    match find::<legacy::Error>(error) {
        Some(http) if http.is_connect() => FailureKind::Unreachable,
        _ => FailureKind::Unknown,
    }
}

/// The first error of type `T` in the chain.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|it| it.downcast_ref())
}

/// The error and its sources.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&it| it.source())
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|it| it.status().as_u16())
}

/// An answer that is not a success.
fn answered<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let raw = error.raw_response();
    let status = status(error);
    let code = error.code().filter(|it| !it.is_empty());
    let ours = error.request_id().is_some() || header(raw, "x-amzn-errortype").is_some();
    let message = match (code, error.message()) {
        (Some(_), Some(text)) => one_line(text),
        (Some(_), None) => String::new(),
        (None, _) => format!("the answer is not AWS's{}", words::content_type(header(raw, "content-type"))),
    };
    let kind = match kind(code, status.unwrap_or(0), ours) {
        FailureKind::Stop(StopCause::Clock) if is_wrong_secret(&message) => {
            FailureKind::Stop(StopCause::Credentials)
        }
        it => it,
    };
    let (resource_id, resource_arn) = if kind == FailureKind::Exists { existing(raw) } else { (None, None) };
    CloudError {
        operation,
        kind,
        code: code.map(one_line),
        status,
        message,
        request_id: error.request_id().map(one_line),
        retry_after: retry_after(raw),
        resource_id,
        resource_arn,
    }
}

/// AWS has one code for a signature of the wrong time, key or Region; only its sentence tells them apart.
fn is_wrong_secret(message: &str) -> bool {
    ["does not match", "scoped to"].iter().any(|it| message.contains(it))
}

fn header<'a>(raw: Option<&'a HttpResponse>, name: &str) -> Option<&'a str> {
    raw.and_then(|it| it.headers().get(name))
}

/// The table. `ours` says that the answer bears one of AWS's own headers, without which an
/// unheard-of code may be a proxy's own JSON.
fn kind(code: Option<&str>, status: u16, ours: bool) -> FailureKind {
    let Some(code) = code else {
        return if status == 429 { FailureKind::Throttled } else { FailureKind::Unknown };
    };
    known(code).unwrap_or(match status {
        429 => FailureKind::Throttled,
        400..=499 if ours && status != 407 => FailureKind::Refused,
        _ => FailureKind::Unknown,
    })
}

/// The codes of both services' models, and those of AWS's front ends, which no model lists.
fn known(code: &str) -> Option<FailureKind> {
    use FailureKind::{Conflict, Exists, NotFound, Refused, Throttled, Unknown};
    if let Some(cause) = stop(code) {
        return Some(FailureKind::Stop(cause));
    }
    Some(match code {
        // The SDKs count LimitExceededException among these; it is a quota that no waiting refills.
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceededException"
        | "TransactionInProgressException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "SlowDown"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException" => Throttled,
        "ResourceNotFoundException" => NotFound,
        "ResourceAlreadyExistsException" => Exists,
        "ConflictException"
        | "CertificateConflictException"
        | "DeleteConflictException"
        | "VersionConflictException"
        | "TransferConflictException"
        | "ConflictingResourceUpdateException" => Conflict,
        "ValidationException"
        | "ValidationError"
        | "InvalidRequestException"
        | "MalformedPolicyException"
        | "SerializationException"
        | "CertificateValidationException"
        | "CertificateStateException"
        | "RegistrationCodeValidationException" => Refused,
        "InternalFailure"
        | "InternalFailureException"
        | "InternalException"
        | "InternalError"
        | "InternalServerError"
        | "InternalServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Unknown,
        _ => return None,
    })
}

/// The codes that no repetition and no other device can get past.
fn stop(code: &str) -> Option<StopCause> {
    Some(match code {
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedException"
        | "UnauthorizedOperation"
        | "ForbiddenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "SubscriptionRequiredException" => StopCause::Permission,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "UnrecognizedClient"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => StopCause::Credentials,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "RequestInTheFuture"
        | "RequestTimeTooSkewed" => StopCause::Clock,
        "ServiceQuotaExceededException" | "LimitExceededException" => StopCause::Quota,
        _ => return None,
    })
}

/// AWS's own header counts milliseconds, the standard one seconds. An HTTP date is not read:
/// it would have to be compared with a clock that may be wrong.
fn retry_after(raw: Option<&HttpResponse>) -> Option<Duration> {
    let number = |name| header(raw, name).and_then(|it| it.trim().parse::<u64>().ok());
    let wait = number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(wait.min(RETRY_AFTER_MAX))
}

/// `resourceId` and `resourceArn`, which the model gives to "already exists" only.
fn existing(raw: Option<&HttpResponse>) -> (Option<String>, Option<String>) {
    let body = raw.and_then(|it| it.body().bytes()).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let member = |name| {
        let text = body.get(name).and_then(|it| it.as_str()).filter(|it| !it.is_empty());
        text.map(one_line)
    };
    (member("resourceId"), member("resourceArn"))
}
