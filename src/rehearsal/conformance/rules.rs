//! The rules that a fixture is held to: each with an id that never changes and what the protocol demands.

/// One rule of the protocol, as far as it shows on a fixture's wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Never changes.
    pub id: &'static str,
    /// What the protocol demands, one sentence.
    pub demand: &'static str,
}

macro_rules! rules {
    ($($name:ident = $id:literal: $demand:literal;)*) => {
        $(pub(super) const $name: &Rule = &Rule { id: $id, demand: $demand };)*

        /// Every rule, in the order of the report.
        pub const RULES: &[&Rule] = &[$($name),*];
    };
}

rules! {
    HELLO_ANSWERED = "hello-answered": "Each `hello` of the station is answered with one.";
    HELLO_RIGHT = "hello-right": "`hello` tells protocol 1 and the name that the station knows.";
    BOOT_KEPT = "boot-kept": "`boot` stays the same until the next reset.";
    BOOT_DIFFERS = "boot-differs-after-reset":
        "After a reset the fixture says `hello` unasked, with another `boot`.";
    PIECES = "frame-in-pieces-read": "A frame counts however its bytes are cut on the way.";
    SPELLINGS = "spellings-accepted":
        "A CR before the LF, empty lines, blanks in the JSON, its members' order and null members change nothing.";
    GARBAGE = "garbage-tolerated": "A line that is no frame is counted; the next frame is read.";
    WRONG_CRC = "wrong-crc-ignored": "A frame whose CRC is wrong has no effect.";
    OVERLONG = "overlong-tolerated":
        "A line of more than 16,384 bytes is thrown away up to its LF, and the next frame is read.";
    BAD_JSON = "bad-json-tolerated":
        "A line with the right CRC that is not UTF-8, no JSON object or lacks a member is counted, not acted on.";
    UNKNOWN_TYPE = "unknown-type-ignored": "A frame of an unknown type is counted; the next one is read.";
    UNKNOWN_MEMBERS = "unknown-members-ignored": "Members that the fixture does not know change nothing.";
    ECHO = "echo-tolerated": "The fixture's own frames coming back are counted and not answered.";
    PULL = "idle-or-unit-answers-pull": "`pull` is answered with `unit` or `idle`.";
    PRESENTED = "unit-presented": "Units in the fixture are presented.";
    WELL_FORMED = "unit-well-formed":
        "serial: 1 to 128 printable ASCII characters, no blanks; mac: 12 hex digits; holds: 64 or none; at most 16 attributes.";
    KEY = "key-as-told": "A unit that makes its own key brings a sound CSR, and no other unit brings one.";
    UNIT_REPEATED = "unit-repeated-until-ack": "`unit` is repeated every period until it is answered.";
    ONE_COPY = "never-two-copies": "Of one thing there is never a second copy before the first has left.";
    ID_KEPT = "id-kept-while-waiting": "A unit that is only waiting keeps its id and its members.";
    NESTS = "nests-independent": "Presentations in several nests go on beside each other.";
    BUSY = "busy-not-final": "After `nak` `busy` the same `unit` is repeated a period later, with the same id.";
    DRAINING = "draining-not-final": "After `nak` `draining` the same `unit` is repeated a period later.";
    BAD_FRAME = "bad-frame-not-final": "`nak` `bad-frame` ends nothing: whoever waits goes on repeating.";
    ACKED_SLOWLY = "repeat-after-ack-slow": "After `ack` a `unit` is repeated every 5 periods, and no longer each.";
    WRONG_ID = "wrong-id-refused":
        "`credentials` for an id that is in no nest are stored nowhere and answered with `removed`, id and serial as received.";
    WRONG_SERIAL = "wrong-serial-refused":
        "`credentials` for another serial than the nest's are stored nowhere and answered with `removed`, id and serial as received.";
    CREDENTIALS = "credentials-answered": "`credentials` for the unit in the nest are stored and answered with `written`.";
    HASH = "certificate-hash-right":
        "`written` tells the SHA-256 of the certificate's DER as read back from the unit, and of that one only.";
    WRITTEN_REPEATED = "written-repeated-until-verdict": "`written` is repeated every period until `pass` or `fail`.";
    SAME_AGAIN = "same-certificate-again-answered-written":
        "`credentials` that the unit has stored are answered with `written` again.";
    FOREIGN_VERDICT = "foreign-verdict-ignored": "`pass` and `fail` count only if both id and serial are the nest's.";
    PASS_ENDS = "pass-ends": "`pass` ends the presentation: nothing is repeated after it.";
    FAIL_ENDS = "fail-ends": "`fail` ends the presentation: nothing is repeated after it.";
    FAIL_AGAIN = "fail-retry-true-comes-again": "After `fail` with retry the unit comes again under a new id.";
    NAK_ENDS = "final-nak-ends": "A `nak` of a final code ends the presentation.";
    FAIL_FINAL = "fail-retry-false-respected": "After `fail` without retry the unit is not presented again.";
    HOLDS = "holds-right": "`holds`, where it is told, is the certificate that the unit has, and empty only for none.";
    IDS = "ids-never-repeat": "No id stands for two presentations between two resets.";
    ONCE = "answers-not-repeated": "`hello`, `idle` and `removed` for a stranger are said once for each time they are asked for.";
    CRC = "crc-right": "Every line of the fixture is a frame with the right CRC.";
    FRAMES = "frames-well-formed": "Every frame of the fixture has a known type and the members that it needs.";
    OWN_TYPES = "own-types-only": "The fixture sends only what fixtures send, and the line does not echo.";
}
