//! Do these tests and a pss-guard that is installed on this machine leave each other alone?

use crate::support::leftovers::assert_apart;

/// A machine in namespaces, on which the gate decides.
const TESTS: [&str; 1] = ["history::events_are_told_once"];

#[test]
fn what_is_installed_here_moves_no_test_and_is_not_touched_by_one() {
    assert_apart("leftovers::what_is_installed_here_moves_no_test_and_is_not_touched_by_one", &TESTS);
}
