//! Keeps the gate in place of what writes an engine's configuration again: an upgrade, a reboot, a tool.
//!
//! On EKS a file of nodeadm's brings our lines into what it writes at every boot. Elsewhere systemd watches the files, and
//! starts `pss-guard install --repair`. What is written for that is an installation of its own beside the engine's, and goes
//! with it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::transaction::Manifest;
use super::units::WATCHED;
use super::{Change, Plan, PlanError, entry_path, units};
use crate::node::distribution::Distribution;
use crate::node::host::{Live, Node as _};
use crate::pss::facts::Engine;

/// What the installations of [`name`] begin with.
pub const PREFIX: &str = "persist-";

/// The installation that goes with an engine's.
#[must_use]
pub fn name(engine: Engine) -> String {
    format!("{PREFIX}{}", engine.name())
}

/// The folder whose files nodeadm merges into the node's configuration (`nodeadm/doc` in awslabs/amazon-eks-ami).
const NODEADM: &str = "/etc/eks/nodeadm.d";

/// Ours among them. The last one counts.
const NODE_CONFIG: &str = "99-pss-guard.yaml";

/// Whether what keeps the gate there is a file of the distribution's own, so that nothing has to be watched.
#[must_use]
pub fn is_by_distribution(distribution: &Distribution, engine: Engine) -> bool {
    distribution.name == "EKS" && engine == Engine::Containerd
}

/// What writes the engine's configuration again without the gate, and when, where the distribution does so as a rule.
#[must_use]
pub fn rewritten(distribution: &Distribution, engine: Engine) -> Option<&'static str> {
    match distribution.name {
        _ if engine != Engine::Containerd => None,
        "EKS" => Some("nodeadm writes containerd's configuration at every boot"),
        "minikube" => Some("`minikube start` writes containerd's configuration"),
        _ => None,
    }
}

/// The files that keep the gate in place for an engine that it is installed for.
pub fn plan(
    node: &Live,
    engine: Engine,
    distribution: &Distribution,
    installed: &Manifest,
) -> Result<Plan, PlanError> {
    is_possible(node, engine, distribution)?;
    let files = if is_by_distribution(distribution, engine) {
        let config = installed.config.as_deref().unwrap_or(Path::new(distribution.config.as_ref()));
        let now = node.read(config)?.unwrap_or_default();
        let handlers = installed.entries.iter().map(|entry| entry.handler.as_str());
        let text = nodeadm(config, &now, &handlers.collect::<Vec<_>>())?;
        vec![(Path::new(NODEADM).join(NODE_CONFIG), text)]
    } else {
        let named = installed.config.iter().map(PathBuf::as_path);
        let of_distribution = (engine == Engine::Containerd).then(|| Path::new(distribution.config.as_ref()));
        let files = installed.files.iter().map(|file| file.path.as_path());
        let mut watched: Vec<&Path> = named.chain(of_distribution).chain(files).collect();
        watched.sort_unstable();
        watched.dedup();
        drop_ins(node, engine, &watched)?
    };
    let mut plan = Plan::default();
    for (path, text) in files {
        let before = node.read(&path)?;
        if before.as_deref() != Some(text.as_bytes()) {
            plan.changes.push(Change { path, before, after: text.into_bytes() });
        }
    }
    Ok(plan)
}

/// Drop-ins of our units: the files that are watched, and the folders that the service has to write to. The first is there
/// even if it has nothing to add, so that it is known that this engine's gate is kept in place.
fn drop_ins(node: &Live, engine: Engine, watched: &[&Path]) -> Result<Vec<(PathBuf, String)>, PlanError> {
    let file = |unit: &str| PathBuf::from(format!("/etc/systemd/system/{unit}.d/{}.conf", engine.name()));
    let mut path = format!("{HEADER}\n[Path]\n");
    for watched in watched.iter().filter(|path| **path != Path::new(WATCHED)) {
        let _ = writeln!(path, "PathChanged={}", in_unit(watched)?);
    }
    // A link in place of a file stays one, so what is written may lie elsewhere. `/etc` and `/var` are the unit's own.
    let real = |path: &&Path| Some(Path::new("/").join(node.place(path).strip_prefix(node.root()).ok()?));
    let above = |path: PathBuf| path.parent().map(Path::to_owned);
    let mut folders: Vec<PathBuf> = watched.iter().filter_map(real).filter_map(above).collect();
    folders.retain(|folder| !["/etc", "/var"].iter().any(|own| folder.starts_with(own)));
    folders.sort_unstable();
    folders.dedup_by(|next, last| next.starts_with(last));
    let mut all = vec![(file("pss-guard-install.path"), path)];
    if !folders.is_empty() {
        let mut service = format!("{HEADER}\n[Service]\n");
        for folder in folders {
            // One that is not there yet must not keep the unit from starting.
            let _ = writeln!(service, "ReadWritePaths=\"-{}\"", in_unit(&folder)?);
        }
        all.push((file("pss-guard-install.service"), service));
    }
    Ok(all)
}

/// A path as a unit has it.
fn in_unit(path: &Path) -> Result<String, PlanError> {
    let is_plain = |text: &&str| !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\'));
    let text = path.to_str().filter(is_plain).ok_or_else(|| PlanError::Unsupported {
        what: format!("{} cannot be named in a unit of systemd", path.display()),
        instead:
            "leave --persist out, and run `pss-guard install --engine auto --repair` from a timer of your own"
                .to_owned(),
    })?;
    Ok(text.replace('%', "%%"))
}

/// Makes sure that there is something that could keep the gate in place: systemd, or on EKS nodeadm.
pub fn is_possible(node: &Live, engine: Engine, distribution: &Distribution) -> Result<(), PlanError> {
    if is_by_distribution(distribution, engine) {
        return has_last_word(node);
    }
    if units::can_watch(node) {
        return Ok(());
    }
    Err(PlanError::Unsupported {
        what: "--persist needs systemd, which does not run here".to_owned(),
        instead: "leave it out, and run `pss-guard install --engine auto --repair` at boot and whenever an engine's file may \
                  have been written"
            .to_owned(),
    })
}

/// Makes sure that no other file of nodeadm's folder has the last word.
fn has_last_word(node: &Live) -> Result<(), PlanError> {
    let is_read = |name: &String| {
        let end = Path::new(name).extension();
        end.is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
    };
    // Of a name that is not UTF-8 it is unknown where it belongs.
    let is_later = |name: &String| name.as_str() > NODE_CONFIG || name.contains('\0');
    let later = node.list(Path::new(NODEADM)).into_iter().filter(is_later);
    for path in later.filter(is_read).map(|name| Path::new(NODEADM).join(name)) {
        let bytes = node.read(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let sets = ["BinaryName", "pod_annotations", "container_annotations"];
        if let Some(key) = sets.into_iter().find(|key| text.contains(key)) {
            return Err(PlanError::Unsupported {
                what: format!("{} has {key}, and nodeadm reads it after {NODE_CONFIG}", path.display()),
                instead: "rename it, so that it comes before".to_owned(),
            });
        }
    }
    Ok(())
}

/// What every file of these begins with.
const HEADER: &str = "# Written by `pss-guard install --persist`.";

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
    let mut yaml = format!(
        "{HEADER} nodeadm merges it into what it writes at every boot.\n\
         apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  containerd:\n    config: |\n"
    );
    for handler in handlers {
        let table = tables.and_then(|tables| tables.get(*handler)?.as_table());
        let _ = writeln!(yaml, "      [plugins.'{PLUGIN}'.containerd.runtimes.'{handler}']");
        for key in ["pod_annotations", "container_annotations"] {
            let list = table.and_then(|table| table.get(key)?.as_array());
            let words: Option<Vec<String>> =
                list.map(|list| list.iter().filter_map(toml::Value::as_str).map(quoted).collect());
            if let Some(words) = words {
                let _ = writeln!(yaml, "      {key} = [{}]", words.join(", "));
            }
        }
        let _ = writeln!(yaml, "      [plugins.'{PLUGIN}'.containerd.runtimes.'{handler}'.options]");
        let _ =
            writeln!(yaml, "      BinaryName = \"{}\"", entry_path(Engine::Containerd, handler).display());
    }
    Ok(yaml)
}

/// A text for TOML in a block of YAML: ASCII, because YAML takes other characters for ends of lines, and some for nothing.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted + "\""
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
