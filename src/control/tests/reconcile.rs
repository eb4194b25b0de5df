//! `POST /v1/reconcile`: what is asked for reaches the station, and what it tells comes line by line.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Station;
use crate::control::access::Access;
use crate::control::client::{Client, ClientError};
use crate::control::connection::Limits;
use crate::control::server::Command;
use crate::reconcile::{Phase, Selection, Summary, Told, Wish};

/// The next command, which has to be a reconciliation.
async fn asked(
    station: &mut Station,
) -> (Wish, u32, tokio::sync::oneshot::Sender<Result<mpsc::Receiver<Told>, String>>) {
    match station.commands.as_mut().unwrap().recv().await.unwrap() {
        Command::Reconcile { wish, by, reply } => (wish, by.uid, reply),
        other => panic!("{other:?}"),
    }
}

fn progress(done: u64) -> Told {
    Told::Progress { phase: Phase::Lists, done, of: None, after: None }
}

#[tokio::test]
async fn what_is_told_is_heard_line_by_line_and_silence_is_no_end() {
    let limits = Limits { keep_alive: Duration::from_millis(5), ..Limits::default() };
    let mut station = Station::with(limits, Access::default());
    let client = Client::new(&station.path);
    let since = "2026-11-22T06:00".parse().ok();
    let selection = Selection { batch: Some("B1".to_owned()), since, ..Selection::default() };
    let wish = Wish { selection, repair: true, reason: Some("why".to_owned()), ..Wish::default() };
    let wanted = wish.clone();
    let mut heard = Vec::new();
    let following = client.follow("/v1/reconcile", &wish, |told: Told| {
        heard.push(told);
        true
    });
    let telling = async {
        let (wish, uid, reply) = asked(&mut station).await;
        assert_eq!((wish, uid), (wanted, rustix::process::geteuid().as_raw()));
        let (told, listening) = mpsc::channel(4);
        reply.send(Ok(listening)).unwrap();
        told.send(progress(1)).await.unwrap();
        // Long enough for some empty lines.
        tokio::time::timeout(Duration::from_millis(50), told.closed()).await.unwrap_err();
        told.send(progress(2)).await.unwrap();
        told.send(Told::Summary(Summary::default())).await.unwrap();
    };
    let (followed, ()) = tokio::join!(following, telling);
    followed.unwrap();
    assert_eq!(heard, [progress(1), progress(2), Told::Summary(Summary::default())]);
    station.end().await;
}

#[tokio::test]
async fn who_has_heard_enough_hangs_up_and_that_ends_it() {
    let mut station = Station::new();
    let client = Client::new(&station.path);
    let wish = Wish::default();
    let following = client.follow("/v1/reconcile", &wish, |_: Told| false);
    let telling = async {
        let (_, _, reply) = asked(&mut station).await;
        let (told, listening) = mpsc::channel(4);
        reply.send(Ok(listening)).unwrap();
        told.send(progress(1)).await.unwrap();
        told
    };
    let (followed, told) = tokio::join!(following, telling);
    followed.unwrap();
    tokio::time::timeout(super::PATIENCE, told.closed()).await.unwrap();
    station.end().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_the_station_hears_of_it_and_its_own_refusal_is_told() {
    let mut station = Station::new();
    let client = Client::new(&station.path);
    let bad = [
        Wish { quick: true, repair: true, ..Wish::default() },
        Wish { repair: true, after: Some("SN1".to_owned()), ..Wish::default() },
        Wish { delete_extras: true, ..Wish::default() },
        Wish { after: Some("a b".to_owned()), ..Wish::default() },
        Wish { reason: Some("two\nlines".to_owned()), ..Wish::default() },
    ];
    for wish in &bad {
        let refused = client.follow("/v1/reconcile", wish, |_: Told| true).await.unwrap_err();
        assert!(matches!(&refused, ClientError::Refused(it) if it.status == 400), "{refused:?}");
    }
    assert!(station.commands.as_mut().unwrap().try_recv().is_err());
    let wish = Wish::default();
    let following = client.follow("/v1/reconcile", &wish, |_: Told| true);
    let refusing = async {
        let (_, _, reply) = asked(&mut station).await;
        reply.send(Err("one runs already".to_owned())).unwrap();
    };
    let (followed, ()) = tokio::join!(following, refusing);
    let refused = followed.unwrap_err();
    assert_eq!(refused.to_string(), "one runs already");
    assert_eq!(refused.exit_status(), crate::error::ExitStatus::Refused);
    station.end().await;
}

#[tokio::test]
async fn who_is_not_trusted_has_nothing_looked_through() {
    let access = Access { trusted: Vec::new(), etc: PathBuf::from("/nonexistent"), ..Access::default() };
    let mut station = Station::with(Limits::default(), access);
    let client = Client::new(&station.path);
    let refused = client.follow("/v1/reconcile", &Wish::default(), |_: Told| true).await.unwrap_err();
    assert_eq!(refused.exit_status(), crate::error::ExitStatus::NotPermitted);
    assert!(station.commands.as_mut().unwrap().try_recv().is_err());
    station.end().await;
}
