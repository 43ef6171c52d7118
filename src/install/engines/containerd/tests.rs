use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::install::Stripped;
use crate::install::node::fake::Fake;

const ONE: Option<Generation> = Some(Generation::One);
const TWO: Option<Generation> = Some(Generation::Two);

/// The files below a folder, as files of `/etc/containerd`.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(&inside).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = Path::new("/etc/containerd").join(path.strip_prefix(folder).unwrap());
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A node with the usual programs.
fn node() -> Fake {
    let programs = ["/usr/sbin/runc", "/usr/bin/crun", "/usr/bin/ctr"];
    let node = programs.iter().fold(Fake::default(), |node, program| node.program(program));
    node.prints(
        "ctr oci spec",
        r#"{"process":{"cwd":"/","rlimits":[{"type":"RLIMIT_NOFILE"}]},"root":{"path":"rootfs"}}"#,
    )
}

fn plan_on(node: &Fake, generation: Option<Generation>, method: Method) -> Result<Plan, Refusal> {
    plan_for(node, method, Config::load(node, Path::new(CONFIG), generation)?)
}

/// Every row: what containerd's files become, that nothing is left to do then, and that undoing gives what was there.
#[test]
fn files_before_after_and_undone() {
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/fixtures/containerd");
    let mut count = 0;
    for (folder, generation) in [("1", ONE), ("2", TWO)] {
        for row in fs::read_dir(rows.join(folder)).unwrap() {
            let row = row.unwrap().path();
            let name = row.display();
            let mut node = node();
            node.files = files(&row.join("before"));
            let plan =
                plan_on(&node, generation, Method::Runtime).unwrap_or_else(|error| panic!("{name}: {error}"));
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            let after: Vec<_> =
                plan.changes.iter().map(|change| (&change.path, text(&change.after))).collect();
            let expected = files(&row.join("after"));
            let expected: Vec<_> = expected.iter().map(|(path, bytes)| (path, text(bytes))).collect();
            assert_eq!(after, expected, "{name}");

            let again =
                plan_on(&node.clone().after(Engine::Containerd, &plan), generation, Method::Runtime).unwrap();
            assert_eq!(again, Plan { changes: Vec::new(), ..plan.clone() }, "{name}: planned again");

            for change in &plan.changes {
                let undone = strip::strip(&stripped(change, &plan, &change.after)).unwrap();
                assert_eq!(undone.as_ref().map(text), change.before.as_ref().map(text), "{name}: undone");
            }
            count += 1;
        }
    }
    assert!(count >= 20, "{count} rows");
}

fn stripped<'a>(change: &'a Change, plan: &'a Plan, now: &'a [u8]) -> Stripped<'a> {
    let original = change.before.as_deref();
    Stripped { path: &change.path, original, installed: &change.after, now, entries: &plan.entries }
}

/// A node with one configuration file.
fn with(text: &str) -> Fake {
    node().file(CONFIG, text)
}

#[test]
fn what_is_not_understood_is_refused_with_a_way_out() {
    let one = r#"plugins."io.containerd.grpc.v1.cri".containerd.runtimes"#;
    let three = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
    let shim = "runtime_type = 'io.containerd.runc.v2'";
    let rows: [(String, Option<Generation>, &str); 24] = [
        ("disabled_plugins = [\"cri\"]\n".into(), ONE, "disabled_plugins has \"cri\"), so that the kubelet"),
        (
            "version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']".into(),
            TWO,
            "for docker: --engine docker",
        ),
        (
            "version = 3\ndisabled_plugins = ['io.containerd.cri.v1.runtime']".into(),
            TWO,
            "turns the CRI plugin off",
        ),
        ("version = 2\n[plugins\n".into(), ONE, "config.toml cannot be understood: line 2, column 9: "),
        ("version = 2\nversion = 2\n".into(), ONE, "line 2, column 1: duplicate key"),
        (
            "version = 2\nroot = \"\u{e9}\"\r\n".into(),
            ONE,
            "lines that end in CR LF and lines that end in LF",
        ),
        ("version = \"2\"".into(), ONE, "version must be a number"),
        ("version = 0".into(), ONE, "has version = 0, which this containerd does not have"),
        ("version = 3".into(), ONE, "has version = 3, which this containerd does not have"),
        ("version = 5".into(), TWO, "has version = 5, which this containerd does not have"),
        ("version = 1".into(), TWO, "containerd config migrate"),
        ("[plugins.cri]\nenable_selinux = true".into(), TWO, "containerd config migrate"),
        ("version = 2\nplugins = 3".into(), ONE, "cannot be set, because one of the tables it is in is none"),
        (format!("version = 2\n{one} = 3"), ONE, "containerd.runtimes must be a table"),
        (format!("version = 2\n[{one}.runc]\nruntime_type = 2"), ONE, "runc.runtime_type must be a string"),
        (format!("version = 2\n[{one}.runc]\npod_annotations = [1]"), ONE, "must be a list of strings"),
        (
            format!("version = 2\n[{one}.runc]\n{shim}\noptions.binaryName = 'crun'"),
            ONE,
            "should be spelled BinaryName",
        ),
        (
            format!("version = 2\n[{one}.runc]\nruntime_type = 'io.containerd.runtime.v1.linux'"),
            ONE,
            "runtime_engine",
        ),
        (
            format!("version = 2\n[{one}.'../x']\n{shim}"),
            ONE,
            "handler \"../x\" cannot be the name of a directory",
        ),
        (
            format!("version = 2\n[{one}.gvisor]\nruntime_type = 'io.containerd.runsc.v1'"),
            ONE,
            "no handler that the gate",
        ),
        (
            format!("version = 2\n[{one}.runc]\n{shim}\noptions.BinaryName = 'youki'"),
            ONE,
            "started by \"youki\", which is in none",
        ),
        (
            format!("version = 2\n[{one}.runc]\n{shim}\noptions.BinaryName = './runc'"),
            ONE,
            "started by \"./runc\"",
        ),
        (
            format!("version = 3\n[{three}.x]\n{shim}\noptions.BinaryName = '{ENTRIES}x/pss-guard-runtime'"),
            TWO,
            "ln -s",
        ),
        ("version = 2\nimports = ['/etc/containerd/none.toml']".into(), ONE, "there is no such file"),
    ];
    for (text, generation, expected) in rows {
        let error = plan_on(&with(&text), generation, Method::Runtime).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
        assert!(error.contains(CONFIG) || error.contains("containerd"), "{text}\n{error}");
    }
    let bytes = Fake { files: [(PathBuf::from(CONFIG), b"root = '\xff'".to_vec())].into(), ..node() };
    let error = plan_on(&bytes, ONE, Method::Runtime).unwrap_err().to_string();
    assert!(error.contains("it is not UTF-8 from byte 8 on"), "{error}");
}
