//! The whole station with its CA's key in a token: SoftHSM 2, behind a module that locks itself, dawdles and
//! signs badly where a test says so.

mod bench;

use std::fs;

use serde_json::json;

use self::bench::{Bench, PIN};
use crate::authority::{has_openssl, openssl};
use crate::harness::{Process, TestFixture, linemint, put};
use crate::secrets::{body, holds, secret};

impl Bench {
    fn greeted(&mut self) -> TestFixture {
        let mut fixture = self.world.fixture("nest-1");
        self.start();
        fixture.hello("nest-1", 1);
        fixture
    }

    /// Why nothing is issued, as everybody is told.
    fn stopped(&self, sentence: &str) {
        self.world.eventually(sentence, |world| {
            let status = world.get("/v1/status").map_err(|it| it.to_string())?;
            let told = status["reasons"].to_string().contains(sentence);
            if told && status["state"] == "stopped" { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// A unit that gets no certificate.
    fn stuck(&self, fixture: &mut TestFixture, (id, serial): (u64, &str), sentence: &str) {
        fixture.send(&json!({ "type": "unit", "id": id, "serial": serial }));
        fixture.expect(&json!({ "type": "ack", "id": id }));
        self.stopped(sentence);
        assert_eq!(self.world.get(&format!("/v1/devices/{serial}")).unwrap()["state"], "provisioning");
    }

    /// The unit that was stuck passes.
    fn goes_on(&self, fixture: &mut TestFixture, (id, serial): (u64, &str)) {
        let credentials = fixture.until(&["credentials"]);
        assert_eq!((&credentials["id"], &credentials["serial"]), (&json!(id), &json!(serial)));
        fixture.send(&json!({
            "type": "written", "id": id, "serial": serial,
            "certificate_sha256": credentials["certificate_sha256"],
        }));
        fixture.expect(&json!({ "type": "pass", "id": id }));
        self.world.becomes("/v1/status", "/state", &json!("ready"));
    }
}

#[test]
fn devices_pass_with_a_ca_whose_key_is_in_a_token_and_in_no_file() {
    let Some(mut bench) = Bench::new("a CA's key in a token") else { return };
    let mut fixture = bench.greeted();
    let serials = ["SN0000000001", "SN0000000002", "SN0000000003"];
    for (id, serial) in (1..).zip(serials) {
        let credentials = fixture.provision(id, serial);
        if has_openssl("certificates from a token") {
            put(&bench.world.path("leaf.pem"), credentials["certificate"].as_str().unwrap().as_bytes());
            let verify =
                ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca/ca.pem", "leaf.pem"];
            assert!(openssl(&bench.world.path(""), &verify).contains("leaf.pem: OK"));
        }
    }
    bench.world.assert_audit(&serials);
    bench.world.settles(3);
    assert_eq!(bench.logins(), ["ok"], "one login does for all");
    let (status, out, log) = bench.command(&["doctor", "--json"]);
    assert!(out.contains("can issue: key and certificate belong together"), "{status} {out} {log}");
    let exported = bench.command(&["journal", "export"]);
    assert_eq!(exported.0, 0, "{}", exported.2);
    bench.world.terminate();
    let (status, log) = bench.world.ended();
    assert_eq!(status, 0, "{log}");
    let mut places = vec![("the log".to_owned(), log.into_bytes())];
    places.extend([("export".to_owned(), exported.1.into_bytes()), ("doctor".to_owned(), out.into_bytes())]);
    // The fixture's port and the socket are there too, and would be read for ever.
    let files = bench.world.files("").into_iter().filter(|it| fs::symlink_metadata(it).unwrap().is_file());
    places.extend(files.filter_map(|it| Some((it.display().to_string(), fs::read(&it).ok()?))));
    assert!(places.len() > 10 && places.iter().any(|it| it.0.contains("/token/tokens/")), "{}", places.len());
    let number = secret(&bench.ca_key);
    for (place, content) in &places {
        assert!(!holds(content, &number), "{place} holds the CA's private number");
        let text = String::from_utf8_lossy(content);
        assert!(
            !body(&bench.ca_key).iter().any(|it| text.contains(it)),
            "{place} holds a part of the CA's key"
        );
        assert!(place.ends_with("credentials/pin") || !text.contains(PIN), "{place} holds the PIN");
    }
}

#[test]
fn without_its_token_the_station_does_not_start_and_is_started_again_until_it_does() {
    let Some(mut bench) = Bench::new("a token that is not there") else { return };
    bench.plug(false);
    for _ in 0..2 {
        let (status, log) = bench.refused();
        assert_eq!(status, 74, "systemd tries that again: {log}");
        assert!(log.contains("the token \"Line3\" is not there: plug it in"), "{log}");
        assert!(log.contains("as a service linemint tries again until it can"), "{log}");
    }
    assert_eq!(bench.logins(), [""; 0]);
    bench.plug(true);
    bench.greeted().provision(1, "SN0000000001");
    bench.world.assert_audit(&["SN0000000001"]);
}

#[test]
fn a_token_that_is_pulled_out_in_the_middle_stops_the_line_and_back_again_it_goes_on() {
    let Some(mut bench) = Bench::new("a token that is pulled out") else { return };
    let mut fixture = bench.greeted();
    fixture.provision(1, "SN0000000001");
    bench.plug(false);
    bench.stuck(&mut fixture, (2, "SN0000000002"), "the token \\\"Line3\\\" is not there");
    bench.plug(true);
    bench.goes_on(&mut fixture, (2, "SN0000000002"));
    bench.world.assert_audit(&["SN0000000001", "SN0000000002"]);
    assert!(bench.logins().iter().all(|it| it == "ok"), "{:?}", bench.logins());
}

#[test]
fn a_wrong_pin_is_tried_once_a_start_and_the_last_try_is_never_spent() {
    let Some(mut bench) = Bench::new("a wrong PIN") else { return };
    bench.set_pin("pin-of-another");
    for tries in 1..=2 {
        let (status, log) = bench.refused();
        assert_eq!(status, 78, "systemd does not try that again: {log}");
        assert!(
            log.contains("the token refuses the PIN") && log.contains("correct the PIN and restart"),
            "{log}"
        );
        assert!(!log.contains("pin-of-another"), "{log}");
        assert_eq!(bench.logins(), vec!["wrong"; tries]);
    }
    // Even with the right one: whoever has it can show so with the token's own tool.
    for pin in ["pin-of-another", PIN] {
        bench.set_pin(pin);
        let (status, log) = bench.refused();
        assert_eq!(status, 78, "{log}");
        assert!(
            log.contains("one more wrong PIN locks it") && log.contains("with the token's own tool"),
            "{log}"
        );
        let (status, out, _) = bench.command(&["doctor", "--json"]);
        assert!(status == 1 && out.contains("one more wrong PIN locks it"), "{out}");
    }
    assert_eq!(bench.logins(), ["wrong", "wrong"]);
    // Somebody else has spent it.
    put(&bench.world.path("token/logins"), b"wrong\nwrong\nwrong\n");
    let (status, log) = bench.refused();
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("the token refuses the PIN (PinLocked)"), "{log}");
    assert_eq!(bench.logins(), ["wrong", "wrong", "wrong", "other"]);
    // A person has shown the right one.
    put(&bench.world.path("token/logins"), b"wrong\nwrong\nok\n");
    bench.greeted().provision(1, "SN0000000001");
}

#[test]
fn a_station_that_runs_goes_on_when_somebody_has_given_a_token_before_its_last_try_the_right_pin() {
    let Some(mut bench) = Bench::new("a last try while the station runs") else { return };
    let mut fixture = bench.greeted();
    fixture.provision(1, "SN0000000001");
    bench.plug(false);
    bench.stuck(&mut fixture, (2, "SN0000000002"), "the token \\\"Line3\\\" is not there");
    // Somebody has tried others elsewhere meanwhile.
    put(&bench.world.path("token/logins"), b"ok\nwrong\nwrong\n");
    bench.plug(true);
    bench.stopped("one more wrong PIN locks it");
    assert_eq!(bench.logins(), ["ok", "wrong", "wrong"], "the last try is left");
    put(&bench.world.path("token/logins"), b"ok\nwrong\nwrong\nok\n");
    bench.goes_on(&mut fixture, (2, "SN0000000002"));
    assert_eq!(bench.logins(), ["ok", "wrong", "wrong", "ok", "ok"], "one login of its own");
    bench.world.assert_audit(&["SN0000000001", "SN0000000002"]);
}

/// The example for the unit, with what stands in it to be uncommented.
#[test]
fn the_drop_in_for_a_token_relaxes_what_a_usb_token_takes_and_nothing_else() {
    let text = include_str!("../../../systemd/token.conf");
    let settings = |active: bool| {
        let lines = text.lines().filter_map(move |it| match it.strip_prefix('#') {
            Some(it) => (!active).then_some(it),
            None => active.then_some(it),
        });
        let setting = |it: &'static str| it.split_once('=').filter(|(name, _)| !name.contains([' ', '#']));
        lines.filter_map(setting).collect::<Vec<_>>()
    };
    let shipped = [
        ("Wants", "pcscd.socket"),
        ("After", "pcscd.socket"),
        ("LoadCredential", "pin:/etc/linemint/secret/pin"),
    ];
    assert_eq!(settings(true), shipped, "through pcscd nothing is relaxed");
    let more = settings(false);
    let relaxed: Vec<_> = more.iter().filter(|it| it.0 != "Environment").copied().collect();
    assert_eq!(relaxed, [("DeviceAllow", "char-189 rw"), ("RestrictAddressFamilies", "AF_NETLINK")]);
}

#[test]
fn a_token_whose_key_is_another_cas_is_a_matter_of_the_configuration() {
    let Some(mut bench) = Bench::new("another CA's key") else { return };
    let other = bench.world.path("other");
    let init = ["ca", "init", "--dir", other.to_str().unwrap(), "--common-name", "Other"];
    assert_eq!(Process::run(&mut linemint(&init)).0, 0);
    bench.configure("[pki]\nca_certificate = \"other/ca.pem\"\n");
    let (status, log) = bench.refused();
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("does not fit the CA's certificate: it is another key"), "{log}");
    bench
        .configure("[pki]\nca_certificate = \"ca/ca.pem\"\nca_key = \"pkcs11:token=Line3;object=nobodys\"\n");
    let (status, log) = bench.refused();
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("the token has no such private key that may sign"), "{log}");
}

#[test]
fn a_token_that_signs_badly_or_not_in_time_gives_no_device_a_certificate_until_it_does() {
    let Some(mut bench) = Bench::new("a bad and a slow token") else { return };
    let mut fixture = bench.greeted();
    let ways = [("bad", "does not fit the CA's certificate"), ("slow", "does not answer within 10 seconds")];
    for (id, (how, sentence)) in (1..).zip(ways) {
        let serial = format!("SN{id:010}");
        bench.misbehave(how, true);
        bench.stuck(&mut fixture, (id, &serial), sentence);
        bench.misbehave(how, false);
        bench.goes_on(&mut fixture, (id, &serial));
    }
    bench.world.assert_audit(&["SN0000000001", "SN0000000002"]);
    assert!(bench.logins().iter().all(|it| it == "ok"), "{:?}", bench.logins());
}
