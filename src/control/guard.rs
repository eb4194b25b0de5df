//! What the board's port asks of every request, since anybody's browser may be made to send one.
//!
//! A page from elsewhere can have its own name answered with this station's address (DNS rebinding), and
//! would then read the board as if it were its own. Such a request bears the page's name in `Host`: so
//! only an address, `localhost` and the names of the configuration are taken there. A page that asks
//! across origins bears its own in `Origin`, and is refused too; no answer ever allows one.

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, Request};

use super::problem::{Refused, bad_request, foreign, misdirected, wrong_verb};

/// What every answer at the board's port bears. Scripts and styles come from this port only, the page asks
/// nobody else, and nobody else's page frames or reads it.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Names by which the station may be asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    /// Besides addresses and `localhost`; lower case.
    pub(super) names: Vec<String>,
}

impl Guard {
    /// Whether the request may come in.
    ///
    /// # Errors
    /// It is for somebody else, comes from somebody else's page, or would change something.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let headers = request.headers();
        let host = self.host(headers)?;
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if let Some(origin) = origins.next()
            && (origins.next().is_some() || !is_own(origin, &host))
        {
            return Err(foreign("the board is not for other pages' scripts"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(wrong_verb(format!(
                "{} is for the local API's socket: here is nothing to be changed",
                request.method()
            )));
        }
        Ok(())
    }

    /// The one `Host`, if it is ours.
    fn host(&self, headers: &HeaderMap) -> Result<String, Refused> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(bad_request("a request has exactly one Host"));
        };
        let parsed = host.to_str().ok().and_then(|it| it.parse::<Authority>().ok());
        let Some(authority) = parsed.filter(|it| !it.as_str().contains('@')) else {
            return Err(bad_request("Host is not a name or address, with or without a port"));
        };
        if !self.is_ours(authority.host()) {
            return Err(misdirected("the board is not served under this name")
                .with_hint("ask for the station's address, or add the name to api.board_names"));
        }
        Ok(authority.as_str().to_ascii_lowercase())
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let v6 = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_address = match v6 {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        is_address || host == "localhost" || self.names.contains(&host)
    }

    /// What every answer bears.
    pub(super) fn headers() -> impl Iterator<Item = (HeaderName, &'static str)> {
        HEADERS.into_iter()
    }

    /// Puts the headers of [`HEADERS`] on an answer.
    pub(super) fn seal(headers: &mut HeaderMap) {
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Whether a script of the board's own page asks.
fn is_own(origin: &HeaderValue, host: &str) -> bool {
    let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
    origin.strip_prefix("http://") == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard { names: vec!["l3-s07.plant.example".to_owned()] }
    }

    fn asked(verb: &str, headers: &[(&str, &str)]) -> Result<(), u16> {
        let mut request = Request::builder().method(verb).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard().admit(&request.body(()).unwrap()).map_err(|it| it.status)
    }

    #[test]
    fn addresses_localhost_and_the_configured_names_are_ours() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8478",
            "192.168.7.9:8478",
            "[::1]",
            "[::1]:8478",
            "localhost:8478",
            "LOCALHOST",
            "L3-S07.plant.example:8478",
            "l3-s07.plant.example.",
        ] {
            assert_eq!(asked("GET", &[("host", host)]), Ok(()), "{host}");
            assert_eq!(
                asked("HEAD", &[("host", host), ("origin", &format!("http://{host}"))]),
                Ok(()),
                "{host}"
            );
        }
    }

    #[test]
    fn a_name_of_somebody_elses_is_misdirected() {
        for host in [
            "evil.example",
            "evil.example:8478",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "l3-s07.plant.example.evil.example",
            "plant.example",
            "2130706433",
            "0x7f.1",
        ] {
            assert_eq!(asked("GET", &[("host", host)]), Err(421), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_a_bad_request() {
        for host in ["", "a b", "user@127.0.0.1", "127.0.0.1/x", "[::1", "ä"] {
            assert_eq!(asked("GET", &[("host", host)]), Err(400), "{host:?}");
        }
        assert_eq!(asked("GET", &[]), Err(400));
        assert_eq!(asked("GET", &[("host", "localhost"), ("host", "localhost")]), Err(400));
    }

    #[test]
    fn another_pages_script_is_refused_even_at_the_right_host() {
        let host = ("host", "127.0.0.1:8478");
        for origin in [
            "http://evil.example",
            "null",
            "",
            "https://127.0.0.1:8478",
            "http://127.0.0.1",
            "http://localhost:8478",
        ] {
            assert_eq!(asked("GET", &[host, ("origin", origin)]), Err(403), "{origin}");
        }
        let own = ("origin", "http://127.0.0.1:8478");
        assert_eq!(asked("GET", &[host, own]), Ok(()));
        assert_eq!(asked("GET", &[host, own, own]), Err(403));
    }

    #[test]
    fn nothing_is_changed_through_this_port() {
        for verb in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
            assert_eq!(asked(verb, &[("host", "localhost")]), Err(405), "{verb}");
        }
    }

    #[test]
    fn no_answer_lets_a_foreign_page_read_it() {
        let mut headers = HeaderMap::new();
        Guard::seal(&mut headers);
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe") && !policy.contains('*')
        );
        assert!(!headers.contains_key("access-control-allow-origin"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
}
