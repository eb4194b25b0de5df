//! For programs, and what is signed: the canonical form of RFC 8785, as far as whole numbers go (members in the
//! order of their names, no blanks, each character as it is).

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::model::Report;

/// The report's canonical JSON, with a line's end behind it.
#[must_use]
pub fn render(report: &Report) -> String {
    canonical(report) + "\n"
}

/// Canonical JSON of a value without fractions.
#[must_use]
pub fn canonical<T: Serialize>(value: &T) -> String {
    // Texts, whole numbers, lists and maps with text keys: cannot fail.
    sorted(serde_json::to_value(value).unwrap_or_default()).to_string()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(all) => Value::Array(all.into_iter().map(sorted).collect()),
        Value::Object(members) => {
            let mut all: Vec<_> = members.into_iter().map(|(name, it)| (name, sorted(it))).collect();
            // By UTF-16 code units, as the RFC says.
            all.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            Value::Object(all.into_iter().collect::<Map<_, _>>())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_in_the_order_of_their_names_at_every_depth() {
        let value =
            serde_json::json!({"b": [{"z": 1, "a": "ü\n"}], "a": null, "\u{20ac}": 1, "\r": 2, "1": true});
        assert_eq!(
            canonical(&value),
            "{\"\\r\":2,\"1\":true,\"a\":null,\"b\":[{\"a\":\"ü\\n\",\"z\":1}],\"€\":1}"
        );
    }
}
