//! 10,000 processes that join a running container, as the kubelet's probes do, a tenth of them as root, which the level forbids.
//! `PSS_GUARD_EXECS` says another number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::journal::Journal;
use crate::support::pod::{Engine, Pod};
use crate::support::runtime::{Runtime, RuntimeNode};
use crate::support::storm::{self, AT_ONCE, Traces};
use crate::support::{files, run};

const EXECS: usize = 10_000;

#[test]
fn each_process_joins_or_is_refused_and_each_refusal_is_told() {
    if !Journal::can_run("each_process_joins_or_is_refused_and_each_refusal_is_told") {
        return;
    }
    let execs = storm::number("PSS_GUARD_EXECS", EXECS);
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    storm::install(&node);
    node.write_policy("mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n");
    let _journal = Journal::held();
    Journal::lead_to(&node.root());
    let sandbox = node.sandbox(&Pod::compliant());
    let id = sandbox.keep_with(storm::give_time);
    let process = |uid: u32| {
        let file = node.root().join(format!("process-{uid}.json"));
        let process: Value = json!({
            "user": {"uid": uid, "gid": uid}, "args": ["/bin/busybox", "true"], "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": {}, "noNewPrivileges": true,
        });
        files::write(&file, &process.to_string());
        file
    };
    let (allowed, forbidden) = (process(1000), process(0));
    let join = |file| run::run(node.wrapped(&["exec", "--process"]).arg(file).arg(&id));
    assert_eq!(join(&allowed).code, Some(0));
    assert_eq!(join(&forbidden).code, Some(27));

    let before = Traces::of(&node);
    let told = storm::denials(&node.root()).get(&id).copied().unwrap_or_default();
    let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= execs {
                        return;
                    }
                    let is_forbidden = number % 10 == 0;
                    let done = join(if is_forbidden { &forbidden } else { &allowed });
                    assert_eq!(done.code, Some(if is_forbidden { 27 } else { 0 }), "{done}");
                    refused.fetch_add(usize::from(is_forbidden), Ordering::Relaxed);
                }
            });
        }
    });
    let expected = told + refused.load(Ordering::Relaxed);
    run::eventually(|| storm::denials(&node.root()).get(&id) == Some(&expected));
    assert_eq!(storm::denials(&node.root()).get(&id), Some(&expected), "each refusal is told once");
    let now = Traces::of(&node);
    assert!(now.since(&before).is_empty(), "an exec leaves {:#?}", now.since(&before));
    println!("{execs} execs, {} refused, each told once", refused.load(Ordering::Relaxed));
}
