//! `linemint batch open`: a file of serial numbers is read, checked and sent in order; or a number; or a batch that
//! was closed is opened again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use serde_json::Value;

use super::super::daemon::{CommandError, DaemonArgs, ended, write_json};
use super::super::text::plain;
use super::in_short;
use crate::batch::{BadList, BatchId, List, MAX_COUNT, read_list};
use crate::control::Status;
use crate::control::batch::{Batch, NewBatch};
use crate::control::client::{Client, encoded};
use crate::device::serial::SerialPattern;
use crate::error::{Chain, ExitStatus};

/// Characters of the list that are sent at once.
const PIECE_BYTES: usize = 64 << 10;

/// What to open.
#[derive(Debug, Clone, clap::Args)]
pub struct OpenArgs {
    /// Its id: letters, digits, - and _.
    #[arg(value_parser = BatchId::parse)]
    pub id: BatchId,
    /// What is made. One batch of a product can be open.
    #[arg(long, value_name = "NAME", requires = "amount")]
    pub product: Option<String>,
    /// The file with its serial numbers: CSV, or one a line; - is the standard input.
    #[arg(long, value_name = "FILE", group = "amount", requires = "product")]
    pub expected: Option<PathBuf>,
    /// The column of that file, by its header or its number, where it is not called serial.
    #[arg(long, value_name = "NAME", requires = "expected")]
    pub column: Option<String>,
    /// How many devices are ordered, where their serial numbers are not known.
    #[arg(long, value_name = "N", group = "amount", requires = "product", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub count: Option<u64>,
    /// Whether serial numbers that are not in the file are refused; they are, unless this is false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", requires = "amount", conflicts_with = "count")]
    pub strict: Option<bool>,
    /// Fixtures that are to present this product while the batch is open, beside those that do so anyway.
    #[arg(long = "fixture", value_name = "NAME", num_args = 1.., requires = "amount")]
    pub fixtures: Vec<String>,
    /// Why, in one line: kept in the journal with who says it. Alone it opens again what was closed.
    #[arg(long, value_name = "TEXT", value_parser = super::super::device::order::reason, required_unless_present = "amount")]
    pub reason: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints the batch as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Why nothing is opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("failed to open {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is no list of serial numbers; nothing was opened", path.display())]
    List { path: PathBuf, source: BadList },
    #[error("the daemon tells a pattern for serial numbers that cannot be read")]
    Pattern,
    #[error("the station has no product {wanted}; it has {}", known.join(", "))]
    Product { wanted: String, known: Vec<String> },
}

pub(super) async fn run(args: &OpenArgs, out: &mut impl Write, err: &mut impl Write) -> ExitStatus {
    let error = match open(args, out).await {
        Ok(status) => return status,
        Err(OpenError::Command(error)) => return ended(Err(error), err),
        Err(error) => error,
    };
    // Where stderr is gone too, the exit status still says it.
    let _ = match &error {
        OpenError::List { source, .. } if !matches!(source, BadList::Read(_)) => {
            let faults: String = source.to_string().lines().map(|it| format!("  {}\n", plain(it))).collect();
            write!(err, "{}:\n{faults}", plain(&error.to_string()))
        }
        error => writeln!(err, "{}", plain(&Chain(error).to_string())),
    };
    match error {
        OpenError::File { .. } | OpenError::List { source: BadList::Read(_), .. } => ExitStatus::Io,
        OpenError::List { .. } => ExitStatus::Bad,
        OpenError::Product { .. } => ExitStatus::Refused,
        OpenError::Pattern | OpenError::Command(_) => ExitStatus::Unreachable,
    }
}

async fn open(args: &OpenArgs, out: &mut impl Write) -> Result<ExitStatus, OpenError> {
    let client = args.daemon.client()?;
    let answer: Value = match (&args.product, &args.expected) {
        (Some(product), Some(path)) => {
            let pattern = pattern(&client, product).await?;
            let list = list(path, args.column.as_deref(), &pattern)?;
            client.post_lines(&target(args, product), pieces(list)).await.map_err(CommandError::from)?
        }
        _ => {
            let new = NewBatch {
                id: args.id.to_string(),
                product: args.product.clone(),
                count: args.count,
                fixtures: args.fixtures.clone(),
                reason: args.reason.clone(),
            };
            client.post("/v1/batches", &new).await.map_err(CommandError::from)?
        }
    };
    tell(args, answer, out).map_err(CommandError::from)?;
    Ok(ExitStatus::Done)
}

fn tell(args: &OpenArgs, answer: Value, out: &mut impl Write) -> io::Result<()> {
    if args.json {
        return write_json(&answer, out);
    }
    let batch: Batch = serde_json::from_value(answer)?;
    let takes = match (batch.listed, batch.strict) {
        (false, _) => "",
        (true, true) => "; other serial numbers are refused",
        (true, false) => "; other serial numbers are taken as extra",
    };
    let (id, product) = (plain(&batch.id), plain(&batch.product));
    if batch.reopened_at.is_some() {
        writeln!(out, "{id} is open again for {product}: {}{takes}", in_short(&batch))?;
    } else {
        writeln!(out, "{id} is open for {product}: {} devices ordered{takes}", batch.expected)?;
    }
    out.flush()
}

/// What the product's serial numbers look like: faults are told with their lines only here.
async fn pattern(client: &Client, product: &str) -> Result<SerialPattern, OpenError> {
    let status: Status = client.get_json("/v1/status").await.map_err(CommandError::from)?;
    let Some(it) = status.products.iter().find(|it| it.name == *product) else {
        let known = status.products.into_iter().map(|it| it.name).collect();
        return Err(OpenError::Product { wanted: product.to_owned(), known });
    };
    SerialPattern::new(&it.serial).map_err(|_| OpenError::Pattern)
}

fn list(path: &Path, column: Option<&str>, pattern: &SerialPattern) -> Result<List, OpenError> {
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?)
    };
    read_list(file, column, Some(pattern)).map_err(|source| OpenError::List { path: path.to_owned(), source })
}

fn target(args: &OpenArgs, product: &str) -> String {
    let mut target = format!("/v1/batches?id={}&product={}", encoded(args.id.as_str()), encoded(product));
    if let Some(strict) = args.strict {
        target.push_str(&format!("&strict={strict}"));
    }
    if !args.fixtures.is_empty() {
        target.push_str(&format!("&fixtures={}", encoded(&args.fixtures.join(","))));
    }
    if let Some(reason) = &args.reason {
        target.push_str(&format!("&reason={}", encoded(reason)));
    }
    target
}

/// The list's lines, some thousands at a time.
fn pieces(list: List) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut next = 0;
    std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES
            && let Some(serial) = list.get(next)
        {
            piece.extend_from_slice(serial.as_bytes());
            piece.push(b'\n');
            next += 1;
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    })
}
