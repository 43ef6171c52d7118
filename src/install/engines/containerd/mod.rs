//! Plans the gate for containerd.
//!
//! As the runtime: `BinaryName` of every handler whose shim calls runc names the gate's entry for it. As a hook:
//! `base_runtime_spec` of the same handlers names a spec with the gate as a createRuntime hook. Either way the
//! annotations with the pod's own levels and with the container's ports are passed on.

mod config;
mod distribution;
pub(in crate::install) use distribution::refuse_node;
mod edit;
mod spec;
mod strip;

use std::path::{Path, PathBuf};

use crate::install::{Change, Entry, Installer, Method, Plan, PlanError, Request, entry_path, is_entry_name};
use crate::node::host::Node;
use crate::pss::facts::Engine;
use config::{Config, Generation, Handler, SHIM};

/// containerd's installer.
pub const INSTALLER: Installer = Installer {
    engine: Engine::Containerd,
    alias: None,
    methods: &[Method::Runtime, Method::Hook],
    unit: Some("containerd.service"),
    plan,
    strip: strip::strip,
    holders: |_, _| Vec::new(),
};

/// The usual configuration file.
const CONFIG: &str = "/etc/containerd/config.toml";

/// Where this program's entries for containerd are.
const ENTRIES: &str = "/var/lib/pss-guard/runtimes/containerd/";

/// The pod annotations that the gate reads.
const POD_ANNOTATIONS: &str = "pod-security.kubernetes.io/*";

/// The kubelet's annotations of a container; its ports are among them.
const CONTAINER_ANNOTATIONS: &str = "io.kubernetes.container.*";

fn plan(node: &dyn Node, request: &Request<'_>) -> Result<Plan, PlanError> {
    let main = request.config.unwrap_or(Path::new(CONFIG));
    distribution::refuse(node, main)?;
    let program = node.find("containerd");
    let there = node.read(main)?.is_some();
    if program.is_none() && !there {
        return Err(PlanError::Unsupported {
            what: format!("there is no {} and no containerd", main.display()),
            instead: "name its configuration file with --config, or install containerd first".to_owned(),
        });
    }
    let version = program.as_deref().and_then(|program| node.output(program, &["--version"]));
    let generation = version.as_deref().and_then(generation);
    let config = Config::load(node, main, generation)?;
    if let (Some(program), Some(_), true) = (&program, generation, there) {
        let dump = main.to_str().and_then(|main| node.output(program, &["--config", main, "config", "dump"]));
        let Some(dump) = dump else {
            let cause = format!("`{} --config {} config dump` fails", program.display(), main.display());
            return Err(PlanError::Malformed { path: main.to_owned(), cause });
        };
        config.compare(main, &dump)?;
    }
    plan_for(node, request.method, config)
}

/// Which containerd says this of itself: `containerd github.com/containerd/containerd/v2 2.1.9 …`.
fn generation(version: &str) -> Option<Generation> {
    let number = version.split_whitespace().nth(2)?;
    let (major, _) = number.trim_start_matches('v').split_once('.')?;
    match major.parse().ok()? {
        1_u32 => Some(Generation::One),
        2.. => Some(Generation::Two),
        0 => None,
    }
}

fn plan_for(node: &dyn Node, method: Method, mut config: Config) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let handlers = config.handlers()?;
    for handler in &handlers {
        if let Some(why) = not_covered(handler)? {
            // Without a type containerd starts nothing with it.
            if handler.kind.is_empty() {
                plan.open.push(why);
            } else {
                plan.leave(&handler.name, why);
            }
            continue;
        }
        let runtime = real_runtime(node, &config, handler)?;
        match method {
            Method::Runtime => cover_as_runtime(node, &mut config, handler)?,
            Method::Hook => {
                let spec = cover_as_hook(node, &mut config, handler, &runtime)?;
                plan.changes.extend((spec.before.as_ref() != Some(&spec.after)).then_some(spec));
            }
        }
        for (key, has, word) in [
            ("pod_annotations", &handler.pod_annotations, POD_ANNOTATIONS),
            ("container_annotations", &handler.container_annotations, CONTAINER_ANNOTATIONS),
        ] {
            if !has.iter().any(|has| has == word) {
                // A list replaces the one of the files before: what they have must be in it.
                let words: Vec<String> = has.iter().cloned().chain([word.to_owned()]).collect();
                config.change(handler, |file| file.add(&handler.key(&[key]), &words))?;
            }
        }
        plan.entries.push(Entry { handler: handler.name.clone(), runtime });
    }
    if plan.entries.is_empty() {
        return Err(PlanError::Unsupported {
            what: format!("containerd has no handler that the gate could cover: {}", plan.open.join("; ")),
            instead: format!("give it one with runtime_type = {SHIM:?} first"),
        });
    }
    if method == Method::Hook {
        plan.entries.clear();
        plan.open.extend(HOOK_LEAVES_OPEN.map(str::to_owned));
    }
    // The specs come first: containerd does not start its CRI plugin if a spec that is named is not there.
    plan.changes.extend(config.changes());
    Ok(plan)
}

/// What is not seen by a hook that comes from `base_runtime_spec`.
const HOOK_LEAVES_OPEN: [&str; 2] = [
    "containerd does not apply base_runtime_spec to sandboxes: what a pod asks of its sandbox (host \
     namespaces, sysctls) is evaluated when the pod's first container starts",
    "a hook is not called for exec: only the runtime method evaluates commands in running containers",
];

/// Why the gate cannot stand in front of a handler; `None` if it can.
fn not_covered(handler: &Handler) -> Result<Option<String>, PlanError> {
    let Handler { name, kind, shim, .. } = handler;
    let shim_name = Path::new(shim).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match kind.as_str() {
        "io.containerd.runc.v1" | SHIM
            if shim.is_empty() || shim_name.starts_with("containerd-shim-runc-") => {}
        "io.containerd.runc.v1" | SHIM => {
            return Ok(Some(format!(
                "containers of the handler {name:?} are not evaluated: {shim} starts them, not runc's shim"
            )));
        }
        "io.containerd.runtime.v1.linux" => {
            return Err(PlanError::Unsupported {
                what: format!("the handler {name:?} of containerd still has runtime_type = {kind:?}"),
                instead: format!(
                    "give it {SHIM:?}, which replaces it since containerd 1.3, and BinaryName in its options \
                    in the place of runtime_engine; or remove it"
                ),
            });
        }
        "" => {
            return Ok(Some(format!(
                "the handler {name:?} has no runtime_type, so that containerd starts nothing with it"
            )));
        }
        _ => {
            return Ok(Some(format!(
                "containers of the handler {name:?} are not evaluated: {kind} is not runc's shim"
            )));
        }
    }
    if is_entry_name(name) {
        return Ok(None);
    }
    Err(PlanError::Unsupported {
        what: format!("the name of containerd's handler {name:?} cannot be the name of a directory"),
        instead: "rename it to letters, digits, '-', '_', '.' and '+', the first no dot".to_owned(),
    })
}

/// What starts a handler's containers without the gate.
fn real_runtime(node: &dyn Node, config: &Config, handler: &Handler) -> Result<PathBuf, PlanError> {
    let unsupported = |what, instead| PlanError::Unsupported { what, instead };
    let below = config.below(handler, BINARY)?;
    let binary = below.as_deref().unwrap_or(&handler.binary);
    if binary.starts_with(ENTRIES) {
        let link = Path::new(binary).with_file_name("runtime");
        let runtime = node.link(&link).filter(|runtime| runtime.is_absolute());
        return runtime.map(|runtime| node.find_again(runtime)).ok_or_else(|| {
            unsupported(
                format!(
                    "the handler {:?} names the gate, but {} is not a link to the real runtime",
                    handler.name,
                    link.display()
                ),
                format!("make it with `ln -s /usr/sbin/runc {}`, or whatever the runtime is", link.display()),
            )
        });
    }
    let binary = if binary.is_empty() { "runc" } else { binary };
    if binary.starts_with('/') {
        return Ok(PathBuf::from(binary));
    }
    node.find(binary).filter(|_| !binary.contains('/')).ok_or_else(|| {
        unsupported(
            format!(
                "the handler {:?} is started by {binary:?}, which is in none of the usual folders",
                handler.name
            ),
            format!("install it, or write its whole path as {} first", edit::name(&handler.key(BINARY))),
        )
    })
}

const BINARY: &[&str] = &["options", "BinaryName"];
const SPEC: &[&str] = &["base_runtime_spec"];

fn cover_as_runtime(node: &dyn Node, config: &mut Config, handler: &Handler) -> Result<(), PlanError> {
    let entry = entry_path(Engine::Containerd, &handler.name);
    set(config, handler, BINARY, &handler.binary, &entry)?;
    if spec::is_ours(&handler.spec) {
        let base = spec::base(node, config, handler)?;
        restore(config, handler, SPEC, base.as_deref())?;
    }
    Ok(())
}

fn cover_as_hook(
    node: &dyn Node,
    config: &mut Config,
    handler: &Handler,
    runtime: &Path,
) -> Result<Change, PlanError> {
    let spec = spec::change(node, config, handler)?;
    set(config, handler, SPEC, &handler.spec, &spec.path)?;
    if handler.binary.starts_with(ENTRIES) {
        let usual = node.find("runc").is_some_and(|runc| runc == runtime);
        restore(config, handler, BINARY, (!usual).then_some(runtime))?;
    }
    Ok(spec)
}

/// Sets a handler's key to a path, if it is another one.
fn set(
    config: &mut Config,
    handler: &Handler,
    key: &[&str],
    now: &str,
    path: &Path,
) -> Result<(), PlanError> {
    let path = path.to_string_lossy();
    if now == path {
        return Ok(());
    }
    config.change(handler, |file| file.set(&handler.key(key), path.as_ref()))
}

/// Takes our own value away from a key, for what was there before.
fn restore(
    config: &mut Config,
    handler: &Handler,
    key: &[&str],
    old: Option<&Path>,
) -> Result<(), PlanError> {
    match old {
        // Where it was in another file, it is there still.
        Some(old) if config.below(handler, key)?.is_none() => set(config, handler, key, "", old),
        _ => config.remove(handler, key),
    }
}

#[cfg(test)]
mod tests;
