//! `linemint batch`: work orders.

mod open;

use std::io::{self, Write};

use serde_json::Value;

pub use self::open::OpenArgs;

use super::daemon::{CommandError, DaemonArgs, ended, write_json};
use super::text::{Table, plain};
use crate::batch::BatchId;
use crate::control::MAX_LIMIT;
use crate::control::batch::{Batch, BatchPage, By, Closing, ListedPage};
use crate::control::client::{Client, encoded};
use crate::device::State;
use crate::error::ExitStatus;

/// Work orders: opened, closed and shown.
#[derive(Debug, Clone, clap::Args)]
pub struct BatchArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BatchCommand,
}

/// What to do with work orders.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum BatchCommand {
    /// Opens one, with a list of serial numbers or a number of devices; or again one that was closed, with a reason.
    Open(OpenArgs),
    /// Closes one. Its devices keep it, and those that are not done are finished.
    Close(CloseArgs),
    /// Lists them in the order of their ids.
    List(ListArgs),
    /// Shows one: what was ordered, seen, passed, what is missing.
    Show(ShowArgs),
}

/// Which one to close, and why.
#[derive(Debug, Clone, clap::Args)]
pub struct CloseArgs {
    /// Its id.
    #[arg(value_parser = BatchId::parse)]
    pub id: BatchId,
    /// Why, in one line: kept in the journal with who says it.
    #[arg(long, value_name = "TEXT", value_parser = super::device::order::reason)]
    pub reason: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Which ones to list, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only those that are open.
    #[arg(long)]
    pub open: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Which one to show, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct ShowArgs {
    /// Its id.
    #[arg(value_parser = BatchId::parse)]
    pub id: BatchId,
    /// Prints the serial numbers of its list that were not presented, one a line, and nothing else.
    #[arg(long, conflicts_with = "json")]
    pub missing: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub async fn run(args: BatchArgs) -> ExitStatus {
    let result = match &args.command {
        BatchCommand::Open(args) => return open::run(args, &mut io::stdout(), &mut io::stderr()).await,
        BatchCommand::Close(args) => close(args, &mut io::stdout()).await,
        BatchCommand::List(args) => list(args, &mut io::stdout()).await,
        BatchCommand::Show(args) => show(args, &mut io::stdout()).await,
    };
    ended(result, &mut io::stderr())
}

async fn close(args: &CloseArgs, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let target = format!("/v1/batches/{}/close", encoded(args.id.as_str()));
    let body = Closing { reason: args.reason.clone() };
    if args.json {
        write_json(&client.post::<Value>(&target, &body).await?, out)?;
    } else {
        let batch: Batch = client.post(&target, &body).await?;
        writeln!(out, "{} is closed: {}", plain(&batch.id), in_short(&batch))?;
        out.flush()?;
    }
    Ok(ExitStatus::Done)
}

/// `9 of 10 seen, 8 passed, 1 missing`.
fn in_short(it: &Batch) -> String {
    let on_order = it.expected - it.missing;
    let mut text = format!(
        "{on_order} of {} seen, {} passed, {} missing",
        it.expected,
        it.counts.of(State::Passed),
        it.missing
    );
    if it.extra > 0 {
        text.push_str(&format!(", {} extra", it.extra));
    }
    text
}

async fn list(args: &ListArgs, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let mut table = Table::new("");
    let head = ["BATCH", "STATE", "PRODUCT", "EXPECTED", "SEEN", "PASSED", "MISSING", "EXTRA", "OPENED"];
    let mut head = vec![head.map(str::to_owned)];
    let (mut after, mut between) = (None::<String>, "{\"batches\":[\n");
    loop {
        let mut target = format!("/v1/batches?limit={MAX_LIMIT}");
        target.push_str(if args.open { "&state=open" } else { "" });
        if let Some(after) = &after {
            target.push_str(&format!("&after={}", encoded(after)));
        }
        let page: BatchPage = client.get_json(&target).await?;
        if args.json {
            for batch in &page.batches {
                write!(out, "{between}{}", serde_json::to_string(batch).unwrap_or_default())?;
                between = ",\n";
            }
        } else {
            let mut rows = std::mem::take(&mut head);
            rows.extend(page.batches.iter().map(row));
            out.write_all(table.lines(&rows).as_bytes())?;
        }
        // A page that leads back to where it began would never end.
        if page.next.is_none() || page.next == after {
            break;
        }
        after = page.next;
    }
    if args.json {
        let begin = if between.starts_with('{') { between } else { "" };
        writeln!(out, "{begin}]}}")?;
    }
    out.flush()?;
    Ok(ExitStatus::Done)
}

fn row(it: &Batch) -> [String; 9] {
    [
        it.id.clone(),
        it.state.clone(),
        it.product.clone(),
        it.expected.to_string(),
        it.seen.to_string(),
        it.counts.of(State::Passed).to_string(),
        it.missing.to_string(),
        it.extra.to_string(),
        format!("{:.0}", it.opened_at),
    ]
}

async fn show(args: &ShowArgs, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let target = format!("/v1/batches/{}", encoded(args.id.as_str()));
    if args.missing {
        return missing(&client, &target, out).await;
    }
    if args.json {
        write_json(&client.get_json::<Value>(&target).await?, out)?;
    } else {
        let batch: Batch = client.get_json(&target).await?;
        out.write_all(render(&batch).as_bytes())?;
        out.flush()?;
    }
    Ok(ExitStatus::Done)
}

async fn missing(client: &Client, batch: &str, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let mut after: Option<String> = None;
    loop {
        let mut target = format!("{batch}/serials?missing=true&limit={MAX_LIMIT}");
        if let Some(after) = &after {
            target.push_str(&format!("&after={}", encoded(after)));
        }
        let page: ListedPage = client.get_json(&target).await?;
        for it in &page.serials {
            writeln!(out, "{}", plain(&it.serial))?;
        }
        if page.next.is_none() || page.next == after {
            out.flush()?;
            return Ok(ExitStatus::Done);
        }
        after = page.next;
    }
}

fn render(it: &Batch) -> String {
    let mut text = format!("{}  {}\n", plain(&it.id), it.state);
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("product", it.product.clone());
    row("expected", it.expected.to_string());
    row("missing", it.missing.to_string());
    row("extra", it.extra.to_string());
    row("seen", it.seen.to_string());
    for state in State::ALL {
        row(&format!("  {}", state.as_str()), it.counts.of(state).to_string());
    }
    let others = match (it.listed, it.strict) {
        (false, _) => "any serial number of the product",
        (true, true) => "only serial numbers on its list",
        (true, false) => "any, those that are not on its list as extra",
    };
    row("takes", others.to_owned());
    if !it.fixtures.is_empty() {
        row("fixtures", it.fixtures.join(", "));
    }
    row("opened", when(it.opened_at, Some(&it.opened_by)));
    if let Some(at) = it.reopened_at {
        row("opened again", when(at, it.reopened_by.as_ref()));
    }
    if let Some(at) = it.closed_at {
        row("closed", when(at, it.closed_by.as_ref()));
    }
    text.push_str(&Table::new("  ").lines(&rows));
    text
}

fn when(at: jiff::Timestamp, by: Option<&By>) -> String {
    let name = by.map(|it| format!(" by {}", it.name)).unwrap_or_default();
    let reason = by.and_then(|it| it.reason.as_ref()).map(|it| format!(": {it}")).unwrap_or_default();
    format!("{at:.0}{name}{reason}")
}
