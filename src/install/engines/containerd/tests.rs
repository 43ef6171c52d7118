use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::install::Stripped;
use crate::node::distribution::PLAIN;
use crate::node::host::fake::Fake;

mod distributions;
mod edits;

const CONFIG: &str = "/etc/containerd/config.toml";
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

fn plan_on(node: &Fake, generation: Option<Generation>, method: Method) -> Result<Plan, PlanError> {
    let config = Config::load(node, &Source::edit(Path::new(CONFIG)), generation)?;
    let Planned { mut plan, config, .. } = plan_for(node, method, config)?;
    plan.changes.extend(config.changes());
    Ok(plan)
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
    Stripped {
        path: &change.path,
        original,
        installed: &change.after,
        now,
        entries: &plan.entries,
        held: false,
    }
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
    let rows: [(String, Option<Generation>, &str); 23] = [
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
        ("version = 2\n[plugins\n".into(), ONE, "config.toml cannot be parsed: line 2, column 9: "),
        ("version = 2\nversion = 2\n".into(), ONE, "line 2, column 1: duplicate key"),
        ("version = \"2\"".into(), ONE, "version must be a number"),
        ("version = 0".into(), ONE, "has version = 0, which this containerd does not have"),
        ("version = 3".into(), ONE, "has version = 3, which this containerd does not have"),
        ("version = 5".into(), TWO, "has version = 5, which this containerd does not have"),
        ("version = 1".into(), TWO, "containerd config migrate"),
        ("[plugins.cri]\nenable_selinux = true".into(), TWO, "containerd config migrate"),
        (
            "version = 2\nplugins = 3".into(),
            ONE,
            "cannot be set, because one of the tables above it is not a table",
        ),
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
            "write the whole path of its runtime as plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.x.options.BinaryName first",
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

/// containerd would read these, and what is found for one spelling alone would miss them.
#[test]
fn a_key_in_another_case_is_refused_with_its_line_and_its_spelling() {
    let (one, three) = ("plugins.'io.containerd.grpc.v1.cri'", "plugins.'io.containerd.cri.v1.runtime'");
    let runc = "runtime_type = 'io.containerd.runc.v2'";
    let rows = [
        (
            "version = 3\nImports = ['/etc/containerd/conf.d/*.toml']\n".to_owned(),
            "line 2",
            "Imports",
            "imports",
        ),
        ("version = 3\n\nIMPORTS = ['conf.d/*.toml']\n".to_owned(), "line 3", "IMPORTS", "imports"),
        // Go's lower case of these letters is `i` and `k`.
        ("version = 3\n'\u{130}mports' = []\n".to_owned(), "line 2", "'\u{130}mports'", "imports"),
        ("Version = 3\n".to_owned(), "line 1", "Version", "version"),
        ("version = 3\nDisabled_Plugins = []\n".to_owned(), "line 2", "Disabled_Plugins", "disabled_plugins"),
        ("version = 3\nState = '/x'\n".to_owned(), "line 2", "State", "state"),
        ("version = 3\n[GRPC]\naddress = '/x'\n".to_owned(), "line 2", "GRPC", "grpc"),
        (format!("version = 3\n[P{}.containerd]\n", &three[1..]), "line 2", "Plugins", "plugins"),
        (
            format!("version = 3\n[{three}.Containerd.runtimes.x]\n{runc}\n"),
            "line 2",
            "Containerd",
            "containerd",
        ),
        (format!("version = 3\n[{three}.containerd.Runtimes.x]\n{runc}\n"), "line 2", "Runtimes", "runtimes"),
        (
            format!("version = 2\n[{one}.containerd.Default_Runtime]\n{runc}\n"),
            "line 2",
            "Default_Runtime",
            "default_runtime",
        ),
        (
            format!("version = 2\n[{one}.containerd.default_runtime]\nRuntime_Type = 'x'\n"),
            "line 3",
            "Runtime_Type",
            "runtime_type",
        ),
        (
            format!("version = 3\n[{three}.containerd.runtimes.x]\nRuntime_Type = 'x'\n"),
            "line 3",
            "Runtime_Type",
            "runtime_type",
        ),
        (
            format!("version = 3\n[{three}.containerd.runtimes]\nx = {{ Options = {{}} }}\n"),
            "line 3",
            "Options",
            "options",
        ),
        (
            format!("version = 3\n[{three}.containerd.runtimes.x]\n{runc}\noptions.binaryname = 'crun'\n"),
            "line 4",
            "binaryname",
            "BinaryName",
        ),
    ];
    for (text, line, key, wanted) in rows {
        for generation in [ONE, TWO] {
            let error = plan_on(&with(&text), generation, Method::Runtime).unwrap_err().to_string();
            let key = key.replace('\'', "\"");
            assert!(error.starts_with(&format!("{CONFIG}, {line}: ")), "{text}\n{error}");
            assert!(error.ends_with(&format!("; {key} should be spelled {wanted}")), "{text}\n{error}");
        }
        let imported = with("version = 3\nimports = ['x.toml']\n").file("/etc/containerd/x.toml", &text);
        let error = plan_on(&imported, TWO, Method::Runtime).unwrap_err().to_string();
        assert!(error.starts_with("/etc/containerd/x.toml, line "), "{text}\n{error}");
    }
    // The keys of a map are names, and what is not read here is nobody's.
    for text in [
        format!("version = 3\n[{three}.containerd.runtimes.Runc]\n{runc}\n[{three}.containerd.runtimes.runc]\n{runc}\n"),
        "version = 3\n[plugins.'io.containerd.CRI.v1.runtime'.Containerd]\nx = 1\n[plugins.x]\nImports = []\n[Debug]\nlevel = 'x'\n"
            .to_owned(),
    ] {
        plan_on(&with(&text), TWO, Method::Runtime).unwrap();
    }
}

#[test]
fn a_trial_reads_no_file_of_this_machine() {
    let main =
        "version = 3\nImports = ['/etc/containerd/*.toml']\nimports = ['a.toml']\n'\u{130}MPORTS' = ['/x']\n";
    let files = [main, "iMports = ['../*.toml']\n[debug]\nlevel = 'info'\n"];
    let files = files.iter().zip(["/a", "/b"]).map(|(text, path)| (path.into(), text.as_bytes().to_vec()));
    let laid = dump::lay_out(&files.collect()).unwrap();
    let tables: Vec<toml::Table> =
        laid.iter().map(|(_, bytes)| str::from_utf8(bytes).unwrap().parse().unwrap()).collect();
    let [first, second] = &tables[..] else { panic!("{laid:?}") };
    assert_eq!(first.keys().map(String::as_str).collect::<Vec<_>>(), ["imports", "version"]);
    assert_eq!(first["imports"].as_array().unwrap()[0].as_str(), Some("1.toml"));
    assert_eq!(second.keys().collect::<Vec<_>>(), ["debug"]);
}

/// What somebody does to a file.
type Edit = Box<dyn Fn(&str) -> String>;

/// What undoing a file gives that was changed since it was installed.
fn undone(
    node: &Fake,
    generation: Option<Generation>,
    method: Method,
    change: impl Fn(&str) -> String,
) -> String {
    let plan = plan_on(node, generation, method).unwrap();
    let file = plan.changes.last().unwrap();
    let now = change(std::str::from_utf8(&file.after).unwrap());
    let undone = strip::strip(&stripped(file, &plan, now.as_bytes())).unwrap();
    undone.map_or("no file".to_owned(), |undone| String::from_utf8(undone).unwrap())
}

#[test]
fn what_others_changed_since_stays() {
    let table = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    let original = format!(
        "version = 2\n[{table}.runc]\n  runtime_type = 'io.containerd.runc.v2'\n  pod_annotations = ['a/*']\n\
        [{table}.runc.options]\n  BinaryName = 'crun' # ours\n"
    );
    let node = with(&original);
    let append = |more: &'static str| move |now: &str| format!("{now}{more}");
    let replace = |old: &'static str, new: &'static str| move |now: &str| now.replace(old, new);
    let rows: [(Edit, String); 7] = [
        (Box::new(append("")), original.clone()),
        (
            Box::new(append("\n[debug]\n  level = 'debug'\n")),
            format!("{original}\n[debug]\n  level = 'debug'\n"),
        ),
        (Box::new(append("SystemdCgroup = true\n")), format!("{original}SystemdCgroup = true\n")),
        (
            Box::new(replace(
                "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime",
                "/usr/bin/youki",
            )),
            original.replace("'crun'", "\"/usr/bin/youki\""),
        ),
        (Box::new(replace("'a/*', \"pod-", "'b/*', \"pod-")), original.replace("'a/*'", "'b/*'")),
        (
            Box::new(replace(
                "\"pod-security.kubernetes.io/*\"]",
                "\"pod-security.kubernetes.io/*\", 'b/*']",
            )),
            original.replace("['a/*'", "['a/*', 'b/*'"),
        ),
        (
            Box::new(replace("[\"io.kubernetes.container.*\"]", "[\"io.kubernetes.container.*\", 'b']")),
            original.replace("['a/*']\n", "['a/*']\n  container_annotations = ['b']\n"),
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(undone(&node, ONE, Method::Runtime, change), expected);
    }
    let broken = |now: &str| format!("{now}[");
    let plan = plan_on(&node, ONE, Method::Runtime).unwrap();
    let file = plan.changes.first().unwrap();
    let now = broken(std::str::from_utf8(&file.after).unwrap());
    assert!(matches!(strip::strip(&stripped(file, &plan, now.as_bytes())), Err(PlanError::Malformed { .. })));
}

const RUNC_OF_THREE: &str = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc";

#[test]
fn a_file_of_ours_goes_unless_somebody_uses_it() {
    for generation in [None, ONE, TWO] {
        let node = node();
        assert_eq!(undone(&node, generation, Method::Runtime, str::to_owned), "no file");
        let debug = |now: &str| format!("{now}\n[debug]\nlevel = \"debug\"\n");
        let version = if generation == TWO { 3 } else { 2 };
        let left = format!("version = {version}\n\n[debug]\nlevel = \"debug\"\n");
        assert_eq!(undone(&node, generation, Method::Runtime, debug), left);
        // Made into a handler of somebody's own.
        let options = |now: &str| format!("{now}SystemdCgroup = true\n");
        let left = undone(&node, generation, Method::Runtime, options);
        assert!(
            left.contains("runtimes.runc]\nruntime_type") && left.ends_with("SystemdCgroup = true\n"),
            "{left}"
        );
        assert!(!left.contains("pss-guard") && !left.contains("annotations"), "{left}");
    }
    // Lost, installed again without it, and restored from a backup: what looks as if it were ours is the admin's.
    let backup =
        |_: &str| format!("version = 3\n[{RUNC_OF_THREE}]\nruntime_type = 'io.containerd.runc.v2'\n");
    assert_eq!(undone(&node(), TWO, Method::Runtime, backup), backup(""));
    let node = with("# Mine.\n");
    assert_eq!(
        undone(&node, TWO, Method::Runtime, |now| format!("{now}\n[debug]\n")),
        "# Mine.\n\n[debug]\n"
    );
}

#[test]
fn what_was_changed_since_is_covered_again_and_nothing_else_is_touched() {
    let main = "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n";
    let handler = |name: &str, binary: &str| {
        let table = format!("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}]");
        format!("{table}\nruntime_type = 'io.containerd.runc.v2'\noptions.BinaryName = '{binary}'\n")
    };
    let ours = "/etc/containerd/conf.d/99-pss-guard.toml";
    let first = plan_on(&with(main), TWO, Method::Runtime).unwrap();
    assert_eq!(first.changes.iter().map(|change| change.path.to_str().unwrap()).collect::<Vec<_>>(), [ours]);
    let node = with(main).after(Engine::Containerd, &first);

    // A handler more, and the runtime of another exchanged, in a file that is read before ours.
    let text = handler("nvidia", "/usr/bin/nvidia-container-runtime") + &handler("runc", "/opt/runc");
    let node = node.file("/etc/containerd/conf.d/50-site.toml", &text);
    let second = plan_on(&node, TWO, Method::Runtime).unwrap();
    let runtimes: Vec<_> =
        second.entries.iter().map(|e| (e.handler.as_str(), e.runtime.to_str().unwrap())).collect();
    assert_eq!(runtimes, [("runc", "/opt/runc"), ("nvidia", "/usr/bin/nvidia-container-runtime")]);
    let [change] = second.changes.as_slice() else { panic!("{second:?}") };
    assert_eq!(change.path, Path::new(ours));
    let (before, after) = (change.before.clone().unwrap(), &change.after);
    assert!(after.starts_with(&before) && after.len() > before.len(), "{}", String::from_utf8_lossy(after));

    // In a file that is read after ours: changed there, because it has the last word.
    let node = node.after(Engine::Containerd, &second);
    let node = node.file("/etc/containerd/conf.d/zz.toml", &handler("runc", "/opt/other"));
    let third = plan_on(&node, TWO, Method::Runtime).unwrap();
    let [change] = third.changes.as_slice() else { panic!("{third:?}") };
    assert_eq!(change.path, Path::new("/etc/containerd/conf.d/zz.toml"));
    assert_eq!(third.entries[0].runtime, Path::new("/opt/other"));
    let node = node.after(Engine::Containerd, &third);
    assert_eq!(plan_on(&node, TWO, Method::Runtime).unwrap(), Plan { changes: Vec::new(), ..third });

    // A handler that was copied has the runtime of the one it was copied from.
    let copied = handler("copy", &format!("{ENTRIES}nvidia/pss-guard-runtime"));
    let fourth =
        plan_on(&node.file("/etc/containerd/conf.d/zzz.toml", &copied), TWO, Method::Runtime).unwrap();
    let copy = fourth.entries.iter().find(|entry| entry.handler == "copy").unwrap();
    assert_eq!(copy.runtime, Path::new("/usr/bin/nvidia-container-runtime"));
}

#[test]
fn a_hook_comes_into_the_spec_from_which_containers_are_made() {
    let table = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    let plain = "version = 2\n".to_owned();
    let own = format!(
        "version = 2\n[{table}.runc]\nruntime_type = 'io.containerd.runc.v2'\nbase_runtime_spec = '/etc/base.json'\n"
    );
    let hook = serde_json::json!({
        "path": "/var/lib/pss-guard/bin/pss-guard-gate",
        "args": ["pss-guard-gate", "hook", "--engine", "containerd", "--runtime-handler", "runc"],
        "timeout": 10,
    });
    let other = serde_json::json!({ "path": "/bin/other" });
    let base =
        r#"{"process":{"rlimits":[]},"hooks":{"createRuntime":[{"path":"/bin/other"}],"prestart":[]}}"#;
    let rows = [
        (
            &plain,
            serde_json::json!({
                "process": { "cwd": "/" }, "root": { "path": "rootfs" }, "hooks": { "createRuntime": [hook] },
            }),
        ),
        (
            &own,
            serde_json::json!({
                "process": { "rlimits": [] }, "hooks": { "createRuntime": [other, hook], "prestart": [] },
                "io.pss-guard.base": "/etc/base.json",
            }),
        ),
    ];
    for (text, expected) in rows {
        let node = with(text).file("/etc/base.json", base);
        let hooked = plan_on(&node, ONE, Method::Hook).unwrap();
        assert_eq!(hooked.entries, [], "a hook needs no entry");
        assert!(hooked.open.iter().any(|open| open.contains("sandbox")), "{:?}", hooked.open);
        let [spec, config] = hooked.changes.as_slice() else { panic!("{hooked:?}") };
        assert_eq!(spec.path, Path::new("/var/lib/pss-guard/containerd-runc.json"), "before what names it");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&spec.after).unwrap(), expected);
        assert!(
            String::from_utf8_lossy(&config.after)
                .contains("base_runtime_spec = \"/var/lib/pss-guard/containerd-runc.json\"")
        );
        let undone = strip::strip(&stripped(spec, &hooked, b"{}")).unwrap();
        assert_eq!(undone, None);
        let there = node.clone().after(Engine::Containerd, &hooked);
        assert_eq!(plan_on(&there, ONE, Method::Hook).unwrap().changes, [], "planned again");

        // From one method to the other and back.
        let runtime = plan_on(&there, ONE, Method::Runtime).unwrap();
        let [change] = runtime.changes.as_slice() else { panic!("{runtime:?}") };
        let text = String::from_utf8_lossy(&change.after).into_owned();
        assert!(!text.contains("containerd-runc.json") && text.contains(ENTRIES), "{text}");
        assert_eq!(
            text.contains("base_runtime_spec = \"/etc/base.json\""),
            expected.get("io.pss-guard.base").is_some()
        );
        let back = plan_on(&there.after(Engine::Containerd, &runtime), ONE, Method::Hook).unwrap();
        let [change] = back.changes.as_slice() else { panic!("{back:?}") };
        let text = String::from_utf8_lossy(&change.after).into_owned();
        assert!(text.contains("containerd-runc.json") && !text.contains(ENTRIES), "{text}");
    }

    let mute = Fake { outputs: BTreeMap::new(), ..with(&plain) };
    let rows = [
        (mute, "`ctr oci spec` does not print it here"),
        (with(&own), "has base_runtime_spec = \"/etc/base.json\", and there is no such file"),
        (with(&own).file("/etc/base.json", "{"), "/etc/base.json cannot be parsed: EOF"),
        (with(&own).file("/etc/base.json", r#"{"hooks":3}"#), "hooks.createRuntime must be a list"),
        (with(&own).file("/etc/base.json", "[]"), "hooks.createRuntime must be a list"),
    ];
    for (node, expected) in rows {
        let error = plan_on(&node, ONE, Method::Hook).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_runtime_that_is_not_the_usual_one_comes_back_with_the_hook() {
    let table = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.x";
    let text = format!(
        "version = 2\n[{table}]\nruntime_type = 'io.containerd.runc.v2'\noptions.BinaryName = 'crun'\n"
    );
    let node = with(&text);
    let node = node.clone().after(Engine::Containerd, &plan_on(&node, ONE, Method::Runtime).unwrap());
    let hooked = plan_on(&node, ONE, Method::Hook).unwrap();
    let text = String::from_utf8_lossy(&hooked.changes.last().unwrap().after).into_owned();
    assert!(text.contains("options.BinaryName = \"/usr/bin/crun\""), "{text}");
}

#[test]
fn what_the_gate_leaves_open_is_said() {
    let row = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration-tests/fixtures/containerd/1/other-shims/before");
    let plan = plan_on(&Fake { files: files(&row), ..node() }, ONE, Method::Runtime).unwrap();
    let entries: Vec<_> =
        plan.entries.iter().map(|e| (e.handler.as_str(), e.runtime.to_str().unwrap())).collect();
    assert_eq!(
        entries,
        [("runc", "/usr/sbin/runc"), ("crun", "/usr/bin/crun"), ("untrusted", "/usr/sbin/runc")]
    );
    let expected = [
        "containers of the handler \"kata-qemu\" are not evaluated: io.containerd.kata-qemu.v2 is not runc's shim",
        "containers of the handler \"gvisor\" are not evaluated: io.containerd.runsc.v1 is not runc's shim",
        "the handler \"half\" has no runtime_type, so that containerd starts nothing with it",
    ];
    assert_eq!(plan.open, expected);
    let ungated: Vec<&str> = plan.ungated.iter().map(|(handler, _)| &**handler).collect();
    assert_eq!(ungated, ["kata-qemu", "gvisor"], "with no type nothing starts");

    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.x";
    let shim = |path: &str| {
        format!("version = 3\n[{table}]\nruntime_type = 'io.containerd.runc.v2'\nruntime_path = '{path}'\n")
    };
    let open = |path: &str| plan_on(&with(&shim(path)), TWO, Method::Runtime).unwrap().open;
    assert_eq!(open("/opt/bin/containerd-shim-runc-v2"), Vec::<String>::new());
    let sentence =
        "containers of the handler \"x\" are not evaluated: /opt/bin/shim starts them, not runc's shim";
    assert_eq!(open("/opt/bin/shim"), [sentence]);
}

#[test]
fn several_files_are_merged_as_this_containerd_does_or_not_at_all() {
    let table = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    let main = format!(
        "version = 2\nimports = ['/etc/containerd/more.toml']\n[{table}.crun]\nruntime_type = 'io.containerd.runc.v2'\n"
    );
    let more = format!("[{table}.more]\nruntime_type = 'io.containerd.runc.v2'\n");
    let node = with(&main).file("/etc/containerd/more.toml", &more);
    let handlers = |generation| -> Vec<String> {
        plan_on(&node, generation, Method::Runtime)
            .unwrap()
            .entries
            .into_iter()
            .map(|entry| entry.handler)
            .collect()
    };
    assert_eq!(handlers(ONE), ["more"]);
    assert_eq!(handlers(TWO), ["runc", "crun", "more"]);
    let error = plan_on(&node, None, Method::Runtime).unwrap_err().to_string();
    assert!(error.contains("only the version of containerd says how they are merged"), "{error}");

    let mixed = with(&main).file("/etc/containerd/more.toml", &format!("version = 3\n{more}"));
    let error = plan_on(&mixed, TWO, Method::Runtime).unwrap_err().to_string();
    assert!(
        error.contains("more.toml has version = 3 and /etc/containerd/config.toml has version = 2"),
        "{error}"
    );

    // A name that is not UTF-8 matches, too.
    let mut odd = with("version = 2\nimports = ['/etc/containerd/conf.d/*.toml']\n");
    let name = std::ffi::OsStr::from_bytes(b"/etc/containerd/conf.d/\xff.toml");
    odd.files.insert(name.into(), more.clone().into_bytes());
    let error = crate::message::line(&plan_on(&odd, TWO, Method::Runtime).unwrap_err());
    assert!(error.ends_with("its name is not UTF-8; rename it"), "{error}");

    // Imports that import each other come to an end; so does a crowd.
    let ring = with("version = 2\nimports = ['/etc/containerd/*.toml']")
        .file("/etc/containerd/a.toml", "imports = ['config.toml']");
    assert!(plan_on(&ring, TWO, Method::Runtime).is_ok());
    let crowd = (0..300).fold(ring, |node, n| node.file(&format!("/etc/containerd/n{n}.toml"), ""));
    let error = plan_on(&crowd, TWO, Method::Runtime).unwrap_err().to_string();
    assert!(error.contains("imports more than 256 files"), "{error}");
    for (import, generation) in [("conf.d/*.toml", None), ("/etc/[a-z]/*.toml", TWO)] {
        let error =
            plan_on(&with(&format!("imports = ['{import}']")), generation, Method::Runtime).unwrap_err();
        assert!(error.to_string().contains("write it as an absolute path"), "{error}");
    }
}

#[test]
fn containerd_itself_is_asked_whether_it_sees_the_same() {
    let table = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    let handler = |name: &str, more: &str| {
        format!("[{table}.{name}]\nruntime_type = 'io.containerd.runc.v2'\n{more}\n")
    };
    let dump = |handlers: &str| format!("version = 2\nimports = ['{CONFIG}']\n{handlers}");
    let text = format!("version = 2\n{}", handler("runc", "options.BinaryName = 'crun'"));
    let rows = [
        (dump(&handler("runc", "options.BinaryName = 'crun'")), Ok(())),
        (dump(&handler("runc", "pod_annotations = []\noptions = {BinaryName = 'crun', Root = ''}")), Ok(())),
        (dump(&handler("runc", "")), Err("the handler \"runc\" is runtime_type")),
        (
            dump(&handler("runc", "options.BinaryName = 'crun'\nbase_runtime_spec = '/x'")),
            Err("base_runtime_spec \"/x\""),
        ),
        (dump(&handler("x", "")), Err("only containerd knows the handler \"x\"")),
        (dump(""), Err("containerd does not know the handler \"runc\"")),
        (
            dump(&handler("runc", "options.BinaryName = 'crun'")).replace(CONFIG, "/x"),
            Err("only one of them has /"),
        ),
        ("no toml".into(), Err("containerd config dump cannot be parsed: line 1")),
    ];
    let version = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n";
    let command = format!("containerd --config {CONFIG} config dump");
    let asked = with(&text).program("/usr/bin/containerd").prints("containerd --version", version);
    let request = Request { method: Method::Runtime, config: None, distribution: &PLAIN };
    for (dump, expected) in rows {
        let node = asked.clone().prints(&command, &dump);
        match (plan(&node, &request), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (got, expected) => panic!("{got:?}, not {expected:?}: {dump}"),
        }
    }
    let error = plan(&asked, &request).unwrap_err().to_string();
    assert!(error.contains("config.toml cannot be parsed: `/usr/bin/containerd --config"), "{error}");
    let error = plan(&node(), &request).unwrap_err().to_string();
    assert!(error.contains("there is no /etc/containerd/config.toml and no containerd"), "{error}");
    // Another root: the file is there, and no program can be asked.
    assert!(plan(&with(&text), &request).is_ok());
    let other = Request { config: Some(Path::new("/opt/c.toml")), ..request };
    assert_eq!(
        plan(&node().file("/opt/c.toml", &text), &other).unwrap().changes[0].path,
        Path::new("/opt/c.toml")
    );

    let rows = [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", ONE),
        ("containerd containerd.io v1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182", ONE),
        ("containerd github.com/containerd/containerd/v2 2.1.9+unknown ", TWO),
        ("containerd github.com/containerd/containerd/v2 v12.0.0 x", TWO),
        ("containerd x 0.9.1", None),
        ("containerd x unknown", None),
        ("", None),
    ];
    for (text, expected) in rows {
        assert_eq!(generation(text), expected, "{text}");
    }
}

#[test]
fn patterns_match_as_containerds_do() {
    let rows = [
        ("*.toml", "a.toml", true),
        ("*.toml", ".toml", true),
        ("*.toml", "a.tom", false),
        ("*.toml", "a.toml.bak", false),
        ("9?-*.toml", "99-pss-guard.toml", true),
        ("9?-*.toml", "9-pss-guard.toml", false),
        ("a*b*c", "aXbYbZc", true),
        ("a*b*c", "aXbYbZ", false),
        ("", "", true),
        ("*", "", true),
        ("", "a", false),
        ("a", "", false),
    ];
    for (pattern, name, expected) in rows {
        assert_eq!(config::glob(pattern, name), expected, "{pattern} {name}");
    }
    let node =
        node().file("/c/README", "").file("/c/a/x.toml", "").file("/c/b/y.toml", "").file("/c/x.toml", "");
    for (pattern, expected) in [
        ("/c/*/x.toml", &["/c/a/x.toml"][..]),
        ("/c/*/*.toml", &["/c/a/x.toml", "/c/b/y.toml"]),
        ("/*/a/x.toml", &["/c/a/x.toml"]),
        ("/c/*", &["/c/README", "/c/a", "/c/b", "/c/x.toml"]),
        ("/none/*/x.toml", &[]),
        // Without a star it is there or refused.
        ("/c/none.toml", &["/c/none.toml"]),
    ] {
        assert_eq!(
            config::matches(&node, Path::new(pattern)),
            expected.iter().map(PathBuf::from).collect::<Vec<_>>()
        );
    }
    let hostile = "*a".repeat(2000);
    assert!(!config::glob(&hostile, &"a".repeat(1999)));
}

#[test]
fn what_is_there_already_is_not_added_and_not_taken_away() {
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.x";
    let main =
        format!("version = 3\nimports = ['/etc/containerd/more.toml']\n[{table}]\nruntime_type = '{SHIM}'\n");
    let main = main
        + &format!(
            "pod_annotations = ['{POD_ANNOTATIONS}']\noptions.BinaryName = '{ENTRIES}x/pss-guard-runtime'\n"
        );
    // A later file has the handler, and leaves what is the gate's alone.
    let more = format!("[{table}]\ncontainer_annotations = ['{CONTAINER_ANNOTATIONS}']\n");
    let link = |to: &str| {
        let mut node = with(&main).file("/etc/containerd/more.toml", &more);
        node.links.insert(format!("{ENTRIES}x/runtime").into(), to.into());
        node
    };
    let plan = plan_on(&link("/opt/runc"), TWO, Method::Runtime).unwrap();
    let touched: Vec<_> =
        plan.changes.iter().map(|change| String::from_utf8_lossy(&change.after).into_owned()).collect();
    assert!(
        touched.iter().all(|text| !text.contains("containerd/x/") || text.starts_with(&main)),
        "{touched:?}"
    );
    let error = plan_on(&link("runc"), TWO, Method::Runtime).unwrap_err().to_string();
    assert!(error.contains("is not a link to the real runtime; write the whole path"), "{error}");
    let entry = format!("{ENTRIES}x/pss-guard-runtime");
    let error = plan_on(&link("runc").program(&entry), TWO, Method::Runtime).unwrap_err().to_string();
    assert!(error.contains("is not a link to the real runtime; make it with `ln -s"), "{error}");

    let text = format!(
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.x]\nruntime_type = '{SHIM}'\n"
    );
    let text = text + &format!("pod_annotations = ['{POD_ANNOTATIONS}', 'a/*']\n");
    let append = |now: &str| now.replace("'a/*'", "'b/*'");
    assert_eq!(undone(&with(&text), ONE, Method::Runtime, append), text.replace("'a/*'", "'b/*'"));
}
