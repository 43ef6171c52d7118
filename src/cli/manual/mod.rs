//! The manual: a page for each program, and one for the policy. Each is generated from what the programs themselves read:
//! the command line's definition, the table of controls, the policy's reference.

mod agent;
mod gate;
mod policy;
mod tool;

use clap::{Arg, Command, CommandFactory as _, ValueEnum};

use super::arguments::Cli;
use super::explain;
use crate::install::units::Manual;
use crate::output::roff;

/// A page of the manual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// pss-guard(8), the tool and all its commands
    #[default]
    #[value(name = "pss-guard")]
    Tool,
    /// pss-guard-gate(8), the program that engines call
    #[value(name = "pss-guard-gate")]
    Gate,
    /// pss-guard-agent(8), the program that tells the gate what the API server knows
    #[value(name = "pss-guard-agent")]
    Agent,
    /// pss-guard.toml(5), the policy
    #[value(name = "pss-guard.toml")]
    Policy,
}

impl Page {
    /// Its section of the manual: administration, or formats of files.
    #[must_use]
    pub const fn section(self) -> u8 {
        match self {
            Self::Tool | Self::Gate | Self::Agent => 8,
            Self::Policy => 5,
        }
    }

    /// Its name, without the section.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The page, in roff.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Tool => tool::page(),
            Self::Gate => gate::page(),
            Self::Agent => agent::page(),
            Self::Policy => policy::page(),
        }
    }
}

/// All pages, as `install` puts them on a node.
#[must_use]
pub fn manual() -> Vec<Manual> {
    let file = |page: &Page| Manual {
        section: page.section(),
        name: format!("{}.{}", page.name(), page.section()),
        text: page.text(),
    };
    Page::value_variants().iter().map(file).collect()
}

/// The command line as it is parsed: every command has its whole name, and the options that are for all.
fn command_line() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// What stands for a value: `LEVEL[:VERSION]`.
fn value(argument: &Arg) -> Option<String> {
    let names = argument.get_value_names().map(|names| names.join(" "));
    let is_valued = argument.is_positional() || argument.get_action().takes_values();
    is_valued.then(|| names.unwrap_or_else(|| argument.get_id().as_str().to_uppercase()))
}

/// The arguments of a command that a page describes. Those for all commands are described once, with the program.
fn arguments(command: &Command, is_top: bool) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(move |argument| {
        let is_common = matches!(argument.get_id().as_str(), "help" | "version");
        !argument.is_hide_set() && !is_common && (is_top || !argument.is_global_set())
    })
}

/// One line that shows how to call a command.
fn synopsis(command: &Command, is_top: bool) -> String {
    let mut line = format!("`{}`", command.get_bin_name().unwrap_or_else(|| command.get_name()));
    let (positional, options): (Vec<_>, Vec<_>) =
        arguments(command, is_top).partition(|argument| argument.is_positional());
    for argument in options.into_iter().chain(positional) {
        let many = matches!(argument.get_action(), clap::ArgAction::Append);
        let many = if many { "..." } else { "" };
        let shown = [argument.get_long().map(|long| format!("`--{long}`")), value(argument)];
        let shown = shown.into_iter().flatten().collect::<Vec<_>>().join(" ") + many;
        line =
            if argument.is_required_set() { format!("{line} {shown}") } else { format!("{line} [{shown}]") };
    }
    line
}

/// What each argument of a command is for.
fn options(page: &mut roff::Page, command: &Command, is_top: bool) {
    for argument in arguments(command, is_top) {
        let short = argument.get_short().map(|short| format!("`-{short}`"));
        let long = argument.get_long().map(|long| format!("`--{long}`"));
        let mut word = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
        if let Some(value) = value(argument) {
            word = if word.is_empty() { value } else { format!("{word} {value}") };
        }
        let help = argument.get_long_help().or_else(|| argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let mut paragraphs = help.split("\n\n");
        let mut first = paragraphs.next().unwrap_or_default().to_owned();
        let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
        let defaults = defaults.collect::<Vec<_>>().join(" ");
        if !defaults.is_empty() && !argument.is_hide_default_value_set() && value(argument).is_some() {
            first = format!("{first} [default: {defaults}]");
        }
        page.entry(&word, &first);
        paragraphs.for_each(|more| page.further(more));
        if value(argument).is_some() && !argument.is_hide_possible_values_set() {
            for possible in argument.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
                let about = possible.get_help().map(|help| format!(": {help}")).unwrap_or_default();
                page.further(&format!("`{}`{about}", possible.get_name()));
            }
        }
    }
}

/// What an exit code means that names no control.
fn exit(page: &mut roff::Page, exit: &explain::Exit) {
    page.entry(&format!("`{}`", exit.code), exit.text);
}

/// What the codes mean that name a control.
fn denied(page: &mut roff::Page) {
    page.entry(&format!("`11` to `{}`", explain::last_exit_code()), explain::DENIED);
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::{Page, command_line};
    use crate::cli::explain;
    use crate::pss::controls::CONTROLS;

    /// A page without what roff needs.
    pub(super) fn plain(page: Page) -> String {
        let text = page.text();
        [
            ("\\fB", ""),
            ("\\fR", ""),
            ("\\-", "-"),
            ("\\(aq", "'"),
            ("\\(dq", "\""),
            ("\\e", "\\"),
            ("\\&", ""),
        ]
        .iter()
        .fold(text, |text, (roff, letter)| text.replace(roff, letter))
    }

    pub(super) fn section<'p>(page: &'p str, title: &str) -> &'p str {
        let found = page.split(&format!("\n.SH {title}\n")).nth(1);
        let found = found.unwrap_or_else(|| panic!("no section {title}\n{page}"));
        found.split("\n.SH ").next().unwrap()
    }

    #[test]
    fn every_page_has_the_sections_that_readers_look_for() {
        let common = ["NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"];
        let programs = ["OPTIONS", "EXIT STATUS", "ENVIRONMENT"];
        for page in Page::value_variants() {
            let text = plain(*page);
            let own = if *page == Page::Policy { &["KEYS"][..] } else { &programs };
            for title in common.iter().chain(own) {
                assert!(section(&text, title).lines().count() >= 1, "{title}");
            }
            assert!(text.starts_with(&format!(".TH {} {} ", page.name().to_uppercase(), page.section())));
            assert!(text.is_ascii() && !text.contains("\n|"), "{text}");
        }
    }

    #[test]
    fn the_tools_page_has_every_option_and_every_example_of_every_command() {
        let page = plain(Page::Tool);
        let command = command_line();
        let mut commands = vec![&command];
        let mut options = 0;
        while let Some(command) = commands.pop() {
            commands.extend(
                command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()),
            );
            let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
            let part = if name == "pss-guard" {
                section(&page, "OPTIONS").to_owned() + section(&page, "EXAMPLES")
            } else {
                let part = page.split(&format!("\n.SS {name}\n")).nth(1);
                let part = part.unwrap_or_else(|| panic!("{name} is not in the manual\n{page}"));
                part.split("\n.SS ").next().unwrap().to_owned()
            };
            let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("    ")).collect();
            assert!(!examples.is_empty(), "{name} has no example");
            for example in examples {
                assert!(part.contains(&format!("\n.nf\n{example}\n.fi\n")), "{name}: {example}\n{part}");
            }
            for option in command.get_arguments().filter(|own| !own.is_hide_set()) {
                let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) else {
                    continue;
                };
                if name == "pss-guard" || !option.is_global_set() {
                    let described = part.lines().collect::<Vec<_>>();
                    let is_entry = |pair: &[&str]| pair[0] == ".TP" && pair[1].contains(&format!("--{long}"));
                    assert!(described.windows(2).any(is_entry), "{name} --{long}\n{part}");
                    options += 1;
                }
            }
        }
        assert!(options > 40, "only {options} options");
    }

    #[test]
    fn what_a_person_runs_first_comes_first_and_what_only_programs_call_last() {
        let command = command_line();
        let shown = command.get_subcommands().filter(|own| !own.is_hide_set() && own.get_name() != "help");
        let names: Vec<&str> = shown.map(clap::Command::get_name).collect();
        assert_eq!((names.first(), names.last()), (Some(&"install"), Some(&"hook")), "{names:?}");
    }

    #[test]
    fn the_gates_page_has_the_code_of_every_control() {
        let page = plain(Page::Gate);
        let exit = section(&page, "EXIT STATUS");
        for control in CONTROLS {
            let entry = format!("\n{} {}\n", explain::exit_code(control), control.id);
            assert!(exit.contains(&entry), "{entry}\n{exit}");
        }
    }
}
