//! The one compliant container, and the one compliant pod, that every control's table tweaks.

#![allow(clippy::must_use_candidate, clippy::missing_panics_doc, reason = "only tests call it")]

use super::capabilities::{CapabilitySet, NAMES};
use super::facts::{
    AppArmor, Engine, Facts, HostNamespaces, Known, ProcMasks, SeLinux, SeLinuxDefault, Seccomp,
    SeccompDefault, Subject, UserNamespace,
};
use super::pod::{
    Annotations, Capabilities, Container, Pod, PodSecurityContext, PodSpec, Profile, SecurityContext, Volume,
    VolumeMount,
};
use super::{Certainty, Control, Finding, Minor, evaluate_pod};

/// A container named `app` that restricted allows, on a containerd node with AppArmor and SELinux.
pub fn compliant() -> Facts<'static> {
    Facts {
        subject: Subject::Container,
        name: "app",
        engine: Engine::Containerd,
        uid: 1000,
        user_namespace: UserNamespace::Host,
        no_new_privileges: true,
        root_read_only: true,
        capabilities: CapabilitySet::default(),
        default_capabilities: CapabilitySet::of(&["NET_RAW"]),
        has_all_capabilities: false,
        sys_writable: false,
        host_namespaces: Known::Seen(HostNamespaces::default()),
        proc_masks: ProcMasks::DEFAULT,
        sysctls: Known::Seen(Vec::new()),
        seccomp: Seccomp::Filter,
        seccomp_default: SeccompDefault::Unconfined,
        apparmor: AppArmor::Profile("cri-containerd.apparmor.d"),
        selinux: SeLinux::Label { user: "system_u", role: "system_r", kind: "container_t" },
        selinux_default: SeLinuxDefault::default(),
        host_ports: Known::Seen(Vec::new()),
        lifecycle_hosts: Vec::new(),
        volumes: Vec::new(),
        injected: Vec::new(),
        additions: Vec::new(),
        skipped_cdi: Vec::new(),
    }
}

/// The compliant container with one thing changed.
pub fn with(tweak: impl FnOnce(&mut Facts<'static>)) -> Facts<'static> {
    let mut facts = compliant();
    tweak(&mut facts);
    facts
}

/// What an engine turns `privileged: true` into.
pub fn make_privileged(facts: &mut Facts<'static>) {
    facts.has_all_capabilities = true;
    facts.capabilities = CapabilitySet::of(&NAMES);
    facts.sys_writable = true;
    facts.proc_masks = ProcMasks::UNMASKED;
    facts.seccomp = Seccomp::Absent;
    facts.apparmor = AppArmor::NoProfile;
    facts.selinux = SeLinux::Off("engines do not label a privileged container");
}

/// What a row expects: nothing, or a certainty and the whole detail.
pub type Expected = Option<(Certainty, &'static str)>;

/// Runs one control at one version over rows of (name, facts, expected).
pub fn table(control: &Control, minor: Minor, rows: &[(&str, Facts<'_>, Expected)]) {
    for (row, facts, expected) in rows {
        let found = findings(control, minor, facts);
        let shown: Vec<_> = found.iter().map(|f| (f.certainty, f.detail.as_ref())).collect();
        let expected: Vec<_> = expected.iter().copied().collect();
        assert_eq!(shown, expected, "{} at v1.{minor}, row {row:?}", control.id);
        for finding in &found {
            assert!(!finding.reason.is_empty(), "{} at v1.{minor}, row {row:?}: no reason", control.id);
            let must_fix = finding.certainty == Certainty::Violates;
            assert!(!must_fix || !finding.fix.is_empty(), "{}, row {row:?}: no fix", control.id);
        }
    }
}

/// The findings of one control at one version; none where it does not exist.
pub fn findings(control: &Control, minor: Minor, facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(check) = control.at(minor) {
        check(facts, &mut found);
    }
    found
}

/// A pod with a container of each common kind that every control allows.
pub fn compliant_pod() -> Pod {
    let container = |name: &str| Container {
        name: name.into(),
        security_context: SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Capabilities { add: Vec::new(), drop: vec!["ALL".into()] },
            read_only_root_filesystem: true,
            ..SecurityContext::default()
        },
        volume_mounts: vec![VolumeMount { name: "data".into(), mount_path: "/data".into() }],
        ..Container::default()
    };
    let spec = PodSpec {
        security_context: PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(Profile { kind: "RuntimeDefault".into() }),
            ..PodSecurityContext::default()
        },
        volumes: [("data", "persistentVolumeClaim"), ("settings", "configMap"), ("tmp", "emptyDir")]
            .map(|(name, source)| Volume { name: name.into(), sources: vec![source.into()] })
            .into(),
        init_containers: vec![container("init")],
        containers: vec![container("app"), container("sidecar")],
        ..PodSpec::default()
    };
    Pod { annotations: Annotations::new(), spec }
}

/// The compliant pod with one thing changed.
pub fn pod_with(tweak: impl FnOnce(&mut PodSpec)) -> Pod {
    let mut pod = compliant_pod();
    tweak(&mut pod.spec);
    pod
}

/// Runs one control's second reading over rows of (name, pod, the detail or nothing), at each of these versions.
pub fn declared_table(control: &Control, minors: &[Minor], rows: &[(&str, Pod, Option<&str>)]) {
    for minor in minors {
        for (row, pod, expected) in rows {
            let evaluation = evaluate_pod(control.level, *minor, pod, |other| other.id != control.id);
            let shown: Vec<_> = evaluation.found.iter().map(|found| found.finding.detail.as_ref()).collect();
            let expected: Vec<_> = expected.iter().copied().collect();
            assert_eq!(shown, expected, "{} at v1.{minor}, row {row:?}", control.id);
        }
    }
}
