//! The udev rule: is it there, and has it been applied to a port.

use std::path::PathBuf;

use super::{DTR, Finding, LATENCY, UDEV_RULE};
use crate::fixture::place::{Raised, UsbPort};
use crate::fixture::port::{FoundPort, System};

/// The rule's file.
const RULE: &str = "71-linemint.rules";

/// Where udev reads rules, first to last; a file hides those of its name behind it (udev(7)).
const DIRECTORIES: [&str; 5] = [
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];

const INSTALL: &str = "copy systemd/71-linemint.rules to /etc/udev/rules.d, then `udevadm control --reload` and \
     `udevadm trigger --action=add --subsystem-match=usb --subsystem-match=tty`";
const APPLY: &str = "`udevadm control --reload`, then `udevadm trigger --action=add --subsystem-match=usb \
     --subsystem-match=tty`, or plug the adapter in again";

/// What the rule has noted for a port.
fn noted(system: &System, port: &FoundPort, name: &str) -> Option<String> {
    system.properties(port.device?)?.remove(name)
}

/// The rule's file, if udev reads one that is not empty (`/dev/null` in its place masks it).
fn installed(system: &System) -> Option<PathBuf> {
    let mut files = DIRECTORIES.map(|it| system.path(it).join(RULE)).into_iter();
    let file = files.find(|it| it.symlink_metadata().is_ok())?;
    std::fs::metadata(&file).is_ok_and(|it| it.is_file() && it.len() > 0).then_some(file)
}

/// The rule, DTR and the latency timer of a port on a USB adapter.
pub(super) fn look(system: &System, port: &FoundPort, usb: &UsbPort, dtr: Raised) -> [Finding; 3] {
    [rule(system, port), opening(system, port, dtr), latency(port, usb)]
}

fn rule(system: &System, port: &FoundPort) -> Finding {
    let Some(file) = installed(system) else {
        return UDEV_RULE.warning(format!("{RULE} is not installed"), INSTALL);
    };
    let file = file.display();
    if noted(system, port, "LINEMINT_PORT").as_deref() == Some("1") {
        return UDEV_RULE.ok(format!("{file} has been applied to {}", port.node.display()));
    }
    let driver = port.driver.as_deref().unwrap_or("unknown");
    let detail =
        format!("{file} is there and has not been applied to {}, driver {driver}", port.node.display());
    UDEV_RULE.warning(detail, APPLY)
}

fn opening(system: &System, port: &FoundPort, dtr: Raised) -> Finding {
    if dtr == Raised::Never {
        return DTR.ok(
            "dtr = \"never\": DTR is up for some milliseconds at each opening; for a board that restarts then, \
             dtr = \"always\" and the udev rule are right",
        );
    }
    if noted(system, port, "LINEMINT_HUPCL").as_deref() == Some("off") {
        return DTR.ok("DTR stays up when the port is closed, so that opening it changes nothing");
    }
    let detail = "DTR falls when the port is closed and rises when it is opened: boards of the Arduino and ESP kind \
         restart whenever the daemon starts";
    DTR.warning(detail, if installed(system).is_some() { APPLY } else { INSTALL })
}

fn latency(port: &FoundPort, usb: &UsbPort) -> Finding {
    let driver = port.driver.as_deref().unwrap_or("unknown");
    match usb.latency_ms {
        None => LATENCY.skipped(format!("driver {driver} has none")),
        Some(0 | 1) => LATENCY.ok("1 ms"),
        Some(it) => {
            let name = port.node.file_name().unwrap_or_default().to_string_lossy();
            let now = format!(
                "for now: echo 1 > /sys/bus/usb-serial/devices/{name}/latency_timer; for good: {INSTALL}"
            );
            LATENCY.warning(format!("{it} ms pass before a short answer leaves the adapter"), now)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::doctor::Verdict::{Ok, Skipped, Warning};
    use crate::fixture::port::tests::tree::{ACM, Adapter, FTDI, Tree};

    fn look_at(tree: &Tree, adapter: &Adapter, dtr: Raised) -> [crate::doctor::Verdict; 3] {
        let system = tree.system();
        let port = system.port_at(&tree.path("dev").join(adapter.tty)).unwrap();
        look(&system, &port, port.usb.as_ref().unwrap(), dtr).map(|it| it.status)
    }

    #[test]
    fn the_rule_is_missed_then_applied() {
        let tree = Tree::new();
        tree.plug(&FTDI, Path::new("/dev/null"));
        assert_eq!(look_at(&tree, &FTDI, Raised::Always), [Warning, Warning, Warning]);
        assert_eq!(look_at(&tree, &FTDI, Raised::Never), [Warning, Ok, Warning]);
        tree.put(format!("usr/lib/udev/rules.d/{RULE}"), "rule");
        assert_eq!(look_at(&tree, &FTDI, Raised::Always), [Warning, Warning, Warning], "not applied");
        tree.put("run/udev/data/c188:0", "E:LINEMINT_PORT=1\nE:LINEMINT_HUPCL=off\n");
        tree.put("sys/devices/pci/usb1/1-2/1-2:1.0/ttyUSB0/latency_timer", "1\n");
        assert_eq!(look_at(&tree, &FTDI, Raised::Always), [Ok, Ok, Ok]);
        tree.link("/dev/null", format!("etc/udev/rules.d/{RULE}"));
        assert_eq!(look_at(&tree, &FTDI, Raised::Always)[0], Warning, "masked");
    }

    #[test]
    fn other_drivers_have_no_latency_timer() {
        let tree = Tree::new();
        tree.plug(&ACM, Path::new("/dev/null"));
        assert_eq!(look_at(&tree, &ACM, Raised::Always)[2], Skipped);
    }

    #[test]
    fn the_shipped_rule_notes_what_is_looked_for() {
        let rule = include_str!("../../systemd/71-linemint.rules");
        for mark in [
            "ENV{LINEMINT_PORT}=\"1\"",
            "ENV{LINEMINT_HUPCL}=\"off\"",
            "ENV{ID_MM_DEVICE_IGNORE}=\"1\"",
            "LABEL=\"linemint_end\"",
        ] {
            assert!(rule.contains(mark), "{mark}");
        }
    }
}
