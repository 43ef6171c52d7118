//! The OCI state on standard input: any bytes parse or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::inspect::spec::State;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(state) = serde_json::from_slice::<State<'_>>(bytes) {
        let text = std::str::from_utf8(bytes).map(serde_json::from_str::<serde_json::Value>);
        if let Ok(Ok(value)) = text {
            // A plain reader sees the same bundle.
            let bundle = state.bundle.as_ref().map(|bundle| bundle.as_str());
            assert_eq!(bundle, value["bundle"].as_str());
        }
    }
});
