//! The units that are shipped.

/// Where they lie in the repository.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");

/// All of them.
pub(crate) const UNITS: [&str; 10] = [
    "pss-guard-status.service",
    "pss-guard-agent.service",
    "pss-guard-namespaces.timer",
    "pss-guard-namespaces.service",
    "pss-guard-scan.timer",
    "pss-guard-scan.service",
    "pss-guard-textfile.timer",
    "pss-guard-textfile.service",
    "pss-guard-install.service",
    "pss-guard-install.path",
];

/// What they start, below the root directory.
pub(crate) const TOOL: &str = "var/lib/pss-guard/bin/pss-guard";

/// What the unit of the agent starts.
pub(crate) const AGENT: &str = "usr/local/sbin/pss-guard-agent";

/// What engines start.
pub(crate) const GATE: &str = "var/lib/pss-guard/bin/pss-guard-gate";
