//! Numbers that ascend, in few bytes: of records, of places in the log.
//!
//! The first number, then what each is more than the one before it, in groups of seven bits, the lowest
//! first, all but the last of a number with the highest bit set; the whole in base64, so that it can stand
//! in a row of JSON. A record's number is nearly always two or three bytes then, and not eight digits: the
//! shorter a row the less sled writes for it and has to clear away.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers, none less than the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers(pub(super) Vec<u64>);

impl Numbers {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 2);
        let mut before = 0;
        for number in &self.0 {
            // What does not ascend would come back as another number: it wraps around, and back.
            let mut more = number.wrapping_sub(before);
            before = *number;
            while more >= 0x80 {
                bytes.push(more.to_le_bytes()[0] | 0x80);
                more >>= 7;
            }
            bytes.push(more.to_le_bytes()[0]);
        }
        bytes
    }

    /// None if the bytes end within a number, or a number is too large.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Vec::with_capacity(bytes.len() / 2);
        let (mut number, mut more, mut shift) = (0_u64, 0_u64, 0_u32);
        for byte in bytes {
            let bits = u64::from(byte & 0x7F);
            if shift > 63 || bits << shift >> shift != bits {
                return None;
            }
            more |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                number = number.wrapping_add(more);
                numbers.push(number);
                (more, shift) = (0, 0);
            }
        }
        (shift == 0).then_some(Self(numbers))
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.encode()))
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        Self::decode(&bytes).ok_or_else(|| D::Error::custom("a list of numbers is cut off"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_take_a_byte_and_what_is_none_is_refused() {
        let row = Numbers((1_000_000..1_000_064).collect());
        assert_eq!(row.encode().len(), 3 + 63);
        assert_eq!(Numbers::decode(&[]), Some(Numbers::default()));
        assert_eq!(Numbers::decode(&[0x80]), None, "cut off");
        let most = Numbers(vec![u64::MAX]);
        assert_eq!(Numbers::decode(&most.encode()), Some(most.clone()));
        let mut larger = most.encode();
        larger[9] = 2;
        assert_eq!(Numbers::decode(&larger), None, "65 bits");
        assert_eq!(Numbers::decode(&[0x80; 11]), None, "too long");
        assert!(serde_json::from_str::<Numbers>("\"?\"").is_err());
    }

    proptest! {
        #[test]
        fn all_numbers_come_back(mut numbers in proptest::collection::vec(any::<u64>(), 0..80), sorted in any::<bool>()) {
            if sorted {
                numbers.sort_unstable();
            }
            let numbers = Numbers(numbers);
            let text = serde_json::to_string(&numbers).unwrap();
            prop_assert_eq!(serde_json::from_str::<Numbers>(&text).unwrap(), numbers);
        }
    }
}
