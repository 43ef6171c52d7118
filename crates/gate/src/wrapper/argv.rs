//! Parses a runtime's command line as runc, crun and youki do.
//!
//! The three share one set of options and differ in how these may be written. runc (urfave/cli 1.22 on Go's `flag`)
//! takes long options with one dash and `-b=X`, and permutes, but not in `exec`. runc 1.6 (urfave/cli 3) does the same, takes
//! global options after the command too, reads `--tty=` as `--tty`, and ignores white space around an option. crun (argp)
//! takes abbreviations, `-bX`
//! and clusters of short options, ends options at the first other argument, and reads `-b=X` as `=X`. youki (clap)
//! takes `-bX`, and `-b=X` as `X`, and permutes. An engine's command lines mean the same to all. Which runtime comes after the
//! gate is not known for sure (it can be a wrapper, too), so every argument list is read in all three ways, and must come to
//! one answer: a bundle that is evaluated is the bundle that is started.
//!
//! Each way of reading accepts at least what its runtime accepts: what only the runtime refuses starts nothing. An
//! option that is unknown here, because it is new, is read both with and without a value.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// A command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Argv<'a> {
    /// Where the runtime is to write its log.
    pub(super) log: Option<&'a OsStr>,
    /// Whether the log is to be JSON, and not text.
    pub(super) json: bool,
    /// What it asks for.
    pub(super) act: Result<Act<'a>, ArgvError>,
}

/// What it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// Starts no process.
    Other,
    /// Forgets a container; which, as far as that could be read.
    Delete(Option<&'a OsStr>),
    /// `create`, `run` or `restore`.
    Start {
        /// The directory of config.json; the working directory if there is none.
        bundle: Option<&'a OsStr>,
        /// The container's id.
        id: &'a OsStr,
        /// What a `restore` says of its checkpoint.
        checkpoint: Option<Checkpoint<'a>>,
    },
    /// `exec`.
    Exec(Exec<'a>),
    /// crun's `mounts add` and `mounts remove`.
    Mounts {
        /// Where the runtime keeps its state.
        root: Option<&'a OsStr>,
        /// The container's id.
        id: &'a OsStr,
    },
}

impl Act<'_> {
    /// Whether it gives a process or a mount to a container, new or not.
    fn is_evaluated(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Exec(_) | Self::Mounts { .. })
    }
}

/// What a `restore` takes the container from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint<'a> {
    /// The directory of CRIU's images.
    pub(super) images: Option<&'a OsStr>,
    /// The LSM profile in place of the checkpoint's.
    pub(super) lsm_profile: Option<&'a OsStr>,
    /// How CRIU treats control groups.
    pub(super) cgroups_mode: Option<&'a OsStr>,
}

/// A process for a container that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exec<'a> {
    /// The container's id.
    pub(super) id: &'a OsStr,
    /// Where the runtime keeps its state.
    pub(super) root: Option<&'a OsStr>,
    /// The file that describes the process. Without it, the options do.
    pub(super) process: Option<&'a OsStr>,
    /// `UID[:GID]`.
    pub(super) user: Option<&'a OsStr>,
    /// Capabilities by name.
    pub(super) capabilities: Vec<&'a OsStr>,
    /// `no_new_privs`.
    pub(super) no_new_privileges: Option<bool>,
    /// The AppArmor profile's name.
    pub(super) apparmor: Option<&'a OsStr>,
    /// The SELinux label.
    pub(super) label: Option<&'a OsStr>,
}

/// Why nobody can say what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgvError {
    #[error(
        "runc, crun and youki read these arguments differently; write options in full before the container's id, as in \
         `--bundle DIRECTORY ID`"
    )]
    Ambiguous,
    #[error("these arguments start a process, but neither runc nor crun nor youki is known to accept them")]
    Unknown,
    #[error(
        "--config names another file than the bundle's config.json; put the file there and leave the option out"
    )]
    Config,
}

/// The commands that start a process, and the one that mounts something for it.
const EVALUATED: [&[u8]; 5] = [b"create", b"run", b"restore", b"exec", b"mounts"];

/// Reads a command line, without the program's name.
pub(super) fn read<'a>(arguments: &[&'a OsStr]) -> Argv<'a> {
    let mut log = None;
    let mut json = false;
    let mut acts: Vec<Act<'a>> = Vec::new();
    let (mut config, mut abbreviated) = (false, false);
    for dialect in [Dialect::Go, Dialect::Argp, Dialect::Clap] {
        for unknown_takes_value in [false, true] {
            let given = Given::default();
            let mut reader =
                Reader { dialect, unknown_takes_value, met_unknown: false, abbreviated: false, given };
            let act = reader.act(arguments);
            abbreviated |= reader.abbreviated;
            if log.is_none() {
                log = reader.given.log;
                json = reader.given.log_format.is_some_and(|format| format == "json");
            }
            if let Some(act) = act {
                config |=
                    act.is_evaluated() && reader.given.config.is_some_and(|config| config != "config.json");
                if !acts.contains(&act) {
                    acts.push(act);
                }
            }
            if !reader.met_unknown {
                break;
            }
        }
    }
    let may_start = || arguments.iter().any(|argument| EVALUATED.contains(&argument.as_bytes()));
    let act = match () {
        () if config => Err(ArgvError::Config),
        () if abbreviated && may_start() => Err(ArgvError::Ambiguous),
        () if acts.is_empty() && may_start() => Err(ArgvError::Unknown),
        () => agree(acts),
    };
    Argv { log, json, act }
}

/// The one thing that is asked for.
fn agree(acts: Vec<Act<'_>>) -> Result<Act<'_>, ArgvError> {
    // Who starts nothing is no witness against who does: then that is evaluated, and nothing else can start.
    let (starting, other): (Vec<_>, Vec<_>) = acts.into_iter().partition(Act::is_evaluated);
    let mut starting = starting.into_iter();
    match (starting.next(), starting.next()) {
        (Some(_), Some(_)) => Err(ArgvError::Ambiguous),
        (Some(act), None) => Ok(act),
        (None, _) => Ok(other.into_iter().next().unwrap_or(Act::Other)),
    }
}

/// A way to read options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// runc.
    Go,
    /// crun.
    Argp,
    /// youki.
    Clap,
}

/// What an option means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// Nothing that matters, and takes no value.
    Flag,
    /// Nothing that matters, and takes a value.
    Value,
    /// The runtime prints something and ends.
    Help,
    Log,
    LogFormat,
    Root,
    Bundle,
    Images,
    LsmProfile,
    CgroupsMode,
    Config,
    Process,
    User,
    Capability,
    NoNewPrivileges,
    Apparmor,
    Label,
    /// A flag to which crun lets a value be glued.
    Tty,
}

impl Means {
    fn takes_value(self) -> bool {
        !matches!(self, Self::Flag | Self::Help | Self::NoNewPrivileges | Self::Tty)
    }
}

/// All options of runc 1.1 to 1.6, crun 1.8 to 1.29 and youki 0.7, of all commands that start a process, and the global
/// ones. No name takes a value in one place and none in another. `make e2e-matrix` compares them with what each version says.
const OPTIONS: &[(&[u8], Option<u8>, Means)] = &[
    (b"additional-gids", Some(b'g'), Means::Value),
    (b"apparmor", None, Means::Apparmor),
    (b"auto-dedup", None, Means::Flag),
    (b"bundle", Some(b'b'), Means::Bundle),
    (b"cap", Some(b'c'), Means::Capability),
    (b"cgroup", None, Means::Value),
    (b"cgroup-manager", None, Means::Value),
    (b"config", Some(b'f'), Means::Config),
    (b"console-socket", None, Means::Value),
    (b"criu", None, Means::Value),
    (b"cwd", None, Means::Value),
    (b"debug", None, Means::Flag),
    (b"detach", Some(b'd'), Means::Flag),
    (b"empty-ns", None, Means::Value),
    (b"env", Some(b'e'), Means::Value),
    (b"ext-unix-sk", None, Means::Flag),
    (b"file-locks", None, Means::Flag),
    (b"help", Some(b'h'), Means::Help),
    (b"ignore-paused", None, Means::Flag),
    (b"image-path", None, Means::Images),
    (b"keep", None, Means::Flag),
    (b"lazy-pages", None, Means::Flag),
    (b"log", Some(b'l'), Means::Log),
    (b"log-format", None, Means::LogFormat),
    (b"log-level", None, Means::Value),
    (b"lsm-mount-context", None, Means::Value),
    (b"lsm-profile", None, Means::LsmProfile),
    (b"manage-cgroups-mode", None, Means::CgroupsMode),
    (b"network-lock", None, Means::Value),
    (b"no-new-keyring", None, Means::Flag),
    (b"no-new-privs", None, Means::NoNewPrivileges),
    (b"no-pivot", None, Means::Flag),
    (b"no-subreaper", None, Means::Flag),
    (b"pid-file", None, Means::Value),
    (b"pidfd-socket", None, Means::Value),
    (b"preserve-fds", None, Means::Value),
    (b"process", Some(b'p'), Means::Process),
    (b"process-label", None, Means::Label),
    // Hidden, in everything that argp reads.
    (b"program-name", None, Means::Value),
    (b"root", Some(b'r'), Means::Root),
    (b"rootless", None, Means::Value),
    (b"shell-job", None, Means::Flag),
    (b"systemd-cgroup", Some(b's'), Means::Flag),
    (b"systemd-log", None, Means::Flag),
    (b"tcp-close", None, Means::Flag),
    (b"tcp-established", None, Means::Flag),
    (b"tty", Some(b't'), Means::Tty),
    (b"usage", Some(b'?'), Means::Help),
    (b"user", Some(b'u'), Means::User),
    (b"version", Some(b'v'), Means::Help),
    (b"version", Some(b'V'), Means::Help),
    (b"work-path", None, Means::Value),
];

/// All options that are known here: the long name, the short one, and whether it takes a value.
pub fn options() -> impl Iterator<Item = (&'static [u8], Option<u8>, bool)> {
    OPTIONS.iter().map(|(long, short, means)| (*long, *short, means.takes_value()))
}

/// The options that were given.
#[derive(Debug, Default)]
struct Given<'a> {
    help: bool,
    log: Option<&'a OsStr>,
    log_format: Option<&'a OsStr>,
    bundle: Option<&'a OsStr>,
    config: Option<&'a OsStr>,
    checkpoint: Checkpoint<'a>,
    exec: Exec<'a>,
}

/// What a name stands for.
enum Found {
    Option(Means),
    /// No option that is known here, and no abbreviation of one.
    New,
}

/// Where options end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Before the first argument that is none.
    First,
    /// Before the second one.
    Second,
    /// Nowhere.
    End,
}

struct Reader<'a> {
    dialect: Dialect,
    unknown_takes_value: bool,
    met_unknown: bool,
    /// An abbreviation could stand for several options, and only the runtime knows which of them it has.
    abbreviated: bool,
    given: Given<'a>,
}

impl<'a> Reader<'a> {
    /// What a runtime of this dialect does; `None` where it refuses the arguments.
    fn act(&mut self, arguments: &[&'a OsStr]) -> Option<Act<'a>> {
        let after = self.options(arguments, Until::First)?;
        let (Some((command, rest)), false) = (after.split_first(), self.given.help) else {
            return Some(Act::Other);
        };
        let command = command.as_bytes();
        if command == b"delete" {
            let id = rest.iter().rfind(|argument| !argument.as_bytes().starts_with(b"-"));
            return Some(Act::Delete(id.copied()));
        }
        if !EVALUATED.contains(&command) {
            return Some(Act::Other);
        }
        let (is_exec, is_mounts) = (command == b"exec", command == b"mounts");
        let until = match self.dialect {
            Dialect::Argp => Until::First,
            Dialect::Go if is_exec => Until::First,
            Dialect::Clap if is_exec => Until::Second,
            Dialect::Go | Dialect::Clap => Until::End,
        };
        let others = self.options(rest, until)?;
        if self.given.help {
            return Some(Act::Other);
        }
        if is_mounts {
            let [verb, id, _file] = others.as_slice() else { return Some(Act::Other) };
            let changes = matches!(verb.as_bytes(), b"add" | b"remove");
            return Some(if changes { Act::Mounts { root: self.given.exec.root, id } } else { Act::Other });
        }
        let Some((&id, more)) = others.split_first() else {
            // Without a name nothing starts; but what is new may have taken it.
            return (!self.met_unknown).then_some(Act::Other);
        };
        if is_exec {
            return Some(Act::Exec(Exec { id, ..std::mem::take(&mut self.given.exec) }));
        }
        // crun's restore lets a second one pass, and does not look at it.
        let most = usize::from(command == b"restore");
        let bundle = self.given.bundle.filter(|bundle| !bundle.is_empty());
        let checkpoint = (command == b"restore").then_some(self.given.checkpoint);
        (more.len() <= most).then_some(Act::Start { bundle, id, checkpoint })
    }

    /// Reads options; the other arguments are left over.
    fn options(&mut self, arguments: &[&'a OsStr], until: Until) -> Option<Vec<&'a OsStr>> {
        let mut others = Vec::new();
        let mut rest = arguments.iter().copied();
        while let Some(argument) = rest.next() {
            let bytes = argument.as_bytes();
            if is_trimmed(bytes) {
                return None;
            }
            if bytes == b"--" {
                others.extend(rest);
                break;
            }
            if !bytes.starts_with(b"-") || bytes == b"-" {
                others.push(argument);
                let done = match until {
                    Until::First => true,
                    Until::Second => others.len() == 2,
                    Until::End => false,
                };
                if done {
                    others.extend(rest);
                    break;
                }
                continue;
            }
            match (bytes.strip_prefix(b"--"), self.dialect) {
                (Some(long), _) => self.long(long, &mut rest)?,
                (None, Dialect::Go) => {
                    let one_dash = bytes.get(1..)?;
                    let name = one_dash.split(|byte| *byte == b'=').next()?;
                    // What is new has two: one dash and an unknown name are somebody else's cluster.
                    matches!(self.find(name)?, Found::Option(_)).then_some(())?;
                    self.long(one_dash, &mut rest)?;
                }
                (None, _) => self.shorts(bytes.get(1..)?, &mut rest)?,
            }
        }
        Some(others)
    }

    /// `--name`, `--name=value`, `--name value`; for Go with one dash, too.
    fn long(&mut self, text: &'a [u8], rest: &mut impl Iterator<Item = &'a OsStr>) -> Option<()> {
        let equals = text.iter().position(|byte| *byte == b'=');
        let (name, glued) = match equals {
            Some(at) => (text.get(..at)?, text.get(at + 1..).map(OsStr::from_bytes)),
            None => (text, None),
        };
        let Found::Option(means) = self.find(name)? else {
            self.met_unknown = true;
            if glued.is_none() && self.unknown_takes_value {
                rest.next()?;
            }
            return Some(());
        };
        if means.takes_value() {
            let value = glued.or_else(|| rest.next())?;
            self.give(means, value);
            return Some(());
        }
        let on = match (glued, self.dialect) {
            (None, _) => true,
            (Some(value), Dialect::Go) => truth(value)?,
            (Some(_), Dialect::Argp) if means == Means::Tty => true,
            (Some(_), _) => return None,
        };
        match means {
            Means::Help => self.given.help |= on,
            Means::NoNewPrivileges => self.given.exec.no_new_privileges = Some(on),
            _ => {}
        }
        Some(())
    }

    /// A cluster of short options; the last may have its value in the same argument.
    fn shorts(&mut self, cluster: &'a [u8], rest: &mut impl Iterator<Item = &'a OsStr>) -> Option<()> {
        let mut left = cluster;
        while let Some((letter, after)) = left.split_first() {
            let (_, _, means) = OPTIONS.iter().find(|(_, short, _)| *short == Some(*letter))?;
            left = after;
            if means.takes_value() {
                let glued = match self.dialect {
                    Dialect::Clap => after.strip_prefix(b"=").unwrap_or(after),
                    Dialect::Go | Dialect::Argp => after,
                };
                let value = if after.is_empty() { rest.next()? } else { OsStr::from_bytes(glued) };
                self.give(*means, value);
                return Some(());
            }
            self.given.help |= *means == Means::Help;
            if *means == Means::Tty && self.dialect == Dialect::Argp {
                return Some(());
            }
        }
        Some(())
    }

    /// The option of a name; `None` where it is none.
    fn find(&mut self, name: &[u8]) -> Option<Found> {
        let exact = |(long, short, _): &&(&[u8], Option<u8>, Means)| {
            // To Go a short option is a long one with a short name.
            *long == name || (self.dialect == Dialect::Go && short.is_some_and(|short| name == [short]))
        };
        if let Some((_, _, means)) = OPTIONS.iter().find(exact) {
            return Some(Found::Option(*means));
        }
        let mut longer =
            OPTIONS.iter().filter(|(long, _, _)| long.starts_with(name)).map(|(_, _, means)| *means);
        let Some(means) = longer.next() else { return Some(Found::New) };
        let same = longer.all(|other| other == means);
        self.abbreviated |= self.dialect == Dialect::Argp && !same;
        (self.dialect == Dialect::Argp && same).then_some(Found::Option(means))
    }

    fn give(&mut self, means: Means, value: &'a OsStr) {
        let Given { log, log_format, bundle, config, checkpoint, exec, .. } = &mut self.given;
        let place = match means {
            Means::Log => log,
            Means::LogFormat => log_format,
            Means::Bundle => bundle,
            Means::Images => &mut checkpoint.images,
            Means::LsmProfile => &mut checkpoint.lsm_profile,
            Means::CgroupsMode => &mut checkpoint.cgroups_mode,
            Means::Config => config,
            Means::Root => &mut exec.root,
            Means::Process => &mut exec.process,
            Means::User => &mut exec.user,
            Means::Apparmor => &mut exec.apparmor,
            Means::Label => &mut exec.label,
            Means::Capability => return exec.capabilities.push(value),
            Means::Flag | Means::Value | Means::Help | Means::NoNewPrivileges | Means::Tty => return,
        };
        *place = Some(value);
    }
}

/// Whether runc 1.6 takes this argument for another one, without the white space around it (`parseFlags` in
/// `command_parse.go` of urfave/cli 3). No runtime starts anything where the others see an argument of such a spelling.
fn is_trimmed(argument: &[u8]) -> bool {
    let text = String::from_utf8_lossy(argument);
    // A value keeps what it ends with.
    text.starts_with(char::is_whitespace) || (text.ends_with(char::is_whitespace) && !text.contains('='))
}

/// A boolean as Go's `strconv.ParseBool` reads it; nothing is true since runc 1.6.
fn truth(value: &OsStr) -> Option<bool> {
    match value.as_bytes() {
        b"" | b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Act, Argv, ArgvError, Checkpoint, Exec, read};

    fn of(line: &str) -> Argv<'_> {
        read(&line.split_whitespace().map(OsStr::new).collect::<Vec<_>>())
    }

    #[allow(clippy::unnecessary_wraps, reason = "rows of a table")]
    fn start<'a>(bundle: &'a str, id: &'a str) -> Result<Act<'a>, ArgvError> {
        let bundle = Some(OsStr::new(bundle)).filter(|bundle| !bundle.is_empty());
        Ok(Act::Start { bundle, id: OsStr::new(id), checkpoint: None })
    }

    #[test]
    fn what_starts_a_container_has_one_bundle_in_every_reading() {
        let ambiguous = || Err(ArgvError::Ambiguous);
        let rows = [
            ("create --bundle /b id", start("/b", "id")),
            ("create --bundle=/b id", start("/b", "id")),
            ("create -b /b id", start("/b", "id")),
            ("create -b/b id", start("/b", "id")),
            ("create -bundle /b id", start("/b", "id")),
            ("create -bundle=/b id", ambiguous()),
            ("create -b=/b id", ambiguous()),
            ("create --bun /b id", start("/b", "id")),
            ("create --b /b id", start("/b", "id")),
            ("create id", start("", "id")),
            ("create --bundle= id", start("", "id")),
            ("create -- id", start("", "id")),
            ("create -- --bundle", start("", "--bundle")),
            ("create -", start("", "-")),
            ("create -b /a -b /b id", start("/b", "id")),
            ("create id --bundle /b", start("/b", "id")),
            ("create id -b /b --no-pivot", start("/b", "id")),
            ("create --no-pivot --bundle /b id", start("/b", "id")),
            ("create --pid-file --bundle /b id", Err(ArgvError::Unknown)),
            ("create --pid-file --bundle id", start("", "id")),
            ("create --bundle /b", Ok(Act::Other)),
            ("create --new=x --bundle /b", Err(ArgvError::Unknown)),
            ("create --bundle", Err(ArgvError::Unknown)),
            ("create /b id", Err(ArgvError::Unknown)),
            ("create -x --bundle /b id", Err(ArgvError::Unknown)),
            ("create --new --bundle /b id", start("/b", "id")),
            ("create --new value --bundle /b id", start("/b", "id")),
            ("create --new=value --bundle /b id", start("/b", "id")),
            ("create --new --bundle id", start("", "id")),
            ("create --config config.json --bundle /b id", start("/b", "id")),
            ("create --config /x.json --bundle /b id", Err(ArgvError::Config)),
            ("create -f /x.json --bundle /b id", Err(ArgvError::Config)),
            ("create --conf /x.json --bundle /b id", Err(ArgvError::Config)),
            ("create --no-n --bundle /b id", ambiguous()),
            ("run --detach --keep -b /b id", start("/b", "id")),
            ("run -db /b id", start("/b", "id")),
            ("run -db=/b id", ambiguous()),
            ("-- create --bundle /b id", start("/b", "id")),
            ("--root /r --systemd-cgroup --log-level=debug create --bundle /b id", start("/b", "id")),
            ("--root create create --bundle /b id", start("/b", "id")),
            ("--new create --bundle /b id", start("/b", "id")),
            ("--new /x create --bundle /b id", start("/b", "id")),
        ];
        for (line, expected) in rows {
            assert_eq!(of(line).act, expected, "{line}");
        }
    }

    #[test]
    fn a_restore_has_one_checkpoint_in_every_reading() {
        let restore = |images: &'static str, lsm_profile: &'static str| {
            let some = |text: &'static str| Some(OsStr::new(text)).filter(|text| !text.is_empty());
            let checkpoint =
                Some(Checkpoint { images: some(images), lsm_profile: some(lsm_profile), cgroups_mode: None });
            Ok(Act::Start { bundle: some("/b"), id: OsStr::new("id"), checkpoint })
        };
        let ambiguous = || Err(ArgvError::Ambiguous);
        let full = || {
            let mode = Some(OsStr::new("full"));
            let checkpoint =
                Checkpoint { images: Some(OsStr::new("/i")), lsm_profile: None, cgroups_mode: mode };
            Ok(Act::Start {
                bundle: Some(OsStr::new("/b")),
                id: OsStr::new("id"),
                checkpoint: Some(checkpoint),
            })
        };
        let rows = [
            // containerd's shim (go-runc) and conmon.
            (
                "restore --image-path /i --work-path /w --detach --pid-file /p -no-subreaper --bundle /b id",
                restore("/i", ""),
            ),
            (
                "restore --bundle /b --pid-file /p --detach --image-path /i --work-path /b --lsm-profile=selinux:a:b:c id",
                restore("/i", "selinux:a:b:c"),
            ),
            ("restore --image-path=/i --bundle /b id", restore("/i", "")),
            ("restore -image-path /i --bundle /b id", restore("/i", "")),
            ("restore --image-path /x --image-path /i --bundle /b id", restore("/i", "")),
            ("restore --image /i --bundle /b id", restore("/i", "")),
            ("restore --manage-cgroups-mode full --image-path /i --bundle /b id", full()),
            ("restore --bundle /b id --image-path /i", restore("/i", "")),
            ("restore --bundle /b id more", restore("", "")),
            // Of no runtime: whether it takes a value decides which one is the id.
            ("restore --parent-path p --image-path /i --bundle /b id", ambiguous()),
            ("restore --l apparmor:x --bundle /b id", ambiguous()),
            ("restore -image-path=/i --bundle /b id", restore("/i", "")),
        ];
        for (line, expected) in rows {
            assert_eq!(of(line).act, expected, "{line}");
        }
    }

    /// runc 1.6 reads each of these as the option that it looks like.
    #[test]
    fn an_option_with_white_space_around_it_is_refused() {
        let rows: [&[&str]; 9] = [
            &["create", "--bundle", "/b", "--bundle ", "/x", "id"],
            &["create", "--bundle", "/b", "\u{a0}--bundle=/x", "id"],
            &["restore", " --bundle=/x", "id"],
            &["run", "\n-b", "/x", "id"],
            &["exec", " -u=0", "id", "sh"],
            &["exec", "-u ", "0", "id", "sh"],
            &["exec", "\t--", "id", "sh"],
            &["--root ", "/x", "exec", "id", "sh"],
            &["exec", " id", "sh"],
        ];
        for row in rows {
            let arguments: Vec<&OsStr> = row.iter().map(OsStr::new).collect();
            assert_eq!(read(&arguments).act, Err(ArgvError::Unknown), "{row:?}");
        }
        // A value and a command may have it anywhere.
        let kept: [&[&str]; 2] =
            [&["exec", "--env=A= ", "id", "sh", " -c", "x "], &["exec", "-e", " A", "id", " "]];
        for row in kept {
            let arguments: Vec<&OsStr> = row.iter().map(OsStr::new).collect();
            let expected = Act::Exec(Exec { id: OsStr::new("id"), ..Exec::default() });
            assert_eq!(read(&arguments).act, Ok(expected), "{row:?}");
        }
    }

    #[test]
    fn what_starts_nothing_is_nobodys_affair() {
        let others = [
            "",
            "state id",
            "features",
            "--version",
            "-v",
            "--help",
            "--version create --bundle",
            "create --help",
            "create --bundle /b --help id",
            "exec -h",
            "help create",
            "start create",
            "--root /r kill --all id 9",
            "update --resources=- id",
            "--log create state id",
            "--unheard-of state id",
            "ps --format json id",
            "created --bundle /b id",
            "-x state id",
        ];
        for line in others {
            assert_eq!(of(line).act, Ok(Act::Other), "{line}");
        }
        let deletes = [
            "delete id",
            "delete --force id",
            "delete id --force",
            "--root /r delete -f id",
            "delete --new value id",
        ];
        for line in deletes {
            assert_eq!(of(line).act, Ok(Act::Delete(Some(OsStr::new("id")))), "{line}");
        }
        // What nobody accepts is still a start if it could be one.
        assert_eq!(of("-x create --bundle /b id").act, Err(ArgvError::Unknown));
        assert_eq!(of("--c x create --bundle /b id").act, Err(ArgvError::Ambiguous));
    }

    #[test]
    fn an_exec_ends_its_options_at_the_container() {
        let os = OsStr::new;
        let plain = || Exec { id: os("id"), ..Exec::default() };
        let file = || Exec { process: Some(os("/p")), ..plain() };
        let rows = [
            ("exec --process /p --detach --pid-file /x id", Ok(file())),
            ("exec --pid-file=/x --process=/p id", Ok(file())),
            ("exec -p /p id", Ok(file())),
            ("exec -d -p/p id", Ok(file())),
            ("exec -dp /p id", Ok(file())),
            ("exec -p=/p id", Err(ArgvError::Ambiguous)),
            ("exec id --process /p", Err(ArgvError::Ambiguous)),
            ("exec -tp /p id", Err(ArgvError::Ambiguous)),
            ("exec --proc /p id", Err(ArgvError::Ambiguous)),
            ("exec id ls --process /p -u 0", Ok(plain())),
            ("exec -- id ls", Ok(plain())),
            ("exec -it id sh", Err(ArgvError::Unknown)),
            ("exec --tty=false id sh", Ok(plain())),
            ("--root /r exec id sh", Ok(Exec { root: Some(os("/r")), ..plain() })),
            ("exec --root /r id sh", Ok(Exec { root: Some(os("/r")), ..plain() })),
            ("exec -u 0:0 id sh", Ok(Exec { user: Some(os("0:0")), ..plain() })),
            ("exec --user 0 -e A=B --cwd / id sh", Ok(Exec { user: Some(os("0")), ..plain() })),
            (
                "exec -c CAP_A --cap CAP_B id sh",
                Ok(Exec { capabilities: vec![os("CAP_A"), os("CAP_B")], ..plain() }),
            ),
            ("exec --no-new-privs id sh", Ok(Exec { no_new_privileges: Some(true), ..plain() })),
            ("exec --no-new-privs=false id sh", Ok(Exec { no_new_privileges: Some(false), ..plain() })),
            ("exec --no-new-privs=f id sh", Ok(Exec { no_new_privileges: Some(false), ..plain() })),
            ("exec --no-new-privs=T id sh", Ok(Exec { no_new_privileges: Some(true), ..plain() })),
            ("exec --no-new-privs=no id sh", Err(ArgvError::Unknown)),
            ("exec --no-new-privs= id sh", Ok(Exec { no_new_privileges: Some(true), ..plain() })),
            ("exec --apparmor unconfined id sh", Ok(Exec { apparmor: Some(os("unconfined")), ..plain() })),
            ("exec --a unconfined id sh", Err(ArgvError::Ambiguous)),
            ("exec --process-label a:b:c id sh", Ok(Exec { label: Some(os("a:b:c")), ..plain() })),
        ];
        for (line, expected) in rows {
            assert_eq!(of(line).act, expected.map(Act::Exec), "{line}");
        }
    }

    #[test]
    fn mounts_of_a_container_are_known() {
        let mounts =
            |root: Option<&'static str>| Ok(Act::Mounts { root: root.map(OsStr::new), id: OsStr::new("id") });
        let rows = [
            ("mounts add id file", mounts(None)),
            ("mounts remove id file", mounts(None)),
            ("--root /r --log /l mounts add id file", mounts(Some("/r"))),
            ("--roo /r mounts add id file", Err(ArgvError::Ambiguous)),
            ("mounts -- add id file", mounts(None)),
            ("mounts list id file", Ok(Act::Other)),
            ("mounts add id", Ok(Act::Other)),
            ("mounts --help", Ok(Act::Other)),
        ];
        for (line, expected) in rows {
            assert_eq!(of(line).act, expected, "{line}");
        }
    }

    #[test]
    fn the_log_is_known_whatever_comes_after_it() {
        let rows = [
            ("--log /l create id", Some("/l"), false),
            ("--log=/l --log-format=json create id", Some("/l"), true),
            ("--log /l --log-format json create --bundle", Some("/l"), true),
            ("--log-format text --log /l create -b=x id", Some("/l"), false),
            ("--log /l create --config /x id", Some("/l"), false),
            ("--new --log /l create --bundle /b id", Some("/l"), false),
            ("create id", None, false),
        ];
        for (line, log, json) in rows {
            let argv = of(line);
            assert_eq!((argv.log, argv.json), (log.map(OsStr::new), json), "{line}");
        }
    }
}
