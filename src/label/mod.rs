//! A device's label: its serial number as text and as Code 128, its product's UPC-A or EAN-13, and a QR code
//! of what a phone or a hub has to know of it; as SVG and as ZPL.
//!
//! ```text
//!   thermostat                COPY 2
//!   ||| || |||| | ||| || |||  Code 128
//!   SN0000000001
//!   || ||| || ||      ▟▙▟▖
//!   || ||| || ||      ▜▛▐▌    UPC-A or EAN-13, and QR
//!   036000291452      ▝▘▀▘
//! ```
//! A label follows from what the journal has of the device alone, so that it can be written again and is the
//! same. One module is 0.25 mm, two dots of a printer of 203 dpi. The QR code says `SN:…;UPC:…`, which is what Wi-Fi Simple
//! Setup scans (AWS's guide, "Configure provisionees for WiFi Simple Setup"), or the serial number where the product has no number.

mod svg;
mod zpl;

use barcoders::sym::code128::Code128;
use barcoders::sym::ean13::EAN13;
use qrcode::{Color, EcLevel, QrCode};

use crate::device::article::ArticleNumber;

/// The longest serial number on a label, characters; Wi-Fi Simple Setup takes no longer one.
pub const MAX_SERIAL: usize = 50;

/// Blank modules beside a bar code (ISO/IEC 15417 and 15420 want 10 and 11) and around a QR code (ISO/IEC 18004: 4).
const BESIDE_BARS: usize = 11;
const AROUND_QR: usize = 4;

/// How many modules a module of the QR code is wide.
const QR_SCALE: usize = 2;

/// Modules that bars are high.
const BAR_HEIGHT: usize = 40;

/// Modules that a line of text takes.
const TEXT_HEIGHT: usize = 14;

/// Sizes of text in modules: as it is written, and the smallest that a person reads without a glass.
const TEXT_SIZE: usize = 10;
const SMALLEST_TEXT: usize = 6;

/// What a character takes in breadth, in tenths of its size: in a font of one breadth six, and a little more for a printer's.
const BREADTH: usize = 7;

/// Whether a character can stand in the serial number on a label: none of them means something to a printer.
#[must_use]
pub fn takes(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | ':' | '/' | '+')
}

/// Why there is no label.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// What it is to say can not be a bar code.
    #[error("{0:?} cannot be a bar code")]
    Bars(String),
    /// What it is to say can not be a QR code.
    #[error("{text:?} cannot be a QR code: {source}")]
    Qr {
        /// The text.
        text: String,
        /// Why.
        source: qrcode::types::QrError,
    },
}

/// What stands on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The device.
    pub serial: String,
    /// What it is.
    pub product: String,
    /// Its number in trade.
    pub article: Option<ArticleNumber>,
    /// The how manieth of the device it is, from 1; each after the first says that it is a copy.
    pub number: u32,
}

/// A label as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// For a screen, or a printer of any make.
    pub svg: String,
    /// For a label printer.
    pub zpl: String,
}

impl Label {
    /// What its QR code says: the authentication material of Wi-Fi Simple Setup.
    #[must_use]
    pub fn material(&self) -> String {
        material(&self.serial, self.article.as_ref())
    }

    /// "COPY 2", for any but the first.
    #[must_use]
    pub fn copy(&self) -> Option<String> {
        (self.number > 1).then(|| format!("COPY {}", self.number))
    }

    /// Its two files.
    ///
    /// # Errors
    /// A serial number that no bar code can hold; the configuration sees to it that there is none.
    pub fn render(&self) -> Result<Rendered, LabelError> {
        if !self.serial.chars().all(takes) || !self.product.chars().all(takes) {
            return Err(LabelError::Bars(self.serial.clone()));
        }
        let layout = Layout::of(self)?;
        Ok(Rendered { svg: svg::draw(self, &layout), zpl: zpl::write(self, &layout) })
    }
}

/// What authenticates a device: `SN:…;UPC:…`. AWS's guide has no example with an EAN-13; its name there is
/// `EAN`.
#[must_use]
pub fn material(serial: &str, article: Option<&ArticleNumber>) -> String {
    match article.map(|it| (it, it.upc())) {
        None => serial.to_owned(),
        Some((_, Some(upc))) => format!("SN:{serial};UPC:{upc}"),
        Some((article, None)) => format!("SN:{serial};EAN:{article}"),
    }
}

/// What is drawn, in modules.
struct Layout {
    serial: Vec<bool>,
    article: Option<Vec<bool>>,
    qr: Vec<Vec<bool>>,
    width: usize,
    height: usize,
}

impl Layout {
    fn of(label: &Label) -> Result<Self, LabelError> {
        let serial = bars(&Code128::new(code128(&label.serial)), &label.serial)?;
        let article =
            label.article.as_ref().map(|it| bars(&EAN13::new(it.ean()), it.as_str())).transpose()?;
        let qr = qr(&label.material())?;
        let qr_side = QR_SCALE * (qr.len() + 2 * AROUND_QR);
        let below = article.as_ref().map_or(0, |it| it.len() + 2 * BESIDE_BARS) + qr_side;
        Ok(Self {
            width: below.max(serial.len() + 2 * BESIDE_BARS),
            height: 2 * TEXT_HEIGHT + BAR_HEIGHT + qr_side.max(BAR_HEIGHT + TEXT_HEIGHT),
            serial,
            article,
            qr,
        })
    }

    /// The product's name and the size that it is written in: smaller where there is no room for it beside the copy mark, and
    /// cut where that is not enough.
    fn title(&self, label: &Label) -> (String, usize) {
        let copy = label.copy().map_or(0, |it| breadth(it.len() + 1, TEXT_SIZE));
        let room = self.width.saturating_sub(2 * BESIDE_BARS + copy);
        let name = &label.product;
        let fits = |size: &usize| breadth(name.len(), *size) <= room;
        if let Some(size) = (SMALLEST_TEXT..=TEXT_SIZE).rev().find(fits) {
            return (name.clone(), size);
        }
        let kept = (room * 10 / (BREADTH * SMALLEST_TEXT)).saturating_sub(2);
        // It holds ASCII only, or there is no label.
        let cut = name.get(..kept).filter(|it| !it.is_empty()).map(|it| format!("{it}.."));
        (cut.unwrap_or_default(), SMALLEST_TEXT)
    }

    /// Where the bars of the serial number begin, from the top.
    const fn serial_top() -> usize {
        TEXT_HEIGHT
    }

    /// Where what stands below begins, from the top.
    const fn below_top() -> usize {
        2 * TEXT_HEIGHT + BAR_HEIGHT
    }

    /// Where the QR code begins, its blank border included, from the left.
    fn qr_left(&self) -> usize {
        self.width - QR_SCALE * (self.qr.len() + 2 * AROUND_QR)
    }
}

/// Modules that so many characters take.
const fn breadth(characters: usize, size: usize) -> usize {
    (characters * BREADTH * size).div_ceil(10)
}

/// The encoding for the library: an even number of digits takes half the width in character set C.
fn code128(serial: &str) -> String {
    let digits =
        serial.len() >= 4 && serial.len().is_multiple_of(2) && serial.bytes().all(|it| it.is_ascii_digit());
    format!("{}{serial}", if digits { '\u{0106}' } else { '\u{0181}' })
}

/// Whatever the library can encode into bars.
trait Bars {
    fn modules(&self) -> Vec<u8>;
}

impl Bars for Code128 {
    fn modules(&self) -> Vec<u8> {
        self.encode()
    }
}

impl Bars for EAN13 {
    fn modules(&self) -> Vec<u8> {
        self.encode()
    }
}

fn bars<B: Bars, E>(code: &Result<B, E>, text: &str) -> Result<Vec<bool>, LabelError> {
    let code = code.as_ref().map_err(|_| LabelError::Bars(text.to_owned()))?;
    Ok(code.modules().into_iter().map(|it| it != 0).collect())
}

fn qr(text: &str) -> Result<Vec<Vec<bool>>, LabelError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)
        .map_err(|source| LabelError::Qr { text: text.to_owned(), source })?;
    let colors = code.to_colors();
    Ok(colors.chunks(code.width()).map(|row| row.iter().map(|it| *it == Color::Dark).collect()).collect())
}

/// Where dark modules begin in a row, and how many there are.
fn runs(row: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in row.iter().enumerate().filter(|(_, dark)| **dark) {
        match runs.last_mut() {
            Some((begin, length)) if *begin + *length == at => *length += 1,
            _ => runs.push((at, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
