//! `tests/scenarios/rules.txt`: every rule of the protocol and of the floor has something that shows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use linemint::fixture::{FailCode, NakCode};
use linemint::rehearsal::conformance::RULES;

/// What is wrong with something that is said to show a rule.
fn wrong(shown_by: &str) -> Option<String> {
    if let Some(rule) = shown_by.strip_prefix("check:") {
        let is_known = RULES.iter().any(|it| it.id == rule);
        return (!is_known).then(|| format!("`fixture check` has no rule {rule}"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some((file, test)) = shown_by.split_once("::") else {
        let is_there = super::folder().join(shown_by).join("conversation.txt").is_file();
        return (!is_there).then(|| format!("there is no scenario {shown_by}"));
    };
    let files = ["tests/it", "src"].map(|it| root.join(it).join(file).with_extension("rs"));
    let is_there =
        |path: &Path| fs::read_to_string(path).is_ok_and(|it| it.contains(&format!("fn {test}()")));
    (!files.iter().any(|it| is_there(it))).then(|| format!("there is no test {shown_by}"))
}

#[test]
fn each_rule_is_shown_and_no_scenario_stands_for_nothing() {
    let text = fs::read_to_string(super::folder().join("rules.txt")).unwrap();
    let (mut rules, mut named, mut problems) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for line in text.lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
        let columns: Vec<_> = line.split(" | ").map(str::trim).collect();
        let [rule, demand, shown] = columns[..] else { panic!("not three columns: {line}") };
        assert!(rules.insert(rule.to_owned()), "{rule} is there twice");
        assert!(!demand.is_empty(), "{rule} demands nothing");
        let shown: Vec<_> = shown.split_whitespace().collect();
        assert!(!shown.is_empty(), "nothing shows {rule}");
        problems.extend(shown.iter().filter_map(|it| wrong(it)).map(|it| format!("{rule}: {it}")));
        named.extend(shown.into_iter().map(str::to_owned));
    }
    let folders = fs::read_dir(super::folder()).unwrap().map(Result::unwrap).filter(|it| it.path().is_dir());
    let folders = folders.map(|it| it.file_name().into_string().unwrap());
    problems.extend(folders.filter(|it| !named.contains(it)).map(|it| format!("{it} shows no rule")));
    let unnamed = RULES.iter().filter(|it| !named.contains(&format!("check:{}", it.id)));
    problems.extend(unnamed.map(|it| format!("check:{} is named by no rule", it.id)));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(rules.len() >= 80, "{} rules", rules.len());
}

#[test]
fn each_code_is_said_in_a_scenario() {
    let folders =
        fs::read_dir(super::folder()).unwrap().map(|it| it.unwrap().path().join("conversation.txt"));
    let said: String = folders.filter_map(|it| fs::read_to_string(it).ok()).collect();
    let naks = NakCode::ALL.iter().map(|it| ("nak", it.as_str()));
    let fails = FailCode::ALL.iter().map(|it| ("fail", it.as_str()));
    for (verdict, code) in naks.chain(fails) {
        // As the station says it, not the fixture.
        let is_said = |it: &&str| {
            let verb = it.split(' ').next().unwrap_or_default();
            verb.contains('<')
                && it.contains(&format!(r#""type":"{verdict}""#))
                && it.contains(&format!(r#""code":"{code}""#))
        };
        assert!(said.lines().find(is_said).is_some(), "no scenario has {verdict} {code}");
    }
}
