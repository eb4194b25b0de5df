use clap::FromArgMatches as _;

use super::*;
use crate::report::model::SCHEMA;
use crate::report::sign::Signer;
use crate::report::tests::shifts::{outage, rework};

fn parse(args: &[&str]) -> Result<ReportArgs, clap::Error> {
    let command = ReportArgs::augment_args(clap::Command::new("report"));
    ReportArgs::from_arg_matches(&command.try_get_matches_from(["report"].iter().chain(args))?)
}

/// Writes a file of the test.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    crate::durable_fs::replace(path, 0o644, content.as_ref()).unwrap();
}

fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap()
}

#[test]
fn the_arguments_are_the_contracts() {
    for good in [
        &[][..],
        &["--shift", "2026-11-22/early", "--format", "html", "--output", "a.html"],
        &["--batch", "WO-1", "--format", "csv"],
        &["--since", "2026-11-22T06:00", "--until", "2026-11-22T14:00", "--socket", "a.sock"],
        &["--verify", "a.json", "--key", "report.pub"],
        &["merge", "a.json", "b.json", "--format", "json"],
    ] {
        assert!(parse(good).is_ok(), "{good:?}");
    }
    for bad in [
        &["--shift", "a", "--batch", "b"][..],
        &["--until", "x"],
        &["--key", "a"],
        &["--verify", "a", "--shift", "b"],
        &["merge", "a.json"],
        &["--format", "pdf"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    let args = parse(&["--shift", "2026-11-22/früh", "--format", "json"]).unwrap();
    assert_eq!(target(&args, None), "/v1/report?format=json&shift=2026-11-22%2Ffr%C3%BCh");
}

#[test]
fn a_report_is_verified_by_its_key_and_a_changed_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key, other) = (dir.path().join("a.json"), dir.path().join("a.pub"), dir.path().join("b.pub"));
    let signer = signer();
    let signed = signer.signed(&outage().1);
    put(&path, format!("{signed}\n"));
    put(&key, signer.public_pem());
    put(&other, super::tests::signer().public_pem());
    let mut out = Vec::new();
    assert_eq!(show_verified(&path, Some(&key), &mut out).unwrap(), ExitStatus::Done);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with(
            "authentic      2026-11-20/early of station L3-S07, version 1\nbalance        BALANCES: 96"
        ),
        "{text}"
    );
    let failed = |path: &Path, key: Option<&Path>| show_verified(path, key, &mut Vec::new()).unwrap_err();
    assert_eq!(failed(&path, Some(&other)).exit_status(), ExitStatus::Bad);
    assert_eq!(failed(&dir.path().join("none"), None).exit_status(), ExitStatus::Io);
    // Laid out otherwise it says the same; with another figure it does not.
    let value: serde_json::Value = serde_json::from_str(&signed).unwrap();
    put(&path, format!("{value:#}"));
    assert!(show_verified(&path, Some(&key), &mut Vec::new()).is_ok());
    for (changed, to) in
        [("\"first_pass\":84", "\"first_pass\":85"), (SCHEMA, "linemint-report/2"), ("\"alg", "\"alg")]
    {
        let forged = signed.replacen(changed, to, 1);
        if forged == signed {
            continue;
        }
        put(&path, forged);
        assert_eq!(told(show_verified(&path, Some(&key), &mut Vec::new()), &mut Vec::new()), ExitStatus::Bad);
    }
    let mut unsigned = value.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    put(&path, unsigned.to_string());
    assert!(matches!(failed(&path, None), FileError::Untrue { source: Untrue::Unsigned, .. }));
}

#[test]
fn reports_of_two_stations_add_up_and_a_serial_at_both_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let signer = signer();
    let (mut a, mut b) = (outage().1, rework().1);
    a.station.id = "L3-S01".to_owned();
    b.station.id = "L3-S02".to_owned();
    put(&path("a.json"), signer.signed(&a));
    put(&path("b.json"), signer.signed(&b));
    put(&path("a.csv"), "serial,class\nTH1,x\nTH2,x\n'=3,x\n");
    put(&path("b.csv"), "serial,class\nTH4,x\nTH5,x\n");
    let merge = |names: &[&str], format: &str| {
        let files: Vec<_> = names.iter().map(|it| path(it).to_str().unwrap().to_owned()).collect();
        let files = files.iter().map(String::as_str);
        let args: Vec<_> = std::iter::once("merge").chain(files).chain(["--format", format]).collect();
        let Some(ReportCommand::Merge(args)) = parse(&args).unwrap().command else { panic!("{args:?}") };
        let mut out = Vec::new();
        super::merge::run(&args, &mut out).map(|status| (status, String::from_utf8(out).unwrap()))
    };
    let (status, text) = merge(&["a.json", "b.json"], "json").unwrap();
    assert_eq!(status, ExitStatus::Done);
    let sum: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(sum.balance.total, a.balance.total + b.balance.total);
    assert_eq!(sum.balance.rows().iter().map(|it| it.1).sum::<u64>(), sum.balance.sum);
    assert_eq!(sum.stations.iter().map(|it| it.total).sum::<u64>(), sum.balance.total);
    assert_eq!(sum.stations[0].id, "L3-S01");
    assert_eq!(sum.failures.last().unwrap().cumulative, 10_000);
    assert_eq!(sum.exceptions.quarantined.count, 3);
    put(&path("b.csv"), "serial,class\nTH4,x\nTH2,x\n'=3,x\n");
    let (status, text) = merge(&["a.json", "b.json"], "text").unwrap();
    assert_eq!(status, ExitStatus::Bad);
    assert!(text.contains("2 serial numbers are at several stations"), "{text}");
    assert!(text.contains("TH2 is at L3-S01 and L3-S02"), "{text}");
    std::fs::remove_file(path("b.csv")).unwrap();
    let (_, text) = merge(&["a.json", "b.json"], "text").unwrap();
    assert!(text.contains("L3-S02: its serial numbers were not compared"), "{text}");
    assert_eq!(merge(&["a.json", "a.json"], "text").unwrap_err().exit_status(), ExitStatus::Usage);
    assert_eq!(merge(&["a.json", "b.json"], "csv").unwrap_err().exit_status(), ExitStatus::Usage);
}
