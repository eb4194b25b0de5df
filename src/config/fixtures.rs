//! `[[fixture]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::errors::nearest;
use super::scanner::{SCANNER_KEYS, scanner};
use super::station::name;
use super::table::Table;
use super::{Driver, Fixture, Product};
use crate::device::rules::KeyOrigin;
use crate::fixture::place::{PortPlace, Raised, UsbId};
use crate::line::Deliver;

const RESEND: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

const RAISED: [(&str, Raised); 2] = [("always", Raised::Always), ("never", Raised::Never)];

/// All fixtures; `named` are the names that the file gives to products, valid or not, `products` those that
/// are valid.
pub(super) fn fixtures(
    root: &Table<'_>,
    named: &[String],
    products: &BTreeMap<String, Product>,
) -> Vec<Fixture> {
    let tables = root.tables("fixture");
    if tables.is_empty() && !root.has("fixture") {
        let hint = "add [[fixture]] with name, port and product";
        root.problem(&root.place_of("fixture"), "is missing: a station has at least one fixture", hint);
    }
    let mut seen = Seen::default();
    tables.into_iter().filter_map(|table| fixture(table, (named, products), &mut seen)).collect()
}

/// What earlier fixtures have taken.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    ports: Vec<PortPlace>,
}

fn fixture(
    table: Table<'_>,
    (named, products): (&[String], &BTreeMap<String, Product>),
    seen: &mut Seen,
) -> Option<Fixture> {
    let name = fixture_name(&table, seen);
    let port = port(&table, seen);
    let is_scanner = table.choice("driver", false, &[("sfp", false), ("scanner", true)]);
    let baud = table.whole("baud", 115_200, 300..=4_000_000);
    let product = product(&table, named);
    let resend = table.duration("resend", RESEND, Duration::from_millis(10)..=MINUTE);
    let answer_within = table.duration("answer_within", MINUTE, Duration::from_millis(10)..=HOUR);
    let patience = table.duration("patience", MINUTE, Duration::from_millis(10)..=HOUR);
    let [dtr, rts] = ["dtr", "rts"].map(|key| table.choice(key, Raised::Always, &RAISED));
    if answer_within < resend {
        let place = table.place_of(if table.has("answer_within") { "answer_within" } else { "resend" });
        let message = "answer_within is shorter than resend: nothing would ever be sent again";
        table.problem(&place, message, "the defaults are answer_within = \"60s\" and resend = \"2s\"");
    }
    let driver = if is_scanner {
        if let Some(product) = product.as_ref().and_then(|it| products.get(it)) {
            check_product(&table, product);
        }
        scanner(&table).map(|it| Driver::Scanner(Box::new(it)))
    } else {
        for place in SCANNER_KEYS.iter().filter_map(|key| table.known(key)) {
            let message = "means nothing with driver = \"sfp\": it belongs to the scanner driver";
            table.problem(&place, message, "remove it, or set driver = \"scanner\"");
        }
        Some(Driver::Sfp)
    };
    table.finish();
    Some(Fixture {
        name: name?,
        port: port?,
        driver: driver?,
        baud,
        product: product?,
        resend,
        answer_within,
        patience,
        dtr,
        rts,
    })
}

/// A scanner brings a serial number and stores nothing.
fn check_product(table: &Table<'_>, product: &Product) {
    let place = table.place_of("product");
    let name = &product.rules.product;
    if product.rules.certificate.key == KeyOrigin::Device {
        let message =
            format!("the devices of {name:?} make their own keys, but a scanner brings no signing request");
        table.problem(&place, message, "set certificate.key = \"station\" in the product");
    }
    if product.deliver == Deliver::Fixture {
        let message =
            format!("the credentials of {name:?} go to the fixture, but a scanner can store nothing");
        let hint = format!("set deliver = \"directory\" and directory = \"…\" in [product.{name}]");
        table.problem(&place, message, hint);
    }
}

fn fixture_name(table: &Table<'_>, seen: &mut Seen) -> Option<String> {
    let at = table.need_text("name", "nest-1")?;
    let name = name(table, &at)?;
    if seen.names.contains(&name) {
        table.problem(
            &at.place,
            format!("{name:?} is the name of another fixture"),
            "give each fixture its own name",
        );
        return None;
    }
    seen.names.push(name.clone());
    Some(name)
}

/// `port` or `usb`.
fn port(table: &Table<'_>, seen: &mut Seen) -> Option<PortPlace> {
    let place = match (table.has("port"), table.known("usb")) {
        (true, Some(at)) => {
            // What is wrong with it is told as well.
            let _ = table.need_path("port", "");
            table.problem(&at, "stands beside port, and both say where the fixture is", "remove one of them");
            return None;
        }
        (false, Some(_)) => PortPlace::Usb(usb(table.table("usb")?)?),
        (_, None) => {
            let at = table.need_path("port", "/dev/serial/by-id/…")?;
            // Rebuilt from its components: `/dev/./ttyS0` is `/dev/ttyS0`.
            PortPlace::Path(at.value.components().collect())
        }
    };
    let same = |it: &&PortPlace| match (it, &place) {
        (PortPlace::Usb(one), PortPlace::Usb(other)) => one.overlaps(other),
        (one, other) => *one == other,
    };
    if let Some(taken) = seen.ports.iter().find(same) {
        let key = if matches!(place, PortPlace::Usb(_)) { "usb" } else { "port" };
        let message = format!("{taken} is the port of another fixture");
        let hint = "give each fixture its own port; nests of one fixture share its port";
        table.problem(&table.place_of(key), message, hint);
        return None;
    }
    seen.ports.push(place.clone());
    Some(place)
}

/// `usb = { vid = "0403", pid = "6001", serial = "A1", interface = 0 }`.
fn usb(table: Table<'_>) -> Option<UsbId> {
    let number = |key: &'static str, example: &str| {
        let at = table.need_text(key, example)?;
        if at.value.len() == 4 && at.value.bytes().all(|it| it.is_ascii_hexdigit()) {
            return u16::from_str_radix(at.value, 16).ok();
        }
        let message = format!("{:?} is not four hexadecimal digits", at.value);
        table.problem(&at.place, message, "`linemint fixture list` shows the adapters that are plugged in");
        None
    };
    let (vid, pid) = (number("vid", "0403"), number("pid", "6001"));
    let serial = table.text("serial").map(|at| at.value.to_owned());
    if serial.as_ref().is_some_and(String::is_empty) {
        let hint = "remove the key: then any adapter of the kind is meant";
        table.problem(&table.place_of("serial"), "is empty", hint);
    }
    let interface = table.has("interface").then(|| table.whole("interface", 0, 0..=255));
    let interface = interface.and_then(|it| u8::try_from(it).ok());
    table.finish();
    Some(UsbId { vid: vid?, pid: pid?, serial, interface })
}

fn product(table: &Table<'_>, products: &[String]) -> Option<String> {
    let at = table.need_text("product", "thermostat")?;
    if products.iter().any(|it| it == at.value) {
        return Some(at.value.to_owned());
    }
    let hint = match nearest(at.value, products.iter().map(String::as_str)) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("add [product.{}]", at.value),
    };
    table.problem(&at.place, format!("there is no product {:?}", at.value), hint);
    None
}
