//! `linemint device`: one device's whole story, lists of devices, and orders about a device.

pub(super) mod order;
mod story;

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use serde_json::Value;

pub use self::order::OrderArgs;

use super::daemon::{CommandError, DaemonArgs, ended, write_json};
use super::text::Table;
use crate::control::client::{Client, encoded};
use crate::control::{self, DevicePage, DeviceStory, MAX_LIMIT};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::serial::SerialNumber;
use crate::error::ExitStatus;

/// Shows devices, or does something with one.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// What to do with devices.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum DeviceCommand {
    /// Shows one device and all that happened to it.
    Show(ShowArgs),
    /// Lists devices in the order of their serial numbers.
    List(ListArgs),
    /// Tries again now what waits for its next try.
    Retry(OrderArgs),
    /// Lets a device out of quarantine, to be presented again; it may use up one certificate more.
    Release(OrderArgs),
    /// Gives a device up for good: deactivates and deletes what it has in the cloud.
    Scrap(OrderArgs),
    /// Writes one more label of a device that has passed; it says that it is a copy.
    Label(OrderArgs),
}

/// Which device to show, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct ShowArgs {
    /// The device's serial number.
    #[arg(value_parser = SerialNumber::parse)]
    pub serial: SerialNumber,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Which devices to list, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only devices in this state.
    #[arg(long, value_name = "S", value_parser = states())]
    pub state: Option<State>,
    /// Only devices of this batch.
    #[arg(long, value_name = "B")]
    pub batch: Option<String>,
    /// Only devices first presented in this shift: 2026-11-22/early, current or last.
    #[arg(long, value_name = "D/NAME")]
    pub shift: Option<String>,
    /// At most so many; all if it is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints one JSON document.
    #[arg(long)]
    pub json: bool,
}

fn states() -> impl clap::builder::TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::as_str)).try_map(|word| {
        State::ALL.into_iter().find(|it| it.as_str() == word).ok_or_else(|| format!("{word} is no state"))
    })
}

/// Runs the command.
pub async fn run(args: DeviceArgs) -> ExitStatus {
    let result = match &args.command {
        DeviceCommand::Show(args) => show(args, &mut io::stdout()).await,
        DeviceCommand::List(args) => list(args, &mut io::stdout()).await,
        DeviceCommand::Retry(args) => order::run(Order::Retry, args, &mut io::stdout()).await,
        DeviceCommand::Release(args) => order::run(Order::Release, args, &mut io::stdout()).await,
        DeviceCommand::Scrap(args) => order::run(Order::Scrap, args, &mut io::stdout()).await,
        DeviceCommand::Label(args) => order::run(Order::Label, args, &mut io::stdout()).await,
    };
    ended(result, &mut io::stderr())
}

async fn show(args: &ShowArgs, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let target = format!("/v1/devices/{}", encoded(args.serial.as_str()));
    if args.json {
        write_json(&client.get_json::<Value>(&target).await?, out)?;
    } else {
        let story: DeviceStory = client.get_json(&target).await?;
        out.write_all(story::render(&story).as_bytes())?;
        out.flush()?;
    }
    Ok(ExitStatus::Done)
}

async fn list(args: &ListArgs, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let mut pages = Pages::new(args);
    if args.json {
        list_json(&client, &mut pages, out).await
    } else {
        list_text(&client, &mut pages, out).await
    }
}

async fn list_text(
    client: &Client,
    pages: &mut Pages<'_>,
    out: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let mut table = Table::new("");
    let mut head = vec![["SERIAL", "STATE", "PRODUCT", "BATCH", "UPDATED", "WHY"].map(str::to_owned)];
    while let Some(target) = pages.target() {
        let page: DevicePage = client.get_json(&target).await?;
        pages.turn(page.devices.len(), page.next);
        let mut rows = std::mem::take(&mut head);
        rows.extend(page.devices.iter().map(row));
        out.write_all(table.lines(&rows).as_bytes())?;
        out.flush()?;
    }
    Ok(ExitStatus::Done)
}

fn row(it: &control::Device) -> [String; 6] {
    let why = it.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message));
    [
        it.serial.clone(),
        it.state.as_str().to_owned(),
        it.product.clone(),
        it.batch.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{:.0}", it.updated_at),
        why.unwrap_or_default(),
    ]
}

/// Writes `{"devices":[…]}` page by page: nobody has to hold a million devices in memory.
async fn list_json(
    client: &Client,
    pages: &mut Pages<'_>,
    out: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let mut between = "{\"devices\":[\n";
    while let Some(target) = pages.target() {
        let page: Value = client.get_json(&target).await?;
        let devices = page["devices"].as_array().map_or(&[][..], Vec::as_slice);
        pages.turn(devices.len(), page["next"].as_str().map(str::to_owned));
        for device in devices {
            write!(out, "{between}{device}")?;
            between = ",\n";
        }
    }
    if between.starts_with('{') {
        write!(out, "{between}")?;
    }
    writeln!(out, "]}}")?;
    out.flush()?;
    Ok(ExitStatus::Done)
}

/// The way through a list, page by page.
#[derive(Debug)]
struct Pages<'a> {
    args: &'a ListArgs,
    left: u64,
    after: Option<String>,
    ended: bool,
}

impl<'a> Pages<'a> {
    fn new(args: &'a ListArgs) -> Self {
        Self { args, left: args.limit.unwrap_or(u64::MAX), after: None, ended: false }
    }

    /// What to ask for next.
    fn target(&self) -> Option<String> {
        if self.ended || self.left == 0 {
            return None;
        }
        let limit = self.left.min(MAX_LIMIT as u64);
        let mut target = format!("/v1/devices?limit={limit}");
        let parameters = [
            ("state", self.args.state.map(State::as_str)),
            ("batch", self.args.batch.as_deref()),
            ("shift", self.args.shift.as_deref()),
            ("after", self.after.as_deref()),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                target.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        Some(target)
    }

    fn turn(&mut self, got: usize, next: Option<String>) {
        self.left = self.left.saturating_sub(got as u64);
        // A page that leads back to where it began would never end.
        self.ended = next.is_none() || next == self.after;
        self.after = next;
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::control::server::Command;
    use crate::control::tests::Station;
    use crate::device::operator::Refusal;

    fn parse(args: &[&str]) -> Result<DeviceArgs, clap::Error> {
        let command = DeviceArgs::augment_args(clap::Command::new("device"));
        let matches = command.try_get_matches_from(["device"].iter().chain(args))?;
        DeviceArgs::from_arg_matches(&matches)
    }

    fn list_args(args: &[&str]) -> ListArgs {
        match parse(args).unwrap().command {
            DeviceCommand::List(args) => args,
            _ => panic!("{args:?}"),
        }
    }

    #[test]
    fn the_arguments_are_the_contracts() {
        assert!(parse(&["show", "SN-1", "--json", "--socket", "a.sock", "--config", "f.toml"]).is_ok());
        assert!(parse(&["list", "--state", "passed", "--batch", "B1", "--limit", "5", "--json"]).is_ok());
        for order in ["retry", "release", "scrap"] {
            assert!(parse(&[order, "SN-1", "--reason", "it was dropped", "--json"]).is_ok());
            assert!(parse(&[order, "SN-1"]).is_err(), "nobody says why");
            assert!(parse(&[order, "SN-1", "--reason", " "]).is_err());
            assert!(parse(&[order, "SN-1", "--reason", "two\nlines"]).is_err());
        }
        for bad in
            [&["show"][..], &["show", "a b"], &["list", "--state", "done"], &["list", "--limit", "0"], &[]]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_pages_until_it_has_all_or_enough() {
        let args = list_args(&["list", "--state", "failed", "--batch", "B&1", "--limit", "1500"]);
        let mut pages = Pages::new(&args);
        assert_eq!(pages.target().unwrap(), "/v1/devices?limit=1000&state=failed&batch=B%261");
        pages.turn(1_000, Some("SN/9".to_owned()));
        assert_eq!(pages.target().unwrap(), "/v1/devices?limit=500&state=failed&batch=B%261&after=SN%2F9");
        pages.turn(0, Some("SN/99".to_owned()));
        assert!(pages.target().is_some(), "an empty page is not the last one");
        pages.turn(500, Some("x".to_owned()));
        assert_eq!(pages.target(), None, "enough");
        let all = list_args(&["list"]);
        let mut pages = Pages::new(&all);
        pages.turn(3, None);
        assert_eq!(pages.target(), None, "all");
    }

    /// What a command writes, and how it ends.
    async fn told(args: &[&str], station: &Station) -> (Result<ExitStatus, CommandError>, String) {
        let socket = station.path.to_str().unwrap();
        let args = parse(&[args, &["--socket", socket]].concat()).unwrap();
        let mut out = Vec::new();
        let result = match &args.command {
            DeviceCommand::Show(args) => show(args, &mut out).await,
            DeviceCommand::List(args) => list(args, &mut out).await,
            DeviceCommand::Retry(args) => order::run(Order::Retry, args, &mut out).await,
            DeviceCommand::Release(args) => order::run(Order::Release, args, &mut out).await,
            DeviceCommand::Scrap(args) => order::run(Order::Scrap, args, &mut out).await,
            DeviceCommand::Label(args) => order::run(Order::Label, args, &mut out).await,
        };
        (result, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_list_of_many_pages_holds_every_device_once() {
        let mut station = Station::new();
        let serials: Vec<String> = (0..2_100).map(|it| format!("SN-{it:05}")).collect();
        station.admit(&serials, None);
        let (result, text) = told(&["list"], &station).await;
        assert_eq!(result.unwrap(), ExitStatus::Done);
        let shown: Vec<&str> = text.lines().skip(1).map(|it| it.split(' ').next().unwrap()).collect();
        assert_eq!(shown, serials);
        assert!(text.starts_with("SERIAL    STATE     PRODUCT  BATCH  UPDATED "), "{}", &text[..200]);
        let (_, text) = told(&["list", "--json", "--limit", "1001"], &station).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        let shown: Vec<&str> =
            json["devices"].as_array().unwrap().iter().map(|it| it["serial"].as_str().unwrap()).collect();
        assert_eq!(shown, serials[..1_001]);
        let (_, text) = told(&["list", "--json", "--state", "failed"], &station).await;
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::json!({"devices": []}));
        station.end().await;
    }

    #[tokio::test]
    async fn a_device_is_shown_or_told_to_be_unknown() {
        let mut station = Station::new();
        station.admit(&["a/b".to_owned()], Some("B1"));
        let (result, text) = told(&["show", "a/b"], &station).await;
        assert_eq!(result.unwrap(), ExitStatus::Done);
        assert!(
            text.starts_with("a/b  admitted\n") && text.contains("  batch                B1\n"),
            "{text}"
        );
        assert!(text.lines().last().unwrap().contains("admitted  product lamp"), "{text}");
        let (_, json) = told(&["show", "a/b", "--json"], &station).await;
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), station.json("/v1/devices/a%2Fb").await);
        let (result, text) = told(&["show", "A/B"], &station).await;
        let mut err = Vec::new();
        assert_eq!((ended(result, &mut err), text.as_str()), (ExitStatus::Bad, ""));
        let err = String::from_utf8(err).unwrap();
        assert!(err.starts_with("device A/B is not in this station's journal\n  hint: "), "{err}");
        station.end().await;
    }

    #[tokio::test]
    async fn an_order_reaches_the_station_with_its_reason_and_shows_the_device() {
        let mut station = Station::new();
        station.admit(&["SN-1".to_owned()], None);
        let mut commands = station.commands.take().unwrap();
        let answering = tokio::spawn(async move {
            let mut heard = Vec::new();
            while let Some(command) = commands.recv().await {
                let Command::Order { order, serial, by, reply } = command else { panic!("{command:?}") };
                reply
                    .send(if by.reason == "no" {
                        Err(Refusal::Not("it is not so".to_owned()))
                    } else {
                        Ok(())
                    })
                    .unwrap();
                heard.push(format!("{order} {serial} {} {}", by.uid, by.reason));
            }
            heard
        });
        let (result, text) = told(&["retry", "SN-1", "--reason", "again"], &station).await;
        assert_eq!(result.unwrap(), ExitStatus::Done);
        assert_eq!(text, "SN-1 is tried again now (state admitted)\n");
        let (_, json) = told(&["scrap", "SN-1", "--reason", "broken", "--json"], &station).await;
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["state"], "admitted");
        let (result, text) = told(&["release", "SN-1", "--reason", "no"], &station).await;
        let mut err = Vec::new();
        assert_eq!((ended(result, &mut err), text.as_str()), (ExitStatus::Refused, ""));
        assert_eq!(String::from_utf8(err).unwrap(), "it is not so\n");
        station.end().await;
        let uid = rustix::process::geteuid().as_raw();
        let expected = ["retry SN-1 {} again", "scrap SN-1 {} broken", "release SN-1 {} no"];
        assert_eq!(answering.await.unwrap(), expected.map(|it| it.replace("{}", &uid.to_string())));
    }

    #[tokio::test]
    async fn a_reader_that_closes_the_pipe_ends_a_list_quietly() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let station = Station::new();
        for json in [true, false] {
            let mut args = list_args(&["list"]);
            args.json = json;
            args.daemon.socket = Some(station.path.clone());
            let mut err = Vec::new();
            assert_eq!(ended(list(&args, &mut Closed).await, &mut err), ExitStatus::Done);
            assert!(err.is_empty());
        }
        station.end().await;
    }
}
