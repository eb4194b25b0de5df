//! The text of an error: one line, bounded, and without secrets.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;

/// The longest message, in characters.
const MESSAGE_MAX: usize = 500;

/// How deep a chain of causes is told.
const CAUSES_MAX: usize = 8;

/// From here on, a refused signature's message repeats the request, the session token with it.
const CANONICAL: &str = "The Canonical String";

/// `text` on one line, at most 500 characters, with whatever looks like a secret blotted out.
pub(in super::super) fn one_line(text: &str) -> String {
    let text = text.split(CANONICAL).next().unwrap_or_default();
    let words: Vec<String> = text
        .split(|it: char| it.is_whitespace() || it.is_control())
        .filter(|it| !it.is_empty())
        .map(blot)
        .collect();
    let line = words.join(" ");
    if line.chars().count() <= MESSAGE_MAX {
        return line;
    }
    line.chars().take(MESSAGE_MAX - 1).chain(['…']).collect()
}

/// A word with each run of key characters in it that may be a secret replaced.
fn blot(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|it| !in_key(it)).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        out.push_str(if is_secret(run) { "[hidden]" } else { run });
        let other = tail.find(in_key).unwrap_or(tail.len());
        out.push_str(&tail[..other]);
        rest = &tail[other..];
    }
    out
}

fn in_key(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '+' | '/')
}

/// Access key ids (`AKIA…`, `ASIA…`), secret access keys (40 characters of base64), session
/// tokens (hundreds). Certificate ids are 64 hex digits and names are at most 128 characters.
fn is_secret(run: &str) -> bool {
    let key_id = run.len() >= 16 && (run.starts_with("AKIA") || run.starts_with("ASIA"));
    let mixed = run.contains(|it: char| it.is_ascii_lowercase())
        && run.contains(|it: char| it.is_ascii_uppercase())
        && run.contains(|it: char| it.is_ascii_digit());
    key_id || (run.len() == 40 && mixed) || run.len() >= 200
}

/// An error and its causes, each said once.
pub(in super::super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = String::new();
    for cause in std::iter::successors(Some(error), |&it| it.source()).take(CAUSES_MAX) {
        let cause = cause.to_string();
        if told.contains(&cause) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause);
    }
    told
}

/// The last cause of all, "Connection refused": for what stands above it in the SDK the kind of the failure is the better word.
pub(super) fn deepest(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&it| it.source()).take(CAUSES_MAX);
    let told = causes.map(ToString::to_string).filter(|it| !it.trim().is_empty());
    told.last().unwrap_or_default()
}

/// How the SDK begins what it says of a `credential_process`.
const HELPER: &str = "Error retrieving credentials";

/// What programs say, in small letters, when it is the network that fails them. A `credential_process` tells of its
/// failure in words only.
const NO_NETWORK: &[&str] = &[
    "no such host",
    "name resolution",
    "name or service not known",
    "could not resolve",
    "dns error",
    "connection refused",
    "network is unreachable",
    "no route to host",
    "host is down",
    "could not connect",
    "connection timed out",
    "connect timeout",
    "i/o timeout",
    "handshake timeout",
    "deadline exceeded",
];

/// Why there are no credentials, in one line. The chain tells what was tried; a helper's output may be in it.
pub(in super::super) fn credentials(error: &CredentialsError) -> String {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            "no credentials in the environment, the profile, or from this host".to_owned()
        }
        CredentialsError::ProviderTimedOut(_) => "the credentials lookup took too long".to_owned(),
        other => one_line(&helper(other).unwrap_or_else(|| chain(other))),
    }
}

/// What the helper of a `credential_process` said, if it was one that failed.
fn helper(error: &CredentialsError) -> Option<String> {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&it| it.source());
    let told = causes.map(ToString::to_string).find(|it| it.starts_with(HELPER))?;
    let said = told.strip_prefix(HELPER)?.trim_start_matches(" from external process");
    let said = said.trim_start_matches([':', ',', ' ']).replacen("external process exited with code ", "", 1);
    Some(format!(
        "the credentials helper failed: {}",
        said.replacen(". Stderr:", ":", 1).trim_end_matches([':', ' '])
    ))
}

/// Whether a helper's words say that it is the network that it could not use.
pub(super) fn tells_of_no_network(error: &CredentialsError) -> bool {
    let said = helper(error).unwrap_or_default().to_lowercase();
    NO_NETWORK.iter().any(|it| said.contains(it))
}

/// `, but text/html`, or nothing.
pub(super) fn content_type(header: Option<&str>) -> String {
    let kind = header.and_then(|it| it.split(';').next()).map(str::trim).unwrap_or_default();
    if kind.is_empty() {
        String::new()
    } else {
        one_line(&format!(", but {}", kind.chars().take(60).collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_at_most_five_hundred_characters() {
        assert_eq!(one_line("two\r\nlines\u{1b}[31m "), "two lines [31m");
        let long = one_line(&"wörd ".repeat(200));
        assert_eq!(long.chars().count(), 500);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn no_key_and_no_token_survives_in_a_message() {
        let id = ["AKIA", "IOSFODNN7EXAMPLE"].concat();
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let token = "Fwo".repeat(80);
        for text in [format!("key {id}, refused"), format!("key={secret}"), format!("token \"{token}\"")] {
            let line = one_line(&text);
            assert!(line.contains("[hidden]"), "{line}");
            assert!(!line.contains(&id) && !line.contains(&token), "{line}");
        }
    }

    #[test]
    fn the_canonical_request_of_a_refused_signature_is_cut_off() {
        let text = "The request signature does not match. \n\nThe Canonical String for this request should have been\nx-amz-security-token:IQoJ";
        assert_eq!(one_line(text), "The request signature does not match.");
    }

    #[test]
    fn names_and_arns_stay_readable() {
        let id = "5f4dcc3b".repeat(8);
        let text = format!("arn:aws:iot:eu-west-1:123456789012:cert/{id} and policy/{}", "Ab1".repeat(40));
        assert_eq!(one_line(&text), text);
    }
}
