//! One request, taken apart: which operation, which name in the path, which parameters.

use std::borrow::Cow;

use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use crate::cloud::{Operation, Service};

/// What the request line says: an operation, and the name that its path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) operation: Operation,
    /// Decoded; empty where the operation has none.
    pub(crate) name: String,
}

/// A request that an operation can read its members from.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) route: Route,
    /// Decoded, in the order of the request.
    pub(crate) query: Vec<(String, String)>,
    /// The header `x-amzn-principal`.
    pub(crate) principal: Option<String>,
    pub(crate) body: Bytes,
}

impl Route {
    /// Finds the operation that a method and a path belong to; `None` if AWS has none there,
    /// or if the percent-encoding is broken.
    pub(crate) fn find(method: &Method, path: &str) -> Option<Self> {
        use Operation as O;
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (operation, name) = match (method.as_str(), segments.as_slice()) {
            ("POST", ["credential-lockers"]) => (O::CreateCredentialLocker, ""),
            ("GET", ["credential-lockers"]) => (O::ListCredentialLockers, ""),
            ("GET", ["credential-lockers", id]) => (O::GetCredentialLocker, *id),
            ("DELETE", ["credential-lockers", id]) => (O::DeleteCredentialLocker, *id),
            ("POST", ["managed-things"]) => (O::CreateManagedThing, ""),
            ("GET", ["managed-things", id]) => (O::GetManagedThing, *id),
            ("DELETE", ["managed-things", id]) => (O::DeleteManagedThing, *id),
            ("GET", ["policies"]) => (O::ListPolicies, ""),
            ("POST", ["policies", name]) => (O::CreatePolicy, *name),
            ("GET", ["policies", name]) => (O::GetPolicy, *name),
            ("DELETE", ["policies", name]) => (O::DeletePolicy, *name),
            ("POST", ["policy-targets", name]) => (O::ListTargetsForPolicy, *name),
            ("PUT", ["target-policies", name]) => (O::AttachPolicy, *name),
            ("POST", ["target-policies", name]) => (O::DetachPolicy, *name),
            ("POST", ["attached-policies", target]) => (O::ListAttachedPolicies, *target),
            ("POST", ["cacertificate"]) => (O::RegisterCaCertificate, ""),
            ("GET", ["cacertificate", id]) => (O::DescribeCaCertificate, *id),
            ("PUT", ["cacertificate", id]) => (O::UpdateCaCertificate, *id),
            ("GET", ["registrationcode"]) => (O::GetRegistrationCode, ""),
            ("POST", ["certificate", "register"]) => (O::RegisterCertificate, ""),
            ("POST", ["certificate", "register-no-ca"]) => (O::RegisterCertificateWithoutCa, ""),
            ("POST", ["certificates"]) => (O::CreateCertificateFromCsr, ""),
            ("GET", ["certificates"]) => (O::ListCertificates, ""),
            ("GET", ["certificates-by-ca", ca]) => (O::ListCertificatesByCa, *ca),
            ("GET", ["certificates", id]) => (O::DescribeCertificate, *id),
            ("PUT", ["certificates", id]) => (O::UpdateCertificate, *id),
            ("DELETE", ["certificates", id]) => (O::DeleteCertificate, *id),
            ("GET", ["things"]) => (O::ListThings, ""),
            ("POST", ["things", name]) => (O::CreateThing, *name),
            ("GET", ["things", name]) => (O::DescribeThing, *name),
            ("DELETE", ["things", name]) => (O::DeleteThing, *name),
            ("PUT", ["things", name, "principals"]) => (O::AttachThingPrincipal, *name),
            ("DELETE", ["things", name, "principals"]) => (O::DetachThingPrincipal, *name),
            ("GET", ["things", name, "principals"]) => (O::ListThingPrincipals, *name),
            ("GET", ["principals", "things"]) => (O::ListPrincipalThings, ""),
            ("GET", ["endpoint"]) => (O::DescribeEndpoint, ""),
            _ => return None,
        };
        Some(Self { operation, name: percent_decode(name)?.into_owned() })
    }
}

impl Request {
    /// Takes the members that are not in the path.
    ///
    /// # Errors
    /// The query's percent-encoding is broken, or the principal's header is not text.
    pub(crate) fn new(route: Route, parts: &Parts, body: Bytes) -> Result<Self, Refusal> {
        let service = route.operation.service();
        let query = parse_query(parts.uri.query().unwrap_or_default())
            .ok_or_else(|| Refusal::invalid(service, "the query string is not well encoded"))?;
        let principal = parts
            .headers
            .get("x-amzn-principal")
            .map(|it| it.to_str().map(str::to_owned))
            .transpose()
            .map_err(|_| Refusal::invalid(service, "the principal is not text"))?;
        Ok(Self { route, query, principal, body })
    }

    /// The service that is asked.
    pub(crate) fn service(&self) -> Service {
        self.route.operation.service()
    }

    /// A constraint of this service is broken.
    pub(crate) fn invalid(&self, message: impl Into<String>) -> Refusal {
        Refusal::invalid(self.service(), message)
    }

    /// The first query parameter of that name.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean query parameter; absent is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.query(name) {
            None => Ok(false),
            Some(value) => value.parse().map_err(|_| self.invalid(format!("{name} has to be true or false"))),
        }
    }

    /// The body's members; an empty body has none, unknown ones are passed over.
    pub(crate) fn members<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        // A sequence would do for serde where AWS insists on an object.
        if body.iter().find(|it| !it.is_ascii_whitespace()) != Some(&b'{') {
            return Err(Refusal::serialization("the body is not a JSON object"));
        }
        serde_json::from_slice(body).map_err(|error| Refusal::serialization(error.to_string()))
    }
}

/// Looks at the SigV4 signature as far as one can who does not know the key: that it is there,
/// that it has the shape, and that it was made for this service. Returns the Region it is for.
///
/// # Errors
/// 403 for everything else, under the code that AWS's front end uses.
pub(crate) fn check_signature(headers: &HeaderMap, service: Service) -> Result<String, Refusal> {
    let missing = || Refusal::new("MissingAuthenticationTokenException", 403, "Missing Authentication Token");
    let broken =
        |what: &str| Refusal::new("IncompleteSignatureException", 403, format!("the signature lacks {what}"));
    let header = headers.get("authorization").ok_or_else(missing)?;
    let header = header.to_str().map_err(|_| broken("a readable header"))?;
    let fields = header.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| broken("AWS4-HMAC-SHA256"))?;
    let field = |name: &str| fields.split(',').find_map(|it| it.trim().strip_prefix(name)?.strip_prefix('='));
    let signature = field("Signature").ok_or_else(|| broken("Signature"))?;
    if signature.len() != 64 || !signature.bytes().all(|it| it.is_ascii_hexdigit()) {
        return Err(broken("64 hex digits of Signature"));
    }
    if !field("SignedHeaders").is_some_and(|it| it.split(';').any(|name| name == "host")) {
        return Err(broken("host among SignedHeaders"));
    }
    if !headers.contains_key("x-amz-date") {
        return Err(broken("x-amz-date"));
    }
    let credential = field("Credential").ok_or_else(|| broken("Credential"))?;
    let scope: Vec<&str> = credential.split('/').collect();
    let [key, date, region, signing_name, "aws4_request"] = scope.as_slice() else {
        return Err(broken("a credential scope"));
    };
    if key.is_empty() || region.is_empty() || date.len() != 8 {
        return Err(broken("a credential scope"));
    }
    let wanted = match service {
        Service::Iot => "iot",
        Service::ManagedIntegrations => "iotmanagedintegrations",
    };
    if *signing_name != wanted {
        let message = format!("Credential should be scoped to correct service: '{wanted}'.");
        return Err(Refusal::new("InvalidSignatureException", 403, message));
    }
    Ok((*region).to_owned())
}

/// Decodes `%41`; `None` if what follows a `%` is not two hex digits, or the result not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).filter(|it| it.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Splits and decodes a query string; `None` if its percent-encoding is broken.
pub(crate) fn parse_query(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|it| !it.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key)?.into_owned(), percent_decode(value)?.into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_in_a_path_segment_is_decoded_after_the_split() {
        let path = "/attached-policies/arn%3Aaws%3Aiot%3Aeu-west-1%3A123456789012%3Acert%2Fab";
        let route = Route::find(&Method::POST, path).unwrap();
        assert_eq!(route.operation, Operation::ListAttachedPolicies);
        assert_eq!(route.name, "arn:aws:iot:eu-west-1:123456789012:cert/ab");
    }

    #[test]
    fn a_path_that_aws_does_not_have_is_no_operation() {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::POST, "/things"),
            (Method::PUT, "/policies/p"),
            (Method::GET, "/things/a/b/c"),
            (Method::GET, "/things/%zz"),
            (Method::GET, "/things/%ff"),
            (Method::GET, "/things/%4"),
        ] {
            assert_eq!(Route::find(&method, path), None, "{method} {path}");
        }
    }

    fn signed(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", authorization.parse().unwrap());
        headers.insert("x-amz-date", "20261121T000000Z".parse().unwrap());
        headers
    }

    #[test]
    fn a_signature_for_the_other_service_is_refused() {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AK/20261121/eu-west-1/iot/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={}",
            "0".repeat(64)
        );
        let headers = signed(&authorization);
        assert_eq!(check_signature(&headers, Service::Iot), Ok("eu-west-1".to_owned()));
        let refusal = check_signature(&headers, Service::ManagedIntegrations).unwrap_err();
        assert_eq!((refusal.code, refusal.status), ("InvalidSignatureException", 403));
    }

    #[test]
    fn a_request_without_a_whole_signature_is_refused_with_403() {
        assert_eq!(check_signature(&HeaderMap::new(), Service::Iot).unwrap_err().status, 403);
        for bad in ["", "Bearer x", "AWS4-HMAC-SHA256 Credential=a, Signature=b", "AWS4-HMAC-SHA256 "] {
            assert_eq!(check_signature(&signed(bad), Service::Iot).unwrap_err().status, 403, "{bad}");
        }
    }
}
