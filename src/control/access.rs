//! Who may change something: root, the daemon's own user, and the group [`ADMIN_GROUP`].
//!
//! The kernel says who has opened the connection (`SO_PEERCRED`: user, primary group and process at that instant;
//! `SO_PEERGROUPS`: the supplementary groups). A membership counts where the process had the group, primary or
//! supplementary, which shows users of a directory service too, or where `/etc/group` names the user.
//!
//! Under the unit's `PrivateUsers=yes` the kernel shows the numbers of root and of the daemon's own user and group, and one
//! and the same for all others ([`Numbers`]). Then the group alone counts, which is shown since it is the unit's own, and a
//! caller has no name.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::ADMIN_GROUP;
use super::numbers::Numbers;
use super::server::Peer;

/// Longest file of `/etc` that is looked at, bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Who has opened a connection, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// None where the process is in another PID namespace.
    pub(super) pid: Option<i32>,
    /// Its supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// Where this system says who is who.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Users who may change anything.
    pub(super) trusted: Vec<u32>,
    /// `/etc`.
    pub(super) etc: PathBuf,
    /// Users whom the kernel tells apart.
    pub(super) users: Numbers,
    /// Groups that the kernel tells apart.
    pub(super) groups: Numbers,
}

impl Default for Access {
    fn default() -> Self {
        let (own, proc) = (rustix::process::geteuid().as_raw(), Path::new("/proc"));
        Self {
            trusted: vec![0, own],
            etc: PathBuf::from("/etc"),
            users: Numbers::of_users(proc),
            groups: Numbers::of_groups(proc),
        }
    }
}

impl Access {
    /// The caller with its name, and whether it may change something. Reads files.
    pub(super) fn judge(&self, caller: &Caller) -> (Peer, bool) {
        let is_told = self.users.is_true(caller.uid);
        let names = if is_told { names_of(caller.uid, &self.read("passwd")) } else { Vec::new() };
        let may = is_told && self.trusted.contains(&caller.uid) || self.is_admin(caller, &names);
        let name = match (names.into_iter().next(), is_told) {
            (Some(name), _) => name,
            (None, true) => format!("uid {}", caller.uid),
            (None, false) => nameless(caller.pid, may),
        };
        (Peer { uid: caller.uid, name }, may)
    }

    fn is_admin(&self, caller: &Caller, names: &[String]) -> bool {
        let Some(admin) = group_of(ADMIN_GROUP, &self.read("group")) else { return false };
        let is_in = |gid: &u32| *gid == admin.gid && self.groups.is_true(*gid);
        is_in(&caller.gid)
            || caller.groups.iter().any(is_in)
            || names.iter().any(|it| admin.members.contains(it))
    }

    /// Says so where the members of the group cannot be told from strangers.
    pub(super) fn warn_if_blind(&self) {
        let hidden = admin_group(&self.etc).filter(|it| !self.groups.is_true(*it));
        if let Some(gid) = hidden {
            tracing::warn!(
                group = ADMIN_GROUP,
                gid,
                "the kernel does not show who is in this group: only root and the daemon's own user may change \
                 something. With PrivateUsers= the unit's Group= has to be this one"
            );
        }
    }

    fn read(&self, name: &str) -> String {
        read(&self.etc.join(name))
    }
}

/// What somebody is called whom the kernel does not tell: the process is all that is known.
fn nameless(pid: Option<i32>, may: bool) -> String {
    let who =
        if may { format!("a member of {ADMIN_GROUP}") } else { "a user without a name here".to_owned() };
    match pid {
        Some(pid) => format!("{who} (process {pid})"),
        None => who,
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

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str =
        "root:x:0:\nbroken\nlinemint:x:990:\nlinemint-admin:x:991:ada,grace\nlinemint-admins:x:5:bob\n";
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1001:1001::/home/ada:/bin/sh\n\
                          bob:x:1002:1002::/:/bin/sh\nada2:x:1001:1001::/:/bin/sh\n";

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

    /// A system of these users and groups, in a namespace of that user and that group unless they are none.
    fn system(namespace: Option<(u32, u32)>) -> (Access, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::durable_fs::replace(&path, 0o600, text.as_bytes()).unwrap();
        };
        put("etc/passwd", PASSWD);
        put("etc/group", GROUP);
        let map = |number: Option<u32>| match number {
            Some(number) => format!("0 0 1\n{number} {number} 1\n"),
            None => "0 0 4294967295\n".to_owned(),
        };
        put("proc/self/uid_map", &map(namespace.map(|it| it.0)));
        put("proc/self/gid_map", &map(namespace.map(|it| it.1)));
        let proc = dir.path().join("proc");
        let access = Access {
            trusted: vec![0, 990],
            etc: dir.path().join("etc"),
            users: Numbers::of_users(&proc),
            groups: Numbers::of_groups(&proc),
        };
        (access, dir)
    }

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller { uid, gid, pid: Some(7), groups: groups.to_vec() }
    }

    fn judged(access: &Access, uid: u32, gid: u32, groups: &[u32]) -> (String, bool) {
        let (peer, may) = access.judge(&caller(uid, gid, groups));
        assert_eq!(peer.uid, uid);
        (peer.name, may)
    }

    #[test]
    fn membership_comes_by_primary_group_by_name_or_by_supplementary_group() {
        let (access, _dir) = system(None);
        let told = |name: &str, may| (name.to_owned(), may);
        assert_eq!(judged(&access, 0, 0, &[]), told("root", true));
        assert_eq!(judged(&access, 990, 990, &[]), told("uid 990", true));
        assert_eq!(judged(&access, 1001, 1001, &[]), told("ada", true));
        assert_eq!(judged(&access, 1002, 1002, &[27, 991]), told("bob", true));
        assert_eq!(judged(&access, 1002, 991, &[]), told("bob", true));
        assert_eq!(judged(&access, 1002, 1002, &[27, 990]), told("bob", false));
        assert_eq!(judged(&access, 1003, 991, &[]), told("uid 1003", true));
        assert_eq!(judged(&access, 1003, 1003, &[]), told("uid 1003", false));
    }

    #[test]
    fn in_a_namespace_the_group_is_what_counts_and_nobody_is_the_user_nobody() {
        let (access, dir) = system(Some((990, 991)));
        // The user whose number stands for everybody else is a member, and so is his group.
        let group = format!("{GROUP}nogroup:x:65534:\n").replace("ada,grace", "ada,grace,nobody");
        let passwd = format!("{PASSWD}nobody:x:65534:65534::/:/bin/false\n");
        for (name, text) in [("etc/group", group), ("etc/passwd", passwd)] {
            crate::durable_fs::replace(&dir.path().join(name), 0o600, text.as_bytes()).unwrap();
        }
        let told = |name: &str, may| (name.to_owned(), may);
        let (member, stranger) =
            ("a member of linemint-admin (process 7)", "a user without a name here (process 7)");
        assert_eq!(judged(&access, 0, 0, &[]), told("root", true));
        assert_eq!(judged(&access, 990, 991, &[65_534]), told("uid 990", true));
        assert_eq!(judged(&access, 65_534, 65_534, &[65_534, 991]), told(member, true));
        assert_eq!(judged(&access, 65_534, 991, &[]), told(member, true));
        assert_eq!(judged(&access, 65_534, 65_534, &[65_534, 65_534]), told(stranger, false));
        // What the kernel cannot have said: numbers that are nobody's in there.
        assert!(!judged(&access, 1001, 1001, &[]).1);
        let unseen = Caller { pid: None, ..caller(65_534, 991, &[]) };
        assert_eq!(access.judge(&unseen).0.name, "a member of linemint-admin");
    }

    #[test]
    fn where_the_group_is_not_the_namespaces_own_it_lets_nobody_in() {
        let (access, dir) = system(Some((990, 990)));
        assert!(!judged(&access, 65_534, 65_534, &[65_534]).1);
        // Also where it has been given the number of all that have none.
        let group = GROUP.replace("991", "65534");
        crate::durable_fs::replace(&dir.path().join("etc/group"), 0o600, group.as_bytes()).unwrap();
        assert!(!judged(&access, 65_534, 65_534, &[65_534]).1);
    }

    #[test]
    fn who_is_trusted_by_number_is_so_only_where_the_kernel_tells_it() {
        let (mut access, _dir) = system(Some((990, 991)));
        access.trusted.push(65_534);
        assert!(!judged(&access, 65_534, 65_534, &[]).1);
    }

    #[test]
    fn without_the_group_only_the_trusted_may() {
        let (access, dir) = system(None);
        std::fs::remove_file(dir.path().join("etc/group")).unwrap();
        assert!(judged(&access, 990, 990, &[]).1);
        assert!(!judged(&access, 1001, 991, &[991]).1);
    }
}
