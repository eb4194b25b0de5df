#![no_main]

#[path = "../entry/api.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = entry::api(data);
});
