//! What must happen on every engine? The gate comes, judges, only watches, and goes.

use crate::cases::{Case, Said};
use crate::live::cri::{self, Attempt};
use crate::live::engine::{Engine, Kind};
use crate::live::gate::{self, Method};
use crate::pod::{self, Pod};

/// The controls that are judged on the pod's own sandbox: hostNamespaces and sysctls.
const OF_THE_POD: [u8; 2] = [3, 11];

/// Tells it, on a machine of its own.
pub(crate) fn tell(test: &str, kind: Kind) {
    if !kind.can_run(test) {
        return;
    }
    let mut engine = Engine::up(kind);
    let before = engine.machine.snapshot();
    let mut wrong = Vec::new();
    wrong.extend(unguarded(&engine, "before"));

    let method = Method::Hook;
    engine.machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    gate::install(&engine, method);
    engine.restart();
    for case in cases() {
        let attempt = cri::start(&engine, &case.pod);
        wrong.extend(enforced(&case, &attempt).err().map(|what| format!("{}: {what}\n{attempt}", case.name)));
    }

    engine.machine.write("/etc/pss-guard/policy.toml", &policy("audit"));
    for case in cases() {
        let attempt = cri::start(&engine, &case.pod);
        wrong.extend(
            watched(&case, &attempt, engine.can_start(&case.pod))
                .err()
                .map(|what| format!("{}, audit: {what}\n{attempt}", case.name)),
        );
    }

    engine.machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    gate::uninstall(&engine, method);
    engine.restart();
    wrong.extend(unguarded(&engine, "after"));
    let after = engine.machine.snapshot();
    for (line, word) in before
        .iter()
        .filter(|line| !after.contains(line))
        .map(|line| (line, "gone"))
        .chain(after.iter().filter(|line| !before.contains(line)).map(|line| (line, "new")))
    {
        wrong.push(format!("a file is not as it was before: {word}: {line}"));
    }
    assert!(wrong.is_empty(), "{} went wrong on {kind:?}\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// User namespaces need a newer runc than Debian 12's.
fn cases() -> Vec<Case> {
    Case::of(pod::Engine::CriO)
}

fn policy(mode: &str) -> String {
    format!(
        "mode = \"{mode}\"\n[defaults]\nenforce = \"restricted\"\naudit = \"privileged\"\nwarn = \"privileged\"\n"
    )
}

/// Without the gate everything starts.
fn unguarded(engine: &Engine, when: &str) -> Option<String> {
    [Pod::compliant(), Pod::bare(), Pod { privileged: true, ..Pod::bare() }]
        .iter()
        .filter(|pod| engine.can_start(pod))
        .map(|pod| cri::start(engine, pod))
        .find(|attempt| !attempt.ran || !attempt.events.is_empty())
        .map(|attempt| format!("{when} the gate a pod should have started unseen\n{attempt}"))
}

/// What `restricted` makes of it: started, or refused with the words that the control has for it.
fn enforced(case: &Case, attempt: &Attempt) -> Result<(), String> {
    let said = case.said("restricted");
    if said.is_empty() {
        return if attempt.ran { Ok(()) } else { Err("should have started".into()) };
    }
    let refusal = attempt.refusal().filter(|_| !attempt.ran).ok_or("should have been refused")?;
    let of_the_pod = |said: &&Said| !attempt.refused_as_a_pod() || OF_THE_POD.contains(&said.number);
    let silent: Vec<&str> =
        said.iter().filter(of_the_pod).map(|said| said.text).filter(|text| !refusal.contains(text)).collect();
    if !silent.is_empty() || !refusal.contains("violates PodSecurity \"restricted:latest\": ") {
        return Err(format!("the refusal does not tell {silent:?}"));
    }
    if attempt.decisions() != ["denied"] {
        return Err(format!("the journal should have one event, denied: {:?}", attempt.decisions()));
    }
    Ok(())
}

/// Everything starts, and what would have been refused is written down.
fn watched(case: &Case, attempt: &Attempt, can_start: bool) -> Result<(), String> {
    if !attempt.ran && can_start {
        return Err("should have started".into());
    }
    let told = attempt.decisions().contains(&"would-deny");
    if told == case.said("restricted").is_empty() {
        return Err(format!("the journal says {:?}", attempt.decisions()));
    }
    Ok(())
}
