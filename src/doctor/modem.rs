//! ModemManager: does it run, and would it take a port.

use std::fs;

use super::{Finding, MODEM_MANAGER};
use crate::fixture::place::UsbPort;
use crate::fixture::port::{FoundPort, System};

/// The class of an interface that says "modem that takes AT commands".
const AT_MODEM: [u8; 3] = [2, 2, 1];

const REMEDY: &str = "a station needs no ModemManager: systemctl mask --now ModemManager; or install the udev rule, \
     which has it leave the adapter alone";

/// Looks at one port on a USB adapter.
pub(super) fn look(system: &System, port: &FoundPort, usb: &UsbPort) -> Finding {
    let Some(manager) = running(system) else {
        return MODEM_MANAGER.ok("ModemManager does not run");
    };
    let runs = format!("ModemManager runs (pid {}, policy {})", manager.pid, manager.policy);
    if ignored(system, port, usb) {
        return MODEM_MANAGER.ok(format!("{runs} and udev tells it to leave the adapter alone"));
    }
    match manager.would_take(usb) {
        None => MODEM_MANAGER.ok(format!("{runs} and leaves adapters of this kind alone")),
        Some(why) => MODEM_MANAGER.failed(format!("{runs} and takes the port: {why}"), REMEDY),
    }
}

/// The same where the port is on no USB adapter.
pub(super) fn elsewhere(system: &System) -> Finding {
    match running(system) {
        None => MODEM_MANAGER.ok("ModemManager does not run"),
        Some(_) => MODEM_MANAGER.ok("ModemManager runs and looks at USB adapters only"),
    }
}

fn ignored(system: &System, port: &FoundPort, usb: &UsbPort) -> bool {
    let says = |device: Option<(u32, u32)>, name: &str| {
        let noted = device.and_then(|it| system.properties(it));
        noted.is_some_and(|it| it.get(name).is_some_and(|it| it == "1"))
    };
    says(usb.device, "ID_MM_DEVICE_IGNORE")
        || says(port.device, "ID_MM_DEVICE_IGNORE")
        || says(port.device, "ID_MM_PORT_IGNORE")
}

struct Manager {
    pid: u32,
    policy: String,
}

impl Manager {
    /// Why it would take a port that nobody has told it to leave alone (ModemManager(8), filter policies).
    fn would_take(&self, usb: &UsbPort) -> Option<&'static str> {
        match self.policy.as_str() {
            "whitelist-only" => None,
            "strict" if usb.has_network => Some("the adapter is a network card as well"),
            "strict" if usb.class == Some(AT_MODEM) => {
                Some("its interface is of class 2/2/1, as modems' are")
            }
            "strict" => None,
            _ => Some("this policy tries whatever is not excluded"),
        }
    }
}

/// The process, and the policy that its command line says. The default is strict.
fn running(system: &System) -> Option<Manager> {
    let processes = fs::read_dir(system.path("proc")).ok()?;
    processes.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        if name.trim_end() != "ModemManager" {
            return None;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|it| *it == 0).map(String::from_utf8_lossy).collect();
        let said =
            words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--filter-policy")? {
                "" => words.get(at + 1).map(ToString::to_string),
                value => value.strip_prefix('=').map(str::to_owned),
            });
        Some(Manager { pid, policy: said.unwrap_or_else(|| "strict".to_owned()).to_lowercase() })
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::doctor::Verdict::{self, Failed, Ok};
    use crate::fixture::port::tests::tree::{ACM, Adapter, FTDI, Tree};

    fn look_at(tree: &Tree, adapter: &Adapter) -> Verdict {
        let system = tree.system();
        let port = system.port_at(&tree.path("dev").join(adapter.tty)).unwrap();
        look(&system, &port, port.usb.as_ref().unwrap()).status
    }

    fn tree(command_line: &str) -> Tree {
        let tree = Tree::new();
        tree.put("proc/77/comm", "ModemManager\n");
        tree.put("proc/77/cmdline", command_line);
        tree
    }

    #[test]
    fn without_a_modem_manager_all_is_well() {
        let tree = Tree::new();
        tree.put("proc/77/comm", "ModemMgr\n");
        tree.plug(&ACM, Path::new("/dev/null"));
        assert_eq!(look_at(&tree, &ACM), Ok);
        assert_eq!(elsewhere(&tree.system()).status, Ok);
    }

    #[test]
    fn the_strict_policy_takes_what_looks_like_a_modem() {
        for command_line in ["/usr/sbin/ModemManager\0", "ModemManager\0--filter-policy=strict\0"] {
            let tree = tree(command_line);
            tree.plug(&ACM, Path::new("/dev/null"));
            assert_eq!(look_at(&tree, &ACM), Failed);
            // Another protocol than AT commands.
            tree.put("sys/devices/pci/usb1/1-3/1-3:1.0/bInterfaceProtocol", "00\n");
            assert_eq!(look_at(&tree, &ACM), Ok);
            tree.put("sys/devices/pci/usb1/1-3/1-3:1.2/net/usb0/address", "");
            assert_eq!(look_at(&tree, &ACM), Failed);
            assert_eq!(elsewhere(&tree.system()).status, Ok);
        }
    }

    #[test]
    fn other_policies_take_all_or_nothing() {
        let legacy = tree("ModemManager\0--filter-policy\0LEGACY\0");
        legacy.plug(&FTDI, Path::new("/dev/null"));
        assert_eq!(look_at(&legacy, &FTDI), Failed);
        let listed = tree("ModemManager\0--filter-policy=whitelist-only\0");
        listed.plug(&ACM, Path::new("/dev/null"));
        assert_eq!(look_at(&listed, &ACM), Ok);
    }

    #[test]
    fn what_udev_excludes_is_left_alone() {
        for (record, text) in [
            ("c189:7", "E:ID_MM_DEVICE_IGNORE=1\n"),
            ("c166:0", "E:ID_MM_DEVICE_IGNORE=1\n"),
            ("c166:0", "E:ID_MM_PORT_IGNORE=1\n"),
        ] {
            let tree = tree("ModemManager\0");
            tree.plug(&ACM, Path::new("/dev/null"));
            tree.put(format!("run/udev/data/{record}"), text);
            assert_eq!(look_at(&tree, &ACM), Ok, "{record}");
            tree.put(format!("run/udev/data/{record}"), &text.replace("=1", "="));
            assert_eq!(look_at(&tree, &ACM), Failed, "{record}");
        }
    }
}
