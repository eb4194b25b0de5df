//! The charts: plain shapes, no script, colours from the page's style.

use maud::{Markup, html};

use super::super::model::Hour;
use super::{delta, number};

/// Width of a chart; the page scales it.
const WIDTH: u64 = 1000;

/// Where the bars stand, below the room for the figures on the highest one.
const BASE: u64 = 150;

/// The highest bar.
const HIGH: u64 = 124;

/// Presented and passed by the hour, the target as a line, and downtime below the hour in which it was.
pub(super) fn hours(hours: &[Hour]) -> Markup {
    let most =
        hours.iter().map(|it| it.presented.max(it.passed).max(it.target.unwrap_or(0))).max().unwrap_or(0);
    let step = ((WIDTH - 20) / (hours.len() as u64).max(1)).clamp(1, 122);
    let (bar, left) = ((step * 2 / 5).max(1), 10);
    let height = |it: u64| (it * HIGH).checked_div(most).unwrap_or(0);
    // Labels of many rows would lie upon each other.
    let every = 62_u64.div_ceil(step.max(1)).max(1);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", BASE + 50)) role="img" aria-label="devices by the hour" {
            @for (at, hour) in (0_u64..).zip(hours) {
                @let x = left + at * step;
                rect class="presented" x=(x) y=(BASE - height(hour.presented)) width=(bar) height=(height(hour.presented)) {}
                rect class="passed" x=(x + bar) y=(BASE - height(hour.passed)) width=(bar) height=(height(hour.passed)) {}
                @if let Some(target) = hour.target {
                    @let y = BASE - height(target);
                    line class="target" x1=(x) y1=(y) x2=(x + 2 * bar) y2=(y) {}
                }
                @let down = (hour.down_ms * 2 * bar).checked_div(hour.seconds * 1000).unwrap_or(0);
                @if hour.down_ms > 0 {
                    rect class="down" x=(x) y=(BASE + 5) width=(down.clamp(2, 2 * bar)) height="7" {}
                }
                @if at % every == 0 {
                    text x=(x + bar) y=(BASE + 28) text-anchor="middle" { (hour.label) }
                    @if hours.len() <= 14 {
                        @let top = BASE - height(hour.passed) - 5;
                        // The target's line would go through the figure.
                        @let y = hour.target.map(|it| BASE - height(it)).filter(|line| (*line..*line + 12).contains(&top)).map_or(top, |line| line - 4);
                        text class="count" x=(x + bar + bar / 2) y=(y) text-anchor="middle" { (number(hour.passed)) }
                        @let less = delta(hour);
                        @if less.starts_with('-') {
                            text class="less" x=(x + bar) y=(BASE + 45) text-anchor="middle" { (less) }
                        } @else {
                            text class="soft" x=(x + bar) y=(BASE + 45) text-anchor="middle" { (less) }
                        }
                    }
                }
            }
            line class="axis" x1="4" y1=(BASE) x2=(WIDTH - 4) y2=(BASE) {}
        }
    }
}

/// A part of a whole as a bar.
pub(super) fn bar(class: &str, part: u64, whole: u64) -> Markup {
    let width = (part * 200).checked_div(whole).unwrap_or(0).min(200);
    html! {
        svg viewBox="0 0 200 12" role="presentation" {
            rect class=(class) x="0" y="1" width=(width.max(1)) height="10" {}
        }
    }
}

/// The shares of a whole beside each other.
pub(super) fn parts(parts: &[(&str, &str, u64)]) -> Markup {
    let sum: u64 = parts.iter().map(|it| it.2).sum();
    let mut before = 0;
    let places: Vec<_> = parts
        .iter()
        .map(|(class, _, it)| {
            let begin = (before * WIDTH).checked_div(sum).unwrap_or(0);
            before += it;
            (class, begin, (before * WIDTH).checked_div(sum).unwrap_or(0) - begin)
        })
        .collect();
    html! {
        svg viewBox=(format!("0 0 {WIDTH} 26")) role="img" aria-label="where the time went" {
            @for (class, x, width) in places.iter().filter(|it| it.2 > 0) {
                rect class=(class) x=(x) y="2" width=(width) height="20" {}
            }
        }
    }
}
