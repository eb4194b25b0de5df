mod messages;
mod mistakes;
mod scanner;

use std::io;
use std::path::Path;

use super::*;
use crate::cloud::Operation;
use crate::device::rules::{KeyOrigin, LockerRule, PolicyRule, Register, Repeat};
use crate::fixture::place::UsbId;

const FULL: &str = include_str!("../../config/linemint.toml");
pub(super) const MINIMAL: &str = include_str!("../../config/minimal.toml");
const SCANNER: &str = include_str!("../../config/scanner.toml");
pub(super) const SHARED: &str = include_str!("../../config/shared-policy.toml");
const GERMAN: &str = include_str!("../../config/messages.de.toml");
const POLICY: &str = include_str!("../../config/policies/thermostat.json");
pub(super) const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

/// The files of an installed station, and of the tests' mistakes.
struct Installed;

impl Files for Installed {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let content = match path.to_str() {
            Some("etc/policies/thermostat.json") => POLICY.as_bytes().to_vec(),
            Some("etc/messages.de.toml") => GERMAN.as_bytes().to_vec(),
            Some("etc/broken.json") => b"{".to_vec(),
            Some("etc/long.json") => {
                let statement = format!("{{\"Effect\":\"Allow\",\"Sid\":\"{}\"}}", "x".repeat(2_048));
                format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statement}]}}").into_bytes()
            }
            Some(
                "etc/roots.pem"
                | "/etc/linemint/ca.pem"
                | "/etc/linemint/ca/ca.pem"
                | "/etc/ssl/plant.pem"
                | "/etc/linemint/ca-2026.pem",
            ) => PEM.to_vec(),
            Some("etc/huge.pem") => PEM.repeat(1_000),
            Some("etc/key.pem") => b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n".to_vec(),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        if content.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(content) }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match path.to_str() {
            Some("/secret/ca.key") => Err(io::ErrorKind::PermissionDenied.into()),
            other => Ok(matches!(other, Some("etc/ca.key" | "/etc/linemint/ca/ca.key" | "/usr/lib/p11.so"))),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("etc/config.toml"), &Installed)
}

fn errors(text: &str) -> Vec<ConfigError> {
    parse(text).map(|_| ()).unwrap_err().0
}

/// The full file with `from` replaced.
fn with(from: &str, to: &str) -> String {
    assert_eq!(FULL.matches(from).count(), 1, "{from}");
    FULL.replace(from, to)
}

#[test]
fn every_shipped_file_is_valid() {
    for (name, text) in
        [("linemint", FULL), ("minimal", MINIMAL), ("shared-policy", SHARED), ("scanner", SCANNER)]
    {
        if let Err(errors) = parse(text) {
            panic!("{name}.toml:\n{errors}");
        }
    }
    let shared = parse(SHARED).unwrap();
    assert_eq!((shared.fixtures.len(), shared.shifts.len()), (2, 2));
    assert_eq!(shared.fixtures[1].dtr, Raised::Never);
    let rules = &shared.products["thermostat"].rules;
    assert_eq!((rules.certificate.key, rules.certificate.register), (KeyOrigin::Device, Register::WithCa));
    assert!(
        matches!(&rules.policy, PolicyRule::Product { name, .. } if name.to_string() == "{product}-device")
    );
}

#[test]
fn every_option_that_is_off_in_the_shipped_file_can_be_switched_on() {
    let on = FULL.lines().map(|line| {
        line.strip_prefix('#').filter(|it| !it.starts_with([' ', '-']) && !it.is_empty()).unwrap_or(line)
    });
    let config = parse(&on.collect::<Vec<_>>().join("\n")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.aws.account.as_deref(), Some("123456789012"));
    assert_eq!(config.journal.seal_key, SecretRef::Credential("seal.key".into()));
    // Nothing in it but what AWS documents: the share is all that differs.
    assert_eq!(config.aws.quotas, crate::cloud::Quotas::aws_default().shared(0.5));
}

#[test]
fn the_shipped_file_explains_every_key() {
    let mut table = "";
    let mut explained: Vec<String> = Vec::new();
    for line in FULL.lines() {
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']);
        }
        if let Some((key, _)) = line.trim_start_matches(['#', ' ']).split_once(" = ") {
            explained.push(format!("{table}.{key}"));
        }
    }
    let keys = "station.id station.timezone station.days_off station.backlog station.messages station.takt station.report_dir \
         station.report_grace station.report_keep station.report_hook station.report_url journal.dir journal.min_free journal.seal_key \
         journal.keep_undelivered api.socket api.board api.board_names aws.region aws.iot_endpoint \
        aws.managed_integrations_endpoint aws.call_timeout aws.account aws.ca_bundle aws.quota.share \
        aws.quota.preset aws.quota.device-certificates pki.ca_certificate pki.ca_key pki.pkcs11_module pki.pkcs11_pin pki.previous fixture.name \
        fixture.port fixture.driver fixture.baud fixture.product fixture.resend fixture.answer_within \
        fixture.patience fixture.dtr fixture.rts fixture.usb fixture.pattern fixture.debounce fixture.poll fixture.poll_interval \
        fixture.reply_ack fixture.reply_pass fixture.reply_fail product.thermostat.serial product.thermostat.thing \
        product.thermostat.locker.scope product.thermostat.locker.name product.thermostat.locker.tags \
        product.thermostat.locker.id product.thermostat.policy.scope product.thermostat.policy.name \
        product.thermostat.policy.document product.thermostat.policy.tags \
        product.thermostat.certificate.issuer product.thermostat.certificate.key \
        product.thermostat.certificate.days product.thermostat.certificate.common_name \
        product.thermostat.certificate.register product.thermostat.deliver product.thermostat.directory \
        product.thermostat.repeat product.thermostat.require_batch product.thermostat.max_certificates \
        product.thermostat.endpoint product.thermostat.roots product.thermostat.verify shift.name \
        shift.start shift.end shift.days";
    let operations = Operation::ALL.iter().map(|it| format!("aws.quota.{}", it.kebab()));
    for key in keys.split_whitespace().map(str::to_owned).chain(operations) {
        assert!(explained.contains(&key), "{key}");
    }
}

#[test]
fn what_is_left_out_has_the_default_that_the_contract_names() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!((config.station.timezone_name.as_str(), config.station.backlog), ("UTC", 10_000));
    assert_eq!(config.journal.min_free, 256 << 20);
    assert_eq!(config.journal.seal_key, SecretRef::Path("/var/lib/linemint/seal.key".into()));
    assert_eq!(config.journal.keep_undelivered, Duration::from_secs(7 * 86_400));
    assert_eq!(config.api.socket, Path::new("/run/linemint/linemint.sock"));
    assert_eq!(config.aws.call_timeout, Duration::from_secs(10));
    assert_eq!(config.aws.quotas, crate::cloud::Quotas::aws_default());
    assert_eq!(config.shifts, [Shift::whole_day()]);
    let fixture = &config.fixtures[0];
    assert_eq!((fixture.baud, fixture.dtr), (115_200, Raised::Always));
    assert!(matches!(fixture.driver, Driver::Sfp));
    let waits = (fixture.resend.as_secs(), fixture.answer_within.as_secs(), fixture.patience.as_secs());
    assert_eq!(waits, (2, 60, 60));
    let rules = &config.products["thermostat"].rules;
    assert_eq!(rules.thing.to_string(), "{serial}");
    assert!(matches!(&rules.locker, LockerRule::Device { name, .. } if name.to_string() == "{serial}"));
    assert!(
        matches!(&rules.policy, PolicyRule::Device { name, tags, .. } if name.to_string() == "{serial}" && tags.is_empty())
    );
    assert_eq!((rules.repeat, rules.require_batch, rules.max_certificates), (Repeat::Return, false, 3));
    let certificate = &rules.certificate;
    assert_eq!(
        (certificate.key, certificate.days, certificate.register),
        (KeyOrigin::Station, 3_650, Register::WithoutCa)
    );
    assert_eq!(certificate.common_name.to_string(), "{serial}");
}

#[test]
fn paths_start_at_the_configurations_directory() {
    let config = parse(
        &with("#roots = ", "roots = ").replace("dir = \"/var/lib/linemint/journal\"", "dir = \"journal\""),
    )
    .unwrap();
    assert_eq!(config.journal.dir, Path::new("etc/journal"));
    assert_eq!(config.journal.seal_key, SecretRef::Path("etc/seal.key".into()));
    assert_eq!(config.products["thermostat"].rules.roots.as_deref().map(str::as_bytes), Some(PEM));
}

#[test]
fn where_aws_issues_there_is_no_register_and_pki_is_optional() {
    let by_aws = MINIMAL.replace("certificate = {}", "certificate = { issuer = \"aws\", key = \"device\" }");
    let config = parse(&by_aws).unwrap();
    let rule = &config.products["thermostat"].rules.certificate;
    assert_eq!((rule.register, rule.key), (Register::Aws, KeyOrigin::Device));
    assert!(config.pki.is_some(), "what stands there is checked all the same");
    let without: String = {
        let (before, after) = by_aws.split_once("[pki]").unwrap();
        let rest = after.split_once("\n[").unwrap().1;
        format!("{before}[{rest}")
    };
    assert!(parse(&without).unwrap().pki.is_none());
    let station = without.replace("issuer = \"aws\", ", "");
    assert!(parse(&station).unwrap_err().to_string().contains("pki: is missing"));
    assert_ne!(rule, &parse(MINIMAL).unwrap().products["thermostat"].rules.certificate);
}

/// The full file with the fixture's port given by what `usb` says.
fn with_usb(usb: &str) -> String {
    with("port = \"/dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0\"", usb)
}

#[test]
fn a_port_is_given_by_its_path_or_its_adapter_and_not_by_both() {
    let config =
        parse(&with_usb("usb = { vid = \"0403\", pid = \"6aB1\", serial = \"A1\", interface = 1 }")).unwrap();
    let id = UsbId { vid: 0x0403, pid: 0x6ab1, serial: Some("A1".to_owned()), interface: Some(1) };
    assert_eq!(config.fixtures[0].port, PortPlace::Usb(id));
    for (text, key, message) in [
        ("port = \"a\"\nusb = { vid = \"0403\", pid = \"6001\" }", "usb", "stands beside port"),
        ("", "port", "is missing"),
        ("usb = { vid = \"403\", pid = \"6001\" }", "usb.vid", "four hexadecimal digits"),
        ("usb = { vid = \"0403\" }", "usb.pid", "is missing"),
        ("usb = { vid = \"0403\", pid = \"6001\", serial = \"\" }", "usb.serial", "is empty"),
        ("usb = { vid = \"0403\", pid = \"6001\", seral = \"A1\" }", "usb.seral", "not a key"),
        ("usb = \"0403:6001\"", "usb", "must be a table"),
    ] {
        let errors = errors(&with_usb(text));
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert_eq!(errors[0].key, format!("fixture.nest-1.{key}"), "{text}");
        assert!(errors[0].message.contains(message), "{text}: {}", errors[0].message);
    }
    let again = "\n[[fixture]]\nname = \"nest-2\"\nusb = { vid = \"0403\", pid = \"6001\" }\nproduct = \"thermostat\"\n";
    let errors = errors(&(with_usb("usb = { vid = \"0403\", pid = \"6001\", serial = \"A1\" }") + again));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].message.contains("is the port of another fixture"), "{}", errors[0].message);
}

#[test]
fn fixtures_share_neither_name_nor_port() {
    let again = "\n[[fixture]]\nname = \"nest-1\"\nport = \"/dev/serial/by-id/./usb-FTDI_FT232R_A1-if00-port0\"\nproduct = \"thermostat\"\n";
    let errors = errors(&format!("{MINIMAL}{again}"));
    let keys: Vec<_> = errors.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["fixture.nest-1.name", "fixture.nest-1.port"]);
}

#[test]
fn scopes_take_the_keys_that_mean_something_with_them() {
    let policy = |it: &str| MINIMAL.replace("{ document = \"policies/thermostat.json\" }", it);
    let document = "document = \"policies/thermostat.json\"";
    for good in ["{ scope = \"none\" }", "{ scope = \"given\", name = \"a+b\" }"] {
        assert!(parse(&policy(good)).is_ok(), "{good}");
    }
    for (bad, key) in [
        (format!("{{ scope = \"none\", {document} }}"), "document"),
        ("{ scope = \"given\" }".to_owned(), "name"),
        ("{ scope = \"given\", name = \"a b\" }".to_owned(), "name"),
        ("{ scope = \"device\" }".to_owned(), "document"),
        (format!("{{ scope = \"product\", {document} }}"), "name"),
        (format!("{{ scope = \"product\", name = \"{{serial}}\", {document} }}"), "name"),
        (format!("{{ scope = \"product\", name = \"{{product}}/x\", {document} }}"), "name"),
        (format!("{{ name = \"{{product}}\", {document} }}"), "name"),
    ] {
        let errors = errors(&policy(&bad));
        assert_eq!(
            (errors.len(), errors[0].key.as_str()),
            (1, &*format!("product.thermostat.policy.{key}")),
            "{bad}"
        );
    }
    let locker = |it: &str| format!("{MINIMAL}locker = {it}\n");
    for good in ["{ scope = \"none\" }", "{ scope = \"given\", id = \"a1\" }", "{ tags = {} }"] {
        assert!(parse(&locker(good)).is_ok(), "{good}");
    }
    for bad in ["{ scope = \"given\" }", "{ scope = \"given\", id = \"a-1\" }", "{ id = \"a1\" }", "\"none\""]
    {
        assert_eq!(errors(&locker(bad)).len(), 1, "{bad}");
    }
}

#[test]
fn one_shared_policy_cannot_have_two_contents() {
    let lamp = |tags: &str| {
        format!(
            "{SHARED}\n[product.lamp]\nserial = \"[A-Z]{{5}}\"\ncertificate = {{}}\npolicy = {{ scope = \"product\", name = \"thermostat-device\", document = \"policies/thermostat.json\", tags = {tags} }}\n"
        )
    };
    assert!(parse(&lamp("{}")).is_ok());
    let errors = errors(&lamp("{ a = \"b\" }"));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.contains("also the policy of product \"lamp\""), "{errors:?}");
}

#[test]
fn an_endpoint_is_a_host_and_a_port() {
    let endpoint = |it: &str| {
        parse(&with(
            "#managed_integrations_endpoint = \"http://127.0.0.1:4599\"",
            &format!("managed_integrations_endpoint = \"{it}\""),
        ))
    };
    for good in ["http://127.0.0.1:4599", "https://vpce.example", "http://[::1]:80", "https://a.b/"] {
        let config = endpoint(good).unwrap_or_else(|errors| panic!("{good}: {errors}"));
        assert_eq!(config.aws.managed_integrations_endpoint.as_deref(), Some(good.trim_end_matches('/')));
    }
    for bad in [
        "",
        "127.0.0.1:4599",
        "ftp://a",
        "http://",
        "http://user:pw@a",
        "http://a/b",
        "http://a?b",
        "http://a:99999",
        "http://a:0",
        "http://a b",
    ] {
        assert!(endpoint(bad).is_err(), "{bad}");
    }
}

#[test]
fn quotas_are_the_regions_the_tables_and_the_shares() {
    let quotas = |region: &str, table: &str| {
        let text = MINIMAL
            .replace("region = \"eu-west-1\"", &format!("region = \"{region}\"\n[aws.quota]\n{table}"));
        parse(&text).unwrap_or_else(|errors| panic!("{errors}")).aws.quotas
    };
    let quotas_of_two = quotas("eu-west-1", "share = 0.5\ncreate-thing = 300\ndevice-certificates = 40.5");
    assert_eq!(quotas_of_two.rates[&Operation::CreateThing], 150.0);
    assert_eq!(quotas_of_two.rates[&Operation::CreatePolicy], 5.0);
    assert_eq!((quotas_of_two.device_certificates, quotas_of_two.share), (Some(20.25), 0.5));
    let unlimited = quotas("eu-west-1", "preset = \"unlimited\"\nget-policy = 3");
    assert_eq!((unlimited.rates.len(), unlimited.device_certificates), (1, None));
    let canada = quotas("ca-central-1", "");
    assert_eq!(
        (canada.rates[&Operation::CreateThing], canada.rates[&Operation::DescribeThing]),
        (50.0, 350.0)
    );
}

#[test]
fn the_hash_is_the_contents_not_the_layouts() {
    let hash = parse(MINIMAL).unwrap().hash;
    let layout = MINIMAL
        .replace("name = \"nest-1\"\n", "")
        .replace("product = \"thermostat\"\n", "product = 'thermostat' # !\nname = \"nest-1\"\n");
    assert_ne!(layout, MINIMAL);
    assert_eq!(parse(&layout).unwrap().hash, hash);
    assert_ne!(parse(&MINIMAL.replace("bench-1", "bench-2")).unwrap().hash, hash);
}

#[test]
fn a_key_that_cannot_be_seen_is_not_said_to_be_missing() {
    for key in ["/secret/ca.key", "ca.key"] {
        assert!(parse(&MINIMAL.replace("/etc/linemint/ca/ca.key", key)).is_ok(), "{key}");
    }
}

#[test]
fn a_file_from_windows_is_read_like_any_other() {
    let text = format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"));
    assert!(parse(&text).is_ok());
    let errors = errors(&text.replace("\"bench-1\"", "5"));
    assert_eq!((errors.len(), errors[0].line), (1, Some(5)));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_of_the_file() {
    let error = Config::load(Path::new("no/such/file.toml")).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("no/such/file.toml: failed to read it: ") && error.contains("\n  hint: "),
        "{error}"
    );
}

#[test]
fn no_half_or_garbled_file_makes_the_reader_panic() {
    for cut in (0..FULL.len()).step_by(61).filter(|it| FULL.is_char_boundary(*it)) {
        let (head, tail) = FULL.split_at(cut);
        // Whatever comes of too little or too much: an answer.
        let _ = parse(head);
        let _ = parse(&format!("{head}\"]{{=\u{2}é\n{tail}"));
        let _ = parse(tail);
    }
}

#[test]
fn a_connection_needs_a_key_that_the_station_has_and_a_server() {
    let on = "verify = \"tls\"\nendpoint = \"abc-ats.iot.eu-west-1.amazonaws.com\"\nroots = \"roots.pem\"\n";
    let with = |certificate: &str| {
        let certificate = format!("certificate = {{ {certificate} }}\n{on}");
        parse(&MINIMAL.replace("certificate = {}", &certificate))
    };
    let config = with("").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.products["thermostat"].rules.verify, crate::device::rules::Verify::Tls);
    for (certificate, message) in [
        ("key = \"device\"", "needs key = \"station\""),
        ("register = \"jitp\"", "means nothing with register = \"jitp\""),
    ] {
        let errors = with(certificate).unwrap_err().0;
        assert!(errors.len() == 1 && errors[0].message.contains(message), "{errors:?}");
        assert_eq!(errors[0].key, "product.thermostat.verify");
    }
    // Rules of before keep their hash: what is in flight is not made anew by an update.
    let plain = parse(MINIMAL).unwrap().products["thermostat"].rules.clone();
    assert!(!serde_json::to_string(&*plain).unwrap().contains("verify"));
}

#[test]
fn a_ca_key_in_a_token_takes_a_module_and_a_pin() {
    let with = |lines: &str| {
        let (old, new) = ("ca_key = \"credential:ca.key\"", lines);
        parse(&self::with(old, new))
    };
    let uri = "ca_key = \"pkcs11:token=Line%203;object=ca\"\n";
    let module = "pkcs11_module = \"/usr/lib/p11.so\"\n";
    let pin = "pkcs11_pin = \"credential:pin\"\n";
    let config = with(&[uri, module, pin].concat()).unwrap_or_else(|errors| panic!("{errors}"));
    let CaKeyRef::Token { uri: it, module: at, pin: secret } = config.pki.unwrap().ca_key else {
        panic!("a token")
    };
    assert_eq!((it.token.as_deref(), it.object.as_deref()), (Some("Line 3"), Some("ca")));
    assert_eq!((at.to_str(), secret), (Some("/usr/lib/p11.so"), SecretRef::Credential("pin".into())));
    let whole = "ca_key = \"pkcs11:token=a;object=b?module-path=/usr/lib/p11.so&pin-source=file:/run/pin\"\n";
    assert!(with(whole).is_ok());
    for (lines, message) in [
        ([uri, module].concat(), "has no PIN"),
        ([uri, pin].concat(), "has no module"),
        ([uri, pin, "pkcs11_module = \"/none.so\""].concat(), "/none.so does not exist"),
        ("ca_key = \"pkcs11:object=ca\"".to_owned(), "names no token"),
        (
            ["ca_key = \"pkcs11:token=a;object=b?pin-value=1\"\n", module].concat(),
            "a PIN does not belong here",
        ),
        (["ca_key = \"credential:ca.key\"\n", module].concat(), "means nothing without"),
    ] {
        let errors = with(&lines).unwrap_err().0;
        assert!(errors.len() == 1 && errors[0].message.contains(message), "{lines}: {errors:?}");
    }
}
