//! Do these tests and a pss-guard that is installed on this machine leave each other alone?

use crate::support::leftovers::assert_apart;

/// At least one of everything that they do with the program: the hook and the wrapper before runtimes, and a journald.
const TESTS: [&str; 3] = ["journald::", "podman::podman_starts_its_runtimes", "wrapper::a_wrapper_without"];

#[test]
fn what_is_installed_here_moves_no_test_and_is_not_touched_by_one() {
    assert_apart("leftovers::what_is_installed_here_moves_no_test_and_is_not_touched_by_one", &TESTS);
}
