use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(&DOCUMENT).unwrap()
}

/// Every route of the local API's router, as its source has it: verb and path.
fn routes() -> BTreeSet<(String, String)> {
    let source = include_str!("../server.rs");
    let (_, from) = source.split_once("fn router(").unwrap();
    let router = from.split_once("\n}\n").unwrap().0;
    let routes = router.split(".route(\"").skip(1).flat_map(|it| {
        let (path, rest) = it.split_once("\", ").unwrap();
        // `get(…).post(…)` is two.
        let verbs = ["get", "post", "put"].into_iter().filter(move |verb| {
            rest.lines()
                .next()
                .is_some_and(|it| it.starts_with(&format!("{verb}(")) || it.contains(&format!(").{verb}(")))
        });
        verbs.map(move |it| (it.to_owned(), path.to_owned()))
    });
    routes.collect()
}

#[test]
fn the_committed_document_is_that_of_the_handlers() {
    let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));
    if std::env::var_os("LINEMINT_UPDATE").is_some() {
        crate::durable_fs::replace(path, 0o644, DOCUMENT.as_bytes()).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == *DOCUMENT, "LINEMINT_UPDATE=1 writes docs/openapi.json anew");
}

#[test]
fn the_document_names_every_route_and_no_other() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let paths = document["paths"].as_object().unwrap().iter();
    let told: BTreeSet<_> = paths
        .flat_map(|(path, verbs)| verbs.as_object().unwrap().keys().map(|it| (it.clone(), path.clone())))
        .collect();
    assert!(told.len() >= 13, "{told:?}");
    assert_eq!(told, routes());
}

#[test]
fn every_serial_number_in_a_path_has_its_pattern() {
    let document = document();
    let mut seen = 0;
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let operations = verbs.as_object().unwrap().values();
        let parameters = operations.filter_map(|it| it["parameters"].as_array()).flatten();
        for serial in parameters.filter(|it| it["in"] == "path" && it["name"] == "serial") {
            assert_eq!(serial["schema"]["pattern"], "^[!-~]{1,128}$", "{path}");
            seen += 1;
        }
    }
    assert_eq!(seen, document.to_string().matches("\"/v1/devices/{serial}").count());
}

#[test]
fn every_schema_that_is_referred_to_is_there_and_every_operation_has_its_own_name() {
    let document = document();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let times = &document["components"]["schemas"]["Device"]["properties"]["admitted_at"];
    assert_eq!(times["format"], "date-time");
    let mut names = BTreeSet::new();
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|it| it.as_object().unwrap().values())
    {
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.contains_key("200"), "{operation}");
        assert!(answers.values().all(|it| !it["description"].as_str().unwrap().is_empty()));
    }
}
