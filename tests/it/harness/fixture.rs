//! A fixture played by hand: the master's end of a pty behind a link.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linemint::fixture::frame::{Decoded, FixtureDecoder, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::{Deadline, PATIENCE, fits};

/// How long to leave a port alone that nobody has open: the kernel tells nobody who opens a pty.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A JSON object as a frame, LF included.
pub(crate) fn frame(message: &Value) -> Vec<u8> {
    encode(message).unwrap().to_vec()
}

/// The fixture's end of the line. The other end opens the link.
pub(crate) struct TestFixture {
    master: OwnedFd,
    link: PathBuf,
    decoder: FixtureDecoder,
    read: VecDeque<Value>,
    /// What the station has written, where it does not write frames: at a scanner's port.
    plain: Option<Vec<u8>>,
}

impl TestFixture {
    /// A pty that `link` leads to; what was there is replaced.
    pub(crate) fn at(link: &Path) -> Self {
        let (master, path) = open_pty();
        point(link, &path);
        let (link, decoder) = (link.to_owned(), FixtureDecoder::new());
        Self { master, link, decoder, read: VecDeque::new(), plain: None }
    }

    /// The same for what sends and is sent plain text.
    pub(crate) fn plain_at(link: &Path) -> Self {
        let mut fixture = Self::at(link);
        fixture.plain = Some(Vec::new());
        fixture
    }

    /// Pulls the plug and puts it in again: another pty behind the same link.
    pub(crate) fn replug(&mut self) {
        let path = self.unplug();
        point(&self.link, &path);
    }

    /// Pulls the plug; the link is gone, and what it would lead to is told.
    pub(crate) fn unplug(&mut self) -> PathBuf {
        // It may be out already.
        let _ = fs::remove_file(&self.link);
        let (master, path) = open_pty();
        // The old master closes here: its other end reads the hang-up.
        self.master = master;
        self.decoder.restart();
        self.read.clear();
        self.plain.as_mut().map(Vec::clear);
        path
    }

    /// Plugs each into the other's place.
    pub(crate) fn swap(one: &mut Self, other: &mut Self) {
        std::mem::swap(&mut one.link, &mut other.link);
        one.replug();
        other.replug();
    }

    pub(crate) fn send(&self, message: &Value) {
        self.send_raw(&frame(message));
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&self, mut bytes: &[u8]) {
        let deadline = Deadline::after(PATIENCE);
        while !bytes.is_empty() {
            match rustix::io::write(&self.master, bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(Errno::AGAIN) => self.poll(PollFlags::OUT, deadline.left()),
                Err(Errno::INTR) => {}
                Err(error) => panic!("the pty does not take bytes: {error}"),
            }
            assert!(!deadline.is_over(), "the station does not read: {} bytes are left", bytes.len());
        }
    }

    /// The next message of the station. A deadline, and no span: what is passed over is no progress.
    pub(crate) fn next_before(&mut self, deadline: &Deadline) -> Value {
        self.next_within(deadline.left()).expect("the station does not say what it should")
    }

    /// The next message of the station, if it comes in time.
    pub(crate) fn next_within(&mut self, span: Duration) -> Option<Value> {
        let deadline = Deadline::after(span);
        loop {
            if let Some(message) = self.read.pop_front() {
                return Some(message);
            }
            if deadline.is_over() {
                return None;
            }
            self.take_in(deadline.left());
        }
    }

    /// The next bytes, which have to be these.
    pub(crate) fn next_bytes(&mut self, wanted: &[u8]) {
        let deadline = Deadline::after(PATIENCE);
        let said = |it: &Self| it.plain.clone().expect("it reads frames");
        while said(self).len() < wanted.len() && wanted.starts_with(&said(self)) && !deadline.is_over() {
            self.take_in(deadline.left());
        }
        let (text, said) = (wanted.escape_ascii(), said(self));
        assert!(said.starts_with(wanted), "expected {text}, but the station writes {}", said.escape_ascii());
        self.plain = Some(said[wanted.len()..].to_vec());
    }

    /// For so long nothing is said but what asks for a unit or for a `hello`: time is what is looked at here.
    pub(crate) fn is_silent_for(&mut self, span: Duration) {
        let deadline = Deadline::after(span);
        while let Some(message) = self.next_within(deadline.left()) {
            assert!(["pull", "hello"].contains(&message["type"].as_str().unwrap()), "{message}");
        }
        let said = self.plain.iter().flatten().copied().collect::<Vec<u8>>();
        assert!(said.is_empty(), "the station writes {}", said.escape_ascii());
    }

    /// The next message that is of one of these types; what comes before it is passed over.
    pub(crate) fn until(&mut self, types: &[&str]) -> Value {
        let deadline = Deadline::after(PATIENCE);
        let mut passed = Vec::new();
        while let Some(message) = self.next_within(deadline.left()) {
            if types.contains(&message["type"].as_str().unwrap()) {
                return message;
            }
            passed.push(message["type"].clone());
        }
        panic!("none of {types:?} came, but {passed:?}");
    }

    /// The next message but `pull` and `hello`, which has to fit.
    pub(crate) fn expect(&mut self, pattern: &Value) -> Value {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let message = self.next_before(&deadline);
            if fits(&message, pattern) {
                return message;
            }
            let about_nothing = message["type"] == "pull" || message["type"] == "hello";
            assert!(about_nothing, "expected {pattern}, but the station says {message}");
        }
    }

    /// Answers the station's `hello`.
    pub(crate) fn hello(&mut self, name: &str, boot: u64) {
        self.until(&["hello"]);
        self.send(&json!({ "type": "hello", "protocol": 1, "fixture": name, "boot": boot }));
        self.until(&["pull"]);
    }

    /// Presents a unit and stores what it gets; returns the `credentials`.
    pub(crate) fn provision(&mut self, id: u64, serial: &str) -> Value {
        self.send(&json!({ "type": "unit", "id": id, "serial": serial }));
        self.expect(&json!({ "type": "ack", "id": id }));
        let credentials = self.expect(&json!({ "type": "credentials", "id": id, "serial": serial }));
        let sha256 = &credentials["certificate_sha256"];
        self.send(&json!({ "type": "written", "id": id, "serial": serial, "certificate_sha256": sha256 }));
        self.expect(&json!({ "type": "pass", "id": id, "serial": serial }));
        credentials
    }

    fn take_in(&mut self, span: Duration) {
        self.poll(PollFlags::IN, span);
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(len) => match &mut self.plain {
                Some(said) => return said.extend_from_slice(&buffer[..len]),
                None => self.decoder.push(&buffer[..len]),
            },
            Err(Errno::AGAIN | Errno::INTR) => return,
            // Nobody has the other end open.
            Err(Errno::IO) => {
                self.decoder.restart();
                return pause(span.min(LOOK_EVERY));
            }
            Err(error) => panic!("the pty cannot be read: {error}"),
        }
        for decoded in self.decoder.by_ref() {
            match decoded {
                Decoded::Message(message) => self.read.push_back(serde_json::to_value(message).unwrap()),
                Decoded::Echo => panic!("the station's end of the pty echoes"),
                Decoded::Bad { reason, sample, .. } => {
                    panic!("the station sends no frame: {reason}: {sample}")
                }
            }
        }
    }

    fn poll(&self, what: PollFlags, span: Duration) {
        let mut fds = [PollFd::new(&self.master, what)];
        // An early return only means one more look.
        let _ = poll(&mut fds, Some(&Timespec::try_from(span).unwrap()));
    }
}

impl Drop for TestFixture {
    /// The link goes before the pty: the kernel gives that number away again, and a station that looks for its port
    /// would find another test's fixture there.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
    }
}

fn pause(span: Duration) {
    let _ = poll(&mut [], Some(&Timespec::try_from(span).unwrap()));
}

pub(super) fn open_pty() -> (OwnedFd, PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    unlockpt(&master).unwrap();
    rustix::io::ioctl_fionbio(&master, true).unwrap();
    let mut settings = tcgetattr(&master).unwrap();
    settings.make_raw();
    tcsetattr(&master, OptionalActions::Now, &settings).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (master, path.into())
}

fn point(link: &Path, target: &Path) {
    let _ = fs::remove_file(link);
    symlink(target, link).unwrap();
}
