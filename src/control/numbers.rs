//! Which numbers of users and groups say who somebody is.
//!
//! In a user namespace, as `PrivateUsers=yes` of the unit makes one, the kernel has numbers for a few users and groups
//! only. Everybody else it shows by one and the same, the overflow number: 65534, unless somebody has changed it. To
//! `/etc/passwd` that is the user `nobody`; here it may be anybody, and nothing follows from it.

use std::ops::RangeInclusive;
use std::path::Path;

/// The kernel's own overflow number (`DEFAULT_OVERFLOWUID`). The unit's `ProcSubset=pid` hides the file that has the one
/// in force.
const OVERFLOW: u32 = 65_534;

/// Numbers that there are: the last is none, to the kernel (user_namespaces(7)).
const ALL: RangeInclusive<u32> = 0..=u32::MAX - 1;

/// The numbers of users, or those of groups, that this process is told truly.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    /// None where the kernel knows no namespaces, or does not say.
    mapped: Option<Vec<RangeInclusive<u32>>>,
    /// Numbers that stand for whoever has none.
    overflow: Vec<u32>,
}

impl Numbers {
    /// Those of users. Reads files of `proc`.
    pub(super) fn of_users(proc: &Path) -> Self {
        Self::read(&proc.join("self/uid_map"), &proc.join("sys/kernel/overflowuid"))
    }

    /// Those of groups. Reads files of `proc`.
    pub(super) fn of_groups(proc: &Path) -> Self {
        Self::read(&proc.join("self/gid_map"), &proc.join("sys/kernel/overflowgid"))
    }

    fn read(map: &Path, overflow: &Path) -> Self {
        let changed = std::fs::read_to_string(overflow).ok().and_then(|it| it.trim().parse().ok());
        Self {
            mapped: std::fs::read_to_string(map).ok().map(|it| ranges(&it)),
            overflow: [OVERFLOW].into_iter().chain(changed).collect(),
        }
    }

    /// Whether that number is somebody's, and not that of whoever has none.
    pub(super) fn is_true(&self, number: u32) -> bool {
        match &self.mapped {
            // Nobody is without a number, and the overflow one is that of the user who has it.
            Some(mapped) if mapped.contains(&ALL) => true,
            Some(mapped) => mapped.iter().any(|it| it.contains(&number)) && !self.overflow.contains(&number),
            None => !self.overflow.contains(&number),
        }
    }
}

/// The numbers within the namespace in a file like `/proc/PID/uid_map`: the first, what it is outside, and how many.
fn ranges(map: &str) -> Vec<RangeInclusive<u32>> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (first, _outside, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        Some(first..=first.checked_add(count.checked_sub(1)?)?)
    };
    map.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(map: Option<&str>, overflow: Option<&str>) -> Numbers {
        let proc = tempfile::tempdir().unwrap();
        for (name, text) in [("self/uid_map", map), ("sys/kernel/overflowuid", overflow)] {
            let path = proc.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if let Some(text) = text {
                crate::durable_fs::replace(&path, 0o600, text.as_bytes()).unwrap();
            }
        }
        Numbers::of_users(proc.path())
    }

    #[test]
    fn outside_of_a_namespace_each_number_is_true() {
        let numbers = numbers(Some("         0          0 4294967295\n"), Some("65534\n"));
        assert!([0, 990, 65_534, u32::MAX - 1].iter().all(|it| numbers.is_true(*it)));
    }

    #[test]
    fn in_the_units_own_only_its_user_and_root_are_true() {
        let numbers =
            numbers(Some("         0          0          1\n       990        990          1\n"), None);
        assert!(numbers.is_true(0) && numbers.is_true(990));
        assert!(![1, 989, 991, 1000, 65_534, u32::MAX].iter().any(|it| numbers.is_true(*it)));
    }

    #[test]
    fn the_overflow_number_is_nobodys_though_it_is_mapped() {
        let numbers = numbers(Some("0 100000 65536\n"), Some("1007\n"));
        assert!(numbers.is_true(1000));
        assert!(!numbers.is_true(65_534) && !numbers.is_true(1007) && !numbers.is_true(65_536));
    }

    #[test]
    fn what_cannot_be_read_lets_the_overflow_number_be_nobody() {
        let unknown = numbers(None, None);
        assert!(unknown.is_true(1000) && !unknown.is_true(65_534));
        let broken = numbers(Some("0 0\n-1 0 5\n5 5 0\n4294967295 0 2\n"), None);
        assert!(!broken.is_true(0) && !broken.is_true(5) && !broken.is_true(u32::MAX));
    }

    #[test]
    fn the_systems_own_files_are_understood() {
        let own = rustix::process::geteuid().as_raw();
        assert!(Numbers::of_users(Path::new("/proc")).is_true(own));
        let own = rustix::process::getegid().as_raw();
        assert!(Numbers::of_groups(Path::new("/proc")).is_true(own));
    }
}
