//! A container that runs as root and without seccomp, at each level: what is violated, and the YAML that fixes it.

#![allow(clippy::print_stdout, reason = "it is what an example does")]

use pss::facts::{Facts, Seccomp};
use pss::{Certainty, Level, NEWEST, evaluate, testing};

fn main() {
    let container = Facts { uid: 0, seccomp: Seccomp::Absent, ..testing::compliant() };
    for level in Level::ALL {
        println!("# {level}");
        for found in evaluate(level, NEWEST, &container, |_| false) {
            let finding = found.finding;
            if finding.certainty == Certainty::Violates {
                println!("# {}: {} ({})\n{}", found.control.id, finding.reason, finding.detail, finding.fix);
            }
        }
    }
}
