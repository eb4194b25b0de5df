//! A product's policy, and the document in it.

use serde_json::Value;

use super::errors::Place;
use super::names::{self, Sources};
use super::product::{self, irrelevant, tags};
use super::station::read;
use super::table::Table;
use crate::device::rules::PolicyRule;

/// Largest file that is read as a policy document, bytes: AWS takes 2,048 characters, but does
/// not count white space.
const MAX_FILE: u64 = 64 << 10;

/// Longest document, characters other than white space ([gr-core] in the project's AWS facts).
const MAX_CHARACTERS: usize = 2_048;

#[derive(Clone, Copy)]
enum Scope {
    Device,
    Product,
    Given,
    None,
}

/// `policy = { … }` of a product; `sources` are none where the serial pattern is wrong.
pub(super) fn policy(table: Table<'_>, sources: Option<&Sources<'_>>) -> Option<PolicyRule> {
    let words = [
        ("device", Scope::Device),
        ("product", Scope::Product),
        ("given", Scope::Given),
        ("none", Scope::None),
    ];
    let scope = table.choice("scope", Scope::Device, &words);
    let rule = match scope {
        Scope::Device => {
            let name = product::device_name(&table, "name", &names::POLICY, sources);
            let document = document_file(&table);
            let tags = tags(&table, &names::POLICY_TAG_KEY, &names::POLICY_TAG_VALUE, sources);
            name.zip(document).map(|(name, document)| PolicyRule::Device { name, document, tags })
        }
        Scope::Product => shared(&table, sources),
        Scope::Given => {
            irrelevant(&table, &["document", "tags"], "given");
            given(&table)
        }
        Scope::None => {
            irrelevant(&table, &["name", "document", "tags"], "none");
            Some(PolicyRule::None)
        }
    };
    table.finish();
    rule
}

/// One policy for all devices of the product.
fn shared(table: &Table<'_>, sources: Option<&Sources<'_>>) -> Option<PolicyRule> {
    let at = table.need_text("name", "{product}-device");
    let name = at.and_then(|at| {
        let name = product::template(table, &at)?;
        // Wrong serial numbers do not matter here, there are none in the name.
        if let Some(sources) = sources
            && let Err(bad) = sources.shared(&name).and_then(|it| names::check_text(&it, &names::POLICY))
        {
            table.problem(&at.place, bad.message, bad.hint);
            return None;
        }
        Some(name)
    });
    let document = document_file(table);
    let tags = tags(table, &names::POLICY_TAG_KEY, &names::POLICY_TAG_VALUE, sources);
    if let Some(sources) = sources {
        for (key, value) in &tags {
            if let Err(bad) = sources.shared(value) {
                table.problem(&table.place_of("tags"), format!("{key}: {}", bad.message), bad.hint);
            }
        }
    }
    Some(PolicyRule::Product { name: name?, document: document?, tags })
}

fn given(table: &Table<'_>) -> Option<PolicyRule> {
    let at = table.need_text("name", "my-policy")?;
    if let Err(bad) = names::check_text(at.value, &names::POLICY) {
        table.problem(&at.place, bad.message, bad.hint);
        return None;
    }
    Some(PolicyRule::Given { name: at.value.to_owned() })
}

/// Reads the document that `document` names, without insignificant white space.
fn document_file(table: &Table<'_>) -> Option<String> {
    let at = table.need_path("document", "policies/thermostat.json")?;
    let content = read(table, &at, MAX_FILE)?;
    match document(&content) {
        Ok(document) => Some(document),
        Err(bad) => {
            let place = Place { key: at.place.key, offset: at.place.offset };
            table.problem(&place, format!("{} {}", at.value.display(), bad.0), bad.1);
            None
        }
    }
}

/// Message and hint.
#[derive(Debug, PartialEq, Eq)]
struct BadDocument(String, &'static str);

fn document(content: &[u8]) -> Result<String, BadDocument> {
    let bad = |message: &str, hint| Err(BadDocument(message.to_owned(), hint));
    let Ok(text) = std::str::from_utf8(content) else {
        return bad("is not text", "the document is JSON in UTF-8");
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Err(BadDocument(format!("is not JSON: {error}"), "correct the document")),
    };
    let Value::Object(members) = &value else {
        return bad("is not a JSON object", "a policy is {\"Version\": \"2012-10-17\", \"Statement\": […]}");
    };
    match members.get("Version").and_then(Value::as_str) {
        Some("2012-10-17") => {}
        Some("2008-10-17") if !text.contains("${") => {}
        Some("2008-10-17") => {
            return bad(
                "uses policy variables, which Version 2008-10-17 takes as plain text",
                "set Version to \"2012-10-17\"",
            );
        }
        _ => return bad("has no Version that AWS knows", "add \"Version\": \"2012-10-17\""),
    }
    let statements = match members.get("Statement") {
        Some(Value::Array(all)) => all.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => &[],
    };
    if statements.is_empty() {
        return bad("has no Statement", "add \"Statement\": [ … ] with what devices may do");
    }
    let effect = |it: &Value| matches!(it.get("Effect").and_then(Value::as_str), Some("Allow" | "Deny"));
    if !statements.iter().all(effect) {
        return bad(
            "has a statement without Effect",
            "each statement needs \"Effect\": \"Allow\" or \"Deny\"",
        );
    }
    let length = text.chars().filter(|it| !it.is_whitespace()).count();
    if length > MAX_CHARACTERS {
        let message = format!("has {length} characters without white space; AWS takes {MAX_CHARACTERS}");
        return Err(BadDocument(
            message,
            "say it with policy variables and wildcards, or move a part to a second policy",
        ));
    }
    Ok(minified(text))
}

/// `json` without insignificant white space: members keep their order and numbers their writing.
fn minified(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for it in json.chars() {
        if !in_text && it.is_ascii_whitespace() {
            continue;
        }
        out.push(it);
        if escaped {
            escaped = false;
        } else if it == '"' {
            in_text = !in_text;
        } else {
            escaped = in_text && it == '\\';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_loses_white_space_between_and_keeps_it_within_texts() {
        let json = "{ \"Version\": \"2012-10-17\",\n\t\"Statement\": [ {\"Effect\": \"Allow\", \"Sid\": \"a \\\" b\\\\\", \"A\" : 1.0e0} ] }\n";
        let small = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Sid":"a \" b\\","A":1.0e0}]}"#;
        assert_eq!(document(json.as_bytes()).unwrap(), small);
        assert_eq!(document(small.as_bytes()).unwrap(), small);
    }

    #[test]
    fn what_aws_would_refuse_as_a_policy_is_refused_here() {
        for bad in [
            &b"\xff"[..],
            b"",
            b"[]",
            b"{\"Version\": \"2012-10-17\"",
            b"{\"Statement\": [{\"Effect\": \"Allow\"}]}",
            b"{\"Version\": \"2013-10-17\", \"Statement\": [{\"Effect\": \"Allow\"}]}",
            b"{\"Version\": \"2012-10-17\"}",
            b"{\"Version\": \"2012-10-17\", \"Statement\": []}",
            b"{\"Version\": \"2012-10-17\", \"Statement\": [{}]}",
            b"{\"Version\": \"2008-10-17\", \"Statement\": [{\"Effect\": \"Allow\", \"Resource\": \"${iot:ClientId}\"}]}",
        ] {
            assert!(document(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_size_of_a_document_is_counted_without_white_space() {
        let frame = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Sid":""}}"#;
        let filled = |count| frame.replace("\"Sid\":\"", &format!("\"Sid\":\"{}", "é".repeat(count)));
        let room = MAX_CHARACTERS - frame.len();
        assert!(document(format!("{}{}", filled(room), " ".repeat(5_000)).as_bytes()).is_ok());
        let error = document(filled(room + 1).as_bytes()).unwrap_err();
        assert!(error.0.contains("2049"), "{error:?}");
    }
}
