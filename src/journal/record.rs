//! How a value stands in the store: a version, a checksum, JSON.
//!
//! ```text
//! byte 0      1      format of what follows
//! bytes 1..5  CRC-32 (IEEE) of the rest, big endian
//! bytes 5..   JSON
//! ```
//! JSON, because a record has to be readable years later by whoever holds a copy; the checksum,
//! because sled does not notice every flipped bit.

use serde::Serialize;
use serde::de::DeserializeOwned;

const FORMAT: u8 = 1;
const HEADER_LEN: usize = 5;

/// Why a stored value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum BadRecord {
    #[error("it is cut off")]
    Short,
    #[error("it has format {0}, which this version does not know")]
    Format(u8),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it does not say what it should: {0}")]
    Content(String),
}

/// The bytes of `value`.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, BadRecord> {
    let mut bytes = vec![FORMAT, 0, 0, 0, 0];
    serde_json::to_writer(&mut bytes, value).map_err(|error| BadRecord::Content(error.to_string()))?;
    let checksum = crc32fast::hash(&bytes[HEADER_LEN..]);
    bytes[1..HEADER_LEN].copy_from_slice(&checksum.to_be_bytes());
    Ok(bytes)
}

/// The value of `bytes`.
///
/// # Errors
/// The bytes are cut, of another format, damaged, or say something else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRecord> {
    let (header, body) = bytes.split_at_checked(HEADER_LEN).ok_or(BadRecord::Short)?;
    if header[0] != FORMAT {
        return Err(BadRecord::Format(header[0]));
    }
    if header[1..] != crc32fast::hash(body).to_be_bytes() {
        return Err(BadRecord::Checksum);
    }
    serde_json::from_slice(body).map_err(|error| BadRecord::Content(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let bytes = encode(&vec!["a", "b"]).unwrap();
        assert_eq!(decode::<Vec<String>>(&bytes).unwrap(), ["a", "b"]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Vec<String>>(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode::<Vec<String>>(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
