//! How a device stands in the index: a version, a checksum, and its JSON as an LZ4 block with a [`DICTIONARY`].
//!
//! ```text
//! byte 0      1      format of what follows
//! bytes 1..5  CRC-32 (IEEE) of the rest, big endian
//! bytes 5..9  length of the JSON, little endian
//! bytes 9..   LZ4 block
//! ```
//! Plain JSON, as the log has it, would be readable by anybody; the index is made from the log whenever need be. A new
//! serial number reads a leaf of some ten devices in which it is not, and sled keeps those leaves in memory for a while:
//! 17 MiB of a fast station's 80, at 1.3 KB for a device that has passed. So it is about half of that.

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_with_dict, uncompressed_size};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::journal::record::BadRecord;

/// 1 is plain JSON ([`crate::journal::record`]), 2 a note of pieces (`device_row`).
const FORMAT: u8 = 3;
const HEADER_LEN: usize = 5;

/// Most bytes that a byte of an LZ4 block stands for: so much and no more is made room for, whatever the length says.
const MOST: usize = 255;

/// What nearly every device says, in the order in which it says it. A block is read with the dictionary that it was
/// written with: a change here is a new format of the index ([`super::FORMAT`]).
const DICTIONARY: &[u8] = concat!(
    r#""batch":"","state":"provisioning","key":"sealed","der":"MIIB","not_after":"202,"#,
    r#"false,"thing":false,"attach_policy":false,"attach_thing":false},"last_seq":"#,
    r#"{"serial":"","product":"","rules":"","mac":"02","state":"passed","generation":1,"#,
    r#""admitted_at":"202Z","updated_at":"202Z","passed_at":"202Z","#,
    r#""presentation":{"key":{"fixture":"nest-1","boot":,"id":},"nest":"1","at":"202Z","seq":,"#,
    r#""outcome":{"outcome":"passed","again":false}},"presentations":1,"#,
    r#""certificate":{"fingerprint":"","serial_number":"","not_after":"20Z","key":"destroyed","#,
    r#""arn":"arn:aws:iot:eu-west-1:cert/","issuer":""},"certificates_issued":1,"issued_at":"202Z","#,
    r#""done":{"locker":"","locker_arn":"arn:aws:iotmanagedintegrations::credential-locker/","#,
    r#""policy":true,"thing":true,"attach_policy":true,"attach_thing":true},"last_seq":,"#,
    r#""records":"AEBIgEBAQEBAQI","put_away":0}"#,
)
.as_bytes();

/// The bytes of `value`.
///
/// # Errors
/// The value cannot be written as JSON.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, BadRecord> {
    let json = serde_json::to_vec(value).map_err(|error| BadRecord::Content(error.to_string()))?;
    let block = compress_prepend_size_with_dict(&json, DICTIONARY);
    let checksum = crc32fast::hash(&block).to_be_bytes();
    Ok([&[FORMAT][..], &checksum, &block].concat())
}

/// The value of `bytes`.
///
/// # Errors
/// The bytes are cut, of another format, damaged, or say something else.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRecord> {
    let (header, block) = bytes.split_at_checked(HEADER_LEN).ok_or(BadRecord::Short)?;
    if header[0] != FORMAT {
        return Err(BadRecord::Format(header[0]));
    }
    if header[1..] != crc32fast::hash(block).to_be_bytes() {
        return Err(BadRecord::Checksum);
    }
    let bad = |error: &dyn std::fmt::Display| BadRecord::Content(error.to_string());
    let (length, block) = uncompressed_size(block).map_err(|it| bad(&it))?;
    if length > block.len().saturating_mul(MOST) {
        return Err(BadRecord::Content("it is longer than its block can say".to_owned()));
    }
    let json = decompress_with_dict(block, length, DICTIONARY).map_err(|it| bad(&it))?;
    serde_json::from_slice(&json).map_err(|it| bad(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let bytes = encode(&vec!["a", "\"state\":\"passed\""]).unwrap();
        assert_eq!(decode::<Vec<String>>(&bytes).unwrap(), ["a", "\"state\":\"passed\""]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Vec<String>>(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode::<Vec<String>>(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_length_that_no_block_has_is_given_no_room() {
        let mut block = compress_prepend_size_with_dict(b"[]", DICTIONARY);
        block[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let bytes = [&[FORMAT][..], &crc32fast::hash(&block).to_be_bytes(), &block].concat();
        let refused = decode::<Vec<String>>(&bytes).unwrap_err();
        assert_eq!(refused, BadRecord::Content("it is longer than its block can say".to_owned()));
    }

    #[test]
    fn any_text_comes_back() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let words = ["policy\":true", "a", "0123456789abcdef", "\u{e9}", "arn:aws:iot:eu-west-1:"];
            let text: Vec<String> = (0..rng.usize(0..50))
                .map(|_| (0..rng.usize(0..80)).map(|_| words[rng.usize(..words.len())]).collect())
                .collect();
            assert_eq!(decode::<Vec<String>>(&encode(&text).unwrap()).unwrap(), text, "seed {seed}");
        }
    }
}
