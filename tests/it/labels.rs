//! Labels on disk, and read by decoders that are not ours: zbar, behind two renderers, librsvg for SVG and Zebrash
//! for ZPL (its npm package `zpl-renderer-js`, found by `NODE_PATH`). Where they are not installed the tests say so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use linemint::device::article::ArticleNumber;
use linemint::label::Label;

use crate::harness::{World, put};

/// Whether a program answers; says aloud if it does not.
fn has(test: &str, program: &str, args: &[&str]) -> bool {
    let found = Command::new(program).args(args).output().is_ok_and(|it| it.status.success());
    if !found {
        eprintln!("SKIPPED: {test}: {program} {} does not answer", args.join(" "));
    }
    found
}

/// What zbar reads in a picture: `CODE-128:SN1` and so on.
fn read(picture: &Path) -> BTreeSet<String> {
    let done = Command::new("zbarimg").args(["--quiet", "-Supca.enable"]).arg(picture).output().unwrap();
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn decoded_svg(svg: &Path) -> BTreeSet<String> {
    let picture = svg.with_extension("png");
    let mut draw = Command::new("rsvg-convert");
    draw.args(["--dpi-x", "300", "--dpi-y", "300", "--zoom", "2", "--output"]).arg(&picture).arg(svg);
    assert!(draw.status().unwrap().success());
    read(&picture)
}

/// Renders ZPL as a printer of 203 dpi does.
const PRINTER: &str = "const fs = require('fs'); const [, zpl, png, wide, high] = process.argv;
    require('zpl-renderer-js').ready.then(({ api }) => api.zplToBase64Async(fs.readFileSync(zpl, 'utf8'), +wide, +high, 8))
    .then((it) => { fs.writeFileSync(png, Buffer.from(it, 'base64')); process.exit(0); })
    .catch((error) => { console.error(error); process.exit(1); });";

fn decoded_zpl(zpl: &Path) -> BTreeSet<String> {
    let picture = zpl.with_extension("printed.png");
    let mut print = Command::new("node");
    print.args(["-e", PRINTER]).arg(zpl).arg(&picture).args(["160", "60"]);
    assert!(print.status().unwrap().success());
    read(&picture)
}

/// The labels that are decoded: a serial number, an article number, and what a decoder reads.
fn labels() -> Vec<(Label, Vec<String>)> {
    let serials = ["SN0000000001", "123456789012", "Ab-9_z.1:2/3+4", &"W".repeat(50)].map(str::to_owned);
    let articles = [None, Some("036000291452"), Some("4006381333931"), Some("0036000291452")];
    let mut labels = Vec::new();
    for serial in serials {
        for article in articles {
            let mut wanted = vec![format!("CODE-128:{serial}")];
            wanted.push(match article {
                None => format!("QR-Code:{serial}"),
                Some("4006381333931") => format!("QR-Code:SN:{serial};EAN:4006381333931"),
                Some(_) => format!("QR-Code:SN:{serial};UPC:036000291452"),
            });
            wanted.extend(article.map(|it| match it {
                "4006381333931" => "EAN-13:4006381333931".to_owned(),
                _ => "UPC-A:036000291452".to_owned(),
            }));
            let article = article.map(|it| ArticleNumber::parse(it).unwrap());
            // The longest name that a product may have: no bar of it is in the way of a decoder.
            let product = if serial.len() == 12 { "w".repeat(64) } else { "thermostat".to_owned() };
            let label = Label { serial: serial.clone(), product, article, number: 2 };
            labels.push((label, wanted));
        }
    }
    labels
}

#[test]
fn an_independent_decoder_reads_on_each_svg_what_it_should_say() {
    let test = "labels as SVG";
    if !has(test, "zbarimg", &["--version"]) || !has(test, "rsvg-convert", &["--version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (at, (label, wanted)) in labels().into_iter().enumerate() {
        let path = dir.path().join(format!("{at}.svg"));
        put(&path, label.render().unwrap().svg.as_bytes());
        assert_eq!(decoded_svg(&path), wanted.into_iter().collect(), "{label:?}");
    }
}

#[test]
fn an_independent_decoder_reads_on_each_printed_zpl_what_it_should_say() {
    let test = "labels as ZPL";
    if !has(test, "zbarimg", &["--version"]) || !has(test, "node", &["-e", "require('zpl-renderer-js')"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (at, (label, wanted)) in labels().into_iter().enumerate() {
        let path = dir.path().join(format!("{at}.zpl"));
        put(&path, label.render().unwrap().zpl.as_bytes());
        assert_eq!(decoded_zpl(&path), wanted.into_iter().collect(), "{label:?}");
    }
}

#[test]
fn each_device_that_passes_has_its_label_and_a_second_one_says_copy() {
    let mut world = World::new("[product.thermostat]\nlabels = \"labels\"\nupc = \"036000291452\"\n");
    let mut fixture = world.fixture("nest-1");
    world.start();
    fixture.hello("nest-1", 1);
    let serial = "SN0000000001";
    fixture.provision(1, serial);
    let first = world.path("labels").join(format!("{serial}.svg"));
    let copy = world.path("labels").join(format!("{serial}.copy-2.svg"));
    let there = |path: &Path| if path.exists() { Ok(()) } else { Err(path.display().to_string()) };
    world.eventually("the label is written", |_| there(&first));
    world.eventually("that is recorded", |world| {
        let device = world.get(&format!("/v1/devices/{serial}")).unwrap();
        if device.to_string().contains("\"labelled\"") { Ok(()) } else { Err(device) }
    });
    assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!copy.exists());
    assert_eq!(world.command(&["device", "label", serial, "--reason", "torn"]).0, 0);
    world.eventually("the copy is written", |_| there(&copy));
    world.eventually("its ZPL too", |_| there(&copy.with_extension("zpl")));
    world.terminate();
    assert_eq!(world.ended().0, 0);
    assert!(!fs::read_to_string(&first).unwrap().contains("COPY"));
    assert!(fs::read_to_string(&copy).unwrap().contains("COPY 2"));
    let left: Vec<String> = fs::read_dir(world.path("labels"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| !it.starts_with(serial))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    if has("labels of a station", "zbarimg", &["--version"])
        && has("labels of a station", "rsvg-convert", &["--version"])
    {
        let wanted = [
            format!("CODE-128:{serial}"),
            format!("QR-Code:SN:{serial};UPC:036000291452"),
            "UPC-A:036000291452".to_owned(),
        ];
        for svg in [&first, &copy] {
            assert_eq!(decoded_svg(svg), wanted.iter().cloned().collect());
        }
    }
}

#[test]
fn a_managed_thing_bears_what_the_label_says_and_goes_with_its_device() {
    let over = "[product.thermostat]\nupc = \"036000291452\"\nmanaged_thing = { role = \"controller\" }\n";
    let (world, mut fixture) = World::running(over);
    let serial = "SN0000000001";
    let credentials = fixture.provision(1, serial);
    let held = world.cloud().managed_things();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].material.as_str(), held[0].role.as_str()),
        ("SN:SN0000000001;UPC:036000291452", "CONTROLLER")
    );
    assert_eq!(held[0].locker.as_deref(), credentials["locker_id"].as_str());
    world.assert_audit(&[serial]);
    // Every call that was made is one that the policy allows.
    let (status, policy, log) = world.command(&["check-config", "--iam"]);
    assert_eq!(status, 0, "{log}");
    for row in world.cloud().rows() {
        let operation: linemint::cloud::Operation = row.operation.parse().unwrap();
        let action = format!("\"{}:{}\"", operation.service().iam_prefix(), operation.aws_name());
        assert!(policy.contains(&action), "{action}");
    }
    assert_eq!(world.command(&["device", "scrap", serial, "--reason", "x"]).0, 0);
    world.eventually("its managed thing is gone", |world| {
        let left = world.cloud().managed_things();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
