#![no_main]

#[path = "../entry/frames.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = entry::frames(data);
});
