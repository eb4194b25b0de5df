//! Whether the account holds what it should for a list of serial numbers, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;

use serde::Serialize;

use super::account::{Account, Registered};
use super::ledger::Calls;

/// Most problems that are named.
const MAX_PROBLEMS: usize = 1000;

/// Which lockers the station makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LockerScope {
    /// One for each device, named after it.
    #[default]
    Device,
    /// None for a device; what else there is is not looked at.
    None,
}

/// Which policies the station makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PolicyScope {
    /// One for each device, named after it.
    #[default]
    Device,
    /// One or a few for all devices.
    Shared,
    /// None.
    None,
}

/// Where certificates come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CertificateScope {
    /// The station registers them, or has AWS issue them.
    #[default]
    Cloud,
    /// They appear when the device first connects: the station makes none.
    Jitp,
}

/// What the account should hold for each serial number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each member is its type")]
pub struct AuditScope {
    pub locker: LockerScope,
    pub policy: PolicyScope,
    pub certificate: CertificateScope,
}

/// What the things of one device are called.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each member is its name")]
pub struct Names {
    pub serial: String,
    pub thing: String,
    pub policy: String,
    pub locker: String,
    /// The common name of its certificate.
    pub subject: String,
}

impl From<&str> for Names {
    /// All named by the serial number.
    fn from(serial: &str) -> Self {
        let name = || serial.to_owned();
        Self { serial: name(), thing: name(), policy: name(), locker: name(), subject: name() }
    }
}

/// The text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not among {1}")]
pub struct UnknownScope(pub String, pub &'static str);

impl FromStr for LockerScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "device" => Ok(Self::Device),
            "none" => Ok(Self::None),
            _ => Err(UnknownScope(text.to_owned(), "device, none")),
        }
    }
}

impl FromStr for PolicyScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "device" => Ok(Self::Device),
            "shared" => Ok(Self::Shared),
            "none" => Ok(Self::None),
            _ => Err(UnknownScope(text.to_owned(), "device, shared, none")),
        }
    }
}

impl FromStr for CertificateScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "cloud" => Ok(Self::Cloud),
            "jitp" => Ok(Self::Jitp),
            _ => Err(UnknownScope(text.to_owned(), "cloud, jitp")),
        }
    }
}

/// Resources that belong to none of the serial numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each member is its name")]
pub struct Orphans {
    pub lockers: u64,
    pub policies: u64,
    pub things: u64,
    pub certificates: u64,
    /// Certificates, whoever they were made for, that a device could connect with although they
    /// are attached to no thing.
    pub active_unattached: u64,
    /// Certificates that AWS has issued and that are attached to no thing, active or not.
    pub issued_unattached: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whose it is; `None` for an orphan.
    pub serial: Option<String>,
    /// One sentence.
    pub what: String,
}

/// What the account holds, held against what it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each member is its name")]
pub struct Audit {
    /// No problem and no orphan.
    pub ok: bool,
    /// Serial numbers asked for, each counted once.
    pub serials: u64,
    pub things: u64,
    pub lockers: u64,
    pub policies: u64,
    pub certificates: u64,
    pub active_certificates: u64,
    pub orphans: Orphans,
    /// The first 1,000.
    pub problems: Vec<Problem>,
    /// All of them.
    pub problem_count: u64,
    /// Calls so far, by the operation's kebab-case key.
    pub calls: BTreeMap<&'static str, Calls>,
}

/// Looks through `account`.
pub(crate) fn audit(
    account: &Account,
    devices: &[Names],
    scope: AuditScope,
    calls: BTreeMap<&'static str, Calls>,
) -> Audit {
    let mut look = Look { account, scope, lockers: lockers_by_name(account), findings: Findings::default() };
    let mut serials = HashSet::with_capacity(devices.len());
    for device in devices {
        if serials.insert(device.serial.as_str()) {
            look.device(device);
        }
    }
    let orphans = look.orphans(&Wanted::of(devices));
    let active = account.certificates.values().filter(|it| is_active(it)).count();
    let Findings { problems, count } = look.findings;
    Audit {
        ok: count == 0,
        serials: serials.len() as u64,
        things: account.things.len() as u64,
        lockers: account.lockers.len() as u64,
        policies: account.policies.len() as u64,
        certificates: account.certificates.len() as u64,
        active_certificates: active as u64,
        orphans,
        problems,
        problem_count: count,
        calls,
    }
}

#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    count: u64,
}

impl Findings {
    fn add(&mut self, serial: Option<&str>, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { serial: serial.map(str::to_owned), what: what() });
        }
    }
}

/// The names that belong to some device.
struct Wanted<'a> {
    things: HashSet<&'a str>,
    policies: HashSet<&'a str>,
    lockers: HashSet<&'a str>,
    subjects: HashSet<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(devices: &'a [Names]) -> Self {
        Self {
            things: devices.iter().map(|it| it.thing.as_str()).collect(),
            policies: devices.iter().map(|it| it.policy.as_str()).collect(),
            lockers: devices.iter().map(|it| it.locker.as_str()).collect(),
            subjects: devices.iter().map(|it| it.subject.as_str()).collect(),
        }
    }

    /// A certificate belongs to the thing that it is attached to, or else to the name in its subject.
    fn has(&self, certificate: &Registered) -> bool {
        certificate.things.iter().any(|it| self.things.contains(it.as_str()))
            || certificate.owner.as_deref().is_some_and(|it| self.subjects.contains(it))
    }
}

struct Look<'a> {
    account: &'a Account,
    scope: AuditScope,
    lockers: HashMap<&'a str, u64>,
    findings: Findings,
}

impl Look<'_> {
    fn device(&mut self, device: &Names) {
        let serial = device.serial.as_str();
        self.locker(device);
        self.policy(device);
        let Some(thing) = self.account.things.get(&device.thing) else {
            return self.findings.add(Some(serial), || "there is no thing".to_owned());
        };
        if !thing.attributes.contains_key("linemint") {
            self.findings.add(Some(serial), || "the thing has no attribute linemint".to_owned());
        }
        let attached: Vec<&Registered> =
            thing.principals.keys().filter_map(|id| self.account.certificates.get(id)).collect();
        match self.scope.certificate {
            CertificateScope::Cloud => self.certificates(device, &attached),
            CertificateScope::Jitp if attached.is_empty() => {}
            CertificateScope::Jitp => {
                let what = || format!("{} certificates are attached, not 0", attached.len());
                self.findings.add(Some(serial), what);
            }
        }
    }

    fn locker(&mut self, device: &Names) {
        let wanted = u64::from(self.scope.locker == LockerScope::Device);
        let held = self.lockers.get(device.locker.as_str()).copied().unwrap_or_default();
        let serial = device.serial.as_str();
        if held != wanted {
            self.findings
                .add(Some(serial), || format!("there are {held} lockers of that name, not {wanted}"));
        }
    }

    fn policy(&mut self, device: &Names) {
        let wanted = self.scope.policy == PolicyScope::Device;
        let serial = device.serial.as_str();
        match (wanted, self.account.policies.contains_key(&device.policy)) {
            (true, false) => self.findings.add(Some(serial), || "there is no policy".to_owned()),
            (false, true) => self.findings.add(Some(serial), || "there is a policy of its own".to_owned()),
            _ => {}
        }
    }

    fn certificates(&mut self, device: &Names, attached: &[&Registered]) {
        let serial = device.serial.as_str();
        let active: Vec<_> = attached.iter().filter(|it| is_active(it)).collect();
        let [certificate] = active.as_slice() else {
            let what = || format!("{} active certificates are attached, not 1", active.len());
            return self.findings.add(Some(serial), what);
        };
        if certificate.things.len() != 1 {
            let what = || format!("its certificate is attached to {} things", certificate.things.len());
            self.findings.add(Some(serial), what);
        }
        let names: Vec<&str> = certificate.policies.keys().map(String::as_str).collect();
        let as_it_should_be = match self.scope.policy {
            PolicyScope::Device => names == [device.policy.as_str()],
            PolicyScope::Shared => names.len() == 1 && names != [device.policy.as_str()],
            PolicyScope::None => true,
        };
        if !as_it_should_be {
            let what = || format!("its certificate carries {} policies: {}", names.len(), names.join(", "));
            self.findings.add(Some(serial), what);
        }
    }

    fn orphans(&mut self, wanted: &Wanted<'_>) -> Orphans {
        let account = self.account;
        let mut orphans = Orphans::default();
        let mut orphan = |count: &mut u64, what: String| {
            *count += 1;
            self.findings.add(None, || what);
        };
        if self.scope.locker == LockerScope::Device {
            for (id, locker) in &account.lockers {
                if !locker.name.as_deref().is_some_and(|it| wanted.lockers.contains(it)) {
                    orphan(&mut orphans.lockers, format!("the locker {id} belongs to no serial number"));
                }
            }
        }
        for (name, policy) in &account.policies {
            let is_orphan = match self.scope.policy {
                PolicyScope::Device => !wanted.policies.contains(name.as_str()),
                // With certificates of the first connection nothing is attached yet.
                PolicyScope::Shared => {
                    policy.targets.is_empty() && self.scope.certificate == CertificateScope::Cloud
                }
                PolicyScope::None => false,
            };
            if is_orphan {
                orphan(&mut orphans.policies, format!("the policy {name} belongs to no serial number"));
            }
        }
        for name in account.things.keys().filter(|it| !wanted.things.contains(it.as_str())) {
            orphan(&mut orphans.things, format!("the thing {name} belongs to no serial number"));
        }
        for (id, certificate) in &account.certificates {
            if is_active(certificate) && certificate.things.is_empty() {
                orphan(
                    &mut orphans.active_unattached,
                    format!("the certificate {id} is active and at no thing"),
                );
            }
            if certificate.is_issued_here() && certificate.things.is_empty() {
                orphan(
                    &mut orphans.issued_unattached,
                    format!("the certificate {id} was issued by AWS and is at no thing"),
                );
            }
            if !wanted.has(certificate) {
                orphan(
                    &mut orphans.certificates,
                    format!("the certificate {id} belongs to no serial number"),
                );
            }
        }
        orphans
    }
}

fn lockers_by_name(account: &Account) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    for name in account.lockers.values().filter_map(|it| it.name.as_deref()) {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn is_active(certificate: &Registered) -> bool {
    certificate.status == "ACTIVE"
}
