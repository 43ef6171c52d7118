//! Plans the gate for CRI-O: as a hook in its folder of hooks, or as the runtime of each of its handlers, by one
//! drop-in file.
//!
//! What CRI-O does (`pkg/config/config.go`): `/etc/crio/crio.conf` first, then every file below `/etc/crio/crio.conf.d`,
//! whatever its name, in the order of their names; what comes later wins. A handler's table replaces an earlier one
//! whole, so the drop-in has to say everything that the table said before, and it has to be read last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::super::{
    Entry, GATE, Installer, Method, Plan, PlanError, Request, Stripped, entry_path, is_entry_name,
};
use super::{behind, dropin, hooks_d, started, toml};
use crate::install::detect::overriding;
use crate::node::host::Node;
use crate::pss::facts::Engine;

/// CRI-O's installer.
pub(super) const INSTALLER: Installer = Installer {
    engine: Engine::CriO,
    alias: Some("crio"),
    methods: &[Method::Hook, Method::Runtime],
    unit: Some("crio.service"),
    plan,
    strip,
    holders: |_, _| Vec::new(),
};

const MAIN: &str = "/etc/crio/crio.conf";
const DROP_INS: &str = "/etc/crio/crio.conf.d";

/// The table of the handlers.
const RUNTIMES: [&str; 3] = ["crio", "runtime", "runtimes"];

/// What the drop-in begins with.
const HEADER: &str = "\
# Written by pss-guard: the gate before CRI-O's containers. Read last, it replaces the tables below in all other files;
# change them there and run `pss-guard install --engine cri-o` again.
";

fn plan(node: &dyn Node, request: &Request<'_>) -> Result<Plan, PlanError> {
    let main = request.config.unwrap_or(Path::new(MAIN));
    let told = Told::of(node, request, main)?;
    let files = drop_ins(node, Path::new(DROP_INS))?;
    let (ours, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| dropin::is_ours(file));
    let everything = told.over(Settings::merged(node, main, others.iter().chain(&ours))?);
    everything.compare(node, request, &told)?;
    let mut plan = match request.method {
        Method::Hook => hook(node, &everything, &others, &told),
        Method::Runtime => runtime(node, &told.over(Settings::merged(node, main, &others)?), &others),
    }?;
    plan.read = [main.to_owned()].into_iter().chain(others).chain(ours).collect();
    Ok(plan)
}

/// What the unit tells CRI-O by flags and variables, which go before its files (`internal/criocli/criocli.go`).
#[derive(Debug, Default)]
struct Told {
    /// The unit's file.
    unit: PathBuf,
    default: Option<String>,
    hooks: Option<String>,
}

impl Told {
    /// What can be followed. All else is refused: what is installed into the files would not count.
    fn of(node: &dyn Node, request: &Request<'_>, main: &Path) -> Result<Self, PlanError> {
        let Some(service) = started(node, request, "crio.service", "crio")? else {
            return Ok(Self::default());
        };
        let unit = service.file.clone();
        let option = |names: &[&str]| service.option(names).map(str::to_owned);
        let variable = |name: &str| service.variables.get(name).cloned();
        let told = |names: &[&str], name: &str| option(names).or_else(|| variable(name));
        let refuse = |with: String, instead: String| PlanError::Unsupported {
            what: format!("{} starts CRI-O with {with}", unit.display()),
            instead,
        };
        if let Some(config) = told(&["--config", "-config", "-c", "--c"], "CONTAINER_CONFIG")
            && Path::new(&config) != main
        {
            let instead = if config.is_empty() {
                format!("let it name {MAIN}")
            } else {
                format!("install with --config {config}")
            };
            return Err(refuse(format!("the configuration file {config:?}"), instead));
        }
        if let Some(shown) = overriding(&option, &variable) {
            let instead = format!(
                "take it out of the unit, and write the settings into {} or a file below {DROP_INS}",
                main.display()
            );
            return Err(refuse(format!("{shown}, which overrides its files"), instead));
        }
        let default = told(&["--default-runtime", "-default-runtime"], "CONTAINER_DEFAULT_RUNTIME");
        // The usual folder, or it had been refused.
        let hooks = told(&["--hooks-dir", "-hooks-dir"], "CONTAINER_HOOKS_DIR");
        Ok(Self { unit, default, hooks })
    }

    /// The settings of the files, as they count with this.
    fn over(&self, mut settings: Settings) -> Settings {
        if let Some(default) = &self.default {
            settings.default = Some(default.clone()).filter(|name| !name.is_empty());
        }
        if let Some(hooks) = &self.hooks {
            settings.hooks = Some(vec![hooks.clone()]);
        }
        settings
    }
}

fn strip(stripped: &Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError> {
    if hooks_d::is_ours(stripped.path) {
        return Ok(hooks_d::strip(stripped));
    }
    dropin::strip(stripped, &RUNTIMES, &|name, handler| {
        let Some(path) = handler.get_mut("runtime_path") else { return };
        let Some(real) = stripped.entries.iter().find(|entry| entry.handler == name) else { return };
        if path.as_str().is_some_and(|path| Path::new(path) == entry_path(Engine::CriO, name)) {
            *path = toml_edit::value(real.runtime.display().to_string());
        }
    })
}

/// All files below a folder, in the order in which CRI-O reads them.
fn drop_ins(node: &dyn Node, folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let mut files = Vec::new();
    for name in node.list(folder) {
        let path = folder.join(name);
        if node.is_folder(&path) {
            files.append(&mut drop_ins(node, &path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// The files that CRI-O reads, beginning with the main one: of a value that several have, the last counts.
#[must_use]
pub fn files(node: &dyn Node, main: &Path) -> Vec<PathBuf> {
    let drop_ins = drop_ins(node, Path::new(DROP_INS)).unwrap_or_default();
    std::iter::once(main.to_owned()).chain(drop_ins).collect()
}

/// What CRI-O's files say, as far as it matters here.
#[derive(Debug, Default)]
struct Settings {
    hooks: Option<Vec<String>>,
    default: Option<String>,
    handlers: BTreeMap<String, InlineTable>,
}

impl Settings {
    fn merged<'a>(
        node: &dyn Node,
        main: &'a Path,
        files: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<Self, PlanError> {
        let mut settings = Self::default();
        for file in std::iter::once(main).chain(files.into_iter().map(PathBuf::as_path)) {
            if let Some(document) = toml::read(node, file)? {
                settings.add(file, &document)?;
            }
        }
        Ok(settings)
    }

    /// Lays one more file over what was read before.
    fn add(&mut self, file: &Path, document: &DocumentMut) -> Result<(), PlanError> {
        let wrong = |key: &str, wanted: &str| PlanError::Malformed {
            path: file.to_owned(),
            cause: format!("{key} is not {wanted}"),
        };
        let Some(runtime) = toml::table(file, document, &["crio", "runtime"])? else { return Ok(()) };
        if let Some(item) = toml::get(file, runtime, "hooks_dir")? {
            let folders = item.as_array().and_then(|array| {
                array.iter().map(|folder| folder.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            });
            self.hooks = Some(folders.ok_or_else(|| wrong("hooks_dir", "a list of strings"))?);
        }
        if let Some(item) = toml::get(file, runtime, "default_runtime")? {
            let name = item.as_str().ok_or_else(|| wrong("default_runtime", "a string"))?;
            self.default = Some(name.to_owned()).filter(|name| !name.is_empty());
        }
        let Some(handlers) = toml::get(file, runtime, "runtimes")? else { return Ok(()) };
        let handlers = handlers.as_table_like().ok_or_else(|| wrong("runtimes", "a table"))?;
        for (name, item) in handlers.iter() {
            let handler = item.clone().into_value().ok().and_then(|value| match value {
                Value::InlineTable(table) => Some(table),
                _ => None,
            });
            let handler = handler.ok_or_else(|| wrong(&format!("runtimes.{name}"), "a table"))?;
            for key in ["runtime_path", "runtime_type"] {
                if toml::get(file, &handler, key)?.is_some_and(|value| !value.is_str()) {
                    return Err(wrong(&format!("runtimes.{name}.{key}"), "a string"));
                }
            }
            for key in ["inherit_default_runtime", "platform_runtime_paths"] {
                toml::get(file, &handler, key)?;
            }
            self.handlers.insert(name.to_owned(), handler);
        }
        Ok(())
    }

    /// Holds the files against what CRI-O itself makes of them, where it can be asked.
    fn compare(&self, node: &dyn Node, request: &Request<'_>, told: &Told) -> Result<(), PlanError> {
        let config = request.config.and_then(Path::to_str).map(|path| ["--config", path]);
        let default = told.default.as_deref().map(|name| ["--default-runtime", name]);
        let arguments: Vec<&str> =
            config.iter().chain(&default).flatten().copied().chain(["config"]).collect();
        let Some(text) = node.find("crio").and_then(|crio| node.output(&crio, &arguments)) else {
            return Ok(());
        };
        // What is CRI-O's own value is commented out there, what is not was said by a file.
        let source = Path::new("the output of crio config");
        let mut told = Self::default();
        told.add(source, &toml::parse(source, text.as_bytes())?)?;
        let differs = |what: String| PlanError::Unsupported {
            what: format!("`crio config` contradicts the files below /etc/crio about {what}"),
            instead: "look for flags (`--runtimes`, `--hooks-dir`, `--config-dir`) in the unit of CRI-O and \
                      write them into /etc/crio/crio.conf instead"
                .to_owned(),
        };
        let path = |handler: &InlineTable| text_of(handler, "runtime_path").to_owned();
        if told.hooks.is_some() && self.hooks.is_some() && told.hooks != self.hooks {
            return Err(differs("hooks_dir".to_owned()));
        }
        let names: BTreeSet<&String> = self.handlers.keys().chain(told.handlers.keys()).collect();
        for name in names.into_iter().filter(|_| !told.handlers.is_empty()) {
            let same = match (self.handlers.get(name), told.handlers.get(name)) {
                (Some(ours), Some(told)) => path(ours) == path(told),
                // The built-in handler is in no file.
                (None, _) => matches!(name.as_str(), "crun" | "runc"),
                (_, None) => false,
            };
            if !same {
                return Err(differs(format!("the runtime {name}")));
            }
        }
        Ok(())
    }

    /// The folders of hooks.
    fn hooks(&self) -> Vec<String> {
        self.hooks.clone().unwrap_or_else(|| vec![hooks_d::DEFAULT.to_owned()])
    }
}

/// The text of a key; empty where there is none, as CRI-O has it.
fn text_of<'a>(handler: &'a InlineTable, key: &str) -> &'a str {
    handler.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn hook(node: &dyn Node, settings: &Settings, others: &[PathBuf], told: &Told) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let folders = hooks_d::folders(node, "CRI-O", &settings.hooks())?;
    if let (hooks_d::Folders::AllAnd(_), Some(folder)) = (&folders, &told.hooks) {
        return Err(PlanError::Unsupported {
            what: format!(
                "{} starts CRI-O with the folder of hooks {folder}, which cannot be written to",
                told.unit.display()
            ),
            instead: "take that out of the unit, so that the files can name another one".to_owned(),
        });
    }
    hooks_d::put(node, &folders, &mut plan)?;
    if let hooks_d::Folders::AllAnd(folders) = folders {
        let table = Table::from_iter([("hooks_dir", Array::from_iter(folders))]);
        plan.changes.extend(dropin::change(
            node,
            Path::new(DROP_INS),
            others,
            HEADER,
            &["crio", "runtime"],
            table,
        )?);
    }
    for (name, handler) in &settings.handlers {
        if is_vm(handler) {
            plan.leave(name, vm(name));
        } else if let Some(runtime) = runtime_of(node, name, handler).ok().flatten()
            && !calls_hooks(node, &runtime)
        {
            let says = format!(
                "handler {name}: {} is not known to call hooks; --method runtime covers it",
                runtime.display()
            );
            plan.leave(name, says);
        }
    }
    plan.open.extend([
        "CRI-O calls no hook for a pod's sandbox; its settings are evaluated with the first container"
            .to_owned(),
        "a hook does not see commands in running containers (kubectl exec), and crun calls none when it \
         restores a checkpoint; --method runtime covers both"
            .to_owned(),
        format!("CRI-O silently skips the hook if {GATE} is missing when it reads the folder"),
    ]);
    Ok(plan)
}

fn runtime(node: &dyn Node, settings: &Settings, others: &[PathBuf]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut handlers = settings.handlers.clone();
    if let Some((name, handler)) = built_in(node, settings)? {
        handlers.insert(name, handler);
    }
    let mut table = Table::new();
    for (name, mut handler) in handlers {
        if is_vm(&handler) {
            plan.leave(&name, vm(&name));
            continue;
        }
        // CRI-O gives it the path of the default handler, and with it the gate.
        if handler.get("inherit_default_runtime").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let Some(runtime) = runtime_of(node, &name, &handler)? else {
            if settings.default.as_ref() == Some(&name) {
                return Err(missing(&name, text_of(&handler, "runtime_path")));
            }
            plan.open.push(format!("handler {name}: its runtime is missing, so CRI-O skips the handler"));
            continue;
        };
        if let Some(platforms) = handler.get("platform_runtime_paths").and_then(Value::as_inline_table) {
            for (platform, path) in platforms {
                let says =
                    format!("handler {name}: images for {platform} are started by{path}, without the gate");
                plan.leave(&name, says);
            }
        }
        if !is_entry_name(&name) {
            return Err(PlanError::Unsupported {
                what: format!("the handler {name:?} of CRI-O cannot be the name of a directory"),
                instead: "give it a name of letters, digits, '-', '_' and '.', or use --method hook"
                    .to_owned(),
            });
        }
        let path = entry_path(Engine::CriO, &name).display().to_string();
        handler.insert("runtime_path", path.into());
        let mut handler = handler.into_table();
        handler.fmt();
        table.insert(&name, Item::Table(handler));
        plan.entries.push(Entry { handler: name, runtime });
    }
    if plan.entries.is_empty() {
        return Err(PlanError::Unsupported {
            what: "CRI-O has no handler whose runtime the gate could wrap".to_owned(),
            instead: format!("see [crio.runtime.runtimes] in {MAIN} and below {DROP_INS}"),
        });
    }
    plan.changes.extend(dropin::change(node, Path::new(DROP_INS), others, HEADER, &RUNTIMES, table)?);
    Ok(plan)
}

/// Whether a shim of its own runs the containers, in virtual machines. `oci` and nothing at all mean a runtime under
/// conmon, `pod` the same under conmon-rs.
fn is_vm(handler: &InlineTable) -> bool {
    text_of(handler, "runtime_type") == "vm"
}

/// Whether a runtime is one that calls the hooks of config.json, or hands over to such a one.
fn calls_hooks(node: &dyn Node, runtime: &Path) -> bool {
    let known = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        matches!(name, "runc" | "crun" | "youki")
            || ["crun-", "nvidia-container-runtime"].iter().any(|begin| name.starts_with(begin))
    };
    known(runtime) || node.link(runtime).is_some_and(|target| known(&target))
}

fn vm(name: &str) -> String {
    format!(
        "handler {name}: its containers run in virtual machines, behind a shim that supports neither method"
    )
}

/// The program behind a handler; `None` where there is none.
fn runtime_of(node: &dyn Node, name: &str, handler: &InlineTable) -> Result<Option<PathBuf>, PlanError> {
    let path = Path::new(text_of(handler, "runtime_path"));
    if path.as_os_str().is_empty() {
        return Ok(node.find(name));
    }
    if let Some(real) = behind(node, path)? {
        return Ok(Some(real));
    }
    if path.is_relative() {
        return Err(PlanError::Unsupported {
            what: format!("the handler {name} of CRI-O has the relative runtime_path {}", path.display()),
            instead: "write it as an absolute path".to_owned(),
        });
    }
    Ok(Some(path.to_owned()).filter(|path| node.is_program(path)))
}

fn missing(name: &str, path: &str) -> PlanError {
    let path = if path.is_empty() { name } else { path };
    PlanError::Unsupported {
        what: format!("the runtime of CRI-O's default handler {name}, {path}, is not there"),
        instead: "install it, or let default_runtime name another handler; CRI-O does not start without it"
            .to_owned(),
    }
}

/// The handler that CRI-O has without being told: `crun` since 1.31, `runc` before. `None` where a file replaces it, or
/// where its program is not there and CRI-O leaves it out.
fn built_in(node: &dyn Node, settings: &Settings) -> Result<Option<(String, InlineTable)>, PlanError> {
    let Some(minor) = minor_version(node) else {
        return if says_all(node, settings) { Ok(None) } else { Err(unknown()) };
    };
    let name = if minor >= 31 { "crun" } else { "runc" };
    if settings.handlers.contains_key(name) {
        return match &settings.default {
            Some(default) if !settings.handlers.contains_key(default) => Err(undefined(default)),
            _ => Ok(None),
        };
    }
    match &settings.default {
        Some(default) if default != name && !settings.handlers.contains_key(default) => {
            return Err(undefined(default));
        }
        Some(default) if default != name && node.find(name).is_none() => return Ok(None),
        _ if node.find(name).is_none() => return Err(missing(name, "")),
        _ => {}
    }
    // `defaultRuntimeHandler`; what it leaves empty stays empty.
    let mut handler = InlineTable::new();
    handler.insert("runtime_path", "".into());
    handler.insert("runtime_type", "oci".into());
    handler.insert("runtime_root", format!("/run/{name}").into());
    let mut annotations = Array::from_iter(["io.containers.trace-syscall"]);
    if minor >= 29 {
        annotations.push("io.kubernetes.cri-o.Devices");
    }
    handler.insert("allowed_annotations", annotations.into());
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    handler.insert("monitor_env", Array::from_iter([path]).into());
    if name == "crun" {
        handler.insert("container_min_memory", "500KiB".into());
    }
    Ok(Some((name.to_owned(), handler)))
}

/// Whether the files leave no handler to be guessed: the default is among theirs, and what could be built in either is so
/// too or has no program.
fn says_all(node: &dyn Node, settings: &Settings) -> bool {
    let defined = |name: &str| settings.handlers.contains_key(name);
    settings.default.as_deref().is_some_and(defined)
        && ["crun", "runc"].into_iter().all(|name| defined(name) || node.find(name).is_none())
}

fn unknown() -> PlanError {
    PlanError::Unsupported {
        what: "CRI-O's runtime is unknown: crio does not run here, and its files do not name one".to_owned(),
        instead: format!(
            "write default_runtime and a table [crio.runtime.runtimes.NAME] for crun and for runc, if they \
             are installed, into a file below {DROP_INS}"
        ),
    }
}

fn undefined(default: &str) -> PlanError {
    PlanError::Unsupported {
        what: format!("default_runtime of CRI-O is {default}, for which there is no table"),
        instead: format!("add [crio.runtime.runtimes.{default}]; CRI-O does not start without it"),
    }
}

/// The 31 of `crio version 1.31.2`.
fn minor_version(node: &dyn Node) -> Option<u32> {
    let text = node.output(&node.find("crio")?, &["--version"])?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("crio version "))?;
    version.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entries, file, refused, settle, strip, text};
    use super::{DROP_INS, HEADER, INSTALLER, MAIN};
    use crate::install::Method::{Hook, Runtime};
    use crate::node::host::fake::Fake;

    const OURS: &str = "/etc/crio/crio.conf.d/99-pss-guard.conf";
    const E: &str = "/var/lib/pss-guard/runtimes/cri-o";

    /// As the packages of the CRI-O project have it.
    const PACKAGED: &str = "\
[crio.image]
signature_policy = \"/etc/crio/policy.json\"

[crio.runtime]
default_runtime = \"crun\"

[crio.runtime.runtimes.crun]
runtime_path = \"/usr/libexec/crio/crun\"
runtime_root = \"/run/crun\"
monitor_path = \"/usr/libexec/crio/conmon\"
allowed_annotations = [
    \"io.containers.trace-syscall\", # for bpf
]

[crio.runtime.runtimes.runc]
runtime_path = \"/usr/libexec/crio/runc\"
runtime_root = \"/run/runc\"
monitor_path = \"/usr/libexec/crio/conmon\"
";

    fn crio() -> Fake {
        ["crun", "runc"].iter().fold(Fake::default(), |node, name| {
            node.program(&format!("/usr/libexec/crio/{name}")).program(&format!("/usr/bin/{name}"))
        })
    }

    fn version(node: Fake, version: &str) -> Fake {
        node.program("/usr/bin/crio")
            .prints("crio --version", &format!("crio version {version}\nVersion: {version}\n"))
    }

    fn drop_in(name: &str) -> String {
        format!("{DROP_INS}/{name}")
    }

    fn packaged() -> Fake {
        crio().file(&drop_in("10-crio.conf"), PACKAGED)
    }

    fn changed(node: &Fake, method: crate::install::Method) -> Vec<String> {
        let (plan, _) = settle(&INSTALLER, node, method);
        plan.changes.iter().map(|change| change.path.display().to_string()).collect()
    }

    #[test]
    fn the_hook_lies_in_every_folder_that_crio_reads() {
        let hooks = |folders: &str| format!("[crio.runtime]\nhooks_dir = [{folders}]\n");
        let usr = "/usr/share/containers/oci/hooks.d/pss-guard.json";
        #[rustfmt::skip]
        let rows = [
            (crio(), vec![usr]),
            (packaged(), vec![usr]),
            (crio().file(MAIN, &hooks("\"/a\", \"/b\"")), vec!["/a/pss-guard.json", "/b/pss-guard.json"]),
            (crio().file(MAIN, &format!("\u{feff}# mine\r\n{}", hooks("\"/a\"").replace('\n', "\r\n"))), vec!["/a/pss-guard.json"]),
            // The last file wins, whatever its name ends with and however deep it lies.
            (crio().file(MAIN, &hooks("\"/a\"")).file(&drop_in("b.bak"), &hooks("\"/b\"")), vec!["/b/pss-guard.json"]),
            (crio().file(&drop_in("c/d.conf"), &hooks("\"/c\"")).file(&drop_in("b.conf"), &hooks("\"/b\"")), vec!["/c/pss-guard.json"]),
            (crio().file(&drop_in("a"), &hooks("\"/a\"")).file(&drop_in("Z"), &hooks("\"/z\"")), vec!["/a/pss-guard.json"]),
        ];
        for (node, expected) in rows {
            assert_eq!(changed(&node, Hook), expected, "{:?}", node.files.keys());
        }
        // A file of podman's installation serves both.
        let (_, podmans) = settle(&super::super::podman::INSTALLER, &crio(), Hook);
        let (plan, _) = settle(&INSTALLER, &podmans, Hook);
        assert!(plan.changes.is_empty());
        assert_eq!(plan.shared, [std::path::Path::new(usr)]);

        let ostree = packaged().file("/ostree/repo/config", "");
        assert_eq!(changed(&ostree, Hook), ["/etc/containers/oci/hooks.d/pss-guard.json", OURS]);
        let (_, after) = settle(&INSTALLER, &ostree, Hook);
        let list = "\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\"";
        assert_eq!(file(&after, OURS), Some(format!("{HEADER}\n{}", hooks(list)).as_str()));
    }

    #[test]
    fn the_tables_of_the_handlers_are_copied_whole() {
        let (plan, after) = settle(&INSTALLER, &packaged(), Runtime);
        let expected = format!(
            "{HEADER}
[crio.runtime.runtimes.crun]
runtime_path = \"{E}/crun/pss-guard-runtime\"
runtime_root = \"/run/crun\"
monitor_path = \"/usr/libexec/crio/conmon\"
allowed_annotations = [
    \"io.containers.trace-syscall\", # for bpf
]

[crio.runtime.runtimes.runc]
runtime_path = \"{E}/runc/pss-guard-runtime\"
runtime_root = \"/run/runc\"
monitor_path = \"/usr/libexec/crio/conmon\"
"
        );
        assert_eq!(file(&after, OURS), Some(expected.as_str()));
        assert_eq!(entries(&plan), ["crun=/usr/libexec/crio/crun", "runc=/usr/libexec/crio/runc"]);

        // What is changed below later comes through with the next installation, entries and all.
        let mut later = after;
        let changed =
            PACKAGED.replace("/run/runc", "/run/other").replace("/usr/libexec/crio/runc", "/usr/bin/runc");
        later.files.insert(drop_in("10-crio.conf").into(), changed.into());
        let (plan, after) = settle(&INSTALLER, &later, Runtime);
        assert!(file(&after, OURS).unwrap().contains("runtime_root = \"/run/other\""));
        assert_eq!(entries(&plan), ["crun=/usr/libexec/crio/crun", "runc=/usr/bin/runc"]);
    }

    #[test]
    fn every_handler_is_taken_from_the_file_that_counts() {
        let runtimes = |text: &str| packaged().file(&drop_in("50-own.conf"), text);
        #[rustfmt::skip]
        let rows: [(Fake, &[&str], &str); 8] = [
            // A later table replaces an earlier one whole: the monitor is gone.
            (runtimes("[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/bin/crun\"\n"), &["crun=/usr/bin/crun", "runc=/usr/libexec/crio/runc"],
             "[crio.runtime.runtimes.crun]\nruntime_path = \"E/crun/pss-guard-runtime\"\n\n[crio.runtime.runtimes.runc]"),
            // Inline, quoted and dotted.
            (runtimes("crio.runtime.runtimes = {\"n.v\" = {runtime_path = \"/usr/bin/runc\", runtime_type = \"\"}}\n"),
             &["crun=/usr/libexec/crio/crun", "n.v=/usr/bin/runc", "runc=/usr/libexec/crio/runc"],
             "[crio.runtime.runtimes.\"n.v\"]\nruntime_path = \"E/n.v/pss-guard-runtime\"\nruntime_type = \"\"\n"),
            (runtimes("[crio.runtime.runtimes.a]\nruntime_path = \"/usr/bin/runc\"\n[crio.runtime.runtimes.a.default_annotations]\n\"x/y\" = \"z\"\n"),
             &["a=/usr/bin/runc", "crun=/usr/libexec/crio/crun", "runc=/usr/libexec/crio/runc"],
             "[crio.runtime.runtimes.a]\nruntime_path = \"E/a/pss-guard-runtime\"\ndefault_annotations = { \"x/y\" = \"z\" }\n"),
            // No path: the program of that name.
            (runtimes("[crio.runtime.runtimes.crun]\nmonitor_env = []\n"), &["crun=/usr/bin/crun", "runc=/usr/libexec/crio/runc"],
             "[crio.runtime.runtimes.crun]\nmonitor_env = []\nruntime_path = \"E/crun/pss-guard-runtime\"\n"),
            // conmon-rs starts the same runtime.
            (runtimes("[crio.runtime.runtimes.p]\nruntime_path = \"/usr/bin/crun\"\nruntime_type = \"pod\"\n"),
             &["crun=/usr/libexec/crio/crun", "p=/usr/bin/crun", "runc=/usr/libexec/crio/runc"], "[crio.runtime.runtimes.p]"),
            // Another one in front already.
            (runtimes("[crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/nvidia-container-runtime\"\n").program("/usr/bin/nvidia-container-runtime"),
             &["crun=/usr/libexec/crio/crun", "nvidia=/usr/bin/nvidia-container-runtime", "runc=/usr/libexec/crio/runc"], "[crio.runtime.runtimes.nvidia]"),
            // Takes the path of the default when CRI-O starts.
            (runtimes("[crio.runtime.runtimes.high]\ninherit_default_runtime = true\n"), &["crun=/usr/libexec/crio/crun", "runc=/usr/libexec/crio/runc"], ""),
            (runtimes("[crio.runtime.runtimes.kata]\nruntime_path = \"/usr/bin/containerd-shim-kata-v2\"\nruntime_type = \"vm\"\n"),
             &["crun=/usr/libexec/crio/crun", "runc=/usr/libexec/crio/runc"], ""),
        ];
        for (node, expected, part) in rows {
            let (plan, after) = settle(&INSTALLER, &node, Runtime);
            assert_eq!(entries(&plan), expected);
            let written = file(&after, OURS).unwrap();
            assert!(written.contains(&part.replace('E', E)), "{part} is not in {written}");
            assert!(!written.contains("kata") && !written.contains("inherit"), "{written}");
        }
    }

    #[test]
    fn the_handler_that_no_file_defines_is_the_one_of_the_version() {
        let crun = "\
[crio.runtime.runtimes.crun]
runtime_path = \"E/crun/pss-guard-runtime\"
runtime_type = \"oci\"
runtime_root = \"/run/crun\"
allowed_annotations = [\"io.containers.trace-syscall\", \"io.kubernetes.cri-o.Devices\"]
monitor_env = [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"]
container_min_memory = \"500KiB\"
";
        let runc = crun.replace("crun", "runc").replace("container_min_memory = \"500KiB\"\n", "");
        let old = runc.replace(", \"io.kubernetes.cri-o.Devices\"", "");
        let only_crun = "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/libexec/crio/crun\"\n";
        #[rustfmt::skip]
        let rows: [(Fake, &str, &[&str]); 6] = [
            (version(crio(), "1.36.3"), crun, &["crun=/usr/bin/crun"]),
            (version(crio(), "1.30.0"), &runc, &["runc=/usr/bin/runc"]),
            (version(crio(), "1.28.1"), &old, &["runc=/usr/bin/runc"]),
            // Beside what the files define, as long as there is such a program.
            (version(crio().file(MAIN, only_crun), "1.30.0"), &runc, &["crun=/usr/libexec/crio/crun", "runc=/usr/bin/runc"]),
            (version(Fake::default().program("/usr/libexec/crio/crun").file(MAIN, only_crun), "1.30.0"), "", &["crun=/usr/libexec/crio/crun"]),
            (Fake::default().program("/usr/libexec/crio/crun").file(MAIN, only_crun), "", &["crun=/usr/libexec/crio/crun"]),
        ];
        for (node, part, expected) in rows {
            let (plan, after) = settle(&INSTALLER, &node, Runtime);
            assert_eq!(entries(&plan), expected);
            assert!(file(&after, OURS).unwrap().contains(&part.replace('E', E)), "{:?}", file(&after, OURS));
        }
    }

    #[test]
    fn what_stays_open_is_said() {
        let said = |node: &Fake, method| settle(&INSTALLER, node, method).0.open.join("\n");
        let own = "[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\n\
                   [crio.runtime.runtimes.gone]\nruntime_path = \"/gone\"\n\
                   [crio.runtime.runtimes.p]\nruntime_path = \"/usr/bin/crun\"\nplatform_runtime_paths = { \"linux/arm64\" = \"/q\" }\n";
        let node = packaged().file(&drop_in("20.conf"), own);
        let hook = said(&node, Hook);
        for part in
            ["handler kata:", "sandbox", "kubectl exec", "/var/lib/pss-guard/bin/pss-guard-gate is missing"]
        {
            assert!(hook.contains(part), "{part}: {hook}");
        }
        let runtime = said(&node, Runtime);
        for part in [
            "handler kata:",
            "handler gone: its runtime is missing",
            "images for linux/arm64 are started by \"/q\"",
        ] {
            assert!(runtime.contains(part), "{part}: {runtime}");
        }
    }

    #[test]
    fn handlers_that_pass_the_gate_by_are_told_from_limits() {
        let own = "[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\nruntime_path = \"/usr/bin/containerd-shim-kata-v2\"\n\
                   [crio.runtime.runtimes.gvisor]\nruntime_path = \"/usr/bin/runsc\"\n\
                   [crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/nvidia-container-runtime.cdi\"\n\
                   [crio.runtime.runtimes.wasm]\nruntime_path = \"/usr/bin/crun-wasm\"\n\
                   [crio.runtime.runtimes.named]\nruntime_path = \"/usr/bin/low-level\"\n\
                   [crio.runtime.runtimes.gone]\nruntime_path = \"/gone\"\n\
                   [crio.runtime.runtimes.p]\nruntime_path = \"/usr/bin/crun\"\nplatform_runtime_paths = { \"linux/arm64\" = \"/q\" }\n";
        let mut node = packaged().file(&drop_in("20.conf"), own);
        for program in ["runsc", "nvidia-container-runtime.cdi", "crun-wasm", "low-level", "crun"] {
            node = node.program(&format!("/usr/bin/{program}"));
        }
        node.links.insert("/usr/bin/low-level".into(), "crun".into());
        for (method, expected) in [(Hook, &["gvisor", "kata"][..]), (Runtime, &["kata", "p"])] {
            let plan = settle(&INSTALLER, &node, method).0;
            let mut ungated: Vec<&str> = plan.ungated.iter().map(|(handler, _)| &**handler).collect();
            ungated.sort_unstable();
            assert_eq!(ungated, expected, "{method}: {:?}", plan.open);
            assert!(plan.ungated.iter().all(|(_, says)| plan.open.contains(says)), "{method}");
        }
    }

    #[test]
    fn the_drop_in_is_read_last_or_not_written() {
        let rival = |name: &str| packaged().file(&drop_in(name), "");
        assert_eq!(changed(&rival("99-nvidia.conf"), Runtime), [OURS]);
        assert_eq!(changed(&rival("99-q.conf"), Runtime), [drop_in("zz-pss-guard.conf")]);
        assert_eq!(changed(&rival("99-pss-guard.conf.d/x"), Runtime), [drop_in("zz-pss-guard.conf")]);
        refused(&INSTALLER, &rival("zzz"), Runtime, &["/zzz is read after", "sorts earlier"]);
    }

    #[test]
    fn a_table_goes_whole_or_stays_whole() {
        let (plan, after) = settle(&INSTALLER, &packaged(), Runtime);
        let installed = file(&after, OURS).unwrap();
        let mended = "[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/libexec/crio/crun\"\nruntime_root = \"/run/mine\"\n";
        #[rustfmt::skip]
        let rows = [
            (installed.replace('\n', " \n"), None),
            (format!("{installed}# a word\n"), None),
            (installed.split("[crio.runtime.runtimes.runc]").next().unwrap().to_owned(), None),
            (installed.replace("\"/run/crun\"\n", "\"/run/crun\"\nno_sync_log = true\n"), Some("crio/crun\"\nruntime_root = \"/run/crun\"\nno_sync_log = true\n")),
            (installed.replace("runtime_root = \"/run/crun\"\n", ""), Some("crio/crun\"\nmonitor_path")),
            (installed.replace("/run/crun", "/run/mine"), Some(mended)),
            (installed.replace(&format!("{E}/crun/pss-guard-runtime"), "/mine"), Some("[crio.runtime.runtimes.crun]\nruntime_path = \"/mine\"\n")),
            (format!("{installed}\n[crio.image]\npause_image = \"p\"\n"), Some("[crio.image]\npause_image = \"p\"\n")),
        ];
        for (now, left) in rows {
            let stripped = strip(&INSTALLER, &plan, &plan.changes[0], now.as_bytes()).unwrap();
            let stripped = text(stripped.as_deref());
            assert_eq!(stripped.is_some(), left.is_some(), "{now}");
            assert!(stripped.unwrap_or_default().contains(left.unwrap_or_default()), "{stripped:?}");
            assert!(!stripped.unwrap_or_default().contains("pss-guard-runtime"), "{stripped:?}");
            assert!(!stripped.unwrap_or_default().contains("[crio.runtime.runtimes.runc]"), "{stripped:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let runtimes = "[crio.runtime.runtimes.crun]\n";
        #[rustfmt::skip]
        let rows = [
            // Go's decoder takes a key in any case.
            ("[crio.runtime]\nHooks_Dir = [\"/srv/hooks\"]\n", Hook, "/etc/crio/crio.conf has the key \"Hooks_Dir\", which the engine takes for hooks_dir; write it as hooks_dir"),
            ("[crio.Runtime]\nhooks_dir = [\"/srv/hooks\"]\n", Hook, "the key \"Runtime\""),
            ("[CRIO.runtime]\nhooks_dir = [\"/srv/hooks\"]\n", Hook, "the key \"CRIO\""),
            ("[crio.runtime]\nhooks_dir = [\"/a\"]\n\"hook\u{17f}_dir\" = [\"/b\"]\n", Hook, "which the engine takes for hooks_dir"),
            ("[crio.runtime.Runtimes.evil]\nruntime_path = \"/usr/bin/runc\"\n", Runtime, "the key \"Runtimes\""),
            ("[crio.runtime]\nDefault_Runtime = \"crun\"\n", Runtime, "the key \"Default_Runtime\""),
            (&format!("{runtimes}Runtime_Path = \"/usr/bin/runc\"\n"), Runtime, "the key \"Runtime_Path\""),
            ("[crio", Hook, "line 1, column 6"),
            ("a = 1\nb = = 2\n", Hook, "line 2, column 5"),
            ("[crio.runtime]\nhooks_dir = \"/a\"\n", Hook, "hooks_dir is not a list of strings"),
            ("[crio.runtime]\nhooks_dir = []\n", Hook, "sets hooks_dir to no folder at all"),
            ("[crio.runtime]\ndefault_runtime = 1\n", Hook, "default_runtime is not a string"),
            ("[crio.runtime]\nruntimes = 1\n", Hook, "runtimes is not a table"),
            ("[crio.runtime.runtimes]\ncrun = 1\n", Hook, "runtimes.crun is not a table"),
            (&format!("{runtimes}runtime_path = 1\n"), Hook, "runtimes.crun.runtime_path is not a string"),
            (&format!("{runtimes}runtime_path = \"crun\"\n"), Runtime, "has the relative runtime_path crun"),
            (&format!("{runtimes}runtime_path = \"{E}/crun/pss-guard-runtime\"\n"), Runtime, "cri-o/crun/runtime is missing"),
            ("[crio.runtime.runtimes.\"a b\"]\nruntime_path = \"/usr/bin/crun\"\n", Runtime, "cannot be the name of a directory"),
            ("[crio.runtime]\ndefault_runtime = \"x\"\n", Runtime, "default_runtime of CRI-O is x, for which there is no table"),
            ("[crio.runtime]\ndefault_runtime = \"x\"\n[crio.runtime.runtimes.x]\nruntime_path = \"/x\"\n", Runtime, "default handler x, /x, is not there"),
        ];
        for (before, method, part) in rows {
            refused(&INSTALLER, &version(crio().file(MAIN, before), "1.36.0"), method, &[part]);
        }
        refused(&INSTALLER, &crio(), Runtime, &["CRI-O's runtime is unknown", "default_runtime"]);
        refused(
            &INSTALLER,
            &version(Fake::default(), "1.36.0"),
            Runtime,
            &["default handler crun, crun, is not there"],
        );
    }

    #[test]
    fn what_the_unit_says_goes_before_the_files() {
        let unit = |text: &str| {
            packaged().file(
                "/usr/lib/systemd/system/crio.service",
                &format!("[Service]\nEnvironmentFile=-/etc/sysconfig/crio\n{text}\n"),
            )
        };
        let sysconfig = |text: &str| {
            unit("ExecStart=/usr/bin/crio \\\n  $CRIO_CONFIG_OPTIONS \\\n  $CRIO_RUNTIME_OPTIONS")
                .file("/etc/sysconfig/crio", text)
        };
        #[rustfmt::skip]
        let rows: &[(Fake, &[&str])] = &[
            (unit("ExecStart=/usr/bin/crio --hooks-dir /srv/hooks"), &["crio.service starts CRI-O with --hooks-dir /srv/hooks", "take it out of the unit"]),
            (unit("ExecStart=/usr/bin/crio --hooks-dir=/a --hooks-dir=/b"), &["--hooks-dir /b"]),
            (unit("Environment=CONTAINER_HOOKS_DIR=/srv/hooks\nExecStart=/usr/bin/crio"), &["CONTAINER_HOOKS_DIR=/srv/hooks"]),
            (sysconfig("CRIO_CONFIG_OPTIONS=\"--config-dir /etc/crio/other.d\"\n"), &["--config-dir /etc/crio/other.d"]),
            (sysconfig("CONTAINER_CONFIG_DIR=\n"), &["CONTAINER_CONFIG_DIR="]),
            (sysconfig("CRIO_RUNTIME_OPTIONS=--runtimes=evil:/usr/bin/runc\n"), &["--runtimes evil:/usr/bin/runc"]),
            (unit("ExecStart=/usr/bin/crio -c /srv/c.conf"), &["the configuration file \"/srv/c.conf\"", "install with --config /srv/c.conf"]),
            (unit("Environment=CONTAINER_CONFIG=/srv/c.conf\nExecStart=/usr/bin/crio"), &["install with --config /srv/c.conf"]),
            (unit("ExecStart=/usr/bin/crio --config \"\""), &["the configuration file \"\"", "let it name /etc/crio/crio.conf"]),
            (unit("ExecStart=/bin/sh -c 'crio --config-dir /x'"), &["not crio itself", "--config"]),
            (unit("ExecStart=/usr/bin/crio --config-dir /x/%H"), &["a specifier", "--config"]),
            (unit("ExecStart=/usr/bin/crio --hooks-dir /usr/share/containers/oci/hooks.d").file("/ostree/repo/config", ""), &["cannot be written to"]),
        ];
        for (node, words) in rows {
            refused(&INSTALLER, node, Hook, words);
        }
        let usual = "/usr/share/containers/oci/hooks.d/pss-guard.json";
        let files = "[crio.runtime]\nhooks_dir = [\"/b\"]\n";
        for (node, expected) in [
            (
                sysconfig("#CRIO_CONFIG_OPTIONS=--config-dir /x\nCRIO_RUNTIME_OPTIONS='--log-level debug'\n"),
                usual,
            ),
            (
                unit("ExecStart=/usr/bin/crio --config-dir /etc/crio/crio.conf.d/ -c /etc/crio/crio.conf"),
                usual,
            ),
            (
                unit("ExecStart=/usr/bin/crio --hooks-dir /usr/share/containers/oci/hooks.d")
                    .file(MAIN, files),
                usual,
            ),
        ] {
            assert_eq!(changed(&node, Hook), [expected], "{:?}", node.files);
        }
        // The default decides which handler has to be there.
        let gone = unit("ExecStart=/usr/bin/crio --default-runtime gone");
        refused(&INSTALLER, &version(gone, "1.36.0"), Runtime, &["default_runtime of CRI-O is gone"]);
        // CRI-O is asked with it, too.
        let asked = unit("Environment=CONTAINER_DEFAULT_RUNTIME=runc\nExecStart=/usr/bin/crio");
        let says = "[crio.runtime.runtimes.evil]\nruntime_path = \"/usr/bin/runc\"\n";
        let asked = version(asked, "1.36.0").prints("crio --default-runtime runc config", says);
        refused(&INSTALLER, &asked, Hook, &["`crio config` contradicts"]);
    }

    #[test]
    fn what_crio_itself_says_must_be_the_same() {
        let asked = |config: &str| version(packaged(), "1.36.0").prints("crio config", config);
        let runtimes = |crun: &str, more: &str| {
            format!(
                "[crio.runtime]\n# hooks_dir = []\n[crio.runtime.runtimes.crun]\nruntime_path = \"{crun}\"\n\
                 [crio.runtime.runtimes.runc]\nruntime_path = \"/usr/libexec/crio/runc\"\n{more}"
            )
        };
        let (good, path) = ("/usr/libexec/crio/crun", "/usr/share/containers/oci/hooks.d/pss-guard.json");
        assert_eq!(changed(&asked(&runtimes(good, "")), Hook), [path]);
        assert_eq!(changed(&asked("[crio]\n"), Hook), [path]);
        refused(
            &INSTALLER,
            &asked(&runtimes("/other", "")),
            Hook,
            &["contradicts the files", "the runtime crun", "`--runtimes`"],
        );
        let more = "[crio.runtime.runtimes.flag]\nruntime_path = \"/x\"\n";
        refused(&INSTALLER, &asked(&runtimes(good, more)), Hook, &["the runtime flag"]);
        let hooks = asked("[crio.runtime]\nhooks_dir = [\"/flag\"]\n");
        let hooks = hooks.file(MAIN, "[crio.runtime]\nhooks_dir = [\"/file\"]\n");
        refused(&INSTALLER, &hooks, Hook, &["about hooks_dir"]);
    }
}
