//! What is fuzzed, one function for each target. Called by the targets of this crate, and by `cargo test`
//! (`tests/it/fuzz.rs`) over the seeds in `tests/corpus` and what chance makes of them.

pub(crate) mod api;
pub(crate) mod frames;
pub(crate) mod scanner;
