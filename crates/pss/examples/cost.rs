//! What one evaluation costs: a compliant pod of three containers at restricted, in nanoseconds.
//!
//! `cargo run --release --package pss --features testing --example cost`

#![allow(clippy::print_stdout, reason = "it is what an example does")]

use std::hint::black_box;
use std::time::Instant;

use pss::{Level, NEWEST, evaluate_pod, testing};

fn main() {
    let pod = testing::compliant_pod();
    let times = 200_000;
    let mut rounds = [0; 9].map(|_: u8| {
        let start = Instant::now();
        for _ in 0..times {
            let evaluation = evaluate_pod(Level::Restricted, NEWEST, black_box(&pod), |_| false);
            assert!(black_box(evaluation).is_allowed());
        }
        start.elapsed().as_nanos() / times
    });
    rounds.sort_unstable();
    println!("{} ns (fastest {}, slowest {})", rounds[4], rounds[0], rounds[8]);
}
