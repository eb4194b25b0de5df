//! What a client hears whose request never became one. hyper refuses what it cannot read by a bare status, and
//! says nothing of a head that has no end; here each gets its sentence, as any other refusal does.

use axum::body::Bytes;
use axum::http::StatusCode;

use super::guard::Guard;
use super::problem::{MEDIA_TYPE, Refused, bad_request, head_too_large, head_too_slow, uri_too_long};

/// Longest refusal of hyper's, bytes: a status line and up to three short headers.
const MAX_BARE: usize = 256;

/// What is to be written in place of `written`, if that is a refusal of hyper's own. Every answer of ours that
/// refuses something has a media type, so that none is taken for one.
pub(super) fn instead_of(written: &[u8], head_bytes: usize) -> Option<Refused> {
    let status = bare_status(written)?;
    Some(match status {
        414 => uri_too_long(),
        431 => head_too_large(head_bytes),
        _ => bad_request("this is no request in HTTP/1.1"),
    })
}

/// The head is not there although it has had its time.
pub(super) fn slow_head() -> Refused {
    head_too_slow()
}

/// The client has ended in the middle of a head.
pub(super) fn half_head() -> Refused {
    bad_request("the request ends in the middle of its head")
}

/// The client speaks HTTP/2, of which hyper takes leave without a word.
pub(super) fn of_http_2(heard: &[u8]) -> Option<Refused> {
    heard.starts_with(b"PRI * HTTP/2").then(|| bad_request("HTTP/2 is not spoken here, only HTTP/1.1"))
}

/// The last answer of a connection, with the headers of a guarded door.
pub(super) fn bytes(refused: &Refused, guarded: bool) -> Bytes {
    // Strings and a number: cannot fail.
    let body = serde_json::to_string(&**refused).unwrap_or_default();
    let reason =
        StatusCode::from_u16(refused.status).ok().and_then(|it| it.canonical_reason()).unwrap_or_default();
    let mut head = format!(
        "HTTP/1.1 {} {reason}\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
        refused.status,
        MEDIA_TYPE.to_str().unwrap_or_default(),
        body.len()
    );
    if guarded {
        for (name, value) in Guard::headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    Bytes::from(format!("{head}\r\n{body}"))
}

/// The status of an answer that is a head alone, refuses, and has no media type.
fn bare_status(written: &[u8]) -> Option<u16> {
    if written.len() > MAX_BARE {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let (line, headers) = head.split_once("\r\n")?;
    let status = line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let has_type = headers.contains("content-type:") || headers.contains("\r\n\r\n");
    ((400..500).contains(&status) && !has_type).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_refusals_are_known_and_no_answer_of_ours_is_taken_for_one() {
        let bare = |status: &str| {
            format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 16:49:38 GMT\r\n\r\n"
            )
        };
        let instead = |written: &str| instead_of(written.as_bytes(), 16_384).map(|it| it.status);
        assert_eq!(instead(&bare("400 Bad Request")), Some(400));
        assert_eq!(instead(&bare("414 URI Too Long")), Some(414));
        assert_eq!(instead(&bare("431 Request Header Fields Too Large")), Some(431));
        assert_eq!(instead(&bare("200 OK")), None);
        assert_eq!(instead(&format!("{}x", bare("400 Bad Request"))), None, "it has a body");
        assert_eq!(instead("data: HTTP/1.1 400 Bad Request\r\n\r\n"), None);
        for refused in [half_head(), slow_head(), head_too_large(1), uri_too_long()] {
            let ours = bytes(&refused, false);
            assert_eq!(instead(std::str::from_utf8(&ours).unwrap()), None);
            let head = ours.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(
                instead(std::str::from_utf8(&ours[..head]).unwrap()),
                None,
                "not even without its body"
            );
        }
    }

    #[test]
    fn a_guarded_doors_farewell_has_its_headers() {
        let text = |guarded| String::from_utf8(bytes(&half_head(), guarded).to_vec()).unwrap();
        assert!(text(true).contains("\r\ncontent-security-policy: default-src 'none'"), "{}", text(true));
        assert!(!text(false).contains("content-security-policy"));
        let (head, body) = (text(true), text(true));
        let body = body.split_once("\r\n\r\n").unwrap().1;
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
    }
}
