//! A pod that is allowed is evaluated without a single allocation.
//!
//! `unsafe`: counting needs an allocator of our own, which passes every call on to the system's as it came.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pss::{Level, NEWEST, evaluate_pod, testing};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the contract is the system allocator's, and so is everything that is returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises, and it is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations an evaluation makes.
fn allocations(level: Level, pod: &pss::pod::Pod, minor: pss::Minor) -> usize {
    let before = COUNT.get();
    let evaluation = evaluate_pod(level, minor, pod, |_| false);
    let after = COUNT.get();
    drop(evaluation);
    after - before
}

#[test]
fn an_allowed_pod_costs_no_allocation() {
    let mut pod = testing::compliant_pod();
    for level in Level::ALL {
        for minor in 0..=NEWEST {
            assert_eq!(allocations(level, &pod, minor), 0, "{level}:v1.{minor}");
        }
    }
    // It is counted, then.
    pod.spec.host_network = true;
    assert!(allocations(Level::Baseline, &pod, NEWEST) > 0);
}
