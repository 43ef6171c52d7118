//! Do the engines read what the installers plan as it was meant? Each is asked for its configuration before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pss_guard::files::FileError;
use pss_guard::install::{Method, Plan, Request, engines, entry_path};
use pss_guard::node::distribution::PLAIN;
use pss_guard::node::host::{Live, Node};
use pss_guard::pss::facts::Engine;
use tempfile::TempDir;

use crate::support::{files, needs, run};

/// A node with a CRI-O that can be asked about the files below its root.
struct CriO {
    dir: TempDir,
    crio: PathBuf,
}

/// Each handler's keys, as CRI-O itself has them.
type Handlers = BTreeMap<String, toml::Table>;

/// Files below `/etc/crio`, by name.
type Files = &'static [(&'static str, &'static str)];

impl CriO {
    fn new(crio: PathBuf, files: Files) -> Self {
        let node = Self { dir: tempfile::tempdir().expect("a temporary directory"), crio };
        for program in ["crio", "crun", "runc", "nvidia-container-runtime"] {
            let path = node.dir.path().join("usr/bin").join(program);
            files::write(&path, "");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .expect("set the mode of a file of ours");
        }
        files::write(&node.dir.path().join("etc/crio/crio.conf"), "");
        for (name, text) in files {
            files::write(&node.dir.path().join("etc/crio").join(name), text);
        }
        node
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let etc = self.dir.path().join("etc/crio");
        let mut command = std::process::Command::new(&self.crio);
        command.arg("--config").arg(etc.join("crio.conf")).arg("--config-dir").arg(etc.join("crio.conf.d"));
        run::run(command.args(arguments)).expect_success().stdout
    }

    /// What CRI-O prints of its handlers; those that it has of itself are commented out.
    fn handlers(&self) -> Handlers {
        let text = self.ask(&["config"]);
        let lines = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
        let tables = lines
            .skip_while(|line| {
                !line.starts_with("[crio.runtime.runtimes.") || line.contains("runtime-handler")
            })
            .take_while(|line| !line.contains("workloads table"));
        let tables: Vec<&str> = tables.collect();
        let document: toml::Table = toml::from_str(&tables.join("\n")).expect("TOML");
        let runtimes = &document["crio"]["runtime"]["runtimes"];
        runtimes.clone().try_into().expect("tables")
    }

    fn plan(&self, method: Method) -> Plan {
        let installer = engines::find("crio").expect("CRI-O's installer");
        (installer.plan)(self, &Request { method, config: None, distribution: &PLAIN }).expect("a plan")
    }
}

impl Node for CriO {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        Live::under(self.dir.path()).read(path)
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        Live::under(self.dir.path()).list(folder)
    }

    fn is_folder(&self, path: &Path) -> bool {
        Live::under(self.dir.path()).is_folder(path)
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        Live::under(self.dir.path()).link(path)
    }

    fn is_program(&self, path: &Path) -> bool {
        Live::under(self.dir.path()).is_program(path)
    }

    fn output(&self, _: &Path, arguments: &[&str]) -> Option<String> {
        Some(self.ask(arguments))
    }
}

const PACKAGED: &str = r#"
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/bin/conmon"
allowed_annotations = ["io.containers.trace-syscall"]
[crio.runtime.runtimes.runc]
runtime_path = "/usr/bin/runc"
monitor_env = ["A=1"]
"#;

const NVIDIA: &str = r#"
[crio.runtime.runtimes.nvidia]
runtime_path = "/usr/bin/nvidia-container-runtime"
privileged_without_host_devices = true
container_min_memory = "1MiB"
default_annotations = { "a.b/c" = "d", "e" = "f" }
[crio.runtime.runtimes.kata]
runtime_path = "/usr/bin/containerd-shim-kata-v2"
runtime_type = "vm"
[crio.runtime.runtimes.high]
inherit_default_runtime = true
allowed_annotations = ["cpu-quota.crio.io"]
"#;

#[test]
fn crio_reads_the_drop_in_as_planned() {
    let test = "crio_reads_the_drop_in_as_planned";
    let Some(crio) = needs::program("crio").or_else(in_cache) else {
        needs::skip(test, "crio");
        return;
    };
    let rows: [(Files, &[&str]); 5] = [
        // The handler that CRI-O has without being told.
        (&[], &["crun"]),
        (&[("crio.conf.d/10-crio.conf", PACKAGED)], &["crun", "runc"]),
        (&[("crio.conf", PACKAGED), ("crio.conf.d/99-nvidia.conf", NVIDIA)], &["crun", "nvidia", "runc"]),
        // Files of any name, in any depth; the last one counts.
        (
            &[
                ("crio.conf.d/zz/deep", "[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/bin/runc\"\n"),
                ("crio.conf.d/10-crio.conf.bak", PACKAGED),
            ],
            &["crun", "runc"],
        ),
        (
            &[("crio.conf.d/a", "crio.runtime.runtimes = {x = {runtime_path = \"/usr/bin/crun\"}}")],
            &["crun", "x"],
        ),
    ];
    for (files, covered) in rows {
        let node = CriO::new(crio.clone(), files);
        let before = node.handlers();
        let plan = node.plan(Method::Runtime);
        let entries: Vec<&str> = plan.entries.iter().map(|entry| entry.handler.as_str()).collect();
        assert_eq!(entries, covered, "{files:?}");
        for change in &plan.changes {
            let path = node.dir.path().join(change.path.strip_prefix("/").expect("an absolute path"));
            files::write(&path, &String::from_utf8_lossy(&change.after));
        }
        let mut after = node.handlers();
        for entry in &plan.entries {
            let handler = after.get_mut(&entry.handler).expect("a handler");
            let path =
                handler.insert("runtime_path".to_owned(), before[&entry.handler]["runtime_path"].clone());
            let expected = entry_path(Engine::CriO, &entry.handler).display().to_string();
            assert_eq!(path.as_ref().and_then(toml::Value::as_str), Some(expected.as_str()), "{files:?}");
        }
        assert_eq!(after, before, "nothing but the paths may change: {files:?}");
    }
}

/// Where the programs of a real node are kept for tests.
fn in_cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = set("PSS_GUARD_CACHE").or_else(|| {
        let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        Some(caches?.join("pss-guard"))
    });
    Some(cache?.join("bin/crio")).filter(|path| path.is_file())
}
