//! The fixtures' ports, looked at from outside: none is opened.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use super::{
    Check, DTR, Finding, LATENCY, MODEM_MANAGER, PORT, PORT_HOLDER, PORT_NAME, PORT_PERMISSION, UDEV_RULE,
    modem, udev,
};
use crate::config::Fixture;
use crate::fixture::place::{PortPlace, UsbId, UsbPort};
use crate::fixture::port::{FoundPort, System};

/// The daemon's name as the kernel keeps it.
const DAEMON_COMMAND: &str = "linemint";

/// What is skipped where there is no port.
pub(super) const NEED_PORT: [&Check; 7] =
    [&PORT_NAME, &PORT_PERMISSION, &PORT_HOLDER, &MODEM_MANAGER, &UDEV_RULE, &DTR, &LATENCY];

/// All checks of one fixture.
pub(super) fn look(system: &System, fixture: &Fixture) -> Vec<Finding> {
    let mut findings = match there(system, &fixture.port) {
        Err(missing) => {
            let skipped = NEED_PORT.iter().map(|it| it.skipped("there is no port"));
            std::iter::once(missing).chain(skipped).collect()
        }
        Ok((node, device)) => at(system, fixture, &node, device),
    };
    for finding in &mut findings {
        finding.subject = Some(fixture.name.clone());
    }
    findings
}

fn at(system: &System, fixture: &Fixture, node: &Path, device: u64) -> Vec<Finding> {
    let port = system.port_at(node);
    let usb = port.as_ref().and_then(|it| Some((it, it.usb.as_ref()?)));
    let mut findings = vec![
        found(node, port.as_ref()),
        name(system, &fixture.port, usb),
        permission(node),
        holder(system, device),
    ];
    match usb {
        Some((port, usb)) => {
            findings.push(modem::look(system, port, usb));
            findings.extend(udev::look(system, port, usb, fixture.dtr));
        }
        None => {
            findings.push(modem::elsewhere(system));
            findings.extend([&UDEV_RULE, &DTR, &LATENCY].map(|it| it.skipped("it is on no USB adapter")));
        }
    }
    findings
}

/// The node and the number of the character device that is there.
fn there(system: &System, place: &PortPlace) -> Result<(PathBuf, u64), Finding> {
    let node = match place {
        PortPlace::Path(path) => path.clone(),
        PortPlace::Usb(id) => adapter(system, id)?,
    };
    let path = node.display();
    match std::fs::metadata(&node) {
        Ok(it) if it.file_type().is_char_device() => Ok((node, it.rdev())),
        Ok(_) => {
            Err(PORT.failed(format!("{path} is not a serial port"), "name the port's node or a link to it"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(PORT.failed(
            format!("{path} cannot be seen: {error}"),
            "run the doctor as the daemon's user, or as root",
        )),
        Err(_) => Err(PORT.failed(format!("there is no {path}"), plugged_in(system))),
    }
}

fn adapter(system: &System, id: &UsbId) -> Result<PathBuf, Finding> {
    let found = system.find(id);
    match found.as_slice() {
        [] => Err(PORT.failed(format!("no {id} is plugged in"), plugged_in(system))),
        [one] => Ok(one.node.clone()),
        several => {
            let nodes: Vec<_> = several.iter().map(|it| it.node.display().to_string()).collect();
            let detail = format!("{id} is plugged in more than once, at {}", nodes.join(", "));
            Err(PORT.failed(detail, "say serial or interface as well, or give the port by its path"))
        }
    }
}

fn plugged_in(system: &System) -> String {
    let ports: Vec<_> = system.ports().iter().map(described).collect();
    let there = if ports.is_empty() { "no serial port at all".to_owned() } else { ports.join(", ") };
    format!("check the cable, the fixture's power and the configured port; there is {there}")
}

fn described(port: &FoundPort) -> String {
    match &port.usb {
        None => port.node.display().to_string(),
        Some(usb) => {
            let serial = usb.serial.as_deref().unwrap_or("no serial number");
            format!("{} ({:04x}:{:04x}, {serial})", port.node.display(), usb.vid, usb.pid)
        }
    }
}

fn found(node: &Path, port: Option<&FoundPort>) -> Finding {
    let node = node.display();
    match port {
        Some(it) if it.usb.is_some() => PORT.ok(format!("{node} is {}", described(it))),
        Some(it) => PORT.ok(format!(
            "{node} is {}, driver {}",
            it.node.display(),
            it.driver.as_deref().unwrap_or("unknown")
        )),
        None => PORT.ok(format!("{node} is a terminal that no hardware is known of")),
    }
}

/// Whether the configured name leads to the same port for ever.
fn name(system: &System, place: &PortPlace, usb: Option<(&FoundPort, &UsbPort)>) -> Finding {
    let Some((port, usb)) = usb else { return PORT_NAME.ok("it is on no USB adapter, and keeps its name") };
    let by_path = || match port.by_path.first() {
        Some(link) => format!("name the socket that it is plugged into: port = \"{}\"", link.display()),
        None => "name the socket that it is plugged into, by /dev/serial/by-path".to_owned(),
    };
    let twins = "another adapter of its kind would have the same name: it has no serial number";
    match place {
        PortPlace::Path(path) if path.starts_with(system.path("dev/serial/by-id")) => match &usb.serial {
            Some(serial) => PORT_NAME.ok(format!("it has the adapter's serial number in it, {serial}")),
            None => PORT_NAME.warning(twins, by_path()),
        },
        PortPlace::Path(path) if path.starts_with(system.path("dev/serial/by-path")) => {
            PORT_NAME.ok("it is the socket that the adapter is plugged into")
        }
        PortPlace::Path(path) if *path == port.node => {
            let remedy = match (port.by_id.first(), &usb.serial) {
                (Some(link), Some(_)) => format!("name the adapter: port = \"{}\"", link.display()),
                _ => by_path(),
            };
            let detail = format!("{} may be another adapter after the next start", path.display());
            PORT_NAME.warning(detail, remedy)
        }
        PortPlace::Path(_) => PORT_NAME.ok("it is a link that somebody has made for it"),
        PortPlace::Usb(id) if id.serial.is_some() => PORT_NAME.ok("it is the adapter's serial number"),
        PortPlace::Usb(_) => match &usb.serial {
            Some(serial) => {
                let detail = "any adapter of its kind would be taken for it";
                PORT_NAME.warning(detail, format!("add serial = \"{serial}\" to usb"))
            }
            None => PORT_NAME.warning(twins, by_path()),
        },
    }
}

fn permission(node: &Path) -> Finding {
    let path = node.display();
    let owner = match std::fs::metadata(node) {
        Ok(it) => format!("mode {:04o}, user {}, group {}", it.mode() & 0o7777, it.uid(), it.gid()),
        Err(error) => error.to_string(),
    };
    match rustix::fs::accessat(CWD, node, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        Ok(()) if rustix::process::geteuid().is_root() => PORT_PERMISSION.ok(format!(
            "root may open it, as any port; {owner}: run the doctor as the daemon's user to know more"
        )),
        Ok(()) => PORT_PERMISSION.ok(format!("this user may open it; {owner}")),
        Err(error) => {
            let detail = format!("this user may not open {path}: {error}; {owner}");
            let remedy = "run the doctor as the daemon's user; if it fails there too, add that user to the group that owns \
                 the port (usermod -a -G dialout USER), or install the udev rule";
            PORT_PERMISSION.failed(detail, remedy)
        }
    }
}

fn holder(system: &System, device: u64) -> Finding {
    // Linux numbers the slave sides of ptys so (admin-guide/devices.txt).
    if (136..=143).contains(&rustix::fs::major(device)) {
        return PORT_HOLDER.ok("it is a pty: whoever made it holds it");
    }
    let all = system.holders(device);
    let strangers: Vec<_> =
        all.iter().filter(|it| it.command != DAEMON_COMMAND).map(ToString::to_string).collect();
    if !strangers.is_empty() {
        let remedy = "end that program: two on a port take each other's bytes";
        return PORT_HOLDER.failed(format!("it is open in {}", strangers.join(", ")), remedy);
    }
    match all.first() {
        Some(daemon) => PORT_HOLDER.ok(format!("the daemon holds it, {daemon}")),
        None if rustix::process::geteuid().is_root() => PORT_HOLDER.ok("nobody has it open"),
        None => PORT_HOLDER.ok("nobody has it open whom this user can see; root sees all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict::{self, Failed, Ok, Skipped, Warning};
    use crate::doctor::tests::config;
    use crate::fixture::port::tests::tree::{Adapter, FTDI, Tree};

    /// The findings for a fixture at `place`, by their ids.
    fn looked(tree: &Tree, place: PortPlace) -> impl Fn(&str) -> Finding {
        let mut fixture = config(&tree.path("")).fixtures[0].clone();
        fixture.port = place;
        let findings = look(&tree.system(), &fixture);
        assert_eq!(findings.len(), 1 + NEED_PORT.len());
        assert!(findings.iter().all(|it| it.subject.as_deref() == Some("nest-1")));
        move |id| findings.iter().find(|it| it.id == id).unwrap().clone()
    }

    fn verdict(tree: &Tree, place: impl Into<PortPlace>, id: &str) -> Verdict {
        looked(tree, place.into())(id).status
    }

    fn usb(serial: Option<&str>) -> PortPlace {
        PortPlace::Usb(UsbId { vid: 0x0403, pid: 0x6001, serial: serial.map(str::to_owned), interface: None })
    }

    /// A character device that is always there and that nobody minds.
    const NULL: &str = "/dev/null";

    #[test]
    fn a_missing_port_is_told_with_what_there_is() {
        let tree = Tree::new();
        let found = looked(&tree, tree.path("dev/ttyUSB7").into());
        assert_eq!((found("port").status, found("port-holder").status), (Failed, Skipped));
        assert!(found("port").remedy.unwrap().ends_with("there is no serial port at all"));
        tree.plug(&FTDI, Path::new(NULL));
        let found = looked(&tree, usb(Some("B2")))("port");
        assert_eq!(found.detail, "no USB adapter 0403:6001 with serial number B2 is plugged in");
        assert!(found.remedy.unwrap().ends_with("ttyUSB0 (0403:6001, A1)"));
        tree.put("dev/file", "");
        assert_eq!(verdict(&tree, tree.path("dev/file"), "port"), Failed);
    }

    #[test]
    fn two_adapters_that_fit_are_named() {
        let tree = Tree::new();
        tree.plug(&FTDI, Path::new(NULL));
        tree.plug(&Adapter { tty: "ttyUSB1", bus: "1-4", serial: Some("A2"), ..FTDI }, Path::new(NULL));
        let found = looked(&tree, usb(None))("port");
        assert_eq!(found.status, Failed);
        assert!(found.detail.contains("ttyUSB0, ") && found.detail.ends_with("ttyUSB1"), "{found:?}");
        assert_eq!(verdict(&tree, usb(Some("A2")), "port"), Ok);
    }

    #[test]
    fn a_name_that_may_change_hands_is_warned_of() {
        let tree = Tree::new();
        tree.plug(&FTDI, Path::new(NULL));
        let name = "port-name";
        assert_eq!(verdict(&tree, tree.path("dev/serial/by-id/usb-FTDI_A1-if00-port0"), name), Ok);
        assert_eq!(verdict(&tree, tree.path("dev/serial/by-path/pci-usb-1-2"), name), Ok);
        assert_eq!(verdict(&tree, usb(Some("A1")), name), Ok);
        let found = looked(&tree, usb(None))(name);
        assert_eq!((found.status, found.remedy.as_deref()), (Warning, Some("add serial = \"A1\" to usb")));
        let found = looked(&tree, tree.path("dev/ttyUSB0").into())(name);
        assert_eq!(found.status, Warning);
        assert!(found.remedy.unwrap().contains("by-id/usb-FTDI_A1"));
        tree.link("ttyUSB0", "dev/jig");
        assert_eq!(verdict(&tree, tree.path("dev/jig"), name), Ok);
        assert_eq!(verdict(&tree, PathBuf::from(NULL), name), Ok, "no adapter");
    }

    #[test]
    fn an_adapter_without_a_serial_number_wants_its_socket_named() {
        let tree = Tree::new();
        tree.plug(&Adapter { serial: None, ..FTDI }, Path::new(NULL));
        for place in [tree.path("dev/serial/by-id/usb-FTDI_UART-if00-port0").into(), usb(None)] {
            let found = looked(&tree, place)("port-name");
            assert_eq!(found.status, Warning);
            assert!(found.remedy.unwrap().contains("by-path/pci-usb-1-2"));
        }
    }

    #[test]
    fn a_stranger_on_the_port_is_named_and_the_daemon_is_none() {
        let tree = Tree::new();
        tree.plug(&FTDI, Path::new(NULL));
        assert_eq!(verdict(&tree, usb(None), "port-holder"), Ok);
        tree.link(NULL, "proc/7/fd/9");
        tree.put("proc/7/comm", "linemint\n");
        let found = looked(&tree, usb(None))("port-holder");
        assert_eq!((found.status, found.detail.as_str()), (Ok, "the daemon holds it, linemint (pid 7)"));
        tree.link(NULL, "proc/8/fd/4");
        tree.put("proc/8/comm", "minicom\n");
        let found = looked(&tree, usb(None))("port-holder");
        assert_eq!((found.status, found.detail.as_str()), (Failed, "it is open in minicom (pid 8)"));
    }

    #[test]
    fn what_this_user_may_not_open_is_told() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        std::fs::File::create(&node).unwrap();
        assert_eq!(permission(&node).status, Ok);
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o440)).unwrap();
        let root = rustix::process::geteuid().is_root();
        assert_eq!(permission(&node).status, if root { Ok } else { Failed });
        assert_eq!(permission(&dir.path().join("none")).status, Failed);
    }
}
