//! What a seed decides before anything happens: how the station is configured, what goes wrong and how often.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;

use super::cloud::Fault;
use super::disk::Ending;
use super::folders::{DIRECTORY, LABELS};
use crate::batch;
use crate::device::article::ArticleNumber;
use crate::device::rules::{
    KeyOrigin, LockerRule, ManagedRole, ManagedThingRule, PolicyRule, ProductRules, Register, Repeat,
};
use crate::device::serial::SerialPattern;
use crate::device::testing;
pub(super) use crate::device::testing::{STATION, shared_policy};
use crate::line::{Deliver, FixtureSettings, Product, Settings};
use crate::pki::Fingerprint;

pub(super) const PRODUCT: &str = "lamp";
/// The batch, where there is one, and its locker's name.
const BATCH: &str = "WO-1";
pub(super) const BATCH_LOCKER: &str = "lamp WO-1";
/// The same, as AWS may give it back.
pub(super) const DOCUMENT_AGAIN: &str = r#"{ "Statement": [], "Version": "2012-10-17" }"#;
pub(super) const SHARED_POLICY: &str = "lamps";

/// What the clocks show when the world begins.
pub(super) const BEGIN: Timestamp = Timestamp::constant(1_790_000_000, 0);

/// Longer than any story: expiry has its own tests in `line::tests`.
const KEEP_UNDELIVERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often something goes wrong, in thousandths of the occasions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    /// Calls to AWS.
    pub(super) cloud: u32,
    /// Pieces of what goes over the cable: corrupted, lost, doubled.
    pub(super) wire: u32,
    /// The cable comes off after a message.
    pub(super) hang_up: u32,
    /// A unit cannot store, leaves the nest, or takes its time.
    pub(super) unit: u32,
    /// What is changed by other hands: a thing or policy of somebody else's, certificates of an earlier life.
    pub(super) others: u32,
    /// A write to the disk fails.
    pub(super) disk: u32,
    /// A certificate cannot be issued.
    pub(super) issue: u32,
}

/// Something that happens at a place, not by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trap {
    /// The n-th call to AWS goes wrong so, counted from 0; and so do those that follow, so many in all.
    Call { number: usize, times: usize, fault: Fault },
    /// The station ends when the n-th call has arrived: before or after it has had its effect.
    CrashAtCall { number: usize, after_effect: bool },
    /// The power goes when the n-th write is written and not synced; so many bytes of it stay.
    CrashAtWrite { number: usize, kept: usize },
    /// The station ends when the n-th write is on disk, before anything is done that waited for it.
    CrashAfterSync { number: usize, ending: Ending },
}

/// All that is decided before the first event.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) serials: Vec<String>,
    /// A second unit with the label of another.
    pub(super) twin: Option<String>,
    pub(super) fixtures: usize,
    pub(super) nests: usize,
    /// By the number of the start; the last one stays.
    pub(super) rules: Vec<ProductRules>,
    pub(super) rates: Rates,
    pub(super) crashes: u32,
    /// For so long things go wrong.
    pub(super) trouble: Duration,
    pub(super) resend: Duration,
    pub(super) patience: Duration,
    pub(super) max_file_bytes: u64,
    /// One of the restarts is a restore without the key files.
    pub(super) loses_keys: bool,
    /// Ids and boot numbers begin anew after a reset, so that only the boot tells them apart.
    pub(super) ids_begin_anew: bool,
    /// The `hello` after a reset may be lost.
    pub(super) loses_hellos: bool,
    /// A person gives devices up.
    pub(super) gives_up: bool,
    /// Each unit comes back once, its credentials lost.
    pub(super) comes_back: bool,
    /// The account holds certificates of an earlier life.
    pub(super) earlier_life: bool,
    /// The credentials become files in a directory, and not a fixture's.
    pub(super) delivers: bool,
    /// A person opens and closes a batch with a strict list.
    pub(super) batches: bool,
    /// Each device that passes gets a label.
    pub(super) labels: bool,
    /// All devices are of one batch, and share its locker.
    pub(super) batch: bool,
    pub(super) traps: Vec<Trap>,
}

impl Plan {
    /// What a seed decides.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x51_0000_0000);
        let first = rules_of(&mut rng);
        let mut rules = vec![first];
        if rng.u8(..4) == 0 {
            rules.push(changed(&rules[0], &mut rng));
        }
        // Where a serial may pass again, nothing tells a unit from its twin.
        let alike =
            |it: &ProductRules| it.repeat == Repeat::Reject && it.certificate.key == KeyOrigin::Station;
        let twin = rules.iter().all(alike) && rng.u8(..3) == 0;
        let harsh = rng.u32(..4);
        let rate = |rng: &mut fastrand::Rng, most: u32| if rng.u8(..3) == 0 { 0 } else { rng.u32(..=most) };
        let mut plan = Self {
            seed,
            serials: (1..=rng.usize(1..=3)).map(|it| format!("SN{it}")).collect(),
            twin: twin.then(|| "SN1".to_owned()),
            fixtures: rng.usize(1..=2),
            nests: rng.usize(1..=2),
            rules,
            rates: Rates {
                cloud: rate(&mut rng, 80 * (harsh + 1)),
                wire: rate(&mut rng, 25 * (harsh + 1)),
                hang_up: rate(&mut rng, 15),
                unit: rate(&mut rng, 150),
                others: rate(&mut rng, 250),
                disk: rate(&mut rng, 15),
                issue: rate(&mut rng, 100),
            },
            crashes: rng.u32(2..=5),
            trouble: Duration::from_secs(rng.u64(15..35)),
            resend: Duration::from_secs(rng.u64(2..6)),
            patience: Duration::from_secs(rng.u64(10..40)),
            max_file_bytes: if rng.bool() { 1 << 26 } else { rng.u64(1_000..20_000) },
            loses_keys: rng.u8(..8) == 0,
            ids_begin_anew: rng.bool(),
            // A second unit of the same label under the same id is told from the first by nothing but the boot.
            loses_hellos: !twin && rng.bool(),
            gives_up: !twin && rng.u8(..3) == 0,
            comes_back: false,
            earlier_life: false,
            delivers: !twin && rng.u8(..5) == 0,
            labels: rng.u8(..4) == 0,
            batch: rng.u8(..5) == 0,
            batches: !twin && rng.u8(..4) == 0,
            traps: Vec::new(),
        };
        if plan.batch {
            // One batch is open from the start for good.
            plan.batches = false;
            plan.share_lockers();
        }
        if rng.u8(..5) == 0 {
            plan.rules.iter_mut().for_each(manage);
        }
        plan
    }

    /// All devices come in one batch, and where they were to have a locker each, they have one for all.
    pub(super) fn share_lockers(&mut self) {
        self.batch = true;
        for rules in &mut self.rules {
            rules.require_batch = true;
            if let LockerRule::Device { tags, .. } = &rules.locker {
                let name = testing::text("{product} {batch}");
                rules.locker = LockerRule::Batch { name, tags: tags.clone() };
            }
        }
    }

    /// One device, one nest, nothing that goes wrong by chance.
    pub(super) fn quiet(rules: ProductRules) -> Self {
        Self {
            seed: 1,
            serials: vec!["SN1".to_owned()],
            twin: None,
            fixtures: 1,
            nests: 1,
            rules: vec![rules],
            rates: Rates::default(),
            crashes: 0,
            trouble: Duration::ZERO,
            resend: Duration::from_secs(2),
            patience: Duration::from_secs(60),
            max_file_bytes: 1 << 26,
            loses_keys: false,
            ids_begin_anew: false,
            loses_hellos: false,
            gives_up: false,
            comes_back: false,
            earlier_life: false,
            delivers: false,
            batches: false,
            labels: false,
            batch: false,
            traps: Vec::new(),
        }
    }

    /// The rules that the station has at its n-th start, from 0.
    pub(super) fn rules_at(&self, start: u64) -> &ProductRules {
        let at = usize::try_from(start).unwrap_or(usize::MAX).min(self.rules.len() - 1);
        &self.rules[at]
    }

    fn deliver(&self) -> Deliver {
        if self.delivers { Deliver::Directory(DIRECTORY.into()) } else { Deliver::Fixture }
    }

    fn labels(&self) -> Option<PathBuf> {
        self.labels.then(|| LABELS.into())
    }

    /// How the batch is opened.
    pub(super) fn opens(&self) -> batch::Order {
        batch::Order::Open(batch::Terms {
            batch: batch::BatchId::parse(BATCH).unwrap(),
            product: PRODUCT.to_owned(),
            strict: false,
            fixtures: Vec::new(),
            expected: 3,
        })
    }

    pub(super) fn fixture(number: usize) -> String {
        format!("jig-{}", number + 1)
    }

    pub(super) fn settings(&self, start: u64) -> Settings {
        // A regular expression takes longer to compile than a device to be made.
        static PATTERN: LazyLock<SerialPattern> = LazyLock::new(|| SerialPattern::new("^SN[0-9]+$").unwrap());
        let rules = Arc::new(self.rules_at(start).clone());
        let fixtures = (0..self.fixtures).map(|number| FixtureSettings {
            name: Self::fixture(number),
            product: PRODUCT.to_owned(),
            resend: self.resend,
            answer_within: self.patience,
            patience: self.patience,
        });
        Settings {
            station: STATION.to_owned(),
            fixtures: fixtures.collect(),
            products: BTreeMap::from([(
                PRODUCT.to_owned(),
                Product { rules, serial: PATTERN.clone(), deliver: self.deliver(), labels: self.labels() },
            )]),
            ca: Some(Fingerprint::of(b"the CA\n")),
            ca_pem: "the CA\n".to_owned(),
            chain_pem: String::new(),
            previous_ca: None,
            config_hash: start.to_string(),
            seed: self.seed.wrapping_add(start),
            keep_undelivered: KEEP_UNDELIVERED,
            backlog: 10_000,
            in_progress: 2,
            messages: Arc::default(),
            built_at: Timestamp::UNIX_EPOCH,
        }
    }
}

/// A product as most stations have it, but that nobody has used up its certificates.
pub(super) fn plain_rules() -> ProductRules {
    ProductRules { max_certificates: 12, ..testing::plain_rules(PRODUCT) }
}

fn rules_of(rng: &mut fastrand::Rng) -> ProductRules {
    let mut rules = plain_rules();
    rules.repeat = [Repeat::Return, Repeat::Renew, Repeat::Reject][rng.usize(..3)];
    match rng.u8(..6) {
        0 => rules.policy = shared_policy(),
        1 => rules.policy = PolicyRule::None,
        _ => {}
    }
    if rng.u8(..4) == 0 {
        rules.locker = LockerRule::None;
    }
    match rng.u8(..9) {
        0 => rules.certificate.register = Register::WithCa,
        1 => rules.certificate.register = Register::Jitp,
        2..=4 => rules.certificate.register = Register::Aws,
        _ => {}
    }
    if rng.u8(..5) == 0 {
        rules.certificate.key = KeyOrigin::Device;
    }
    rules
}

/// Devices get managed things.
pub(super) fn manage(rules: &mut ProductRules) {
    rules.article = Some(ArticleNumber::parse("036000291452").unwrap());
    rules.managed_thing = Some(ManagedThingRule { role: ManagedRole::Device });
}

/// The rules as somebody has changed them while the station was down.
fn changed(before: &ProductRules, rng: &mut fastrand::Rng) -> ProductRules {
    let mut rules = before.clone();
    match rng.u8(..5) {
        0 => rules.repeat = Repeat::Renew,
        3 => rules.certificate.register = Register::Aws,
        1 => rules.endpoint = Some("abc-ats.iot.eu-west-1.amazonaws.com".to_owned()),
        2 => {
            rules.policy =
                if before.policy == shared_policy() { plain_rules().policy } else { shared_policy() }
        }
        _ => rules.certificate.register = Register::WithCa,
    }
    rules
}
