//! Does the gate know every command and every option that a runtime has? Asked by `--help`.

use std::collections::BTreeSet;
use std::process::Command;

use pss_guard::wrapper;

use crate::support::run;
use crate::support::runtime::{Family, Runtime};

/// Commands that start a process, or change what one sees: their options are read.
const READ: [&str; 5] = ["create", "run", "restore", "exec", "mounts"];

/// All other commands, which start nothing. `update` changes limits, `kill` takes a signal.
const PASSED: [&str; 21] = [
    "checkpoint",
    "checkpointt",
    "completion",
    "delete",
    "events",
    "features",
    "help",
    "info",
    "init",
    "kill",
    "list",
    "pause",
    "ps",
    "resume",
    "spec",
    "start",
    "state",
    "unpause",
    "update",
    "version",
    "h",
];

/// What `--help` says otherwise than it is.
fn is_excused(family: Family, long: &str) -> bool {
    // crun declares it without a value, and takes the next argument for one (`argp_mandatory_argument` in `src/restore.c`).
    family == Family::Crun && long == "network-lock"
}

/// An option as a line of `--help` has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    long: Option<String>,
    shorts: Vec<char>,
    takes_value: bool,
}

/// Reads such a line: `--bundle value, -b value  path`, `-b, --bundle=DIR`, `-b, --bundle <BUNDLE>`.
fn said(line: &str) -> Option<Said> {
    let line = line.trim();
    if !line.starts_with('-') {
        return None;
    }
    // runc 1.6 says of a list that it may come again: `--env string, -e string [ --env string, -e string ]`.
    let words = line.split("  ").next()?.split(" [ ").next()?;
    let mut said = Said { long: None, shorts: Vec::new(), takes_value: false };
    for word in words.split(", ") {
        let end = word.find(['=', ' ', '[']).unwrap_or(word.len());
        let (name, value) = word.split_at(end);
        // Glued or not at all.
        said.takes_value |= !value.is_empty() && !value.starts_with("[=");
        match name.strip_prefix("--") {
            Some(long) => said.long = Some(long.to_owned()),
            None => said.shorts.extend(name.strip_prefix('-')?.chars().next()),
        }
    }
    Some(said)
}

fn help(runtime: Runtime, command: Option<&str>) -> String {
    let mut asked = Command::new(runtime.program());
    let done = run::run(asked.args(command).arg("--help"));
    done.stdout + &done.stderr
}

/// What the gate does not know of a runtime.
pub(super) fn unknown(runtime: Runtime) -> Vec<String> {
    let mut wrong = Vec::new();
    let global = help(runtime, None);
    let commands: BTreeSet<&str> = commands(&global).collect();
    assert!(commands.contains("create") && commands.contains("exec"), "{runtime:?}: {commands:?}\n{global}");
    wrong.extend(
        commands
            .iter()
            .filter(|command| !READ.contains(command) && !PASSED.contains(command))
            .map(|command| format!("the command {command}")),
    );
    let read = READ.into_iter().filter(|command| commands.contains(command)).map(Some);
    for command in read.chain([None]) {
        let text = help(runtime, command);
        let options: BTreeSet<Said> = text.lines().filter_map(said).collect();
        assert!(!options.is_empty(), "{runtime:?} {command:?} has no options\n{text}");
        for option in options {
            let long = option.long.as_deref().unwrap_or_default();
            let by_long = wrapper::options().find(|(name, _, _)| *name == long.as_bytes());
            let by_short = |letter: &char| {
                wrapper::options().find(|(_, short, _)| short.map(char::from) == Some(*letter))
            };
            let is_right =
                |known: Option<(_, _, bool)>| known.is_some_and(|(_, _, value)| value == option.takes_value);
            let shorts_are_right = option.shorts.iter().all(|letter| is_right(by_short(letter)));
            if !(is_excused(runtime.family(), long) || is_right(by_long) && shorts_are_right) {
                wrong.push(format!("{} {option:?}", command.unwrap_or("global")));
            }
        }
    }
    wrong
}

/// The commands of a `--help`, by its section of them; crun has one command a line below `COMMANDS:` too.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let section = text.lines().skip_while(|line| !line.trim().eq_ignore_ascii_case("commands:")).skip(1);
    let section =
        section.skip_while(|line| line.trim().is_empty()).take_while(|line| line.starts_with([' ', '\t']));
    section.filter_map(|line| line.split_whitespace().next()).map(|name| name.trim_end_matches(','))
}

#[test]
fn a_line_of_help_is_read_as_it_is_meant() {
    let option = |long: &str, short: &str, takes_value| {
        Some(Said { long: Some(long.to_owned()), shorts: short.chars().collect(), takes_value })
    };
    let rows = [
        ("   --bundle value, -b value  path to the root", option("bundle", "b", true)),
        ("   --no-pivot                do not use pivot", option("no-pivot", "", false)),
        ("   --env string, -e string [ --env string, -e string ]  set", option("env", "e", true)),
        ("  -b, --bundle=DIR           container bundle", option("bundle", "b", true)),
        ("  -t, --tty[=TTY]            allocate", option("tty", "t", false)),
        ("      --keep                 do not delete", option("keep", "", false)),
        ("  -b, --bundle <BUNDLE>", option("bundle", "b", true)),
        ("  -v, -V, --version", option("version", "vV", false)),
        ("create [OPTION]... CONTAINER", None),
    ];
    for (line, expected) in rows {
        assert_eq!(said(line), expected, "{line}");
    }
}
