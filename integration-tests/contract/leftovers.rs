//! Do these tests and a pss-guard that is installed on this machine leave each other alone?

use crate::support::leftovers::assert_apart;

/// At least one of everything that they do with the program: its commands, and the hook.
const TESTS: [&str; 7] = [
    "check::",
    "decisions::",
    "faults::a_container_that_cannot_be_judged",
    "metrics::every_event",
    "mode::preflight::enforcing",
    "report::",
    "scan::the_answer",
];

#[test]
fn what_is_installed_here_moves_no_test_and_is_not_touched_by_one() {
    assert_apart("leftovers::what_is_installed_here_moves_no_test_and_is_not_touched_by_one", &TESTS);
}
