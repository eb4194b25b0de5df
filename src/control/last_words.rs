//! What clients hear that wait at a socket of the service manager's when the daemon ends before it has served anybody, and
//! is not to be started again. Each connection that nobody has accepted would start it at once, over and over, until the
//! service manager gives up the socket as well.

use std::io;
use std::os::unix::net::UnixListener as Passed;
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::problem::unavailable;
use super::{farewell, socket};

/// How long nobody may come before it is over. Also what keeps the starts that one client after the other causes below
/// the twenty in two seconds at which systemd gives up a socket.
const QUIET: Duration = Duration::from_millis(500);

/// For how long it goes on, however many come.
const WITHIN: Duration = Duration::from_secs(5);

/// Clients that are answered at most: as many as the kernel lets wait.
const MOST: usize = 1024;

/// Clients that are answered at the same time: an open file each.
const AT_ONCE: usize = 32;

/// How long one of them may take to say what it wants, and to go.
const EACH: Duration = Duration::from_millis(500);

/// Longest sentence, characters.
const LONGEST: usize = 1000;

/// Bytes of what a client says that are taken, at most.
const TAKEN: u64 = 64 << 10;

/// Answers everybody who waits at the socket with 503 and the first line of `why`; how many those were.
///
/// # Errors
/// It is no socket that clients could be accepted from.
pub async fn tell(passed: Passed, why: &str) -> io::Result<usize> {
    let listener = socket::adopt(passed)?;
    let line: String = why.lines().next().unwrap_or_default().chars().take(LONGEST).collect();
    let refused = unavailable(format!("the station does not start: {line}"))
        .with_hint("journalctl -u linemint -n 20 says all of it; the next request starts it once more");
    let last = farewell::bytes(&refused, false);
    let mut answers = JoinSet::new();
    let told = tokio::time::timeout(WITHIN, answer_all(&listener, &last, &mut answers)).await;
    let told = told.unwrap_or_else(|_| Ok(answers.len()))?;
    // Each has its deadline.
    while answers.join_next().await.is_some() {}
    Ok(told)
}

/// Until nobody has come for a while.
async fn answer_all(listener: &UnixListener, last: &Bytes, answers: &mut JoinSet<()>) -> io::Result<usize> {
    for told in 0..MOST {
        let Ok(accepted) = tokio::time::timeout(QUIET, listener.accept()).await else { return Ok(told) };
        let (client, last) = (accepted?.0, last.clone());
        answers.spawn(async move {
            // One who is slow or gone is told nothing.
            let _ = tokio::time::timeout(EACH, part(client, &last)).await;
        });
        if answers.len() >= AT_ONCE {
            answers.join_next().await;
        }
    }
    Ok(MOST)
}

/// Takes the head of a request, answers, and waits until the client has gone: what were left unread would reset the
/// connection before it has seen why.
async fn part(mut client: UnixStream, last: &[u8]) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|it| it == b"\r\n\r\n") && (head.len() as u64) < TAKEN {
        if client.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    client.write_all(last).await?;
    client.shutdown().await?;
    tokio::io::copy(&mut client.take(TAKEN), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as Client;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_and_nobody_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Passed::bind(&path).unwrap();
        let mut waiting: Vec<Client> = (0..2 * AT_ONCE).map(|_| Client::connect(&path).unwrap()).collect();
        for client in &mut waiting {
            client.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        }
        // One of them is gone, and one says nothing.
        waiting.truncate(2 * AT_ONCE - 1);
        let _silent = Client::connect(&path).unwrap();
        let asking = std::thread::spawn(move || {
            let mut answers = Vec::new();
            for mut client in waiting {
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                answers.push(answer);
            }
            answers
        });
        let told = tell(listener.try_clone().unwrap(), "aws.region is wrong\nmore of it").await.unwrap();
        assert_eq!(told, 2 * AT_ONCE + 1);
        for answer in asking.join().unwrap() {
            assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
            assert!(answer.contains("content-type: application/problem+json"), "{answer}");
            assert!(answer.contains("does not start: aws.region is wrong\""), "{answer}");
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
