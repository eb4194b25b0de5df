//! `[product.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Product;
use super::errors;
use super::files;
use super::names::{self, Language, NameRule, Sources};
use super::policy;
use super::station::{bad_certificates, name, read};
use super::table::{At, Table};
use crate::device::article::ArticleNumber;
use crate::device::rules::{
    CertificateRule, KeyOrigin, LockerRule, ManagedRole, ManagedThingRule, Place, PolicyRule, ProductRules,
    Register, Repeat, Template, Verify,
};
use crate::device::serial::SerialPattern;
use crate::line::Deliver;

/// The server's roots go to the device in a frame of at most 16,384 bytes, in which they are not
/// alone and each line end takes two characters.
const MAX_ROOTS: u64 = 8 << 10;

/// Most tags of one resource ([gr-core] in the project's AWS facts).
const MAX_TAGS: usize = 50;

/// The products by name, and every name that the file gives to one, be it valid or not.
pub(super) fn products(root: &Table<'_>, station: &str) -> (BTreeMap<String, Product>, Vec<String>) {
    let (mut products, mut named) = (BTreeMap::new(), Vec::new());
    let Some(table) = root.need_table("product", "[product.NAME] with serial, policy and certificate") else {
        return (products, named);
    };
    for (at, child) in table.children() {
        named.push(at.value.to_owned());
        let place = child.place.clone();
        let name = name(&table, &at);
        let product = product(child, name.as_deref().unwrap_or("x"), station);
        if let (Some(name), Some(product)) = (name, product) {
            check_shared_policy(&table, &place, &products, &product);
            products.insert(name, product);
        }
    }
    (products, named)
}

/// Two products may share one policy, but then it has to be the same.
fn check_shared_policy(
    table: &Table<'_>,
    place: &errors::Place,
    products: &BTreeMap<String, Product>,
    new: &Product,
) {
    let Some((name, content)) = shared_policy(&new.rules) else { return };
    for other in products.values() {
        if shared_policy(&other.rules).is_some_and(|it| it.0 == name && it.1 != content) {
            let other = &other.rules.product;
            let message = format!(
                "{name:?} is also the policy of product {other:?}, with another document or other tags"
            );
            table.problem(&place.child("policy.name"), message, "name it by {product}, or use one document");
        }
    }
}

type PolicyContent<'a> = (&'a str, Vec<(&'a String, String)>);

fn shared_policy(rules: &ProductRules) -> Option<(String, PolicyContent<'_>)> {
    let PolicyRule::Product { name, document, tags } = &rules.policy else { return None };
    // Nothing but station and product can stand in them.
    let fill = |it: &Template| {
        it.to_string().replace("{station}", &rules.station).replace("{product}", &rules.product)
    };
    Some((fill(name), (document, tags.iter().map(|(key, value)| (key, fill(value))).collect())))
}

fn product(table: Table<'_>, product: &str, station: &str) -> Option<Product> {
    let serial = serial(&table);
    let require_batch = table.flag("require_batch", false);
    let serial_place = table.place_of("serial");
    let sources = serial.as_ref().map(|it| Sources {
        serial: it.2,
        serial_place: &serial_place,
        station,
        product,
        batch: require_batch,
    });
    let sources = sources.as_ref();
    let thing = device_name(&table, "thing", &names::THING, sources);
    let locker = match table.table("locker") {
        Some(table) => locker(table, sources),
        None if table.has("locker") => None,
        None => default_locker(&table, sources),
    };
    let policy_example = "policy = { scope = \"device\", document = \"FILE\" }";
    let policy = table.need_table("policy", policy_example).and_then(|it| policy::policy(it, sources));
    let certificate =
        table.need_table("certificate", "certificate = {}").and_then(|it| certificate(it, sources));
    let deliver = deliver(&table);
    let repeats = [("return", Repeat::Return), ("renew", Repeat::Renew), ("reject", Repeat::Reject)];
    let repeat = table.choice("repeat", Repeat::Return, &repeats);
    let max_certificates = table.whole("max_certificates", 3, 1..=1_000);
    let endpoint = endpoint(&table);
    let roots = roots(&table);
    let verify = verify(&table, certificate.as_ref());
    let article = article(&table);
    let labels = labels(&table, sources);
    let managed_thing = managed_thing(&table, sources);
    table.finish();
    let (pattern_text, serial, _) = serial?;
    // The thing's attribute `linemint` is the station's id: its characters and length are legal there.
    let rules = ProductRules {
        product: product.to_owned(),
        station: station.to_owned(),
        thing: thing?,
        locker: locker?,
        policy: policy?,
        certificate: certificate?,
        repeat,
        require_batch,
        max_certificates,
        endpoint,
        roots,
        verify,
        article,
        managed_thing,
    };
    Some(Product { rules: Arc::new(rules), serial, pattern_text, deliver: deliver?, labels })
}

/// Where the credentials go.
fn deliver(table: &Table<'_>) -> Option<Deliver> {
    if !table.choice("deliver", false, &[("fixture", false), ("directory", true)]) {
        if let Some(place) = table.known("directory") {
            let hint = "remove it, or set deliver = \"directory\"";
            table.problem(&place, "means nothing with deliver = \"fixture\"", hint);
        }
        return Some(Deliver::Fixture);
    }
    let at = table.need_path("directory", "/var/lib/linemint/out")?;
    let directory = at.value;
    if directory.parent().is_none() {
        table.problem(&at.place, "cannot be the root directory", "use /var/lib/linemint/out");
        return None;
    }
    Some(Deliver::Directory(directory))
}

/// `upc` or `ean`: the check digit has to be right.
fn article(table: &Table<'_>) -> Option<ArticleNumber> {
    let (upc, ean) = (table.text("upc"), table.text("ean"));
    if let (Some(_), Some(at)) = (&upc, &ean) {
        table.problem(&at.place, "stands beside upc: a product has one number", "remove one of the two");
        return None;
    }
    let digits = if upc.is_some() { 12 } else { 13 };
    let at = upc.or(ean)?;
    match ArticleNumber::parse(at.value) {
        Ok(number) if at.value.len() == digits => Some(number),
        Ok(_) => {
            table.problem(
                &at.place,
                format!("has not {digits} digits"),
                "a UPC-A has 12 (upc), an EAN-13 13 (ean)",
            );
            None
        }
        Err(error) => {
            table.problem(
                &at.place,
                error.to_string(),
                "write all its digits, the last one is the check digit",
            );
            None
        }
    }
}

/// `managed_thing = { role = … }`: what authenticates it is its serial and article number.
fn managed_thing(table: &Table<'_>, sources: Option<&Sources<'_>>) -> Option<ManagedThingRule> {
    let child = table.table("managed_thing")?;
    let roles = [("device", ManagedRole::Device), ("controller", ManagedRole::Controller)];
    let role = child.choice("role", ManagedRole::Device, &roles);
    let place = child.place.clone();
    child.finish();
    if !table.has("upc") && !table.has("ean") {
        let message = "needs the product's number: a managed thing is known by its serial and article number";
        table.problem(&place, message, "add upc = \"…\" or ean = \"…\"");
    }
    let serial = template(table, &At { value: "{serial}", place: place.clone() })?;
    if let Some(Err(bad)) = sources.map(|it| it.check(&serial, &names::MANAGED_SERIAL)) {
        table.problem(&place, bad.message, bad.hint);
    }
    Some(ManagedThingRule { role })
}

/// The directory for labels, whose serial numbers have to fit on one.
fn labels(table: &Table<'_>, sources: Option<&Sources<'_>>) -> Option<PathBuf> {
    let at = table.path("labels")?;
    if at.value.parent().is_none() {
        table.problem(&at.place, "cannot be the root directory", "use /var/lib/linemint/labels");
        return None;
    }
    let serial = template(table, &At { value: "{serial}", place: at.place.clone() })?;
    if let Some(Err(bad)) = sources.map(|it| it.check(&serial, &names::LABEL)) {
        table.problem(&at.place, bad.message, bad.hint);
        return None;
    }
    Some(at.value)
}

fn serial(table: &Table<'_>) -> Option<(String, SerialPattern, Language)> {
    let at = table.need_text("serial", "^[A-Z0-9]{12,50}$")?;
    let hint = "write a regular expression for the whole serial number, as in \"[A-Z0-9]{12,50}\"";
    let pattern = match SerialPattern::new(at.value) {
        Ok(pattern) => pattern,
        Err(error) => {
            // regex draws the place of the error over several lines; its last line says what it is.
            let error = error.to_string();
            let error = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            table.problem(&at.place, format!("is not a regular expression: {error}"), hint);
            return None;
        }
    };
    match Language::of_serials(at.value) {
        Some(language) => Some((at.value.to_owned(), pattern, language)),
        None => {
            let message =
                "matches no serial number: they have 1 to 128 printable ASCII characters without blanks";
            table.problem(&at.place, message, hint);
            None
        }
    }
}

/// Parses a template.
pub(super) fn template(table: &Table<'_>, at: &At<&str>) -> Option<Template> {
    match Template::parse(at.value) {
        Ok(template) => Some(template),
        Err(error) => {
            table.problem(&at.place, error.to_string(), "write places as in \"{product}-{serial}\"");
            None
        }
    }
}

/// The template at `key`, `{serial}` by default, all of whose names are legal.
fn legal(
    table: &Table<'_>,
    key: &'static str,
    rule: &NameRule,
    sources: Option<&Sources<'_>>,
) -> Option<At<Template>> {
    let at = table.text(key).unwrap_or_else(|| At { value: "{serial}", place: table.place_of(key) });
    let template = template(table, &at)?;
    if let Some(sources) = sources
        && let Err(bad) = sources.check(&template, rule)
    {
        // Where nobody has written the template, only the pattern can be at fault.
        let pattern = bad.pattern || !table.has(key);
        table.problem(if pattern { sources.serial_place } else { &at.place }, bad.message, bad.hint);
        return None;
    }
    Some(At { value: template, place: at.place })
}

/// As [`legal`], and no two devices have the same.
pub(super) fn device_name(
    table: &Table<'_>,
    key: &'static str,
    rule: &NameRule,
    sources: Option<&Sources<'_>>,
) -> Option<Template> {
    let at = legal(table, key, rule, sources)?;
    if let Some(Err(bad)) = sources.map(|it| it.check_distinct(&at.value)) {
        table.problem(&at.place, bad.message, bad.hint);
        return None;
    }
    Some(at.value)
}

/// Takes down keys that have no meaning with `scope`.
pub(super) fn irrelevant(table: &Table<'_>, keys: &[&'static str], scope: &str) {
    for place in keys.iter().filter_map(|key| table.known(key)) {
        table.problem(
            &place,
            format!("means nothing with scope = \"{scope}\""),
            "remove it, or choose another scope",
        );
    }
}

/// `tags = { KEY = "TEMPLATE" }`.
pub(super) fn tags(
    table: &Table<'_>,
    key_rule: &NameRule,
    value_rule: &NameRule,
    sources: Option<&Sources<'_>>,
) -> BTreeMap<String, Template> {
    let Some(table) = table.table("tags") else { return BTreeMap::new() };
    let texts = table.texts();
    if texts.len() > MAX_TAGS {
        let message = format!("has {} tags; AWS takes {MAX_TAGS}", texts.len());
        table.problem(&table.place, message, "leave some out");
    }
    let mut tags = BTreeMap::new();
    for (key, value) in texts {
        if let Err(bad) = names::check_text(key.value, key_rule) {
            table.problem(&key.place, bad.message, bad.hint);
        }
        if key.value.to_ascii_lowercase().starts_with("aws:") {
            table.problem(&key.place, "begins with aws:, which AWS keeps for itself", "choose another key");
        }
        let at = At { value, place: key.place.clone() };
        let Some(template) = template(&table, &at) else { continue };
        if let Some(Err(bad)) = sources.map(|it| it.check(&template, value_rule)) {
            table.problem(&at.place, bad.message, bad.hint);
        }
        tags.insert(key.value.to_owned(), template);
    }
    tags
}

#[derive(Clone, Copy)]
enum LockerScope {
    Device,
    Batch,
    Given,
    None,
}

fn locker(table: Table<'_>, sources: Option<&Sources<'_>>) -> Option<LockerRule> {
    let words = [
        ("device", LockerScope::Device),
        ("batch", LockerScope::Batch),
        ("given", LockerScope::Given),
        ("none", LockerScope::None),
    ];
    let scope = table.choice("scope", LockerScope::Device, &words);
    let rule = match scope {
        LockerScope::Device => {
            irrelevant(&table, &["id"], "device");
            let name = device_name(&table, "name", &names::LOCKER, sources);
            let tags = if table.has("tags") {
                tags(&table, &names::LOCKER_TAG_KEY, &names::LOCKER_TAG_VALUE, sources)
            } else {
                default_tags()
            };
            name.map(|name| LockerRule::Device { name, tags })
        }
        LockerScope::Batch => {
            irrelevant(&table, &["id"], "batch");
            batch_locker(&table, sources)
        }
        LockerScope::Given => {
            irrelevant(&table, &["name", "tags"], "given");
            given_locker(&table)
        }
        LockerScope::None => {
            irrelevant(&table, &["id", "name", "tags"], "none");
            Some(LockerRule::None)
        }
    };
    table.finish();
    rule
}

/// One for a batch: named by it, and by nothing that differs within it.
fn batch_locker(table: &Table<'_>, sources: Option<&Sources<'_>>) -> Option<LockerRule> {
    let tags = if table.has("tags") {
        tags(table, &names::LOCKER_TAG_KEY, &names::LOCKER_TAG_VALUE, sources)
    } else {
        default_tags()
    };
    let at = table.text("name").unwrap_or_else(|| At { value: "{batch}", place: table.place_of("scope") });
    let name = template(table, &at)?;
    if let Some(Err(bad)) = sources.map(|it| it.check(&name, &names::LOCKER)) {
        table.problem(&at.place, bad.message, bad.hint);
        return None;
    }
    let differs = |it: &Template| it.has(Place::Serial) || it.has(Place::Mac);
    if !name.has(Place::Batch) || differs(&name) {
        let message = "is the name of a batch's locker: it holds {batch}, and no {serial} or {mac}";
        table.problem(&at.place, message, "use \"{batch}\", \"{product}-{batch}\" or the like");
        return None;
    }
    if tags.values().any(differs) {
        let message = "differ within a batch, whose devices share the locker";
        table.problem(&table.place_of("tags"), message, "leave {serial} and {mac} out");
        return None;
    }
    Some(LockerRule::Batch { name, tags })
}

fn given_locker(table: &Table<'_>) -> Option<LockerRule> {
    let at = table.need_text("id", "0123456789abcdef")?;
    if let Err(bad) = names::check_text(at.value, &names::LOCKER_ID) {
        table.problem(&at.place, bad.message, bad.hint);
        return None;
    }
    Some(LockerRule::Given { id: at.value.to_owned() })
}

/// A locker of its own for each device, named by its serial number.
fn default_locker(table: &Table<'_>, sources: Option<&Sources<'_>>) -> Option<LockerRule> {
    let name = template(table, &At { value: "{serial}", place: table.place_of("locker") })?;
    if let Some(sources) = sources
        && let Err(bad) = sources.check(&name, &names::LOCKER)
    {
        table.problem(sources.serial_place, bad.message, bad.hint);
    }
    Some(LockerRule::Device { name, tags: default_tags() })
}

/// `{ product = "{product}" }`: the API finds lockers by nothing else.
fn default_tags() -> BTreeMap<String, Template> {
    Template::parse("{product}").map(|it| ("product".to_owned(), it)).into_iter().collect()
}

fn certificate(table: Table<'_>, sources: Option<&Sources<'_>>) -> Option<CertificateRule> {
    let by_aws = table.choice("issuer", false, &[("station", false), ("aws", true)]);
    let keys = [("station", KeyOrigin::Station), ("device", KeyOrigin::Device)];
    let key = table.choice("key", KeyOrigin::Station, &keys);
    let days = table.whole("days", 3_650, 1..=36_500);
    let common_name = legal(&table, "common_name", &names::COMMON_NAME, sources);
    let registers =
        [("without-ca", Register::WithoutCa), ("with-ca", Register::WithCa), ("jitp", Register::Jitp)];
    let register = if by_aws {
        if let Some(place) = table.known("register") {
            let message = "means nothing with issuer = \"aws\": AWS knows what it has issued";
            table.problem(&place, message, "remove it, or let the station issue");
        }
        Register::Aws
    } else {
        table.choice("register", Register::WithoutCa, &registers)
    };
    table.finish();
    Some(CertificateRule { key, days, common_name: common_name?.value, register })
}

/// How the result is tried out. Connecting takes a key that the station has, and a server to connect to.
fn verify(table: &Table<'_>, certificate: Option<&CertificateRule>) -> Verify {
    let words = [("none", Verify::None), ("cloud", Verify::Cloud), ("tls", Verify::Tls)];
    let verify = table.choice("verify", Verify::None, &words);
    if verify != Verify::Tls {
        return verify;
    }
    let place = table.place_of("verify");
    if !table.has("endpoint") || !table.has("roots") {
        let message = "\"tls\" needs endpoint and roots: where to connect, and what the server is trusted by";
        table.problem(
            &place,
            message,
            "add both, which the device is told as well, or use verify = \"cloud\"",
        );
    }
    if certificate.is_some_and(|it| it.key == KeyOrigin::Device) {
        let message = "\"tls\" needs key = \"station\": the station has no key to connect with";
        table.problem(&place, message, "use verify = \"cloud\"");
    }
    if certificate.is_some_and(|it| it.register == Register::Jitp) {
        let message = "\"tls\" means nothing with register = \"jitp\": the first connection is the device's";
        table.problem(&place, message, "use verify = \"cloud\", which reads the thing");
    }
    verify
}

/// A host name, with a port perhaps: it is told to the device as it stands.
fn endpoint(table: &Table<'_>) -> Option<String> {
    let at = table.text("endpoint")?;
    let good = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | ':');
    if (1..=255).contains(&at.value.len()) && at.value.chars().all(good) {
        return Some(at.value.to_owned());
    }
    let hint = "write the host only, as `aws iot describe-endpoint --endpoint-type iot:Data-ATS` tells it";
    table.problem(&at.place, "is not the name of a host", hint);
    None
}

fn roots(table: &Table<'_>) -> Option<String> {
    let at = table.path("roots")?;
    let content = read(table, &at, MAX_ROOTS)?;
    files::certificates(content).map_err(|error| bad_certificates(table, &at, &error)).ok()
}
