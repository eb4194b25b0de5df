use super::*;

fn label(number: u32) -> Label {
    Label {
        serial: "SN0000000001".to_owned(),
        product: "thermostat".to_owned(),
        article: Some(ArticleNumber::parse("036000291452").unwrap()),
        number,
    }
}

#[test]
fn the_same_label_is_the_same_file_and_only_a_later_one_says_copy() {
    let first = label(1).render().unwrap();
    assert_eq!(first, label(1).render().unwrap());
    assert!(!first.svg.contains("COPY") && !first.zpl.contains("COPY"));
    let second = label(2).render().unwrap();
    assert!(second.svg.contains(">COPY 2</text>") && second.zpl.contains("^FDCOPY 2^FS"));
}

#[test]
fn the_qr_code_holds_what_wi_fi_simple_setup_scans() {
    assert_eq!(label(1).material(), "SN:SN0000000001;UPC:036000291452");
    let article = Some(ArticleNumber::parse("4006381333931").unwrap());
    assert_eq!(Label { article, ..label(1) }.material(), "SN:SN0000000001;EAN:4006381333931");
    assert_eq!(Label { article: None, ..label(1) }.material(), "SN0000000001");
}

#[test]
fn a_serial_number_that_would_command_the_printer_gets_no_label() {
    for serial in ["SN^XZ", "SN~JR", "SN<1>", "SN&1", "SN\"1"] {
        let label = Label { serial: serial.to_owned(), ..label(1) };
        assert!(matches!(label.render(), Err(LabelError::Bars(_))), "{serial}");
    }
}

#[test]
fn digits_take_half_the_width() {
    let width = |serial: &str| {
        Layout::of(&Label { serial: serial.to_owned(), article: None, ..label(1) }).unwrap().serial.len()
    };
    // A start, a check and a stop of 11, 11 and 13 modules, and 11 for each character or each two digits.
    assert_eq!(width("123456789012"), 35 + 6 * 11);
    assert_eq!(width("A23456789012"), 35 + 12 * 11);
    assert_eq!(width(&"W".repeat(MAX_SERIAL)), 35 + 50 * 11);
}

/// Where the texts of a label's first line begin and end, in modules, and what they are.
fn first_line(label: &Label) -> (usize, Vec<(usize, usize, String)>) {
    let svg = label.render().unwrap().svg;
    let attribute = |text: &str, name: &str| -> String {
        let (_, rest) = text.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let number = |text: &str, name: &str| attribute(text, name).parse::<usize>().unwrap();
    let width = attribute(&svg, "viewBox").split(' ').nth(2).unwrap().parse().unwrap();
    let first = svg.lines().filter(|it| it.starts_with("<text") && number(it, "y") == TEXT_HEIGHT - 4);
    let texts = first.map(|it| {
        let said = it.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned();
        // A font of one breadth has characters of six tenths of its size.
        let (at, wide) = (number(it, "x"), (said.len() * 6 * number(it, "font-size")).div_ceil(10));
        let begin = if attribute(it, "text-anchor") == "end" { at - wide } else { at };
        (begin, begin + wide, said)
    });
    (width, texts.collect())
}

#[test]
fn a_long_name_leaves_its_place_to_the_copy_mark_and_stays_on_the_label() {
    for serial in ["1", "SN0000000001", "123456789012", &"W".repeat(50)] {
        for name in ["thermostat", "thermostat-outdoor-battery-eu2", &"w".repeat(64)] {
            for number in [1, 2, 99] {
                let (serial, product) = (serial.to_owned(), name.to_owned());
                let (width, texts) = first_line(&Label { serial, product, article: None, number });
                for (begin, end, said) in &texts {
                    assert!(*begin >= BESIDE_BARS && *end <= width - BESIDE_BARS, "{said} in {width}");
                }
                let marks: Vec<_> = texts.iter().filter(|it| it.2 == format!("COPY {number}")).collect();
                assert_eq!(marks.len(), usize::from(number > 1));
                assert!(marks.iter().all(|mark| texts[0].1 < mark.0), "{texts:?}");
            }
        }
    }
    let of = |product: &str, number| first_line(&Label { product: product.to_owned(), ..label(number) }).1;
    let long = "thermostat-outdoor-battery-eu2";
    assert_eq!(of(long, 1)[0].2, long, "written smaller");
    assert!(of(long, 2)[0].2.starts_with("thermostat-outdoor") && of(long, 2)[0].2.ends_with(".."));
}
