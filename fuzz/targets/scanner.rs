#![no_main]

#[path = "../entry/scanner.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = entry::scanner(data);
});
