//! AppArmor (baseline): the engine's profile may be replaced by another, but not by none.
//!
//! Upstream: `policy/check_appArmorProfile.go`. Evidence: `process.apparmorProfile` on nodes that apply AppArmor.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{container, plural, security_context_fix};
use crate::declared::{Setters, Violation, go_quoted};
use crate::facts::{AppArmor, Engine, Facts};
use crate::pod::{APPARMOR_ANNOTATION, Pod, Profile};
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 1,
    id: "appArmorProfile",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "The engine's AppArmor profile may be replaced by another one, but not switched off.",
        fields: "spec.securityContext.appArmorProfile.type, \
                 spec.containers[*].securityContext.appArmorProfile.type, and of initContainers and \
                 ephemeralContainers; annotations container.apparmor.security.beta.kubernetes.io/*",
        allowed: "unset, RuntimeDefault or Localhost; in annotations empty, runtime/default or localhost/*",
        evidence: "`process.apparmorProfile` of config.json. On containerd Unconfined is a profile that is absent, \
                   on CRI-O the literal `unconfined`.",
        blind: "Everything, on a node without AppArmor. Engines apply none to a privileged container. An Unconfined of \
                the pod that every container overrides, and annotations for containers that do not exist, leave \
                no trace.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      appArmorProfile:\n        \
              type: RuntimeDefault",
    },
};

const REASON: &str = "forbidden AppArmor profile";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if let AppArmor::Off(why) = facts.apparmor {
        return out.push(Finding::unseen(REASON, why));
    }
    if facts.privileged() {
        return out
            .push(Finding::unseen(REASON, "engines apply no AppArmor profile to a privileged container"));
    }
    let unconfined = || format!("{} must not set AppArmor profile type to \"Unconfined\"", container(facts));
    let fix = || security_context_fix(facts, FIX);
    match facts.apparmor {
        // containerd `internal/cri/sputil/apparmor_linux.go`: unset and RuntimeDefault are a profile, Unconfined none.
        AppArmor::NoProfile if facts.engine == Engine::Containerd => {
            out.push(Finding::violates(REASON, unconfined(), fix()));
        }
        // On containerd the word can only be the name of a Localhost profile, which admission accepts.
        AppArmor::Profile("unconfined") if facts.engine == Engine::Containerd => {
            let detail =
                format!("{} asks for a Localhost profile that is called \"unconfined\"", container(facts));
            out.push(Finding::suspect(REASON, detail, fix()));
        }
        // CRI-O `internal/config/apparmor/apparmor_linux.go`: Unconfined is written out.
        AppArmor::Profile("unconfined") => out.push(Finding::violates(REASON, unconfined(), fix())),
        AppArmor::NoProfile => {
            let detail = format!(
                "{} has no AppArmor profile; {} does not write \"Unconfined\" that way",
                container(facts),
                facts.engine.name()
            );
            out.push(Finding::suspect(REASON, detail, fix()));
        }
        AppArmor::NoProfileUnclear(why) => {
            let detail = format!("{} has no AppArmor profile: {why}", container(facts));
            out.push(Finding::suspect(REASON, detail, fix()));
        }
        AppArmor::Profile(_) | AppArmor::Off(_) => {}
    }
}

const FIX: &str = "appArmorProfile:\n  type: RuntimeDefault";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::all(pod, &mut |shared, values| {
        forbidden_profile(shared.app_armor_profile).map(|kind| values.push(kind)).is_some()
    });
    let forbidden = |(key, value): &(&String, &String)| {
        let allowed = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
        key.starts_with(APPARMOR_ANNOTATION) && !allowed
    };
    let annotations: Vec<_> = pod.annotations.iter().filter(forbidden).collect();
    if bad.is_empty() && annotations.is_empty() {
        return None;
    }
    let mut settings: Vec<String> =
        annotations.iter().map(|(key, value)| format!("{key}={}", go_quoted(value))).collect();
    settings.sort_unstable();
    let values: Vec<&str> = bad.values.iter().copied().chain(settings.iter().map(String::as_str)).collect();

    let mut violation = bad.violate(plural(REASON, "forbidden AppArmor profiles", values.len()));
    if !annotations.is_empty() {
        violation = violation.say(if bad.is_empty() { "" } else { " and " }).say(plural(
            "annotation",
            "annotations",
            annotations.len(),
        ));
    }
    violation =
        violation.say(" must not set AppArmor profile type to ").say_list(&values, "\"").fix(&bad, FIX);
    Some(violation.fix_annotations(annotations.into_iter().map(|(key, _)| key)))
}

/// A profile's type, unless admission allows it: the same two of AppArmor and of seccomp.
pub(super) fn forbidden_profile(profile: Option<&Profile>) -> Option<&str> {
    profile
        .map(|profile| profile.kind.as_str())
        .filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"))
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{AppArmor, Engine, Facts};
    use crate::testing::{make_privileged, table, with};

    fn profile(engine: Engine, apparmor: AppArmor<'static>) -> Facts<'static> {
        with(|facts| (facts.engine, facts.apparmor) = (engine, apparmor))
    }

    const LOCALHOST: &str = "container \"app\" asks for a Localhost profile that is called \"unconfined\"";
    const DENIED: &str = "container \"app\" must not set AppArmor profile type to \"Unconfined\"";

    #[test]
    fn no_profile_is_proof_only_where_the_engine_always_writes_one() {
        use AppArmor::{NoProfile, NoProfileUnclear, Profile};
        let bare = "container \"app\" has no AppArmor profile; cri-o does not write \"Unconfined\" that way";
        let unclear = "container \"app\" has no AppArmor profile: the engine may have it switched off";
        for minor in [0, 37] {
            let mut rows = vec![
                ("containerd's Unconfined", profile(Engine::Containerd, NoProfile), Some((Violates, DENIED))),
                ("none on CRI-O", profile(Engine::CriO, NoProfile), Some((Suspect, bare))),
                (
                    "none, and unclear whether AppArmor is on",
                    profile(Engine::Containerd, NoProfileUnclear("the engine may have it switched off")),
                    Some((Suspect, unclear)),
                ),
                ("another profile", profile(Engine::CriO, Profile("localhost-web")), None),
                ("the name is compared whole", profile(Engine::CriO, Profile("unconfined-web")), None),
            ];
            for engine in Engine::ALL {
                let expected =
                    if engine == Engine::Containerd { (Suspect, LOCALHOST) } else { (Violates, DENIED) };
                rows.push(("unconfined", profile(engine, Profile("unconfined")), Some(expected)));
                rows.push(("a default", profile(engine, Profile("cri-containerd.apparmor.d")), None));
            }
            table(&CONTROL, minor, &rows);
        }
    }

    #[test]
    fn nothing_is_known_without_apparmor_and_of_a_privileged_container() {
        let privileged = "engines apply no AppArmor profile to a privileged container";
        let off = || AppArmor::Off("no AppArmor in this kernel");
        table(
            &CONTROL,
            0,
            &[
                ("off", profile(Engine::Containerd, off()), Some((Unseen, "no AppArmor in this kernel"))),
                (
                    "off and privileged",
                    with(|facts| {
                        make_privileged(facts);
                        facts.apparmor = off();
                    }),
                    Some((Unseen, "no AppArmor in this kernel")),
                ),
                (
                    "privileged",
                    with(|facts| {
                        make_privileged(facts);
                        facts.apparmor = AppArmor::NoProfile;
                    }),
                    Some((Unseen, privileged)),
                ),
            ],
        );
    }
}
