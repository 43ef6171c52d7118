//! The policy: any text is a policy or an error of one line that names a place in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::level::policy::parse;

fuzz_target!(|text: &str| {
    if let Err(error) = parse(text, "policy.toml") {
        let said = error.to_string();
        assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
    }
});
