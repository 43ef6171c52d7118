//! A runtime's command line, one argument a line: what starts a process is never taken for something else.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use libfuzzer_sys::fuzz_target;
use pss_guard::wrapper::{Asked, asked};

const STARTS: [&[u8]; 5] = [b"create", b"run", b"restore", b"exec", b"mounts"];

fuzz_target!(|bytes: &[u8]| {
    let all: Vec<&OsStr> = bytes.split(|byte| *byte == b'\n').map(OsStr::from_bytes).collect();
    let answer = asked(&all);

    // Without the name of a command that starts something, nothing starts, and nobody is refused.
    if !all.iter().any(|argument| STARTS.contains(&argument.as_bytes())) {
        assert_eq!(answer, Asked::Nothing);
    }

    // What every runtime takes before its command, and none acts on, changes nothing.
    for more in [&["--debug"][..], &["--log", "/l"], &["--log-format=json"], &["--systemd-cgroup"]] {
        let with: Vec<&OsStr> = more.iter().map(OsStr::new).chain(all.iter().copied()).collect();
        assert_eq!(asked(&with), answer, "{more:?}");
    }

    // As an engine writes it: one answer, and the right one.
    let Some((extra, line)) = all.split_first() else { return };
    let Some(plain) = Plain::read(line) else { return };
    assert_eq!(asked(line), Asked::Start(Some(plain.bundle), plain.id));

    // One more argument behind the command makes it no other container and no other bundle, and starts nothing only if it
    // asks for help.
    match asked(&inserted(line, plain.command + 1, extra)) {
        Asked::Fault => {}
        Asked::Nothing => assert!(asks_for_help(extra.as_bytes()), "{extra:?}"),
        other => assert_eq!(other, Asked::Start(Some(plain.bundle), plain.id)),
    }
    // Before the id it may be another bundle, about which not all runtimes agree: a fault then, and not nothing. With its value
    // in it, it cannot take the id for one.
    if extra.as_bytes().starts_with(b"-") && extra.as_bytes().contains(&b'=') {
        match asked(&inserted(line, line.len() - 1, extra)) {
            Asked::Fault => {}
            Asked::Nothing => assert!(asks_for_help(extra.as_bytes()), "{extra:?}"),
            Asked::Start(_, id) => assert_eq!(id, plain.id),
            Asked::Join(_) => panic!("{extra:?} joined a container"),
        }
    }
});

fn inserted<'a>(line: &[&'a OsStr], at: usize, extra: &'a OsStr) -> Vec<&'a OsStr> {
    let (before, after) = line.split_at(at);
    before.iter().copied().chain([extra]).chain(after.iter().copied()).collect()
}

/// `[GLOBAL…] create|run [OPTION…] --bundle BUNDLE ID`, spelled in full: an independent reading, as simple as can be.
struct Plain<'a> {
    command: usize,
    bundle: &'a OsStr,
    id: &'a OsStr,
}

impl<'a> Plain<'a> {
    fn read(line: &[&'a OsStr]) -> Option<Self> {
        // runc 1.6 does not see white space around an argument, and the others do.
        let plain = |argument: &&OsStr| {
            let text = argument.to_string_lossy();
            !text.is_empty() && !text.starts_with('-') && text.trim() == text
        };
        let skip = |mut at: usize, flags: &[&str], valued: &[&str]| {
            loop {
                let argument = line.get(at)?;
                if flags.iter().any(|flag| flag == argument) {
                    at += 1;
                } else if valued.iter().any(|option| option == argument) && plain(line.get(at + 1)?) {
                    at += 2;
                } else {
                    return Some(at);
                }
            }
        };
        let command = skip(0, &["--debug", "--systemd-cgroup"], &["--root", "--log", "--log-format"])?;
        if !matches!(line.get(command)?.as_bytes(), b"create" | b"run") {
            return None;
        }
        let options = ["--pid-file", "--console-socket", "--preserve-fds"];
        let at = skip(command + 1, &["--no-pivot", "--no-new-keyring"], &options)?;
        match line.get(at..)? {
            [option, bundle, id] if *option == "--bundle" && plain(bundle) && plain(id) => {
                Some(Self { command, bundle, id })
            }
            _ => None,
        }
    }
}

/// Whether some runtime may read help or a version into it: by name, by an abbreviation, or by a letter in a cluster.
fn asks_for_help(argument: &[u8]) -> bool {
    let named = argument.strip_prefix(b"--").or_else(|| argument.strip_prefix(b"-")).unwrap_or_default();
    let name = named.split(|byte| *byte == b'=').next().unwrap_or_default();
    let abbreviates = |word: &&[u8]| !name.is_empty() && word.starts_with(name);
    let cluster = !argument.starts_with(b"--") && named.iter().any(|letter| b"hvV?".contains(letter));
    cluster || [&b"help"[..], b"usage", b"version", b"h", b"v", b"V", b"?"].iter().any(abbreviates)
}
