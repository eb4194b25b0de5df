//! Seeds: many of them, each with several crashes.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::plan::Plan;
use super::super::{Stats, run};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |it| it.parse().expect(variable))
}

/// Says something that `cargo test` shows: what is written to the handle itself is not captured.
pub(super) fn announce(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[test]
fn whatever_happens_each_device_ends_with_one_identity() {
    let (first, count) = (number("SIMULATION_FIRST", 0), number("SIMULATION_SEEDS", 20_000));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(u64::MAX);
    let begin = tokio::time::Instant::now();
    let totals = std::thread::scope(|scope| {
        let work = || {
            let mut total = Stats::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count || seed > failed.load(Ordering::Relaxed) {
                    return total;
                }
                match run(Plan::of(seed), false) {
                    Ok(stats) => add(&mut total, stats),
                    Err(found) => {
                        announce(&format!("seed {seed}: {}", found.what));
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    let failed = failed.into_inner();
    assert!(
        failed == u64::MAX,
        "seed {failed} fails; its story: SIMULATION_SEED={failed} cargo test --lib simulation::tests::seeds::replay -- --nocapture"
    );
    let mut total = Stats::default();
    totals.into_iter().for_each(|it| add(&mut total, it));
    let seconds = begin.elapsed().as_secs_f64();
    announce(&format!(
        "simulation: {count} seeds in {seconds:.1} s on {threads} threads ({:.0} a second), {} crashes, {} records, {} calls, {} events, {} units passed",
        count as f64 / seconds,
        total.crashes,
        total.records,
        total.calls,
        total.events,
        total.passes
    ));
    assert!(total.crashes >= 2 * count, "{total:?}");
}

fn add(total: &mut Stats, it: Stats) {
    total.events += it.events;
    total.crashes += it.crashes;
    total.writes += it.writes;
    total.calls += it.calls;
    total.records += it.records;
    total.passes += it.passes;
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..40 {
        let [one, other] = [(); 2].map(|()| run(Plan::of(seed), true).map_err(|it| it.what));
        assert_eq!(one, other, "seed {seed}");
    }
}

/// Tells the story of the seed in `SIMULATION_SEED`; without it, of the first.
#[test]
fn replay() {
    let seed = number("SIMULATION_SEED", 0);
    let found = match run(Plan::of(seed), true) {
        Ok(stats) => return println!("seed {seed} ends well: {stats:?}"),
        Err(found) => found,
    };
    println!("{:#?}", Plan::of(seed));
    found.story.iter().for_each(|it| println!("{it}"));
    panic!("seed {seed}: {}", found.what);
}
