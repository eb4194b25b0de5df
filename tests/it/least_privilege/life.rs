//! All that a station may ever do, with one configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::cloud::{Call, Reply};
use linemint::pki::authority::make_root;
use linemint::pki::issuer::StationIssuer;
use linemint::pki::{Issuer as _, LeafKey, LeafRequest, to_pem};
use linemint::rehearsal::cloud::LedgerRow;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{ACCOUNT, Pair};
use crate::harness::{Process, TestFixture, World, linemint, merged, put};

const DOCUMENT: &str = include_str!("../../../config/policies/thermostat.json");

/// A list of its own is read once for everything that is there; single reads are for a selection.
const LOOKS: [&[&str]; 2] = [&["reconcile"], &["reconcile", "--since", "2000-01-01T00:00:00Z"]];

const SERIALS: [&str; 4] = ["SN0000000001", "SN0000000002", "SN0000000003", "SN0000000004"];

/// Who registers certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    WithoutCa,
    WithCa,
    Jitp,
    Aws,
}

pub(super) struct Life {
    pub(super) world: World,
    /// What names of things and policies begin with.
    prefix: &'static str,
    register: Register,
    has_batch: bool,
    renews: bool,
    device_keys: bool,
    /// Another product, of other rules, at a fixture of its own.
    has_lamps: bool,
    /// Numbers of the calls that somebody else has made.
    others: Vec<Range<u64>>,
    last_id: u64,
}

impl Life {
    /// With `over`, in which `LOCKER` stands for the locker that a person has made.
    pub(super) fn of(over: &str) -> Self {
        let mut life = Self {
            world: World::new(""),
            prefix: "",
            register: Register::WithoutCa,
            has_batch: false,
            renews: false,
            device_keys: false,
            has_lamps: false,
            others: Vec::new(),
            last_id: 0,
        };
        let named = |name: &str| (name.to_owned(), "by-a-person".to_owned());
        let (name, client_token) = named("given");
        let given = life.as_another(vec![
            Call::CreateCredentialLocker { name, client_token, tags: BTreeMap::new() },
            Call::CreatePolicy {
                name: "given".to_owned(),
                document: DOCUMENT.to_owned(),
                tags: BTreeMap::new(),
            },
        ]);
        let Reply::Locker { id, .. } = &given[0] else { panic!("{given:?}") };
        life.configure(&over.replace("LOCKER", id));
        life
    }

    fn configure(&self, over: &str) {
        let config = self.world.path("linemint.toml");
        let text = merged(&fs::read_to_string(&config).unwrap(), over);
        // A policy that is given, or none, has no document; tables are merged, and that of every test's stays.
        let mut table: toml::Table = text.parse().unwrap();
        let product = table["product"]["thermostat"].as_table_mut().unwrap();
        let scope = product["policy"].get("scope").and_then(|it| it.as_str()).map(str::to_owned);
        if scope.is_some_and(|it| it == "none" || it == "given") {
            product["policy"].as_table_mut().unwrap().remove("document");
        }
        put(&config, table.to_string().as_bytes());
    }

    pub(super) fn named(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    pub(super) fn with_batch(self) -> Self {
        Self { has_batch: true, ..self }
    }

    pub(super) fn renewing(self) -> Self {
        Self { renews: true, ..self }
    }

    pub(super) fn with_keys_of_devices(self) -> Self {
        Self { device_keys: true, ..self }
    }

    /// A person registers the CA, where it has to be.
    pub(super) fn registered(mut self, register: Register) -> Self {
        self.register = register;
        if matches!(register, Register::WithCa | Register::Jitp) {
            let from = self.next_number();
            let (status, _, log) = self.world.command(&["ca", "register"]);
            assert_eq!(status, 0, "{log}");
            self.others.push(from..self.next_number());
        }
        self
    }

    pub(super) fn with_previous_ca(self) -> Self {
        let old = self.world.path("old");
        let made = Process::run(&mut linemint(&["ca", "init", "--dir", old.to_str().unwrap()]));
        assert_eq!(made.0, 0, "{}", made.2);
        self.configure("[pki.previous]\nca_certificate = \"old/ca.pem\"\n");
        self
    }

    pub(super) fn with_lamps_without_ca(self) -> Self {
        let lamps = "[[fixture]]\n[[fixture]]\nname = \"nest-2\"\nport = \"nest-2.tty\"\nproduct = \"lamp\"\n\
                     [product.lamp]\nserial = \"^L[0-9]{11}$\"\npolicy = { document = \"policy.json\" }\n\
                     certificate = {}\n";
        self.configure(lamps);
        Self { has_lamps: true, ..self }
    }

    fn next_number(&self) -> u64 {
        self.world.cloud().stats().requests + 1
    }

    /// Somebody else calls: it is not the station that has to be allowed that.
    fn as_another(&mut self, calls: Vec<Call>) -> Vec<Reply> {
        let from = self.next_number();
        let replies = self.world.aws(calls);
        self.others.push(from..self.next_number());
        replies
    }

    /// What the station itself has called for.
    pub(super) fn calls(&self) -> Vec<LedgerRow> {
        let own = |it: &LedgerRow| !self.others.iter().any(|range| range.contains(&it.seq));
        self.world.cloud().rows().into_iter().filter(own).collect()
    }

    /// Names that are not its own are not among what it is allowed.
    pub(super) fn assert_narrow(&self, granted: &BTreeSet<Pair>) {
        let foreign = |kind: &str| format!("arn:aws:iot:eu-west-1:{ACCOUNT}:{kind}/somebody-elses");
        for kind in ["thing", "policy"] {
            let is_open = granted.iter().any(|it| super::fits(&it.1, &foreign(kind)) && it.1 != "*");
            assert!(self.prefix.is_empty() || !is_open, "{kind}: {granted:#?}");
        }
    }

    pub(super) fn is_lived(&mut self) {
        let mut fixture = self.world.fixture("nest-1");
        let mut lamps = self.has_lamps.then(|| self.world.fixture("nest-2"));
        self.world.start();
        fixture.hello("nest-1", 1);
        if self.has_batch {
            let open = ["batch", "open", "WO-1", "--product", "thermostat", "--count", "9"];
            assert_eq!(self.world.command(&open).0, 0);
        }
        for serial in SERIALS {
            self.passes(&mut fixture, serial);
        }
        self.look();
        if self.renews {
            self.passes(&mut fixture, SERIALS[0]);
            self.world.eventually("nothing is left to be done about the certificate before it", |world| {
                let (_, out, log) = world.command(&["reconcile", "--json"]);
                if out.contains("\"in_flight\":0") { Ok(()) } else { Err((out, log)) }
            });
        }
        self.damage();
        self.look();
        self.repair();
        // Reworked: scrapped, and what is left of it deleted.
        let scrap = ["device", "scrap", SERIALS[2], "--reason", "it fell"];
        assert_eq!(self.world.command(&scrap).0, 0);
        self.world.becomes(&format!("/v1/devices/{}", SERIALS[2]), "/state", &json!("scrapped"));
        self.look();
        if let Some(lamps) = &mut lamps {
            lamps.hello("nest-2", 1);
            lamps.provision(1, "L00000000001");
            self.look();
        }
        self.doctored();
        self.ends();
        if self.world.path("old").exists() {
            // The CA before it has come to its end.
            let ended = make_root("old", "1990-01-01T00:00:00Z".parse().unwrap()).unwrap();
            put(&self.world.path("old/ca.pem"), ended.certificate_pem.as_bytes());
            self.world.start();
            self.world.eventually("it answers again", |world| world.get("/v1/status").map(|_| ()));
            self.look();
            self.ends();
        }
    }

    /// The doctor, and nobody else where nothing is wrong, asks whether AWS has the CA.
    fn doctored(&self) {
        if matches!(self.register, Register::WithCa | Register::Jitp) {
            let (status, out, log) = self.world.command(&["doctor"]);
            assert!(status <= 1 && !out.contains("may not ask"), "{status} {out} {log}");
        }
    }

    fn ends(&mut self) {
        self.world.terminate();
        let (status, log) = self.world.ended();
        assert_eq!(status, 0, "{log}");
        assert!(!log.contains("AccessDenied"), "{log}");
    }

    fn passes(&mut self, fixture: &mut TestFixture, serial: &str) {
        self.last_id += 1;
        let id = self.last_id;
        let mut unit = json!({ "type": "unit", "id": id, "serial": serial });
        if self.device_keys {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
            unit["csr"] = Value::from(csr.pem().unwrap());
        }
        fixture.send(&unit);
        fixture.expect(&json!({ "type": "ack", "id": id }));
        let credentials = fixture.expect(&json!({ "type": "credentials", "id": id, "serial": serial }));
        let sha256 = &credentials["certificate_sha256"];
        fixture.send(&json!({ "type": "written", "id": id, "serial": serial, "certificate_sha256": sha256 }));
        fixture.expect(&json!({ "type": "pass", "id": id, "serial": serial }));
        if self.register == Register::Jitp {
            self.connects(&credentials);
        }
    }

    /// The first connection, as its template has it: AWS registers the certificate and attaches it.
    fn connects(&mut self, credentials: &Value) {
        let chain = credentials["certificate"].as_str().unwrap();
        let end = "-----END CERTIFICATE-----\n";
        let certificate_pem = chain[..chain.find(end).unwrap() + end.len()].to_owned();
        let made = self.as_another(vec![Call::RegisterCertificateWithoutCa { certificate_pem }]);
        let [Reply::Certificate { arn, .. }] = made.as_slice() else { panic!("{made:?}") };
        let thing = credentials["thing"].as_str().unwrap().to_owned();
        let mut attach = vec![Call::AttachThingPrincipal { thing: thing.clone(), principal: arn.clone() }];
        if self.has_own_policy() {
            attach.push(Call::AttachPolicy { policy: thing, target: arn.clone() });
        }
        self.as_another(attach);
    }

    fn has_own_policy(&self) -> bool {
        let table: toml::Table =
            fs::read_to_string(self.world.path("linemint.toml")).unwrap().parse().unwrap();
        let scope = table["product"]["thermostat"]["policy"].get("scope").and_then(|it| it.as_str());
        scope.is_none_or(|it| it == "device")
    }

    /// Everything is held against the account: as a whole, and one by one.
    fn look(&self) {
        for args in LOOKS {
            let (status, out, log) = self.world.command(args);
            assert!(status <= 1, "{args:?}: {status} {out} {log}");
        }
    }

    fn repair(&self) {
        let (status, out, log) = self.world.command(&["reconcile", "--repair", "--delete-extras"]);
        assert!(status <= 1, "{status} {out} {log}");
        assert!(out.contains("extra") && !log.contains("AccessDenied"), "{out} {log}");
    }

    /// Somebody deletes what a device has, leaves a thing that bears the station's name, and certificates of its CA.
    fn damage(&mut self) {
        let device = self.world.get(&format!("/v1/devices/{}", SERIALS[1])).unwrap();
        let mut calls = Vec::new();
        let thing = format!("{}{}", self.prefix, SERIALS[1]);
        if let Some(principal) = device.pointer("/certificate/arn").and_then(Value::as_str) {
            calls.push(Call::DetachThingPrincipal { thing, principal: principal.to_owned() });
        }
        let history = device["history"].as_array().unwrap();
        let made = |step: &str| {
            let event = history.iter().rev().find(|it| it["event"] == "step-done" && it["step"] == step);
            event.and_then(|it| it["output"]["id"].as_str()).map(str::to_owned)
        };
        calls.extend(made("managed-thing").map(|id| Call::DeleteManagedThing { id }));
        if !self.has_batch {
            calls.extend(made("locker").map(|id| Call::DeleteCredentialLocker { id }));
        }
        let extra = format!("{}SNEXTRA00001", self.prefix);
        let attributes = BTreeMap::from([("linemint".to_owned(), "IT".to_owned())]);
        calls.push(Call::CreateThing { name: extra.clone(), attributes });
        self.as_another(calls);
        let signed = [self.signed("SNEXTRA00001"), self.signed(SERIALS[3])];
        let registered = self.as_another(signed.to_vec());
        let [Reply::Certificate { arn, .. }, _] = registered.as_slice() else { panic!("{registered:?}") };
        self.as_another(vec![Call::AttachThingPrincipal { thing: extra, principal: arn.clone() }]);
    }

    /// A certificate of the station's CA that the journal does not know.
    fn signed(&self, name: &str) -> Call {
        let read = |name: &str| fs::read_to_string(self.world.path("ca").join(name)).unwrap();
        let now = SystemClock::default().now().wall;
        let issuer = StationIssuer::load(&read("ca.pem"), Zeroizing::new(read("ca.key")), now).unwrap();
        let request = LeafRequest { common_name: name.to_owned(), days: 30, key: LeafKey::Station };
        let der = issuer.issue(&request, now).unwrap().der;
        Call::RegisterCertificateWithoutCa { certificate_pem: to_pem("CERTIFICATE", &der).to_string() }
    }
}
