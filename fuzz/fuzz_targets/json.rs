//! config.json by the gate's own reader and by serde_json: what one accepts the other accepts, and both read the same.
//!
//! What is nested deeper than the reader goes is left to serde_json, which is no disagreement: the gate asks it then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::inspect::both_ways;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match both_ways(text) {
        (Some(short), Ok(long)) => assert_eq!(format!("{short:?}"), format!("{long:?}")),
        (Some(short), Err(error)) => panic!("{error}, but it was read: {short:?}"),
        (None, Ok(long)) => assert!(is_deep(text), "it was not read: {long:?}"),
        (None, Err(_)) => {}
    }
});

/// Whether something in it may be nested that deep.
fn is_deep(text: &str) -> bool {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > 64
}
