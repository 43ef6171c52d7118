//! Is what `policy init` prints a policy that changes nothing, and does `policy schema` refuse what the reader refuses?

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use pss_guard::level::Policy;
use pss_guard::level::cache::load_file;
use pss_guard::level::policy::keys::{Kind, Shape, TABLES, Table};
use pss_guard::level::policy::parse;
use pss_guard::output::policy_file::{commented, schema};
use pss_guard::paths::Paths;
use serde_json::{Value, json};

use crate::support::documents::{blocks, read};
use crate::support::needs::{self, skip};
use crate::support::root::Root;
use crate::support::run;

/// The program that reads a policy as a start of a container does, and what it makes of this one but for its name.
fn loaded(root: &Root, text: &str) -> Policy {
    let file = root.policy(text);
    let mut policy =
        load_file(&Paths::under(root.root()), &file).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    policy.file = None;
    policy
}

#[test]
fn init_prints_a_policy_that_changes_nothing_and_each_of_its_keys_can_be_uncommented() {
    let root = Root::new();
    let printed = root.call(&["policy", "init"]).expect_success().stdout;
    assert_eq!(printed, commented());
    assert_eq!(loaded(&root, &printed), Policy::default());
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{printed}");
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let (mut keys, mut examples) = (0, 0);
    let mut begins = 0;
    for block in lines.split(|line| line.is_empty()) {
        // An example is one thing, and is uncommented as a whole.
        let is_example = block.iter().any(|line| line.starts_with("#["));
        let chosen: Vec<Vec<usize>> = if is_example {
            vec![(0..block.len()).filter(|nth| is_key(block[*nth])).collect()]
        } else {
            (0..block.len()).filter(|nth| is_key(block[*nth])).map(|nth| vec![nth]).collect()
        };
        for chosen in chosen {
            let mut edited: Vec<&str> = lines.clone();
            for nth in &chosen {
                edited[begins + nth] = &block[*nth][1..];
            }
            let mut policy = loaded(&root, &edited.join("\n"));
            let checked = root.call(&["policy", "check"]).expect_success();
            assert!(checked.stdout.starts_with("valid\n"), "{checked}");
            if is_example {
                assert_eq!(policy.namespaces.len() + policy.exceptions.len(), 1, "{edited:?}");
                examples += 1;
                continue;
            }
            assert_eq!(policy.node.kubelet_root(), Policy::default().node.kubelet_root());
            policy.node.kubelet_root = None;
            assert_eq!(policy, Policy::default(), "{}", edited[begins + chosen[0]]);
            keys += 1;
        }
        begins += block.len() + 1;
    }
    let single = TABLES.iter().filter(|table| table.shape == Shape::Single).map(|table| table.keys.len());
    assert_eq!((keys, examples), (single.sum(), 2));
    // What `mode` writes is a key of its own above the first table, and the rest stays.
    root.policy(&printed);
    root.call(&["mode", "enforce", "--yes"]).expect_success();
    let edited = fs::read_to_string(root.path("etc/pss-guard/policy.toml")).unwrap();
    assert_eq!(
        edited.replacen("mode = \"enforce\"\n\n", "", 1).replacen("mode = \"enforce\"\n", "", 1),
        printed
    );
}

#[test]
fn init_writes_where_nothing_is_and_only_root_can_write() {
    let root = Root::new();
    let init = |output: &Path| root.call(&["policy", "init", "--output", output.to_str().unwrap()]);
    let policy = root.path("etc/pss-guard/policy.toml");
    fs::create_dir(root.path("etc")).unwrap();
    init(&policy).expect_success();
    let metadata = policy.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o644, 0));
    assert_eq!(fs::read_to_string(&policy).unwrap(), commented());
    assert_eq!(fs::read_dir(policy.parent().unwrap()).unwrap().count(), 1, "nothing else stays there");

    fs::write(&policy, "mode = 'enforce'\n").unwrap();
    let link = root.path("etc/pss-guard/link.toml");
    symlink("nowhere", &link).unwrap();
    let open = root.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let theirs = root.path("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(1000), None).unwrap();
    for (output, says) in [
        (policy.clone(), "is there and was left alone"),
        (link, "is there and was left alone"),
        (open.join("policy.toml"), "the gate reads no policy from there"),
        (theirs.join("policy.toml"), "the gate reads no policy from there"),
        (root.path("nothing/policy.toml"), "No such file"),
        (root.path("etc/pss-guard"), "is there and was left alone"),
    ] {
        let done = init(&output);
        assert!(done.code == Some(2) && done.stderr.contains(says), "{}\n{done}", output.display());
    }
    assert_eq!(fs::read_to_string(&policy).unwrap(), "mode = 'enforce'\n");
    assert_eq!(fs::read_dir(&open).unwrap().count() + fs::read_dir(&theirs).unwrap().count(), 0);
    assert!(!root.path("nothing").exists());
}

/// What a schema says of each document, by the validator of Python: it knows nothing of this program.
fn validated(schema: &Value, documents: &[Value]) -> Option<Vec<bool>> {
    const SCRIPT: &str = "import json,sys,jsonschema as j\n\
                          d=json.load(sys.stdin)\n\
                          j.Draft7Validator.check_schema(d['schema'])\n\
                          v=j.Draft7Validator(d['schema'])\n\
                          print(json.dumps([v.is_valid(x) for x in d['documents']]))";
    // A python of the user's own may lack what Debian's has.
    let pythons = [needs::program("python3")?, "/usr/bin/python3".into()];
    let has_it = |python: &&std::path::PathBuf| {
        let done = Command::new(python).args(["-W", "ignore", "-c", "import jsonschema"]).output();
        done.is_ok_and(|done| done.status.success())
    };
    let python = pythons.iter().find(has_it)?;
    let input = json!({"schema": schema, "documents": documents}).to_string();
    let done = run::feed(Command::new(python).args(["-c", SCRIPT]), input.as_bytes());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(serde_json::from_slice(&done.stdout).unwrap())
}

/// As editors hand a document to a validator: a date is a string.
fn document(text: &str) -> Value {
    fn convert(value: toml::Value) -> Value {
        match value {
            toml::Value::Datetime(moment) => json!(moment.to_string()),
            toml::Value::Array(items) => items.into_iter().map(convert).collect(),
            toml::Value::Table(table) => {
                Value::Object(table.into_iter().map(|(key, value)| (key, convert(value))).collect())
            }
            other => serde_json::to_value(other).unwrap(),
        }
    }
    convert(toml::Value::Table(text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))))
}

/// The text of a table with one key changed, added or left out.
fn with(table: &Table, key: &str, value: Option<&str>) -> String {
    let mut text = match table.shape {
        Shape::Single if table.name.is_empty() => String::new(),
        Shape::Single => format!("[{}]\n", table.name),
        Shape::ByNamespace(name) => format!("[{}.{name:?}]\n", table.name),
        Shape::List => format!("[[{}]]\n", table.name),
    };
    for own in table.keys.iter().filter(|own| own.name != key) {
        let _ = writeln!(text, "{} = {}", own.name, own.value);
    }
    value.map_or(text.clone(), |value| format!("{text}{key:?} = {value}\n"))
}

/// Values that a key takes and values that it does not; the reader says which is which.
fn values(kind: Kind) -> Vec<String> {
    let mut all: Vec<String> =
        ["1", "true", "\"\"", "\" \"", "[]", "[1]", "[\"x\"]", "{}", "\"Audit\"", "\"x\""]
            .map(str::to_owned)
            .into();
    all.extend(kind.words().unwrap_or_default().iter().map(|word| format!("{word:?}")));
    let texts: &[&str] = match kind {
        Kind::Version => {
            &["latest", "v1.0", "v1.36", "v1.99999999999", "1.36", "v2.0", "v1.", "v1.01", "Latest"]
        }
        Kind::Path => &["/", "/var/lib", "var/lib", "~/x"],
        Kind::Label => {
            &["a", "a-1", "-a", "a-", "a.b", "A", "../x", "kube-*", &"a".repeat(63), &"a".repeat(64)]
        }
        Kind::Name => &["a.b", "a..b", ".a", "a-.b", "web-*", "A", &"a".repeat(253), &"a".repeat(254)],
        Kind::Image => &[
            "nginx",
            "docker.io/library/nginx",
            "localhost/x:1",
            "r:5000/a/b@sha256:2a0f9c3f5c1d8c4f7e0b1a2d3c4b5a69788796a5b4c3d2e1f00112233445566a",
            "quay.io/X",
            "quay.io//x",
            "quay.io/x:",
            "quay.io/x@sha256:12",
            "library/nginx",
        ],
        Kind::Date => &["2027-06-30", "2027-13-01", "30.6.2027", "2027-06-30T00:00:00Z"],
        Kind::List(items, _) => {
            let lists = values(*items)
                .into_iter()
                .flat_map(|value| [format!("[{value}]"), format!("[{value}, {value}]")]);
            all.extend(lists);
            &[]
        }
        _ => &[],
    };
    all.extend(texts.iter().map(|text| format!("{text:?}")));
    if kind == Kind::Date {
        // Nowhere else: to a validator of JSON it is a string.
        all.extend(["2027-06-30".to_owned(), "2027-06-30T00:00:00Z".to_owned()]);
    }
    all
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses() {
    let mut texts: Vec<String> = vec![
        String::new(),
        commented(),
        "modee = 'audit'".to_owned(),
        "[default]\nenforce = 'baseline'".to_owned(),
        "[namespaces.A]\nenforce = 'baseline'".to_owned(),
        "[namespaces]\nshop = 'baseline'".to_owned(),
        "[[defaults]]".to_owned(),
        "exceptions = true".to_owned(),
        "[exceptions]".to_owned(),
        "[namespaces.a]\n[namespaces.b]\nwarn = 'baseline'".to_owned(),
    ];
    for document in ["docs/policy.md", "docs/rollout.md"] {
        texts.extend(blocks(document, "toml"));
    }
    // Every key with another value than its default, from the reader's own tests.
    let reader = read("crates/core/src/level/policy/read.rs");
    let everything =
        reader.split("const EVERYTHING: &str = r#\"").nth(1).and_then(|rest| rest.split("\"#").next());
    texts.push(everything.unwrap().to_owned());
    for table in TABLES {
        for key in table.keys {
            texts.push(with(table, key.name, None));
            texts.push(with(table, &format!("{}s", key.name), Some(key.value)));
            texts.extend(values(key.kind).iter().map(|value| with(table, key.name, Some(value))));
        }
    }
    texts.sort();
    texts.dedup();
    let by_reader: Vec<bool> = texts.iter().map(|text| parse(text, "f").is_ok()).collect();
    let valid = by_reader.iter().filter(|is_valid| **is_valid).count();
    assert!(valid > 150 && by_reader.len() - valid > 500, "{valid} of {}", by_reader.len());
    let documents: Vec<Value> = texts.iter().map(|text| document(text)).collect();
    let Some(by_schema) = validated(&schema(), &documents) else {
        skip(
            "policy_file::the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses",
            "python3-jsonschema",
        );
        return;
    };
    let differ: Vec<(&String, bool)> = texts
        .iter()
        .zip(by_reader.iter().zip(&by_schema))
        .filter(|(_, (reader, schema))| reader != schema)
        .map(|(text, (reader, _))| (text, *reader))
        .collect();
    assert!(differ.is_empty(), "{} of {}, the reader says: {differ:#?}", differ.len(), texts.len());
}

#[test]
fn schema_prints_the_schema() {
    let printed = Root::new().call(&["policy", "schema"]).expect_success().stdout;
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), schema());
}
