//! Can a damaged config.json turn a denial into a start? Thousands of mutations of real files say no.
//!
//! Every row makes one thing wrong in a container that is fine otherwise, so that this one thing alone decides.
//! A plain JSON reader then says of each mutation whether the thing is still wrong. If it is, or if the file is no
//! JSON any more, the container must not be allowed. Nothing may panic.

use std::fs;
use std::path::PathBuf;

use pss_guard::cli::arguments::{Check, Format};
use pss_guard::cli::check::check;
use pss_guard::output::terminal::Style;
use pss_guard::paths::Paths;
use pss_guard::pss::{Level, Version};
use serde_json::{Value, json};

use crate::support::random::Numbers;

const CONTAINERD: [&str; 3] = [
    include_str!("../../benches/fixtures/containerd-allowed/containers/app/config.json"),
    include_str!("../../benches/fixtures/containerd-allowed/containers/app/observed.json"),
    include_str!("../../benches/fixtures/containerd-allowed/sandbox/config.json"),
];
const CRI_O: [&str; 3] = [
    include_str!("../../benches/fixtures/cri-o-allowed/containers/app/config.json"),
    include_str!("../../benches/fixtures/cri-o-allowed/containers/app/observed.json"),
    include_str!("../../benches/fixtures/cri-o-allowed/sandbox/config.json"),
];

/// One thing that is wrong.
struct Wrong {
    name: &'static str,
    make: fn(&mut Value),
    is: fn(&Value) -> bool,
}

const WRONGS: [Wrong; 7] = [
    Wrong {
        name: "root",
        make: |spec| spec["process"]["user"]["uid"] = json!(0),
        is: |spec| spec["process"]["user"]["uid"].as_u64().is_none_or(|uid| uid == 0),
    },
    Wrong {
        name: "escalation",
        make: |spec| spec["process"]["noNewPrivileges"] = json!(false),
        is: |spec| spec["process"]["noNewPrivileges"] != json!(true),
    },
    Wrong {
        name: "writable rootfs",
        make: |spec| spec["root"]["readonly"] = json!(false),
        is: |spec| spec["root"]["readonly"] != json!(true),
    },
    Wrong {
        name: "capability",
        make: |spec| spec["process"]["capabilities"] = json!({ "bounding": ["CAP_SYS_ADMIN"] }),
        is: |spec| {
            let set = spec["process"]["capabilities"]["bounding"].as_array();
            set.is_some_and(|set| set.contains(&json!("CAP_SYS_ADMIN")))
        },
    },
    Wrong {
        name: "no seccomp",
        make: |spec| _ = spec["linux"].as_object_mut().unwrap().remove("seccomp"),
        is: |spec| !spec["linux"]["seccomp"].is_object(),
    },
    Wrong {
        name: "host path",
        make: |spec| {
            let mount =
                json!({ "destination": "/h", "type": "bind", "source": "/etc", "options": ["rbind"] });
            spec["mounts"].as_array_mut().unwrap().push(mount);
        },
        is: |spec| {
            let binds_etc = |mount: &Value| {
                let rbind =
                    mount["options"].as_array().is_some_and(|options| options.contains(&json!("rbind")));
                mount["source"] == "/etc" && (mount["type"] == "bind" || rbind)
            };
            spec["mounts"].as_array().is_some_and(|mounts| mounts.iter().any(binds_etc))
        },
    },
    Wrong {
        name: "host network",
        make: |spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != "network");
        },
        is: |spec| {
            let namespaces = spec["linux"]["namespaces"].as_array();
            !namespaces.is_some_and(|all| all.iter().any(|entry| entry["type"] == "network"))
        },
    },
];

/// A captured case in a directory of its own, whose config.json is written again and again.
struct Case {
    directory: tempfile::TempDir,
    config: PathBuf,
}

/// What `check` says of it; a panic is the test's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
    CannotJudge,
}

impl Case {
    fn new([_, observed, sandbox]: [&str; 3]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let container = directory.path().join("containers/app");
        fs::create_dir_all(&container).unwrap();
        fs::create_dir_all(directory.path().join("sandbox")).unwrap();
        fs::write(directory.path().join("sandbox/config.json"), sandbox).unwrap();
        fs::write(container.join("observed.json"), observed).unwrap();
        Self { config: container.join("config.json"), directory }
    }

    fn verdict(&self, config: &[u8]) -> Verdict {
        fs::write(&self.config, config).unwrap();
        let options = Check {
            level: Some((Level::Restricted, Version::Latest)),
            policy: None,
            format: Format::Json,
            pod: None,
            namespace: None,
            paths: vec![self.directory.path().to_owned()],
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&Paths::under(self.directory.path()), &options, Style::PLAIN, &mut out, &mut err);
        let object: Value = serde_json::from_slice(&out).unwrap_or_else(|error| {
            panic!("{error}: {} {}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
        });
        let verdict = match code {
            0 => Verdict::Allow,
            1 => Verdict::Deny,
            2 => Verdict::CannotJudge,
            other => panic!("exit code {other}"),
        };
        let word = match verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::CannotJudge => "cannot-judge",
        };
        assert_eq!(object["verdict"], word, "exit code {code}");
        verdict
    }
}

/// A case and a config.json in which one thing is wrong.
fn each(mut test: impl FnMut(&Case, &Wrong, &Value)) {
    for fixture in [CONTAINERD, CRI_O] {
        let case = Case::new(fixture);
        let fine: Value = serde_json::from_str(fixture[0]).unwrap();
        assert_eq!(case.verdict(fine.to_string().as_bytes()), Verdict::Allow, "the fixture itself");
        for wrong in &WRONGS {
            let mut spec = fine.clone();
            (wrong.make)(&mut spec);
            assert!((wrong.is)(&spec) && !(wrong.is)(&fine), "{}", wrong.name);
            assert_eq!(case.verdict(spec.to_string().as_bytes()), Verdict::Deny, "{}", wrong.name);
            test(&case, wrong, &spec);
        }
    }
}

/// Fails if a mutation is allowed although the thing is still wrong; says what became of it.
fn hold(case: &Case, wrong: &Wrong, mutated: &[u8], what: impl FnOnce() -> String) -> Verdict {
    let verdict = case.verdict(mutated);
    let still = serde_json::from_slice::<Value>(mutated).map_or(true, |spec| (wrong.is)(&spec));
    let wrongly = verdict == Verdict::Allow && still;
    assert!(!wrongly, "{}: {} is allowed:\n{}", wrong.name, what(), String::from_utf8_lossy(mutated));
    verdict
}

#[test]
fn a_changed_byte_never_makes_a_wrong_container_start() {
    let mut numbers = Numbers(0x5eed);
    let mut seen = [0; 3];
    each(|case, wrong, spec| {
        let original = spec.to_string().into_bytes();
        for _ in 0..60 {
            let mut bytes = original.clone();
            let at = numbers.below(bytes.len());
            let end = bytes.len().min(at + 1 + numbers.below(40));
            let kind = numbers.below(6);
            match kind {
                0 => bytes[at] ^= 1 << numbers.below(8),
                1 => bytes.insert(at, b"\"{}[],:0-.e\\\0\xff\xc0 "[numbers.below(16)]),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                4 => bytes.truncate(at),
                _ => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            }
            let verdict = hold(case, wrong, &bytes, || format!("mutation {kind} at {at}"));
            if kind == 4 {
                assert_eq!(verdict, Verdict::CannotJudge, "{}: half a file", wrong.name);
            }
            seen[verdict as usize] += 1;
        }
    });
    // All three happen, or this test tests nothing: some bytes do not matter, some break the file, and now and
    // then one puts the wrong thing right.
    assert!(seen[Verdict::Deny as usize] > 100 && seen[Verdict::CannotJudge as usize] > 100, "{seen:?}");
}

/// Every place in a document.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let at = format!("{at}/{}", escaped(key));
                all.push(at.clone());
                pointers(inner, &at, all);
            }
        }
        // Elements beyond the first few are like them.
        Value::Array(array) => {
            for (nth, inner) in array.iter().enumerate().take(3) {
                let at = format!("{at}/{nth}");
                all.push(at.clone());
                pointers(inner, &at, all);
            }
        }
        _ => {}
    }
}

#[test]
fn a_value_of_another_type_never_makes_a_wrong_container_start() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "4294967296",
        "18446744073709551616",
        "1e999",
        "\"\"",
        "\"0\"",
        "\"1000\"",
        "\"\\ud800\"",
        "[]",
        "[null]",
        "[[]]",
        "[0]",
        "{}",
        "{\"a\":{}}",
    ];
    let mut numbers = Numbers(0x7e57);
    each(|case, wrong, spec| {
        let mut all = Vec::new();
        pointers(spec, "", &mut all);
        for nth in 0..60 {
            let at = &all[numbers.below(all.len())];
            let text = if nth % 60 == 0 { deep.as_str() } else { texts[numbers.below(texts.len())] };
            let mut mutated = spec.clone();
            *mutated.pointer_mut(at).unwrap() = json!("@ the new value @");
            let mutated = mutated.to_string().replace("\"@ the new value @\"", text);
            hold(case, wrong, mutated.as_bytes(), || format!("{at} = {}", &text[..text.len().min(30)]));
        }
    });
}

#[test]
fn a_key_that_is_missing_never_makes_a_wrong_container_start() {
    let mut numbers = Numbers(0x00de_1e7e);
    each(|case, wrong, spec| {
        let mut all = Vec::new();
        pointers(spec, "", &mut all);
        for _ in 0..60 {
            let at = &all[numbers.below(all.len())];
            let (parent, key) = at.rsplit_once('/').unwrap();
            let mut mutated = spec.clone();
            match mutated.pointer_mut(parent).unwrap() {
                Value::Object(object) => _ = object.remove(&key.replace("~1", "/").replace("~0", "~")),
                Value::Array(array) => _ = array.remove(key.parse().unwrap()),
                _ => unreachable!("{parent} holds {key}"),
            }
            hold(case, wrong, mutated.to_string().as_bytes(), || format!("without {at}"));
        }
    });
}

#[test]
fn a_key_that_is_there_twice_never_hides_what_is_wrong() {
    // What is wrong, and what would put it right if a reader took that one instead.
    let rows = [
        ("root", r#""uid":0"#, r#""uid":1000"#),
        ("root", r#""uid":0"#, r#""UID":1000"#),
        ("root", r#""user":{"#, r#""user":{"uid":1000,"gid":1000},"#),
        ("root", r#""process":{"#, r#""Process":{"user":{"uid":1000}},"#),
        ("escalation", r#""noNewPrivileges":false"#, r#""noNewPrivileges":true"#),
        ("escalation", r#""noNewPrivileges":false"#, r#""nonewprivileges":true"#),
        ("writable rootfs", r#""readonly":false"#, r#""readonly":true"#),
        ("writable rootfs", r#""readonly":false"#, r#""readOnly":true"#),
        ("capability", r#""bounding":["CAP_SYS_ADMIN"]"#, r#""bounding":[]"#),
        ("capability", r#""bounding":["CAP_SYS_ADMIN"]"#, r#""Bounding":[]"#),
    ];
    let mut tried = 0;
    each(|case, wrong, spec| {
        let text = spec.to_string();
        for (_, bad, good) in rows.iter().filter(|(name, ..)| *name == wrong.name) {
            assert!(text.contains(bad), "{bad}");
            // A row that opens an object puts the other one before it; the rest is tried in both orders.
            let good = good.trim_end_matches(',');
            let orders = if bad.ends_with('{') {
                vec![format!("{good},{bad}")]
            } else {
                vec![format!("{bad},{good}"), format!("{good},{bad}")]
            };
            for both in orders {
                let verdict = case.verdict(text.replace(bad, &both).as_bytes());
                assert_ne!(verdict, Verdict::Allow, "{}: {both}", wrong.name);
                tried += 1;
            }
        }
    });
    assert_eq!(tried, 2 * (2 * 8 + 2));
}
