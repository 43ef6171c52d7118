//! What do real containerds make of the files that the installer writes? Asked by `config dump`, of 1.6, 1.7 and 2.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pss_guard::files::FileError;
use pss_guard::install::engines::containerd::INSTALLER;
use pss_guard::install::{Method, Plan, Request, Stripped, entry_path};
use pss_guard::node::distribution::PLAIN;
use pss_guard::node::host::{Live, Node, Untried};
use pss_guard::pss::facts::Engine;

use crate::support::needs::{self, skip};
use crate::support::run::run;

/// A containerd of one version, and a folder for what the installer would put on the node.
struct Tried {
    live: Live,
    programs: PathBuf,
    node: tempfile::TempDir,
    links: RefCell<BTreeMap<PathBuf, PathBuf>>,
}

impl Node for Tried {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        self.live.read(&self.place(path))
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        self.live.list(folder)
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        self.links.borrow().get(path).cloned()
    }

    fn is_program(&self, path: &Path) -> bool {
        self.live.is_program(path)
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        self.live.output(program, arguments)
    }

    fn trial(
        &self,
        program: &Path,
        arguments: &[&str],
        files: &[(String, Vec<u8>)],
    ) -> Result<String, Untried> {
        self.live.trial(program, arguments, files)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        match name {
            "containerd" | "ctr" => Some(self.programs.join(name)),
            // Whether they are installed here is no matter: nothing is started.
            _ => Some(Path::new("/usr/sbin").join(name)),
        }
    }
}

impl Tried {
    fn new(programs: &Path) -> Self {
        let node = tempfile::tempdir().unwrap();
        Self {
            live: Live::under(Path::new("/")),
            programs: programs.to_owned(),
            node,
            links: RefCell::default(),
        }
    }

    /// Where a file of the product is here.
    fn place(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/var/lib/pss-guard") {
            Ok(rest) => self.node.path().join("pss-guard").join(rest),
            Err(_) => path.to_owned(),
        }
    }

    /// Where a configuration is here.
    fn config(&self) -> PathBuf {
        self.node.path().join("etc/config.toml")
    }

    fn plan(&self, method: Method) -> Plan {
        let config = self.config();
        let plan = (INSTALLER.plan)(self, &Request { method, config: Some(&config), distribution: &PLAIN })
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.not_compared, None);
        plan
    }

    fn apply(&self, plan: &Plan) {
        for change in &plan.changes {
            let path = self.place(&change.path);
            assert_eq!(fs::read(&path).ok(), change.before, "{}", path.display());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &change.after).unwrap();
        }
        let mut links = self.links.borrow_mut();
        for entry in &plan.entries {
            links.insert(
                entry_path(Engine::Containerd, &entry.handler).with_file_name("runtime"),
                entry.runtime.clone(),
            );
        }
    }

    fn dump(&self) -> BTreeMap<String, String> {
        let mut command = Command::new(self.programs.join("containerd"));
        settings(
            &run(command.arg("--config").arg(self.config()).args(["config", "dump"])).expect_success().stdout,
        )
    }
}

/// All that a dump sets, by its dotted key; containerd leaves out of some tables what it prints as nothing in others.
pub(crate) fn settings(dump: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    flatten(&toml::Value::Table(dump.parse().unwrap()), String::new(), &mut found);
    found.retain(|_, value| !["\"\"", "0", "false", "[]"].contains(&value.as_str()));
    // containerd 1 names the files it read, in any order.
    found.remove(".imports");
    // Of handlers that say nothing else, which is what most handlers say.
    found.retain(|key, value| !(key.contains(".sandbox") && value == "\"podsandbox\""));
    found
}

fn flatten(value: &toml::Value, key: String, found: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| flatten(value, format!("{key}.{name}"), found));
        }
        value => {
            found.insert(key, text(value));
        }
    }
}

fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(string) => format!("{string:?}"),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}

/// The files of a row, at home in another folder than /etc/containerd.
fn lay_out(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            lay_out(&path, &target);
        } else {
            let home = target
                .ancestors()
                .find(|folder| folder.ends_with("etc"))
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = String::from_utf8(fs::read(&path).unwrap()).unwrap();
            fs::write(target, text.replace("/etc/containerd/", &format!("{home}/"))).unwrap();
        }
    }
}

/// What containerd says of itself must differ in what the plan is for, and in nothing else.
fn try_out(tried: &Tried, name: &str, method: Method) {
    let before = tried.dump();
    let plan = tried.plan(method);
    tried.apply(&plan);
    let after = tried.dump();

    let mut expected = before.clone();
    let handlers: Vec<String> = before
        .iter()
        .filter(|(key, value)| key.ends_with(".runtime_type") && value.starts_with("\"io.containerd.runc."))
        .map(|(key, _)| key.trim_end_matches(".runtime_type").to_owned())
        .collect();
    assert!(!handlers.is_empty(), "{name}");
    for table in &handlers {
        let handler = match table.rsplit('.').next().unwrap() {
            "default_runtime" => "default",
            "untrusted_workload_runtime" => "untrusted",
            handler => handler,
        };
        let mut set = |key: &str, value: String| expected.insert(format!("{table}.{key}"), value);
        match method {
            Method::Runtime => set(
                "options.BinaryName",
                format!("\"{}\"", entry_path(Engine::Containerd, handler).display()),
            ),
            Method::Hook => {
                set("base_runtime_spec", format!("\"/var/lib/pss-guard/containerd-{handler}.json\""))
            }
        };
        for (key, word) in [
            ("pod_annotations", "pod-security.kubernetes.io/*"),
            ("container_annotations", "io.kubernetes.container.*"),
        ] {
            let key = format!("{table}.{key}");
            let has = expected.get(&key).map(|has| has.trim_matches(['[', ']']).to_owned());
            let all = has.map_or(format!("[\"{word}\"]"), |has| format!("[{has}, \"{word}\"]"));
            expected.insert(key, all);
        }
    }
    let only = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| -> Vec<String> {
        one.iter()
            .filter(|(key, value)| other.get(*key) != Some(value))
            .map(|(k, v)| format!("{k} = {v}"))
            .collect()
    };
    assert_eq!(
        only(&after, &expected),
        only(&expected, &after),
        "{name}: left: as it is, right: as it should be"
    );
    assert_eq!(tried.plan(method).changes, [], "{name}: planned again");

    for change in &plan.changes {
        let Ok(now) = fs::read(tried.place(&change.path)) else { panic!("{name}") };
        let original = change.before.as_deref();
        let stripped = Stripped {
            path: &change.path,
            original,
            installed: &change.after,
            now: &now,
            entries: &plan.entries,
            held: false,
        };
        assert_eq!((INSTALLER.strip)(&stripped).unwrap(), change.before, "{name}: undone");
    }
}

/// All rows for a generation, and what this containerd has built in, on one containerd.
fn try_all(version: &str, generation: &str) {
    let programs = needs::part(&format!("containerd-{version}"));
    if !programs.join("containerd").is_file() {
        skip(
            &format!("the files of containerd {version}"),
            &format!("{} (scripts/node-parts)", programs.display()),
        );
        return;
    }
    let rows =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/fixtures/containerd").join(generation);
    for method in [Method::Runtime, Method::Hook] {
        for row in fs::read_dir(&rows).unwrap() {
            let row = row.unwrap().path();
            let tried = Tried::new(&programs);
            lay_out(&row.join("before"), &tried.node.path().join("etc"));
            // A spec of the admin's own, which one of the rows names.
            let spec = tried.node.path().join("etc/base-runtime-spec.json");
            fs::write(spec, r#"{"process":{"rlimits":[]}}"#).unwrap();
            try_out(&tried, &format!("{method} on containerd {version}, {}", row.display()), method);
        }
        let tried = Tried::new(&programs);
        fs::create_dir_all(tried.node.path().join("etc")).unwrap();
        let default =
            run(Command::new(programs.join("containerd")).args(["config", "default"])).expect_success();
        fs::write(tried.config(), default.stdout).unwrap();
        try_out(&tried, &format!("{method} on containerd {version}, its own default"), method);
    }
}

#[test]
fn containerd_1_6_sees_the_gate_and_no_other_change() {
    try_all("1.6", "1");
}

#[test]
fn containerd_1_7_sees_the_gate_and_no_other_change() {
    try_all("1.7", "1");
}

#[test]
fn containerd_2_sees_the_gate_and_no_other_change() {
    try_all("2", "2");
}
