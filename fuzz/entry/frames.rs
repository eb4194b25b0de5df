//! The frame decoder, both ways.

use std::fmt::Debug;

use linemint::fixture::frame::{Decoded, Decoder, Incoming, encode};
use linemint::fixture::{FixtureMessage, MAX_FRAME_LEN, StationMessage};
use serde::Serialize;

/// Reads `data` as either side would, and panics if what it says depends on how it was cut, or if a message
/// that was read is not read again from what is written for it. How many lines said something.
pub(crate) fn frames(data: &[u8]) -> usize {
    side::<FixtureMessage>(data) + side::<StationMessage>(data)
}

fn side<M: Incoming + Serialize + PartialEq + Debug>(data: &[u8]) -> usize {
    let whole = read::<M>(data, data.len());
    for cut in [1, 7, 4_096] {
        assert_eq!(read::<M>(data, cut), whole, "cut into pieces of {cut}");
    }
    for it in &whole {
        match it {
            Decoded::Message(message) => again(message),
            // 64 bytes, each escaped by four characters at most, and a remark if less is shown.
            Decoded::Bad { sample, .. } => assert!(sample.to_string().len() <= 4 * 64 + 40, "{sample}"),
            Decoded::Echo => {}
        }
    }
    whole.len()
}

fn read<M: Incoming>(data: &[u8], cut: usize) -> Vec<Decoded<M>> {
    let mut decoder = Decoder::<M>::new();
    let mut all = Vec::new();
    for piece in data.chunks(cut.max(1)) {
        decoder.push(piece);
        all.extend(decoder.by_ref());
    }
    let counts = decoder.counts();
    assert_eq!(counts.frames + counts.bad + counts.echoes, all.len() as u64);
    all
}

fn again<M: Incoming + Serialize + PartialEq + Debug>(message: &M) {
    // What came with short escapes may be longer when it is written.
    let Ok(frame) = encode(message) else { return };
    assert!(frame.len() <= MAX_FRAME_LEN);
    let read = read::<M>(&frame, frame.len());
    assert!(matches!(&read[..], [Decoded::Message(it)] if it == message), "{message:?} is not read again");
}
