//! Keeps the gate in place of what writes an engine's configuration again: an upgrade, a reboot, a tool.
//!
//! On EKS a file of nodeadm's brings our lines into what it writes at every boot. Elsewhere systemd watches the files, and
//! starts `pss-guard install --repair`. What is written for that is an installation of its own beside the engine's, and goes
//! with it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::transaction::Manifest;
use super::units::WATCHED;
use super::{Change, Plan, PlanError, entry_path};
use crate::node::distribution::Distribution;
use crate::node::host::Node;
use crate::pss::facts::Engine;

/// What the installations of [`name`] begin with.
pub const PREFIX: &str = "persist-";

/// The installation that goes with an engine's.
#[must_use]
pub fn name(engine: Engine) -> String {
    format!("{PREFIX}{}", engine.name())
}

/// The file that nodeadm merges into the node's configuration (`nodeadm/doc` in awslabs/amazon-eks-ami): the last of its
/// folder counts.
const NODEADM: &str = "/etc/eks/nodeadm.d/99-pss-guard.yaml";

/// Whether what keeps the gate there is a file of the distribution's own, so that nothing has to be watched.
#[must_use]
pub fn is_by_distribution(distribution: &Distribution, engine: Engine) -> bool {
    distribution.name == "EKS" && engine == Engine::Containerd
}

/// The files that keep the gate in place for an engine that it is installed for.
pub fn plan(
    node: &dyn Node,
    engine: Engine,
    distribution: &Distribution,
    installed: &Manifest,
) -> Result<Plan, PlanError> {
    let (path, text) = if is_by_distribution(distribution, engine) {
        let config = installed.config.as_deref().unwrap_or(Path::new(distribution.config.as_ref()));
        let now = node.read(config)?.unwrap_or_default();
        let handlers = installed.entries.iter().map(|entry| entry.handler.as_str());
        let text = nodeadm(config, &now, &handlers.collect::<Vec<_>>())?;
        (PathBuf::from(NODEADM), text)
    } else {
        let named = installed.config.iter().map(PathBuf::as_path);
        let of_distribution = (engine == Engine::Containerd).then(|| Path::new(distribution.config.as_ref()));
        let files = installed.files.iter().map(|file| file.path.as_path());
        let mut watched: Vec<&Path> = named.chain(of_distribution).chain(files).collect();
        watched.sort_unstable();
        watched.dedup();
        watched.retain(|path| *path != Path::new(WATCHED));
        if watched.is_empty() {
            return Ok(Plan::default());
        }
        let mut text = "# Written by `pss-guard install --persist`.\n[Path]\n".to_owned();
        for path in watched {
            let _ = writeln!(text, "PathChanged={}", path.display().to_string().replace('%', "%%"));
        }
        (PathBuf::from(format!("/etc/systemd/system/pss-guard-install.path.d/{}.conf", engine.name())), text)
    };
    let before = node.read(&path)?;
    let mut plan = Plan::default();
    if before.as_deref() != Some(text.as_bytes()) {
        plan.changes.push(Change { path, before, after: text.into_bytes() });
    }
    Ok(plan)
}

/// The lines of containerd's configuration that are ours, as a NodeConfig. A list replaces the one of nodeadm's template, so
/// it has what the node's file has.
fn nodeadm(config: &Path, now: &[u8], handlers: &[&str]) -> Result<String, PlanError> {
    const PLUGIN: &str = "io.containerd.cri.v1.runtime";
    let malformed = |cause: String| PlanError::Malformed { path: config.to_owned(), cause };
    let text = std::str::from_utf8(now).map_err(|error| malformed(error.to_string()))?;
    let file: toml::Table = toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))?;
    let way = ["plugins", PLUGIN, "containerd", "runtimes"];
    let tables = way.iter().try_fold(&file, |table, key| table.get(*key)?.as_table());
    if handlers.is_empty() || tables.is_none() {
        return Err(PlanError::Unsupported {
            what: format!("{} has no handlers below {PLUGIN} that have the gate as their runtime", config.display()),
            instead: "use --method runtime and containerd 2, or leave --persist out and put the lines into the NodeConfig of the \
                      launch template"
                .to_owned(),
        });
    }
    let mut yaml = "# Written by `pss-guard install --persist`. nodeadm merges it into what it writes at every boot.\n\
                    apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  containerd:\n    config: |\n"
        .to_owned();
    for handler in handlers {
        let table = tables.and_then(|tables| tables.get(*handler)?.as_table());
        let _ = writeln!(yaml, "      [plugins.'{PLUGIN}'.containerd.runtimes.'{handler}']");
        for key in ["pod_annotations", "container_annotations"] {
            let list = table.and_then(|table| table.get(key)?.as_array());
            let words: Option<Vec<&str>> =
                list.map(|list| list.iter().filter_map(toml::Value::as_str).collect());
            // JSON quotes a text so that TOML reads the same.
            if let Some(words) = words.and_then(|words| serde_json::to_string(&words).ok()) {
                let _ = writeln!(yaml, "      {key} = {words}");
            }
        }
        let _ = writeln!(yaml, "      [plugins.'{PLUGIN}'.containerd.runtimes.'{handler}'.options]");
        let _ =
            writeln!(yaml, "      BinaryName = \"{}\"", entry_path(Engine::Containerd, handler).display());
    }
    Ok(yaml)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::nodeadm;

    const PLANNED: &str = "version = 3\n\
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
        base_runtime_spec = '/etc/containerd/base-runtime-spec.json'\n\
        pod_annotations = ['theirs/*', 'pod-security.kubernetes.io/*']\n\
        container_annotations = ['io.kubernetes.container.*']\n\
        [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\n\
        BinaryName = '/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime'\n\
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runsc]\n\
        runtime_type = 'io.containerd.runsc.v1'\n";

    #[test]
    fn a_node_config_has_our_lines_and_the_lists_of_the_node() {
        let config = Path::new("/etc/containerd/config.toml");
        let yaml = nodeadm(config, PLANNED.as_bytes(), &["runc"]).unwrap();
        let (head, toml) = yaml.split_once("config: |\n").unwrap();
        assert!(
            head.ends_with("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  containerd:\n    ")
        );
        assert!(toml.lines().all(|line| line.starts_with("      ")), "one block of YAML: {toml}");
        let merged: toml::Table = toml::from_str(toml).unwrap();
        let runtimes = &merged["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"];
        let names: Vec<&str> = runtimes.as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["runc"], "runsc is not ours");
        let runc = runtimes["runc"].as_table().unwrap();
        assert_eq!(
            runc["options"]["BinaryName"].as_str(),
            Some("/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime")
        );
        let list = |key: &str| {
            runc[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(list("pod_annotations"), ["theirs/*", "pod-security.kubernetes.io/*"]);
        assert_eq!(list("container_annotations"), ["io.kubernetes.container.*"]);
        assert_eq!(runc.len(), 3, "nothing else: {runc:?}");
        for (text, handlers) in
            [(PLANNED, &[] as &[&str]), ("version = 2\n", &["runc"]), ("no toml", &["runc"])]
        {
            nodeadm(config, text.as_bytes(), handlers).unwrap_err();
        }
    }
}
