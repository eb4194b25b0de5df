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
