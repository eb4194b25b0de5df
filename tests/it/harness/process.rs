//! A process of the real binary, and what it says.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::{Deadline, PATIENCE};

/// The binary with an environment of its own: no proxy, profile or credential of this machine.
pub(crate) fn linemint(args: &[&str]) -> Command {
    own(Command::new(env!("CARGO_BIN_EXE_linemint")), args)
}

/// The same in a process that a shell has prepared: with limits, or with signals ignored.
pub(crate) fn linemint_after(shell: &str, args: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_linemint"));
    own(command, args)
}

fn own(mut command: Command, args: &[&str]) -> Command {
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TZ", "UTC")
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// The lines that a process has said so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Said>, Condvar)>);

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn listen(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                lines.change(|said| said.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            lines.change(|said| said.ended = true);
        })
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    /// Waits for the first line with `needle` in it.
    pub(crate) fn wait_for(&self, needle: &str) -> String {
        let deadline = Deadline::after(PATIENCE);
        let mut said = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = said.lines.iter().find(|it| it.contains(needle)) {
                return line.clone();
            }
            let over = said.ended || deadline.is_over();
            assert!(!over, "nothing said {needle:?} among:\n{}", said.lines.join("\n"));
            said = self.0.1.wait_timeout(said, deadline.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running process. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_reading(command, Stdio::null())
    }

    pub(crate) fn start_reading(command: &mut Command, stdin: Stdio) -> Self {
        let piped = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers =
            vec![stdout.listen(child.stdout.take().unwrap()), stderr.listen(child.stderr.take().unwrap())];
        Self { child, readers, stdout, stderr }
    }

    /// Runs a command to its end: exit status, stdout, stderr.
    pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
        Self::run_within(command, PATIENCE)
    }

    /// The same for one that takes longer.
    pub(crate) fn run_within(command: &mut Command, span: Duration) -> (i32, String, String) {
        let mut process = Self::start(command);
        assert!(process.ends_within(span), "it does not end:\n{}", process.stderr.text());
        let status = process.wait();
        (status, process.stdout.text(), process.stderr.text())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It is a child that has not been waited for, so that the number is still its own.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; panics with what it said if it does not come. The exit status, or 128 and
    /// the signal's number.
    pub(crate) fn wait(&mut self) -> i32 {
        assert!(self.ends_within(PATIENCE), "it does not end:\n{}", self.stderr.text());
        let status = self.child.wait().unwrap();
        self.readers.drain(..).for_each(|it| it.join().unwrap());
        use std::os::unix::process::ExitStatusExt as _;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Whether it has ended, after waiting for that at most so long.
    pub(crate) fn ends_within(&self, span: Duration) -> bool {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let Ok(end) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
        let timeout = Timespec::try_from(span).unwrap();
        let mut fds = [PollFd::new(&end, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout))).unwrap() > 0
    }

    /// As the power would: at once.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
