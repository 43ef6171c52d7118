//! Plans the gate for podman, root's and everyone's: as a hook in the folder that podman reads for all users, or as
//! the program behind the names of its runtimes.
//!
//! What podman does (containers/common `pkg/config`): it reads the distribution's `containers.conf`, the admin's, then
//! drop-ins by name; what comes later wins, key by key. Up to version 5 both main files count, from version 6 on only
//! the admin's where there is one, and drop-ins lie beside each of them. A container remembers the name of its runtime,
//! and what a runtime can do is looked up by that name, so the names stay and only the programs behind them change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::super::{
    Entry, GATE, Installer, Method, Plan, PlanError, Request, Stripped, entry_path, is_entry_name,
};
use super::{behind, dropin, hooks_d, toml};
use crate::node::host::Node;
use crate::pss::facts::Engine;

/// Podman's installer.
pub(super) const INSTALLER: Installer = Installer {
    engine: Engine::Podman,
    alias: None,
    methods: &[Method::Hook, Method::Runtime],
    unit: None,
    plan,
    strip,
    holders: |_, _| Vec::new(),
};

const VENDORS: &str = "/usr/share/containers/containers.conf";
const ADMINS: &str = "/etc/containers/containers.conf";
const DROP_INS: &str = "/etc/containers/containers.conf.d";

/// What the drop-in begins with.
const HEADER: &str = "\
# Written by pss-guard: the gate before podman's containers. Taken away by `pss-guard uninstall --engine podman`.
";

/// The runtimes that podman knows without being told, and that take a runc's arguments.
const KNOWN: [&str; 5] = ["crun", "crun-wasm", "krun", "runc", "youki"];

/// Those it knows that are something else: virtual machines and kernels of their own.
const OTHERS: [&str; 3] = ["crun-vm", "kata", "runsc"];

/// Where podman looks for the runtimes it knows, in this order.
const FOLDERS: [&str; 7] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/sbin",
    "/bin",
    "/usr/lib/cri-o-runc/sbin",
];

fn plan(node: &dyn Node, request: &Request<'_>) -> Result<Plan, PlanError> {
    if let Some(config) = request.config {
        return Err(PlanError::Unsupported {
            what: format!("podman cannot be configured in {}: it gets a file of its own", config.display()),
            instead: "install without --config".to_owned(),
        });
    }
    let (ours, others): (Vec<_>, Vec<_>) = files(node).into_iter().partition(|file| dropin::is_ours(file));
    let rivals: Vec<PathBuf> = others.iter().filter_map(|file| rival(file)).collect();
    let mut plan = match request.method {
        Method::Hook => hook(node, &Settings::merged(node, others.iter().chain(&ours))?, &rivals),
        Method::Runtime => runtime(node, &Settings::merged(node, &others)?, &rivals),
    }?;
    plan.read = others.into_iter().chain(ours).collect();
    Ok(plan)
}

fn strip(stripped: &Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError> {
    if hooks_d::is_ours(stripped.path) {
        return Ok(hooks_d::strip(stripped));
    }
    dropin::strip(stripped, &["engine", "runtimes"], &|name, programs| {
        let Some(programs) = programs.as_array_mut() else { return };
        let ours = entry_path(Engine::Podman, name);
        programs.retain(|program| program.as_str().map(Path::new) != Some(&ours));
        // An empty list would hide a program that podman knows a place for.
        if let (true, Some(real)) =
            (programs.is_empty(), stripped.entries.iter().find(|entry| entry.handler == name))
        {
            programs.push(real.runtime.display().to_string());
        }
    })
}

/// All files of podman of root, in the order in which it reads them.
fn files(node: &dyn Node) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = [VENDORS, ADMINS].map(PathBuf::from).to_vec();
    let mut folders = vec![PathBuf::from(DROP_INS)];
    if major_version(node).is_some_and(|major| major >= 6) {
        if node.read(Path::new(ADMINS)).is_ok_and(|text| text.is_some()) {
            files.remove(0);
        }
        folders = ["/usr/share/containers", "/etc/containers"]
            .iter()
            .flat_map(|at| {
                ["containers.conf.d", "containers.rootful.conf.d"].map(|name| Path::new(at).join(name))
            })
            .collect();
    }
    // Of several drop-ins with the same name the last one counts.
    let mut drop_ins = BTreeMap::new();
    for folder in folders {
        let names = node.list(&folder).into_iter().filter(|name| name.strip_suffix(".conf").is_some());
        drop_ins.extend(names.map(|name| (name.clone(), folder.join(name))));
    }
    drop_ins.retain(|_, file| !node.is_folder(file));
    files.extend(drop_ins.into_values());
    files
}

/// A drop-in as if it lay in the folder of the admin's; only its name says when it is read.
fn rival(file: &Path) -> Option<PathBuf> {
    let main = [VENDORS, ADMINS].iter().any(|main| file == Path::new(main));
    file.file_name().filter(|_| !main).map(|name| Path::new(DROP_INS).join(name))
}

/// What podman's files say, as far as it matters here.
#[derive(Debug, Default)]
struct Settings {
    hooks: Option<Vec<String>>,
    /// Lists are added to what was there before, from the file that first says so.
    append: bool,
    default: Option<String>,
    programs: BTreeMap<String, Vec<String>>,
}

impl Settings {
    fn merged<'a>(node: &dyn Node, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<Self, PlanError> {
        let mut settings = Self::default();
        for file in files {
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
        let Some(engine) = toml::table(file, document, &["engine"])? else { return Ok(()) };
        if let Some(item) = toml::get(file, engine, "hooks_dir")? {
            let list = item.as_array().ok_or_else(|| wrong("hooks_dir", "a list"))?;
            let mut folders = Vec::new();
            for item in list {
                match item {
                    Value::String(folder) => folders.push(folder.value().clone()),
                    Value::InlineTable(attributes) => {
                        self.append =
                            attributes.get("append").and_then(Value::as_bool).unwrap_or(self.append);
                    }
                    _ => return Err(wrong("hooks_dir", "a list of strings")),
                }
            }
            if self.append {
                let mut before = self.hooks();
                before.append(&mut folders);
                folders = before;
            }
            self.hooks = Some(folders);
        }
        if let Some(item) = toml::get(file, engine, "runtime")? {
            let name = item.as_str().ok_or_else(|| wrong("runtime", "a string"))?;
            self.default = Some(name.to_owned()).filter(|name| !name.is_empty());
        }
        let Some(runtimes) = toml::get(file, engine, "runtimes")? else { return Ok(()) };
        let runtimes = runtimes.as_table_like().ok_or_else(|| wrong("runtimes", "a table"))?;
        for (name, item) in runtimes.iter() {
            let programs = item
                .as_array()
                .and_then(|list| list.iter().map(|path| path.as_str().map(str::to_owned)).collect());
            let programs = programs.ok_or_else(|| wrong(&format!("runtimes.{name}"), "a list of strings"))?;
            self.programs.insert(name.to_owned(), programs);
        }
        Ok(())
    }

    /// The folders of hooks.
    fn hooks(&self) -> Vec<String> {
        self.hooks.clone().unwrap_or_else(|| vec![hooks_d::DEFAULT.to_owned()])
    }

    /// The program behind a runtime's name; `None` where there is none.
    fn program(&self, node: &dyn Node, name: &str) -> Result<Option<PathBuf>, PlanError> {
        let known = || FOLDERS.iter().map(|folder| Path::new(folder).join(name)).collect();
        let places: Vec<PathBuf> = self
            .programs
            .get(name)
            .map_or_else(known, |programs| programs.iter().map(PathBuf::from).collect());
        match places.into_iter().find(|place| node.is_program(place)) {
            None => Ok(node.find(name)),
            Some(place) => Ok(Some(behind(node, &place)?.unwrap_or(place))),
        }
    }
}

fn hook(node: &dyn Node, settings: &Settings, rivals: &[PathBuf]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let folders = hooks_d::folders(node, "podman", &settings.hooks())?;
    hooks_d::put(node, &folders, &mut plan)?;
    if let hooks_d::Folders::AllAnd(folders) = folders {
        let table = Table::from_iter([("hooks_dir", Array::from_iter(folders))]);
        plan.changes.extend(dropin::change(node, Path::new(DROP_INS), rivals, HEADER, &["engine"], table)?);
    }
    plan.open.extend([
        users("--hooks-dir"),
        "a hook does not see commands in running containers (podman exec), and crun calls none when it \
         restores a checkpoint; --method runtime covers both"
            .to_owned(),
        format!("podman silently skips the hook if {GATE} is missing"),
    ]);
    Ok(plan)
}

fn runtime(node: &dyn Node, settings: &Settings, rivals: &[PathBuf]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut runtimes = Table::new();
    let mut names: Vec<&str> = KNOWN.to_vec();
    names.extend(settings.programs.keys().map(String::as_str).filter(|name| !KNOWN.contains(name)));
    for name in names {
        let Some(program) = settings.program(node, name)? else { continue };
        if OTHERS.contains(&name) {
            continue;
        }
        if !is_entry_name(name) {
            return Err(PlanError::Unsupported {
                what: format!("the runtime {name:?} of podman cannot be the name of a directory"),
                instead: "give it a name of letters, digits, '-', '_' and '.', or use --method hook"
                    .to_owned(),
            });
        }
        let entry = entry_path(Engine::Podman, name).display().to_string();
        runtimes.insert(name, toml_edit::value(Array::from_iter([entry])));
        plan.entries.push(Entry { handler: name.to_owned(), runtime: program });
    }
    for name in OTHERS {
        if settings.program(node, name)?.is_none() {
            continue;
        }
        let says = format!(
            "runtime {name}: it is not a runtime like runc, so its containers start without the gate"
        );
        // One that podman is not told of, and that lies there for another engine, only who calls podman can ask for.
        if settings.default.as_deref() == Some(name) || settings.programs.contains_key(name) {
            plan.leave(name, says);
        } else {
            plan.open.push(says);
        }
    }
    if plan.entries.is_empty() {
        return Err(PlanError::Unsupported {
            what: "podman has no runtime that the gate could wrap".to_owned(),
            instead: "install crun or runc".to_owned(),
        });
    }
    let mut engine = Table::new();
    if let Some(path) = settings.default.as_deref().map(Path::new).filter(|path| path.is_absolute()) {
        let name =
            plan.entries.iter().find(|entry| entry.runtime == path).map(|entry| entry.handler.as_str());
        let name = name.ok_or_else(|| PlanError::Unsupported {
            what: format!("the runtime of podman is {}, which has no name", path.display()),
            instead: "add it to [engine.runtimes] and let runtime be the name it has there".to_owned(),
        })?;
        engine.insert("runtime", toml_edit::value(name));
        plan.open
            .push(format!("containers created before the gate keep {} as their runtime", path.display()));
    }
    engine.insert("runtimes", Item::Table(runtimes));
    plan.changes.extend(dropin::change(node, Path::new(DROP_INS), rivals, HEADER, &["engine"], engine)?);
    plan.open.extend([
        users("--runtime"),
        "podman silently falls back to the real runtime in the usual folders if the gate's entry is missing"
            .to_owned(),
        "a podman service that is running (podman.socket) keeps its runtimes until it ends".to_owned(),
    ]);
    Ok(plan)
}

fn users(flag: &str) -> String {
    format!(
        "anyone who can run podman can bypass the gate ({flag}, or containers.conf of their own): for \
         rootless containers it is advisory only"
    )
}

/// The 5 of `podman version 5.8.2`.
fn major_version(node: &dyn Node) -> Option<u32> {
    let text = node.output(&node.find("podman")?, &["--version"])?;
    text.trim().strip_prefix("podman version ")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entries, file, refused, request, settle, strip, text};
    use super::{ADMINS, HEADER, INSTALLER, VENDORS};
    use crate::install::Method::{Hook, Runtime};
    use crate::install::Request;
    use crate::node::host::fake::Fake;

    const DROP_IN: &str = "/etc/containers/containers.conf.d/99-pss-guard.conf";
    const E: &str = "/var/lib/pss-guard/runtimes/podman";

    fn podman() -> Fake {
        Fake::default().program("/usr/bin/crun").program("/usr/sbin/runc")
    }

    fn changed(node: &Fake, method: crate::install::Method) -> Vec<String> {
        let (plan, _) = settle(&INSTALLER, node, method);
        plan.changes.iter().map(|change| change.path.display().to_string()).collect()
    }

    #[test]
    fn the_hook_lies_in_every_folder_that_podman_reads() {
        let six =
            |node: Fake| node.program("/usr/bin/podman").prints("podman --version", "podman version 6.0.0\n");
        let hooks = |folders: &str| format!("[engine]\nhooks_dir = [{folders}]\n");
        let usr = "/usr/share/containers/oci/hooks.d/pss-guard.json";
        #[rustfmt::skip]
        let rows = [
            (podman(), vec![usr]),
            (podman().file(VENDORS, &hooks("\"/a\"")), vec!["/a/pss-guard.json"]),
            (podman().file(VENDORS, &hooks("\"/a\"")).file(ADMINS, &hooks("\"/b\"")), vec!["/b/pss-guard.json"]),
            (podman().file(ADMINS, &hooks("\"/b\", {append=true}")), vec![usr, "/b/pss-guard.json"]),
            // Once said, it holds for the files that follow.
            (podman().file(VENDORS, &hooks("\"/a\", {append=true}")).file(ADMINS, &hooks("\"/b\"")),
             vec![usr, "/a/pss-guard.json", "/b/pss-guard.json"]),
            (podman().file(VENDORS, &hooks("{append=true}")).file(ADMINS, &hooks("\"/b\", {append=false}")), vec!["/b/pss-guard.json"]),
            (podman().file("/etc/containers/containers.conf.d/a.conf", &hooks("\"/a\""))
                     .file("/etc/containers/containers.conf.d/b.conf", &hooks("\"/b\""))
                     .file("/etc/containers/containers.conf.d/c.bak", &hooks("\"/c\"")), vec!["/b/pss-guard.json"]),
            // Version 6: the admin's main file replaces the distribution's, and there are more folders of drop-ins.
            (podman().file(VENDORS, &hooks("\"/a\"")).file(ADMINS, ""), vec!["/a/pss-guard.json"]),
            (six(podman().file(VENDORS, &hooks("\"/a\"")).file(ADMINS, "")), vec![usr]),
            (six(podman().file(VENDORS, &hooks("\"/a\""))), vec!["/a/pss-guard.json"]),
            (six(podman().file("/usr/share/containers/containers.conf.d/b.conf", &hooks("\"/a\""))
                         .file("/etc/containers/containers.rootful.conf.d/a.conf", &hooks("\"/b\""))), vec!["/a/pss-guard.json"]),
            (six(podman().file("/usr/share/containers/containers.conf.d/b.conf", &hooks("\"/a\""))
                         .file("/etc/containers/containers.rootful.conf.d/b.conf", &hooks("\"/b\""))), vec!["/b/pss-guard.json"]),
        ];
        for (node, expected) in rows {
            assert_eq!(changed(&node, Hook), expected, "{:?}", node.files.keys());
        }
        let ostree = podman().file("/ostree/repo/config", "");
        assert_eq!(changed(&ostree, Hook), ["/etc/containers/oci/hooks.d/pss-guard.json", DROP_IN]);
        let (_, after) = settle(&INSTALLER, &ostree, Hook);
        let list = "\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\"";
        assert_eq!(file(&after, DROP_IN), Some(format!("{HEADER}\n{}", hooks(list)).as_str()));
    }

    #[test]
    fn the_names_of_the_runtimes_stay_and_their_programs_change() {
        let runtimes = |names: &[&str]| {
            let lines = names.iter().map(|name| format!("{name} = [\"{E}/{name}/pss-guard-runtime\"]\n"));
            lines.collect::<String>()
        };
        #[rustfmt::skip]
        let rows: [(Fake, Vec<&str>, &str, Vec<&str>); 6] = [
            (podman(), vec!["crun", "runc"], "", vec!["crun=/usr/bin/crun", "runc=/usr/sbin/runc"]),
            (podman().program("/usr/local/bin/crun"), vec!["crun", "runc"], "", vec!["crun=/usr/bin/crun", "runc=/usr/sbin/runc"]),
            (podman().program("/opt/crun").file(ADMINS, "[engine.runtimes]\ncrun = [\"/nowhere\", \"/opt/crun\"]\n"),
             vec!["crun", "runc"], "", vec!["crun=/opt/crun", "runc=/usr/sbin/runc"]),
            (podman().program("/opt/n").program("/usr/bin/runsc").file(ADMINS, "[engine]\nruntimes = {nvidia = [\"/opt/n\"], runsc = [\"/usr/bin/runsc\"], gone = [\"/gone\"]}\n"),
             vec!["crun", "runc", "nvidia"], "", vec!["crun=/usr/bin/crun", "runc=/usr/sbin/runc", "nvidia=/opt/n"]),
            (podman().file(ADMINS, "[engine]\nruntime = \"runc\"\n"), vec!["crun", "runc"], "", vec!["crun=/usr/bin/crun", "runc=/usr/sbin/runc"]),
            // A path as the default would go past the names.
            (podman().file(ADMINS, "[engine]\nruntime = \"/usr/bin/crun\"\n"), vec!["crun", "runc"], "[engine]\nruntime = \"crun\"\n\n",
             vec!["crun=/usr/bin/crun", "runc=/usr/sbin/runc"]),
        ];
        for (node, names, before, expected) in rows {
            let (plan, after) = settle(&INSTALLER, &node, Runtime);
            let text = format!("{HEADER}\n{before}[engine.runtimes]\n{}", runtimes(&names));
            assert_eq!(file(&after, DROP_IN), Some(text.as_str()));
            assert_eq!(entries(&plan), expected);
        }
    }

    #[test]
    fn what_stays_open_is_said() {
        let said = |node: &Fake, method| settle(&INSTALLER, node, method).0.open.join("\n");
        let hook = said(&podman(), Hook);
        assert!(hook.contains("--hooks-dir") && hook.contains("podman exec"), "{hook}");
        let runtime = said(&podman().program("/usr/bin/runsc").program("/usr/bin/kata"), Runtime);
        for part in ["--runtime", "runtime runsc:", "runtime kata:", "entry is missing", "podman.socket"] {
            assert!(runtime.contains(part), "{runtime}");
        }
        let others = podman().program("/usr/bin/runsc").program("/usr/bin/kata");
        let kata = "[engine.runtimes]\nkata = [\"/usr/bin/kata\"]\n";
        for (admins, expected) in
            [("", vec![]), ("[engine]\nruntime = \"runsc\"\n", vec!["runsc"]), (kata, vec!["kata"])]
        {
            let plan = settle(&INSTALLER, &others.clone().file(ADMINS, admins), Runtime).0;
            let ungated: Vec<&str> = plan.ungated.iter().map(|(handler, _)| &**handler).collect();
            assert_eq!(ungated, expected, "{admins}");
        }
    }

    #[test]
    fn the_drop_in_is_read_last_or_not_written() {
        let rival = |name: &str| podman().file(&format!("/etc/containers/containers.conf.d/{name}"), "");
        assert_eq!(changed(&rival("98.conf"), Runtime), [DROP_IN]);
        assert_eq!(
            changed(&rival("a.conf"), Runtime),
            ["/etc/containers/containers.conf.d/zz-pss-guard.conf"]
        );
        refused(&INSTALLER, &rival("zzz.conf"), Runtime, &["zzz.conf is read after", "sorts earlier"]);
        assert_eq!(changed(&rival("zzz.bak"), Runtime), [DROP_IN]);
    }

    #[test]
    fn a_list_that_somebody_added_to_loses_only_the_gate() {
        let (plan, after) = settle(&INSTALLER, &podman(), Runtime);
        let change = &plan.changes[0];
        let installed = file(&after, DROP_IN).unwrap();
        let crun = format!("crun = [\"{E}/crun/pss-guard-runtime\"");
        #[rustfmt::skip]
        let rows = [
            (installed.replace(&crun, &format!("{crun}, \"/opt/crun\"")), Some("crun = [ \"/opt/crun\"]")),
            (installed.replace(&crun, &format!("{crun}, \"{E}/crun/pss-guard-runtime\"")), Some("crun = [\"/usr/bin/crun\"]")),
            (format!("{installed}mine = [\"/mine\"]\n"), Some("mine = [\"/mine\"]")),
            (format!("{installed}\n[containers]\nlog_driver = \"journald\"\n"), Some("[containers]\nlog_driver = \"journald\"")),
            (format!("{installed}\n# a word\n"), None),
        ];
        for (now, left) in rows {
            let stripped = strip(&INSTALLER, &plan, change, now.as_bytes()).unwrap();
            let stripped = text(stripped.as_deref());
            assert_eq!(stripped.is_some(), left.is_some(), "{now}");
            assert!(stripped.unwrap_or_default().contains(left.unwrap_or_default()), "{stripped:?}");
            assert!(!stripped.unwrap_or_default().contains("pss-guard-runtime"), "{stripped:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        #[rustfmt::skip]
        let rows = [
            ("[engine", Hook, "line 1, column 8"),
            ("[engine]\nhooks_dir = 1\n", Hook, "hooks_dir is not a list"),
            ("[engine]\nhooks_dir = [1]\n", Hook, "hooks_dir is not a list of strings"),
            ("[engine]\nhooks_dir = []\n", Hook, "sets hooks_dir to no folder at all"),
            ("[engine]\nruntime = 1\n", Runtime, "runtime is not a string"),
            ("[engine]\nruntimes = 1\n", Runtime, "runtimes is not a table"),
            ("[engine.runtimes]\ncrun = \"/a\"\n", Runtime, "runtimes.crun is not a list of strings"),
            ("[engine]\nruntime = \"/opt/x\"\n", Runtime, "the runtime of podman is /opt/x, which has no name"),
            ("[engine.runtimes]\n\"a b\" = [\"/usr/bin/crun\"]\n", Runtime, "cannot be the name of a directory"),
        ];
        for (before, method, part) in rows {
            refused(&INSTALLER, &podman().file(ADMINS, before), method, &[part]);
        }
        refused(&INSTALLER, &Fake::default(), Runtime, &["install crun or runc"]);
        let config = Request { config: Some(std::path::Path::new("/x")), ..request(Hook) };
        assert!((INSTALLER.plan)(&podman(), &config).unwrap_err().to_string().contains("without --config"));
    }
}
