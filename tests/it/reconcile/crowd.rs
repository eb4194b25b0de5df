//! An account with tens of thousands of devices, and a journal that knows some of them, made directly: through
//! the station they would take an hour at AWS's quotas.

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::config::Config;
use linemint::device::event::{Admission, Event, Output, PresentationKey, Waited};
use linemint::device::serial::SerialNumber;
use linemint::device::steps::Step;
use linemint::device::{Certificate, Device, KeyState};
use linemint::journal::store::{JournalLock, open};
use linemint::journal::{Entry, Journal as _, Record, StationEvent, What};
use linemint::pki::{Fingerprint, to_pem};
use rcgen::{CertificateParams, KeyPair};

use crate::harness::World;

/// The policy of the configuration that tests begin with.
const DOCUMENT: &str = include_str!("../../../config/policies/thermostat.json");

/// Makes certificates, all of one key: nobody connects with them.
struct Mint {
    key: KeyPair,
    made: u64,
}

impl Mint {
    fn new() -> Self {
        Self { key: KeyPair::generate().unwrap(), made: 0 }
    }

    fn certificate(&mut self) -> Vec<u8> {
        self.made += 1;
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(self.made));
        params.self_signed(&self.key).unwrap().der().to_vec()
    }
}

/// So many devices of another station, with all that a device has.
pub(super) fn gather(world: &World, count: usize) {
    let mut mint = Mint::new();
    for number in 0..count {
        let pem = to_pem("CERTIFICATE", &mint.certificate());
        world.cloud().place_device(&format!("CROWD{number:08}"), "L9-S99", DOCUMENT, &pem).unwrap();
    }
}

/// The batch of so many devices that are too few for the lists.
pub(super) const FEW: &str = "WO-290";

/// A journal in which these devices have passed, and what the account holds for them.
pub(super) fn write_journal(world: &World, serials: &[String]) {
    let config = Config::load(&world.path("linemint.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let rules = config.products["thermostat"].rules.clone();
    let mut journal = open(JournalLock::take(&world.path("state/journal")).unwrap()).unwrap();
    let mut mint = Mint::new();
    let at = SystemClock::default().now().wall;
    let what = What::Station(StationEvent::Rules { id: rules.id(), rules: Box::new((*rules).clone()) });
    let mut seq = 1;
    journal
        .writer
        .commit(vec![Entry { record: Record { seq, at, serial: None, what }, device: None }])
        .unwrap();
    for (number, name) in serials.iter().enumerate() {
        let der = mint.certificate();
        let (locker, arn) =
            world.cloud().place_device(name, "IT", DOCUMENT, &to_pem("CERTIFICATE", &der)).unwrap();
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: number as u64 + 1 };
        let mut entries = Vec::new();
        let mut device: Option<Device> = None;
        let batch = (number < 290).then(|| FEW.to_owned());
        for event in life((rules.id(), batch), presentation, der, (locker, arn)) {
            seq += 1;
            let serial = SerialNumber::parse(name).unwrap();
            let before = device.as_ref().map(|it| it.state);
            let after = match device.take() {
                None => Device::admit(&serial, seq, at, &event).unwrap(),
                Some(mut it) => {
                    it.apply(seq, at, &event).unwrap();
                    it
                }
            };
            device = Some(after.clone());
            let record = Record { seq, at, serial: Some(serial), what: What::Device(event) };
            entries.push(Entry { record, device: Some((Box::new(after), before)) });
        }
        journal.writer.commit(entries).unwrap();
    }
}

/// What happens to a device that passes.
fn life(
    (rules, batch): (Fingerprint, Option<String>),
    presentation: PresentationKey,
    der: Vec<u8>,
    (locker, arn): (String, String),
) -> Vec<Event> {
    let done = |step, output| Event::StepDone { step, output, adopted: false, request_id: None };
    let certificate = Certificate {
        fingerprint: Fingerprint::of(&der),
        der,
        serial_number: "01".to_owned(),
        not_after: "2049-12-31T00:00:00Z".parse().unwrap(),
        key: KeyState::Device,
        arn: None,
        public_key: None,
        issuer: None,
    };
    let admission = Admission { batch, ..Admission::of("thermostat", rules, presentation.clone()) };
    vec![
        Event::Admitted(Box::new(admission)),
        Event::Issued { certificate },
        done(Step::Locker, Output::Locker { id: locker, arn: None, others: Vec::new() }),
        done(Step::Policy, Output::Nothing),
        done(Step::Thing, Output::Nothing),
        done(Step::Certificate, Output::Certificate { arn }),
        done(Step::AttachPolicy, Output::Nothing),
        done(Step::AttachThing, Output::Nothing),
        Event::Passed { presentation, directory: None, label: false, waited: Waited::default() },
    ]
}
