//! Scanners, and credentials that go into a directory.

use super::*;

/// The scanner's file with `from` replaced.
fn scanner_with(from: &str, to: &str) -> String {
    assert_eq!(SCANNER.matches(from).count(), 1, "{from}");
    SCANNER.replace(from, to)
}

fn scanner_of(text: &str) -> crate::fixture::scanner::ScannerOptions {
    match parse(text).unwrap_or_else(|errors| panic!("{errors}")).fixtures.remove(0).driver {
        Driver::Scanner(options) => *options,
        Driver::Sfp => panic!("it is no scanner"),
    }
}

#[test]
fn a_scanner_has_the_defaults_of_the_protocol() {
    let options = scanner_of(&scanner_with("reply_ack = \"\\u0006\"\nreply_fail = \"\\u0015\"\n", ""));
    assert_eq!((options.debounce, options.poll), (Duration::from_secs(3), None));
    assert_eq!(options.replies, crate::fixture::scanner::Replies::default());
    let reading = options.pattern.read("]C1LM0123456789;00:11:22:33:44:55").unwrap();
    assert_eq!(
        (reading.serial.as_str(), reading.mac.as_deref()),
        ("LM0123456789", Some("00:11:22:33:44:55"))
    );
    let options = scanner_of(SCANNER);
    assert_eq!(options.replies.ack.unwrap().fill("a", "b", "c"), "\u{6}");
    let polled =
        scanner_of(&scanner_with("baud = 9600", "poll = \"SYST:SER?\\n\"\npoll_interval = \"250ms\""));
    let poll = polled.poll.unwrap();
    assert_eq!((poll.text.as_str(), poll.interval), ("SYST:SER?\n", Duration::from_millis(250)));
}

#[test]
fn a_relative_directory_starts_at_the_configurations() {
    let config = parse(&scanner_with("\"/var/lib/linemint/out\"", "\"out\"")).unwrap();
    assert_eq!(config.products["thermostat"].deliver, Deliver::Directory("etc/out".into()));
}

#[test]
fn what_cannot_work_with_a_scanner_is_refused() {
    let fixture = "fixture.scanner-1";
    let mistakes: &[(&str, &str, String, &str)] = &[
        (
            "certificate = {}",
            "certificate = { key = \"device\" }",
            format!("{fixture}.product"),
            "no signing request",
        ),
        (
            "deliver = \"directory\"\ndirectory = \"/var/lib/linemint/out\"",
            "deliver = \"fixture\"",
            format!("{fixture}.product"),
            "can store nothing",
        ),
        (
            "deliver = \"directory\"\ndirectory = \"/var/lib/linemint/out\"",
            "deliver = \"directory\"",
            "product.thermostat.directory".to_owned(),
            "is missing",
        ),
        ("\"/var/lib/linemint/out\"", "\"/\"", "product.thermostat.directory".to_owned(), "root directory"),
        ("\"/var/lib/linemint/out\"", "\"\"", "product.thermostat.directory".to_owned(), "not a path"),
        ("(?<serial>", "(?<seral>", format!("{fixture}.pattern"), "no group named serial"),
        ("(?<serial>", "(?<serial", format!("{fixture}.pattern"), "not a regular expression"),
        ("baud = 9600", "debounce = \"11m\"", format!("{fixture}.debounce"), "must be from 0ms to 10m"),
        ("baud = 9600", "poll_interval = \"1s\"", format!("{fixture}.poll_interval"), "without poll"),
        (
            "baud = 9600",
            "poll = \"?\"\npoll_interval = \"99ms\"",
            format!("{fixture}.poll_interval"),
            "must be from 100ms",
        ),
        ("baud = 9600", "poll = \"\"", format!("{fixture}.poll"), "1 to 128 bytes"),
        ("\"\\u0006\"", "\"{nest}\"", format!("{fixture}.reply_ack"), "{nest} is not known here"),
        ("\"\\u0015\"", "\"{serial\"", format!("{fixture}.reply_fail"), "brace"),
        ("\"\\u0015\"", "\"\"", format!("{fixture}.reply_fail"), "is empty"),
    ];
    for (from, to, key, message) in mistakes {
        let errors = errors(&scanner_with(from, to));
        assert_eq!(errors.len(), 1, "{to}: {errors:?}");
        assert_eq!(&errors[0].key, key, "{errors:?}");
        assert!(errors[0].message.contains(message), "{errors:?}");
        assert!(errors[0].hint.is_some());
    }
    let without = SCANNER.lines().filter(|it| !it.starts_with("pattern")).collect::<Vec<_>>().join("\n");
    assert_eq!(errors(&without)[0].key, format!("{fixture}.pattern"));
    // Under the other driver, and with the other delivery, each key is told.
    for line in ["pattern = 'x'", "poll = \"?\"", "debounce = \"1s\"", "reply_pass = \"x\""] {
        let errors = errors(&with("dtr = \"always\"\n", &format!("dtr = \"always\"\n{line}\n")));
        assert!(errors[0].message.contains("belongs to the scanner driver"), "{errors:?}");
    }
    let errors = errors(&with("deliver = \"fixture\"", "deliver = \"fixture\"\ndirectory = \"out\""));
    assert!(errors[0].message.contains("means nothing with deliver = \"fixture\""), "{errors:?}");
}
