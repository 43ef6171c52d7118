//! What do imports leave in the folder of namespaces, and when is a file of it believed?

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::thread;

use pss_guard_core::level::namespaces::{self, Imported, Store};
use pss_guard_core::level::{Labels, NamespaceLabels};

use crate::node::{Damage, Node, make_fifo, root};

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
    assert_eq!(node.read("shop"), Ok(NamespaceLabels::NoFolder));
    // As the kubelet makes it when it mounts it into the agent's container, and as it is while the agent writes its first list.
    fs::create_dir_all(&dir).unwrap();
    assert_eq!(node.read("shop"), Ok(NamespaceLabels::NoFolder));
    fs::write(dir.join(".lock"), "").unwrap();
    fs::create_dir(dir.join(".new")).unwrap();
    assert_eq!(node.read("shop"), Ok(NamespaceLabels::NoFolder));
    fs::remove_dir_all(&dir).unwrap();
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
    let Ok(NamespaceLabels::Labels { labels, path }) = node.read("shop") else { panic!() };
    assert_eq!(labels.values(), [Some("baseline"), Some("v1.30"), None, None, None, None]);
    assert_eq!(path, shop);
    assert_eq!(node.read("gone"), Ok(NamespaceLabels::Missing));

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
            "parse the output of kubectl get namespaces -o json; nothing was changed: \
             \"pod-security.kubernetes.io/warn\" appears twice at line 1 column 124",
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
        Ok(NamespaceLabels::Labels { labels, .. }) => {
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
            "the list lacks namespace \"{lacks}\", which cannot be deleted, so the list is incomplete; \
             import all namespaces, or one at a time; nothing was changed"
        );
        assert_eq!(said(&list(part, "privileged")), Err(expected), "{part:?}");
        assert_eq!(node.names().len(), 5, "{part:?}");
    }
    assert_eq!(said(&list(&all[..4], "restricted")).unwrap(), "imported 4 namespaces (0 changed, 1 removed)");
    // A file that cannot be read is a fault until a list says what it should be, and is in no other's way.
    fs::write(live.join("pay.json"), "[").unwrap();
    assert_eq!(said(&one("shop", "privileged")).unwrap(), format!("updated 1 namespace{more}"));
    assert_eq!((level("shop"), node.read("pay").is_err()), ("privileged".to_owned(), true));
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
        let files = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name());
        let files = files.filter(|name| name != ".lock");
        assert_eq!(files.count(), node.names().len());
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
    let expected = "the namespaces were imported, but cannot be saved for the next boot; import them again \
                    after it: create /var/lib/pss-guard/namespaces: Not a directory";
    assert_eq!(error, expected);
    let read = node.read("shop");
    let Ok(NamespaceLabels::Labels { labels, .. }) = read else { panic!("{read:?}") };
    assert_eq!(labels.enforce.as_deref(), Some("privileged"));
}

#[test]
fn the_copy_for_the_next_boot_has_one_writer_at_a_time() {
    if !root() {
        return;
    }
    let node = Node::new();
    let all = ["default", "kube-public", "kube-system", "shop"];
    // The second time the folders are there, and the locks in them.
    for _ in 0..2 {
        node.import(&list(&all, "restricted")).unwrap();
    }
    let [live, kept] =
        [node.paths.namespaces(), node.paths.kept_namespaces()].map(|dir| dir.join("shop.json"));
    let single = r#"{"kind":"Namespace","metadata":{"name":"shop"}}"#.to_owned();
    for import in [list(&all, "baseline"), single] {
        let lock = fs::File::open(node.paths.kept_namespaces().join(".lock")).unwrap();
        let of_the_lock = format!(":{} ", lock.metadata().unwrap().ino());
        let waits = || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&of_the_lock))
        };
        let before = fs::read(&kept).unwrap();
        thread::scope(|scope| {
            lock.lock().unwrap();
            let importer = scope.spawn(|| node.import(&import).map(drop));
            while !waits() && !importer.is_finished() {
                thread::yield_now();
            }
            assert!(!importer.is_finished(), "another program writes the copy: {import}");
            // What counts now does not wait for the copy.
            assert_ne!(fs::read(&live).unwrap(), before);
            assert_eq!(fs::read(&kept).unwrap(), before);
            lock.unlock().unwrap();
            importer.join().unwrap().unwrap();
        });
        assert_eq!(fs::read(&kept).unwrap(), fs::read(&live).unwrap());
    }
    // The first import made the folders under locks beside them, which are gone.
    for folder in [node.paths.namespaces(), node.paths.kept_namespaces()] {
        assert!(!folder.with_extension("lock").exists(), "{}", folder.display());
    }
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
                    NamespaceLabels::Labels { labels, .. } => {
                        assert_eq!(labels.enforce.as_deref(), Some("baseline"));
                        seen = true;
                    }
                    other => assert!(!seen && other == NamespaceLabels::NoFolder, "{other:?}"),
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
        let mut seen = NamespaceLabels::NoFolder;
        while seen == NamespaceLabels::NoFolder && !import.is_finished() {
            seen = namespaces::read(&dir, "z").unwrap();
        }
        assert!(matches!(seen, NamespaceLabels::Labels { .. } | NamespaceLabels::NoFolder), "{seen:?}");
        assert_eq!(import.join().unwrap().changed, 1001);
    });
    assert!(matches!(node.read("z"), Ok(NamespaceLabels::Labels { .. })));

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
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): EOF while \
             parsing a value at line 1 column 0",
        ),
        (
            "no object",
            |path| fs::write(path, "[]").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): invalid type: \
             sequence, expected an object of labels at line 1 column 0",
        ),
        (
            "null",
            |path| fs::write(path, "null").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): invalid type: \
             null, expected an object of labels at line 1 column 4",
        ),
        (
            "another key",
            |path| fs::write(path, r#"{"enforce":"baseline"}"#).unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): \"enforce\" is \
             not a Pod Security label at line 1 column 10",
        ),
        (
            "another type",
            |path| fs::write(path, r#"{"pod-security.kubernetes.io/enforce":1}"#).unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): invalid type: \
             integer `1`, expected a string at line 1 column 39",
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
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): \
             \"pod-security.kubernetes.io/enforce\" appears twice at line 1 column 78",
        ),
        (
            "more behind it",
            |path| fs::write(path, "{} {}").unwrap(),
            "parse FILE as labels of a namespace (pss-guard namespaces import rewrites it): trailing \
             characters at line 1 column 4",
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

#[test]
fn a_folder_that_is_not_there_is_none_and_one_that_cannot_be_looked_at_is_a_fault() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    assert_eq!(namespaces::read(&at("missing"), "shop").unwrap(), NamespaceLabels::NoFolder);
    assert_eq!(namespaces::read(&at("missing/namespaces"), "shop").unwrap(), NamespaceLabels::NoFolder);
    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
    namespaces::read(&at("open/namespaces"), "shop").unwrap_err();
    symlink("loop", at("loop")).unwrap();
    namespaces::read(&at("loop"), "shop").unwrap_err();
}

#[test]
fn one_namespace_is_written_and_removed_and_what_changes_nothing_says_so() {
    if !root() {
        return;
    }
    let node = Node::new();
    node.import(TWO).unwrap();
    let store = Store::of(&node.paths).unwrap();
    let labels = Labels { enforce: Some("restricted".into()), ..Labels::default() };
    assert_eq!([(); 2].map(|()| store.put("new", &labels).unwrap()), [true, false]);
    assert!(matches!(node.read("new"), Ok(NamespaceLabels::Labels { labels: found, .. }) if found == labels));
    assert_eq!([(); 2].map(|()| store.remove("new").unwrap()), [true, false]);
    assert_eq!(node.names(), ["bare.json", "shop.json"]);
    // A version that this program reads is one.
    fs::write(node.paths.namespaces().join("bare.json"), r#"{"v":0}"#).unwrap();
    assert!(
        matches!(node.read("bare"), Ok(NamespaceLabels::Labels { labels, .. }) if labels == Labels::default())
    );
}
