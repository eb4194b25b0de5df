//! `linemint reconcile`: work order, journal and cloud. The daemon looks, since it holds the credentials, the
//! limiter and the journal; here is shown what it tells: findings on stdout, progress on stderr.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};

use super::daemon::{CommandError, DaemonArgs, ended};
use super::text::plain;
use crate::device::operator::Operator;
use crate::device::serial::SerialNumber;
use crate::error::ExitStatus;
use crate::reconcile::{Class, Finding, Phase, Repair, Selection, Summary, Told, Wish};
use crate::shift::moment::Moment;

/// Holds what the journal says against what the account holds, and repairs what can be.
#[derive(Debug, Clone, clap::Args)]
pub struct ReconcileArgs {
    /// Only devices first presented in this shift, DATE/NAME, as 2026-11-21/early.
    #[arg(long, value_name = "D/NAME", conflicts_with_all = ["batch", "since", "until"])]
    pub shift: Option<String>,
    /// Only devices of this batch.
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until"])]
    pub batch: Option<String>,
    /// Only devices first presented since then: RFC 3339, or the station's own clock as 2026-11-22T06:00.
    #[arg(long, value_name = "T")]
    pub since: Option<Moment>,
    /// Only devices first presented before then, likewise.
    #[arg(long, value_name = "T")]
    pub until: Option<Moment>,
    /// Repairs what can be: makes the rest of what is half-made, deactivates and deletes orphaned
    /// certificates. All findings are shown before.
    #[arg(long)]
    pub repair: bool,
    /// Shows only what a repair would do.
    #[arg(long)]
    pub dry_run: bool,
    /// With --repair: scraps what this station has made and the journal does not know. After an older journal
    /// was restored these are real devices.
    #[arg(long, requires = "repair")]
    pub delete_extras: bool,
    /// Only existence and status, by the account's lists: no attachments, no documents.
    #[arg(long, conflicts_with = "repair")]
    pub quick: bool,
    /// Goes on behind this serial number, where an earlier look was cut off.
    #[arg(long, value_name = "SERIAL", value_parser = SerialNumber::parse, conflicts_with = "repair")]
    pub after: Option<SerialNumber>,
    /// With --repair: why, in one line, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = super::device::order::reason)]
    pub reason: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints JSON lines: findings, outcomes of repairs, a summary.
    #[arg(long)]
    pub json: bool,
}

impl ReconcileArgs {
    fn wish(&self) -> Wish {
        let (batch, shift) = (self.batch.clone(), self.shift.clone());
        let repair = self.repair && !self.dry_run;
        Wish {
            selection: Selection { batch, shift, since: self.since, until: self.until },
            quick: self.quick,
            repair,
            delete_extras: self.delete_extras && repair,
            reason: self.reason.clone().filter(|it| Operator::is_reason(it)),
            after: self.after.clone().map(String::from),
        }
    }
}

/// Runs the command.
pub async fn run(args: ReconcileArgs) -> ExitStatus {
    let animated = io::stderr().is_terminal();
    let result = reconcile(&args, &mut io::stdout(), &mut io::stderr(), animated).await;
    ended(result, &mut io::stderr())
}

/// Looks at the account for a report of that shift, batch, or time, which then says what differs.
pub(super) async fn before_a_report(
    daemon: &DaemonArgs,
    (shift, batch, since, until): (Option<&str>, Option<&str>, Option<Moment>, Option<Moment>),
    err: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let args = ReconcileArgs {
        shift: shift.map(str::to_owned),
        batch: batch.map(str::to_owned),
        since,
        until,
        repair: false,
        dry_run: false,
        delete_extras: false,
        quick: false,
        after: None,
        reason: None,
        daemon: daemon.clone(),
        json: false,
    };
    reconcile(&args, &mut io::sink(), err, io::stderr().is_terminal()).await
}

async fn reconcile(
    args: &ReconcileArgs,
    out: &mut impl Write,
    err: &mut impl Write,
    animated: bool,
) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let mut screen =
        Screen { args, out, err, animated, phase: None, repairs: false, after: None, failed: None };
    let mut end = None;
    let followed = client
        .follow("/v1/reconcile", &args.wish(), |told: Told| match screen.take(told) {
            Ok(status) => {
                end = status;
                end.is_none()
            }
            Err(error) => {
                screen.failed = Some(error);
                false
            }
        })
        .await;
    if let Some(error) = screen.failed.take() {
        return Err(error.into());
    }
    let cut = end.is_none();
    if cut && let Some(after) = &screen.after {
        writeln!(screen.err, "it was cut off; go on with --after {}", plain(after))?;
    }
    followed?;
    Ok(end.unwrap_or(ExitStatus::Unreachable))
}

/// What is shown where.
struct Screen<'a, O, E> {
    args: &'a ReconcileArgs,
    out: &'a mut O,
    err: &'a mut E,
    animated: bool,
    phase: Option<Phase>,
    /// The outcomes' heading is shown.
    repairs: bool,
    after: Option<String>,
    failed: Option<io::Error>,
}

impl<O: Write, E: Write> Screen<'_, O, E> {
    /// Shows what the daemon tells; the exit status at the end.
    fn take(&mut self, told: Told) -> io::Result<Option<ExitStatus>> {
        if self.args.json && !matches!(told, Told::Progress { .. } | Told::Problem { .. }) {
            writeln!(self.out, "{}", serde_json::to_string(&told)?)?;
        }
        match told {
            Told::Progress { phase, done, of, after } => {
                self.after = after.or(self.after.take());
                self.progress(phase, done, of)?;
            }
            Told::Finding(it) if !self.args.json => {
                self.clear()?;
                self.out.write_all(finding(&it, self.args.delete_extras).as_bytes())?;
            }
            Told::Repaired { serial, class, why, .. } if !self.args.json => {
                self.clear()?;
                if !std::mem::replace(&mut self.repairs, true) {
                    writeln!(self.out, "Repairs:")?;
                }
                match why {
                    None => writeln!(self.out, "  {}  {class}: done", plain(&serial))?,
                    Some(why) => {
                        writeln!(self.out, "  {}  {class}: not done: {}", plain(&serial), plain(&why))?
                    }
                }
            }
            Told::Finding(_) | Told::Repaired { .. } => {}
            Told::Summary(summary) => {
                self.clear()?;
                if !self.args.json {
                    self.out.write_all(summed(&summary).as_bytes())?;
                }
                self.out.flush()?;
                // A quick look leaves unknown certificates alone, and was asked for.
                let seen = summary.unexamined == 0 || self.args.quick;
                return Ok(Some(if summary.is_clean() && seen { ExitStatus::Done } else { ExitStatus::Bad }));
            }
            Told::Problem { detail, after } => {
                self.clear()?;
                writeln!(self.err, "the reconciliation could not go on: {}", plain(&detail))?;
                if let Some(after) = after {
                    writeln!(
                        self.err,
                        "  hint: when that is put right, go on with --after {}",
                        plain(&after)
                    )?;
                }
                return Ok(Some(ExitStatus::Refused));
            }
        }
        Ok(None)
    }

    /// On a terminal one line that changes; else a line for each phase.
    fn progress(&mut self, phase: Phase, done: u64, of: Option<u64>) -> io::Result<()> {
        let what = match phase {
            Phase::Journal => "devices read from the journal",
            Phase::Lists => "names read from the account's lists",
            Phase::Devices => "devices held against the account",
            Phase::Strangers => "resources that the journal does not know, looked into",
            Phase::Repairs => "repairs done",
        };
        let count = of.map_or_else(|| done.to_string(), |of| format!("{done} of {of}"));
        if self.animated {
            write!(self.err, "\r\u{1b}[K{count} {what}")?;
            self.phase = Some(phase);
            return self.err.flush();
        }
        if self.phase != Some(phase) || of == Some(done) {
            self.phase = Some(phase);
            writeln!(self.err, "{count} {what}")?;
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.animated && self.phase.take().is_some() {
            write!(self.err, "\r\u{1b}[K")?;
            self.err.flush()?;
        }
        Ok(())
    }
}

/// A finding for people, and what a repair would do about it.
fn finding(it: &Finding, delete_extras: bool) -> String {
    let serial = it.serial.as_deref().unwrap_or("-");
    let mut text = format!("{}  {}  {}\n", plain(serial), it.class, plain(&it.resource));
    let repair = match &it.repair {
        Some(Repair::Finish { steps }) => {
            let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
            format!("makes again: {}", steps.join(", "))
        }
        Some(Repair::Retire(_)) => "deactivates, detaches and deletes it".to_owned(),
        Some(Repair::Clear { .. }) if delete_extras => {
            "scraps it: deactivates and deletes all of it".to_owned()
        }
        Some(Repair::Clear { .. }) => "leaves it, unless --delete-extras is given".to_owned(),
        None => "leaves it to a person".to_owned(),
    };
    for (name, value) in [
        ("expected", it.expected.as_str()),
        ("held", it.held.as_str()),
        ("remedy", it.remedy.as_str()),
        ("a repair", repair.as_str()),
    ] {
        text.push_str(&format!("    {name:<9} {}\n", plain(value)));
    }
    text
}

fn summed(it: &Summary) -> String {
    let seconds = it.took_ms as f64 / 1000.0;
    let mut text = format!("{} devices selected, {} compared in {seconds:.1} s", it.selected, it.compared);
    for (count, what) in [
        (it.in_flight, "in flight"),
        (it.unread, "not readable now"),
        (it.unexamined, "unknown certificates not looked into"),
        (it.sought, "on the order, never presented and looked for"),
        (
            it.unsought,
            "on the order and not looked for, since the serial number does not tell the thing's name",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push('\n');
    let shown: BTreeMap<Class, u64> = it.findings.clone();
    if shown.is_empty() {
        text.push_str("no findings\n");
    } else {
        let each: Vec<String> = shown.iter().map(|(class, count)| format!("{count} {class}")).collect();
        text.push_str(&format!("{} findings: {}\n", it.found(), each.join(", ")));
    }
    if it.repaired + it.unrepaired > 0 {
        text.push_str(&format!("{} repaired, {} not\n", it.repaired, it.unrepaired));
    }
    if it.listed.is_none() {
        text.push_str(
            "the account's lists were not read: extras and duplicated lockers were not looked for\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(args: &[&str]) -> Result<ReconcileArgs, clap::Error> {
        let command = ReconcileArgs::augment_args(clap::Command::new("reconcile"));
        ReconcileArgs::from_arg_matches(&command.try_get_matches_from(["reconcile"].iter().chain(args))?)
    }

    #[test]
    fn a_time_is_written_as_for_the_report_and_told_the_daemon_as_it_was_written() {
        let wish = parse(&["--since", "2026-11-22T06:00", "--until", "2026-11-22T14:00:00Z"]).unwrap().wish();
        let told = serde_json::to_value(&wish.selection).unwrap();
        let (since, until) = ("2026-11-22T06:00:00", "2026-11-22T14:00:00Z");
        assert_eq!(told, serde_json::json!({ "since": since, "until": until }));
        let why = parse(&["--since", "yesterday"]).unwrap_err().to_string();
        assert!(why.contains("2026-11-22T06:00 for the station's own clock"), "{why}");
    }

    /// What a look that comes to that ends with.
    fn status(args: &[&str], summary: Summary) -> Option<ExitStatus> {
        let args = parse(args).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            args: &args,
            out: &mut out,
            err: &mut err,
            animated: false,
            phase: None,
            repairs: false,
            after: None,
            failed: None,
        };
        screen.take(Told::Summary(summary)).unwrap()
    }

    #[test]
    fn a_look_is_good_only_if_all_was_seen_that_it_was_to_see() {
        let clean = || Summary { selected: 3, compared: 3, listed: Some(9), ..Summary::default() };
        assert_eq!(status(&[], clean()), Some(ExitStatus::Done));
        assert_eq!(status(&[], Summary { unread: 1, ..clean() }), Some(ExitStatus::Bad));
        assert_eq!(status(&[], Summary { unexamined: 1, ..clean() }), Some(ExitStatus::Bad));
        assert_eq!(status(&["--quick"], Summary { unexamined: 1, ..clean() }), Some(ExitStatus::Done));
        assert_eq!(status(&["--quick"], Summary { unread: 1, ..clean() }), Some(ExitStatus::Bad));
        let found = || Summary { findings: BTreeMap::from([(Class::Missing, 2)]), ..clean() };
        assert_eq!(status(&[], found()), Some(ExitStatus::Bad));
        assert_eq!(status(&[], Summary { repaired: 2, ..found() }), Some(ExitStatus::Done));
    }
}
