//! Which directory counts as the kubelet's root, and from when on?

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use pss_guard_core::level::cache::{load_fresh, load_usable};
use pss_guard_core::level::kubelet_root::{record, recorded};

use crate::node::{Node, make_fifo, root};

const K0S: &str = "/var/lib/k0s/kubelet";
const OTHER: &str = "/data/kubelet";
const DEFAULT: &str = "/var/lib/kubelet";

fn root_of(node: &Node) -> String {
    node.good().node.kubelet_root().to_owned()
}

#[test]
fn the_policys_word_counts_before_the_record_and_the_record_before_the_default() {
    if !root() {
        return;
    }
    let says = |path: &str| format!("mode = 'enforce'\n[node]\nkubelet-root = '{path}'\n");
    let rows = [
        ("mode = 'enforce'\n".to_owned(), None, DEFAULT),
        ("mode = 'enforce'\n".to_owned(), Some(K0S), K0S),
        (says(OTHER), Some(K0S), OTHER),
        // The default, but said.
        (says(DEFAULT), Some(K0S), DEFAULT),
    ];
    for (text, recorded, expected) in rows {
        let node = Node::with_policy(&text);
        assert!(!record(&node.paths, DEFAULT).unwrap(), "there is nothing to record");
        if let Some(path) = recorded {
            assert!(record(&node.paths, path).unwrap());
            assert!(!record(&node.paths, path).unwrap(), "twice");
        }
        Node::settle();
        assert_eq!(root_of(&node), expected, "parsed: {text}");
        Node::settle();
        assert_eq!(root_of(&node), expected, "compiled: {text}");
        assert_eq!(load_fresh(&node.paths).unwrap().unwrap().node.kubelet_root(), expected, "{text}");
        // The last good text, while the policy is gone.
        fs::remove_file(node.paths.policy()).unwrap();
        assert_eq!(node.kept().1.node.kubelet_root(), expected, "kept: {text}");
    }
    let node = Node::new();
    record(&node.paths, K0S).unwrap();
    assert_eq!(root_of(&node), K0S, "without a policy");
    assert_eq!(load_usable(&node.paths).unwrap().policy.node.kubelet_root(), K0S);
}

#[test]
fn a_new_record_counts_at_once_and_nothing_reads_it_until_then() {
    if !root() {
        return;
    }
    let node = Node::with_cache("mode = 'enforce'\n");
    assert_eq!(root_of(&node), DEFAULT);
    for path in [K0S, OTHER, DEFAULT] {
        record(&node.paths, path).unwrap();
        assert_eq!(root_of(&node), path, "after it was recorded");
        // The compiled policy has it: the record is not asked at a start.
        Node::settle();
        root_of(&node);
        let file = node.paths.kubelet_root();
        let hidden = file.with_extension("hidden");
        if path != DEFAULT {
            fs::rename(&file, &hidden).unwrap();
        }
        assert_eq!(root_of(&node), path, "from the compiled policy");
        if path != DEFAULT {
            fs::rename(&hidden, &file).unwrap();
        }
    }
    assert!(!node.paths.kubelet_root().exists(), "the default needs no record");
}

#[test]
fn a_record_that_root_alone_did_not_write_does_not_count() {
    type Row = (&'static str, fn(&Node), &'static str);
    if !root() {
        return;
    }
    let rows: &[Row] = &[
        ("of a user", |node| chown(node.paths.kubelet_root(), Some(1000), None).unwrap(), "owned by root"),
        (
            "writable by others",
            |node| fs::set_permissions(node.paths.kubelet_root(), Permissions::from_mode(0o666)).unwrap(),
            "writable by root alone",
        ),
        (
            "in a folder of a user",
            |node| chown(node.paths.kubelet_root().parent().unwrap(), Some(1000), None).unwrap(),
            "owned by root",
        ),
        (
            "a link",
            |node| {
                let file = node.paths.kubelet_root();
                fs::rename(&file, file.with_extension("x")).unwrap();
                symlink(file.with_extension("x"), &file).unwrap();
            },
            "a symbolic link",
        ),
        (
            "a FIFO",
            |node| {
                fs::remove_file(node.paths.kubelet_root()).unwrap();
                make_fifo(&node.paths.kubelet_root());
            },
            "a FIFO",
        ),
        ("empty", |node| fs::write(node.paths.kubelet_root(), "").unwrap(), "read "),
        ("relative", |node| fs::write(node.paths.kubelet_root(), "var/lib").unwrap(), "read "),
        ("two lines", |node| fs::write(node.paths.kubelet_root(), "/a\n/b\n").unwrap(), "read "),
        ("long", |node| fs::write(node.paths.kubelet_root(), "/a".repeat(3000)).unwrap(), "is larger than"),
    ];
    for (what, damage, says) in rows {
        let node = Node::with_policy("mode = 'enforce'\n");
        record(&node.paths, K0S).unwrap();
        damage(&node);
        let error = recorded(&node.paths).unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
        Node::settle();
        assert_eq!(root_of(&node), DEFAULT, "{what}");
        // Recording it once more settles it, but for the folder, which is the node's.
        if *what != "in a folder of a user" {
            assert!(record(&node.paths, K0S).unwrap(), "{what}");
            assert_eq!(root_of(&node), K0S, "{what}");
        }
    }
    assert!(record(&Node::new().paths, "kubelet").is_err());
}
