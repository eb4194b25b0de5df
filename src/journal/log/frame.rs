//! The bytes of a header and of a frame. Pure: nothing here touches a disk.

use super::{ChainHash, FORMAT};

/// Length of a file's header.
pub(crate) const HEADER_BYTES: usize = 72;

/// Length of a frame without its body.
pub(crate) const FRAME_BYTES: usize = 48;

/// The longest body: far more than any record needs, so that a wrong length shows.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

/// Most records of one commit.
pub(crate) const MAX_COMMIT: usize = 1 << 16;

/// What a header begins with.
pub(crate) const MAGIC: [u8; 8] = *b"LMJRNL\r\n";
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: String,
    pub(crate) first: u64,
    pub(crate) previous: ChainHash,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// It is no file of ours.
    Foreign,
    /// A later version wrote it; its format.
    Newer(u32),
    /// Its bytes are not what was written.
    Damaged,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_be_bytes());
        // An id is 16 digits; another would show when the header is read again.
        let length = self.id.len().min(16);
        bytes[12..12 + length].copy_from_slice(&self.id.as_bytes()[..length]);
        bytes[28..36].copy_from_slice(&self.first.to_be_bytes());
        bytes[36..68].copy_from_slice(&self.previous.0);
        let checksum = crc32fast::hash(&bytes[..68]);
        bytes[68..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let format = u32_at(bytes, 8);
        let intact = u32_at(bytes, 68) == crc32fast::hash(&bytes[..68]);
        match (bytes[..8] == MAGIC, intact) {
            (true, true) if format == FORMAT => {}
            (true, true) => return Err(BadHeader::Newer(format)),
            // A later format may be checked in another way, but not one that is a flipped bit away.
            (true, false) if (format ^ FORMAT).count_ones() > 1 => return Err(BadHeader::Newer(format)),
            (false, false) if flipped_bits(&bytes[..8], &MAGIC) > 1 => return Err(BadHeader::Foreign),
            _ => return Err(BadHeader::Damaged),
        }
        let id = &bytes[12..28];
        if !id.iter().all(u8::is_ascii_hexdigit) {
            return Err(BadHeader::Damaged);
        }
        let mut previous = [0; 32];
        previous.copy_from_slice(&bytes[36..68]);
        Ok(Self {
            id: String::from_utf8_lossy(id).into_owned(),
            first: u64::from(u32_at(bytes, 28)) << 32 | u64::from(u32_at(bytes, 32)),
            previous: ChainHash(previous),
        })
    }
}

fn flipped_bits(left: &[u8], right: &[u8]) -> u32 {
    left.iter().zip(right).map(|(left, right)| (left ^ right).count_ones()).sum()
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Length of the body.
    pub(crate) length: usize,
    checksum: u32,
    /// Place of the record in its commit, from 0.
    pub(crate) place: u32,
    /// Records that follow in the same commit.
    pub(crate) left: u32,
    /// The record's chain hash.
    pub(crate) hash: ChainHash,
}

impl FrameHead {
    /// What the bytes say; `None` if no frame begins so, whatever follows.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME_BYTES)?;
        let length = u32_at(bytes, 0) as usize;
        let (place, left) = (u32_at(bytes, 8), u32_at(bytes, 12));
        let fits = (1..=MAX_BODY_BYTES).contains(&length)
            && (place as usize) < MAX_COMMIT
            && (left as usize) < MAX_COMMIT;
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[16..]);
        fits.then_some(Self { length, checksum: u32_at(bytes, 4), place, left, hash: ChainHash(hash) })
    }
}

/// Appends a frame to `to`; says the record's chain hash. The caller keeps to the limits above.
pub(crate) fn push(to: &mut Vec<u8>, previous: &ChainHash, body: &[u8], place: u32, left: u32) -> ChainHash {
    let begin = to.len();
    let hash = previous.next(body);
    // Checked by the caller against MAX_BODY_BYTES, which fits.
    to.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&place.to_be_bytes());
    to.extend_from_slice(&left.to_be_bytes());
    to.extend_from_slice(&hash.0);
    to.extend_from_slice(body);
    let checksum = checksum(&to[begin..]);
    to[begin + 4..begin + 8].copy_from_slice(&checksum.to_be_bytes());
    hash
}

/// Whether the frame (head and body, nothing after) is as it was written.
pub(crate) fn is_intact(frame: &[u8]) -> bool {
    frame.len() > FRAME_BYTES && u32_at(frame, 4) == checksum(frame)
}

/// Whether flipping one bit of the bytes that begin a frame would make it intact.
pub(crate) fn is_one_bit_off(bytes: &[u8]) -> bool {
    let Some(head) = bytes.get(..FRAME_BYTES) else { return false };
    let said = u32_at(head, 0);
    // A flipped length moves the end, so that each of its bits is tried by itself.
    let lengths = (0..32).map(|bit| said ^ (1 << bit)).filter(|it| (1..=MAX_BODY_BYTES as u32).contains(it));
    for length in lengths {
        if let Some(frame) = bytes.get(..FRAME_BYTES + length as usize) {
            let mut digest = crc32fast::Hasher::new();
            digest.update(&length.to_be_bytes());
            digest.update(&frame[8..]);
            if digest.finalize() == u32_at(head, 4) {
                return true;
            }
        }
    }
    let frame = match bytes.get(..FRAME_BYTES + said as usize) {
        Some(frame) if (1..=MAX_BODY_BYTES).contains(&(said as usize)) => frame,
        _ => return false,
    };
    let difference = u32_at(frame, 4) ^ checksum(frame);
    // A checksum is linear: what one flipped bit changes depends on its distance from the end only.
    let mut change = POLYNOMIAL;
    for _ in 0..(frame.len() - 4) * 8 {
        if change == difference {
            return true;
        }
        change = (change >> 1) ^ if change & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    difference.count_ones() == 1
}

fn checksum(frame: &[u8]) -> u32 {
    let mut digest = crc32fast::Hasher::new();
    digest.update(&frame[..4]);
    digest.update(&frame[8..]);
    digest.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> (Vec<u8>, ChainHash) {
        let mut bytes = Vec::new();
        let previous = ChainHash::genesis("00112233445566aa");
        let hash = push(&mut bytes, &previous, br#"{"seq":1}"#, 3, 4);
        assert_eq!(hash, previous.next(br#"{"seq":1}"#));
        (bytes, hash)
    }

    #[test]
    fn a_frame_reads_back() {
        let (bytes, hash) = frame();
        assert!(is_intact(&bytes));
        let head = FrameHead::decode(&bytes).unwrap();
        assert_eq!((head.length, head.place, head.left, head.hash), (9, 3, 4, hash));
    }

    #[test]
    fn every_single_flipped_bit_is_known_as_such_and_two_are_not() {
        let (bytes, _) = frame();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHead::decode(&bad).is_none_or(|it| it.length != 9) || !is_intact(&bad), "bit {bit}");
            // What follows in the file does not matter.
            bad.extend_from_slice(&[0xA5; 100]);
            assert!(is_one_bit_off(&bad), "bit {bit}");
        }
        let mut zeros = bytes.clone();
        zeros[50..].fill(0);
        assert!(!is_one_bit_off(&zeros));
        assert!(!is_one_bit_off(&bytes[..bytes.len() - 1]));
        assert!(!is_one_bit_off(&[0; 200]));
    }

    #[test]
    fn a_header_reads_back_and_no_flipped_bit_passes() {
        let id = "0123456789abcdef".to_owned();
        let header = Header { previous: ChainHash::genesis(&id), id, first: 7 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), Err(BadHeader::Damaged), "bit {bit}");
        }
        assert_eq!(Header::decode(&[7; HEADER_BYTES]), Err(BadHeader::Foreign));
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let mut bytes = Header { previous: ChainHash([0; 32]), id: "0".repeat(16), first: 1 }.encode();
        bytes[11] = 2;
        let checksum = crc32fast::hash(&bytes[..68]);
        bytes[68..].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Newer(2)));
    }
}
