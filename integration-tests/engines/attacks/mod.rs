//! Attacks on the gate, each with a real runtime where one is there, and each with a control that shows that the
//! attack works where no gate stands. `docs/threat-model.md` names the test of every attack.

// Annotations, devices, hooks and file systems that no pod of the kubelet's has.
mod annotations;
// Commands in running containers, and the wrapper's own surroundings.
mod commands;
// What an exception opens, and what a policy believes.
mod exceptions;
// What hostile containers, their authors and broken nodes do to the hook.
mod hook;
// Who a container says it is.
mod identity;
// What an unprivileged user or a pod can make a look at the node cost.
mod limits;
// Sources that look like the pod's own or the engine's, and are the host's.
mod mounts;
// Processes in containers that pass for the node's own.
mod processes;
// Checkpoints whose image restores something else than their config.json says.
mod restores;

#[test]
fn every_attack_is_in_the_threat_model_and_every_test_it_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut tests = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(root.join("integration-tests/engines/attacks")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let after = text.split("#[test]\n").skip(1);
        tests.extend(
            after.filter_map(|rest| {
                Some(rest.trim_start().strip_prefix("fn ")?.split_once('(')?.0.to_owned())
            }),
        );
    }
    tests.remove("every_attack_is_in_the_threat_model_and_every_test_it_names_is_there");
    let missing: Vec<&String> = tests.iter().filter(|test| !model.contains(&format!("`{test}`"))).collect();
    assert!(missing.is_empty() && tests.len() > 40, "not in docs/threat-model.md: {missing:?}");
    // A test's name is a sentence; no other word of the document has as many underscores.
    let named =
        model.split('`').filter(|word| word.matches('_').count() > 3 && !word.contains([' ', '.', '/']));
    // Some are shown elsewhere; the row says in which file.
    let elsewhere = [
        "agent/src/pods/kills.rs",
        "integration-tests/contract/faults.rs",
        "integration-tests/e2e/daemonset.rs",
        "src/events/probes.rs",
    ];
    let elsewhere = elsewhere.map(|file| std::fs::read_to_string(root.join(file)).unwrap()).concat();
    let is_there = |name: &str| tests.contains(name) || elsewhere.contains(&format!("fn {name}("));
    let gone: Vec<&str> = named.filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty(), "named in docs/threat-model.md and not there: {gone:?}");
}
