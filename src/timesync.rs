//! Whether the wall clock is synchronised, as whoever keeps it says.
//!
//! | asked | synchronised | not |
//! |---|---|---|
//! | systemd-timesyncd, where it runs: the directory `/run/systemd/timesync` is there | the file `synchronized` is in it (systemd-timesyncd.service(8)): it has set the clock since it was started | it is not |
//! | else chronyd, by its own protocol on UDP 127.0.0.1:323, request "tracking" | any leap status but 3 | leap status 3, "not synchronised" (chronyc(1)) |
//!
//! Where neither answers nobody says anything: an ntpd, a PTP daemon or a hypervisor may keep the clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::clock::ClockSync;

/// How long chronyd may take. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// Protocol 6, which chrony has spoken since 2013 (`candm.h`).
const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const TRACKING: [u8; 2] = 33_u16.to_be_bytes();
const TRACKING_REPLY: [u8; 2] = 5_u16.to_be_bytes();
const SUCCESS: [u8; 2] = [0; 2];
/// A request is as long as its reply, so that nobody can be flooded with replies.
const LEN: usize = 104;
const LEAP_STATUS: std::ops::Range<usize> = 54..56;
const SEQUENCE: std::ops::Range<usize> = 16..20;
const NOT_SYNCHRONISED: [u8; 2] = 3_u16.to_be_bytes();

/// Where those who keep the clock are found.
#[derive(Debug, Clone)]
pub struct Keepers {
    timesyncd: PathBuf,
    chronyd: SocketAddr,
}

impl Default for Keepers {
    fn default() -> Self {
        Self {
            timesyncd: PathBuf::from("/run/systemd/timesync"),
            chronyd: SocketAddr::from((Ipv4Addr::LOCALHOST, 323)),
        }
    }
}

impl Keepers {
    /// Asks them. Takes a second at most.
    pub async fn ask(&self) -> ClockSync {
        match timesyncd(&self.timesyncd) {
            Some(sync) => sync,
            None => chronyd(self.chronyd).await,
        }
    }
}

fn timesyncd(dir: &Path) -> Option<ClockSync> {
    if !dir.is_dir() {
        return None;
    }
    let synchronised = dir.join("synchronized").exists();
    Some(said("systemd-timesyncd", synchronised))
}

fn said(who: &str, synchronised: bool) -> ClockSync {
    if synchronised { ClockSync::Synchronised } else { ClockSync::Unsynchronised(who.to_owned()) }
}

async fn chronyd(address: SocketAddr) -> ClockSync {
    let sequence = fastrand::u32(..);
    match tokio::time::timeout(PATIENCE, exchange(address, sequence)).await {
        Ok(Ok(reply)) => synchronised(&reply, sequence).map_or(ClockSync::Unsaid, |it| said("chronyd", it)),
        // Nobody is there, or nobody that speaks to us.
        Ok(Err(_)) | Err(_) => ClockSync::Unsaid,
    }
}

async fn exchange(address: SocketAddr, sequence: u32) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(address).await?;
    socket.send(&request(sequence)).await?;
    let mut reply = vec![0; 2 * LEN];
    let len = socket.recv(&mut reply).await?;
    reply.truncate(len);
    Ok(reply)
}

fn request(sequence: u32) -> [u8; LEN] {
    let mut request = [0; LEN];
    request[..2].copy_from_slice(&[VERSION, REQUEST]);
    request[4..6].copy_from_slice(&TRACKING);
    request[8..12].copy_from_slice(&sequence.to_be_bytes());
    request
}

/// What a reply says, if it is the one that was asked for.
fn synchronised(reply: &[u8], sequence: u32) -> Option<bool> {
    let head = reply.len() >= LEN
        && reply[..2] == [VERSION, REPLY]
        && reply[4..6] == TRACKING
        && reply[6..8] == TRACKING_REPLY
        && reply[8..10] == SUCCESS
        && reply[SEQUENCE] == sequence.to_be_bytes();
    head.then(|| reply[LEAP_STATUS] != NOT_SYNCHRONISED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chronyd that answers one request with this leap status.
    async fn keepers(leap_status: u16, spoil: Option<usize>) -> (Keepers, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let chronyd = socket.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut bytes = [0; 512];
            let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
            assert_eq!((len, &bytes[..2], &bytes[4..6]), (LEN, &[6, 1][..], &[0, 33][..]));
            let mut reply = [0; LEN];
            reply[..10].copy_from_slice(&[6, 2, 0, 0, 0, 33, 0, 5, 0, 0]);
            reply[16..20].copy_from_slice(&bytes[8..12]);
            reply[54..56].copy_from_slice(&leap_status.to_be_bytes());
            if let Some(at) = spoil {
                reply[at] ^= 1;
            }
            socket.send_to(&reply, from).await.unwrap();
        });
        (Keepers { timesyncd: PathBuf::from("/nonexistent"), chronyd }, answering)
    }

    #[tokio::test]
    async fn chronyd_is_believed_where_it_answers_what_was_asked() {
        for (leap_status, spoil, expected) in [
            (0, None, ClockSync::Synchronised),
            (1, None, ClockSync::Synchronised),
            (3, None, ClockSync::Unsynchronised("chronyd".to_owned())),
            // Another version, command, kind of reply, a failure, the answer to somebody else.
            (3, Some(0), ClockSync::Unsaid),
            (3, Some(5), ClockSync::Unsaid),
            (3, Some(7), ClockSync::Unsaid),
            (3, Some(9), ClockSync::Unsaid),
            (3, Some(19), ClockSync::Unsaid),
        ] {
            let (keepers, answering) = keepers(leap_status, spoil).await;
            assert_eq!(keepers.ask().await, expected, "{leap_status} {spoil:?}");
            answering.await.unwrap();
        }
    }

    #[tokio::test]
    async fn timesyncd_is_asked_first_and_its_file_tells() {
        let dir = tempfile::tempdir().unwrap();
        let (chrony, answering) = keepers(0, None).await;
        answering.abort();
        let keepers = Keepers { timesyncd: dir.path().to_owned(), ..chrony };
        assert_eq!(keepers.ask().await, ClockSync::Unsynchronised("systemd-timesyncd".to_owned()));
        crate::durable_fs::replace(&dir.path().join("synchronized"), 0o644, b"").unwrap();
        assert_eq!(keepers.ask().await, ClockSync::Synchronised);
    }

    #[tokio::test]
    async fn where_nobody_answers_nobody_says_anything() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let chronyd = socket.local_addr().unwrap();
        drop(socket);
        let keepers = Keepers { timesyncd: PathBuf::from("/nonexistent"), chronyd };
        assert_eq!(keepers.ask().await, ClockSync::Unsaid);
    }
}
