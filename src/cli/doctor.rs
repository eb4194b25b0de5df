//! `linemint doctor`: what a technician should look at.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::text::plain;
use crate::clock::SystemClock;
use crate::config::DEFAULT_PATH;
use crate::doctor::run::{Surroundings, run as look};
use crate::doctor::{Finding, Report, Verdict};
use crate::error::ExitStatus;
use crate::fixture::port::System;
use crate::timesync::Keepers;

/// Looks at the station: ports and who holds them, udev, clock, disk, CA, AWS. Changes nothing.
#[derive(Debug, Clone, clap::Args)]
pub struct Doctor {
    /// The configuration file.
    #[arg(long, value_name = "F", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Prints one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. 1 if a check has failed.
pub async fn run(args: Doctor) -> ExitStatus {
    let around = Surroundings {
        system: System::default(),
        keepers: Keepers::default(),
        clock: Arc::new(SystemClock::default()),
        credentials: None,
    };
    let report = look(&args.config, &around).await;
    let terminal = io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    match print(&report, args.json, colour, &mut io::stdout().lock()) {
        Ok(()) if report.is_sound() => ExitStatus::Done,
        // Whoever has read enough and closed the pipe is no reason to change the answer.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitStatus::Io,
        _ if report.is_sound() => ExitStatus::Done,
        _ => ExitStatus::Bad,
    }
}

fn print(report: &Report, json: bool, colour: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        writeln!(out, "{:#}", serde_json::to_value(report)?)?;
    } else {
        out.write_all(text(report, colour).as_bytes())?;
    }
    out.flush()
}

/// The words, which say it without colour too, with their colours.
const fn mark(status: Verdict) -> (&'static str, u8) {
    match status {
        Verdict::Ok => ("[ ok ]", 32),
        Verdict::Warning => ("[WARN]", 33),
        Verdict::Failed => ("[FAIL]", 31),
        Verdict::Skipped => ("[skip]", 2),
    }
}

fn text(report: &Report, colour: bool) -> String {
    let mut text = String::new();
    for finding in &report.checks {
        line(finding, colour, &mut text);
    }
    let count = |status| report.checks.iter().filter(|it| it.status == status).count();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{} ok, {} warned of, {} failed, {} skipped",
        count(Verdict::Ok),
        count(Verdict::Warning),
        count(Verdict::Failed),
        count(Verdict::Skipped)
    );
    text
}

fn line(finding: &Finding, colour: bool, text: &mut String) {
    let (mark, code) = mark(finding.status);
    let mark = if colour { format!("\u{1b}[{code}m{mark}\u{1b}[0m") } else { mark.to_owned() };
    let about = finding.subject.as_ref().map(|it| format!("{}: ", plain(it))).unwrap_or_default();
    // Only a wrong configuration has several lines: one for each mistake.
    let mut lines = finding.detail.lines().map(plain);
    let first = lines.next().unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{mark} {about}{}: {first}", finding.name);
    for more in lines {
        let _ = writeln!(text, "         {more}");
    }
    if let Some(remedy) = &finding.remedy {
        let _ = writeln!(text, "       -> {}", plain(remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(status: Verdict, subject: Option<&str>, remedy: Option<&str>) -> Finding {
        Finding {
            id: "port",
            name: "port is there",
            subject: subject.map(str::to_owned),
            status,
            detail: "there is no /dev/tty\u{1b}[2J\nsecond".to_owned(),
            remedy: remedy.map(str::to_owned),
        }
    }

    fn report() -> Report {
        let failed = finding(Verdict::Failed, Some("nest-1"), Some("check the cable"));
        let fine = Finding { detail: "it is".to_owned(), ..finding(Verdict::Ok, None, None) };
        Report { checks: vec![fine, failed] }
    }

    #[test]
    fn the_text_is_read_without_colour() {
        let expected = "\
[ ok ] port is there: it is
[FAIL] nest-1: port is there: there is no /dev/tty?[2J
         second
       -> check the cable

1 ok, 0 warned of, 1 failed, 0 skipped
";
        assert_eq!(text(&report(), false), expected);
        let coloured = text(&report(), true);
        assert_eq!(
            coloured.replace("\u{1b}[32m", "").replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""),
            expected
        );
    }

    #[test]
    fn the_json_is_one_document_with_every_member() {
        let mut out = Vec::new();
        print(&report(), true, false, &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let members: Vec<_> = document["checks"][0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["id", "name", "subject", "status", "detail", "remedy"]);
        assert_eq!(document["checks"][1]["status"], "failed");
        assert_eq!(document["checks"][0]["remedy"], serde_json::Value::Null);
    }
}
