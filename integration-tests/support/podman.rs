//! Containers of podman and docker, which belong to no pod.

use serde_json::Value;

use crate::support::cases::{
    DROP_ALL, DROP_ALL_SYS_TIME, ESCALATION, HOST_IPC, HOST_NETWORK, HOST_PATH, NON_ROOT, PRIVILEGED,
    RESTRICTED_VOLUME, ROOT_FS, SYS_TIME, Said,
};
use crate::support::image;
use crate::support::machine::Machine;

/// A container by podman's options, and the violations that must be named at each level.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) baseline: &'static [Said],
    pub(crate) restricted: &'static [Said],
}

/// One row a container.
pub(crate) fn cases() -> [Case; 7] {
    let case = |name, options, baseline, restricted| Case { name, options, baseline, restricted };
    [
        case("nothing set", &[], &[], &[ESCALATION, DROP_ALL, NON_ROOT, ROOT_FS]),
        case(
            "everything set",
            &["--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"],
            &[],
            &[],
        ),
        case("privileged", &["--privileged"], &[PRIVILEGED], &[PRIVILEGED, ESCALATION, NON_ROOT, ROOT_FS]),
        case(
            "adds SYS_TIME",
            &["--cap-add=SYS_TIME"],
            &[SYS_TIME],
            &[ESCALATION, DROP_ALL_SYS_TIME, NON_ROOT, ROOT_FS],
        ),
        case(
            "host network",
            &["--network=host"],
            &[HOST_NETWORK],
            &[HOST_NETWORK, ESCALATION, DROP_ALL, NON_ROOT, ROOT_FS],
        ),
        case("host IPC", &["--ipc=host"], &[HOST_IPC], &[HOST_IPC, ESCALATION, DROP_ALL, NON_ROOT, ROOT_FS]),
        case(
            "a path of the host",
            &["--volume=/etc:/host:ro"],
            &[HOST_PATH],
            &[ESCALATION, DROP_ALL, RESTRICTED_VOLUME, NON_ROOT, ROOT_FS],
        ),
    ]
}

/// A container that violates one control and no other.
pub(crate) struct Violation {
    pub(crate) control: &'static str,
    /// The level at which it does.
    pub(crate) level: &'static str,
    /// Which engine's words are tried; both where they are the same.
    pub(crate) engine: Option<&'static str>,
    /// What is left out of [`COMPLIANT`].
    pub(crate) without: Option<&'static str>,
    /// What is asked for besides.
    pub(crate) with: &'static [&'static str],
}

/// A container that complies with restricted.
pub(crate) const COMPLIANT: [&str; 4] =
    ["--user 1000", "--cap-drop ALL", "--security-opt no-new-privileges", "--read-only"];

/// A row for each control of which these engines prove anything on a machine without AppArmor and SELinux.
pub(crate) const VIOLATIONS: &[Violation] = &[
    lacks("allowPrivilegeEscalation", "--security-opt no-new-privileges"),
    lacks("capabilities_restricted", "--cap-drop ALL"),
    lacks("runAsNonRoot", "--user 1000"),
    lacks("readOnlyRootFilesystem", "--read-only"),
    asks("hostNamespaces", &["--network=host"]),
    asks("hostNamespaces", &["--ipc=host"]),
    asks("privileged", &["--privileged"]),
    asks("restrictedVolumes", &["--volume=/etc:/path:ro"]),
    asks("seccompProfile_restricted", &["--security-opt=seccomp=unconfined"]),
    asks("sysctls", &["--sysctl=net.ipv4.ip_forward=1"]),
    asks("capabilities_restricted", &["--cap-add=SYS_TIME"]),
    Violation { level: "baseline", ..asks("capabilities_baseline", &["--cap-add=SYS_TIME"]) },
    Violation { level: "baseline", ..asks("hostPathVolumes", &["--volume=/etc:/path:ro"]) },
    Violation { engine: Some("podman"), ..asks("procMount_restricted", &["--security-opt=unmask=ALL"]) },
    Violation {
        engine: Some("podman"),
        ..asks("procMount_restricted", &["--security-opt=unmask=/proc/irq"])
    },
    Violation {
        engine: Some("docker"),
        ..asks("procMount_restricted", &["--security-opt=systempaths=unconfined"])
    },
];

const fn lacks(control: &'static str, option: &'static str) -> Violation {
    Violation { control, level: "restricted", engine: None, without: Some(option), with: &[] }
}

const fn asks(control: &'static str, with: &'static [&'static str]) -> Violation {
    Violation { control, level: "restricted", engine: None, without: None, with }
}

impl Violation {
    /// The options of `docker run` or `podman run`.
    pub(crate) fn options(&self) -> Vec<&'static str> {
        let own = COMPLIANT.into_iter().filter(|option| Some(*option) != self.without);
        own.flat_map(|option| option.split(' ')).chain(self.with.iter().copied()).collect()
    }

    /// The same with the fix applied as its words have it: an option is added, or left out.
    pub(crate) fn fixed(&self, words: &str) -> Vec<String> {
        let words = words.split("   #").next().unwrap_or_default();
        let mut options: Vec<String> = self.options().into_iter().map(str::to_owned).collect();
        let Some(without) = words.strip_prefix("without ") else {
            // A volume of the engine's own takes the place of the host's; a comment says what must not be added.
            options.retain(|option| !option.starts_with("--volume=") && !option.starts_with("--cap-add="));
            options.extend(words.replace("NAME", "data").split(' ').map(str::to_owned));
            return options;
        };
        let without = without.trim_start_matches("this ").replace(' ', "=");
        let named: Vec<&str> = without.split(",=").collect();
        let before = options.len();
        options.retain(|option| !named.iter().any(|named| option.starts_with(named)));
        assert!(options.len() < before, "{}: {words:?} leaves out nothing of {options:?}", self.control);
        options
    }
}

/// The fix of a control in the newest of these events that has it.
pub(crate) fn fix_of(control: &str, events: &[Value]) -> Option<String> {
    let findings = events.iter().rev().filter_map(|event| event["PSS_FINDINGS"].as_str());
    let mut findings = findings.filter_map(|text| serde_json::from_str::<Vec<Value>>(text).ok()).flatten();
    let own = findings.find(|finding| finding["control"] == control)?;
    own["fix"].as_str().map(str::to_owned)
}

/// podman's configuration, as a package and an admin leave it.
pub(crate) fn lay_out(machine: &Machine) {
    machine.write("/etc/containers/policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n");
    machine.write("/etc/containers/containers.conf", CONTAINERS_CONF);
}

/// runc, which shows what a hook says; the limits are those that root may set without CAP_SYS_RESOURCE.
const CONTAINERS_CONF: &str = r#"# The node's own configuration.
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]

[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"#;

/// Gives the images of the tests to podman or docker.
pub(crate) fn load_images(machine: &Machine, engine: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (_, file) in image::write_all(dir.path()) {
        machine.run(&[engine, "load", "--input", &file.display().to_string()]).expect_success();
    }
}
