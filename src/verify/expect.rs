//! Computes what must happen to a probe under the node's own policy, with the gate's own code.

use std::borrow::Cow;

use crate::level::{
    Labels, Levels, Mode, NamespaceLabels, PodAttributes, Policy, RequiredLevel, Resolution, namespaces,
    resolve,
};
use crate::mode::in_force;
use crate::paths::Paths;
use crate::pss::Level;
use pss_guard_core::record::Kind;

/// The namespace of the probes. There is none of that name in the cluster.
pub(super) const NAMESPACE: &str = "pss-guard-probe";

/// What must come of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It starts; if there is a kind, an event of it is written.
    Starts(Option<Kind>),
    /// It is refused, with an event of this kind.
    Refused(Kind),
}

/// The policy, as far as probes are concerned.
pub(super) struct Expect<'a> {
    policy: &'a Policy,
    paths: &'a Paths,
}

impl<'a> Expect<'a> {
    pub(super) fn new(policy: &'a Policy, paths: &'a Paths) -> Self {
        Self { policy, paths }
    }

    /// What becomes of a pod in this namespace whose annotation asks for this level, and which violates baseline or
    /// complies with everything.
    pub(super) fn of(&self, namespace: &str, asks: Option<Level>, violates: bool) -> Expected {
        let mut annotations = Labels::default();
        if let Some(level) = asks {
            annotations.set(Labels::KEYS[0], Cow::Borrowed(level.name()));
        }
        let whose = PodAttributes { namespace: Some(namespace), runtime_handler: None, annotations };
        let fault =
            if self.blocks() { Expected::Refused(Kind::Fault) } else { Expected::Starts(Some(Kind::Fault)) };
        // Exempt or not is decided before the namespace's file is read, and so it is here.
        if let Some(_exempt) = crate::level::exempt(self.policy, &whose) {
            return Expected::Starts(Some(Kind::Exempt));
        }
        let Ok(found) = namespaces::read(&self.paths.namespaces(), namespace) else { return fault };
        match resolve(self.policy, &whose, &found) {
            Resolution::Exempt(_) => Expected::Starts(Some(Kind::Exempt)),
            Resolution::UnknownNamespace(_) => fault,
            Resolution::Levels(levels) => self.at(&levels, violates),
        }
    }

    /// What becomes of a container of no pod, which no annotation can tighten.
    pub(super) fn of_no_pod(&self, violates: bool) -> Expected {
        let nobody = PodAttributes { namespace: None, runtime_handler: None, annotations: Labels::default() };
        match resolve(self.policy, &nobody, &NamespaceLabels::NoFolder) {
            Resolution::Levels(levels) => self.at(&levels, violates),
            Resolution::Exempt(_) | Resolution::UnknownNamespace(_) => Expected::Starts(None),
        }
    }

    fn at(&self, levels: &Levels<'_>, violates: bool) -> Expected {
        let asked =
            |demands: &[RequiredLevel<'_>]| demands.iter().any(|demand| demand.level > Level::Privileged);
        match self.blocks() {
            _ if !violates => Expected::Starts(None),
            true if asked(&levels.enforce) => Expected::Refused(Kind::Denied),
            false if asked(&levels.enforce) => Expected::Starts(Some(Kind::WouldDeny)),
            _ if asked(&levels.audit) => Expected::Starts(Some(Kind::Audit)),
            _ if asked(&levels.warn) => Expected::Starts(Some(Kind::Warn)),
            _ => Expected::Starts(None),
        }
    }

    fn blocks(&self) -> bool {
        in_force(self.paths, self.policy.mode).mode == Mode::Enforce
    }

    /// A namespace that is not judged, if there is one.
    pub(super) fn exempt_namespace(&self) -> Option<&'a str> {
        self.policy.exemptions.namespaces.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Expect, Expected, NAMESPACE};
    use crate::level::{Mode, policy};
    use crate::mode::change::for_a_time;
    use crate::mode::end::Author;
    use crate::paths::Paths;
    use crate::pss::Level;
    use pss_guard_core::record::Kind;

    #[test]
    fn what_must_come_of_a_probe_follows_from_the_policy() {
        use Expected::{Refused, Starts};
        let (own, system) = (NAMESPACE, "kube-system");
        #[rustfmt::skip]
        let rows = [
            ("", own, true, Starts(Some(Kind::WouldDeny))),
            ("", own, false, Starts(None)),
            ("", system, true, Starts(Some(Kind::Exempt))),
            ("mode = 'enforce'", own, true, Refused(Kind::Denied)),
            ("mode = 'enforce'", own, false, Starts(None)),
            ("mode = 'enforce'", system, true, Starts(Some(Kind::Exempt))),
            ("mode = 'enforce'\n[pod-annotations]\ntrust = 'ignore'", own, true, Starts(Some(Kind::Audit))),
            ("mode = 'enforce'\n[pod-annotations]\ntrust = 'override'", own, true, Refused(Kind::Denied)),
            ("[defaults]\naudit = 'privileged'\nwarn = 'baseline'\n[pod-annotations]\ntrust = 'ignore'", own, true, Starts(Some(Kind::Warn))),
            ("[defaults]\naudit = 'privileged'\nwarn = 'privileged'\n[pod-annotations]\ntrust = 'ignore'", own, true, Starts(None)),
        ];
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::under(directory.path());
        for (text, namespace, violates, expected) in rows {
            let policy = policy::parse(text, "policy.toml").unwrap();
            let found = Expect::new(&policy, &paths).of(namespace, Some(Level::Restricted), violates);
            assert_eq!(found, expected, "{text}, {namespace}, {violates}");
        }
        // Whatever the policy says, another mode can be in force for a time.
        for (text, mode, expected) in [
            ("mode = 'enforce'", Mode::Audit, Starts(Some(Kind::WouldDeny))),
            ("mode = 'audit'", Mode::Enforce, Refused(Kind::Denied)),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let paths = Paths::under(directory.path());
            let author = Author { who: "x", reason: "" };
            for_a_time(&paths, mode, Duration::from_secs(60), author).unwrap();
            let policy = policy::parse(text, "policy.toml").unwrap();
            let found = Expect::new(&policy, &paths).of(own, Some(Level::Restricted), true);
            assert_eq!(found, expected, "{text}");
        }
        // Once namespaces are imported, the probe's is not among them.
        std::fs::create_dir_all(paths.namespaces()).unwrap();
        std::fs::write(paths.namespaces().join("default.json"), "{}").unwrap();
        for (mode, expected) in [("enforce", Refused(Kind::Fault)), ("audit", Starts(Some(Kind::Fault)))] {
            let text = format!("mode = '{mode}'\non-unknown-namespace = 'deny'");
            let policy = policy::parse(&text, "policy.toml").unwrap();
            assert_eq!(Expect::new(&policy, &paths).of(own, None, false), expected, "{mode}");
        }
        #[rustfmt::skip]
        let of_no_pod = [
            ("", true, Starts(None)),
            ("mode = 'enforce'\n[defaults]\nenforce = 'restricted'", true, Starts(None)),
            ("mode = 'enforce'\n[unmanaged]\nenforce = 'baseline'", true, Refused(Kind::Denied)),
            ("mode = 'enforce'\n[unmanaged]\nenforce = 'baseline'", false, Starts(None)),
            ("[unmanaged]\nenforce = 'baseline'", true, Starts(Some(Kind::WouldDeny))),
            ("mode = 'enforce'\n[unmanaged]\naudit = 'baseline'", true, Starts(Some(Kind::Audit))),
            ("[unmanaged]\nwarn = 'baseline'", true, Starts(Some(Kind::Warn))),
        ];
        for (text, violates, expected) in of_no_pod {
            let policy = policy::parse(text, "policy.toml").unwrap();
            assert_eq!(Expect::new(&policy, &paths).of_no_pod(violates), expected, "{text}, {violates}");
        }
    }
}
