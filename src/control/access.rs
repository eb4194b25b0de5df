//! Who may change something: root, the daemon's own user, and the group [`ADMIN_GROUP`].
//!
//! The kernel says who has opened the connection (`SO_PEERCRED`: user, primary group and process at
//! that instant). A membership counts where `/etc/group` names the user, or where the process has the
//! group among its supplementary ones, which is how a directory service shows. What cannot be read
//! counts as nothing: under `ProtectProc=invisible`, as the unit is shipped, no process of another user.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::ADMIN_GROUP;
use super::server::Peer;

/// Longest file of `/etc` that is looked at, bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Who has opened a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// None where the process is in another PID namespace.
    pub(super) pid: Option<i32>,
}

/// Where this system says who is who.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Users who may change anything.
    pub(super) trusted: Vec<u32>,
    /// `/etc`.
    pub(super) etc: PathBuf,
    /// `/proc`.
    pub(super) proc: PathBuf,
}

impl Default for Access {
    fn default() -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self { trusted: vec![0, own], etc: PathBuf::from("/etc"), proc: PathBuf::from("/proc") }
    }
}

impl Access {
    /// The caller with its name, and whether it may change something. Reads files.
    pub(super) fn judge(&self, caller: Caller) -> (Peer, bool) {
        let names = names_of(caller.uid, &read(&self.etc.join("passwd")));
        let may = self.trusted.contains(&caller.uid) || self.is_admin(caller, &names);
        let name = names.into_iter().next().unwrap_or_else(|| format!("uid {}", caller.uid));
        (Peer { uid: caller.uid, name }, may)
    }

    fn is_admin(&self, caller: Caller, names: &[String]) -> bool {
        let Some(admin) = group_of(ADMIN_GROUP, &read(&self.etc.join("group"))) else { return false };
        let status = caller.pid.map(|pid| read(&self.proc.join(pid.to_string()).join("status")));
        let supplementary = status.map(|it| supplementary_of(caller.uid, &it)).unwrap_or_default();
        is_member(&admin, caller.gid, names, &supplementary)
    }
}

/// The number of the group [`ADMIN_GROUP`], if `etc` has it.
pub(super) fn admin_group(etc: &Path) -> Option<u32> {
    group_of(ADMIN_GROUP, &read(&etc.join("group"))).map(|it| it.gid)
}

#[derive(Debug, PartialEq, Eq)]
struct Group {
    gid: u32,
    members: Vec<String>,
}

fn is_member(group: &Group, primary: u32, names: &[String], supplementary: &[u32]) -> bool {
    primary == group.gid
        || supplementary.contains(&group.gid)
        || names.iter().any(|it| group.members.contains(it))
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|it| it.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    if let Err(error) = read {
        tracing::debug!(path = %path.display(), %error, "cannot be read: nobody is a member by it");
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The group of that name in a file like `/etc/group` (group(5)).
fn group_of(name: &str, file: &str) -> Option<Group> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or("").split(',').filter(|it| !it.is_empty());
        found.then(|| Group { gid, members: members.map(str::to_owned).collect() })
    })
}

/// The names of a user in a file like `/etc/passwd` (passwd(5)).
fn names_of(uid: u32, file: &str) -> Vec<String> {
    let names = file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|it| !it.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names.collect()
}

/// The supplementary groups in a file like `/proc/PID/status` (proc(5)). Nothing if the process runs
/// under any other user than the caller: then its number has been given to another one, or it has
/// become another program.
fn supplementary_of(uid: u32, status: &str) -> Vec<u32> {
    let numbers = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|it| it.strip_prefix(key));
        line.unwrap_or("").split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect()
    };
    let uids = numbers("Uid:");
    if uids.len() == 4 && uids.iter().all(|it| *it == uid) { numbers("Groups:") } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str =
        "root:x:0:\nbroken\nlinemint:x:990:\nlinemint-admin:x:991:ada,grace\nlinemint-admins:x:5:bob\n";
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1001:1001::/home/ada:/bin/sh\n\
                          bob:x:1002:1002::/:/bin/sh\nada2:x:1001:1001::/:/bin/sh\n";

    fn status(uids: &str, groups: &str) -> String {
        format!("Name:\tcurl\nPid:\t7\nUid:\t{uids}\nGid:\t991\t991\t991\t991\nGroups:\t{groups} \n")
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let group = group_of(ADMIN_GROUP, GROUP).unwrap();
        assert_eq!(group, Group { gid: 991, members: vec!["ada".to_owned(), "grace".to_owned()] });
        assert_eq!(group_of("line", GROUP), None);
        assert_eq!(group_of("linemint", GROUP).unwrap().members, Vec::<String>::new());
        assert_eq!(group_of("x", "x:x:minus:ada\n"), None);
    }

    #[test]
    fn a_user_may_have_several_names_and_a_number_alone_is_none() {
        assert_eq!(names_of(1001, PASSWD), ["ada", "ada2"]);
        assert!(names_of(7, PASSWD).is_empty());
        assert!(names_of(0, ":x:0:0\n\nhalf:x\n").is_empty());
    }

    #[test]
    fn supplementary_groups_count_only_for_a_process_of_that_user() {
        assert_eq!(supplementary_of(1002, &status("1002\t1002\t1002\t1002", "27 991")), [27, 991]);
        let other: [u32; 0] = [];
        assert_eq!(supplementary_of(1002, &status("1003\t1003\t1003\t1003", "27 991")), other);
        assert_eq!(supplementary_of(1002, &status("1002\t0\t0\t0", "27 991")), other);
        assert_eq!(supplementary_of(1002, ""), other);
    }

    #[test]
    fn membership_comes_by_primary_group_by_name_or_by_process() {
        let admin = group_of(ADMIN_GROUP, GROUP).unwrap();
        let names = |it: &str| vec![it.to_owned()];
        assert!(is_member(&admin, 991, &[], &[]));
        assert!(is_member(&admin, 1, &names("grace"), &[]));
        assert!(is_member(&admin, 1, &names("bob"), &[4, 991]));
        assert!(!is_member(&admin, 1, &names("bob"), &[4, 990]));
        assert!(!is_member(&admin, 1, &[], &[]));
    }

    #[test]
    fn a_caller_is_judged_by_the_files_of_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::durable_fs::replace(&path, 0o600, text.as_bytes()).unwrap();
        };
        put("etc/passwd", PASSWD);
        put("etc/group", GROUP);
        put("proc/7/status", &status("1002\t1002\t1002\t1002", "991"));
        put("proc/8/status", &status("1002\t1002\t1002\t1002", "990"));
        let access = Access { trusted: vec![0], etc: dir.path().join("etc"), proc: dir.path().join("proc") };
        let judge = |uid, gid, pid| {
            let (peer, may) = access.judge(Caller { uid, gid, pid });
            (peer.name, may)
        };
        assert_eq!(judge(0, 0, None), ("root".to_owned(), true));
        assert_eq!(judge(1001, 1001, None), ("ada".to_owned(), true));
        assert_eq!(judge(1002, 1002, Some(7)), ("bob".to_owned(), true));
        assert_eq!(judge(1002, 1002, Some(8)), ("bob".to_owned(), false));
        assert_eq!(judge(1002, 1002, Some(9)), ("bob".to_owned(), false));
        assert_eq!(judge(1002, 1002, None), ("bob".to_owned(), false));
        assert_eq!(judge(1003, 991, None), ("uid 1003".to_owned(), true));
    }

    #[test]
    fn without_the_group_only_the_trusted_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let access = Access { trusted: vec![0, 990], etc: path.clone(), proc: path };
        assert!(access.judge(Caller { uid: 990, gid: 990, pid: None }).1);
        assert!(!access.judge(Caller { uid: 1001, gid: 991, pid: None }).1);
    }
}
