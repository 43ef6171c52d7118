//! Completions: what the shells' scripts ask for at each tab, by `pss-guard __complete -- WORDS…`.
//!
//! The scripts know no command, option or value: all of that is read here, from the command line's definition and from the node,
//! so a script never has to fit a version. They know three answers, the first line: `words` with a candidate a line (and what it is, behind a tab),
//! `files`, and `folders`. A candidate has no letter that a shell could take for more than itself.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _, ValueEnum};

use super::arguments::Cli;
use super::{OK, explain};
use crate::install::engines;
use crate::level::cache::load_usable;
use crate::level::{Labels, Mode, is_dns_label, namespaces};
use crate::node::recognize;
use crate::paths::Paths;
use crate::pss::controls::CONTROLS;
use crate::pss::{Level, NEWEST};
use crate::scan::{self, Setting};

/// The shells whose scripts are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash 4 and newer
    Bash,
    /// zsh
    Zsh,
    /// fish 3 and newer
    Fish,
}

impl Shell {
    /// The script that makes the shell ask.
    #[must_use]
    pub const fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("pss-guard.bash"),
            Self::Zsh => include_str!("pss-guard.zsh"),
            Self::Fish => include_str!("pss-guard.fish"),
        }
    }
}

/// Answers a shell: what can the last of these words be? It never fails: a shell that waits for a word wants no message.
pub fn complete(words: &[String], out: &mut dyn Write) -> u8 {
    let mut command = Cli::command();
    command.build();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let _ = match Line::of(&command, before).offer(last) {
        Offer::Files => writeln!(out, "files"),
        Offer::Folders => writeln!(out, "folders"),
        Offer::Words(words) => {
            let fitting = words.into_iter().filter(|(word, _)| word.starts_with(last) && is_harmless(word));
            let lines = fitting.map(|(word, about)| format!("{word}\t{}\n", first_sentence(&about)));
            write!(out, "words\n{}", lines.collect::<String>())
        }
    };
    OK
}

/// Whether no shell makes anything of a word but the word.
fn is_harmless(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=/".contains(&byte))
}

fn first_sentence(about: &str) -> &str {
    let line = about.lines().next().unwrap_or_default();
    line.split_once(". ").map_or(line, |(first, _)| first)
}

/// What a word can be.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// One of these; and what each is.
    Words(Vec<(String, String)>),
    /// A path.
    Files,
    /// A path of a folder.
    Folders,
}

/// The words before the one that is asked about.
struct Line<'c> {
    command: &'c Command,
    /// How many arguments without a name there are.
    positional: usize,
    /// The option whose value comes next.
    awaiting: Option<&'c Arg>,
    /// Whether `--` has ended the options.
    ended: bool,
    /// The value of `--root`.
    root: String,
}

impl<'c> Line<'c> {
    fn of(command: &'c Command, words: &[String]) -> Self {
        let mut line = Self { command, positional: 0, awaiting: None, ended: false, root: "/".to_owned() };
        for word in words {
            line.add(word);
        }
        line
    }

    fn add(&mut self, word: &str) {
        if let Some(option) = self.awaiting.take() {
            self.set(option, word);
        } else if self.ended || !word.starts_with('-') || word == "-" {
            match self.command.find_subcommand(word) {
                Some(below) if !self.ended && self.positional == 0 => self.command = below,
                _ => self.positional += 1,
            }
        } else if word == "--" {
            self.ended = true;
        } else if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=') {
                Some((name, value)) => {
                    if let Some(option) = self.long(name) {
                        self.set(option, value);
                    }
                }
                None => self.awaiting = self.long(long),
            }
        } else {
            // A cluster of letters, of which the last may await a value.
            let last = word.chars().next_back();
            self.awaiting = self.options().find(|option| option.get_short() == last && takes_value(option));
        }
    }

    fn set(&mut self, option: &Arg, value: &str) {
        if option.get_id() == "root" {
            value.clone_into(&mut self.root);
        }
    }

    fn options(&self) -> impl Iterator<Item = &'c Arg> + use<'c> {
        self.command.get_arguments().filter(|argument| !argument.is_positional())
    }

    /// The option of this name that takes a value.
    fn long(&self, name: &str) -> Option<&'c Arg> {
        self.options().find(|option| option.get_long() == Some(name) && takes_value(option))
    }

    fn offer(&self, last: &str) -> Offer {
        if let Some(option) = self.awaiting {
            return self.values(option, "", last);
        }
        if last.starts_with('-') && !self.ended {
            return match last.strip_prefix("--").and_then(|long| long.split_once('=')) {
                Some((name, value)) => match self.long(name) {
                    Some(option) => self.values(option, &format!("--{name}="), value),
                    None => Offer::Words(Vec::new()),
                },
                None => Offer::Words(self.shown_options()),
            };
        }
        if self.command.has_subcommands() && self.positional == 0 {
            let shown = self.command.get_subcommands().filter(|below| !below.is_hide_set());
            let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
            return Offer::Words(shown.map(|below| (below.get_name().to_owned(), about(below))).collect());
        }
        let all: Vec<&Arg> = self.command.get_positionals().collect();
        let many = all.last().filter(|last| last.get_num_args().is_some_and(|count| count.max_values() > 1));
        match all.get(self.positional).or(many) {
            Some(argument) => self.values(argument, "", last),
            None => Offer::Words(Vec::new()),
        }
    }

    fn shown_options(&self) -> Vec<(String, String)> {
        let shown = self.options().filter(|option| !option.is_hide_set());
        let help = |option: &Arg| option.get_help().map(ToString::to_string).unwrap_or_default();
        shown.filter_map(|option| Some((format!("--{}", option.get_long()?), help(option)))).collect()
    }

    /// The values of an argument, behind what the word begins with.
    fn values(&self, argument: &Arg, begin: &str, typed: &str) -> Offer {
        let possible: Vec<_> = argument
            .get_possible_values()
            .into_iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| {
                (value.get_name().to_owned(), value.get_help().map(ToString::to_string).unwrap_or_default())
            })
            .collect();
        let words = if possible.is_empty() {
            match Values::of(argument) {
                Some(Values::Files) => return Offer::Files,
                Some(Values::Folders) => return Offer::Folders,
                Some(values) => values.words(typed, Path::new(&self.root)),
                None => Vec::new(),
            }
        } else {
            possible
        };
        Offer::Words(words.into_iter().map(|(word, about)| (format!("{begin}{word}"), about)).collect())
    }
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

/// What the name of a value stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    Files,
    Folders,
    Namespaces,
    Controls,
    ControlsAndCodes,
    Engines,
    EnginesAndAuto,
    Levels,
    Distributions,
    Modes,
    Annotations,
    /// Whatever somebody types.
    Anything,
}

/// Every name of a value whose argument does not list its values itself.
const VALUES: [(&str, Values); 17] = [
    ("COMMAND", Values::Anything),
    ("CONTROL", Values::Controls),
    ("CONTROL|EXIT-CODE", Values::ControlsAndCodes),
    ("DIR", Values::Folders),
    ("DISTRIBUTION", Values::Distributions),
    ("ENGINE", Values::Engines),
    ("ENGINE|auto", Values::EnginesAndAuto),
    ("FILE", Values::Files),
    ("KEY=VALUE", Values::Annotations),
    ("LEVEL[:VERSION]", Values::Levels),
    ("MODE", Values::Modes),
    ("NAME", Values::Anything),
    ("NAMESPACE", Values::Namespaces),
    ("PATH", Values::Files),
    ("TEXT", Values::Anything),
    ("TIME", Values::Anything),
    ("WORDS", Values::Anything),
];

impl Values {
    fn of(argument: &Arg) -> Option<Self> {
        let names = argument.get_value_names().unwrap_or_default();
        let name = names.first().map(clap::builder::Str::as_str)?;
        VALUES.iter().find(|(own, _)| *own == name).map(|(_, values)| *values)
    }

    fn words(self, typed: &str, root: &Path) -> Vec<(String, String)> {
        let bare = |words: Vec<String>| words.into_iter().map(|word| (word, String::new())).collect();
        let controls =
            || CONTROLS.iter().map(|own| (own.id.to_owned(), format!("{}: {}", own.level, own.doc.rule)));
        let engines = || engines::ALL.iter().map(|own| own.engine.name().to_owned());
        match self {
            Self::Files | Self::Folders | Self::Anything => Vec::new(),
            Self::Namespaces => bare(known_namespaces(root).into_iter().collect()),
            Self::Controls => controls().collect(),
            Self::ControlsAndCodes => {
                let code = |exit: &explain::Exit| (exit.code.to_string(), exit.text.to_owned());
                let of_controls = CONTROLS.iter();
                let of_controls = of_controls
                    .map(|own| (explain::exit_code(own).to_string(), format!("denied: {}", own.id)));
                controls().chain(explain::EXITS.iter().map(code)).chain(of_controls).collect()
            }
            Self::Engines => bare(engines().collect()),
            Self::EnginesAndAuto => bare(engines().chain(["auto".to_owned()]).collect()),
            Self::Levels => match typed.split_once(':') {
                None => bare(Level::ALL.iter().map(ToString::to_string).collect()),
                Some((level, _)) if level.parse::<Level>().is_ok() => {
                    let numbers = (0..=NEWEST).rev().map(|minor| format!("{level}:v1.{minor}"));
                    bare([format!("{level}:latest")].into_iter().chain(numbers).collect())
                }
                Some(_) => Vec::new(),
            },
            Self::Distributions => {
                bare(recognize::names().map(|name| name.replace(' ', "-").to_lowercase()).collect())
            }
            Self::Modes => bare([Mode::Audit, Mode::Enforce].iter().map(ToString::to_string).collect()),
            Self::Annotations => {
                let of_levels = Labels::KEYS.iter().filter(|key| !key.ends_with("-version"));
                let pairs =
                    of_levels.flat_map(|key| Level::ALL.iter().map(move |level| format!("{key}={level}")));
                bare(pairs.collect())
            }
        }
    }
}

/// The namespaces that this node has heard of: imported, named in the policy, or with a container that runs. What cannot be
/// read has none, and a name that is none is left out: anybody may have written it.
fn known_namespaces(root: &Path) -> BTreeSet<String> {
    let paths = Paths::under(root);
    let mut known = namespaces::names(&paths.namespaces()).unwrap_or_default();
    if let Ok(usable) = load_usable(&paths) {
        known.extend(usable.policy.namespaces.into_keys());
        known.extend(usable.policy.exemptions.namespaces);
    }
    // No container is of this namespace, so none is evaluated.
    let none = [String::new()];
    let running =
        scan::scan(&Setting::under(root), &scan::Options { namespaces: &none, ..Default::default() });
    known.extend(running.map(|scan| scan.elsewhere).unwrap_or_default());
    known.retain(|name| is_dns_label(name));
    known
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Command, CommandFactory as _};

    use super::{VALUES, Values, complete, is_harmless, takes_value};
    use crate::cli::arguments::Cli;

    /// The answer to a line that ends where the cursor is.
    fn answer(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut out = Vec::new();
        complete(&words, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_word_is_completed_by_where_it_is() {
        let rows: &[(&str, &[&str])] = &[
            ("sc", &["words", "scan"]),
            ("--ro", &["words", "--root"]),
            ("cluster ", &["words", "import", "help"]),
            ("explain runAs", &["words", "runAsNonRoot", "runAsUser"]),
            ("explain 3", &["words", "31", "30"]),
            ("scan --control hostPo", &["words", "hostPorts"]),
            ("scan --control=hostPo", &["words", "--control=hostPorts"]),
            ("scan --format js", &["words", "json"]),
            ("scan --format=js", &["words", "--format=json"]),
            ("scan --level r", &["words", "restricted"]),
            ("scan --level restricted:l", &["words", "restricted:latest"]),
            ("scan --level restricted:v1.0", &["words", "restricted:v1.0"]),
            ("scan --level nonsense:v", &["words"]),
            ("status --engine c", &["words", "containerd", "cri-o"]),
            ("status --engine a", &["words"]),
            ("install --engine a", &["words", "auto"]),
            ("install --distribution k3", &["words", "k3s"]),
            ("install --method ", &["words", "hook", "runtime"]),
            ("mode e", &["words", "enforce"]),
            ("mode enforce ", &["words"]),
            ("check --pod", &["words", "--pod"]),
            ("check ", &["files"]),
            ("check a.yaml ", &["files"]),
            ("check --policy ", &["files"]),
            ("check -n x ", &["files"]),
            ("--root ", &["folders"]),
            ("--root=/x --verbose scan --format h", &["words", "html"]),
            ("-v scan --format h", &["words", "html"]),
            ("check -- --po", &["files"]),
            (
                "policy show --pod-annotation pod-security.kubernetes.io/enforce=b",
                &["words", "pod-security.kubernetes.io/enforce=baseline"],
            ),
            ("mode audit --for ", &["words"]),
            ("completions ", &["words", "bash", "zsh", "fish"]),
            ("man pss-guard", &["words", "pss-guard", "pss-guard-gate", "pss-guard-agent", "pss-guard.toml"]),
            ("nonsense --x y ", &["words"]),
            ("scan --nonsense ", &["words"]),
            ("__com", &["words"]),
        ];
        for (line, expected) in rows {
            assert_eq!(answer(line), *expected, "{line}");
        }
    }

    #[test]
    fn every_value_that_an_option_takes_is_known() {
        fn each(command: &Command, used: &mut BTreeSet<String>) {
            for argument in command.get_arguments() {
                let is_valued = argument.is_positional() || takes_value(argument);
                if is_valued && argument.get_possible_values().is_empty() {
                    let names = argument.get_value_names().unwrap_or_default();
                    let what = format!("{} {}: {names:?}", command.get_name(), argument.get_id());
                    assert!(Values::of(argument).is_some(), "{what} is not in VALUES");
                    used.insert(names[0].to_string());
                }
            }
            command.get_subcommands().for_each(|below| each(below, used));
        }
        let mut command = Cli::command();
        command.build();
        let mut used = BTreeSet::new();
        each(&command, &mut used);
        used.remove("COMMAND");
        let known: BTreeSet<String> =
            VALUES.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "COMMAND").collect();
        assert_eq!(used, known);
    }

    #[test]
    fn only_harmless_words_are_offered() {
        for word in ["shop", "restricted:v1.36", "--format=json", "pod-security.kubernetes.io/enforce=x"] {
            assert!(is_harmless(word), "{word}");
        }
        for word in
            ["$(touch x)", "a b", "a'b", "a\"b", "a`b", "a;b", "a\nb", "a\tb", "a\\b", "*", "~", "a&b", "ü"]
        {
            assert!(!is_harmless(word), "{word}");
        }
    }
}
