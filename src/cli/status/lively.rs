//! What makes the picture of a station quick to read: the shift in a line, its pace as a row of bars, how full
//! each quota is, and what somebody has to look at.

use crate::cli::text::plain;
use crate::control::Counts;
use crate::control::tally::Today;

/// Eighths of a character's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Characters of a quota's bar.
const WIDTH: usize = 10;

/// The shift's figures; nothing before the first is known.
pub(super) fn shift(today: &Today) -> Option<String> {
    let name = today.shift.as_deref()?;
    let percent =
        |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |it| format!("{:.1} %", 100.0 * it));
    // Only an outage has any.
    let deferred = if today.deferred > 0 { format!(", deferred {}", today.deferred) } else { String::new() };
    Some(format!(
        "{}, passed {}, failed {}{deferred}, yield {}, at once {}",
        plain(name),
        today.passed,
        today.failed,
        percent(today.yield_share()),
        percent(today.first_pass_share())
    ))
}

/// The pace against the takt; nothing where there is neither.
pub(super) fn pace(today: &Today) -> Option<String> {
    let pace = today.pace_s.map(|it| format!("one device in {it:.1} s"));
    let takt = today.takt_s.map(|it| format!("takt {it:.1} s"));
    match (pace, takt) {
        (None, None) => None,
        (pace, takt) => {
            let pace = pace.unwrap_or_else(|| "none yet".to_owned());
            Some([Some(pace), takt].into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
    }
}

/// A bar for each of `counts`, the highest for the most; a place without any stays empty.
pub(super) fn sparkline(counts: &[u64]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: u64| match count {
        0 => ' ',
        count => usize::try_from((count * 8).div_ceil(most)).map_or('█', |it| BARS[it.clamp(1, 8) - 1]),
    };
    counts.iter().map(|it| bar(*it)).collect()
}

/// How much of a limit is used: `██████░░░░  60 %`; nothing where there is none.
pub(super) fn load(rate: f64, limit: Option<f64>) -> String {
    let Some(limit) = limit.filter(|it| *it > 0.0) else { return String::new() };
    let share = (rate / limit).clamp(0.0, 9.99);
    // From a float it is cut to what fits.
    let full = ((share * WIDTH as f64).round() as usize).min(WIDTH);
    format!("{}{} {:>3.0} %", "█".repeat(full), "░".repeat(WIDTH - full), 100.0 * share)
}

/// What a person has to look at, with the command that shows it.
pub(super) fn exceptions(counts: &Counts) -> Option<String> {
    let told: Vec<String> = [("quarantined", counts.quarantined), ("failed", counts.failed)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state} (linemint device list --state {state})"))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_part_of_the_most() {
        assert_eq!(sparkline(&[0, 1, 2, 4, 8]), " ▁▂▄█");
        assert_eq!(sparkline(&[1000, 1, 0]), "█▁ ");
        assert_eq!((sparkline(&[0, 0]), sparkline(&[])), ("  ".to_owned(), String::new()));
    }

    #[test]
    fn a_quotas_bar_is_full_at_its_limit_and_says_more_beyond() {
        assert_eq!(load(6.0, Some(10.0)), "██████░░░░  60 %");
        assert_eq!(load(0.0, Some(10.0)), "░░░░░░░░░░   0 %");
        assert_eq!(load(12.0, Some(10.0)), "██████████ 120 %");
        assert_eq!((load(5.0, None), load(5.0, Some(0.0))), (String::new(), String::new()));
    }

    #[test]
    fn shift_and_pace_say_what_is_known() {
        assert_eq!((shift(&Today::default()), pace(&Today::default())), (None, None));
        let today = Today {
            shift: Some("early".to_owned()),
            passed: 99,
            passed_at_once: 90,
            failed: 1,
            pace_s: Some(14.96),
            takt_s: Some(15.0),
            ..Today::default()
        };
        assert_eq!(shift(&today).unwrap(), "early, passed 99, failed 1, yield 99.0 %, at once 90.0 %");
        let outage = Today { deferred: 12, ..today.clone() };
        let told = "early, passed 99, failed 1, deferred 12, yield 99.0 %, at once 90.0 %";
        assert_eq!(shift(&outage).unwrap(), told);
        assert_eq!(pace(&today).unwrap(), "one device in 15.0 s, takt 15.0 s");
        assert_eq!(pace(&Today { pace_s: None, ..today }).unwrap(), "none yet, takt 15.0 s");
    }

    #[test]
    fn what_needs_a_person_comes_with_the_command_that_shows_it() {
        assert_eq!(exceptions(&Counts { passed: 4, ..Counts::default() }), None);
        let told = exceptions(&Counts { quarantined: 2, failed: 1, ..Counts::default() }).unwrap();
        assert_eq!(
            told,
            "2 quarantined (linemint device list --state quarantined), 1 failed (linemint device list --state failed)"
        );
    }
}
