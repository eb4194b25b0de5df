//! Errors as AWS words them, with the HTTP status that each service gives them.

use serde_json::{Map, Value};

use crate::cloud::Service;

/// An error answer. The code decides; the status is only what AWS happens to send with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// AWS's error code, as in `x-amzn-ErrorType`.
    pub(crate) code: &'static str,
    /// HTTP status.
    pub(crate) status: u16,
    /// Text for people.
    pub(crate) message: String,
    /// `resourceId` and `resourceArn` of an "already exists".
    pub(crate) existing: Option<(String, String)>,
    /// A "not found" of something that is there and only does not show yet.
    pub(crate) not_visible_yet: bool,
}

impl Refusal {
    /// An error with a code of its own.
    pub(crate) fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), existing: None, not_visible_yet: false }
    }

    /// The request breaks a documented constraint.
    pub(crate) fn invalid(service: Service, message: impl Into<String>) -> Self {
        match service {
            Service::Iot => Self::new("InvalidRequestException", 400, message),
            Service::ManagedIntegrations => Self::new("ValidationException", 400, message),
        }
    }

    /// The body is not the JSON that it should be. Comes from AWS's front end, in no model.
    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", 400, message)
    }

    /// Too many calls: 400 on `iot`, 429 on managed integrations.
    pub(crate) fn throttled(service: Service) -> Self {
        let status = match service {
            Service::Iot => 400,
            Service::ManagedIntegrations => 429,
        };
        Self::new("ThrottlingException", status, "Rate exceeded")
    }

    /// The service failed.
    pub(crate) fn internal(service: Service) -> Self {
        let code = match service {
            Service::Iot => "InternalFailureException",
            Service::ManagedIntegrations => "InternalServerException",
        };
        Self::new(code, 500, "An unexpected error has occurred.")
    }

    /// The service is away for now.
    pub(crate) fn unavailable() -> Self {
        Self::new("ServiceUnavailableException", 503, "The service is temporarily unavailable.")
    }

    /// The named thing is not there, or not yet visible.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", 404, message)
    }

    /// The named thing was made a moment ago and does not show yet.
    pub(crate) fn not_visible_yet(message: impl Into<String>) -> Self {
        Self { not_visible_yet: true, ..Self::not_found(message) }
    }

    /// Something of that name, or those bytes, is there.
    pub(crate) fn exists(message: impl Into<String>, id: String, arn: String) -> Self {
        let mut it = Self::new("ResourceAlreadyExistsException", 409, message);
        it.existing = Some((id, arn));
        it
    }

    /// The value of `x-amzn-ErrorType`. What comes from the front ends carries a URL behind a
    /// colon, which clients have to cut.
    pub(crate) fn error_type(&self) -> String {
        let front_end = matches!(
            self.code,
            "SerializationException"
                | "UnknownOperationException"
                | "MissingAuthenticationTokenException"
                | "IncompleteSignatureException"
                | "InvalidSignatureException"
        );
        if front_end {
            format!("{}:http://internal.amazon.com/coral/com.amazon.coral.service/", self.code)
        } else {
            self.code.to_owned()
        }
    }

    /// The body: the message's member is `message` on `iot`, `Message` on managed integrations.
    pub(crate) fn body(&self, service: Service) -> Value {
        let member = match service {
            Service::Iot => "message",
            Service::ManagedIntegrations => "Message",
        };
        let mut body = Map::new();
        body.insert(member.to_owned(), Value::from(self.message.as_str()));
        if let Some((id, arn)) = &self.existing {
            body.insert("resourceId".to_owned(), Value::from(id.as_str()));
            body.insert("resourceArn".to_owned(), Value::from(arn.as_str()));
        }
        Value::Object(body)
    }
}
