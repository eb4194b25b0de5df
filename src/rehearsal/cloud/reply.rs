//! How an answer travels: whole, cut, replaced by a proxy's page, or not at all.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::faults::Fault;
use super::world::Answer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// What a gateway says when it lost what is behind it.
const BAD_GATEWAY: &str =
    "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>";
/// What a captive portal or a filtering proxy says, with status 200.
const PROXY_PAGE: &str =
    "<!DOCTYPE html><html><body><h1>Sign in to the plant network</h1><form></form></body></html>";

/// What the server does with a request.
pub(crate) enum Delivery {
    /// Sends this.
    Respond(Response<ReplyBody>),
    /// Closes the connection.
    Close,
    /// Closes the connection so that the client sees a reset.
    Reset,
    /// Nothing, until the client has gone.
    Hang,
}

impl Delivery {
    /// Decides how `answer` travels.
    pub(crate) fn of(answer: Answer) -> Self {
        match answer.fault {
            Some(Fault::ClosedBefore) => Self::Close,
            Some(Fault::Hang) => Self::Hang,
            Some(Fault::ResetAfter) => Self::Reset,
            Some(Fault::BadGatewayAfter) => Self::Respond(page(StatusCode::BAD_GATEWAY, BAD_GATEWAY)),
            Some(Fault::ProxyPageBefore | Fault::ProxyPageAfter) => {
                Self::Respond(page(StatusCode::OK, PROXY_PAGE))
            }
            Some(Fault::CutAfter) => Self::Respond(aws(answer, true)),
            _ => Self::Respond(aws(answer, false)),
        }
    }
}

/// A JSON document that is not AWS's: the audit, the counters.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response<ReplyBody> {
    // Our own types have string keys only; nothing in them fails to serialize.
    let body = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(ReplyBody::whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What STS answers to GetCallerIdentity.
pub(crate) fn caller_identity(account: &str) -> Response<ReplyBody> {
    let body = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::{account}:user/simulated</Arn><UserId>AIDASIMULATED</UserId><Account>{account}</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>simulated</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>"
    );
    let mut response = Response::new(ReplyBody::whole(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from_static("simulated"));
    response
}

fn aws(answer: Answer, cut: bool) -> Response<ReplyBody> {
    // An empty answer has nothing to cut; it then claims to be an empty object.
    let body = match answer.body {
        Some(body) => body.to_string(),
        None if cut => "{}".to_owned(),
        None => String::new(),
    };
    let length = body.len();
    let mut response = Response::new(if cut { ReplyBody::cut(body) } else { ReplyBody::whole(body.into()) });
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(id) = HeaderValue::try_from(answer.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(Ok(error_type)) = answer.error_type.map(HeaderValue::try_from) {
        headers.insert(ERROR_TYPE, error_type);
    }
    response
}

fn page(status: StatusCode, html: &'static str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(Bytes::from_static(html.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

/// A body that may end too early.
pub(crate) struct ReplyBody {
    data: Option<Bytes>,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    /// The connection breaks, once what was sent so far has left.
    Cut {
        flushed: bool,
    },
}

impl ReplyBody {
    fn whole(data: Bytes) -> Self {
        Self { data: Some(data).filter(|it| !it.is_empty()), ending: Ending::Whole }
    }

    fn cut(mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(text.len() / 2));
        Self { data: Some(text.into()), ending: Ending::Cut { flushed: false } }
    }
}

/// The body was cut on purpose.
#[derive(Debug)]
pub(crate) struct CutOnPurpose;

impl fmt::Display for CutOnPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is cut on purpose")
    }
}

impl std::error::Error for CutOnPurpose {}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.ending {
            Ending::Whole => Poll::Ready(None),
            Ending::Cut { flushed: true } => Poll::Ready(Some(Err(CutOnPurpose))),
            Ending::Cut { flushed: false } => {
                // The server flushes while the body is pending; an error at once would take the
                // head of the answer with it.
                self.ending = Ending::Cut { flushed: true };
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.ending == Ending::Whole
    }

    fn size_hint(&self) -> SizeHint {
        match self.ending {
            Ending::Whole => SizeHint::with_exact(self.data.as_ref().map_or(0, |it| it.len() as u64)),
            Ending::Cut { .. } => SizeHint::default(),
        }
    }
}
