//! The policy: any text is a policy or an error of one line that names a place in it; and any policy can say another mode
//! without saying anything else differently. What the cache keeps of a policy is the policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::level::policy::{compiled, parse};
use pss_guard::level::{Mode, Policy};
use pss_guard::mode::edit::with_mode;

fuzz_target!(|text: &str| match parse(text, "policy.toml") {
    Err(error) => {
        let said = error.to_string();
        assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
    }
    Ok(policy) => {
        // As the cache writes and reads it; the file's name is not in it.
        let read = Policy { file: policy.file.clone(), ..compiled::read(&compiled::compile(&policy)).expect("a policy") };
        assert_eq!(read, policy);

        let mode = if policy.mode == Mode::Audit { Mode::Enforce } else { Mode::Audit };
        // It compares both policies itself.
        let (changed, _) = with_mode(text, mode, "policy.toml").expect("a policy that can be changed");
        assert_eq!(with_mode(&changed, mode, "policy.toml").expect("a policy").0, changed);
    }
});
