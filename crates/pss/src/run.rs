//! The fix of each control for a container that no pod asks for, in the words of the command that started it: `docker run`,
//! `podman run`, and the keys of a Compose file.
//!
//! integration-tests tries each: a container that violates the control is refused, and starts with these words.

use crate::facts::Engine;

/// What satisfies a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The control's id.
    pub control: &'static str,
    /// Options of `docker run`, or which to leave out (`without …`), and perhaps a comment after `   #`.
    pub docker: &'static str,
    /// The same of `podman run`.
    pub podman: &'static str,
    /// The same of a service in a Compose file.
    pub compose: &'static str,
}

impl Run {
    /// The words of an engine's own command; none for an engine that has no such command.
    #[must_use]
    pub const fn words(&self, engine: Engine) -> Option<&'static str> {
        match engine {
            Engine::Docker => Some(self.docker),
            Engine::Podman => Some(self.podman),
            Engine::Containerd | Engine::CriO | Engine::None => None,
        }
    }
}

/// The row of a control; `None` where neither docker nor podman has an option of which a node sees anything.
#[must_use]
pub fn of(control: &str) -> Option<&'static Run> {
    RUN.iter().find(|row| row.control == control)
}

const fn same(control: &'static str, words: &'static str, compose: &'static str) -> Run {
    Run { control, docker: words, podman: words, compose }
}

const VOLUME: &str = "--volume NAME:/path   # or --tmpfs /path; no path of the host";
const VOLUMES: &str = "volumes: [\"NAME:/path\"]   # a volume of the engine, no path of the host";
const USER: &str = "--user 1000   # any but 0";
const USER_KEY: &str = "user: \"1000\"   # any but 0";
const SECCOMP: &str = "without --security-opt seccomp=unconfined";
const SECCOMP_KEY: &str = "security_opt: []   # without seccomp:unconfined";
const PROC_KEY: &str = "security_opt: []   # without systempaths=unconfined";

/// moby `daemon/daemon_unix.go` (`parseSecurityOpt`: no-new-privileges, seccomp, apparmor, label, systempaths) and podman
/// `pkg/specgenutil/specgen.go` (the same, and mask and unmask) read `--security-opt`.
const RUN: &[Run] = &[
    same(
        "appArmorProfile",
        "without --security-opt apparmor=unconfined",
        "security_opt: []   # without apparmor:unconfined",
    ),
    same("capabilities_baseline", "without this --cap-add", "cap_add: []   # or only allowed ones"),
    same(
        "hostNamespaces",
        "without --network host, --pid host, --ipc host",
        "network_mode: bridge   # and without pid: host, ipc: host",
    ),
    same("hostPathVolumes", VOLUME, VOLUMES),
    same("privileged", "without --privileged", "privileged: false"),
    Run {
        control: "procMount",
        docker: "without --security-opt systempaths=unconfined",
        podman: "without --security-opt unmask",
        compose: PROC_KEY,
    },
    same("seLinuxOptions", "without this --security-opt label", "security_opt: []   # without this label"),
    same("seccompProfile_baseline", SECCOMP, SECCOMP_KEY),
    same("sysctls", "without this --sysctl", "sysctls: {}   # or only names of the safe list"),
    same(
        "allowPrivilegeEscalation",
        "--security-opt no-new-privileges",
        "security_opt: [\"no-new-privileges:true\"]",
    ),
    same(
        "capabilities_restricted",
        "--cap-drop ALL   # and --cap-add NET_BIND_SERVICE at most",
        "cap_drop: [ALL]",
    ),
    Run {
        control: "procMount_restricted",
        docker: "without --security-opt systempaths=unconfined",
        podman: "without --security-opt unmask",
        compose: PROC_KEY,
    },
    same("restrictedVolumes", VOLUME, VOLUMES),
    same("runAsNonRoot", USER, USER_KEY),
    same("runAsUser", USER, USER_KEY),
    same("seccompProfile_restricted", SECCOMP, SECCOMP_KEY),
    // Where it writes, docker needs `--tmpfs`; podman mounts some of its own (`--read-only-tmpfs`).
    same("readOnlyRootFilesystem", "--read-only", "read_only: true"),
];

/// Controls without a row, and why.
#[cfg(test)]
const NONE: [(&str, &str); 4] = [
    ("hostPorts", "ports are published by the engine's network, and config.json has none"),
    ("hostProbesAndHostLifecycle", "the kubelet's"),
    ("windowsHostProcess", "of another system"),
    ("injectedMounts", "compares a node with a pod"),
];

#[cfg(test)]
mod tests {
    use super::{NONE, RUN, of};
    use crate::controls::CONTROLS;
    use crate::facts::Engine;
    use crate::testing::{compliant, make_privileged};
    use crate::{Certainty, Level, NEWEST, evaluate};

    #[test]
    fn every_control_has_words_or_a_reason_in_the_order_of_the_controls() {
        let rows: Vec<&str> = RUN.iter().map(|row| row.control).collect();
        let has_none = |id: &str| NONE.iter().any(|(control, _)| *control == id);
        let controls = CONTROLS.iter().map(|control| control.id).filter(|id| !has_none(id));
        assert_eq!(rows, controls.collect::<Vec<_>>());
        assert!(NONE.iter().all(|(id, _)| CONTROLS.iter().any(|control| control.id == *id)));
        assert!(rows.iter().all(|id| of(id).is_some_and(|row| row.control == *id)));
        assert!(NONE.iter().all(|(id, _)| of(id).is_none()));
    }

    #[test]
    fn words_are_one_line_and_begin_with_an_option() {
        for row in RUN {
            for words in [row.docker, row.podman] {
                let option = words.strip_prefix("without ").unwrap_or(words);
                let option = option.strip_prefix("this ").unwrap_or(option);
                assert!(option.starts_with("--") && !words.contains('\n'), "{}: {words}", row.control);
            }
            assert!(row.compose.contains(": ") && !row.compose.contains('\n'), "{}", row.control);
        }
    }

    #[test]
    fn a_container_of_no_pod_is_told_in_the_words_of_its_engine() {
        let fixes = |engine| {
            let mut facts = compliant();
            make_privileged(&mut facts);
            facts.engine = engine;
            facts.no_new_privileges = false;
            facts.root_read_only = false;
            facts.uid = 0;
            let found = evaluate(Level::Restricted, NEWEST, &facts, |_| false);
            found
                .into_iter()
                .filter(|found| found.finding.certainty != Certainty::Unseen)
                .map(|found| (found.control.id, found.finding.fix.into_owned()))
                .collect::<Vec<_>>()
        };
        for engine in [Engine::Docker, Engine::Podman] {
            let found = fixes(engine);
            assert!(found.len() > 3, "{found:?}");
            for (control, fix) in found {
                let words = super::of(control).unwrap().words(engine).unwrap();
                assert_eq!(fix, format!("{} run {words}", engine.name()));
            }
        }
        for engine in [Engine::Containerd, Engine::CriO, Engine::None] {
            assert!(fixes(engine).iter().all(|(_, fix)| fix.starts_with("spec:\n")), "a pod's is YAML");
        }
    }
}
