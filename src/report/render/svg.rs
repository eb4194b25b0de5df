//! The charts: plain shapes, no script, colours from the page's style.

use maud::{Markup, html};

use super::super::model::{FailureRow, Hour};
use super::number;

const HEIGHT: u64 = 150;
const BASE: u64 = 120;

/// Presented and passed by the hour, the target as a line.
pub(super) fn hours(hours: &[Hour]) -> Markup {
    let most =
        hours.iter().map(|it| it.presented.max(it.passed).max(it.target.unwrap_or(0))).max().unwrap_or(0);
    let step = (680 / (hours.len() as u64).max(1)).clamp(1, 90);
    let width = step * hours.len() as u64 + 20;
    let height = |it: u64| (it * 100).checked_div(most).unwrap_or(0);
    // Labels of many rows would lie upon each other.
    let every = 48_u64.div_ceil(step.max(1)).max(1);
    html! {
        svg viewBox=(format!("0 0 {width} {HEIGHT}")) role="img" aria-label="devices by the hour" {
            @for (at, hour) in (0_u64..).zip(hours) {
                @let x = 10 + at * step;
                rect class="presented" x=(x) y=(BASE - height(hour.presented)) width=((step * 2 / 5).max(1)) height=(height(hour.presented)) {}
                rect class="passed" x=(x + step * 2 / 5) y=(BASE - height(hour.passed)) width=((step * 2 / 5).max(1)) height=(height(hour.passed)) {}
                @if let Some(target) = hour.target {
                    @let y = BASE - height(target);
                    line class="target" x1=(x) y1=(y) x2=(x + step * 9 / 10) y2=(y) {}
                }
                @if at % every == 0 {
                    text x=(x + step * 2 / 5) y=(BASE + 14) text-anchor="middle" { (hour.label) }
                    @if hours.len() <= 12 {
                        text x=(x + step * 3 / 5) y=(BASE - height(hour.passed) - 4) text-anchor="middle" { (number(hour.passed)) }
                    }
                }
            }
            line class="axis" x1="5" y1=(BASE) x2=(width - 5) y2=(BASE) {}
        }
    }
}

/// Failures by code, the most frequent first.
pub(super) fn pareto(rows: &[FailureRow]) -> Markup {
    let most = rows.first().map_or(1, |it| it.failures.max(1));
    let height = rows.len() as u64 * 22 + 6;
    html! {
        svg viewBox=(format!("0 0 700 {height}")) role="img" aria-label="failures by code" {
            @for (at, row) in (0_u64..).zip(rows) {
                @let y = 4 + at * 22;
                text x="105" y=(y + 13) text-anchor="end" { (row.code) }
                rect class="failed" x="112" y=(y) width=((row.failures * 480 / most).max(1)) height="17" {}
                text x=(118 + row.failures * 480 / most) y=(y + 13) { (number(row.failures)) }
            }
        }
    }
}

/// A share of the whole as a bar.
pub(super) fn parts(parts: &[(&str, u64)]) -> Markup {
    let sum: u64 = parts.iter().map(|(_, it)| it).sum();
    let mut x = 0;
    let places: Vec<_> = parts
        .iter()
        .map(|(_, it)| {
            let width = (it * 700).checked_div(sum).unwrap_or(0);
            x += width;
            (x - width, width)
        })
        .collect();
    html! {
        svg viewBox="0 0 700 22" role="img" aria-label="where the time went" {
            @for (class, (x, width)) in ["operator", "fixture", "making"].iter().zip(&places) {
                rect class=(class) x=(x) y="2" width=(width) height="18" {}
            }
        }
    }
}
