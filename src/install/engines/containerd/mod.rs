//! Plans the gate for containerd.
//!
//! As the runtime: `BinaryName` of every handler whose shim calls runc names the gate's entry for it. As a hook:
//! `base_runtime_spec` of the same handlers names a spec with the gate as a createRuntime hook. Either way the
//! annotations with the pod's own levels and with the container's ports are passed on.

mod config;
mod dump;
mod edit;
mod place;
mod spec;
mod spelling;
mod strip;

use std::path::{Path, PathBuf};

use crate::install::{Change, Entry, Installer, Method, Plan, PlanError, Request, entry_path, is_entry_name};
use crate::node::distribution::Change as Way;
use crate::node::host::{Node, Untried};
use crate::pss::facts::Engine;
use config::{Config, Generation, Handler, SHIM, Source};
use place::{UNIT_DROP_IN, WithPrograms};

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

/// Where this program's entries for containerd are.
const ENTRIES: &str = "/var/lib/pss-guard/runtimes/containerd/";

/// The pod annotations that the gate reads.
const POD_ANNOTATIONS: &str = "pod-security.kubernetes.io/*";

/// The kubelet's annotations of a container; its ports are among them.
const CONTAINER_ANNOTATIONS: &str = "io.kubernetes.container.*";

fn plan(node: &dyn Node, request: &Request<'_>) -> Result<Plan, PlanError> {
    let node = &WithPrograms { node, distribution: request.distribution };
    let source = place::source(node, request)?;
    let program = request.distribution.containerd(node);
    let read = source.copy_of.unwrap_or(source.main);
    let there = node.read(read)?.is_some();
    if !there && (program.is_none() || source.copy_of.is_some()) {
        return Err(PlanError::Unsupported {
            what: format!("there is no {}{}", read.display(), program.map_or(" and no containerd", |_| "")),
            instead: "name its configuration file with --config, or install containerd first".to_owned(),
        });
    }
    // Of another root directory too, if its containerd runs here.
    let version = program.as_deref().map(|program| node.trial(program, &["--version"], &[]));
    let generation = version.as_ref().and_then(|version| generation(version.as_ref().ok()?));
    let config = Config::load(node, &source, generation)?;
    if let (Some(program), Some(_), true) = (&program, generation, there) {
        compare_live(node, program, request, &source, &config)?;
    }
    let now = dump::now(&config);
    let Planned { mut plan, config, left } = plan_for(node, request.method, config)?;
    plan.not_compared = match (&program, generation, version) {
        (Some(program), Some(generation), _) => {
            let then = &dump::planned(&config);
            let method = request.method;
            dump::Planned { program, generation, method, now: &now, then, left: &left }.check(node)?
        }
        (None, ..) => Some(match &request.distribution.containerd {
            Some(program) => format!("{program}, which its unit starts, is not there"),
            None => "there is no containerd here that could read them".to_owned(),
        }),
        (Some(program), None, Some(Err(Untried::NotHere(why) | Untried::Failed(why)))) => {
            Some(format!("{} does not run here ({why})", program.display()))
        }
        (Some(program), None, _) => Some(format!("{} does not tell its version", program.display())),
    };
    let read: Vec<PathBuf> = config.files.iter().map(|layer| layer.file.path().to_owned()).collect();
    plan.read.extend(read.iter().cloned());
    plan.read.push(UNIT_DROP_IN.into());
    plan.changes.extend(config.changes());
    plan.open.extend(request.distribution.loses_gate().map(str::to_owned));
    place::finish(node, request, &source, &mut plan)?;
    place::is_read(node, request, &source, &read, &plan)?;
    Ok(plan)
}

/// Holds what was read of the files to what a running node's containerd reads of them.
fn compare_live(
    node: &dyn Node,
    program: &Path,
    request: &Request<'_>,
    source: &Source<'_>,
    config: &Config,
) -> Result<(), PlanError> {
    let main = source.main;
    // No containerd reads a template, or a copy that is not there yet.
    let is_read = source.copy_of.is_none()
        && !matches!(&request.distribution.change, Way::Template(path) if main == Path::new(&**path));
    if !is_read || node.output(program, &["--version"]).is_none() {
        return Ok(());
    }
    let dump = main.to_str().and_then(|main| node.output(program, &["--config", main, "config", "dump"]));
    let Some(dump) = dump else {
        let cause = format!("`{} --config {} config dump` fails", program.display(), main.display());
        return Err(PlanError::Malformed { path: main.to_owned(), cause });
    };
    config.compare(main, &dump)
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

/// A plan without the files of the configuration.
struct Planned {
    plan: Plan,
    /// The files as they should be.
    config: Config,
    /// Handlers whose shim calls runc, and that are named as not gated.
    left: Vec<String>,
}

fn plan_for(node: &dyn Node, method: Method, mut config: Config) -> Result<Planned, PlanError> {
    let mut plan = Plan::default();
    let mut left = Vec::new();
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
        let Some(runtime) = real_runtime(node, &config, handler)? else {
            left.push(handler.name.clone());
            let Handler { name, binary, .. } = handler;
            plan.leave(
                name,
                format!(
                    "containers of the handler {name:?} are not evaluated: its runtime {binary:?} is in none of the \
                    folders of this node's programs; once it is installed, run this again"
                ),
            );
            continue;
        };
        match method {
            Method::Runtime => cover_as_runtime(node, &mut config, handler)?,
            Method::Hook => {
                let spec = cover_as_hook(node, &mut config, handler, &runtime)?;
                plan.read.push(spec.path.clone());
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
    Ok(Planned { plan, config, left })
}

/// What is not seen by a hook that comes from `base_runtime_spec`.
const HOOK_LEAVES_OPEN: [&str; 2] = [
    "containerd does not apply base_runtime_spec to sandboxes: what a pod asks of its sandbox (host \
     namespaces, sysctls) is evaluated when the pod's first container starts",
    "a hook is not called for exec: only the runtime method evaluates commands in running containers",
];

/// Why the gate cannot be before a handler's runtime; `None` if it can.
///
/// runc's shim calls whatever `BinaryName` names by runc's command line (nvidia-container-runtime, crun, youki, runsc, the
/// kata-runtime of Kata 1), so the gate can be before each of them. Other shims (Kata 2 and later, runsc's own, wasm,
/// hcsshim) start containers themselves.
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

/// What starts a handler's containers without the gate; `None` where that is not on the node, and the handler not the one
/// that containers have without a word.
fn real_runtime(node: &dyn Node, config: &Config, handler: &Handler) -> Result<Option<PathBuf>, PlanError> {
    let unsupported = |what, instead| PlanError::Unsupported { what, instead };
    let below = config.below(handler, BINARY)?;
    let binary = below.as_deref().unwrap_or(&handler.binary);
    if binary.starts_with(ENTRIES) {
        let link = Path::new(binary).with_file_name("runtime");
        let runtime = node.link(&link).filter(|runtime| runtime.is_absolute());
        let owner = link.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let is_entry = owner.is_some_and(|name| entry_path(Engine::Containerd, name) == Path::new(binary));
        let instead = if is_entry && node.is_program(Path::new(binary)) {
            format!("make it with `ln -s /usr/sbin/runc {}`, or whatever the runtime is", link.display())
        } else {
            // The gate is not installed: the folder is not for others to make.
            format!("write the whole path of its runtime as {} first", edit::name(&handler.key(BINARY)))
        };
        return runtime.map(|runtime| Some(node.find_again(runtime))).ok_or_else(|| {
            unsupported(
                format!(
                    "the handler {:?} names the gate, but {} is not a link to the real runtime",
                    handler.name,
                    link.display()
                ),
                instead,
            )
        });
    }
    let binary = if binary.is_empty() { "runc" } else { binary };
    if binary.starts_with('/') {
        return Ok(Some(PathBuf::from(binary)));
    }
    let found = node.find(binary).filter(|_| !binary.contains('/'));
    if found.is_some() || (!binary.contains('/') && config.default_handler()? != handler.name) {
        return Ok(found);
    }
    Err(unsupported(
        format!(
            "the handler {:?} is started by {binary:?}, which is in none of the usual folders",
            handler.name
        ),
        format!("install it, or write its whole path as {} first", edit::name(&handler.key(BINARY))),
    ))
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
