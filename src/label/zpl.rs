//! The label as ZPL II, by the printer's own bar codes (Zebra's ZPL II programming guide: `^BC`, `^BE`, `^BQ`), so that they are as sharp as it prints.

use super::{AROUND_QR, BAR_HEIGHT, BESIDE_BARS, Label, Layout, QR_SCALE, TEXT_HEIGHT, TEXT_SIZE, breadth};

/// Dots of a module: 0.25 mm at 203 dpi.
const MODULE: usize = 2;

/// Dots by which printers move a QR code down.
const QR_DOWN: usize = 10;

/// Writes it.
pub(super) fn write(label: &Label, layout: &Layout) -> String {
    let dots = |modules: usize| MODULE * modules;
    let (left, high) = (dots(BESIDE_BARS), dots(BAR_HEIGHT));
    let font_of = |size: usize| format!("^A0N,{0},{0}", (dots(TEXT_HEIGHT) - 6) * size / TEXT_SIZE);
    let font = font_of(TEXT_SIZE);
    let field = |x: usize, y: usize, what: &str, data: &str| format!("^FO{x},{y}{what}^FD{data}^FS\n");
    let mut zpl = format!("^XA^CI28^PW{}^LL{}^BY{MODULE}\n", dots(layout.width), dots(layout.height));
    let (title, size) = layout.title(label);
    zpl += &field(left, 2, &font_of(size), &title);
    if let Some(copy) = label.copy() {
        let at = dots(layout.width).saturating_sub(left + dots(breadth(copy.len(), TEXT_SIZE)));
        zpl += &field(at, 2, &font, &copy);
    }
    // Mode A chooses the character set by itself.
    zpl += &field(left, dots(Layout::serial_top()), &format!("^BCN,{high},N,N,N,A"), &label.serial);
    zpl += &field(left, dots(Layout::serial_top() + BAR_HEIGHT) + 2, &font, &label.serial);
    let below = dots(Layout::below_top());
    if let Some(article) = &label.article {
        // The bars of a UPC-A are those of the EAN-13 with a 0 before it. The printer adds the check digit, which is
        // known to be the same.
        zpl += &field(left, below, &format!("^BEN,{high},N"), &article.ean()[..12]);
        zpl += &field(left, below + high + 2, &font, article.as_str());
    }
    let border = dots(QR_SCALE * AROUND_QR);
    let qr = format!("^BQN,2,{}", dots(QR_SCALE));
    // M: error correction; A: the printer chooses the mode.
    let material = format!("MA,{}", label.material());
    zpl += &field(dots(layout.qr_left()) + border, below + border - QR_DOWN, &qr, &material);
    zpl + "^XZ\n"
}
