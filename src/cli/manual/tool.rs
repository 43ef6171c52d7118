//! pss-guard(8): the tool.

use clap::Command;

use super::{Page, arguments, command_line, denied, exit, options, synopsis};
use crate::cli::explain;
use crate::output::roff;

pub(super) fn page() -> String {
    let command = command_line();
    let about = "checks containers against their Pod Security level";
    let mut page = roff::Page::new(&Page::Tool.name(), Page::Tool.section(), about);
    page.section("Synopsis");
    page.text(&format!("{} COMMAND", synopsis(&command, true)));
    page.section("Description");
    page.text(DESCRIPTION);
    page.section("Options");
    options(&mut page, &command, true);
    page.section("Commands");
    commands(&mut page, &command);
    page.section("Exit status");
    for own in explain::EXITS {
        exit(&mut page, own);
    }
    denied(&mut page);
    page.section("Environment");
    page.entries(ENVIRONMENT);
    page.section("Files");
    page.entries(FILES);
    page.section("Examples");
    let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    page.examples(&examples);
    page.section("See also");
    page.text(
        "`pss-guard-gate`(8), `pss-guard-agent`(8), `pss-guard.toml`(5), `journalctl`(1) with `-t pss-guard`, `runc`(8), `crun`(1)",
    );
    page.finish()
}

/// Every command has a part of its own; a group has one for its examples.
fn commands(page: &mut roff::Page, above: &Command) {
    let shown = above.get_subcommands().filter(|own| own.get_name() != "help" && !own.is_hide_set());
    for command in shown {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        page.part(name);
        let group = if command.has_subcommands() { " COMMAND" } else { "" };
        page.text(&format!("{}{group}", synopsis(command, false)));
        let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
        about.unwrap_or_default().split("\n\n").for_each(|paragraph| page.text(paragraph));
        if arguments(command, false).next().is_some() {
            options(page, command, false);
        }
        page.text("Examples:");
        page.examples(&command.get_after_long_help().map(ToString::to_string).unwrap_or_default());
        commands(page, command);
    }
}

const DESCRIPTION: &str = "`pss-guard` installs, checks and operates the gate that container engines call before a \
    container starts (`pss-guard-gate`(8)). The gate evaluates each container against the Pod Security level of its \
    namespace. In audit mode, the default, it logs what would be refused; in enforce mode it refuses. The policy is \
    described in `pss-guard.toml`(5).";

/// What the tool reads of its environment.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "NO_COLOR",
        "If set and not empty, output has no colours. It has none either where it is not a terminal.",
    ),
    (
        "COLUMNS",
        "The width of text in columns, instead of the terminal's. Text in a pipe or a file is not wrapped, but that of `scan` and `report` if this is set.",
    ),
    ("TERM", "`dumb` means no colours and ASCII only."),
    (
        "LC_ALL",
        "`LC_ALL`, `LC_CTYPE`, `LANG`: the first that is set decides whether output can have letters beyond ASCII.",
    ),
    ("SUDO_USER", "Named beside the user in the event of a mode change."),
];

/// What lies where.
const FILES: &[(&str, &str)] = &[
    ("/etc/pss-guard/policy.toml", "The policy. Without one the node is in audit mode."),
    ("/var/lib/pss-guard/policy.toml", "The last good policy, in force while the other cannot be used."),
    ("/run/pss-guard/policy.cache", "The policy, compiled for the gate."),
    (
        "/run/pss-guard/namespaces/",
        "The levels of the cluster's namespaces as imported last; the copy for the next boot is in `/var/lib/pss-guard/namespaces/`.",
    ),
    (
        "/run/pss-guard/pods/",
        "With `/run/pss-guard/static/`: facts of this node's pods, one file each; the copies for the next boot are beside those of the namespaces.",
    ),
    (
        "/run/pss-guard/agent/cluster.json",
        "The cluster's version, which is what `latest` stands for; the copy for the next boot is beside those of the namespaces.",
    ),
    (
        "/run/pss-guard/agent/agent.json",
        "What the agent says of itself: when the API server last answered it. The first report is kept for the next boot.",
    ),
    ("/run/pss-guard/mode.json", "The temporary mode."),
    (
        "/var/lib/pss-guard/bin/",
        "The gate, as the engines call it, and the tool, as the units of systemd call it.",
    ),
    ("/var/lib/pss-guard/runtimes/", "What engines call instead of a runtime, and links to the real ones."),
    ("/var/lib/pss-guard/install/", "What was installed, and the original of every changed file."),
    ("/var/lib/pss-guard/metrics/", "What `metrics` has counted, and the results that `scan --keep` saved."),
    ("/var/log/pss-guard/decisions.jsonl", "Events that journald did not accept."),
    (
        "/etc/systemd/system/pss-guard-*",
        "Units: the status at boot, and those that only the admin enables (agent, import of namespaces, scan, metrics, `install --persist`). A package has them in `/usr/lib/systemd/system/`.",
    ),
];
