//! A process that handles private keys leaves no core dump, and no other process of its user reads it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use crate::harness::{Deadline, PATIENCE, World, linemint};

/// What the kernel says of a process's core dumps: the line of `/proc/PID/limits`.
fn core_limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    limits.lines().find(|it| it.starts_with("Max core file size")).unwrap_or_default().to_owned()
}

fn is_zero(limit: &str) -> bool {
    let numbers: Vec<&str> = limit.split_whitespace().skip(4).take(2).collect();
    numbers == ["0", "0"]
}

#[test]
fn the_daemon_may_not_dump_core() {
    let (mut world, _fixture) = World::running("");
    let limit = core_limit(world.station().pid());
    assert!(is_zero(&limit), "{limit}");
}

/// What belongs to a process that may not be dumped belongs to root (proc(5)), whoever runs it.
#[test]
fn a_process_with_keys_belongs_to_root_whoever_runs_it() {
    const NOBODY: u32 = 65_534;
    let mut command = linemint(&["rehearse", "--devices", "5000", "--rtt", "80"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let Ok(mut child) = command.spawn() else {
        eprintln!("another user cannot run the binary");
        return;
    };
    let deadline = Deadline::after(PATIENCE);
    // The limit is set last: then the rest is set too.
    while !is_zero(&core_limit(child.id())) {
        assert!(child.try_wait().unwrap().is_none(), "the rehearsal has ended before it was looked at");
        assert!(!deadline.is_over(), "{}", core_limit(child.id()));
        std::thread::yield_now();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let uid = status.lines().find_map(|it| it.strip_prefix("Uid:")).unwrap();
    let owner = fs::metadata(format!("/proc/{}/environ", child.id())).unwrap().uid();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!uid.trim_start().starts_with('0'), "it runs as root: nothing was shown");
    assert_eq!(owner, 0, "it may be dumped: its memory is its user's to read");
}
