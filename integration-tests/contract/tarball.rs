//! The archive of a release: what its `install.sh` puts on a machine, replaces and removes, under the shells that nodes have.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::documents::{anchors, targets};
use crate::support::run::{self, Done};
use crate::support::{needs, program};

/// An archive as `make dist` writes it, unpacked; its programs are short scripts that start the debug build.
static ARCHIVE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let dist = directory.path().join("dist");
    let stage = dist.join("stage").join(ARCH);
    fs::create_dir_all(&stage).unwrap();
    // Nothing here starts the agent.
    for program in [program::binary(), program::gate(), "/pss-guard-agent".into()] {
        let staged = stage.join(program.file_name().unwrap());
        fs::write(&staged, format!("#!/bin/sh\nexec {} \"$@\"\n", program.display())).unwrap();
        fs::set_permissions(&staged, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut tarball = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/dist"));
    tarball.args(["tarball", ARCH]).env("CARGO_TARGET_DIR", directory.path()).env("VERSION", "7.8.9");
    tarball.env("SOURCE_DATE_EPOCH", "1000000000");
    // It asks cargo for the crates, which waits for every other cargo of this machine.
    run::run_within(&mut tarball, Duration::from_secs(300)).expect_success();
    let name = format!("pss-guard-7.8.9-{ARCH}-linux");
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(dist.join(format!("{name}.tar.gz"))).arg("-C").arg(directory.path());
    run::run(&mut unpack).expect_success();
    let unpacked = directory.path().join(name);
    (directory, unpacked)
});

/// The shells that `sh` is on the distributions that nodes have.
const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash", "--posix"]];

/// A machine, and the unpacked archive on it.
struct Machine {
    directory: TempDir,
    shell: &'static [&'static str],
}

impl Machine {
    fn new(shell: &'static [&'static str]) -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap(), shell };
        run::run(Command::new("cp").arg("-a").arg(&ARCHIVE.1).arg(machine.archive())).expect_success();
        fs::create_dir_all(machine.root().join("usr/local")).unwrap();
        machine
    }

    fn archive(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// From another folder than the archive's, as people do.
    fn script(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg("archive/install.sh").args(arguments);
        run::run(command.current_dir(self.directory.path()))
    }

    /// By a line of the shell.
    fn line(&self, line: &str) -> Done {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("SHELL", self.shell.join(" ")).env("ROOT", self.root());
        run::run(command.current_dir(self.directory.path()))
    }

    fn below_root(&self, arguments: &[&str]) -> Done {
        let root = self.root();
        let mut all = vec!["--destdir", root.to_str().unwrap()];
        all.extend(arguments);
        self.script(&all)
    }

    /// Every file below the root, with its mode and its bytes, and every folder.
    fn files(&self) -> BTreeMap<PathBuf, Option<(u32, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.root()).unwrap().to_owned();
                if path.is_dir() {
                    files.insert(name, None);
                    folders.push(path);
                } else {
                    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    files.insert(name, Some((mode, fs::read(&path).unwrap())));
                }
            }
        }
        files
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A machine for each shell that is here.
fn machines(test: &str) -> Vec<Machine> {
    let missing: Vec<_> =
        SHELLS.iter().map(|shell| shell[0]).filter(|shell| needs::program(shell).is_none()).collect();
    if !missing.is_empty() {
        needs::skip(test, &missing.join(", "));
    }
    SHELLS.into_iter().filter(|shell| !missing.contains(&shell[0])).map(Machine::new).collect()
}

#[test]
fn the_script_installs_upgrades_and_removes_exactly_its_files() {
    for machine in machines("the_script_installs_upgrades_and_removes_exactly_its_files") {
        machine.write("usr/local/share/doc/others/README", "another's");
        let before = machine.files();

        let done = machine.below_root(&[]).expect_success();
        let root = machine.root();
        let root = root.display();
        let next =
            format!("sudo {root}/usr/local/sbin/pss-guard --root {root} install --engine auto --dry-run");
        assert!(done.stdout.contains(&next), "{done}");
        let installed = machine.files();
        let expected = [
            ("sbin/pss-guard", 0o755),
            ("sbin/pss-guard-gate", 0o755),
            ("sbin/pss-guard-agent", 0o755),
            ("share/bash-completion/completions/pss-guard", 0o644),
            ("share/zsh/site-functions/_pss-guard", 0o644),
            ("share/fish/vendor_completions.d/pss-guard.fish", 0o644),
            ("share/doc/pss-guard/LICENSE", 0o644),
            ("share/doc/pss-guard/THIRD-PARTY-LICENSES", 0o644),
            ("share/doc/pss-guard/install.md", 0o644),
            ("share/doc/pss-guard/changelog.gz", 0o644),
            ("share/doc/pss-guard/examples/policy.toml", 0o644),
            ("share/doc/pss-guard/examples/agent/daemonset.yaml", 0o644),
        ];
        for (file, mode) in expected {
            let found = installed.get(&Path::new("usr/local").join(file)).cloned().flatten();
            let (found, bytes) = found.unwrap_or_else(|| panic!("{file} is missing: {:?}", installed.keys()));
            assert_eq!((found, bytes.is_empty()), (mode, false), "{file}");
        }
        assert!(
            installed
                .keys()
                .any(|file| file.starts_with("usr/local/share/man") && file.extension().is_some())
        );
        let version =
            run::run(Command::new(machine.root().join("usr/local/sbin/pss-guard")).arg("--version"));
        assert!(version.expect_success().stdout.starts_with("pss-guard "));

        machine.below_root(&[]).expect_success();
        assert!(machine.files() == installed, "a second run changes nothing");

        // A program that runs keeps the file that it was started from.
        let gate = machine.root().join("usr/local/sbin/pss-guard-gate");
        let mut running = fs::File::open(&gate).unwrap();
        fs::write(machine.archive().join("pss-guard-gate"), "the next version").unwrap();
        machine.below_root(&[]).expect_success();
        assert_eq!(fs::read_to_string(&gate).unwrap(), "the next version");
        let mut previous = String::new();
        running.read_to_string(&mut previous).unwrap();
        assert!(previous.starts_with("#!/bin/sh"), "{previous}");
        assert!(machine.files().keys().all(|path| path.extension().is_none_or(|end| end != "new")));

        machine.below_root(&["--uninstall"]).expect_success();
        let after: Vec<_> = machine.files().into_iter().filter(|(_, file)| file.is_some()).collect();
        assert_eq!(after, before.into_iter().filter(|(_, file)| file.is_some()).collect::<Vec<_>>());
        assert!(!machine.root().join("usr/local/share/doc/pss-guard").exists());
        machine.below_root(&["--uninstall"]).expect_success();
    }
}

#[test]
fn the_tool_stays_while_a_gate_is_installed() {
    let rows = ["var/lib/pss-guard/bin/pss-guard-gate", "var/lib/pss-guard/install/containerd/manifest.json"];
    for machine in machines("the_tool_stays_while_a_gate_is_installed") {
        machine.below_root(&[]).expect_success();
        for row in rows {
            machine.write(row, "a gate");
            let before = machine.files();
            let done = machine.below_root(&["--uninstall"]);
            assert_eq!(done.code, Some(1), "{row}: {done}");
            let root = machine.root();
            let root = root.display();
            let way_out = format!("run `{root}/usr/local/sbin/pss-guard --root {root} uninstall` first");
            assert!(done.stderr.contains(&way_out), "{row}: {done}");
            assert!(machine.files() == before, "{row}");
            fs::remove_file(machine.root().join(row)).unwrap();
        }
        machine.below_root(&["--uninstall"]).expect_success();
    }
}

#[test]
fn what_cannot_be_installed_is_refused_before_anything_is_written() {
    let other = if ARCH == "x86_64" { "aarch64" } else { "x86_64" };
    for machine in machines("what_cannot_be_installed_is_refused_before_anything_is_written") {
        let script = fs::read_to_string(machine.archive().join("install.sh")).unwrap();
        let own = format!("\narchitecture={ARCH}\n");
        assert!(script.contains(&own), "`deploy/dist` has not said what it is for");
        let prefix = machine.root().join("usr/local");
        let prefix = prefix.to_str().unwrap();
        let before = machine.files();
        let rows: [(&str, &[&str]); 6] = [
            ("unknown option: --purge", &["--purge"]),
            ("--prefix needs a directory", &["--prefix"]),
            ("usr is not an absolute path", &["--prefix", "usr"]),
            ("/does/not/exist is not a directory", &["--destdir=/does/not/exist"]),
            ("LICENSE is missing beside this script", &["--prefix", prefix]),
            ("take the archive for", &["--prefix", prefix]),
        ];
        for (expected, arguments) in rows {
            let license = machine.archive().join("LICENSE");
            match expected {
                "LICENSE is missing beside this script" => fs::remove_file(&license).unwrap(),
                "take the archive for" => {
                    fs::write(&license, "the licence").unwrap();
                    let text = script.replace(&own, &format!("\narchitecture={other}\n"));
                    fs::write(machine.archive().join("install.sh"), text).unwrap();
                }
                _ => {}
            }
            let done = machine.script(arguments);
            assert_eq!(done.code, Some(1), "{arguments:?}: {done}");
            assert!(done.stderr.contains(expected), "{arguments:?}: {done}");
            assert!(machine.files() == before, "{arguments:?}");
        }
        // An image may be for another machine.
        machine.below_root(&["--prefix", "/usr"]).expect_success();
        assert!(machine.root().join("usr/sbin/pss-guard").is_file());
    }
}

#[test]
fn what_is_no_file_in_the_place_of_one_stops_it() {
    for machine in machines("what_is_no_file_in_the_place_of_one_stops_it") {
        let (folder, file) = ("usr/local/sbin/pss-guard", "usr/local/sbin/pss-guard/mine");
        machine.write(file, "somebody's");
        let before = machine.files();
        let done = machine.below_root(&[]);
        let says = format!(
            "{} is a directory; remove it or move it away first",
            machine.root().join(folder).display()
        );
        assert!(done.code == Some(1) && done.stderr.contains(&says), "{done}");
        assert!(machine.files() == before, "{done}");
        // Nor does it say that it has removed what stays.
        let done = machine.below_root(&["--uninstall"]);
        assert!(done.code == Some(1) && done.stderr.contains("sbin/pss-guard was not removed"), "{done}");
        assert!(machine.root().join(file).exists(), "{done}");
    }
}

#[test]
fn an_archive_that_has_lost_files_removes_what_the_whole_one_has_installed() {
    for machine in machines("an_archive_that_has_lost_files_removes_what_the_whole_one_has_installed") {
        machine.below_root(&[]).expect_success();
        let installed = machine.files();
        assert!(installed.keys().any(|file| file.ends_with("man8/pss-guard.8.gz")), "{:?}", installed.keys());
        for folder in ["man", "doc"] {
            fs::remove_dir_all(machine.archive().join(folder)).unwrap();
        }
        // It is not whole, and so nothing of it is installed.
        let done = machine.below_root(&[]);
        assert!(done.code == Some(1) && done.stderr.contains("is missing beside this script"), "{done}");
        assert!(machine.files() == installed, "{done}");
        machine.below_root(&["--uninstall"]).expect_success();
        let left: Vec<_> = machine.files().into_iter().filter(|(_, file)| file.is_some()).collect();
        assert!(left.is_empty(), "{:?}", left.iter().map(|(file, _)| file).collect::<Vec<_>>());
    }
}

#[test]
fn its_files_are_those_beside_it_however_it_is_called() {
    // Whoever has CDPATH has it in the profile of root, and a link in the PATH.
    let rows = [
        "CDPATH=others $SHELL archive/install.sh --destdir $ROOT",
        "mkdir bin && ln -s ../archive/install.sh bin/put && $SHELL bin/put --destdir $ROOT",
        "cd archive && $SHELL install.sh --destdir $ROOT",
    ];
    for row in rows {
        for machine in machines("its_files_are_those_beside_it_however_it_is_called") {
            machine
                .line("mkdir others && cp -a archive others/ && echo others >others/archive/LICENSE")
                .expect_success();
            machine.line(&format!("export CDPATH; {row}")).expect_success();
            let license = machine.root().join("usr/local/share/doc/pss-guard/LICENSE");
            assert_eq!(
                fs::read_to_string(license).unwrap(),
                fs::read_to_string(machine.archive().join("LICENSE")).unwrap(),
                "{row}"
            );
        }
    }
}

#[test]
fn what_comes_next_is_the_engine_or_the_gate_that_is_there() {
    for machine in machines("what_comes_next_is_the_engine_or_the_gate_that_is_there") {
        let [first, upgrade] = ["install --engine auto --dry-run", "install --programs"];
        let done = machine.below_root(&[]).expect_success();
        assert!(done.stdout.contains(first) && !done.stdout.contains(upgrade), "{done}");
        machine.write("var/lib/pss-guard/install/containerd/manifest.json", "{}");
        let done = machine.below_root(&[]).expect_success();
        assert!(done.stdout.contains(upgrade) && !done.stdout.contains(first), "{done}");
    }
}

#[test]
fn a_gate_that_has_its_programs_from_elsewhere_keeps_nobody_from_removing_these() {
    let snippet = include_str!("../../systemd/pss-guard.tmpfiles");
    for machine in machines("a_gate_that_has_its_programs_from_elsewhere_keeps_nobody_from_removing_these") {
        machine.below_root(&[]).expect_success();
        machine.below_root(&["--prefix", "/opt/pss-guard"]).expect_success();
        machine.write("var/lib/pss-guard/install/containerd/manifest.json", "{}");
        let other = ["--prefix", "/opt/pss-guard", "--uninstall"];
        let refused = |why: &str, arguments: &[&str]| {
            let done = machine.below_root(arguments);
            assert!(done.code == Some(1) && done.stderr.contains("uninstall` first"), "{why}: {done}");
        };
        refused("nobody says where a boot takes them from", &other);
        machine.write("etc/tmpfiles.d/pss-guard.conf", snippet);
        refused("a boot takes them from here", &["--uninstall"]);
        machine.write("etc/tmpfiles.d/pss-guard.conf", &snippet.replace("/usr/local/sbin", "/gone"));
        refused("a boot takes them from where they are not", &other);
        machine.write("etc/tmpfiles.d/pss-guard.conf", snippet);
        machine.below_root(&other).expect_success();
        assert!(machine.root().join("usr/local/sbin/pss-guard").exists());
        assert!(!machine.root().join("opt/pss-guard/sbin/pss-guard").exists());
    }
}

/// The packages have these documents, too, in the same folders (`deploy/dist`, `documents`). Where they are delivered there is no
/// `docs/`, and nothing of the sources.
#[test]
fn every_link_of_a_delivered_document_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = format!("{}/blob/", env!("CARGO_PKG_REPOSITORY"));
    let documents = ARCHIVE.1.join("doc");
    let (mut near, mut far) = (0, 0);
    for entry in fs::read_dir(&documents).unwrap() {
        let document = entry.unwrap().path();
        if document.extension().is_none_or(|end| end != "md") {
            continue;
        }
        let text = fs::read_to_string(&document).unwrap();
        for link in targets(&text) {
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let target = match path.strip_prefix(&ours) {
                Some(path) => {
                    far += 1;
                    let path = path.strip_prefix("v7.8.9/");
                    root.join(path.unwrap_or_else(|| panic!("{link} is not of this version")))
                }
                None if path.contains("://") => continue,
                None if path.is_empty() => document.clone(),
                None => {
                    near += 1;
                    documents.join(path)
                }
            };
            assert!(target.is_file(), "{}: {link}", document.display());
            let is_there = || anchors(target.to_str().unwrap()).iter().any(|own| own == section);
            assert!(section.is_empty() || is_there(), "{}: no section {link}", document.display());
        }
    }
    assert!(near > 80 && far > 5, "only {near} links within, and {far} to the repository");
}
