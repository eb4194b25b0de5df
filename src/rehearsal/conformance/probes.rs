//! The probes that need no unit: who is there, what is made of lines that are wrong, resets.

use std::time::Duration;

use super::desk::Desk;
use super::rules::{self, Rule};
use crate::fixture::{FixtureMessage, MAX_FRAME_LEN, PROTOCOL, StationMessage};

/// What the checker calls itself.
const STATION: &str = "fixture-check";

/// How many periods the fixture has for its first `hello`: a board may start up when its port is opened.
const GREETINGS: usize = 10;

/// How often a fixture that does not answer is asked before the check goes on without an answer.
const REVIVALS: usize = 5;

/// The pause between the pieces of a frame.
const PIECE_PAUSE: Duration = Duration::from_millis(50);

fn hello() -> StationMessage {
    StationMessage::Hello { protocol: PROTOCOL, station: STATION.to_owned() }
}

const fn is_hello(message: &FixtureMessage) -> bool {
    matches!(message, FixtureMessage::Hello { .. })
}

/// A line with the CRC of `json`, or with a wrong one.
fn line(json: &[u8], is_right: bool) -> Vec<u8> {
    let crc = crc32fast::hash(json) ^ u32::from(!is_right);
    [json, format!("*{crc:08X}\n").as_bytes()].concat()
}

fn hello_line(is_right: bool) -> Vec<u8> {
    line(format!(r#"{{"type":"hello","protocol":1,"station":"{STATION}"}}"#).as_bytes(), is_right)
}

/// Whether a fixture is there.
pub(super) async fn greet(desk: &Desk) -> bool {
    desk.tell("asking who is there");
    let mut is_there = false;
    for _ in 0..GREETINGS {
        let sent = desk.say(&hello()).await;
        is_there = desk.first(sent + desk.periods(1.0), is_hello).await.is_some();
        if is_there {
            break;
        }
    }
    if !is_there {
        let seen = silence(desk);
        desk.failed(rules::HELLO_ANSWERED, seen);
        return false;
    }
    // What started up when the port was opened may say it once more.
    desk.pause(desk.periods(1.0)).await;
    {
        let mut state = desk.state();
        state.watch.hellos_owed = 0;
        state.watch.is_greeted = true;
    }
    alive(desk, rules::HELLO_ANSWERED, "answered").await
}

fn silence(desk: &Desk) -> String {
    let state = desk.state();
    let watch = &state.watch;
    match &watch.newest_bad {
        _ if watch.echoes > 0 => {
            "only the station's own frames came back: the line echoes, nobody answers".to_owned()
        }
        Some(bad) => format!("{} lines came, and none was a frame; the newest: {bad}", watch.bad_lines),
        None => "nothing came: check cable, port, baud rate and whether the fixture runs".to_owned(),
    }
}

/// Whether the fixture answers `hello`, which is what the rule comes to.
async fn alive(desk: &Desk, rule: &Rule, seen: &str) -> bool {
    desk.clear();
    let sent = desk.say(&hello()).await;
    if desk.first(sent + desk.answer_time(), is_hello).await.is_some() {
        desk.ok(rule, seen);
        return true;
    }
    desk.failed(rule, "the next hello was not answered");
    for _ in 0..REVIVALS {
        let sent = desk.say(&hello()).await;
        if desk.first(sent + desk.answer_time(), is_hello).await.is_some() {
            desk.state().watch.hellos_owed = 0;
            return true;
        }
    }
    false
}

/// Everything about the reading of lines.
pub(super) async fn reading(desk: &Desk) {
    desk.tell("frames in pieces, with blanks and CRs, with members of tomorrow");
    pieces(desk).await;
    let spelled =
        format!("{{ \"station\" : \"{STATION}\" ,\t\"again\":null, \"protocol\":1 ,\"type\":\"hello\" }}");
    let spelled = [b"\n\r\n", line(spelled.as_bytes(), true).trim_ascii_end(), b"\r\n"].concat();
    answered(desk, rules::SPELLINGS, spelled).await;
    let grown = format!(
        r#"{{"type":"hello","protocol":1,"station":"{STATION}","colour":"blue","more":{{"a":[1,{{"b":null}}]}}}}"#
    );
    answered(desk, rules::UNKNOWN_MEMBERS, line(grown.as_bytes(), true)).await;
    desk.tell("lines that are no frames");
    endured(desk, rules::GARBAGE, garbage()).await;
    ignored(desk, rules::WRONG_CRC, hello_line(false), "a hello with a wrong CRC was answered").await;
    // A reader that begins anew after 16,384 bytes would find a frame there.
    let overlong = [vec![b'A'; MAX_FRAME_LEN], hello_line(true)].concat();
    ignored(desk, rules::OVERLONG, overlong, "the end of an overlong line was taken for a frame").await;
    endured(desk, rules::BAD_JSON, bad_json()).await;
    endured(desk, rules::UNKNOWN_TYPE, line(br#"{"type":"weather","id":1,"serial":"SN1"}"#, true)).await;
    desk.tell("the fixture's own frames, as an echo");
    ignored(desk, rules::ECHO, echoes(desk), "an echo of its own frames was answered").await;
}

async fn pieces(desk: &Desk) {
    desk.clear();
    let whole = hello_line(true);
    let (last, parts) = (whole.len(), [0, 1, 17, 40]);
    desk.state().watch.hellos_owed += 1;
    for (at, begin) in parts.iter().enumerate() {
        let end = parts.get(at + 1).copied().unwrap_or(last);
        desk.raw(whole[*begin..end].to_vec()).await;
        if end < last {
            desk.pause(PIECE_PAUSE).await;
        }
    }
    heard_hello(desk, rules::PIECES).await;
}

/// A good frame of an unusual kind has to be answered.
async fn answered(desk: &Desk, rule: &Rule, bytes: Vec<u8>) {
    desk.clear();
    desk.state().watch.hellos_owed += 1;
    desk.raw(bytes).await;
    heard_hello(desk, rule).await;
}

async fn heard_hello(desk: &Desk, rule: &Rule) {
    let answer = desk.first(desk.now() + desk.answer_time(), is_hello).await;
    desk.judge(rule, answer.is_some(), if answer.is_some() { "answered" } else { "it was not answered" });
    desk.state().watch.hellos_owed = 0;
}

/// Bad lines, after which the fixture has to go on.
async fn endured(desk: &Desk, rule: &Rule, bytes: Vec<u8>) {
    desk.raw(bytes).await;
    alive(desk, rule, "the next hello was answered").await;
}

/// Lines that would be a `hello` if they were read wrongly: nothing may come of them.
async fn ignored(desk: &Desk, rule: &Rule, bytes: Vec<u8>, wrong: &str) {
    desk.pause(desk.periods(0.25)).await;
    // Answers are this rule's matter, and no other's.
    desk.state().watch.hellos_owed = u32::MAX;
    let sent = desk.raw(bytes).await;
    if desk.first(sent + desk.periods(1.0), is_hello).await.is_some() {
        desk.failed(rule, wrong);
        desk.pause(desk.periods(0.5)).await;
    }
    desk.state().watch.hellos_owed = 0;
    alive(desk, rule, "nothing came of it, and the next hello was answered").await;
}

fn garbage() -> Vec<u8> {
    // Every byte but the LF, as a cable makes them; twice, once with a star and digits at the end.
    let noise: Vec<u8> = (0..=u8::MAX).filter(|it| *it != b'\n').collect();
    [&noise, &b"*12345678\n"[..], &noise, b"\n*\n*00000000\nOK\r\nAT+CGMI\r\n{\"type\":\"pu\n"].concat()
}

fn bad_json() -> Vec<u8> {
    let texts: [&[u8]; 9] = [
        b"{\"type\":\"\xff\xfe\"}",
        b"[1,2,3]",
        b"\"pull\"",
        b"{\"type\":\"pass\"",
        b"{}",
        b"{\"type\":7}",
        b"{\"type\":\"ack\"}",
        b"{\"type\":\"pass\",\"id\":\"7\",\"serial\":5}",
        b"{\"type\":\"nak\",\"id\":1e9}",
    ];
    texts.iter().flat_map(|it| line(it, true)).collect()
}

/// What the fixture says itself, as it would come back from a line that echoes.
fn echoes(desk: &Desk) -> Vec<u8> {
    let (name, firmware, boot) = desk.state().watch.hello.clone().unwrap_or_default();
    let own = [
        FixtureMessage::Hello { protocol: PROTOCOL, fixture: name, boot, firmware },
        FixtureMessage::Idle,
        FixtureMessage::Removed { id: 1, serial: "ECHO".to_owned() },
    ];
    let frames = own.iter().filter_map(|it| crate::fixture::frame::encode_fixture(it).ok());
    frames.flat_map(|it| it.to_vec()).collect()
}

/// A person resets the fixture, which has to show.
pub(super) async fn reset(desk: &Desk) {
    if !desk.options.reset {
        return desk.skipped(rules::BOOT_DIFFERS, "needs a reset by hand: --reset");
    }
    if desk.state().watch.hello.as_ref().is_some_and(|it| it.2 == 0) {
        return desk.skipped(rules::BOOT_DIFFERS, "the fixture tells no boot");
    }
    desk.state().watch.awaits_reset = true;
    desk.clear();
    let patience = desk.options.patience;
    desk.tell(format!("now reset the fixture: it has {} s", patience.as_secs()));
    let heard = desk.first(desk.now() + patience, is_hello).await;
    if heard.is_none() {
        desk.failed(rules::BOOT_DIFFERS, format!("no hello came within {} s", patience.as_secs()));
    }
}
