//! The label as SVG, in millimetres: one path for all that is dark.

use std::fmt::Write as _;

use super::{AROUND_QR, BAR_HEIGHT, BESIDE_BARS, Label, Layout, QR_SCALE, TEXT_HEIGHT, TEXT_SIZE, runs};

/// Micrometres of a module.
const MODULE: usize = 250;

/// Where a text stands by, and its size.
const START: (&str, usize) = ("start", TEXT_SIZE);

/// Draws it.
pub(super) fn draw(label: &Label, layout: &Layout) -> String {
    let (width, height) = (layout.width, layout.height);
    let mut dark = String::new();
    draw_bars(&mut dark, &layout.serial, Layout::serial_top());
    if let Some(article) = &layout.article {
        draw_bars(&mut dark, article, Layout::below_top());
    }
    let (left, top) = (layout.qr_left() + QR_SCALE * AROUND_QR, Layout::below_top() + QR_SCALE * AROUND_QR);
    for (y, row) in layout.qr.iter().enumerate() {
        for (x, length) in runs(row) {
            rectangle(&mut dark, (left + QR_SCALE * x, top + QR_SCALE * y), (QR_SCALE * length, QR_SCALE));
        }
    }
    let (title, size) = layout.title(label);
    let mut texts = text(BESIDE_BARS, Layout::serial_top() - 4, ("start", size), &title);
    texts += &text(BESIDE_BARS, Layout::below_top() - 4, START, &label.serial);
    if let Some(copy) = label.copy() {
        texts += &text(width - BESIDE_BARS, Layout::serial_top() - 4, ("end", TEXT_SIZE), &copy);
    }
    if let Some(article) = &label.article {
        let below = Layout::below_top() + BAR_HEIGHT + TEXT_HEIGHT - 4;
        texts += &text(BESIDE_BARS, below, START, article.as_str());
    }
    let (wide, high) = (millimetres(width), millimetres(height));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}mm\" height=\"{high}mm\" \
         viewBox=\"0 0 {width} {height}\" shape-rendering=\"crispEdges\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n<path d=\"{dark}\"/>\n{texts}</svg>\n"
    )
}

fn millimetres(modules: usize) -> String {
    let micrometres = modules * MODULE;
    format!("{}.{:03}", micrometres / 1000, micrometres % 1000)
}

fn draw_bars(dark: &mut String, bars: &[bool], top: usize) {
    for (x, length) in runs(bars) {
        rectangle(dark, (BESIDE_BARS + x, top), (length, BAR_HEIGHT));
    }
}

fn rectangle(dark: &mut String, (x, y): (usize, usize), (wide, high): (usize, usize)) {
    // Into a string: cannot fail.
    let _ = write!(dark, "M{x} {y}h{wide}v{high}h-{wide}z");
}

fn text(x: usize, y: usize, (anchor, size): (&str, usize), text: &str) -> String {
    format!(
        "<text x=\"{x}\" y=\"{y}\" font-family=\"monospace\" font-size=\"{size}\" text-anchor=\"{anchor}\">{text}</text>\n"
    )
}
