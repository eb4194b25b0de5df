//! The tests can fail: each guard is taken out in turn, and some seed has to find it.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::plan::Plan;
use super::super::run;
use super::seeds::announce;
use crate::sabotage::{Sabotage, with};

/// Seeds that a sabotage may live through: as many as the seeds' own test runs. Most do not get over the
/// first hundred.
const MAX_SEEDS: u64 = 20_000;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`, whose panics are expected and not shown.
fn quietly<T>(body: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                shown(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = body();
    QUIET.set(false);
    result
}

/// The seed that finds it, and what it finds; without the sabotage that seed ends well.
fn caught(sabotage: Sabotage) -> Option<(u64, String)> {
    let found = |seed| run(Plan::of(seed), false).err().map(|it| (seed, it.what));
    let caught = with(Some(sabotage), || quietly(|| (0..MAX_SEEDS).find_map(found)))?;
    let without = run(Plan::of(caught.0), false);
    assert!(without.is_ok(), "seed {} fails without {sabotage:?} too: {without:?}", caught.0);
    Some(caught)
}

#[test]
fn each_sabotage_is_caught_by_some_seed() {
    let only = std::env::var("SIMULATION_SABOTAGE").ok();
    let wanted = |it: &&Sabotage| only.as_ref().is_none_or(|only| format!("{it:?}").contains(only.as_str()));
    let chosen: Vec<&Sabotage> = Sabotage::ALL.iter().filter(wanted).collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results = std::thread::scope(|scope| {
        let work = || {
            let mut results = Vec::new();
            while let Some(sabotage) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                results.push((format!("{sabotage:?}"), caught(**sabotage)));
            }
            results
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    results.sort();
    for (name, caught) in &results {
        let told = match caught {
            Some((seed, what)) => {
                format!(
                    "seed {seed}: {}",
                    what.lines().next().unwrap_or_default().chars().take(110).collect::<String>()
                )
            }
            None => "NOT CAUGHT".to_owned(),
        };
        announce(&format!("sabotage {name}: {told}"));
    }
    assert!(results.len() == chosen.len() && !chosen.is_empty(), "{results:?}");
    let survivors: Vec<_> = results.iter().filter(|it| it.1.is_none()).map(|it| &it.0).collect();
    assert!(survivors.is_empty(), "no seed finds {survivors:?}");
}
