//! When is a cache believed, and what is in force when the policy cannot be used?

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::Duration;

use pss_guard_core::level::cache::{
    Fallback, LoadError, Loaded, is_kept, let_go, load, load_file, load_fresh, was_there, would_not_take,
};
use pss_guard_core::level::{Mode, Policy};

use crate::node::{Damage, Node, line, make_fifo, root};

/// Something that happens to a node.
type NodeDamage = fn(&Node);

fn salvage(mode: Mode, namespaces: &[&str]) -> Fallback {
    Fallback { mode, exempt_namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect() }
}

const GONE: &str = "/etc/pss-guard/policy.toml is gone, but there was a policy before; restore it (the last \
                    good policy is /var/lib/pss-guard/policy.toml), or run `pss-guard policy remove` to \
                    continue with the built-in defaults";

const EMPTY: &str = "/etc/pss-guard/policy.toml sets nothing, but there was a policy before; write it again (the last good \
                     text is /var/lib/pss-guard/policy.toml), or run `pss-guard policy remove` to continue \
                     with the built-in defaults";

/// The cache is one of another version of the program.
fn another_version(node: &Node) {
    node.edit_line(concat!(" ", env!("CARGO_PKG_VERSION"), " "), " 0.0.1 ");
}

#[test]
fn a_node_without_policy_runs_on_the_built_in_defaults() {
    assert_eq!(Node::new().good(), Policy::default());
}

#[test]
fn the_cache_says_what_the_policy_says() {
    if !root() {
        return;
    }
    let text =
        "mode = 'enforce'\n[namespaces.shop]\nenforce = 'baseline'\n[exemptions]\nnamespaces = ['ops']";
    let node = Node::with_cache(text);
    let path = node.paths.policy();
    let parsed = load_file(&node.paths, &path).unwrap();
    assert_eq!(node.good(), parsed);
    assert_eq!(node.good().file.as_deref(), path.to_str());
    // Nobody who cannot read the policy can read the cache.
    for (mode, expected) in [(0o644, 0o644), (0o600, 0o600)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        node.good();
        assert_eq!(node.paths.policy_cache().metadata().unwrap().mode() & 0o777, expected);
    }
    assert_eq!(
        fs::read_dir(node.paths.policy_cache().parent().unwrap()).unwrap().count(),
        1,
        "temporary files"
    );
}

#[test]
fn a_cache_is_believed_only_if_it_is_surely_the_policys() {
    if !root() {
        return;
    }
    let damages: &[(&str, NodeDamage, Mode)] = &[
        ("nothing: the forged mode shows that the cache is read", |_| (), Mode::Enforce),
        ("same text, touched", |node| node.write_policy("mode = 'audit'"), Mode::Audit),
        (
            "same size and modification time, other inode",
            |node| {
                let path = node.paths.policy();
                let modified = path.metadata().unwrap().modified().unwrap();
                let copy = path.with_extension("new");
                fs::write(&copy, "mode = 'audit'").unwrap();
                fs::File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
                fs::rename(copy, path).unwrap();
            },
            Mode::Audit,
        ),
        (
            "rewritten in place, modification time set back",
            |node| {
                let modified = node.paths.policy().metadata().unwrap().modified().unwrap();
                node.write_policy("mode = 'audit'");
                let file = fs::File::options().write(true).open(node.paths.policy()).unwrap();
                file.set_modified(modified).unwrap();
            },
            Mode::Audit,
        ),
        ("one bit of the body", |node| node.edit_cache(|bytes| *bytes.last_mut().unwrap() ^= 1), Mode::Audit),
        (
            "one byte of the checksum",
            |node| {
                node.edit_cache(|bytes| {
                    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                    bytes[end - 1] = if bytes[end - 1] == b'0' { b'1' } else { b'0' };
                });
            },
            Mode::Audit,
        ),
        ("truncated", |node| node.edit_cache(|bytes| bytes.truncate(bytes.len() - 5)), Mode::Audit),
        ("header only", |node| node.edit_cache(|bytes| bytes.truncate(20)), Mode::Audit),
        ("empty", |node| node.edit_cache(Vec::clear), Mode::Audit),
        ("another version of the program", another_version, Mode::Audit),
        ("another user's", |node| chown(node.paths.policy_cache(), Some(1000), None).unwrap(), Mode::Audit),
        (
            "writable by others",
            |node| fs::set_permissions(node.paths.policy_cache(), Permissions::from_mode(0o646)).unwrap(),
            Mode::Audit,
        ),
        (
            "a link to itself elsewhere",
            |node| {
                let (cache, moved) = (node.paths.policy_cache(), node.root.path().join("moved"));
                fs::rename(&cache, &moved).unwrap();
                symlink(moved, cache).unwrap();
            },
            Mode::Audit,
        ),
        (
            "a FIFO",
            |node| {
                fs::remove_file(node.paths.policy_cache()).unwrap();
                make_fifo(&node.paths.policy_cache());
            },
            Mode::Audit,
        ),
        (
            "a folder",
            |node| {
                fs::remove_file(node.paths.policy_cache()).unwrap();
                fs::create_dir(node.paths.policy_cache()).unwrap();
            },
            Mode::Audit,
        ),
        (
            "hardly younger than the policy",
            |node| {
                let changed = node.paths.policy().metadata().unwrap().modified().unwrap();
                let file = fs::File::options().write(true).open(node.paths.policy_cache()).unwrap();
                file.set_modified(changed + Duration::from_millis(10)).unwrap();
            },
            Mode::Audit,
        ),
    ];
    for (name, damage, expected) in damages {
        let node = Node::with_cache("mode = 'audit'");
        node.forge_mode();
        damage(&node);
        assert_eq!(node.good().mode, *expected, "{name}");
        assert_eq!(node.good().mode, *expected, "{name}, the second time");
    }
}

#[test]
fn a_policy_that_changes_is_seen_by_the_very_next_start() {
    if !root() {
        return;
    }
    let node = Node::with_policy("mode = 'audit'  ");
    for round in 0..200 {
        let (text, expected) = if round % 2 == 0 {
            ("mode = 'enforce'", Mode::Enforce)
        } else {
            ("mode = 'audit'  ", Mode::Audit)
        };
        // In place and of the same size: only the times tell.
        node.write_policy(text);
        assert_eq!(node.good().mode, expected, "round {round}");
        assert_eq!(node.good().mode, expected, "round {round}, again");
    }
}

#[test]
fn a_cache_that_cannot_be_written_stops_nothing() {
    if !root() {
        return;
    }
    let node = Node::with_policy("mode = 'enforce'");
    fs::remove_dir(node.paths.policy_cache().parent().unwrap()).unwrap();
    fs::write(node.paths.policy_cache().parent().unwrap(), "").unwrap();
    assert_eq!(node.good().mode, Mode::Enforce);
}

#[test]
fn a_bad_policy_names_its_fault_and_keeps_what_was_good() {
    if !root() {
        return;
    }
    let rows: &[(&str, Damage, &str)] = &[
        (
            "syntax",
            |path| fs::write(path, "mode = 'audit'\n[defaults").unwrap(),
            "/etc/pss-guard/policy.toml:2:10: unclosed table, expected `]`",
        ),
        (
            "a key",
            |path| fs::write(path, "mode = 'audit'\n[defaults]\nenforcee = 'baseline'").unwrap(),
            "/etc/pss-guard/policy.toml:3:1: unknown key \"enforcee\" in [defaults]; did you mean \"enforce\"?",
        ),
        (
            "bytes",
            |path| fs::write(path, b"mode = 'audit' # \xff").unwrap(),
            "read /etc/pss-guard/policy.toml: invalid utf-8 sequence of 1 bytes from index 17",
        ),
        (
            "size",
            |path| fs::write(path, "#".repeat((1 << 20) + 1)).unwrap(),
            "/etc/pss-guard/policy.toml is larger than 1048576 bytes",
        ),
        (
            "owner",
            |path| chown(path, Some(1000), None).unwrap(),
            "/etc/pss-guard/policy.toml must be owned by root, but is owned by uid 1000; \
             chown root:root /etc/pss-guard/policy.toml",
        ),
        (
            "nobody's, outside of a user namespace",
            |path| chown(path, Some(65534), None).unwrap(),
            "/etc/pss-guard/policy.toml must be owned by root, but is owned by uid 65534; \
             chown root:root /etc/pss-guard/policy.toml",
        ),
        (
            "mode",
            |path| fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap(),
            "/etc/pss-guard/policy.toml must be writable by root alone, but its mode is 0664; \
             chmod go-w /etc/pss-guard/policy.toml",
        ),
        (
            "folder",
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "/etc/pss-guard/policy.toml must be a regular file, but is a directory",
        ),
        (
            "FIFO",
            |path| {
                fs::remove_file(path).unwrap();
                make_fifo(path);
            },
            "/etc/pss-guard/policy.toml must be a regular file, but is a FIFO",
        ),
        (
            "dangling link",
            |path| {
                fs::remove_file(path).unwrap();
                symlink("nowhere", path).unwrap();
            },
            "open /etc/pss-guard/policy.toml: No such file or directory",
        ),
        (
            "a folder that others can write to",
            |path| fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap(),
            "/etc/pss-guard must be writable by root alone, but its mode is 0777; chmod go-w /etc/pss-guard",
        ),
        (
            "somebody's folder",
            |path| chown(path.parent().unwrap(), Some(1000), None).unwrap(),
            "/etc/pss-guard must be owned by root, but is owned by uid 1000; chown root:root /etc/pss-guard",
        ),
        ("gone", |path| fs::remove_file(path).unwrap(), GONE),
        ("gone with its folder", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap(), GONE),
        ("truncated", |path| fs::write(path, "").unwrap(), EMPTY),
        (
            "emptied by an editor that marks the byte order",
            |path| fs::write(path, "\u{feff}\n").unwrap(),
            EMPTY,
        ),
        ("truncated, but for blank lines", |path| fs::write(path, "\n \t\r\n").unwrap(), EMPTY),
        ("truncated to its first comment", |path| fs::write(path, NOTHING[1]).unwrap(), EMPTY),
        ("truncated to the head of its first table", |path| fs::write(path, NOTHING[3]).unwrap(), EMPTY),
        (
            "an empty file in its place",
            |path| {
                fs::write(path.with_extension("new"), "").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
            EMPTY,
        ),
    ];
    for (name, damage, expected) in rows {
        for (mode, good) in [(Mode::Audit, "mode = 'audit'"), (Mode::Enforce, "mode = 'enforce'")] {
            let node = Node::with_cache(&format!("{good}\n[exemptions]\nnamespaces = ['ops']"));
            let before = node.good();
            damage(&node.paths.policy());
            let file = Some(node.paths.kept_policy().to_string_lossy().into_owned());
            let expected = ((*expected).to_owned(), Policy { file, ..before });
            assert_eq!(
                (expected.1.mode, &*expected.1.exemptions.namespaces),
                (mode, &["ops".to_owned()][..])
            );
            assert_eq!(node.kept(), expected, "{name}");
            // And the next start knows the same, as does one after a boot, and one of another version.
            assert_eq!(node.kept(), expected, "{name}, again");
            another_version(&node);
            assert_eq!(node.kept(), expected, "{name}, another version");
            node.reboot();
            assert_eq!(node.kept(), expected, "{name}, after a boot");
        }
    }
}

/// A policy elsewhere, by way of a link in a folder beside it.
#[test]
fn a_link_is_followed_only_where_root_alone_lays_the_way() {
    if !root() {
        return;
    }
    let node = Node::with_cache("mode = 'enforce'");
    let open = node.root.path().join("srv/policies");
    for (name, text) in [("v1", "mode = 'enforce'"), ("v0", "mode = 'audit'")] {
        fs::create_dir_all(open.join(name)).unwrap();
        fs::write(open.join(name).join("policy.toml"), text).unwrap();
    }
    let current = open.join("current");
    symlink("v1", &current).unwrap();
    fs::remove_file(node.paths.policy()).unwrap();
    symlink(current.join("policy.toml"), node.paths.policy()).unwrap();
    assert_eq!(node.good().mode, Mode::Enforce);
    // Whoever can write beside it brings back an older one of root's.
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    fs::remove_file(&current).unwrap();
    symlink("v0", &current).unwrap();
    let closed =
        "/srv/policies must be writable by root alone, but its mode is 0777; chmod go-w /srv/policies";
    assert_eq!((&*node.kept().0, node.kept().1.mode), (closed, Mode::Enforce));
    // A link of somebody's in a folder that is root's again, and then root's own.
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::lchown(&current, Some(1000), None).unwrap();
    assert!(node.kept().0.starts_with("/srv/policies/current must be owned by root"), "{}", node.kept().0);
    std::os::unix::fs::lchown(&current, Some(0), None).unwrap();
    assert_eq!(node.good().mode, Mode::Audit);
}

/// What sets nothing: cut off a policy that begins with them, these are left.
const NOTHING: [&str; 5] = [
    "",
    "# What the team agreed on.\n#   mode = 'enforce'\n",
    "\u{feff}# by an editor that marks the byte order\r\n\r\n",
    "# The levels of this cluster.\n[defaults]\n",
    "[namespaces]\n# to come\n[namespaces.shop]\n",
];

/// Nobody is told that a policy is lost which never set anything.
#[test]
fn a_policy_that_sets_nothing_is_as_good_as_none_and_is_never_the_last_good_one() {
    if !root() {
        return;
    }
    for text in NOTHING {
        let node = Node::with_policy(text);
        assert_eq!(node.good().mode, Policy::default().mode, "{text:?}");
        assert!(!was_there(&node.paths), "{text:?}");
        assert!(is_kept(&node.paths).is_ok(), "{text:?}");
        assert!(load_fresh(&node.paths).is_ok() && load_file(&node.paths, &node.paths.policy()).is_ok());
        fs::remove_file(node.paths.policy()).unwrap();
        assert_eq!(node.good(), Policy::default());
        // An earlier version of this program kept such a text and compiled it: still nothing was set.
        fs::create_dir_all(node.paths.kept_policy().parent().unwrap()).unwrap();
        fs::write(node.paths.kept_policy(), text).unwrap();
        fs::write(node.paths.policy_cache(), "").unwrap();
        for text in ["", "# another comment\n"] {
            node.write_policy(text);
            assert_eq!(node.good().mode, Policy::default().mode, "{text:?}");
            assert!(is_kept(&node.paths).is_ok(), "{text:?}");
        }
        node.write_policy("mode = 'enforce'\n");
        assert_eq!(node.good().mode, Mode::Enforce);
        node.write_policy(text);
        assert_eq!((node.kept().0, node.kept().1.mode), (EMPTY.to_owned(), Mode::Enforce), "{text:?}");
        for path in [None, Some(node.paths.policy())] {
            let checked = path.map_or_else(
                || load_fresh(&node.paths).map(drop),
                |path| load_file(&node.paths, &path).map(drop),
            );
            assert!(checked.is_err(), "`policy check` must not call it valid: {text:?}");
        }
    }
    // Neither a mistake nor a value is nothing.
    for (text, error) in [("mode = \n", true), ("log-allowed = false\n", false)] {
        let node = Node::with_cache("mode = 'enforce'");
        node.write_policy(text);
        match load(&node.paths) {
            Loaded::Kept { error: LoadError::Text(_), .. } => assert!(error, "{text}"),
            Loaded::Good(policy) => assert!(!error && policy.mode == Mode::Audit, "{text}"),
            loaded => panic!("{text}: {loaded:?}"),
        }
    }
}

#[test]
fn the_last_good_text_is_the_policys_and_nobody_elses() {
    if !root() {
        return;
    }
    // It follows the policy, and who may read it, but not to what is wrong.
    let node = Node::with_cache("mode = 'audit'");
    let kept = node.paths.kept_policy();
    for (text, mode, expected) in [
        ("mode = 'enforce'", 0o644, "mode = 'enforce'"),
        ("mode = 'enforce'", 0o600, "mode = 'enforce'"),
        ("mode = 'enforce' # why", 0o640, "mode = 'enforce' # why"),
        ("mode = ", 0o644, "mode = 'enforce' # why"),
    ] {
        node.write_policy(text);
        fs::set_permissions(node.paths.policy(), Permissions::from_mode(mode)).unwrap();
        let _ = load(&node.paths);
        assert_eq!(fs::read_to_string(&kept).unwrap(), expected, "{text}");
        let readable = kept.metadata().unwrap().mode() & 0o777;
        assert_eq!(readable, if text == expected { mode } else { 0o640 }, "{text}");
    }
    let names = fs::read_dir(kept.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["policy.lock", "policy.toml"], "temporary files");

    // What somebody else can have written is no last good text; what nobody could keep is tried again.
    let damages: &[(&str, NodeDamage)] = &[
        ("of a user", |node| chown(node.paths.kept_policy(), Some(1000), None).unwrap()),
        ("writable", |node| {
            fs::set_permissions(node.paths.kept_policy(), Permissions::from_mode(0o666)).unwrap();
        }),
        ("in a folder of a user", |node| {
            chown(node.paths.kept_policy().parent().unwrap(), Some(1000), None).unwrap();
        }),
        ("behind a link that others can turn", |node| {
            let (folder, open) =
                (node.paths.kept_policy().parent().unwrap().to_owned(), node.root.path().join("open"));
            fs::create_dir(&open).unwrap();
            fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
            fs::rename(&folder, node.root.path().join("moved")).unwrap();
            symlink("../moved", open.join("current")).unwrap();
            symlink(open.join("current"), folder).unwrap();
        }),
        ("a link", |node| {
            let (kept, moved) = (node.paths.kept_policy(), node.root.path().join("moved"));
            fs::rename(&kept, &moved).unwrap();
            symlink(moved, kept).unwrap();
        }),
        ("a FIFO", |node| {
            fs::remove_file(node.paths.kept_policy()).unwrap();
            make_fifo(&node.paths.kept_policy());
        }),
        ("broken", |node| fs::write(node.paths.kept_policy(), "mode = ").unwrap()),
        ("gone", |node| fs::remove_file(node.paths.kept_policy()).unwrap()),
    ];
    for (name, damage) in damages {
        let node = Node::with_cache("mode = 'audit'");
        damage(&node);
        assert!(is_kept(&node.paths).is_err(), "{name}");
        fs::write(node.paths.policy(), "mode = ").unwrap();
        assert_eq!(node.bad().1, salvage(Mode::Audit, &["kube-system"]), "{name}");
    }
    let node = Node::new();
    fs::create_dir_all(node.paths.kept_policy().parent().unwrap().parent().unwrap()).unwrap();
    fs::write(node.paths.kept_policy().parent().unwrap(), "in the way").unwrap();
    node.write_policy("mode = 'audit'");
    Node::settle();
    for _ in 0..2 {
        assert_eq!(node.good().mode, Mode::Audit);
        assert!(is_kept(&node.paths).is_err());
    }
    fs::remove_file(node.paths.kept_policy().parent().unwrap()).unwrap();
    assert_eq!(node.good().mode, Mode::Audit);
    assert!(is_kept(&node.paths).is_ok());
}

#[test]
fn an_uninstallation_leaves_of_a_policy_what_there_is_no_second_time() {
    if !root() {
        return;
    }
    let left = |node: &Node| {
        let ours = [node.paths.kept_policy(), node.paths.kept_policy_lock(), node.paths.policy_cache()];
        let_go(&node.paths);
        ours.iter().filter(|path| path.exists()).count()
    };
    let node = Node::with_cache("mode = 'enforce'");
    assert_eq!(left(&node), 0);
    assert_eq!(node.good().mode, Mode::Enforce);
    fs::remove_file(node.paths.policy()).unwrap();
    assert_eq!(left(&node), 3);
    assert_eq!(node.kept().1.mode, Mode::Enforce);
}

#[test]
fn without_a_last_good_policy_only_a_readable_mode_is_kept() {
    if !root() {
        return;
    }
    let rows: &[(&str, &str, Mode)] = &[
        ("the mode can be read", "mode = 'audit'\n[x]", Mode::Audit),
        ("so can this one", "mode = 'enforce'\n[x]", Mode::Enforce),
        ("no mode", "[x]", Mode::Enforce),
        ("a mode that is none", "mode = 'Audit'", Mode::Enforce),
        ("no syntax", "mode = 'audit'\n[", Mode::Enforce),
    ];
    for (name, text, mode) in rows {
        let node = Node::with_policy(text);
        assert_eq!(node.bad().1, salvage(*mode, &["kube-system"]), "{name}");
    }
    // What somebody else can write decides nothing.
    let node = Node::with_policy("mode = 'audit'\n[x]");
    chown(node.paths.policy(), Some(1000), None).unwrap();
    assert_eq!(node.bad().1, salvage(Mode::Enforce, &["kube-system"]));
    // Neither does a damaged cache, nor somebody else's.
    let damages: &[NodeDamage] = &[
        |node| node.edit_cache(|bytes| *bytes.last_mut().unwrap() ^= 1),
        |node| chown(node.paths.policy_cache(), Some(1000), None).unwrap(),
    ];
    for damage in damages {
        let node = Node::with_cache("mode = 'audit'");
        fs::remove_file(node.paths.kept_policy()).unwrap();
        damage(&node);
        fs::remove_file(node.paths.policy()).unwrap();
        let (error, kept) = node.bad();
        assert!(error.contains("is gone, but there was a policy before"), "{error}");
        assert_eq!(kept, salvage(Mode::Enforce, &["kube-system"]));
    }
    // The cache of another version of the program is good enough for that.
    let node = Node::with_cache("mode = 'audit'");
    fs::remove_file(node.paths.kept_policy()).unwrap();
    another_version(&node);
    node.write_policy("[x]");
    assert_eq!(node.bad().1, salvage(Mode::Audit, &["kube-system"]));
    // And a last good text that only another version understands still has a mode.
    let node = Node::with_cache("mode = 'audit'");
    fs::write(node.paths.kept_policy(), "mode = 'audit'\nto-come = 1").unwrap();
    node.reboot();
    node.write_policy("[x]");
    assert_eq!(node.bad().1, salvage(Mode::Audit, &["kube-system"]));
}

/// Whoever checks a file where he works gives its name alone.
#[test]
fn a_name_without_a_folder_is_judged_by_the_folder_it_is_in() {
    if !root() {
        return;
    }
    // Of the package, whose folder tests work in: as it is there, it is a policy's as little as by its whole path.
    let whole = std::path::absolute("Cargo.toml").unwrap();
    let said = [Path::new("Cargo.toml"), &whole].map(|path| would_not_take(path).map(|error| line(&error)));
    assert_eq!(said[0], said[1]);
}
