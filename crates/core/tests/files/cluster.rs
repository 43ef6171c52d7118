//! When does the cluster's version count, and which one does a start go by?

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use pss::NEWEST;
use pss_guard_core::cluster::{self, Told};
use pss_guard_core::level::Policy;
use pss_guard_core::level::cache::{Loaded, load, load_file, load_usable};

use crate::node::{Node, line, make_fifo, root};

const POLICY: &str = "mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n";

/// Something that happens to the file.
type Damage = fn(&Node, &Path);

fn lay(node: &Node, text: &str) {
    let path = node.paths.cluster();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What `latest` is for a policy, and why the file does not count, without the folder of the test.
fn latest(node: &Node, policy: &Policy) -> (u16, String) {
    let fault = match &policy.told {
        Told::Unusable(error) => node.shown(&line(&**error)),
        Told::Nothing | Told::Minor(_) => String::new(),
    };
    (policy.latest_minor(), fault)
}

#[test]
fn a_file_that_is_not_exactly_right_is_as_if_it_were_missing() {
    if !root() {
        return;
    }
    let sound = "{\"v\":1,\"minor\":36}";
    let text = |text: &'static str| (text, (|_, _| ()) as Damage);
    let after = |damage: Damage| (sound, damage);
    let rows: [(&str, (&str, Damage), u16, &str); 26] = [
        ("sound", text(sound), 36, ""),
        ("with what admission exempts", text("{\"v\":1,\"minor\":30,\"exemptUsers\":null}"), 30, ""),
        ("the oldest", text("{\"v\":1,\"minor\":23}"), 23, ""),
        ("the newest", text("{\"v\":1,\"minor\":37}"), NEWEST, ""),
        ("newer than known", text("{\"v\":1,\"minor\":99}"), NEWEST, ""),
        // An older version has fewer controls, or none at all.
        (
            "forged",
            text("{\"v\":1,\"minor\":0}"),
            NEWEST,
            "has v1.0; a version below v1.23 is believed of nobody but",
        ),
        ("one too old", text("{\"v\":1,\"minor\":22}"), NEWEST, "has v1.22; a version below v1.23"),
        ("negative", text("{\"v\":1,\"minor\":-1}"), NEWEST, "invalid value: integer `-1`"),
        ("beyond all", text("{\"v\":1,\"minor\":70000}"), NEWEST, "invalid value: integer `70000`"),
        ("no number", text("{\"v\":1,\"minor\":\"36\"}"), NEWEST, "invalid type: string"),
        ("without it", text("{\"v\":1}"), NEWEST, "missing field `minor`"),
        ("without a version", text("{\"minor\":36}"), NEWEST, "missing field `v`"),
        (
            "newer format",
            text("{\"v\":2,\"new\":1}"),
            NEWEST,
            "it has the format version 2, and this program reads 1 to 1",
        ),
        ("older format", text("{\"v\":0,\"minor\":36}"), NEWEST, "it has the format version 0"),
        ("an unknown key", text("{\"v\":1,\"minor\":36,\"x\":1}"), NEWEST, "unknown field `x`"),
        ("twice", text("{\"v\":1,\"minor\":36,\"minor\":23}"), NEWEST, "duplicate field `minor`"),
        ("empty", text(""), NEWEST, "EOF while parsing"),
        ("half-written", text("{\"v\":1,\"mi"), NEWEST, "EOF while parsing"),
        (
            "huge",
            after(|node, _| lay(node, &format!("{{\"v\":1,\"minor\":36}}{}", " ".repeat(65 << 10)))),
            NEWEST,
            "is larger than 65536 bytes",
        ),
        (
            "somebody's",
            after(|_, path| chown(path, Some(1000), None).unwrap()),
            NEWEST,
            "must be owned by root",
        ),
        ("writable", after(|_, path| mode(path, 0o646)), NEWEST, "must be writable by root alone"),
        (
            "the folder is somebody's",
            after(|_, path| chown(path.parent().unwrap(), Some(1000), None).unwrap()),
            NEWEST,
            "agent must be owned by root",
        ),
        (
            "the folder is writable",
            after(|_, path| mode(path.parent().unwrap(), 0o777)),
            NEWEST,
            "agent must be writable by root alone",
        ),
        (
            "a link",
            after(|node, path| {
                fs::rename(path, node.root.path().join("x")).unwrap();
                symlink(node.root.path().join("x"), path).unwrap();
            }),
            NEWEST,
            "but is a symbolic link",
        ),
        (
            "a FIFO",
            after(|_, path| {
                fs::remove_file(path).unwrap();
                make_fifo(path);
            }),
            NEWEST,
            "but is a FIFO",
        ),
        ("gone", after(|_, path| fs::remove_file(path).unwrap()), NEWEST, ""),
    ];
    for (name, (text, damage), minor, fault) in rows {
        let node = Node::with_policy(POLICY);
        lay(&node, text);
        damage(&node, &node.paths.cluster());
        Node::settle();
        // Parsed, compiled, with the file read for the compiled form, and by that form alone.
        for _ in 0..4 {
            let (found, said) = latest(&node, &node.good());
            assert_eq!(found, minor, "{name}: {said}");
            assert!(said.contains(fault) && said.is_empty() == fault.is_empty(), "{name}: {said}");
        }
        let looked = load_usable(&node.paths).unwrap().policy;
        assert_eq!(looked, node.good(), "{name}");
    }
}

/// The admin's word counts, and the file is not even looked at.
#[test]
fn the_policy_comes_first_and_every_way_to_load_it_asks() {
    if !root() {
        return;
    }
    let node = Node::with_cache(&format!("{POLICY}[cluster]\nversion = 'v1.30'\n"));
    lay(&node, "{\"v\":1,\"minor\":0}");
    assert_eq!(latest(&node, &node.good()), (30, String::new()));

    let node = Node::new();
    lay(&node, "{\"v\":1,\"minor\":36}");
    assert_eq!(latest(&node, &node.good()).0, 36, "without a policy");
    let other = node.root.path().join("other.toml");
    fs::write(&other, POLICY).unwrap();
    assert_eq!(latest(&node, &load_file(&node.paths, &other).unwrap()).0, 36);
    node.write_policy(POLICY);
    node.good();
    node.write_policy("mode = 'x'");
    let Loaded::Kept { policy, .. } = load(&node.paths) else { panic!() };
    assert_eq!(latest(&node, &policy).0, 36, "the last good one");
    assert_eq!(latest(&node, &load_usable(&node.paths).unwrap().policy).0, 36);
}

#[test]
fn a_start_reads_the_file_once_and_sees_the_next_one_at_once() {
    if !root() {
        return;
    }
    let node = Node::with_cache(POLICY);
    lay(&node, "{\"v\":1,\"minor\":36}");
    Node::settle();
    let header = || node.cache_line();
    let before = header();
    assert_eq!(node.good().latest_minor(), 36);
    // Proof that the compiled form is believed of this file: it says something else.
    assert!(header() != before && header().contains(" 36 "), "{}", header());
    node.edit_line(" 36 ", " 35 ");
    assert_eq!(node.good().latest_minor(), 35);
    // What replaces, changes or touches it is another file.
    let path = node.paths.cluster();
    let changes: [(&str, &dyn Fn(), u16); 5] = [
        ("touched", &|| lay(&node, "{\"v\":1,\"minor\":36}"), 36),
        ("another owner", &|| chown(&path, Some(1000), None).unwrap(), NEWEST),
        ("root's again", &|| chown(&path, Some(0), None).unwrap(), 36),
        ("replaced", &|| assert!(cluster::put(&node.paths, 34).unwrap()), 34),
        ("gone", &|| fs::remove_file(&path).unwrap(), NEWEST),
    ];
    for (name, change, minor) in changes {
        change();
        assert_eq!(node.good().latest_minor(), minor, "{name}");
        Node::settle();
        for _ in 0..2 {
            assert_eq!(node.good().latest_minor(), minor, "{name}, settled");
        }
    }
    // One that has just changed could change again in the same tick of the kernel's clock: nothing is kept of it. A slow machine
    // may let it settle.
    let is_not_kept = || {
        lay(&node, "{\"v\":1,\"minor\":36}");
        assert_eq!(node.good().latest_minor(), 36);
        !header().contains(" 36 ")
    };
    assert!((0..20).any(|_| is_not_kept()), "{}", header());
}

#[test]
fn what_the_api_server_says_of_itself_is_kept_for_the_next_boot() {
    if !root() {
        return;
    }
    let node = Node::new();
    let import = |text: &str| {
        cluster::import(&mut text.as_bytes(), &node.paths).map_err(|error| node.shown(&line(&error)))
    };
    let kept = node.paths.kept().join("agent/cluster.json");
    let both = || [node.paths.cluster(), kept.clone()].map(|path| fs::read_to_string(path).unwrap());
    let version = |minor: &str, more: &str| {
        format!(
            "{{\"major\":\"1\",\"minor\":\"{minor}\"{more},\"gitVersion\":\"v1.36.1\",\"platform\":\"linux/amd64\"}}"
        )
    };
    let emulated = ",\"emulationMajor\":\"1\",\"emulationMinor\":\"35\"";
    let rows = [
        (version("36", ""), 36, true),
        (version("36", ""), 36, false),
        (version("28+", ""), 28, true),
        (version("36", emulated), 35, true),
    ];
    for (text, minor, changed) in rows {
        assert_eq!(import(&text), Ok((minor, changed)), "{text}");
        assert_eq!(both(), [0, 1].map(|_| format!("{{\"v\":1,\"minor\":{minor}}}\n")));
        assert_eq!(node.good().latest_minor(), minor);
    }
    let metadata = node.paths.cluster().metadata().unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o644);
    let wrong = [
        (String::new(), "expected the output of kubectl get --raw /version"),
        ("{}".to_owned(), "missing field `major`"),
        (version("22", ""), "v1.22 is below v1.23"),
        (version("", ""), "the API server's version \"1.\" is not of the form 1.x"),
        (version("36", "").replace("\"1\"", "\"2\""), "\"2.36\" is not of the form 1.x"),
    ];
    for (text, part) in &wrong {
        let said = import(text).unwrap_err();
        assert!(said.contains(part) && said.contains("nothing was changed"), "{text}: {said}");
        assert_eq!(both()[0], "{\"v\":1,\"minor\":35}\n");
    }
    // A gate that reads no version of the file.
    fs::create_dir(node.paths.formats().parent().unwrap()).unwrap();
    fs::write(node.paths.formats(), "{\"v\":1,\"reads\":{\"cluster\":[2,3]}}").unwrap();
    let said = import(&version("36", "")).unwrap_err();
    assert!(said.contains("versions 2 to 3 of the format \"cluster\""), "{said}");
    fs::remove_file(node.paths.formats()).unwrap();
    // A damaged copy is written again; one that cannot be written is an error, after the live file was written.
    fs::write(&kept, "[").unwrap();
    assert_eq!(import(&version("35", "")), Ok((35, false)));
    assert_eq!(both()[1], "{\"v\":1,\"minor\":35}\n");
    fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(kept.parent().unwrap(), "").unwrap();
    assert!(import(&version("36", "")).unwrap_err().contains("cannot be saved for the next boot"));
    assert_eq!(node.good().latest_minor(), 36);
}
