//! Every mistake is told with its place, and what to do about it.

use std::path::Path;

use super::{errors, parse, with};

/// What is replaced in the full file, by what; the key that is to be blamed and a part of the message.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("id = \"L3-S07\"", "id = \"L3/S07\"", "station.id", "L3/S07"),
    ("id = \"L3-S07\"", "", "station.id", "is missing in station"),
    ("id = \"L3-S07\"", "id = 7", "station.id", "must be a text, but is a whole number"),
    ("\"Europe/Vienna\"", "\"Europe/Wien\"", "station.timezone", "not a time zone"),
    ("backlog = 10000", "backlog = 0", "station.backlog", "must be from 1 to 100000"),
    ("backlog = 10000", "backlog = 100001", "station.backlog", "must be from 1 to 100000"),
    ("backlog = 10000", "backlog = \"10000\"", "station.backlog", "whole number"),
    ("min_free = \"256MiB\"", "min_free = 256", "journal.min_free", "has no unit"),
    ("min_free = \"256MiB\"", "min_free = \"256\"", "journal.min_free", "has no unit"),
    ("min_free = \"256MiB\"", "min_free = \"256MiX\"", "journal.min_free", "unit that is not known"),
    (
        "keep_undelivered = \"7d\"",
        "keep_undelivered = \"0s\"",
        "journal.keep_undelivered",
        "must be from 1s to",
    ),
    ("keep_undelivered = \"7d\"", "keep_undeliverd = \"7d\"", "journal.keep_undeliverd", "not a key"),
    (
        "#seal_key = \"credential:seal.key\"",
        "seal_key = \"credential:../x\"",
        "journal.seal_key",
        "not the name of a credential",
    ),
    ("region = \"eu-west-1\"", "region = \"Ireland\"", "aws.region", "not the name of an AWS Region"),
    ("call_timeout = \"10s\"", "call_timeout = 10", "aws.call_timeout", "has no unit"),
    ("#account = \"123456789012\"", "account = \"1234-5678-9012\"", "aws.account", "not the number"),
    ("#account = \"123456789012\"", "account = 123456789012", "aws.account", "must be a text"),
    (
        "#ca_bundle = \"/etc/ssl/plant.pem\"",
        "ca_bundle = \"none.pem\"",
        "aws.ca_bundle",
        "failed to read etc/none.pem",
    ),
    ("share = 0.5", "share = 0", "aws.quota.share", "above 0"),
    ("share = 0.5", "share = 1.5", "aws.quota.share", "at most 1"),
    ("share = 0.5", "share = nan", "aws.quota.share", "above 0"),
    ("preset = \"aws-default\"", "preset = \"aws-defualt\"", "aws.quota.preset", "not known"),
    ("\ncreate-policy = 10", "\ncreate-polcy = 10", "aws.quota.create-polcy", "not an AWS operation"),
    ("\ncreate-policy = 10", "\ncreate-policy = -1", "aws.quota.create-policy", "above 0"),
    ("\ncreate-policy = 10", "\ncreate-policy = inf", "aws.quota.create-policy", "above 0"),
    (
        "ca_certificate = \"/etc/linemint/ca.pem\"",
        "ca_certificate = \"key.pem\"",
        "pki.ca_certificate",
        "holds a private key",
    ),
    ("ca_key = \"credential:ca.key\"", "ca_key = \"none.key\"", "pki.ca_key", "does not exist"),
    ("ca_key = \"credential:ca.key\"", "", "pki.ca_key", "is missing in pki"),
    ("verify = \"none\"", "verify = \"tls\"", "product.thermostat.verify", "\"tls\" needs endpoint"),
    ("verify = \"none\"", "verify = \"both\"", "product.thermostat.verify", "not known"),
    (
        "#previous = { ca_certificate = \"/etc/linemint/ca-2026.pem\" }",
        "previous = { ca_certificate = \"/etc/linemint/ca.pem\" }",
        "pki.previous",
        "is the CA that issues now",
    ),
    ("baud = 115200", "baud = \"115200\"", "fixture.nest-1.baud", "must be a whole number"),
    ("baud = 115200", "baud = 0", "fixture.nest-1.baud", "must be from 300"),
    ("\nproduct = \"thermostat\"", "\nproduct = \"thermostart\"", "fixture.nest-1.product", "no product"),
    ("name = \"nest-1\"", "name = \"nest 1\"", "fixture[1].name", "nest 1"),
    ("resend = \"2s\"", "resend = \"61s\"", "fixture.nest-1.resend", "must be from"),
    (
        "answer_within = \"60s\"",
        "answer_within = \"1s\"",
        "fixture.nest-1.answer_within",
        "shorter than resend",
    ),
    ("dtr = \"always\"", "dtr = \"allways\"", "fixture.nest-1.dtr", "not known"),
    (
        "serial = \"^[A-Z0-9]{12,50}$\"",
        "serial = \"[A-Z\"",
        "product.thermostat.serial",
        "not a regular expression",
    ),
    (
        "serial = \"^[A-Z0-9]{12,50}$\"",
        "serial = \"é\"",
        "product.thermostat.serial",
        "matches no serial number",
    ),
    (
        "serial = \"^[A-Z0-9]{12,50}$\"",
        "serial = \"[A-Z]{1,65}\"",
        "product.thermostat.certificate.common_name",
        "65 characters long",
    ),
    ("serial = \"^[A-Z0-9]{12,50}$\"", "", "product.thermostat.serial", "is missing"),
    ("thing = \"{serial}\"", "thing = \"{sereal}\"", "product.thermostat.thing", "not known"),
    (
        "thing = \"{serial}\"",
        "thing = \"{product}\"",
        "product.thermostat.thing",
        "all devices would share one",
    ),
    ("thing = \"{serial}\"", "thing = \"{product}.{serial}\"", "product.thermostat.thing", "'.'"),
    ("thing = \"{serial}\"", "thing = \"{serial}-{batch}\"", "product.thermostat.thing", "without one"),
    ("tags = { product", "tags = { \"aws:x\"", "product.thermostat.locker.tags.aws:x", "AWS keeps"),
    ("tags = {}", "tags = { a = \"a*\" }", "product.thermostat.policy.tags.a", "'*'"),
    (
        "policies/thermostat.json",
        "none.json",
        "product.thermostat.policy.document",
        "failed to read etc/none.json",
    ),
    ("policies/thermostat.json", "broken.json", "product.thermostat.policy.document", "is not JSON"),
    ("policies/thermostat.json", "long.json", "product.thermostat.policy.document", "AWS takes 2048"),
    ("days = 3650", "days = 0", "product.thermostat.certificate.days", "must be from 1 to 36500"),
    ("days = 3650", "days = 36501", "product.thermostat.certificate.days", "must be from 1 to 36500"),
    (
        "issuer = \"station\"",
        "issuer = \"aws\"",
        "product.thermostat.certificate.register",
        "means nothing with issuer",
    ),
    ("issuer = \"station\"", "issuer = \"amazon\"", "product.thermostat.certificate.issuer", "not known"),
    ("max_certificates = 3", "max_certificates = 0", "product.thermostat.max_certificates", "must be from 1"),
    (
        "repeat = \"return\"",
        "repeat = \"return\"\nupc = \"036000291453\"",
        "product.thermostat.upc",
        "2 would be right",
    ),
    (
        "repeat = \"return\"",
        "repeat = \"return\"\nupc = \"4006381333931\"",
        "product.thermostat.upc",
        "12 digits",
    ),
    ("repeat = \"return\"", "repeat = \"return\"\nean = \"40063813\"", "product.thermostat.ean", "no EAN-13"),
    (
        "scope = \"device\"\n# With scope = \"device\" or",
        "scope = \"batch\"\n# With scope = \"device\" or",
        "product.thermostat.locker.name",
        "no {serial} or {mac}",
    ),
    (
        "repeat = \"return\"",
        "repeat = \"return\"\nmanaged_thing = {}",
        "product.thermostat.managed_thing",
        "needs the product's number",
    ),
    ("require_batch = false", "require_batch = \"no\"", "product.thermostat.require_batch", "true or false"),
    ("repeat = \"return\"", "repeat = \"renewal\"", "product.thermostat.repeat", "not known"),
    (
        "#endpoint = \"abc-",
        "endpoint = \"https://abc-",
        "product.thermostat.endpoint",
        "not the name of a host",
    ),
    ("#roots = \"roots.pem\"", "roots = \"huge.pem\"", "product.thermostat.roots", "huge.pem"),
    ("#roots = \"roots.pem\"", "roots = \"key.pem\"", "product.thermostat.roots", "private key"),
    ("name = \"late\"", "name = \"early\"", "shift.early.name", "another shift"),
    ("name = \"late\"\nstart = \"14:00\"", "name = \"late\"\nstart = \"13:30\"", "shift.late", "overlaps"),
    ("#takt = \"24s\"", "takt = \"0s\"", "station.takt", "must be from 100ms"),
    ("report_grace = \"10m\"", "report_grace = 10", "station.report_grace", "has no unit"),
    ("report_keep = 100", "report_keep = 0", "station.report_keep", "must be from 1 to 10000"),
    ("#report_url = ", "report_url = ", "station.report_url", "needs report_dir"),
    (
        "#report_dir = \"/var/lib/linemint/reports\"",
        "report_dir = \"r\"\nreport_url = \"ftp://mes\"",
        "station.report_url",
        "not an http or https URL",
    ),
    (
        "#report_dir = \"/var/lib/linemint/reports\"",
        "report_dir = \"r\"\nreport_hook = [\"mail\"]",
        "station.report_hook",
        "full path of a program",
    ),
    ("#days = [\"mon\",", "days = [\"mo\",", "shift.early.days", "is not one of mon tue"),
    (
        "#days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]",
        "days = []",
        "shift.early.days",
        "names no day",
    ),
    (
        "#days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]",
        "days = \"mon\"",
        "shift.early.days",
        "a list of texts",
    ),
    ("#days_off = [\"2026-12-25\",", "days_off = [\"25.12.2026\",", "station.days_off", "is not a day"),
    ("start = \"22:00\"", "start = \"22\"", "shift.night.start", "time of day"),
];

#[test]
fn every_mistake_is_told_with_file_line_key_and_hint() {
    for (from, to, key, message) in MISTAKES {
        let text = with(from, to);
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{to}: {errors:#?}");
        let error = &errors[0];
        assert_eq!((error.key.as_str(), error.file.as_path()), (*key, Path::new("etc/config.toml")), "{to}");
        assert!(error.message.contains(message), "{to}: {error}");
        assert!(error.hint.is_some(), "{to}: {error}");
        let line = text.lines().nth(error.line.unwrap() - 1).unwrap();
        let last = key.rsplit('.').next().unwrap();
        let header = key.rsplit('.').nth(1).unwrap_or(key);
        let header = header.split('[').next().unwrap();
        // The line of the key, of its table where the key is missing, or of the fixture or shift.
        assert!(
            line.contains(last) || line.contains(header) || line.starts_with("[["),
            "{to}: {line}: {error}"
        );
    }
}

#[test]
fn the_mistakes_of_a_whole_file_are_told_at_once_in_its_order() {
    let text = "[staton]\nid = \"x\"\n[journal]\nmin_free = 5\n[product.lamp]\nserail = \"A\"\nserial = \".+\"\ncertificate = {}\n";
    let shown = parse(text).unwrap_err().to_string();
    for line in [
        "etc/config.toml:1: station: is missing in the file",
        "etc/config.toml:1: staton: is not a key that linemint knows\n  hint: did you mean station?",
        "etc/config.toml:1: fixture: is missing",
        "etc/config.toml:1: aws: is missing",
        "etc/config.toml:1: pki: is missing",
        "etc/config.toml:3: journal.dir: is missing in journal",
        "etc/config.toml:4: journal.min_free: has no unit",
        "etc/config.toml:5: product.lamp.policy: is missing in product.lamp",
        "etc/config.toml:6: product.lamp.serail: is not a key that linemint knows\n  hint: did you mean serial?",
        "etc/config.toml:7: product.lamp.serial: a serial number may hold '/', which AWS does not allow in a thing name",
        "etc/config.toml:7: product.lamp.serial: a serial number may hold '/', which AWS does not allow in a locker name",
        "etc/config.toml:7: product.lamp.serial: can become 128 characters long",
    ] {
        assert!(shown.contains(line), "{line}\n\n{shown}");
    }
    assert_eq!(errors(text).len(), 12);
    assert!(errors(text).is_sorted_by_key(|it| it.line));
}

#[test]
fn broken_toml_is_told_by_its_line_and_nothing_else_is() {
    let errors = errors("[station]\nid = \n[journal\ndir = 5\n");
    assert!(
        errors.iter().any(|it| it.line == Some(2)) && errors.iter().any(|it| it.line == Some(3)),
        "{errors:?}"
    );
    assert!(errors.iter().all(|it| it.message.starts_with("is not valid TOML")));
    assert!(errors.iter().all(|it| it.hint.is_some()));
    assert!(super::errors("[station]\nid = \"a\"\nid = \"b\"\n").iter().any(|it| it.line == Some(3)));
}
