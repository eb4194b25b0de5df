//! A check on a real port.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::{CheckOptions, Conformance, PaperError, Report};
use crate::clock::{SystemClock, TimeSource as _};
use crate::fixture::port::{Port, PortError, PortOptions, PortReader, PortWriter};

/// How long the kernel may take to send what it was given: 16 KiB at 4,800 baud.
const WRITE_LIMIT: Duration = Duration::from_secs(40);

/// How often the kernel is asked whether it has sent all: it tells nobody.
const UNSENT_LOOK_EVERY: Duration = Duration::from_millis(2);

/// Why a check did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There are no certificates to test with.
    #[error(transparent)]
    Paper(#[from] PaperError),
    /// The port cannot be used.
    #[error("failed to check the fixture")]
    Port(#[from] PortError),
    /// The port takes no more bytes.
    #[error("the port has not sent what it was given within {} s", WRITE_LIMIT.as_secs())]
    Stuck,
}

/// Opens the port and checks what is there. `tell` is told what is being tried.
///
/// # Errors
/// The port cannot be opened, or is lost on the way; then the report says how far it came. The first is none
/// if the port was never open.
pub async fn run(
    port: &PortOptions,
    options: CheckOptions,
    mut tell: impl FnMut(&str) -> io::Result<()>,
) -> (Report, Option<CheckError>) {
    let mut check = match Conformance::new(options) {
        Ok(it) => it,
        Err(error) => return (Report::default(), Some(error.into())),
    };
    let worked = match Port::open(port) {
        Ok(port) => work(&mut check, port, &mut tell).await,
        Err(error) => return (Report::default(), Some(error.into())),
    };
    (check.report(), worked.err())
}

async fn work(
    check: &mut Conformance,
    port: Port,
    tell: &mut impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CheckError> {
    let clock = SystemClock::default();
    let (mut reader, mut writer) = port.split();
    let mut buffer = [0; 4_096];
    check.on_time(clock.now().mono);
    while !check.is_done() {
        while let Some(note) = check.next_note() {
            // Who has closed standard error does not want to know.
            let _ = tell(&note);
        }
        if let Some(bytes) = check.output() {
            write(check, &bytes, (&mut reader, &mut writer), &clock).await?;
            check.flushed(clock.now().mono);
            continue;
        }
        let left = check.wake_at().map(|it| it.saturating_sub(clock.now().mono));
        tokio::select! {
            read = reader.read(&mut buffer) => check.on_bytes(&buffer[..read?], clock.now().mono),
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => check.on_time(clock.now().mono),
        }
    }
    Ok(())
}

/// Writes to the last byte, and reads meanwhile: the fixture does not wait.
async fn write(
    check: &mut Conformance,
    bytes: &[u8],
    (reader, writer): (&mut PortReader, &mut PortWriter),
    clock: &SystemClock,
) -> Result<(), CheckError> {
    let written = async {
        writer.write_all(bytes).await?;
        while writer.unsent() > 0 {
            tokio::time::sleep(UNSENT_LOOK_EVERY).await;
        }
        Ok::<_, PortError>(())
    };
    let written = timeout(WRITE_LIMIT, written);
    tokio::pin!(written);
    let mut buffer = [0; 4_096];
    loop {
        tokio::select! {
            done = &mut written => return Ok(done.map_err(|_| CheckError::Stuck)??),
            read = reader.read(&mut buffer) => check.on_bytes(&buffer[..read?], clock.now().mono),
        }
    }
}
