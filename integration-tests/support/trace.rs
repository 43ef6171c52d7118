//! What a run of the program writes, call by call.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::run::{self, Done};
use crate::support::{program, random};

/// What changes something on the disk.
const WRITES: &str = "openat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,write,\
                      fchmod,chmod,fchmodat,chown,fsync,copy_file_range,sendfile";

/// The same program without its debugging symbols, and the gate beside it: a hundred copies of them are made.
pub(crate) fn small_binary(folder: &Path) -> PathBuf {
    let path = folder.join("pss-guard");
    for (program, place) in
        [(program::binary(), path.clone()), (program::gate(), path.with_file_name("pss-guard-gate"))]
    {
        run::run(Command::new("strip").arg("-o").arg(place).arg(program)).expect_success();
    }
    path
}

/// Runs the program about a root under strace. What it leaves where it is killed goes with the call.
pub(crate) fn traced(program: &Path, root: &Path, arguments: &[&str], options: &[String]) -> Done {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("strace");
    command.env("TMPDIR", temporary.path());
    command.args(["-f", "-qq"]).args(options).arg(program).arg("--root").arg(root);
    run::run(command.args(arguments))
}

/// Every call that writes of a run that ends with `code`, as its name and its number among the calls of that name.
pub(crate) fn writes(program: &Path, root: &Path, arguments: &[&str], code: i32) -> Vec<(String, usize)> {
    let log = root.join("..").join(format!("{}.log", random::id()));
    let options = ["-o".to_owned(), log.display().to_string(), "-e".to_owned(), format!("trace={WRITES}")];
    let done = traced(program, root, arguments, &options);
    assert_eq!(done.code, Some(code), "{done}");
    let text = fs::read_to_string(&log).expect("the log of strace");
    fs::remove_file(&log).expect("a file of ours");
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut writes = Vec::new();
    // strace counts for each process by itself, and programs that this one asks for their version write nothing here.
    let own = text.split_once(' ').map(|(pid, _)| pid);
    for line in text.lines() {
        let called = line.split_once(' ').filter(|(pid, _)| Some(*pid) == own);
        let Some((name, rest)) = called.and_then(|(_, call)| call.trim().split_once('(')) else {
            continue;
        };
        let number = numbers.entry(name.to_owned()).or_default();
        *number += 1;
        let said = name == "write" && rest.starts_with("1,");
        if !said && (name != "openat" || rest.contains("O_CREAT")) {
            writes.push((name.to_owned(), *number));
        }
    }
    writes
}
