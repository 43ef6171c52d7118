//! What does whoever is asked on a terminal decide?

use std::fs::{self};
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use nix::pty::{OpenptyResult, openpty};

use super::{changes, said};
use crate::support::node::Node;
use crate::support::{needs, program};

/// What a terminal makes of Ctrl-C and Ctrl-D.
const INTERRUPT: &[u8] = &[3];

const END_OF_FILE: &[u8] = &[4];

/// Runs this on a terminal of its own, and types the keys once it asks: what it shows, and how it ends.
fn typed(node: &Node, arguments: &[&str], keys: &[u8]) -> (String, ExitStatus) {
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
    // The terminal must be the controlling one for a key to become a signal.
    // Whoever runs the tests in the background has the key ignored.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", "setsid", "--ctty"])
        .arg(program::binary())
        .arg("--root")
        .arg(node.root())
        .arg("mode")
        .args(arguments);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("a child");
    drop((slave, command));
    let (mut master, mut shown, mut asked) = (fs::File::from(master), Vec::new(), false);
    let mut bytes = [0; 4096];
    // Reading fails once nobody has the other end any more.
    while let Ok(size) = master.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..size]);
        if !asked && String::from_utf8_lossy(&shown).contains("[y/N] ") {
            asked = true;
            master.write_all(keys).expect("a terminal that takes keys");
        }
    }
    (String::from_utf8_lossy(&shown).into_owned(), child.wait().expect("a child of ours"))
}

#[test]
fn whoever_is_asked_on_a_terminal_decides() {
    if !needs::can_run("whoever_is_asked_on_a_terminal_decides", &["setsid"]) {
        return;
    }
    // (keys, exit code, mode then)
    let rows: [(&[u8], Option<i32>, &str); 8] = [
        (b"y\n", Some(0), "enforce"),
        (b"YES\n", Some(0), "enforce"),
        (b"n\n", Some(1), "audit"),
        (b"\n", Some(1), "audit"),
        (b"yy\n", Some(1), "audit"),
        (b"\xff\n", Some(1), "audit"),
        (END_OF_FILE, Some(1), "audit"),
        (INTERRUPT, None, "audit"),
    ];
    for (keys, code, mode) in rows {
        for arguments in [&["enforce"][..], &["enforce", "--for", "1h"]] {
            let node = Node::new("mode = 'audit'\n");
            let (shown, status) = typed(&node, arguments, keys);
            let context = format!("{arguments:?}, {keys:?}: {status}, {shown}");
            assert_eq!(status.code(), code, "{context}");
            assert_eq!(status.signal(), if code.is_none() { Some(2) } else { None }, "{context}");
            assert_eq!(shown.contains("not confirmed; nothing changed"), code == Some(1), "{context}");
            assert_eq!(said(&node)["mode"], mode, "{context}");
            let changes = changes(&node);
            assert_eq!(changes.len(), usize::from(code == Some(0)), "{context}");
            for change in changes {
                assert!(change["PSS_WHO"].as_str().unwrap_or_default().contains("pts/"), "{change}");
            }
        }
    }
    let node = Node::new("mode = 'enforce'\n");
    let (shown, status) = typed(&node, &["audit", "--for", "1h"], b"");
    assert!(status.success() && !shown.contains("[y/N]"), "nobody is asked for less: {shown}");
}
