//! `linemint device retry`, `release` and `scrap`: what a person tells the station to do with a device.

use std::io::Write;

use serde_json::Value;

use super::{CommandError, DaemonArgs, encoded, write_json};
use crate::control;
use crate::device::operator::{MAX_REASON_LEN, Operator, Order};
use crate::device::serial::SerialNumber;
use crate::error::ExitStatus;

/// With which device, and why.
#[derive(Debug, Clone, clap::Args)]
pub struct OrderArgs {
    /// The device's serial number.
    #[arg(value_parser = SerialNumber::parse)]
    pub serial: SerialNumber,
    /// Why, in one line: kept in the journal with who says it.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Prints the device as it stands then, as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// A text that can be a reason.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    if Operator::is_reason(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("a reason is one line of 1 to {MAX_REASON_LEN} characters"))
    }
}

pub(super) async fn run(
    order: Order,
    args: &OrderArgs,
    out: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let target = format!("/v1/devices/{}/{order}", encoded(args.serial.as_str()));
    let body = control::Reason { reason: args.reason.clone() };
    if args.json {
        write_json(&client.post::<Value>(&target, &body).await?, out)?;
    } else {
        let device: control::Device = client.post(&target, &body).await?;
        let told = match order {
            Order::Retry => "is tried again now",
            Order::Release => "may be presented again",
            Order::Scrap if device.state == crate::device::State::Scrapped => {
                "is scrapped: nothing of it is left"
            }
            Order::Label => "gets one more label",
            Order::Scrap => "is given up; what it has in the cloud is being deleted, also over a restart",
        };
        writeln!(out, "{} {told} (state {})", device.serial, device.state.as_str())?;
        out.flush()?;
    }
    Ok(ExitStatus::Done)
}
