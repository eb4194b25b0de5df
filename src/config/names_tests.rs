use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::string::string_regex;
use regex::Regex;

use super::*;
use crate::device::rules::Filling;
use crate::device::serial::{Mac, SerialNumber, SerialPattern};

const PATTERNS: [&str; 16] = [
    "[A-Z0-9]{12,50}",
    "[A-Z]+",
    ".+",
    "\\w{4}",
    "(?i)sn[0-9]{3,}",
    "SN(-[0-9]{2}){1,3}",
    "A|B{2,80}|",
    "[^/]{1,8}",
    "(?:ab?c*){1,40}",
    "[A-Z ]{5}",
    "\\d{8}/[AB]",
    "(?-u:[a-f]{2,9})",
    "SN:[0-9a-f]{12}",
    "[!-~]{1,64}",
    "x{0}y[+=,.@]{3}",
    "é?[a-z]{3,120}",
];

const TEMPLATES: [&str; 9] = [
    "{serial}",
    "{product}-{serial}",
    "{serial}-{mac}",
    "{batch}-{serial}",
    "{serial}{batch}",
    "{station}:{serial}",
    "{mac}",
    "a b/{serial}",
    "0123456789012345678901234567890123456789-{serial}",
];

/// Each rule with AWS's own pattern for it.
const RULES: [(NameRule, &str); 6] = [
    (THING, "^[a-zA-Z0-9:_-]{1,128}$"),
    (POLICY, "^[0-9A-Za-z_+=,.@-]{1,128}$"),
    (LOCKER, "^[A-Za-z0-9-_ ]{1,128}$"),
    (COMMON_NAME, "^.{1,64}$"),
    (POLICY_TAG_VALUE, "^[0-9A-Za-z_.:/=+@ -]{0,256}$"),
    (LOCKER_TAG_VALUE, "^.{0,256}$"),
];

static AWS: LazyLock<Vec<(NameRule, Regex)>> =
    LazyLock::new(|| RULES.iter().map(|(rule, aws)| (*rule, Regex::new(aws).unwrap())).collect());

static SERIALS: LazyLock<Vec<(&str, SerialPattern)>> =
    LazyLock::new(|| PATTERNS.iter().map(|it| (*it, SerialPattern::new(it).unwrap())).collect());

fn place() -> errors::Place {
    errors::Place { key: String::new(), offset: 0 }
}

fn sources<'a>(pattern: &str, serial_place: &'a errors::Place, batch: bool) -> Sources<'a> {
    let serial = Language::of_serials(pattern).unwrap();
    Sources { serial, serial_place, station: "L3-S07", product: "lamp", batch }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The promise of this module: what the analysis accepts, AWS takes.
    #[test]
    fn an_accepted_template_never_yields_an_illegal_name(
        (which, serial) in (0..PATTERNS.len())
            .prop_flat_map(|it| (Just(it), string_regex(PATTERNS[it]).unwrap())),
        mac in "[0-9a-f]{12}",
        batch in "[A-Za-z0-9_-]{1,64}",
    ) {
        let (pattern, compiled) = &SERIALS[which];
        let Ok(serial) = SerialNumber::parse_as(&serial, compiled) else { return Ok(()) };
        let place = place();
        let sources = sources(pattern, &place, true);
        let language = sources.serial;
        prop_assert!((language.min..=language.max).contains(&serial.as_str().len()));
        let mac = Mac::parse(&mac).unwrap();
        let with =
            Filling { serial: &serial, mac: Some(&mac), batch: Some(&batch), station: "L3-S07", product: "lamp" };
        for text in TEMPLATES {
            let template = Template::parse(text).unwrap();
            for (rule, aws) in AWS.iter() {
                if sources.check(&template, rule).is_ok() {
                    let name = template.fill(&with);
                    prop_assert!(aws.is_match(&name), "{name:?} as {}", rule.what);
                }
            }
        }
    }

    /// Two devices with one name would be one device to AWS.
    #[test]
    fn an_accepted_name_is_one_devices_own(
        serials in ("[AB-]{1,3}", "[AB-]{1,3}"),
        batches in ("[AB-]{1,3}", "[AB-]{1,3}"),
    ) {
        let pattern = SerialPattern::new("[AB-]{1,3}").unwrap();
        let place = place();
        let sources = sources("[AB-]{1,3}", &place, true);
        let name = |template: &Template, serial: &str, batch| {
            let serial = SerialNumber::parse_as(serial, &pattern).unwrap();
            template.fill(&Filling { serial: &serial, mac: None, batch: Some(batch), station: "s", product: "p" })
        };
        for text in ["{serial}{batch}", "{serial}-{batch}", "{serial}:{batch}", "{batch}A-:-{serial}", "{serial}{station}"] {
            let template = Template::parse(text).unwrap();
            if sources.check_distinct(&template).is_ok() && serials.0 != serials.1 {
                prop_assert_ne!(name(&template, &serials.0, &batches.0), name(&template, &serials.1, &batches.1));
            }
        }
    }
}

#[test]
fn the_analysis_knows_lengths_and_characters_of_a_pattern() {
    for (pattern, min, max, characters) in [
        ("[A-C]{2,5}", 2, 5, "ABC"),
        ("^(SN)?[0-1]+$", 1, 128, "01NS"),
        ("(?i)a|bc", 1, 2, "ABCabc"),
        ("é|x", 1, 1, "x"),
        ("(é|y)*z{0,2}", 1, 128, "yz"),
        ("", 1, 0, ""),
    ] {
        let language = Language::of_serials(pattern);
        if max == 0 {
            assert_eq!(language, None, "{pattern}");
            continue;
        }
        let language = language.unwrap();
        assert_eq!((language.min, language.max), (min, max), "{pattern}");
        assert_eq!(language.characters().collect::<String>(), characters, "{pattern}");
    }
    for none in ["é+", "a b", "x{129}", "[\\s]+", "("] {
        assert_eq!(Language::of_serials(none), None, "{none}");
    }
}

#[test]
fn what_can_go_wrong_is_told_by_example() {
    let place = place();
    let check = |pattern, template: &str, rule| {
        sources(pattern, &place, false).check(&Template::parse(template).unwrap(), rule).unwrap_err().message
    };
    assert_eq!(
        check(".+", "{serial}", &THING),
        "a serial number may hold '/', which AWS does not allow in a thing name"
    );
    assert_eq!(
        check("[A-Z]+", "{serial}", &COMMON_NAME),
        "can become 128 characters long; a certificate's common name has at most 64"
    );
    assert_eq!(
        check("[A-Z]{9}", "a/{serial}", &THING),
        "the text holds '/', which AWS does not allow in a thing name"
    );
    assert!(check("[A-Z]{9}", "{serial}-{batch}", &THING).contains("may come without one"));
    assert_eq!(check("[A-Z]{9}", "", &THING), "can become empty; a thing name cannot");
}

#[test]
fn a_name_for_each_device_and_one_for_all_are_told_apart() {
    let place = place();
    let sources = sources("[A-Z]{1,9}", &place, true);
    let parse = |it| Template::parse(it).unwrap();
    for own in ["{serial}", "x-{mac}", "{batch}{mac}", "{serial}.{batch}"] {
        assert!(sources.check_distinct(&parse(own)).is_ok(), "{own}");
        assert!(sources.shared(&parse(own)).is_err(), "{own}");
    }
    for shared in ["{product}", "x", "{station}-{batch}"] {
        assert!(sources.check_distinct(&parse(shared)).is_err(), "{shared}");
    }
    assert!(sources.check_distinct(&parse("{serial}{batch}")).is_err());
    assert_eq!(sources.shared(&parse("{station}-{product}x")).as_deref(), Ok("L3-S07-lampx"));
}
