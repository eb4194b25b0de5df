use clap::FromArgMatches as _;

use super::*;
use crate::report::model::{Report, SCHEMA};
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
        &["merge", "a.json", "b.json", "--format", "json", "--output", "all.json"],
    ] {
        assert!(parse(good).is_ok(), "{good:?}");
    }
    for bad in [
        &["--shift", "a", "--batch", "b"][..],
        &["--until", "2026-11-22T06:00"],
        &["--since", "yesterday"],
        &["--key", "a"],
        &["--verify", "a", "--shift", "b"],
        &["merge", "a.json"],
        &["merge", "a.json", "b.json", "--format", "csv"],
        &["--format", "pdf"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    let args = parse(&["--shift", "2026-11-22/früh", "--format", "json"]).unwrap();
    assert_eq!(
        target(&args, args.shift.as_deref(), None),
        "/v1/report?format=json&shift=2026-11-22%2Ffr%C3%BCh"
    );
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

/// What comes of merging these files.
fn merged(dir: &Path, names: &[&str], format: &str) -> Result<(ExitStatus, String), FileError> {
    let files: Vec<_> = names.iter().map(|it| dir.join(it).to_str().unwrap().to_owned()).collect();
    let files = files.iter().map(String::as_str);
    let args: Vec<_> = std::iter::once("merge").chain(files).chain(["--format", format]).collect();
    let Some(ReportCommand::Merge(args)) = parse(&args).unwrap().command else { panic!("{args:?}") };
    let mut out = Vec::new();
    super::merge::run(&args, &mut out).map(|status| (status, String::from_utf8(out).unwrap()))
}

#[test]
fn only_what_is_of_the_same_is_added_up_and_no_device_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (path, signer) = (|name: &str| dir.path().join(name), signer());
    let merge = |names: &[&str], format: &str| merged(dir.path(), names, format);
    let (mut a, mut b) = (outage().1, rework().1);
    a.station.id = "L3-S01".to_owned();
    (b.station.id, b.station.config) = ("L3-S02".to_owned(), "other".to_owned());
    (b.selection.name, b.selection.begin) = (a.selection.name.clone(), a.selection.begin);
    put(&path("a.json"), signer.signed(&a));
    put(&path("b.json"), signer.signed(&b));
    let (_, text) = merge(&["a.json", "b.json"], "text").unwrap();
    let head = text.split("BALANCE\n").next().unwrap();
    assert!(
        !head.contains(&a.journal.id) && !head.contains("configuration"),
        "neither is all of them: {head}"
    );
    assert!(text.contains("L3-S02 was reported from"), "it ends on another day: {text}");
    // What is not of the same, or counts a device twice.
    let mut other = b.clone();
    other.selection.name = Some("2026-11-20/late".to_owned());
    put(&path("late.json"), signer.signed(&other));
    let refused = |names: &[&str]| match merge(names, "text").unwrap_err() {
        FileError::Unfit(why) => why,
        error => panic!("{error:?}"),
    };
    assert!(
        refused(&["a.json", "late.json"])
            .contains("is of shift 2026-11-20/early and that of L3-S02 of shift")
    );
    let mut corrected = a.clone();
    corrected.version = 2;
    put(&path("a-2.json"), signer.signed(&corrected));
    assert!(refused(&["a.json", "b.json", "a-2.json"]).contains("two reports of L3-S01 are of shift"));
    // Hours of one station one after the other can be added, and not those that overlap.
    let mut hours = [a.clone(), a.clone()];
    for it in &mut hours {
        (it.selection.kind, it.selection.name) = ("time".to_owned(), None);
    }
    put(&path("1.json"), signer.signed(&hours[0]));
    hours[1].selection.begin = hours[0].selection.end;
    hours[1].selection.end = hours[0].selection.end + jiff::SignedDuration::from_hours(1);
    put(&path("2.json"), signer.signed(&hours[1]));
    assert!(merge(&["1.json", "2.json"], "text").is_ok());
    hours[1].selection.begin = hours[0].selection.end - jiff::SignedDuration::from_secs(1);
    put(&path("2.json"), signer.signed(&hours[1]));
    assert!(refused(&["1.json", "2.json"]).contains("two reports of L3-S01 are of the time from"));
}

#[test]
fn reports_of_two_stations_add_up_and_a_serial_at_both_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let signer = signer();
    let (mut a, mut b) = (outage().1, rework().1);
    a.station.id = "L3-S01".to_owned();
    b.station.id = "L3-S02".to_owned();
    (a.cloud, b.cloud) = (None, None);
    (b.selection.name, b.selection.begin) = (a.selection.name.clone(), a.selection.begin);
    let named = b.serials.take().unwrap();
    assert_eq!(named.len() as u64, b.balance.total + b.balance.extras, "each device is named");
    put(&path("b.json"), signer.signed(&b));
    a.serials = Some(vec!["TH1".to_owned(), "TH2".to_owned(), "=3".to_owned()]);
    put(&path("a.json"), signer.signed(&a));
    // An earlier version's does not name its devices: then the lines beside it are read. The other's are not.
    put(&path("a.csv"), "serial,class\nTH4,x\n");
    put(&path("b.csv"), "serial,class\nTH4,x\nTH5,x\n");
    let merge = |names: &[&str], format: &str| merged(dir.path(), names, format);
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
    assert!(!text.contains("L3-S01: its serial numbers were not compared"), "{text}");
    b.serials = Some(vec!["TH4".to_owned(), "=3".to_owned()]);
    put(&path("b.json"), signer.signed(&b));
    let (status, text) = merge(&["a.json", "b.json"], "json").unwrap();
    let sum: Report = serde_json::from_str(&text).unwrap();
    assert_eq!((status, sum.twice.len(), sum.serials), (ExitStatus::Bad, 1, None), "{:?}", sum.twice);
    assert_eq!(sum.twice[0].serial, "=3");
    assert!(!text.contains("were not compared"), "{text}");
    put(&path("a.pub"), signer.public_pem());
    put(&path("c.pub"), super::tests::signer().public_pem());
    let by = |keys: &[&str]| {
        let files = ["a.json", "b.json"].map(|it| path(it).to_str().unwrap().to_owned());
        let keys = keys.iter().flat_map(|it| ["--key".to_owned(), path(it).to_str().unwrap().to_owned()]);
        let args: Vec<_> = std::iter::once("merge".to_owned()).chain(files).chain(keys).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let Some(ReportCommand::Merge(args)) = parse(&args).unwrap().command else { panic!("{args:?}") };
        super::merge::run(&args, &mut Vec::new())
    };
    assert!(
        by(&["c.pub", "a.pub"]).is_ok() && by(&["a.pub", "c.pub"]).is_ok(),
        "one of them has signed each"
    );
    assert!(matches!(by(&["c.pub"]), Err(FileError::Untrue { source: Untrue::OtherKey(_), .. })));
    assert_eq!(merge(&["a.json", "a.json"], "text").unwrap_err().exit_status(), ExitStatus::Usage);
}

#[test]
fn a_merged_report_is_written_whole_into_a_file_and_says_which_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (a, mut b) = (outage().1, outage().1);
    (b.station.id, b.serials) = ("L3-S08".to_owned(), Some(Vec::new()));
    put(Path::new(&path("a.json")), signer().signed(&a));
    put(Path::new(&path("b.json")), signer().signed(&b));
    let merge = |output: &str| {
        let output = path(output);
        let args =
            parse(&["merge", &path("a.json"), &path("b.json"), "--format", "json", "--output", &output]);
        let Some(ReportCommand::Merge(args)) = args.unwrap().command else { panic!() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = told(super::merge::run(&args, &mut out), &mut err);
        assert!(out.is_empty());
        (status, String::from_utf8(err).unwrap())
    };
    assert_eq!(merge("all.json"), (ExitStatus::Done, String::new()));
    let all: Report = serde_json::from_str(&std::fs::read_to_string(path("all.json")).unwrap()).unwrap();
    assert_eq!(all.balance.total, 2 * a.balance.total);
    let (status, why) = merge("none/all.json");
    assert_eq!(status, ExitStatus::Io);
    let named = format!("error: failed to write {}: No such file or directory", path("none/all.json"));
    assert!(why.starts_with(&named) && !why.contains("none/.tmp"), "{why}");
}

/// A daemon that gives these answers, one a connection, and notes what it was asked for.
async fn serve(
    listener: tokio::net::UnixListener,
    answers: Vec<(&'static str, String)>,
    requests: &std::cell::RefCell<Vec<(String, String)>>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for (head, body) in answers {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut text, mut bytes) = (String::new(), [0; 4096]);
        loop {
            let count = socket.read(&mut bytes).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|it| it.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                requests.borrow_mut().push((head.lines().next().unwrap().to_owned(), body.to_owned()));
                break;
            }
        }
        let answer =
            format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
    std::future::pending().await
}

/// What comes of a command before such a daemon: its status, stdout and stderr, and what it has asked for.
async fn before(
    args: &[&str],
    answers: Vec<(&'static str, String)>,
) -> (ExitStatus, String, String, Vec<(String, String)>) {
    correcting(None, &[args, &["--reconcile"]].concat(), answers).await
}

async fn correcting(
    old: Option<&Verified>,
    args: &[&str],
    answers: Vec<(&'static str, String)>,
) -> (ExitStatus, String, String, Vec<(String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let args = parse(&[args, &["--socket", path.to_str().unwrap()]].concat()).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (count, requests) = (answers.len(), std::cell::RefCell::default());
    let result = tokio::select! {
        result = show(&args, old, &mut out, &mut err) => result,
        () = serve(listener, answers, &requests) => unreachable!(),
    };
    let (status, requests) = (finished(result, &mut err), requests.into_inner());
    let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
    assert_eq!(requests.len(), count, "{requests:?} {out}{err}");
    (status, out, err, requests)
}

const CLOSES: &str = "200 OK\r\nlinemint-balance: closes";

fn summary() -> (&'static str, String) {
    let told = crate::reconcile::Told::Summary(crate::reconcile::Summary::default());
    ("200 OK", serde_json::to_string(&told).unwrap() + "\n")
}

fn report() -> (&'static str, String) {
    (CLOSES, "the report\n".to_owned())
}

fn refusal(status: u16, head: &'static str, detail: &str) -> (&'static str, String) {
    let problem =
        serde_json::json!({ "type": "/problems/x", "title": "x", "status": status, "detail": detail });
    (head, problem.to_string())
}

#[tokio::test]
async fn look_and_report_are_of_one_shift_however_long_the_look_takes() {
    for (args, word) in
        [(&["--shift", "last"][..], "last"), (&[][..], "current"), (&["--shift", "current"][..], "current")]
    {
        let named = ("200 OK", "{\"name\": \"2026-11-21/early\"}".to_owned());
        let (status, out, err, asked) = before(args, vec![named, summary(), report()]).await;
        assert_eq!((status, out.as_str()), (ExitStatus::Done, "the report\n"), "{err}");
        assert_eq!(asked[0].0, format!("GET /v1/report?shift={word}&name=true HTTP/1.1"));
        assert_eq!(asked[1].0, "POST /v1/reconcile HTTP/1.1");
        let wish: serde_json::Value = serde_json::from_str(&asked[1].1).unwrap();
        assert_eq!(wish["selection"], serde_json::json!({ "shift": "2026-11-21/early" }));
        let target = "/v1/report?format=text&shift=2026-11-21%2Fearly&reconciled=true";
        assert_eq!(asked[2].0, format!("GET {target} HTTP/1.1"));
    }
    let hours = ["--since", "2026-11-22T06:00", "--until", "2026-11-22T09:00:00Z"];
    let (status, _, err, asked) = before(&hours, vec![summary(), report()]).await;
    assert_eq!(status, ExitStatus::Done, "{err}");
    assert!(
        asked[0].1.contains("\"since\":\"2026-11-22T06:00:00\"")
            && asked[1].0.contains("since=2026-11-22T06")
    );
    // What has its name, or none, is not asked for.
    let (_, _, _, asked) = before(&["--shift", "2026-11-21/late"], vec![summary(), report()]).await;
    assert!(asked[0].1.contains("\"2026-11-21/late\"") && asked[1].0.contains("shift=2026-11-21%2Flate&"));
    let (_, _, _, asked) = before(&["--batch", "WO-1"], vec![summary(), report()]).await;
    assert!(asked[0].1.contains("{\"batch\":\"WO-1\"}") && !asked[1].0.contains("shift"), "{asked:?}");
}

#[tokio::test]
async fn a_batch_that_nobody_knows_is_no_report_that_does_not_balance() {
    let refused = refusal(404, "404 Not Found", "no order is known");
    let (status, out, err, _) = correcting(None, &["--batch", "NOPE"], vec![refused]).await;
    assert_eq!((status, out.as_str(), err.as_str()), (ExitStatus::Refused, "", "no order is known\n"));
    let (status, ..) =
        correcting(None, &[], vec![("200 OK\r\nlinemint-balance: open", "x".to_owned())]).await;
    assert_eq!(status, ExitStatus::Bad);
}

#[tokio::test]
async fn a_correction_is_of_the_same_shift_and_station() {
    let old = verify(&signer().signed(&outage().1), &[]).unwrap();
    let about = |name: &str, station: &str| {
        let about = serde_json::json!({ "name": name, "kind": "shift", "station": station,
            "begin": "2026-11-20T05:00:00Z", "end": "2026-11-20T13:00:00Z" });
        ("200 OK", about.to_string())
    };
    let answers = vec![about("2026-11-20/early", "L3-S07"), report()];
    let (status, out, err, asked) = correcting(Some(&old), &["--shift", "last"], answers).await;
    assert_eq!((status, out.as_str()), (ExitStatus::Done, "the report\n"), "{err}");
    assert_eq!(asked[0].0, "GET /v1/report?format=text&shift=last&name=true HTTP/1.1");
    assert!(
        asked[1].0.contains(&format!("shift=2026-11-20%2Fearly&corrects={}&version=2", old.hash)),
        "{asked:?}"
    );
    for other in [about("2026-11-21/early", "L3-S07"), about("2026-11-20/early", "L3-S08")] {
        let (status, out, err, _) = correcting(Some(&old), &["--shift", "last"], vec![other]).await;
        assert_eq!((status, out.as_str()), (ExitStatus::Usage, ""), "{err}");
        assert!(
            err.contains("that one is of shift 2026-11-20/early, station L3-S07; asked for is shift"),
            "{err}"
        );
    }
}

#[tokio::test]
async fn a_look_that_is_refused_leaves_the_report_its_sentence_and_status_4() {
    let shift = ["--shift", "2026-11-21/early"];
    let without = "GET /v1/report?format=text&shift=2026-11-21%2Fearly HTTP/1.1";
    for (status, head) in [(409, "409 Conflict"), (403, "403 Forbidden"), (503, "503 Service Unavailable")] {
        let refused = refusal(status, head, "one runs already");
        let (status, out, err, asked) = before(&shift, vec![refused, report()]).await;
        assert_eq!((status, out.as_str()), (ExitStatus::Refused, "the report\n"), "{err}");
        assert_eq!((err.as_str(), asked[1].0.as_str()), ("one runs already\n", without));
    }
    // It could not go on, as it says itself.
    let problem = crate::reconcile::Told::Problem { detail: "AWS refuses".to_owned(), after: None };
    let problem = ("200 OK", serde_json::to_string(&problem).unwrap() + "\n");
    let (status, out, err, asked) = before(&shift, vec![problem, report()]).await;
    assert_eq!((status, out.as_str(), asked[1].0.as_str()), (ExitStatus::Refused, "the report\n", without));
    assert_eq!(err, "the reconciliation could not go on: AWS refuses\n");
    // It was cut off.
    let (status, out, err, _) = before(&shift, vec![("200 OK", "\n".to_owned()), report()]).await;
    assert_eq!((status, out.as_str()), (ExitStatus::Refused, "the report\n"));
    assert!(err.contains("has ended"), "{err}");
    // Somebody else's look is the newest one by then.
    let refused = refusal(409, "409 Conflict", "no look at the account for just these devices");
    let (status, out, err, asked) = before(&shift, vec![summary(), refused, report()]).await;
    assert_eq!((status, out.as_str(), asked[2].0.as_str()), (ExitStatus::Refused, "the report\n", without));
    assert_eq!(err, "no look at the account for just these devices\n");
    // What is wrong with the report itself is none of it.
    let refused = refusal(400, "400 Bad Request", "there is no shift");
    let (status, out, err, _) = before(&shift, vec![summary(), refused]).await;
    assert_eq!((status, out.as_str(), err.as_str()), (ExitStatus::Refused, "", "there is no shift\n"));
}

#[test]
fn what_each_station_found_in_the_cloud_and_leaves_to_do_stays_in_the_sum() {
    let dir = tempfile::tempdir().unwrap();
    let (signer, mut a) = (signer(), outage().1);
    let station = |it: &mut Report, id: &str| {
        it.station.id = id.to_owned();
        it.serials = Some(vec![format!("of {id}")]);
    };
    station(&mut a, "S1");
    a.handover.actions.push("THE CLOUD DIFFERS: see to it".to_owned());
    let check = crate::report::model::CloudCheck {
        compared: 4,
        findings: [("missing".to_owned(), 1)].into(),
        ..Default::default()
    };
    let by = crate::report::model::Override {
        at: a.made_at,
        what: "go on".to_owned(),
        who: "ada".to_owned(),
        why: "it is right".to_owned(),
    };
    (a.cloud, a.overrides) = (Some(check.clone()), vec![by]);
    let (mut b, mut c) = (a.clone(), a.clone());
    station(&mut b, "S2");
    (b.cloud, b.overrides, b.handover) = (None, Vec::new(), Default::default());
    station(&mut c, "S3");
    (c.overrides, c.handover) = (Vec::new(), Default::default());
    c.cloud = Some(crate::report::model::CloudCheck { agrees: true, findings: Default::default(), ..check });
    for (name, it) in [("a.json", &a), ("b.json", &b), ("c.json", &c)] {
        put(&dir.path().join(name), signer.signed(it));
    }
    let merge = |names: &[&str], format: &str| merged(dir.path(), names, format).unwrap();
    let all = ["a.json", "b.json", "c.json"];
    let (status, text) = merge(&all, "text");
    assert_eq!(status, ExitStatus::Bad, "as of a single report that the account differs from");
    assert!(
        text.contains("\nTHE CLOUD DIFFERS at S1; THE CLOUD AGREES at S3; not looked at by S2\n"),
        "{text}"
    );
    assert!(text.contains("[ ] S1: THE CLOUD DIFFERS: see to it\n"), "{text}");
    assert!(text.contains(" by ada: S1: go on (it is right)"), "{text}");
    assert!(text.contains("takt of each station its own") && !text.contains("none set"), "{text}");
    for (id, word) in [("S1", "DIFFERS"), ("S2", "-"), ("S3", "agrees")] {
        let row = text.lines().find(|it| it.starts_with(&format!("  {id} "))).unwrap();
        assert!(row.ends_with(&format!(" {word}")), "{row}");
    }
    let (_, page) = merge(&all, "html");
    assert!(page.contains("THE CLOUD DIFFERS at S1") && page.contains("takt of each station its own"));
    let sum: Report = serde_json::from_str(&merge(&all, "json").1).unwrap();
    let nest = a.fixtures.keys().next().unwrap();
    assert_eq!(sum.fixtures[&format!("S1 {nest}")], a.fixtures[nest]);
    assert_eq!(sum.fixtures.len(), 3 * a.fixtures.len());
    let away = sum.downtime.iter().filter(|it| it.cause == "fixture-away").count();
    assert_eq!(away, 3 * a.downtime.iter().filter(|it| it.cause == "fixture-away").count());
    // Where all agree, or nobody has looked, the sums alone decide.
    assert_eq!(merge(&["b.json", "c.json"], "text").0, ExitStatus::Done);
}
