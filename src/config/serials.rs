//! Serial numbers that match a product's pattern.

use std::collections::HashSet;

use regex_syntax::hir::{Class, Hir, HirKind};

/// Repetitions beyond the least number that are drawn at most.
const MAX_EXTRA: u32 = 8;

/// Draws for each serial number before the pattern counts as used up.
const MAX_DRAWS: usize = 1000;

/// `count` serial numbers that match `pattern`, none of them in `seen`, which they are added to.
/// None if the pattern is wrong or allows too few.
pub(crate) fn matching(
    pattern: &str,
    count: usize,
    seed: u64,
    seen: &mut HashSet<String>,
) -> Option<Vec<String>> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        let fresh = (0..MAX_DRAWS).find_map(|_| {
            let mut text = String::new();
            draw(&hir, &mut random, &mut text);
            (!text.is_empty() && seen.insert(text.clone())).then_some(text)
        })?;
        made.push(fresh);
    }
    Some(made)
}

fn draw(hir: &Hir, random: &mut fastrand::Rng, into: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => into.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => into.extend(draw_class(class, random)),
        HirKind::Repetition(it) => {
            let max = it.max.unwrap_or(u32::MAX).min(it.min.saturating_add(MAX_EXTRA));
            for _ in 0..random.u32(it.min..=max) {
                draw(&it.sub, random, into);
            }
        }
        HirKind::Capture(it) => draw(&it.sub, random, into),
        HirKind::Concat(parts) => parts.iter().for_each(|it| draw(it, random, into)),
        HirKind::Alternation(branches) => {
            if let Some(branch) = random.choice(branches) {
                draw(branch, random, into);
            }
        }
    }
}

fn draw_class(class: &Class, random: &mut fastrand::Rng) -> Option<char> {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(it) => {
            it.ranges().iter().map(|it| (u32::from(it.start()), u32::from(it.end()))).collect()
        }
        Class::Bytes(it) => {
            it.ranges().iter().map(|it| (u32::from(it.start()), u32::from(it.end()))).collect()
        }
    };
    let total: u32 = ranges.iter().map(|(start, end)| end - start + 1).sum();
    let mut at = random.u32(0..total.max(1));
    for (start, end) in ranges {
        let len = end - start + 1;
        if at < len {
            return char::from_u32(start + at);
        }
        at -= len;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::serial::SerialNumber;
    use crate::device::serial::SerialPattern;

    #[test]
    fn what_is_drawn_matches_and_is_different() {
        for pattern in ["^[A-Z0-9]{12,50}$", "SN-(0[1-9]|1[0-2])-[0-9a-f]+", "X?Y{3}[0-9]{4}"] {
            let made = matching(pattern, 100, 7, &mut HashSet::new()).unwrap();
            let compiled = SerialPattern::new(pattern).unwrap();
            assert!(made.iter().all(|it| SerialNumber::parse_as(it, &compiled).is_ok()), "{pattern}");
            assert_eq!(made.iter().collect::<HashSet<_>>().len(), 100);
        }
    }

    #[test]
    fn a_pattern_that_allows_too_few_is_told() {
        assert!(matching("[01]", 3, 7, &mut HashSet::new()).is_none());
    }
}
