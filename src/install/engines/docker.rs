//! Plans the gate for docker: as the runtime of every runtime that `daemon.json` names, and as the default.
//!
//! What docker does (moby `daemon/runtime_unix.go`, `daemon/config/config.go`): `runc` cannot be given another program,
//! its name is reserved. The other name that docker has of itself, `io.containerd.runc.v2`, can since docker 25: with the
//! gate behind that name, containers keep starting after the gate is gone, because docker remembers the runtime's name
//! with each container. Docker before 25 overwrites it, so there the runtime has a name of its own, which has to stay as
//! long as a container remembers it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::{
    Change, Entry, Installer, Method, Plan, PlanError, Request, Stripped, entry_path, is_entry_name,
};
use super::json::Text;
use super::{behind, is_same_key, started};
use crate::node::host::Node;
use crate::node::systemd::option;
use crate::pss::facts::Engine;

/// Docker's installer.
pub(super) const INSTALLER: Installer = Installer {
    engine: Engine::Docker,
    alias: None,
    methods: &[Method::Runtime],
    unit: Some("docker.service"),
    plan,
    strip,
    holders,
};

const CONFIG: &str = "/etc/docker/daemon.json";

/// What docker calls the runtime that it has without being told, and the entry of the gate for it.
const STOCK: &str = "runc";

/// The same runtime by the name of its shim.
const SHIM: &str = "io.containerd.runc.v2";

/// The runtime's name where docker keeps the other two to itself.
const OWN: &str = "pss-guard";

const BOM: &str = "\u{feff}";

fn plan(node: &dyn Node, request: &Request<'_>) -> Result<Plan, PlanError> {
    let path = request.config.unwrap_or(Path::new(CONFIG));
    if path.components().any(|part| part.as_os_str() == ".config") {
        return Err(unsupported(
            format!("{} is the configuration of a rootless docker", path.display()),
            "its user can remove the gate again, so installing it gains nothing; deny users docker, or give \
             them podman, whose hooks are in a root-owned folder",
        ));
    }
    if node.find("dockerd").is_none() && !node.list(Path::new("/var/snap/docker")).is_empty() {
        return Err(unsupported(
            "docker is installed as a snap, which cannot start a program outside of it".to_owned(),
            "install docker from a package of the distribution or of Docker",
        ));
    }
    flags(node, request, path)?;

    let before = node.read(path)?;
    let (bom, text) = parse(path, before.as_deref().unwrap_or_default())?;
    let mut daemon = Daemon { path, config: text.value(), text };
    let mut plan = Plan::default();
    daemon.runtimes(node, &mut plan)?;
    daemon.default(node, &mut plan)?;
    plan.open.push(
        "anyone who can use docker can select runc by name (docker run --runtime runc), which docker does \
         not allow to replace; containers created before the gate keep their runtime"
            .to_owned(),
    );
    plan.read.push(path.to_owned());
    let after = format!("{bom}{}", daemon.text.as_str()).into_bytes();
    if before.as_deref() != Some(&after) {
        plan.changes.push(Change { path: path.to_owned(), before, after });
    }
    Ok(plan)
}

/// A daemon.json: what it said, and its text with the changes so far.
struct Daemon<'a> {
    path: &'a Path,
    config: Value,
    text: Text,
}

impl Daemon<'_> {
    /// Puts the gate before every runtime that is defined.
    fn runtimes(&mut self, node: &dyn Node, plan: &mut Plan) -> Result<(), PlanError> {
        let defined = match self.config.get("runtimes") {
            None => return Ok(()),
            Some(defined) => defined.as_object().ok_or_else(|| self.wrong("runtimes is not an object"))?,
        };
        for name in self.text.names(&["runtimes"]) {
            let Some(runtime) = defined.get(&name).filter(|_| !self.is_ours(&name)) else { continue };
            let Some(place) = program(self.path, &name, runtime)? else {
                let shim = runtime.get("runtimeType").and_then(Value::as_str).unwrap_or_default();
                let says =
                    format!("runtime {name}: its containers are run by the shim {shim}, without the gate");
                plan.leave(&name, says);
                continue;
            };
            if !is_entry_name(&name) {
                return Err(unsupported(
                    format!(
                        "the runtime {name:?} in {} cannot be the name of a directory",
                        self.path.display()
                    ),
                    "give it a name of letters, digits, '-', '_' and '.'",
                ));
            }
            let runtime = real(node, self.path, &name, place.value)?;
            let entry = entry_path(Engine::Docker, &name).display().to_string();
            self.text.set(&[&["runtimes", &name], place.key].concat(), &Value::from(entry).to_string());
            plan.entries.push(Entry { handler: name, runtime });
        }
        Ok(())
    }

    /// Makes the gate the default, if docker's own runtime is, and puts it behind the name of the shim, if that is free.
    fn default(&mut self, node: &dyn Node, plan: &mut Plan) -> Result<(), PlanError> {
        let default = match self.config.get("default-runtime") {
            None => STOCK,
            Some(Value::String(name)) if name.is_empty() => STOCK,
            Some(Value::String(name)) => name,
            Some(_) => return Err(self.wrong("default-runtime is not a string")),
        };
        let is_default = default == STOCK || self.is_ours(default) || (default == SHIM && !self.has(SHIM));
        if !is_default && !self.has(default) {
            if !default.contains('.') {
                return Err(
                    self.wrong(&format!("default-runtime is {default}, which is not among the runtimes"))
                );
            }
            let says =
                format!("the default runtime is the shim {default}: its containers start without the gate");
            plan.leave(default, says);
        }
        let shim_is_free =
            major_version(node).is_some_and(|major| major >= 25) && (!self.has(SHIM) || self.is_ours(SHIM));
        if !is_default && !shim_is_free {
            return Ok(());
        }
        let name = match default {
            OWN if self.is_ours(OWN) => OWN,
            _ if shim_is_free => SHIM,
            _ => OWN,
        };
        if name == OWN {
            plan.open.push(format!(
                "docker remembers the runtime of a container by its name: after uninstall, the name {OWN} \
                 stays in daemon.json, for the real runtime, as long as there are containers that were \
                 created with it"
            ));
        }
        let entry = Value::from(entry_path(Engine::Docker, STOCK).display().to_string()).to_string();
        for (name, wanted) in [(name, true), (SHIM, shim_is_free), (OWN, self.has(OWN))] {
            if wanted {
                self.text.set(&["runtimes", name, "path"], &entry);
            }
        }
        if is_default && default != name {
            self.text.set(&["default-runtime"], &Value::from(name).to_string());
        }
        let runtime = node.find(STOCK).ok_or_else(|| {
            unsupported(
                "docker starts runc, but there is no runc in the usual folders".to_owned(),
                "install runc",
            )
        })?;
        plan.entries.push(Entry { handler: STOCK.to_owned(), runtime });
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.config.get("runtimes").and_then(|runtimes| runtimes.get(name)).is_some()
    }

    /// Whether this runtime was added by an installation, this one or one before it, for docker's own.
    fn is_ours(&self, name: &str) -> bool {
        let runtime = self.config.get("runtimes").and_then(|runtimes| runtimes.get(name));
        let path = runtime.and_then(|runtime| runtime.get("path")).and_then(Value::as_str);
        match name {
            OWN => runtime.is_some(),
            SHIM => path.map(Path::new) == Some(&entry_path(Engine::Docker, STOCK)),
            _ => false,
        }
    }

    fn wrong(&self, cause: &str) -> PlanError {
        PlanError::Malformed { path: self.path.to_owned(), cause: cause.to_owned() }
    }
}

fn strip(stripped: &Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError> {
    let (bom, mut text) = parse(stripped.path, stripped.now)?;
    let (_, original) = parse(stripped.path, stripped.original.unwrap_or_default())?;
    let config = text.value();
    let mut ours = Vec::new();
    for name in text.names(&["runtimes"]) {
        let Some(runtime) = config.pointer("/runtimes").and_then(|runtimes| runtimes.get(&name)) else {
            continue;
        };
        let Some(place) = program(stripped.path, &name, runtime)? else { continue };
        let Some(entry) = stripped
            .entries
            .iter()
            .find(|e| Path::new(place.value) == entry_path(Engine::Docker, &e.handler))
        else {
            continue;
        };
        let at = [&["runtimes", name.as_str()], place.key].concat();
        let is_ours = [OWN, SHIM].contains(&name.as_str());
        if let Some(before) = original.get(&at) {
            text.set(&at, before);
        } else if is_ours && !(stripped.held && name == OWN) {
            text.remove(&["runtimes", &name]);
        } else if !is_ours && original.get(&["runtimes", &name]).is_some() {
            let options = at.split_last().map_or(at.as_slice(), |(_, options)| options);
            text.remove(if original.get(options).is_some() { &at } else { options });
        } else {
            text.set(&at, &Value::from(entry.runtime.display().to_string()).to_string());
        }
        if is_ours {
            ours.push(name);
        }
    }
    if text.names(&["runtimes"]).is_empty() && original.get(&["runtimes"]).is_none() {
        text.remove(&["runtimes"]);
    }
    if config
        .get("default-runtime")
        .and_then(Value::as_str)
        .is_some_and(|name| ours.iter().any(|ours| ours == name))
    {
        match original.get(&["default-runtime"]) {
            Some(before) => text.set(&["default-runtime"], before),
            None => text.remove(&["default-runtime"]),
        }
    }
    if text.names(&[]).is_empty() && stripped.original.is_none() {
        return Ok(None);
    }
    Ok(Some(format!("{bom}{}", text.as_str()).into_bytes()))
}

/// The containers that were made while the gate's own name was the default.
fn holders(node: &dyn Node, request: &Request<'_>) -> Vec<String> {
    let json = |path: &Path| -> Option<Value> { serde_json::from_slice(&node.read(path).ok()??).ok() };
    let config = json(request.config.unwrap_or(Path::new(CONFIG)));
    let root =
        config.as_ref().and_then(|config| config.get("data-root")?.as_str()).unwrap_or("/var/lib/docker");
    let containers = Path::new(root).join("containers");
    let mut ids = node.list(&containers);
    ids.retain(|id| {
        let host = json(&containers.join(id).join("hostconfig.json"));
        host.is_some_and(|host| host.get("Runtime").and_then(Value::as_str) == Some(OWN))
    });
    ids
}

/// Where a runtime's definition names its program.
struct Place<'a> {
    key: &'static [&'static str],
    value: &'a str,
}

/// Finds the program in a runtime's definition; `None` for a shim of another kind.
fn program<'a>(path: &Path, name: &str, runtime: &'a Value) -> Result<Option<Place<'a>>, PlanError> {
    let wrong = |cause: &str| PlanError::Malformed {
        path: path.to_owned(),
        cause: format!("the runtime {name} {cause}"),
    };
    if name == STOCK {
        return Err(wrong("is defined, but its name is reserved"));
    }
    let members = runtime.as_object().ok_or_else(|| wrong("is not an object"))?;
    for key in ["path", "runtimeType", "options", "runtimeArgs"] {
        // docker takes names in any case, and the last of them counts.
        if let Some(other) = members.keys().find(|other| is_same_key(other, key) && *other != key) {
            return Err(unsupported(
                format!("the runtime {name} in {} has the key {other:?}", path.display()),
                "write it as docker documents it, with the same capitals",
            ));
        }
    }
    let text = |key: &str| match members.get(key) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(wrong("has a path or runtimeType that is not a string")),
    };
    match (text("path")?, text("runtimeType")?) {
        ("", "") => Err(wrong("has neither path nor runtimeType")),
        (value, "") => Ok(Some(Place { key: &["path"], value })),
        ("", SHIM) => {
            let binary = runtime.pointer("/options/BinaryName").map_or(Some(""), Value::as_str);
            let value = binary.ok_or_else(|| wrong("has a BinaryName that is not a string"))?;
            let value = if value.is_empty() { STOCK } else { value };
            Ok(Some(Place { key: &["options", "BinaryName"], value }))
        }
        ("", _) => Ok(None),
        _ => Err(wrong("has both path and runtimeType")),
    }
}

/// The real program behind what a runtime's definition names.
fn real(node: &dyn Node, config: &Path, name: &str, program: &str) -> Result<PathBuf, PlanError> {
    let path = Path::new(program);
    if let Some(real) = behind(node, path)? {
        return Ok(real);
    }
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    node.find(program).ok_or_else(|| {
        unsupported(
            format!(
                "the runtime {name} in {} is {program}, which is in none of the usual folders",
                config.display()
            ),
            "write its path in full, or take the runtime out",
        )
    })
}

/// The text of daemon.json, and the mark before it.
fn parse(path: &Path, bytes: &[u8]) -> Result<(&'static str, Text), PlanError> {
    let malformed = |cause| PlanError::Malformed { path: path.to_owned(), cause };
    let text = str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    let (bom, text) = text.strip_prefix(BOM).map_or(("", text), |text| (BOM, text));
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    Ok((bom, Text::parse(text).map_err(malformed)?))
}

/// The files that scripts of other init systems start docker with.
const SCRIPTS: [&str; 4] =
    ["/etc/default/docker", "/etc/sysconfig/docker", "/etc/conf.d/docker", "/etc/init.d/docker"];

/// Refuses where docker is told on its command line what daemon.json may then not say.
fn flags(node: &dyn Node, request: &Request<'_>, config: &Path) -> Result<(), PlanError> {
    if let Some(service) = started(node, request, "docker.service", "dockerd")? {
        return check(&service.file, &service.command, config);
    }
    for file in SCRIPTS.map(Path::new) {
        let Some(bytes) = node.read(file)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split([' ', '\t', '"', '\'', '=']));
        let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        check(file, &words, config)?;
    }
    Ok(())
}

/// The same for the words of one file.
fn check(file: &Path, words: &[String], config: &Path) -> Result<(), PlanError> {
    for flag in ["--default-runtime", "--add-runtime"] {
        if words.iter().any(|word| word.split('=').next() == Some(flag)) {
            return Err(unsupported(
                format!("{} starts docker with {flag}", file.display()),
                &format!("write that into {} instead, which can be changed", config.display()),
            ));
        }
    }
    match option(words, &["--config-file"]) {
        Some(other) if Path::new(other) != config => Err(unsupported(
            format!("{} starts docker with --config-file {other:?}", file.display()),
            &format!("install with --config {other}"),
        )),
        _ => Ok(()),
    }
}

fn unsupported(what: String, instead: &str) -> PlanError {
    PlanError::Unsupported { what, instead: instead.to_owned() }
}

/// The 28 of `Docker version 28.0.1, build 068a01e`.
fn major_version(node: &dyn Node) -> Option<u32> {
    let text = node.output(&node.find("dockerd")?, &["--version"])?;
    text.trim().strip_prefix("Docker version ")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entries, file, refused, settle, strip, text};
    use super::{CONFIG, INSTALLER};
    use crate::install::Method::Runtime;
    use crate::install::{Request, Stripped};
    use crate::node::distribution::PLAIN;
    use crate::node::host::fake::Fake;

    /// A node with a docker of this version.
    fn docker(version: &str) -> Fake {
        Fake::default()
            .program("/usr/bin/dockerd")
            .program("/usr/sbin/runc")
            .prints("dockerd --version", &format!("Docker version {version}, build 068a01e\n"))
    }

    const ENTRIES: &str = "/var/lib/pss-guard/runtimes/docker";

    #[test]
    fn the_gate_is_the_default_and_stands_before_every_runtime() {
        #[rustfmt::skip]
        let rows: [(&str, Option<&str>, &str, &[&str]); 15] = [
            ("20.10.24+dfsg1", None,
             "{\n    \"runtimes\": {\n        \"pss-guard\": {\n            \"path\": \"E/runc/pss-guard-runtime\"\n        }\n    },\n    \
              \"default-runtime\": \"pss-guard\"\n}\n",
             &["runc=/usr/sbin/runc"]),
            ("28.0.1", None,
             "{\n    \"runtimes\": {\n        \"io.containerd.runc.v2\": {\n            \"path\": \"E/runc/pss-guard-runtime\"\n        }\n    },\n    \
              \"default-runtime\": \"io.containerd.runc.v2\"\n}\n",
             &["runc=/usr/sbin/runc"]),
            ("28.0.1", Some("{\"debug\":true,\"default-runtime\":\"runc\"}"),
             "{\"debug\":true,\"default-runtime\":\"io.containerd.runc.v2\",\"runtimes\": {\"io.containerd.runc.v2\": {\"path\": \"E/runc/pss-guard-runtime\"}}}",
             &["runc=/usr/sbin/runc"]),
            // The nvidia toolkit, as the default and beside it.
            ("24.0.7", Some("{\n    \"default-runtime\": \"nvidia\",\n    \"runtimes\": {\n        \"nvidia\": {\n            \"args\": [],\n            \"path\": \"/usr/bin/nvidia-container-runtime\"\n        }\n    }\n}"),
             "{\n    \"default-runtime\": \"nvidia\",\n    \"runtimes\": {\n        \"nvidia\": {\n            \"args\": [],\n            \"path\": \"E/nvidia/pss-guard-runtime\"\n        }\n    }\n}",
             &["nvidia=/usr/bin/nvidia-container-runtime"]),
            ("24.0.7", Some("{\n  \"runtimes\": {\n    \"nvidia\": { \"path\": \"nvidia-container-runtime\", \"runtimeArgs\": [\"-x\"] }\n  }\n}\n"),
             "{\n  \"runtimes\": {\n    \"nvidia\": { \"path\": \"E/nvidia/pss-guard-runtime\", \"runtimeArgs\": [\"-x\"] },\n    \"pss-guard\": {\n      \
              \"path\": \"E/runc/pss-guard-runtime\"\n    }\n  },\n  \"default-runtime\": \"pss-guard\"\n}\n",
             &["nvidia=/usr/bin/nvidia-container-runtime", "runc=/usr/sbin/runc"]),
            // By the name of the shim, nobody gets past either.
            ("25.0.0", Some("{\"default-runtime\":\"c\",\"runtimes\":{\"c\":{\"path\":\"/usr/bin/crun\"}}}"),
             "{\"default-runtime\":\"c\",\"runtimes\":{\"c\":{\"path\":\"E/c/pss-guard-runtime\"},\"io.containerd.runc.v2\": {\"path\": \"E/runc/pss-guard-runtime\"}}}",
             &["c=/usr/bin/crun", "runc=/usr/sbin/runc"]),
            // A shim's options, with and without a program.
            ("24.0.0", Some("{\"default-runtime\":\"a\",\"runtimes\":{\"a\":{\"runtimeType\":\"io.containerd.runc.v2\",\"options\":{\"BinaryName\":\"/usr/bin/crun\"}}}}"),
             "{\"default-runtime\":\"a\",\"runtimes\":{\"a\":{\"runtimeType\":\"io.containerd.runc.v2\",\"options\":{\"BinaryName\":\"E/a/pss-guard-runtime\"}}}}",
             &["a=/usr/bin/crun"]),
            ("24.0.0", Some("{\"default-runtime\":\"a\",\"runtimes\":{\"a\":{\"runtimeType\":\"io.containerd.runc.v2\",\"options\":{\"SystemdCgroup\":true}}}}"),
             "{\"default-runtime\":\"a\",\"runtimes\":{\"a\":{\"runtimeType\":\"io.containerd.runc.v2\",\"options\":{\"SystemdCgroup\":true,\"BinaryName\": \"E/a/pss-guard-runtime\"}}}}",
             &["a=/usr/sbin/runc"]),
            ("24.0.0", Some("{\"default-runtime\":\"a\",\"runtimes\":{\"a\":{\"runtimeType\":\"io.containerd.runc.v2\"}}}"),
             "{\"default-runtime\":\"a\",\"runtimes\":{\"a\":{\"runtimeType\":\"io.containerd.runc.v2\",\"options\": {\"BinaryName\": \"E/a/pss-guard-runtime\"}}}}",
             &["a=/usr/sbin/runc"]),
            // The admin's own program behind the shim's name keeps it.
            ("28.0.1", Some("{\"runtimes\":{\"io.containerd.runc.v2\":{\"path\":\"/usr/bin/crun\"}}}"),
             "{\"runtimes\":{\"io.containerd.runc.v2\":{\"path\":\"E/io.containerd.runc.v2/pss-guard-runtime\"},\"pss-guard\": {\"path\": \"E/runc/pss-guard-runtime\"}},\"default-runtime\": \"pss-guard\"}",
             &["io.containerd.runc.v2=/usr/bin/crun", "runc=/usr/sbin/runc"]),
            // Shims that are something else stay as they are.
            ("24.0.0", Some("{\"default-runtime\":\"k\",\"runtimes\":{\"k\":{\"runtimeType\":\"io.containerd.kata.v2\"}}}"),
             "{\"default-runtime\":\"k\",\"runtimes\":{\"k\":{\"runtimeType\":\"io.containerd.kata.v2\"}}}", &[]),
            ("24.0.0", Some("{\"default-runtime\":\"io.containerd.kata.v2\"}"), "{\"default-runtime\":\"io.containerd.kata.v2\"}", &[]),
            // Layout, line ends and the mark of a Windows editor.
            ("24.0.0", Some("\u{feff}{\r\n\t\"debug\": true\r\n}\r\n"),
             "\u{feff}{\r\n\t\"debug\": true,\r\n\t\"runtimes\": {\r\n\t\t\"pss-guard\": {\r\n\t\t\t\"path\": \"E/runc/pss-guard-runtime\"\r\n\t\t}\r\n\t},\r\n\t\"default-runtime\": \"pss-guard\"\r\n}\r\n",
             &["runc=/usr/sbin/runc"]),
            // An empty default is none.
            ("24.0.0", Some("{\"default-runtime\":\"\"}"),
             "{\"default-runtime\":\"pss-guard\",\"runtimes\": {\"pss-guard\": {\"path\": \"E/runc/pss-guard-runtime\"}}}", &["runc=/usr/sbin/runc"]),
            ("24.0.0", Some("{\"default-runtime\":\"io.containerd.runc.v2\"}"),
             "{\"default-runtime\":\"pss-guard\",\"runtimes\": {\"pss-guard\": {\"path\": \"E/runc/pss-guard-runtime\"}}}", &["runc=/usr/sbin/runc"]),
        ];
        for (version, before, after, expected) in rows {
            let mut node = docker(version).program("/usr/bin/nvidia-container-runtime");
            if let Some(before) = before {
                node = node.file(CONFIG, before);
            }
            let (plan, node) = settle(&INSTALLER, &node, Runtime);
            assert_eq!(
                file(&node, CONFIG),
                Some(after.replace('E', ENTRIES).as_str()),
                "{version} {before:?}"
            );
            assert_eq!(entries(&plan), expected, "{version} {before:?}");
        }
    }

    #[test]
    fn another_version_of_docker_gets_what_it_understands() {
        let (_, old) = settle(&INSTALLER, &docker("24.0.7"), Runtime);
        let (_, new) = settle(&INSTALLER, &docker("28.0.1"), Runtime);
        let moved = |from: &Fake, to: &str| {
            let node = Fake { outputs: docker(to).outputs, ..from.clone() };
            let (plan, _) = settle_loosely(&node);
            let text = plan.changes.first().map(|change| change.after.clone()).unwrap();
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()
        };
        // The default that containers were made with stays; the other name of runc is closed as well.
        let upgraded = moved(&old, "28.0.1");
        assert_eq!(upgraded["default-runtime"], "pss-guard");
        assert_eq!(upgraded["runtimes"]["io.containerd.runc.v2"], upgraded["runtimes"]["pss-guard"]);
        // Docker 24 would put its own program behind that name.
        let downgraded = moved(&new, "24.0.7");
        assert_eq!(downgraded["default-runtime"], "pss-guard");
        assert_eq!(downgraded["runtimes"]["pss-guard"]["path"], format!("{ENTRIES}/runc/pss-guard-runtime"));
    }

    #[test]
    fn an_empty_file_is_an_empty_object() {
        for empty in ["", " \n", "{}"] {
            let node = docker("24.0.0").file(CONFIG, empty);
            let plan =
                (INSTALLER.plan)(&node, &Request { method: Runtime, config: None, distribution: &PLAIN })
                    .unwrap();
            let change = &plan.changes[0];
            assert!(text(Some(&change.after)).unwrap().starts_with("{\n    \"runtimes\": {\n"));
            let left = strip(&INSTALLER, &plan, change, &change.after).unwrap();
            assert_eq!(text(left.as_deref()).map(str::trim), Some("{}"));
        }
    }

    #[test]
    fn what_somebody_wrote_meanwhile_stays() {
        let nvidia = r#"{"runtimes":{"nvidia":{"path":"/usr/bin/nvidia-container-runtime"}}}"#;
        #[rustfmt::skip]
        let rows = [
            // Another setting.
            ("24.0.0", "{}", vec![("{\n", "{\n    \"debug\": true,\n")], Some("{\n    \"debug\": true\n}")),
            // Another default.
            ("24.0.0", "{}", vec![("\"default-runtime\": \"pss-guard\"", "\"default-runtime\": \"mine\"")], Some("{\n    \"default-runtime\": \"mine\"\n}")),
            // Another runtime, one that goes through the gate among them.
            ("28.0.1", nvidia, vec![("\"runtimes\":{", "\"runtimes\":{\"crun\":{\"path\":\"/usr/bin/crun\"},\"x\":{\"path\":\"/var/lib/pss-guard/runtimes/docker/runc/pss-guard-runtime\"},")],
             Some(r#"{"runtimes":{"crun":{"path":"/usr/bin/crun"},"x":{"path":"/usr/sbin/runc"},"nvidia":{"path":"/usr/bin/nvidia-container-runtime"}}}"#)),
            // The gate taken out by hand.
            ("24.0.0", nvidia, vec![("/var/lib/pss-guard/runtimes/docker/nvidia/pss-guard-runtime", "/opt/nvidia")],
             Some(r#"{"runtimes":{"nvidia":{"path":"/opt/nvidia"}}}"#)),
        ];
        for (version, before, edits, left) in rows {
            let node = docker(version).file(CONFIG, before);
            let (plan, _) = settle_loosely(&node);
            let change = &plan.changes[0];
            let now = edits.iter().fold(text(Some(&change.after)).unwrap().to_owned(), |now, (from, to)| {
                assert!(now.contains(from), "{now}");
                now.replacen(from, to, 1)
            });
            let stripped = strip(&INSTALLER, &plan, change, now.as_bytes()).unwrap();
            assert_eq!(text(stripped.as_deref()), left, "{now}");
        }
    }

    #[test]
    fn a_name_that_containers_remember_stays_as_long_as_they_do() {
        let request = Request { method: Runtime, config: None, distribution: &PLAIN };
        let made_with = |node: Fake, root: &str, runtime: &str| {
            let path = format!("{root}/containers/c1/hostconfig.json");
            node.file(&path, &format!("{{\"Runtime\":\"{runtime}\"}}"))
        };
        for (node, holders) in [
            (made_with(docker("24.0.7"), "/var/lib/docker", "pss-guard"), vec!["c1"]),
            (made_with(docker("24.0.7"), "/var/lib/docker", "runc"), vec![]),
            (made_with(docker("24.0.7"), "/srv", "pss-guard"), vec![]),
            (
                made_with(docker("24.0.7"), "/srv", "pss-guard").file(CONFIG, "{\"data-root\":\"/srv\"}"),
                vec!["c1"],
            ),
        ] {
            assert_eq!((INSTALLER.holders)(&node, &request), holders, "{:?}", node.files);
        }

        let node = docker("24.0.7").file(CONFIG, "{\"debug\":true}");
        let (plan, _) = settle(&INSTALLER, &node, Runtime);
        let change = &plan.changes[0];
        let left = (INSTALLER.strip)(&Stripped {
            path: &change.path,
            original: change.before.as_deref(),
            installed: &change.after,
            now: &change.after,
            entries: &plan.entries,
            held: true,
        });
        let left = left.unwrap().unwrap();
        let expected = r#"{"debug":true,"runtimes": {"pss-guard": {"path": "/usr/sbin/runc"}}}"#;
        assert_eq!(text(Some(&left)), Some(expected));

        // The next installation takes the name over again, and gives it back.
        let again = node.file(CONFIG, expected);
        for version in ["24.0.7", "28.0.1"] {
            let node = Fake { outputs: docker(version).outputs, ..again.clone() };
            let (plan, after) = settle(&INSTALLER, &node, Runtime);
            assert_eq!(entries(&plan), ["runc=/usr/sbin/runc"]);
            assert!(!file(&after, CONFIG).unwrap().contains("/usr/sbin/runc"), "{version}");
        }
    }

    /// As [`settle`], for files that cannot come back byte by byte.
    fn settle_loosely(node: &Fake) -> (crate::install::Plan, Fake) {
        let plan =
            (INSTALLER.plan)(node, &Request { method: Runtime, config: None, distribution: &PLAIN }).unwrap();
        let after = node.clone().after(INSTALLER.engine, &plan);
        (plan, after)
    }

    #[test]
    fn what_stays_open_is_said() {
        let said = |node: &Fake| settle(&INSTALLER, node, Runtime).0.open.join("\n");
        let new = said(&docker("28.0.1"));
        assert!(new.contains("docker run --runtime runc"), "{new}");
        assert!(!new.contains("docker remembers"), "{new}");
        let old = said(&docker("23.0.6"));
        assert!(old.contains("the name pss-guard stays in daemon.json, for the real runtime"), "{old}");
        let kata = docker("28.0.1").file(
            CONFIG,
            r#"{"default-runtime":"io.containerd.x.v1","runtimes":{"k":{"runtimeType":"io.containerd.kata.v2"}}}"#,
        );
        let ungated = settle(&INSTALLER, &kata, Runtime).0.ungated;
        let ungated: Vec<&str> = ungated.iter().map(|(handler, _)| &**handler).collect();
        assert_eq!(ungated, ["k", "io.containerd.x.v1"]);
        let kata = said(&kata);
        assert!(
            kata.contains("runtime k: its containers are run by the shim io.containerd.kata.v2"),
            "{kata}"
        );
        assert!(kata.contains("the default runtime is the shim io.containerd.x.v1"), "{kata}");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        #[rustfmt::skip]
        let texts = [
            ("[]", "it is not an object"),
            ("{", "cannot be parsed: EOF"),
            ("{\"runtimes\":[]}", "runtimes is not an object"),
            ("{\"runtimes\":{\"a\":1}}", "the runtime a is not an object"),
            ("{\"runtimes\":{\"a\":{}}}", "has neither path nor runtimeType"),
            ("{\"runtimes\":{\"a\":{\"path\":1}}}", "that is not a string"),
            ("{\"runtimes\":{\"a\":{\"path\":\"/a\",\"runtimeType\":\"b\"}}}", "has both path and runtimeType"),
            ("{\"runtimes\":{\"a\":{\"Path\":\"/a\"}}}", "has the key \"Path\"; write it as docker documents it"),
            ("{\"runtimes\":{\"runc\":{\"path\":\"/a\"}}}", "the runtime runc is defined, but its name is reserved"),
            ("{\"runtimes\":{\"a/b\":{\"path\":\"/a\"}}}", "cannot be the name of a directory"),
            ("{\"runtimes\":{\"a\":{\"path\":\"nowhere\"}}}", "is nowhere, which is in none of the usual folders"),
            ("{\"runtimes\":{\"a\":{\"path\":\"/var/lib/pss-guard/runtimes/docker/a/pss-guard-runtime\"}}}",
             "/var/lib/pss-guard/runtimes/docker/a/runtime is missing"),
            ("{\"default-runtime\":\"gone\"}", "default-runtime is gone, which is not among the runtimes"),
            ("{\"default-runtime\":1}", "default-runtime is not a string"),
            ("{\"debug\":true,\"debug\":false}", "the name \"debug\" occurs twice"),
        ];
        for (before, part) in texts {
            refused(&INSTALLER, &docker("28.0.1").file(CONFIG, before), Runtime, &[part]);
        }
        let unit = "/lib/systemd/system/docker.service";
        let drop_in = "/etc/systemd/system/docker.service.d/x.conf";
        let bare = Fake::default().program("/usr/bin/dockerd");
        let started = |text: &str| docker("28.0.1").file(unit, &format!("[Service]\n{text}\n"));
        let by_file = |options: &str| {
            started("EnvironmentFile=-/etc/docker/env\nExecStart=/usr/bin/dockerd $OPTS")
                .file("/etc/docker/env", options)
        };
        #[rustfmt::skip]
        let nodes = [
            (by_file("OPTS=\"--config-file /srv/d.json\"\n"), "--config-file \"/srv/d.json\"; install with --config /srv/d.json"),
            (by_file("OPTS=--default-runtime=runc\n"), "docker.service starts docker with --default-runtime"),
            (by_file("OPTS='-D --add-runtime a=/b'\n"), "--add-runtime; write that into"),
            (started("Environment=\"A=--config-file\" B=/srv/d.json\nExecStart=/usr/bin/dockerd $A ${B}"), "--config-file \"/srv/d.json\"; install with --config /srv/d.json"),
            (started("ExecStart=/bin/sh -c 'dockerd --default-runtime x'"), "not dockerd itself"),
            (started("ExecStart=/usr/bin/dockerd --data-root /x/%m"), "a specifier"),
            (started("ExecStart=/usr/bin/dockerd").file(drop_in, "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --default-runtime=runc\n"), drop_in),
            (docker("28.0.1").file("/etc/conf.d/docker", "DOCKER_OPTS=--config-file=/srv/d.json\n"), "install with --config /srv/d.json"),
            (docker("28.0.1").file("/etc/default/docker", "DOCKER_OPTS=\"--add-runtime a=/b\"\n"), "--add-runtime; write that into /etc/docker/daemon.json"),
            (started("ExecStart=/usr/bin/dockerd --config-file /srv/d.json"), "install with --config /srv/d.json"),
            (bare, "install runc"),
            (Fake::default().program("/usr/sbin/runc").file("/var/snap/docker/current/x", ""), "installed as a snap"),
        ];
        for (node, part) in nodes {
            refused(&INSTALLER, &node, Runtime, &[part]);
        }
        let commented = docker("28.0.1").file(
            unit,
            "[Service]\n# --default-runtime\nExecStart=/usr/bin/dockerd --config-file /etc/docker/daemon.json\n",
        );
        settle(&INSTALLER, &commented, Runtime);
        let rootless = std::path::Path::new("/home/ada/.config/docker/daemon.json");
        let request = Request { method: Runtime, config: Some(rootless), distribution: &PLAIN };
        let refusal = (INSTALLER.plan)(&docker("28.0.1"), &request).unwrap_err().to_string();
        assert!(refusal.contains("rootless docker"), "{refusal}");
    }
}
