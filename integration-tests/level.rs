//! What the policy, its cache and the namespace files do on a real disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pss_guard::commands::policy::Subject;
use pss_guard::commands::{self, line};
use pss_guard::level::cache::{Loaded, Salvage, is_kept, let_go, load, load_file, load_fresh, was_there};
use pss_guard::level::date::Date;
use pss_guard::level::namespaces::{self, Imported};
use pss_guard::level::{Found, Mode, Policy};
use pss_guard::paths::Paths;
use tempfile::TempDir;

/// A node's files in a folder that goes away with the test.
struct Node {
    root: TempDir,
    paths: Paths,
}

impl Node {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.policy().parent().unwrap()).unwrap();
        fs::create_dir_all(paths.policy_cache().parent().unwrap()).unwrap();
        Self { root, paths }
    }

    fn with_policy(text: &str) -> Self {
        let node = Self::new();
        node.write_policy(text);
        node
    }

    fn write_policy(&self, text: &str) {
        fs::write(self.paths.policy(), text).unwrap();
        fs::set_permissions(self.paths.policy(), Permissions::from_mode(0o644)).unwrap();
    }

    /// Longer than the clock that file systems stamp with takes to move on.
    fn settle() {
        thread::sleep(Duration::from_millis(80));
    }

    /// A node with a cache that is believed.
    fn with_cache(text: &str) -> Self {
        let node = Self::with_policy(text);
        Self::settle();
        node.good();
        assert!(node.paths.policy_cache().is_file(), "no cache was written");
        node
    }

    fn good(&self) -> Policy {
        match load(&self.paths) {
            Loaded::Good(policy) => policy,
            Loaded::Kept { error, .. } | Loaded::Bad { error, .. } => panic!("{}", line(&error)),
        }
    }

    /// The error, without the folder of this test, and what was saved.
    fn bad(&self) -> (String, Salvage) {
        match load(&self.paths) {
            Loaded::Good(policy) | Loaded::Kept { policy, .. } => panic!("{policy:?}"),
            Loaded::Bad { error, salvage } => (self.shown(&line(&error)), salvage),
        }
    }

    /// The error, without the folder of this test, and the last good policy that judges.
    fn kept(&self) -> (String, Policy) {
        match load(&self.paths) {
            Loaded::Kept { error, policy } => (self.shown(&line(&error)), policy),
            loaded => panic!("{loaded:?}"),
        }
    }

    /// What a boot leaves of the files.
    fn reboot(&self) {
        fs::remove_dir_all(self.paths.policy_cache().parent().unwrap()).unwrap();
    }

    fn shown(&self, text: &str) -> String {
        text.replace(self.root.path().to_str().unwrap(), "")
    }

    /// Replaces the cache's content, but not who owns it or how old it is.
    fn edit_cache(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.paths.policy_cache()).unwrap();
        edit(&mut bytes);
        fs::write(self.paths.policy_cache(), bytes).unwrap();
    }

    /// Proof that the cache is what is read: changes the mode in it, with the right checksum.
    fn forge_mode(&self) {
        self.edit_cache(|bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let (header, body) = text.split_once('\n').unwrap();
            let body = body.replace("\"mode\":\"audit\"", "\"mode\":\"enforce\"");
            let (identity, _) = header.rsplit_once(' ').unwrap();
            *bytes = format!("{identity} {:016x}\n{body}", checksum(body.as_bytes())).into_bytes();
        });
    }

    fn import(&self, text: &str) -> Result<Imported, String> {
        namespaces::import(&mut text.as_bytes(), &self.paths.namespaces(), &self.paths.kept_namespaces())
            .map_err(|error| self.shown(&line(&error)))
    }

    fn read(&self, name: &str) -> Result<Found<'static>, String> {
        namespaces::read(&self.paths.namespaces(), name).map_err(|error| self.shown(&line(&error)))
    }

    /// The names in the folder of namespaces, sorted.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.paths.namespaces()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The cache's own sum, written down a second time.
fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).flat_map(|chunk| match <[u8; 8]>::try_from(chunk) {
        Ok(word) => vec![u64::from_le_bytes(word)],
        Err(_) => chunk.iter().map(|byte| u64::from(*byte)).collect(),
    });
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x100_0000_01b3))
}

/// Something that happens to a node.
type NodeDamage = fn(&Node);

/// Something that happens to a file.
type Damage = fn(&Path);

/// Files count only if root owns them. As another user nothing but that can be tested.
fn root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("SKIPPED: this test needs root, because only root's files are believed");
        let node = Node::with_policy("");
        let (error, salvage) = node.bad();
        assert!(error.contains("must be owned by root"), "{error}");
        assert_eq!(salvage.mode, Mode::Enforce);
    }
    root
}

fn salvage(mode: Mode, namespaces: &[&str]) -> Salvage {
    Salvage { mode, exempt_namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect() }
}

fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
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
        ("truncated, but for blank lines", |path| fs::write(path, "\n \t\r\n").unwrap(), EMPTY),
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

const GONE: &str = "/etc/pss-guard/policy.toml is gone, but there was a policy before; restore it (the last good policy is /var/lib/pss-guard/policy.toml), or run `pss-guard policy remove` to continue with the built-in defaults";

const EMPTY: &str = "/etc/pss-guard/policy.toml is empty, but there was a policy before; write it again (the last good \
                     text is /var/lib/pss-guard/policy.toml), or run `pss-guard policy remove` to go on with the \
                     built-in defaults";

/// Nobody is told that a policy is lost which never said anything.
#[test]
fn an_empty_policy_is_as_good_as_none_and_is_never_the_last_good_one() {
    if !root() {
        return;
    }
    let node = Node::with_policy("");
    assert_eq!(node.good().mode, Policy::default().mode);
    assert!(!was_there(&node.paths));
    assert!(is_kept(&node.paths).is_ok());
    fs::remove_file(node.paths.policy()).unwrap();
    assert_eq!(node.good(), Policy::default());
    // A comment is something that somebody wrote, and so are all the defaults that it leaves in force.
    fs::write(node.paths.policy(), "# The defaults will do.\n").unwrap();
    assert_eq!(node.good().mode, Mode::Audit);
    assert!(was_there(&node.paths));
    fs::write(node.paths.policy(), "").unwrap();
    assert_eq!(node.kept().0, EMPTY);
    for path in [None, Some(node.paths.policy())] {
        let checked = path.map_or_else(
            || load_fresh(&node.paths).map(drop),
            |path| load_file(&node.paths, &path).map(drop),
        );
        assert!(checked.is_err(), "`policy check` must not call it valid");
    }
}

/// The cache is one of another version of the program.
fn another_version(node: &Node) {
    node.edit_cache(|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let own = concat!(" ", env!("CARGO_PKG_VERSION"), " ");
        assert!(text.contains(own), "{text}");
        *bytes = text.replacen(own, " 0.0.1 ", 1).into_bytes();
    });
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
fn only_its_removal_ends_a_policy() {
    if !root() {
        return;
    }
    let node = Node::with_cache("mode = 'enforce'");
    let remove = |yes| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = commands::policy::remove(&node.paths, "new node", yes, &mut out, &mut err);
        (code, node.shown(&String::from_utf8([out, err].concat()).unwrap()))
    };
    // Tests have no terminal.
    let (code, said) = remove(false);
    assert_eq!(code, 1, "{said}");
    assert_eq!(node.good().mode, Mode::Enforce);
    fs::remove_file(node.paths.policy()).unwrap();
    node.reboot();
    assert_eq!(node.kept().1.mode, Mode::Enforce);
    let (code, said) = remove(true);
    let expected = "removed /var/lib/pss-guard/policy.toml\nthe built-in defaults apply; the mode is audit\n";
    assert_eq!((code, &*said), (0, expected));
    assert_eq!(node.good(), Policy::default());
    let events = fs::read_to_string(node.paths.decisions()).unwrap();
    assert!(
        events.contains("mode audit: the policy was removed by") && events.contains("new node"),
        "{events}"
    );
    assert_eq!(remove(true), (0, "there is no policy; the built-in defaults apply\n".to_owned()));
    // It ends one that is there, too.
    node.write_policy("mode = 'enforce'");
    node.good();
    assert_eq!(remove(true).0, 0);
    assert_eq!(node.good(), Policy::default());
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

const TWO: &str = r#"{"apiVersion":"v1","kind":"List","items":[
    {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"team":"a",
        "pod-security.kubernetes.io/enforce":"baseline","pod-security.kubernetes.io/enforce-version":"v1.30"}},
     "spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}},
    {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bare"}}],
    "metadata":{"resourceVersion":""}}"#;

fn list(names: &[&str], enforce: &str) -> String {
    let item = |name: &&str| {
        format!(
            r#"{{"kind":"Namespace","metadata":{{"name":"{name}","labels":{{"pod-security.kubernetes.io/enforce":"{enforce}"}}}}}}"#
        )
    };
    let items: Vec<String> = names.iter().map(item).collect();
    format!(r#"{{"kind":"List","items":[{}]}}"#, items.join(","))
}

#[test]
fn an_import_says_which_labels_have_values_that_do_not_exist() {
    if !root() {
        return;
    }
    let node = Node::new();
    let imported = node.import(&list(&["shop", "web"], "restrictd")).unwrap();
    assert_eq!(imported.namespaces, 2);
    let expected =
        "namespace \"shop\": label pod-security.kubernetes.io/enforce has the invalid value \"restrictd\"";
    assert_eq!(imported.invalid.first().map(String::as_str), Some(expected));
    assert_eq!(imported.invalid.len(), 2);
    assert_eq!(node.import(&list(&["shop"], "baseline")).unwrap().invalid, Vec::<String>::new());
}

#[test]
fn an_import_makes_the_folder_say_what_the_list_says() {
    if !root() {
        return;
    }
    let node = Node::new();
    let dir = node.paths.namespaces();
    assert_eq!(node.read("shop"), Ok(Found::NoFolder));
    assert_eq!(node.import(TWO).unwrap().to_string(), "imported 2 namespaces (2 changed, 0 removed)");
    assert_eq!(node.names(), ["bare.json", "shop.json"]);
    let shop = dir.join("shop.json");
    assert_eq!(
        fs::read_to_string(&shop).unwrap(),
        "{\"pod-security.kubernetes.io/enforce\":\"baseline\",\"pod-security.kubernetes.io/enforce-version\":\"v1.30\"}\n"
    );
    assert_eq!(fs::read_to_string(dir.join("bare.json")).unwrap(), "{}\n");
    assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(shop.metadata().unwrap().mode() & 0o7777, 0o644);
    let Ok(Found::Labels { labels, path }) = node.read("shop") else { panic!() };
    assert_eq!(labels.values(), [Some("baseline"), Some("v1.30"), None, None, None, None]);
    assert_eq!(path, shop);
    assert_eq!(node.read("gone"), Ok(Found::Missing));

    // The same once more writes nothing, not even the same bytes; but it is known when that was.
    let inode = shop.metadata().unwrap().ino();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(&dir).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(
        node.import(TWO).unwrap(),
        Imported { namespaces: 2, changed: 0, removed: 0, ..Imported::default() }
    );
    assert_eq!(shop.metadata().unwrap().ino(), inode);
    assert!(dir.metadata().unwrap().modified().unwrap() > long_ago);

    // Namespaces that are gone go, files that are not ours stay.
    for other in ["README", "Not-A-Label.json", ".hidden.json", "shop.json.bak"] {
        fs::write(dir.join(other), "x").unwrap();
    }
    let one = list(&["bare"], "restricted");
    assert_eq!(node.import(&one).unwrap().to_string(), "imported 1 namespace (1 changed, 1 removed)");
    assert_eq!(node.names(), [".hidden.json", "Not-A-Label.json", "README", "bare.json", "shop.json.bak"]);

    // What somebody else wrote or damaged is written anew.
    chown(dir.join("bare.json"), Some(1000), None).unwrap();
    assert!(node.read("bare").unwrap_err().contains("must be owned by root"));
    assert_eq!(node.import(&one).unwrap().changed, 1);
    assert!(node.read("bare").is_ok());
    fs::remove_file(dir.join("bare.json")).unwrap();
    symlink("/etc/passwd", dir.join("bare.json")).unwrap();
    assert_eq!(node.import(&one).unwrap().changed, 1);
    assert!(dir.join("bare.json").symlink_metadata().unwrap().is_file());
}

#[test]
fn every_shape_that_the_api_server_prints_is_read() {
    if !root() {
        return;
    }
    for (text, expected) in [
        (r#"{"kind":"Namespace","metadata":{"name":"a"}}"#, vec!["a.json"]),
        (
            r#"{"kind":"NamespaceList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a","labels":null}}]}"#,
            vec!["a.json"],
        ),
        (
            r#"{"kind":"NamespaceList","metadata":{"continue":""},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#,
            vec!["a.json", "b.json"],
        ),
        (
            r#"{"items":[{"kind":"Namespace","metadata":{"labels":{"x":"y"},"name":"a"}}],"kind":"List"}"#,
            vec!["a.json"],
        ),
    ] {
        let node = Node::new();
        assert!(node.import(text).is_ok(), "{text}: {:?}", node.import(text));
        assert_eq!(node.names(), expected, "{text}");
    }
}

#[test]
fn what_is_no_list_of_namespaces_changes_nothing() {
    if !root() {
        return;
    }
    let named = |name: &str| {
        format!(r#"{{"kind":"List","items":[{{"kind":"Namespace","metadata":{{"name":"{name}"}}}}]}}"#)
    };
    let too_long = "a".repeat(64);
    let twice = list(&["a", "b", "a"], "baseline");
    let rows: &[(&str, &str)] = &[
        ("", "standard input is empty (did kubectl fail?); nothing was changed"),
        (" \n", "standard input is empty (did kubectl fail?); nothing was changed"),
        (
            "No resources found",
            "parse the output of kubectl get namespaces -o json; nothing was changed: expected value at line 1 column 1",
        ),
        (
            "{}",
            "expected the output of kubectl get namespaces -o json, but got an object without kind; nothing was changed",
        ),
        (
            r#"{"kind":"PodList","items":[]}"#,
            "expected the output of kubectl get namespaces -o json, but got kind \"PodList\"; nothing was changed",
        ),
        (
            r#"{"kind":"List","items":[{"kind":"Pod","metadata":{"name":"a"}}]}"#,
            "expected the output of kubectl get namespaces -o json, but got kind \"Pod\"; nothing was changed",
        ),
        (
            r#"{"kind":"List","items":[{"metadata":{"name":"a"}}]}"#,
            "expected the output of kubectl get namespaces -o json, but got an object without kind; nothing was changed",
        ),
        (
            r#"{"kind":"List"}"#,
            "expected the output of kubectl get namespaces -o json, but got kind \"List\"; nothing was changed",
        ),
        (
            r#"{"kind":"List","items":[]}"#,
            "the list has no namespaces (is the cluster reachable, and may this user list them?); nothing was changed",
        ),
        (
            r#"{"kind":"NamespaceList","metadata":{"continue":"abc"},"items":[{"metadata":{"name":"a"}}]}"#,
            "the list is one page of several; use kubectl get namespaces -o json, which fetches all; nothing was changed",
        ),
        (
            r#"{"kind":"NamespaceList","metadata":{"remainingItemCount":3},"items":[{"metadata":{"name":"a"}}]}"#,
            "the list is one page of several; use kubectl get namespaces -o json, which fetches all; nothing was changed",
        ),
        (
            &named("../x"),
            "\"../x\" cannot be the name of a namespace: it is not a DNS label; nothing was changed",
        ),
        (&named("A"), "\"A\" cannot be the name of a namespace: it is not a DNS label; nothing was changed"),
        (&named(""), "\"\" cannot be the name of a namespace: it is not a DNS label; nothing was changed"),
        (
            &named("a\\u0000"),
            "\"a\\0\" cannot be the name of a namespace: it is not a DNS label; nothing was changed",
        ),
        (
            &named(&too_long),
            &format!(
                "\"{too_long}\" cannot be the name of a namespace: it is not a DNS label; nothing was changed"
            ),
        ),
        (&twice, "namespace \"a\" is in the list twice; nothing was changed"),
        (
            r#"{"kind":"Namespace","metadata":{"name":"a","labels":{"pod-security.kubernetes.io/enforce":null}}}"#,
            "parse the output of kubectl get namespaces -o json; nothing was changed: invalid type: null, expected a string at line 1 column 94",
        ),
        (
            r#"{"kind":"Namespace","metadata":{"name":"a","labels":{"pod-security.kubernetes.io/warn":"a","pod-security.kubernetes.io/warn":"b"}}}"#,
            "parse the output of kubectl get namespaces -o json; nothing was changed: \"pod-security.kubernetes.io/warn\" appears twice at line 1 column 124",
        ),
    ];
    let node = Node::new();
    node.import(TWO).unwrap();
    for (text, expected) in rows {
        assert_eq!(node.import(text), Err((*expected).to_owned()), "{text}");
        assert_eq!(node.names(), ["bare.json", "shop.json"], "{text}");
    }
    let nested = format!("{}{}", r#"{"kind":"List","items":"#, "[".repeat(100_000));
    assert!(node.import(&nested).is_err());
    // Not even the folder is made for it.
    let fresh = Node::new();
    assert!(fresh.import("{}").is_err());
    assert!(!fresh.paths.namespaces().exists());
}

/// Row 21 of the attacks: `kubectl get namespace shop -o json | pss-guard namespaces import` used to drop all others.
#[test]
fn one_object_updates_one_namespace_and_a_part_of_a_list_none() {
    if !root() {
        return;
    }
    let node = Node::new();
    let (live, kept) = (node.paths.namespaces(), node.paths.kept_namespaces());
    let one = |name: &str, enforce: &str| {
        let list: serde_json::Value = serde_json::from_str(&list(&[name], enforce)).unwrap();
        list["items"][0].to_string()
    };
    let level = |name: &str| match node.read(name) {
        Ok(Found::Labels { labels, .. }) => {
            labels.enforce.map(std::borrow::Cow::into_owned).unwrap_or_default()
        }
        other => format!("{other:?}"),
    };
    let said = |text: &str| node.import(text).map(|done| done.to_string());
    assert_eq!(said(&one("shop", "baseline")).unwrap(), "updated 1 namespace; this node knows no other");
    let all = ["default", "kube-public", "kube-system", "pay", "shop"];
    let done = said(&list(&all, "restricted")).unwrap();
    assert_eq!(done, "imported 5 namespaces (5 changed, 0 removed)");
    // Its time tells of the last list.
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(&live).unwrap().set_modified(long_ago).unwrap();
    let more = "; this node knows 4 more, which are unchanged";
    assert_eq!(said(&one("shop", "baseline")).unwrap(), format!("updated 1 namespace{more}"));
    assert_eq!(said(&one("shop", "baseline")).unwrap(), format!("1 namespace is unchanged{more}"));
    assert_eq!((level("shop"), level("pay")), ("baseline".to_owned(), "restricted".to_owned()));
    assert_eq!(live.metadata().unwrap().modified().unwrap(), long_ago);
    // And the next boot knows the same, whatever the copy was like.
    fs::remove_dir_all(&kept).unwrap();
    node.import(&one("shop", "privileged")).unwrap();
    for name in all {
        let [live, kept] = [&live, &kept].map(|dir| fs::read(dir.join(format!("{name}.json"))).unwrap());
        assert_eq!(live, kept, "{name}");
    }
    // What several names or a selector print is a list, too; nobody can delete what it lacks.
    for part in [&["pay", "shop"][..], &["pay"], &["default", "kube-public", "pay"]] {
        let lacks = if part.len() == 3 { "kube-system" } else { "default" };
        let expected = format!(
            "the list lacks namespace \"{lacks}\", which cannot be deleted, so the list is incomplete; import all \
             namespaces, or one at a time; nothing was changed"
        );
        assert_eq!(said(&list(part, "privileged")), Err(expected), "{part:?}");
        assert_eq!(node.names().len(), 5, "{part:?}");
    }
    assert_eq!(said(&list(&all[..4], "restricted")).unwrap(), "imported 4 namespaces (0 changed, 1 removed)");
    // What cannot be read cannot be kept: only a list says what it should be.
    fs::write(live.join("pay.json"), "[").unwrap();
    let error = said(&one("shop", "baseline")).unwrap_err();
    assert!(
        error.starts_with("keep the levels of the other namespaces; import all of them; nothing was"),
        "{error}"
    );
    assert!(said(&list(&all, "restricted")).is_ok());
}

#[test]
fn what_was_imported_is_kept_for_the_next_boot() {
    if !root() {
        return;
    }
    let node = Node::new();
    let kept = node.paths.kept_namespaces();
    let same = || {
        for name in node.names() {
            let [live, kept] =
                [node.paths.namespaces(), kept.clone()].map(|dir| fs::read(dir.join(&name)).unwrap());
            assert_eq!(live, kept, "{name}");
        }
        assert_eq!(fs::read_dir(&kept).unwrap().count(), node.names().len());
        assert_eq!(kept.metadata().unwrap().mode() & 0o7777, 0o755);
    };
    node.import(TWO).unwrap();
    same();
    node.import(&list(&["shop"], "restricted")).unwrap();
    assert_eq!(node.names(), ["shop.json"]);
    same();
    // What cannot be kept holds all the same.
    fs::remove_dir_all(&kept).unwrap();
    fs::write(&kept, "").unwrap();
    let error = node.import(&list(&["shop"], "privileged")).unwrap_err();
    let expected = "the namespaces were imported, but cannot be saved for the next boot; import them again after it: \
                    create /var/lib/pss-guard/namespaces: Not a directory";
    assert_eq!(error, expected);
    let read = node.read("shop");
    let Ok(Found::Labels { labels, .. }) = read else { panic!("{read:?}") };
    assert_eq!(labels.enforce.as_deref(), Some("privileged"));
}

#[test]
fn imports_at_once_leave_what_one_of_them_wanted() {
    if !root() {
        return;
    }
    let node = Node::new();
    let left: Vec<String> =
        (0..40).map(|number| format!("left-{number}")).chain(["both".to_owned()]).collect();
    let right: Vec<String> =
        (0..40).map(|number| format!("right-{number}")).chain(["both".to_owned()]).collect();
    let text = |names: &[String]| list(&names.iter().map(String::as_str).collect::<Vec<_>>(), "baseline");
    let lists = [text(&left), text(&right)];
    let (stop, dir) = (std::sync::atomic::AtomicBool::new(false), node.paths.namespaces());
    thread::scope(|scope| {
        let importers: Vec<_> = (0..4)
            .map(|importer| {
                let (node, text) = (&node, &lists[importer % 2]);
                scope.spawn(move || {
                    (0..10).for_each(|_| assert_eq!(node.import(text).unwrap().namespaces, 41));
                })
            })
            .collect();
        // A start in the middle of it sees a namespace of both lists whole, from the first import on.
        scope.spawn(|| {
            let mut seen = false;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                match namespaces::read(&dir, "both").unwrap() {
                    Found::Labels { labels, .. } => {
                        assert_eq!(labels.enforce.as_deref(), Some("baseline"));
                        seen = true;
                    }
                    other => assert!(!seen && other == Found::NoFolder, "{other:?}"),
                }
            }
            assert!(seen);
        });
        let done: Vec<_> = importers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(done.iter().all(Result::is_ok));
    });
    let files = |names: &[String]| {
        let mut files: Vec<String> = names.iter().map(|name| format!("{name}.json")).collect();
        files.sort();
        files
    };
    let names = node.names();
    assert!(names == files(&left) || names == files(&right), "{names:?}");
}

#[test]
fn the_first_import_appears_as_a_whole() {
    if !root() {
        return;
    }
    let node = Node::new();
    let dir = node.paths.namespaces();
    let names: Vec<String> = (0..1000).map(|number| format!("n-{number}")).chain(["z".to_owned()]).collect();
    let text = list(&names.iter().map(String::as_str).collect::<Vec<_>>(), "baseline");
    thread::scope(|scope| {
        let import = scope.spawn(|| node.import(&text).unwrap());
        // The last to be written: in a folder that is not full yet it would be an unknown namespace.
        let mut seen = Found::NoFolder;
        while seen == Found::NoFolder && !import.is_finished() {
            seen = namespaces::read(&dir, "z").unwrap();
        }
        assert!(matches!(seen, Found::Labels { .. } | Found::NoFolder), "{seen:?}");
        assert_eq!(import.join().unwrap().changed, 1001);
    });
    assert!(matches!(node.read("z"), Ok(Found::Labels { .. })));

    // What an import that was killed left behind is not in the way.
    let half = Node::new();
    fs::create_dir(half.paths.namespaces().with_extension("new")).unwrap();
    fs::write(half.paths.namespaces().with_extension("new").join("stale.json"), "{}").unwrap();
    assert_eq!(
        half.import(TWO).unwrap(),
        Imported { namespaces: 2, changed: 2, removed: 0, ..Imported::default() }
    );
    assert_eq!(half.names(), ["bare.json", "shop.json"]);
    fs::create_dir(half.paths.namespaces().join(".new")).unwrap();
    fs::write(half.paths.namespaces().join(".new/bare.json"), "x").unwrap();
    assert_eq!(half.import(&list(&["bare"], "baseline")).unwrap().changed, 1);
    assert_eq!(half.names(), ["bare.json"]);
}

#[test]
fn a_namespace_file_that_is_not_exactly_right_is_a_fault() {
    if !root() {
        return;
    }
    let rows: &[(&str, Damage, &str)] = &[
        (
            "empty",
            |path| fs::write(path, "").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): EOF while parsing a value at line 1 column 0",
        ),
        (
            "no object",
            |path| fs::write(path, "[]").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): invalid type: sequence, expected an object of labels at line 1 column 0",
        ),
        (
            "null",
            |path| fs::write(path, "null").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): invalid type: null, expected an object of labels at line 1 column 4",
        ),
        (
            "another key",
            |path| fs::write(path, r#"{"enforce":"baseline"}"#).unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): \"enforce\" is not a Pod Security label at line 1 column 10",
        ),
        (
            "another type",
            |path| fs::write(path, r#"{"pod-security.kubernetes.io/enforce":1}"#).unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): invalid type: integer `1`, expected a string at line 1 column 39",
        ),
        (
            "twice",
            |path| {
                fs::write(
                    path,
                    r#"{"pod-security.kubernetes.io/enforce":"a","pod-security.kubernetes.io/enforce":"b"}"#,
                )
                .unwrap();
            },
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): \"pod-security.kubernetes.io/enforce\" appears twice at line 1 column 78",
        ),
        (
            "more behind it",
            |path| fs::write(path, "{} {}").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): trailing characters at line 1 column 4",
        ),
        (
            "large",
            |path| fs::write(path, " ".repeat((64 << 10) + 1)).unwrap(),
            "FILE is larger than 65536 bytes",
        ),
        (
            "somebody's",
            |path| chown(path, Some(1000), None).unwrap(),
            "FILE must be owned by root, but is owned by uid 1000; chown root:root FILE",
        ),
        (
            "writable",
            |path| fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap(),
            "FILE must be writable by root alone, but its mode is 0666; chmod go-w FILE",
        ),
        (
            "a link",
            |path| {
                fs::rename(path, path.with_extension("moved")).unwrap();
                symlink(path.with_extension("moved"), path).unwrap();
            },
            "FILE must be a regular file, but is a symbolic link",
        ),
        (
            "a FIFO",
            |path| {
                fs::remove_file(path).unwrap();
                make_fifo(path);
            },
            "FILE must be a regular file, but is a FIFO",
        ),
        (
            "a folder",
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "FILE must be a regular file, but is a directory",
        ),
        (
            "a folder that others can write to",
            |path| fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap(),
            "/run/pss-guard/namespaces must be writable by root alone, but its mode is 0777; chmod go-w /run/pss-guard/namespaces",
        ),
        (
            "a file in the folder's place",
            |path| {
                fs::remove_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path.parent().unwrap(), "").unwrap();
            },
            "/run/pss-guard/namespaces must be a directory, but is a regular file",
        ),
    ];
    for (name, damage, expected) in rows {
        let node = Node::new();
        node.import(TWO).unwrap();
        damage(&node.paths.namespaces().join("shop.json"));
        let expected = expected.replace("FILE", "/run/pss-guard/namespaces/shop.json");
        assert_eq!(node.read("shop"), Err(expected), "{name}");
    }
}

#[test]
fn a_name_that_is_no_dns_label_never_becomes_a_path() {
    if !root() {
        return;
    }
    let node = Node::new();
    node.import(TWO).unwrap();
    fs::write(node.paths.namespaces().parent().unwrap().join("x.json"), "{}").unwrap();
    let long = "a".repeat(64);
    for name in ["../x", "..", "", "/etc/passwd", "shop/../shop", "Shop", "shop\0", "shop\n", &long] {
        let expected = format!("{name:?} cannot be the name of a namespace: it is not a DNS label");
        assert_eq!(node.read(name), Err(expected), "{name:?}");
    }
    // The error itself stays short.
    assert!(node.read(&"/".repeat(100_000)).unwrap_err().len() < 200);
}

fn run(command: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> u8) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = command(&mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn policy_check_says_whom_an_exception_names_and_what_it_leaves_in_force() {
    if !root() {
        return;
    }
    let exception = |names: &str, controls: &str| {
        format!(
            "[[exceptions]]\nnamespace = 'shop'\n{names}\ncontrols = [{controls}]\nreason = 'why'\nexpires = 2099-01-01\n"
        )
    };
    let text = [
        exception("owner = 'web'\nimage = 'quay.io/a/b'", "'restrictedVolumes'"),
        exception("pod = 'db-0'\ncontainer = 'db'", "'restrictedVolumes', 'hostPathVolumes'"),
    ]
    .concat();
    let node = Node::with_policy(&text);
    let today: Date = "2027-06-01".parse().unwrap();
    let (code, out, err) = run(|out, err| commands::policy::check(&node.paths, None, today, out, err));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let shown = out.split_once("exceptions ").unwrap().1;
    let expected = "       2
                    shop/* (owner web, image quay.io/a/b): restrictedVolumes (\"why\"), until 2099-01-01
                      leaves hostPathVolumes in force
                    shop/db (pod db-0): restrictedVolumes, hostPathVolumes (\"why\"), until 2099-01-01
";
    assert_eq!(shown, expected);
}

#[test]
fn policy_check_says_what_a_policy_means() {
    if !root() {
        return;
    }
    let exception = |container: &str, expires: &str| {
        format!(
            "[[exceptions]]\nnamespace = 'shop'\n{container}\ncontrols = ['sysctls']\nreason = 'why'\nexpires = {expires}\n"
        )
    };
    let text = [
        "mode = 'enforce'\n[exemptions]\nnamespaces = ['kube-system', 'ops']\nruntime-classes = ['kata']\n",
        "[namespaces.shop]\nenforce = 'baseline'\n[node]\nseccomp-default = true\nnot-host-paths = ['/opt/x']\n",
        &exception("container = 'web'", "2027-05-31"),
        &exception("", "2027-06-01"),
        &exception("", "2027-06-02"),
        &exception("", "2027-07-01"),
        &exception("", "2027-07-02"),
    ]
    .concat();
    let node = Node::with_policy(&text);
    let today: Date = "2027-06-01".parse().unwrap();
    let expected = "\
valid
  mode              enforce: what violates the enforce level is stopped
  latest            v1.37
  defaults          enforce privileged:latest, audit restricted:latest, warn restricted:latest
  unmanaged         enforce privileged:latest, audit privileged:latest, warn privileged:latest
  namespaces        shop
  exempt            kube-system, ops
                    runtime classes: kata
  pod annotations   tighten, floor privileged
  unknown namespace defaults
  on fault          deny (in enforce mode; audit mode never stops anything)
  on suspect        audit
  log allowed       no
  controls          readOnlyRootFilesystem enforce
  node              kubelet /var/lib/kubelet, seccomp default on, AppArmor auto
                    no host paths: /opt/x
  runtime           /usr/sbin/runc
  exceptions        5
                    shop/web: sysctls (\"why\"), expired on 2027-05-31
                    shop/*: sysctls (\"why\"), expires today (2027-06-01)
                    shop/*: sysctls (\"why\"), expires in 1 day (2027-06-02)
                    shop/*: sysctls (\"why\"), expires in 30 days (2027-07-01)
                    shop/*: sysctls (\"why\"), until 2027-07-02
";
    let check = |file: Option<PathBuf>| {
        run(|out, err| commands::policy::check(&node.paths, file.as_deref(), today, out, err))
    };
    assert_eq!(check(None), (0, expected.to_owned(), String::new()));
    assert_eq!(check(Some(node.paths.policy())), (0, expected.to_owned(), String::new()));

    // Another file may be anybody's, the node's own may not.
    let draft = node.root.path().join("draft.toml");
    fs::copy(node.paths.policy(), &draft).unwrap();
    chown(&draft, Some(1000), None).unwrap();
    assert_eq!(check(Some(draft.clone())).0, 0);
    chown(node.paths.policy(), Some(1000), None).unwrap();
    let (code, out, err) = check(None);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(node.shown(&err).contains("/etc/pss-guard/policy.toml must be owned by root"), "{err}");
    fs::write(&draft, "mode = 'enforce'\nenforce = 1").unwrap();
    let (code, out, err) = check(Some(draft.clone()));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(node.shown(&err).starts_with("pss-guard: /draft.toml:2:1: unknown key \"enforce\"; "), "{err}");
    // All mistakes at once, in the order of the file.
    fs::write(
        &draft,
        "mode = 'off'\n[defaults]\nenforce = 'restrictd'\naudit = 1\n[cluster]\nversio = 'v1.30'\n",
    )
    .unwrap();
    let (code, _, err) = check(Some(draft.clone()));
    let places: Vec<&str> = err.lines().map(|line| line.rsplit_once("/draft.toml:").unwrap().1).collect();
    let places: Vec<&str> = places.iter().map(|place| place.split_once(": ").unwrap().0).collect();
    assert_eq!((code, places), (2, vec!["1:8", "3:11", "4:9", "6:1"]), "{err}");
    // What a node would not take is said where it is said by root.
    fs::write(&draft, "mode = 'audit'").unwrap();
    let (code, out, err) = check(Some(draft));
    assert!(code == 0 && out.starts_with("valid\n"), "{out}");
    assert!(
        err.contains("a node would reject this file as it is: ") && err.contains("chown root:root"),
        "{err}"
    );

    let fresh = Node::new();
    let (code, out, _) = run(|out, err| commands::policy::check(&fresh.paths, None, today, out, err));
    assert_eq!(code, 0);
    assert!(
        fresh.shown(&out).starts_with("no /etc/pss-guard/policy.toml: the built-in defaults apply\n"),
        "{out}"
    );
}

#[test]
fn policy_show_says_which_level_holds_and_because_of_what() {
    if !root() {
        return;
    }
    let node = Node::with_policy("on-unknown-namespace = 'deny'\n[unmanaged]\naudit = 'baseline'");
    node.import(TWO).unwrap();
    let (code, out, err) = run(|out, err| commands::policy::show(&node.paths, Subject::All, &[], out, err));
    let expected = "\
namespace    enforce            audit              warn               enforce level from
bare         privileged:latest  restricted:latest  restricted:latest  [defaults] of /etc/pss-guard/policy.toml
kube-system  exempt             exempt             exempt             [exemptions]
shop         baseline:v1.30     restricted:latest  restricted:latest  namespace \"shop\" (/run/pss-guard/namespaces/shop.json)
(any other)  denied             denied             denied             on-unknown-namespace
(unmanaged)  privileged:latest  baseline:latest    privileged:latest  [unmanaged] of /etc/pss-guard/policy.toml
";
    assert_eq!((code, &*node.shown(&out), &*err), (0, expected, ""));
    // A typo gets an answer, and is said to be none of the cluster's.
    let lenient = Node::with_policy("");
    lenient.import(TWO).unwrap();
    for (name, said) in
        [("shopp", "namespace \"shopp\" is not known on this node"), ("shop", ""), ("kube-system", "")]
    {
        let (code, _, err) =
            run(|out, err| commands::policy::show(&lenient.paths, Subject::Namespace(name), &[], out, err));
        assert!(code == 0 && err.contains(said) && err.is_empty() == said.is_empty(), "{name}: {err}");
    }
    let show = |subject, annotations: &[&str]| {
        let annotations: Vec<String> = annotations.iter().map(|pair| (*pair).to_owned()).collect();
        let (code, out, err) =
            run(|out, err| commands::policy::show(&node.paths, subject, &annotations, out, err));
        (code, node.shown(&format!("{out}{err}")))
    };
    let rows: &[(Subject<'_>, &[&str], u8, &str)] = &[
        (
            Subject::Namespace("shop"),
            &["pod-security.kubernetes.io/enforce=restricted"],
            0,
            "\
enforce  baseline:v1.30     level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)
  and    restricted:v1.30   level from pod annotation pod-security.kubernetes.io/enforce
audit    restricted:latest  level from [defaults] of /etc/pss-guard/policy.toml
warn     restricted:latest  level from [defaults] of /etc/pss-guard/policy.toml
",
        ),
        (
            Subject::Unmanaged,
            &[],
            0,
            "\
enforce  privileged:latest  level from [unmanaged] of /etc/pss-guard/policy.toml
audit    baseline:latest    level from [unmanaged] of /etc/pss-guard/policy.toml
warn     privileged:latest  level from [unmanaged] of /etc/pss-guard/policy.toml
",
        ),
        (
            Subject::Namespace("kube-system"),
            &[],
            0,
            "exempt: namespace \"kube-system\" is exempt; nothing is evaluated\n",
        ),
        (
            Subject::Namespace("new"),
            &[],
            0,
            "denied: namespace \"new\" is not in /run/pss-guard/namespaces, and on-unknown-namespace is \"deny\"\n",
        ),
        (
            Subject::Namespace("../x"),
            &[],
            2,
            "pss-guard: \"../x\" cannot be the name of a namespace: it is not a DNS label\n",
        ),
        (
            Subject::Namespace("shop"),
            &["enforce"],
            2,
            "pss-guard: --pod-annotation \"enforce\" must be KEY=VALUE\n",
        ),
        (
            Subject::Namespace("shop"),
            &["enforce=baseline"],
            2,
            "pss-guard: --pod-annotation \"enforce\" sets no level; those that do are pod-security.kubernetes.io/enforce, \
             pod-security.kubernetes.io/enforce-version, pod-security.kubernetes.io/audit, \
             pod-security.kubernetes.io/audit-version, pod-security.kubernetes.io/warn, \
             pod-security.kubernetes.io/warn-version\n",
        ),
    ];
    for (subject, annotations, code, expected) in rows {
        assert_eq!(
            show(*subject, annotations),
            (*code, (*expected).to_owned()),
            "{subject:?} {annotations:?}"
        );
    }
}

#[test]
fn namespaces_import_prints_what_it_did_or_why_it_did_nothing() {
    if !root() {
        return;
    }
    let node = Node::new();
    let import = |text: &str| {
        run(|out, err| commands::namespaces::import(&node.paths, &mut text.as_bytes(), out, err))
    };
    assert_eq!(import(TWO), (0, "imported 2 namespaces (2 changed, 0 removed)\n".to_owned(), String::new()));
    let one = r#"{"kind":"Namespace","metadata":{"name":"bare","labels":{}}}"#;
    let said = "1 namespace is unchanged; this node knows 1 more, which are unchanged\n";
    assert_eq!(import(one), (0, said.to_owned(), String::new()));
    let nothing = "pss-guard: the list has no namespaces (is the cluster reachable, and may this user list them?); nothing was changed\n";
    assert_eq!(import(r#"{"kind":"List","items":[]}"#), (2, String::new(), nothing.to_owned()));
}
