//! config.json: any bytes are judged or refused, and what is no JSON is never allowed.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use pss_guard::facts::host::Host;
use pss_guard::judge::{Outcome, Request, judge};
use pss_guard::level::{Demand, Policy};
use pss_guard::pss::facts::Engine;
use pss_guard::pss::{Level, Version};

fuzz_target!(|bytes: &[u8]| {
    let policy = Policy::default();
    let config = Ok((PathBuf::from("/bundle/config.json"), bytes.to_vec()));
    for engine in Engine::ALL.map(Some).into_iter().chain([None]) {
        let request = Request {
            policy: Ok(&policy),
            // Nothing of this machine is looked at.
            host: &Host::Unknown,
            config: &config,
            exec: None,
            restore: None,
            engine,
            id: None,
            pid: None,
            runtime_handler: None,
            sees_sandboxes: false,
            namespaces: None::<&Path>,
            demand: Some(Demand::argument(Level::Restricted, Version::Latest)),
            sandboxes: None,
        };
        let judged = judge(&request, |_, outcome| matches!(outcome, Outcome::Judged { .. }));
        assert!(!judged || std::str::from_utf8(bytes).is_ok(), "what is no text was judged");
    }
});
