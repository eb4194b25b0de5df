//! `[aws]`.

use std::time::Duration;

use super::station::certificate_file;
use super::table::{At, Table};
use super::{Aws, quota};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn aws(table: Table<'_>) -> Option<Aws> {
    let region = table.need_text("region", "eu-west-1").and_then(|at| region(&table, &at));
    let iot_endpoint = endpoint(&table, "iot_endpoint");
    let managed_integrations_endpoint = endpoint(&table, "managed_integrations_endpoint");
    let call_timeout =
        table.duration("call_timeout", CALL_TIMEOUT, Duration::from_millis(100)..=Duration::from_secs(300));
    let account = account(&table);
    let ca_bundle = table.path("ca_bundle").and_then(|at| certificate_file(&table, &at));
    let quotas = quota::quotas(table.table("quota"), region.as_deref().unwrap_or_default());
    table.finish();
    let region = region?;
    Some(Aws {
        region,
        iot_endpoint,
        managed_integrations_endpoint,
        call_timeout,
        account,
        ca_bundle,
        quotas,
    })
}

/// A Region as AWS names them: `eu-west-1`, `us-gov-east-1`.
fn region(table: &Table<'_>, at: &At<&str>) -> Option<String> {
    let parts: Vec<_> = at.value.split('-').collect();
    let is_word = |it: &&str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_lowercase());
    let is_number = |it: &&str| matches!(it.len(), 1..=2) && it.bytes().all(|it| it.is_ascii_digit());
    if let [first, words @ .., number] = parts.as_slice()
        && first.len() == 2
        && is_word(first)
        && !words.is_empty()
        && words.iter().all(is_word)
        && is_number(number)
        && at.value.len() <= 32
    {
        return Some(at.value.to_owned());
    }
    table.problem(
        &at.place,
        format!("{:?} is not the name of an AWS Region", at.value),
        "write it as in eu-west-1",
    );
    None
}

fn account(table: &Table<'_>) -> Option<String> {
    let at = table.text("account")?;
    if at.value.len() == 12 && at.value.bytes().all(|it| it.is_ascii_digit()) {
        return Some(at.value.to_owned());
    }
    table.problem(
        &at.place,
        "is not the number of an AWS account",
        "write its 12 digits in quotes, without hyphens",
    );
    None
}

/// An http(s) URL of a host and no more. One with a user in it is refused: it would show up in logs.
fn endpoint(table: &Table<'_>, key: &'static str) -> Option<String> {
    let at = table.text(key)?;
    let hint = "write https://HOST or http://HOST:PORT";
    let Ok(uri) = at.value.parse::<hyper::Uri>() else {
        table.problem(&at.place, "is not a URL", hint);
        return None;
    };
    let authority = uri.authority().map_or("", |it| it.as_str());
    let host = uri.host().unwrap_or_default();
    // What follows the host: nothing, or a port that is a port.
    let port = authority.strip_prefix(host).unwrap_or("?");
    let message = if !matches!(uri.scheme_str(), Some("http" | "https")) {
        "is not an http or https URL"
    } else if host.is_empty()
        || authority.contains('@')
        || !(port.is_empty() || uri.port_u16().is_some_and(|it| it > 0))
    {
        "is not a URL of a host and a port"
    } else if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        "has a path; an endpoint is a host and a port only"
    } else {
        return Some(at.value.trim_end_matches('/').to_owned());
    };
    table.problem(&at.place, message, hint);
    None
}
