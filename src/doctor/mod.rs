//! Looks at a station for whoever has to get it going: small checks with stable ids, each with what
//! was found and what to do about it.
//!
//! Nothing is changed and nobody is disturbed: no port is opened, AWS is only read, and what the
//! daemon holds it keeps. Each check has a bounded time.
//!
//! This file is what the checks are; the siblings carry them out ([`run`](run::run) has their order).

mod aws;
mod ca;
mod daemon;
mod disk;
mod folders;
mod modem;
mod ports;
mod probes;
mod registered;
mod udev;

pub mod run;

pub(crate) use aws::no_managed_integrations;
pub(crate) use ca::previous_unused;

#[cfg(test)]
pub(crate) mod tests;

use serde::Serialize;

/// A check, whatever it finds.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// Never changes.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    /// What it looks at, and what makes it warn or fail; a row of `docs/doctor.md`.
    pub about: &'static str,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The station works, but may be in trouble some day.
    Warning,
    /// The station cannot work like this.
    Failed,
    /// Does not apply, or could not be looked at; the detail says why.
    Skipped,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// The check's name.
    pub name: &'static str,
    /// What it was about where there are several: a fixture, a service, a permission.
    pub subject: Option<String>,
    /// How it came out.
    pub status: Verdict,
    /// What was found, a sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which one repairs.
    pub checks: Vec<Finding>,
}

impl Report {
    /// Whether nothing has failed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.checks.iter().all(|it| it.status != Verdict::Failed)
    }
}

impl Check {
    fn found(&'static self, status: Verdict, detail: impl Into<String>) -> Finding {
        let Self { id, name, .. } = *self;
        Finding { id, name, subject: None, status, detail: detail.into(), remedy: None }
    }

    fn ok(&'static self, detail: impl Into<String>) -> Finding {
        self.found(Verdict::Ok, detail)
    }

    fn skipped(&'static self, detail: impl Into<String>) -> Finding {
        self.found(Verdict::Skipped, detail)
    }

    fn warning(&'static self, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..self.found(Verdict::Warning, detail) }
    }

    fn failed(&'static self, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..self.found(Verdict::Failed, detail) }
    }
}

impl Finding {
    /// The same about one of several.
    fn about(self, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..self }
    }
}

macro_rules! checks {
    ($($constant:ident, $id:literal, $name:literal, $about:literal;)*) => {
        $(static $constant: Check = Check { id: $id, name: $name, about: $about };)*

        /// Every check, in the order in which they are made.
        pub static CHECKS: &[&Check] = &[$(&$constant,)*];
    };
}

checks! {
    CONFIGURATION, "configuration", "configuration",
        "What `linemint check-config` says of the file; CA and Region have checks of their own. If it fails, all that need it are skipped.";
    DAEMON, "daemon", "daemon",
        "Whether the daemon answers on its socket, and how it is. That it does not run is no fault; that it has stopped, is degraded or does not answer is.";
    JOURNAL_WRITABLE, "journal-writable", "journal can be written",
        "A nameless file is made in the journal's directory, or in what is there of the path to it, by the user who runs the doctor; where the file system has no nameless ones (NFS, CIFS) a `.tmp…` that is removed at once.";
    JOURNAL_SYNC, "journal-sync", "journal's disk syncs",
        "Twenty blocks of 4 KiB are written into that file and synced one by one. Warns if the median is above 50 ms: every promise to a fixture waits for a sync.";
    DISK_FREE, "disk-free", "free disk space",
        "Fails below `journal.min_free`, where no new device is admitted; warns below twice that.";
    DIRECTORY_WRITABLE, "directory-writable", "directory can be written",
        "One for each directory that deliveries, labels and reports go into: a nameless file is made in it by the user who runs the doctor, or in the one that the daemon makes it in at its start. Where the file system has no nameless ones (NFS, CIFS) it is a `.tmp…`, and fails too if that cannot be removed.";
    DIRECTORY_FREE, "directory-free", "free space for deliveries and reports",
        "Likewise. Warns below `journal.min_free`: what does not go there any more stays with the station and is tried again.";
    CLOCK, "clock", "clock",
        "Fails if the clock is before the day on which this version was made or whoever keeps it says that it is not synchronised; warns if nobody says anything.";
    CA, "ca", "station CA",
        "Certificate and key are read, held against each other, and a certificate is issued for trial and thrown away. Where the CA, or one above it, has name constraints, another is issued for a name like each product's; warns if they do not allow it.";
    CA_LIFE, "ca-life", "station CA's life",
        "Warns if the CA, or a certificate above it in its file, ends in less than a year, or before a certificate that is issued today would; \
         and if that of `[pki.previous]` is of no use.";
    PORT, "port", "port is there",
        "The path, or exactly one adapter that fits `usb`.";
    PORT_NAME, "port-name", "port's name is its own",
        "Warns if the port would be another one after the next start or replugging: `/dev/ttyUSB0`, or a name by id or `usb` without a serial number that tells adapters of a kind apart.";
    PORT_PERMISSION, "port-permission", "port may be opened",
        "Whether the user who runs the doctor may read and write the node. Root may always: run it as the daemon's user.";
    PORT_HOLDER, "port-holder", "port is free",
        "Fails if a process has it open that is not the daemon. Only root sees the processes of others.";
    MODEM_MANAGER, "modem-manager", "ModemManager leaves the port alone",
        "Whether ModemManager runs, and whether it would take the port by its policy, the port's class and what udev has noted. It sends AT commands into what it takes.";
    UDEV_RULE, "udev-rule", "udev rule is in force",
        "Whether `71-linemint.rules` is installed, and has been applied to the port.";
    DTR, "dtr", "opening does not restart the fixture",
        "Warns if the next opening of a USB port raises DTR: boards of the Arduino and ESP kind restart then. Told by what udev has noted, since looking would need an opening.";
    LATENCY, "ftdi-latency", "FTDI latency timer",
        "Warns above 1 ms: each frame and each answer waits that long in the adapter.";
    REGION, "region", "Region",
        "Fails if a product wants lockers of its own or managed things where AWS offers no managed integrations: it does in eu-west-1 and ca-central-1 only.";
    CREDENTIALS, "aws-credentials", "AWS credentials",
        "Looks them up as the daemon does, and whether AWS knows them.";
    ACCOUNT, "aws-account", "AWS account",
        "Asks AWS (STS) whose credentials they are. Fails if `aws.account` says another; skipped where STS is out of reach.";
    ENDPOINT, "aws-endpoint", "AWS can be reached",
        "One for each service that the configuration uses: whether its endpoint answers, and answers as AWS does.";
    PERMISSION, "aws-permission", "AWS permission",
        "One for each action of `linemint check-config --iam` that can be tried by reading something that does not exist, and one that names those that no harmless call would show.";
    CA_REGISTERED, "ca-registered", "AWS has the station's CA",
        "Where a product has `register = \"with-ca\"` or `\"jitp\"`: fails if the account does not have the CA, or not as active, and with `jitp` if AWS registers no device of it at its first connection. Skipped where the credentials may not ask (`iot:DescribeCACertificate`).";
    QUOTAS, "quotas", "quotas",
        "What the configuration lets this station call in a second, beside the default that AWS publishes for the Region. AWS is not asked for the quotas that it applies to the account: Service Quotas shows those. Warns where the configuration has more than the default, which is right only if AWS has raised it.";
}
