//! Builds the base spec of containerd's containers, with the gate's hook in it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::SPEC;
use super::config::{Config, Handler};
use crate::install::{Change, GATE, PlanError};
use crate::node::host::Node;

pub(super) const FOLDER: &str = "/var/lib/pss-guard/containerd-";

/// Where a spec of ours notes from which file it was made. containerd passes over keys that it does not know.
const BASE: &str = "io.pss-guard.base";

/// Seconds; the kubelet waits two minutes for a container to start.
const TIMEOUT: u32 = 10;

/// Whether a `base_runtime_spec` was set by this program.
pub(super) fn is_ours(spec: &str) -> bool {
    spec.starts_with(FOLDER)
}

/// The `base_runtime_spec` that a handler had before ours; `None` if it had none.
pub(super) fn base(
    node: &dyn Node,
    config: &Config,
    handler: &Handler,
) -> Result<Option<PathBuf>, PlanError> {
    let below = config.below(handler, SPEC)?.filter(|below| !is_ours(below));
    let spec = below.as_deref().unwrap_or(&handler.spec);
    let base = if is_ours(spec) {
        // Where it is lost, nothing tells of another base any more.
        let is_there = node.read(Path::new(spec))?.is_some();
        let ours = is_there.then(|| read(node, handler, Path::new(spec))).transpose()?;
        ours.as_ref().and_then(|ours| ours.get(BASE)).and_then(Value::as_str).map(PathBuf::from)
    } else {
        Some(PathBuf::from(spec)).filter(|spec| !spec.as_os_str().is_empty())
    };
    Ok(base)
}

/// The spec of a handler with the hook.
pub(super) fn change(node: &dyn Node, config: &Config, handler: &Handler) -> Result<Change, PlanError> {
    let path = PathBuf::from(format!("{FOLDER}{}.json", handler.name));
    let base = base(node, config, handler)?;
    let mut spec = match &base {
        Some(base) => read(node, handler, base)?,
        None => default(node)?,
    };
    let hook = json!({
        "path": GATE,
        "args": ["pss-guard-gate", "hook", "--engine", "containerd", "--runtime-handler", handler.name],
        "timeout": TIMEOUT,
    });
    let hooks = spec.as_object_mut().map(|spec| spec.entry("hooks").or_insert_with(|| json!({})));
    let stage = hooks
        .and_then(Value::as_object_mut)
        .map(|hooks| hooks.entry("createRuntime").or_insert_with(|| json!([])));
    let Some(stage) = stage.and_then(Value::as_array_mut) else {
        let cause = "hooks.createRuntime must be a list".to_owned();
        return Err(PlanError::Malformed { path: base.unwrap_or(path), cause });
    };
    stage.push(hook);
    if let (Some(base), Some(spec)) = (base, spec.as_object_mut()) {
        spec.insert(BASE.to_owned(), base.to_string_lossy().into());
    }
    let before = node.read(&path)?;
    Ok(Change { path, before, after: format!("{spec:#}\n").into_bytes() })
}

/// What containerd starts from where no file is named.
fn default(node: &dyn Node) -> Result<Value, PlanError> {
    let printed = node.find("ctr").and_then(|ctr| node.output(&ctr, &["oci", "spec"]));
    let mut spec: Value = printed.and_then(|printed| serde_json::from_str(&printed).ok()).ok_or_else(|| PlanError::Unsupported {
        what: "the hook method needs containerd's own default spec, and `ctr oci spec` does not print it here".to_owned(),
        instead: "run this on the node itself with ctr in place, or use --method runtime".to_owned(),
    })?;
    // ctr's own limit of open files, which containers of pods do not have.
    if let Some(process) = spec.get_mut("process").and_then(Value::as_object_mut) {
        process.remove("rlimits");
    }
    Ok(spec)
}

fn read(node: &dyn Node, handler: &Handler, path: &Path) -> Result<Value, PlanError> {
    let bytes = node.read(path)?.ok_or_else(|| PlanError::Unsupported {
        what: format!(
            "the handler {:?} has base_runtime_spec = {:?}, and there is no such file",
            handler.name,
            path.display()
        ),
        instead: "put the file back, or remove base_runtime_spec first".to_owned(),
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| PlanError::Malformed { path: path.to_owned(), cause: error.to_string() })
}
