//! The examples at the end of each command's help: what it is for, and the command, which a test parses.

/// Makes the end of a help text: pairs of a purpose and a command.
macro_rules! examples {
    ($($purpose:literal: $command:literal),+ $(,)?) => {
        concat!("EXAMPLES:", $("\n  ", $purpose, ":\n    ", $command),+)
    };
}

pub(super) const TOP: &str = examples! {
    "List running containers that restricted would refuse; changes nothing": "pss-guard scan --level restricted",
    "Show what an installation would do": "pss-guard install --engine auto --dry-run",
    "Install in audit mode, which refuses nothing": "pss-guard install --engine auto --restart",
    "Check that the gate is active": "pss-guard status",
    "Later, see which namespaces are ready for which level": "pss-guard report",
};

pub(super) const HOOK: &str = examples! {
    "Call the hook by hand, with the OCI state on standard input (install writes pss-guard-gate into hooks)": "pss-guard hook --engine containerd",
};

pub(super) const CHECK: &str = examples! {
    "Evaluate the manifests of a folder, for a code review": "pss-guard check --level restricted --format sarif deploy/",
    "Evaluate a rendered chart": "helm template web ./chart | pss-guard check --level restricted -",
    "Evaluate a bundle as the node would": "pss-guard check /run/containerd/io.containerd.runtime.v2.task/k8s.io/4f1d2c",
    "Evaluate a config.json together with its pod": "pss-guard check --level restricted:v1.35 --pod pod.yaml config.json",
};

pub(super) const SCAN: &str = examples! {
    "List what the node's own policy would refuse": "pss-guard scan",
    "Before a namespace is tightened": "pss-guard scan --namespace shop --level restricted",
    "In a script": "pss-guard scan --fail --format json",
    "One page of several nodes": "pss-guard scan --format html --merge node-1.json node-2.json",
    "Inspect the node from a pod that has its root in /host": "pss-guard --root /host scan",
};

pub(super) const EXPLAIN: &str = examples! {
    "List all controls": "pss-guard explain",
    "Describe a control": "pss-guard explain runAsNonRoot",
    "Look up the exit code in a pod's events": "pss-guard explain 17",
    "In a script": "pss-guard explain --format json hostPorts",
};

pub(super) const POLICY: &str = examples! {
    "See what can be set": "pss-guard policy init",
    "Check the node's policy, and see what it means": "pss-guard policy check",
    "See which levels apply, and what set them": "pss-guard policy show",
};

pub(super) const POLICY_CHECK: &str = examples! {
    "Check the node's policy": "pss-guard policy check",
    "Check a file before it is put on a node": "pss-guard policy check policy.toml",
    "In a script": "pss-guard policy check --format json policy.toml",
};

pub(super) const POLICY_SHOW: &str = examples! {
    "Show the levels of all namespaces": "pss-guard policy show",
    "Show the levels of a pod that asks for one": "pss-guard policy show --namespace shop --pod-annotation pod-security.kubernetes.io/enforce=restricted",
};

pub(super) const POLICY_REMOVE: &str = examples! {
    "Return to the built-in defaults": "pss-guard policy remove --reason \"node leaves the cluster\"",
};

pub(super) const POLICY_INIT: &str = examples! {
    "Begin the policy of this node": "pss-guard policy init --output /etc/pss-guard/policy.toml",
    "See what can be set": "pss-guard policy init",
};

pub(super) const POLICY_SCHEMA: &str = examples! {
    "Let an editor complete and check a policy": "pss-guard policy schema",
};

pub(super) const NAMESPACES: &str = examples! {
    "Import all namespaces": "kubectl get namespaces -o json | pss-guard namespaces import",
    "List what is imported, and what is not": "pss-guard namespaces list",
};

pub(super) const NAMESPACES_IMPORT: &str = examples! {
    "Import all namespaces": "kubectl get namespaces -o json | pss-guard namespaces import",
    "Update one": "kubectl get namespace shop -o json | pss-guard namespaces import",
};

pub(super) const NAMESPACES_LIST: &str = examples! {
    "List what is imported, and what is not": "pss-guard namespaces list",
    "In a script": "pss-guard namespaces list --format json",
};

pub(super) const PODS: &str = examples! {
    "Import the pods of this node, static ones, too": "kubectl get --raw /api/v1/nodes/node-1/proxy/pods | pss-guard pods import",
};

pub(super) const PODS_IMPORT: &str = examples! {
    "Import the pods of this node": "kubectl get pods --all-namespaces --field-selector spec.nodeName=node-1 -o json | pss-guard pods import",
    "From a list of all nodes": "kubectl get pods --all-namespaces -o json | pss-guard pods import --node node-1",
    "With static pods, from the kubelet": "kubectl get --raw /api/v1/nodes/node-1/proxy/pods | pss-guard pods import",
};

pub(super) const CLUSTER: &str = examples! {
    "Import the version of the API server": "kubectl get --raw /version | pss-guard cluster import",
};

pub(super) const CLUSTER_IMPORT: &str = examples! {
    "Import the version of the API server": "kubectl get --raw /version | pss-guard cluster import",
};

pub(super) const INSTALL: &str = examples! {
    "Show what would be done": "pss-guard install --engine auto --dry-run",
    "Install for every engine, restart them, and prove that it works": "pss-guard install --engine auto --restart",
    "Install into an image": "pss-guard --root /mnt/image install --engine containerd",
    "Where /var cannot execute": "pss-guard install --engine containerd --restart --directory /home/kubernetes/bin/pss-guard",
    "After an upgrade by hand, as a package does it": "pss-guard install --programs",
    "Without systemd": "pss-guard install --engine containerd --restart --restart-command \"rc-service containerd restart\"",
};

pub(super) const UNINSTALL: &str = examples! {
    "Show what would be restored": "pss-guard uninstall --dry-run",
    "Uninstall for every engine, and restart them": "pss-guard uninstall --restart",
};

pub(super) const STATUS: &str = examples! {
    "Check this node, and name its containers": "pss-guard status --verbose",
    "In a script": "pss-guard status --format json",
    "Check the node from a pod that has its root in /host": "pss-guard --root /host status",
};

pub(super) const VERIFY: &str = examples! {
    "Prove it for every engine, and keep the line": "pss-guard verify",
    "In a script": "pss-guard verify --engine containerd --format json",
};

pub(super) const MODE: &str = examples! {
    "Show the mode in force": "pss-guard mode",
    "See what would be refused, then enforce": "pss-guard mode enforce --reason \"rollout, week 3\"",
    "Stop refusing for an hour, even if the policy is broken": "pss-guard mode audit --for 1h --reason \"incident 4711\"",
    "End that earlier": "pss-guard mode --end",
};

pub(super) const METRICS: &str = examples! {
    "Write for node_exporter's textfile collector": "pss-guard metrics --output /var/lib/node_exporter/pss-guard.prom",
};

pub(super) const REPORT: &str = examples! {
    "Report the last 30 days as a page": "pss-guard report --since 30d --format html",
    "One namespace, from its events alone": "pss-guard report --namespace shop --no-scan",
};

pub(super) const COMPLETIONS: &str = examples! {
    "For bash": "pss-guard completions bash >/etc/bash_completion.d/pss-guard",
    "For zsh": "pss-guard completions zsh >/usr/local/share/zsh/site-functions/_pss-guard",
    "For fish": "pss-guard completions fish >/etc/fish/completions/pss-guard.fish",
};

pub(super) const MAN: &str = examples! {
    "Read the tool's page": "pss-guard man | man -l -",
    "Read that of the policy": "pss-guard man pss-guard.toml | man -l -",
};
