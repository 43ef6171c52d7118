//! Renders the manual page: one page for all commands, because one file is easier to install than ten.

use std::fmt::Write as _;
use std::io;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::arguments::Cli;

/// The page, in roff.
#[must_use]
pub fn manual() -> Vec<u8> {
    // Memory takes everything.
    render(Cli::command()).unwrap_or_default()
}

fn render(mut command: Command) -> io::Result<Vec<u8>> {
    // Gives every command its whole name, and the options that hold for all.
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for command in command.get_subcommands() {
        section(command, &mut page)?;
    }
    page.extend_from_slice(FILES.as_bytes());
    Ok(page)
}

/// What lies where, and what to read besides.
const FILES: &str = r#".SH FILES
.TP
.I /etc/pss\-guard/policy.toml
The policy. Without one the node is in audit mode.
.TP
.I /run/pss\-guard/namespaces/
The levels of the cluster's namespaces as imported last; the copy for the next boot is in
.IR /var/lib/pss\-guard/namespaces/ .
.TP
.IR /run/pss\-guard/pods/ ,\ /run/pss\-guard/static/
Facts of this node's pods, one file each; the copies for the next boot are beside those of the namespaces.
.TP
.I /run/pss\-guard/agent/cluster.json
The cluster's version, which is what `latest` stands for; the copy for the next boot is beside those of the namespaces.
.TP
.I /run/pss\-guard/mode.json
The temporary mode.
.TP
.I /var/lib/pss\-guard/bin/pss\-guard\-gate
The gate, as the engines call it.
.TP
.I /var/lib/pss\-guard/bin/pss\-guard
The tool, as the units of systemd call it.
.TP
.I /var/lib/pss\-guard/install/
What was installed, and the original of every changed file.
.TP
.I /var/log/pss\-guard/decisions.jsonl
Events that journald did not accept.
.SH SEE ALSO
.BR journalctl (1)
with
.BR "\-t pss\-guard" ;
.BR runc (8),
.BR crun (1).
"#;

/// A command's own section, its parts one level below; for a group of commands, those of its commands.
fn section(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|command| section(command, page));
    }
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let command = command.clone().mut_args(|argument| {
        // They are above, once.
        let hide = argument.is_global_set() || matches!(argument.get_id().as_str(), "help" | "version");
        argument.hide(hide)
    });
    let man = Man::new(command.clone());
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    let parts = String::from_utf8_lossy(&parts).replace(".SH ", ".SS ") + &examples(&command);
    page.extend_from_slice(format!(".SH \"{}\"\n{parts}", name.to_uppercase()).as_bytes());
    Ok(())
}

/// The end of a command's help: what each example is for, and the command, which stands as it is typed.
fn examples(command: &Command) -> String {
    let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut lines = text.lines();
    let Some(title) = lines.next() else { return String::new() };
    let mut roff = format!(".SS {}\n", title.trim_end_matches(':'));
    for line in lines {
        let escaped = line.trim().replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        if line.starts_with("    ") {
            let _ = write!(roff, ".RS 4\n.nf\n{escaped}\n.fi\n.RE\n");
        } else {
            let _ = write!(roff, ".PP\n{escaped}\n");
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::manual;
    use crate::cli::arguments::Cli;

    #[test]
    fn the_manual_has_every_option_and_every_example_of_every_command() {
        let page = String::from_utf8(manual()).unwrap().replace("\\-", "-").replace("\\(aq", "'");
        let mut command = Cli::command();
        command.build();
        let mut commands: Vec<_> = command.get_subcommands().collect();
        let mut options = 0;
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            if command.get_name() == "help" || command.has_subcommands() {
                continue;
            }
            let name = command.get_bin_name().unwrap();
            if name.contains(" help") {
                continue;
            }
            let section = page.split(&format!(".SH \"{}\"\n", name.to_uppercase())).nth(1);
            let section = section.unwrap_or_else(|| panic!("{name} is not in the manual\n{page}"));
            let section = section.split("\n.SH ").next().unwrap();
            let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("    ")).collect();
            assert!(!examples.is_empty(), "{name} has no example");
            for example in examples {
                assert!(
                    section.contains(&format!("\n.nf\n{example}\n.fi\n")),
                    "{name}: {example}\n{section}"
                );
            }
            // The synopsis names them, too, but does not say what they are for.
            let described = section.split(".SS OPTIONS").nth(1).unwrap_or_default();
            for option in command.get_arguments().filter(|argument| !argument.is_global_set()) {
                let Some(long) = option.get_long().filter(|long| *long != "help") else { continue };
                assert!(described.contains(&format!("--{long}")), "{name} --{long}\n{section}");
                options += 1;
            }
        }
        assert!(options > 5, "only {options} options");
    }
}
