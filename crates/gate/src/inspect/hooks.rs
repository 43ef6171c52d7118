//! Finds hooks of a spec that neither the engine nor the node's admin explains. No pod can ask for one: a hook is a program
//! of the host that the runtime starts as root.
//!
//! These are explained: the gate itself, the files of the folders from which CRI-O and podman take hooks (`hooks.d`; podman
//! `pkg/hooks/docs/oci-hooks.5.md`), containerd's base specs as the installer wrote them, CDI
//! specifications, and the hook by which docker sets the network up. What another folder says (`hooks_dir`), or a
//! `base_runtime_spec` that is not ours, is not known here: an admin who wants such a hook describes it in
//! /etc/containers/oci/hooks.d.

use std::cell::OnceCell;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::cdi::Cdi;
use super::host::Host;
use super::root_files;
use super::spec::{Hook, Hooks};
use pss::facts::Engine;
use pss_guard_core::paths::is_gate;

/// A hook that nothing explains: when it runs, and what.
pub(super) type Unexplained<'a> = (&'static str, &'a str);

/// Where hooks of a node are written down.
#[derive(Clone, Copy)]
struct Folders<'f> {
    hooks_d: &'f [&'f str],
    base_specs: &'f str,
}

const FOLDERS: Folders<'static> = Folders {
    hooks_d: &["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"],
    base_specs: "/var/lib/pss-guard",
};

/// A file of `hooks.d` (version 1.0.0).
#[derive(Deserialize)]
struct OfFolder {
    hook: Written,
    #[serde(default)]
    stages: Vec<String>,
}

/// A spec from which containerd makes others.
#[derive(Deserialize)]
struct BaseSpec {
    #[serde(default)]
    hooks: std::collections::BTreeMap<String, Option<Vec<Written>>>,
}

#[derive(Debug, Deserialize)]
struct Written {
    path: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
}

/// The hooks of a spec that nothing explains.
pub(super) fn unexplained<'a>(
    hooks: Option<&'a Hooks<'_>>,
    engine: Engine,
    host: &Host,
    cdi: &Cdi,
) -> Vec<Unexplained<'a>> {
    unexplained_by(FOLDERS, hooks, engine, host, cdi)
}

fn unexplained_by<'a>(
    folders: Folders<'_>,
    hooks: Option<&'a Hooks<'_>>,
    engine: Engine,
    host: &Host,
    cdi: &Cdi,
) -> Vec<Unexplained<'a>> {
    let node = OnceCell::new();
    let all = hooks.into_iter().flat_map(Hooks::all);
    let strange = all.filter(|(stage, hook)| {
        let of_node = || {
            let written: &Vec<(String, Written)> = node.get_or_init(|| read(folders));
            let is_this = |(own, written): &(String, Written)| own == stage && written.is(hook);
            written.iter().any(is_this) || cdi.has_hook(stage, hook.path(), &hook.args(), &hook.env())
        };
        let known = is_ours(hook, host) || is_dockers(hook, engine) || (host.is_here() && of_node());
        !known
    });
    strange.map(|(stage, hook)| (stage, hook.path())).collect()
}

/// Whether it is the gate's own: by the path that the installer writes, or by which this program itself was called.
fn is_ours(hook: &Hook<'_>, host: &Host) -> bool {
    if hook.args().nth(1) != Some("hook") {
        return false;
    }
    let this = || std::env::current_exe().is_ok_and(|own| own == Path::new(hook.path()));
    is_gate(hook.path()) || (host.is_here() && this())
}

/// moby `daemon/oci_linux.go` WithLibnetwork: the daemon calls itself again, under the name of the work.
fn is_dockers(hook: &Hook<'_>, engine: Engine) -> bool {
    let pid = hook.path().strip_prefix("/proc/").and_then(|rest| rest.strip_suffix("/exe"));
    let is_process = |pid: &str| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    engine == Engine::Docker && pid.is_some_and(is_process) && hook.args().next() == Some("libnetwork-setkey")
}

impl Written {
    fn is(&self, hook: &Hook<'_>) -> bool {
        let texts = |list: &'_ Option<Vec<String>>| list.clone().unwrap_or_default();
        self.path == hook.path()
            && hook.args().eq(texts(&self.args).iter().map(String::as_str))
            && hook.env().eq(texts(&self.env).iter().map(String::as_str))
    }
}

/// The hooks that files of root write down, each with its moment. What cannot be read explains nothing.
fn read(folders: Folders<'_>) -> Vec<(String, Written)> {
    let mut found: Vec<(String, Written)> = Vec::new();
    for folder in folders.hooks_d {
        root_files::each(Path::new(folder), &["json"], |_, bytes| {
            let OfFolder { hook: Written { path, args, env }, stages } = parse(bytes)?;
            let written = || Written { path: path.clone(), args: args.clone(), env: env.clone() };
            found.extend(stages.into_iter().map(|stage| (stage, written())));
            Ok(())
        });
    }
    root_files::each(Path::new(folders.base_specs), &["json"], |path, bytes| {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"containerd-")) {
            let spec: BaseSpec = parse(bytes)?;
            for (stage, hooks) in spec.hooks {
                found.extend(hooks.into_iter().flatten().map(|hook| (stage.clone(), hook)));
            }
        }
        Ok(())
    });
    found
}

/// By way of a value: these types are deserialized from nothing else, which keeps the program small.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::{Folders, unexplained_by};
    use crate::inspect::cdi::Cdi;
    use crate::inspect::host::Host;
    use crate::inspect::spec::Spec;
    use pss::facts::Engine;
    use pss_guard_core::paths::{GATE, TOOL};

    fn strange(folders: Folders<'_>, hooks: &str, engine: Engine, host: &Host) -> Vec<String> {
        let text = format!(r#"{{"hooks":{hooks}}}"#);
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let found = unexplained_by(folders, spec.hooks.as_ref(), engine, host, &Cdi::of(host));
        found.into_iter().map(|(stage, path)| format!("{stage} {path}")).collect()
    }

    const NOWHERE: Folders<'static> = Folders { hooks_d: &["/nowhere"], base_specs: "/nowhere" };

    #[test]
    fn the_gate_and_dockers_network_are_known_anywhere() {
        let ours = format!(
            r#"{{"createRuntime":[{{"path":"{GATE}","args":["pss-guard","hook","--engine","x"]}}]}}"#
        );
        let shell = format!(r#"{{"createRuntime":[{{"path":"{GATE}","args":["pss-guard","install"]}}]}}"#);
        let network = |path: &str| {
            format!(
                r#"{{"prestart":[{{"path":"{path}","args":["libnetwork-setkey","-exec-root=/var/run/docker"]}}]}}"#
            )
        };
        // From when the gate was no program of its own: an engine that has read its hooks before the upgrade still calls it.
        let older = ours.replace(GATE, TOOL);
        let beside = ours.replace(GATE, &format!("{GATE}-else"));
        let own = std::env::current_exe().unwrap().display().to_string();
        let this = format!(r#"{{"createRuntime":[{{"path":"{own}","args":["pss-guard","hook"]}}]}}"#);
        let rows = [
            (ours.clone(), Engine::CriO, Host::Unknown, None),
            (ours, Engine::CriO, Host::Live, None),
            (older, Engine::CriO, Host::Unknown, None),
            (beside, Engine::CriO, Host::Unknown, Some(format!("createRuntime {GATE}-else"))),
            (this.clone(), Engine::Containerd, Host::Live, None),
            (this, Engine::Containerd, Host::Unknown, Some(format!("createRuntime {own}"))),
            (shell, Engine::CriO, Host::Live, Some(format!("createRuntime {GATE}"))),
            (network("/proc/7/exe"), Engine::Docker, Host::Unknown, None),
            (network("/proc/7/exe"), Engine::CriO, Host::Unknown, Some("prestart /proc/7/exe".into())),
            (network("/proc/x/exe"), Engine::Docker, Host::Unknown, Some("prestart /proc/x/exe".into())),
            (network("/bin/sh"), Engine::Docker, Host::Unknown, Some("prestart /bin/sh".into())),
            ("null".into(), Engine::None, Host::Live, None),
            (r#"{"poststop":[{}]}"#.into(), Engine::None, Host::Live, Some("poststop ".into())),
        ];
        for (hooks, engine, host, expected) in rows {
            let expected: Vec<String> = expected.into_iter().collect();
            assert_eq!(strange(NOWHERE, &hooks, engine, &host), expected, "{hooks} {engine:?} {host:?}");
        }
    }

    #[test]
    fn a_hook_of_hooks_d_or_of_our_base_spec_is_the_nodes_if_it_is_called_in_the_same_way() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // Below /tmp nothing is root's alone.
        let room = tempfile::tempdir_in("/run").unwrap();
        let path = |name: &str| room.path().join(name).display().to_string();
        let (hooks_d, base_specs) = (path("hooks.d"), path("lib"));
        for folder in [&hooks_d, &base_specs] {
            std::fs::create_dir(folder).unwrap();
        }
        let write = |file: String, text: &str| std::fs::write(file, text).unwrap();
        write(
            path("hooks.d/a.json"),
            r#"{"version":"1.0.0","hook":{"path":"/opt/a","args":["a","x"],"env":["E=1"],"timeout":3},"when":{"always":true},"stages":["prestart","poststop"]}"#,
        );
        write(path("hooks.d/old.json"), r#"{"hook":"/opt/old","stage":["prestart"]}"#);
        write(
            path("lib/containerd-runc.json"),
            r#"{"hooks":{"createRuntime":[{"path":"/opt/b"}],"poststop":null}}"#,
        );
        write(path("lib/other.json"), r#"{"hooks":{"createRuntime":[{"path":"/opt/c"}]}}"#);
        let folders = Folders { hooks_d: &[&hooks_d, "/nowhere"], base_specs: &base_specs };
        let rows = [
            (r#"{"prestart":[{"path":"/opt/a","args":["a","x"],"env":["E=1"]}]}"#, ""),
            (r#"{"poststop":[{"path":"/opt/a","args":["a","x"],"env":["E=1"],"timeout":9}]}"#, ""),
            (
                r#"{"createRuntime":[{"path":"/opt/a","args":["a","x"],"env":["E=1"]}]}"#,
                "createRuntime /opt/a",
            ),
            (r#"{"prestart":[{"path":"/opt/a","args":["a","y"],"env":["E=1"]}]}"#, "prestart /opt/a"),
            (r#"{"prestart":[{"path":"/opt/a","args":["a","x"]}]}"#, "prestart /opt/a"),
            (r#"{"createRuntime":[{"path":"/opt/b"}]}"#, ""),
            (r#"{"createRuntime":[{"path":"/opt/c"}]}"#, "createRuntime /opt/c"),
            (r#"{"prestart":[{"path":"/opt/old","args":["/opt/old"]}]}"#, "prestart /opt/old"),
        ];
        for (hooks, expected) in rows {
            let found = strange(folders, hooks, Engine::CriO, &Host::Live).join(", ");
            assert_eq!(found, expected, "{hooks}");
            let away = strange(folders, hooks, Engine::CriO, &Host::Unknown);
            assert_eq!(away.len(), 1, "away from its node nothing explains it: {hooks}");
        }
    }
}
