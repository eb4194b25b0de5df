//! The scenarios in `tests/scenarios`, one folder for each rule that shows on the wire: `README.md`
//! says which, `overrides.toml` (if there is one) what differs from the usual configuration, and
//! `conversation.txt` what is said and what holds in the end. How that is written:
//!
//! ```text
//! > {…}              the fixture sends this frame        2> {…}     the second fixture does
//! >& {…}             … together with the next one, in one write
//! >crc {…}           … with a wrong checksum
//! >cut N {…}         … only its first N bytes, without a line end
//! >text JSON         … spelt as it stands (\xNN and so on as below), with the right CRC behind it
//! >padded N {…}     … made N bytes long, LF included, by blanks before its end
//! >raw TEXT          bytes as they stand (\n, \r, \t, \\, \xNN)
//! >noise N           N bytes of noise and a line end
//! >flood N           N bytes without a line end
//! < {…}              the station's next message but `pull` and `hello` has these members
//! <other {…}         … after any number of others
//! <next {…}          … and nothing at all before it
//! <within N {…}      … after N others at most
//! <set [{…}, {…}]    the next messages but `pull` and `hello` are these, in whatever order
//! <silence MS        for so long nothing is said but `pull` and `hello`, to a scanner nothing at all
//! <raw TEXT          these bytes are written to a scanner next
//! ! start | kill | terminate | ended STATUS | greet BOOT | unplug | replug | swap
//! ! cloud on|off|deny|skew|full|throttle|refuse
//! ! order COMMAND…   a command of the binary that ends with 0; $DIR/ is where the configuration is
//! ! file NAME TEXT   a file beside the configuration
//! ! policy NAME {…}  somebody else makes a policy        ! thing NAME STATION   … a thing
//! ? SERIAL /pointer JSON      the API comes to say this of the device
//! ? status /pointer JSON      … of the station
//! ? account SERIAL…           the account holds exactly what these serials should have
//! ? active N                  the account holds N active certificates
//! ? no-keys                   no private key is left in the station
//! ? log TEXT                  a line of the station's log has this; ? not-logged TEXT: none has
//! ? delivered SERIAL          a folder with its manifest lies in `out`
//! ? events NAME /pointer JSON  an event of that name comes to have this
//! ? file NAME TEXT            a file beside the configuration has this text
//! ? missing SERIAL            the station knows no such device
//! ```
//! In JSON, `"$=name"` takes what is there for `name`, `"$name"` is what was taken; `"$csr:a"` is a
//! signing request with key `a`, `"$csr-ca:a"` one that asks for CA:TRUE, `"$serial:N"` a serial of N
//! characters. `null` means that a member is not there, `"*"` that it is. Whatever holds for every
//! message (a legal line for the operator, a certificate that is no CA's, …) is checked always.

mod check;
mod rules;
mod script;
mod walker;

use std::fs;
use std::path::{Path, PathBuf};

use self::script::Step;
use self::walker::Walker;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn walk(name: &str) {
    let folder = folder().join(name);
    let overrides = fs::read_to_string(folder.join("overrides.toml")).unwrap_or_default();
    let text = fs::read_to_string(folder.join("conversation.txt")).unwrap();
    let steps: Vec<(usize, Step)> = script::parse(&text);
    Walker::new(&overrides).walk(&steps);
}

macro_rules! scenarios {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        $(#[test] $(#[$attribute])* fn $name() { walk(stringify!($name)); })*

        #[test]
        fn every_scenario_has_its_files_and_is_walked() {
            let known = [$(stringify!($name)),*];
            for entry in fs::read_dir(folder()).unwrap().map(Result::unwrap).filter(|it| it.path().is_dir()) {
                let name = entry.file_name().into_string().unwrap();
                assert!(known.contains(&name.as_str()), "{name} is not in the list of tests");
                let readme = fs::read_to_string(entry.path().join("README.md")).unwrap();
                assert!(!readme.trim().is_empty(), "{name} does not say what it shows");
            }
        }
    };
}

scenarios! {
    a_bad_line_is_logged
    a_cable_pulled_after_credentials
    a_clock_that_aws_refuses_is_told
    a_clone_is_known_by_its_mac
    a_clone_is_known_by_its_public_key
    a_csr_never_makes_a_ca
    a_failed_unit_keeps_its_certificate_over_a_restart
    a_fixture_that_tells_no_boot
    a_flood_without_a_line_end_is_dropped_up_to_the_next
    a_full_backlog_is_busy
    a_key_made_in_the_device_stays_there
    a_nearly_full_disk_takes_no_new_unit
    a_new_board_under_the_same_serial
    a_new_boot_closes_what_was_open
    a_new_id_in_the_same_nest_closes_the_old_one
    a_passed_unit_comes_again_and_is_rejected
    a_passed_unit_comes_again_and_is_renewed
    a_passed_unit_comes_again_and_nothing_changes
    a_passed_unit_comes_again_holding_another_certificate
    a_passed_unit_comes_again_holding_none
    a_passed_unit_comes_again_with_another_mac
    a_passed_unit_comes_again_with_the_right_certificate
    a_policy_that_is_not_ours_is_a_conflict
    a_public_key_is_told_by_two_serials
    a_quota_that_is_used_up_is_told
    a_released_unit_comes_again
    a_repeated_unit_is_answered_where_it_stands
    a_repeated_written_is_answered_the_same
    a_reset_that_nobody_heard_of
    a_restart_answers_as_before
    a_scrapped_unit_is_not_taken
    a_thing_of_another_station_is_a_conflict
    a_unit_before_hello_is_busy
    a_unit_is_followed_by_the_next_pull
    a_unit_may_come_unasked
    a_unit_that_does_not_fit_is_not_taken
    a_unit_that_is_not_on_the_work_order
    a_verdict_is_followed_by_the_next_pull
    answers_are_not_repeated_unasked
    attributes_are_journaled
    aws_refuses_for_good_and_the_unit_is_put_aside
    aws_throttles_and_the_unit_is_told
    bad_frames_are_counted_and_answered
    credentials_are_repeated_until_answered
    draining_takes_no_new_unit_and_finishes_the_old
    echoes_are_counted_and_not_answered
    foreign_bytes_come_first
    lines_with_the_right_crc_that_are_no_messages
    no_work_order_is_open
    nobody_answers_and_the_unit_fails
    noise_costs_only_itself
    offline_then_straight_to_credentials
    one_copy_at_most_waits_for_the_cable
    one_device_from_unit_to_pass
    one_serial_in_two_fixtures
    one_serial_in_two_nests
    pull_is_repeated_until_it_is_answered
    removed_after_pass_is_pass
    removed_before_credentials
    scanner_a_code_becomes_a_delivered_unit
    scanner_a_code_read_twice
    scanner_a_line_that_does_not_match
    scanner_a_refusal_is_written
    scanner_an_instrument_is_asked
    scanner_nothing_is_written_unasked
    scanner_terminators
    scanner_the_first_line_may_be_half
    scanner_the_window_counts_from_the_last_reading
    scanner_too_long_a_line
    scanner_what_surrounds_a_code
    silence_is_no_hang_up
    spellings_of_a_frame
    swapped_cables_are_refused
    the_fixture_is_another_one
    the_longest_frame_is_read
    the_protocol_is_another_one
    the_stations_own_trouble_is_internal
    two_units_overlap
    unauthorized_keeps_the_work_going
    unknown_members_are_ignored
    write_failed_then_again
    written_for_another_serial_quarantines_both
    written_with_a_foreign_certificate
    written_with_an_earlier_certificate
}
