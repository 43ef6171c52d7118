//! What becomes of the units of an older version, whose program this one no longer is? They go at an upgrade and with the gate.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CRIO, Host, assert_same};
use crate::support::{files, run};

const UNITS: &str = "etc/systemd/system";
const SOCKET: &str = "pss-guard-metrics.socket";
const SERVICE: &str = "pss-guard-metrics.service";
const MANIFEST: &str = "var/lib/pss-guard/install/systemd/manifest.json";
const WANTED: &str = "sockets.target.wants/pss-guard-metrics.socket";

/// A node as version 0.1 left it, whose admin has enabled the socket.
fn installed() -> Host {
    let root = Host::new(CRIO);
    for program in ["crio", "systemctl"] {
        root.program(program);
    }
    root.call(&["install", "--engine", "crio"]).expect_success();
    let mut manifest = read(&root);
    for (nth, unit) in [SOCKET, SERVICE].into_iter().enumerate() {
        let text = match unit {
            SOCKET => "[Socket]\nListenStream=127.0.0.1:9749\n\n[Install]\nWantedBy=sockets.target\n",
            _ => "[Service]\nExecStart=/var/lib/pss-guard/bin/pss-guard metrics --http\n",
        };
        files::write(&root.path(UNITS).join(unit), text);
        let copy = format!("{}.after", 900 + nth);
        files::write(&root.path(MANIFEST).with_file_name(&copy), text);
        let record = json!({"path": format!("/{UNITS}/{unit}"), "before": null, "after": copy});
        manifest["files"].as_array_mut().expect("a list").push(record);
    }
    fs::write(root.path(MANIFEST), manifest.to_string()).expect("a file of ours");
    let wanted = root.path(UNITS).join(WANTED);
    fs::create_dir_all(wanted.parent().expect("a folder")).expect("a folder of ours");
    symlink(format!("/{UNITS}/{SOCKET}"), wanted).expect("a link of ours");
    root
}

fn read(root: &Host) -> Value {
    serde_json::from_str(&run::read(&root.path(MANIFEST))).expect("JSON")
}

fn unit(root: &Host, unit: &str) -> PathBuf {
    root.path(UNITS).join(unit)
}

const INSTALL: &[&str] = &["install", "--engine", "crio"];
const PROGRAMS: &[&str] = &["install", "--programs"];

#[test]
fn an_upgrade_removes_what_no_program_answers_to() {
    for arguments in [INSTALL, PROGRAMS] {
        let root = installed();
        let before = root.tree();
        let done = root.call(&[arguments, &["--dry-run"]].concat()).expect_success();
        for name in [SOCKET, SERVICE] {
            assert!(done.stdout.contains(&format!("  would remove /{UNITS}/{name}\n")), "{done}");
        }
        assert_same(&root.tree(), &before, "a dry run");
        let done = root.call(arguments).expect_success();
        for name in [SOCKET, SERVICE] {
            assert!(done.stdout.contains(&format!("  removed /{UNITS}/{name}\n")), "{done}");
            assert!(!unit(&root, name).exists(), "{name}: {done}");
        }
        assert!(!done.stdout.contains("not done"), "{done}");
        assert!(unit(&root, WANTED).symlink_metadata().is_err(), "systemd would look for it: {done}");
        assert!(!read(&root).to_string().contains("pss-guard-metrics"));
        // What is there goes on being ours.
        assert!(
            unit(&root, "pss-guard-textfile.timer").exists() && unit(&root, "pss-guard-scan.timer").exists()
        );
        for again in [INSTALL, PROGRAMS] {
            let done = root.call(again).expect_success();
            assert!(!done.stdout.contains("metrics") && !done.stdout.contains("in another way"), "{done}");
        }
        root.call(&["uninstall"]).expect_success();
        assert!(!root.path(UNITS).exists() || fs::read_dir(root.path(UNITS)).unwrap().next().is_none());
    }
}

#[test]
fn whoever_goes_from_the_older_version_to_none_has_none_of_it_left() {
    let root = installed();
    let done = root.call(&["uninstall"]).expect_success();
    assert!(!done.stdout.contains("not done"), "{done}");
    for name in [SOCKET, SERVICE, WANTED] {
        assert!(unit(&root, name).symlink_metadata().is_err(), "{name}: {done}");
    }
}

#[test]
fn an_edited_one_is_the_admins_and_is_not_started_any_more() {
    for arguments in [INSTALL, PROGRAMS] {
        let root = installed();
        let edited = "[Service]\nExecStart=/usr/bin/mine\n";
        fs::write(unit(&root, SERVICE), edited).expect("a file of ours");
        let done = root.call(arguments).expect_success();
        let kept = format!("  kept /{UNITS}/{SERVICE}, which was changed since it was installed");
        assert!(done.stdout.contains(&kept), "{done}");
        assert_eq!(run::read(&unit(&root, SERVICE)), edited);
        assert!(!unit(&root, SOCKET).exists() && unit(&root, WANTED).symlink_metadata().is_err(), "{done}");
        // Once, and it is nobody's but the admin's from then on.
        let done = root.call(arguments).expect_success();
        assert!(!done.stdout.contains(SERVICE), "{done}");
        root.call(&["uninstall"]).expect_success();
        assert_eq!(run::read(&unit(&root, SERVICE)), edited);
    }
}

#[test]
fn what_the_admin_put_beside_them_is_named_when_all_goes() {
    let root = installed();
    let drop_in = format!("{UNITS}/{SOCKET}.d/listen.conf");
    files::write(&root.path(&drop_in), "[Socket]\nListenStream=\n");
    root.call(INSTALL).expect_success();
    let done = root.call(&["uninstall"]).expect_success();
    assert!(done.stdout.contains(&format!("/{UNITS}/{SOCKET}.d")), "{done}");
    assert!(Path::new(&root.path(&drop_in)).exists());
}
