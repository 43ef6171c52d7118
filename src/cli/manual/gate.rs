//! pss-guard-gate(8): the program that engines call. Its options are those that the tool's `hook` defines.

use super::{Page, command_line, denied, exit, options, synopsis};
use crate::cli::explain;
use crate::output::roff;
use crate::pss::controls::CONTROLS;

pub(super) fn page() -> String {
    let tool = command_line();
    let Some(hook) = tool.find_subcommand("hook") else { return String::new() };
    let root = tool.get_arguments().filter(|own| own.get_id() == "root").cloned();
    let root =
        root.map(|own| own.global(false).help("Use the policy and all other files below this directory"));
    let hook = hook.clone().mut_args(|own| {
        let is_of_the_tool = own.is_global_set();
        own.hide(is_of_the_tool)
    });
    let name = Page::Gate.name();
    let hook = hook.bin_name(format!("{name} hook")).args(root.map(|own| own.id("folder")));
    let mut page = roff::Page::new(&name, Page::Gate.section(), "evaluates each container before it starts");
    page.section("Synopsis");
    page.text(&synopsis(&hook, false));
    page.text("`pss-guard-runtime` [ARGUMENT...]");
    page.text("`pss-guard-gate publish-formats` [`--root` DIR]");
    page.text("`pss-guard-gate --version`");
    page.section("Description");
    for paragraph in DESCRIPTION {
        page.text(paragraph);
    }
    page.section("Options");
    page.text("Of `pss-guard-gate hook`, as `pss-guard install` writes them:");
    options(&mut page, &hook, false);
    page.text("`pss-guard-runtime` has no options of its own.");
    page.section("Exit status");
    // 1 is the tool's.
    explain::EXITS.iter().filter(|own| own.code != 1).for_each(|own| exit(&mut page, own));
    denied(&mut page);
    let mut controls: Vec<_> =
        CONTROLS.iter().map(|control| (explain::exit_code(control), control.id)).collect();
    controls.sort_unstable();
    for (code, id) in controls {
        page.further(&format!("`{code}` {id}"));
    }
    page.text(
        "As `pss-guard-runtime` it exits with the same codes if it refuses, and with 1 if there is no runtime to execute. \
         Otherwise the exit code is the real runtime's.",
    );
    page.section("Environment");
    page.entries(ENVIRONMENT);
    page.section("Files");
    page.entries(FILES);
    page.section("Examples");
    page.text("A hook for CRI-O and podman, in a folder of hooks:");
    page.code(HOOK.trim());
    page.text("A runtime for containerd 2, in its configuration:");
    let entry = CONTAINERD.lines().skip_while(|line| !line.starts_with('['));
    page.code(&entry.collect::<Vec<_>>().join("\n"));
    page.text("The last ten decisions of the gate:");
    page.code("journalctl -t pss-guard -n 10");
    page.section("See also");
    page.text("`pss-guard`(8), `pss-guard-agent`(8), `pss-guard.toml`(5), `journalctl`(1), `oci-hooks`(5), `runc`(8), `crun`(1)");
    page.finish()
}

/// The files that packagers get, and that the tests compare with what the installer writes.
const HOOK: &str = include_str!("../../../hooks/pss-guard.json");
const CONTAINERD: &str = include_str!("../../../hooks/containerd-2.toml");

const DESCRIPTION: &[&str] = &[
    "Container engines and runtimes call this program; people never do. `pss-guard install` puts it in front of an \
     engine, `pss-guard status` says whether it is active, and `pss-guard check` evaluates a container by hand \
     (`pss-guard`(8)).",
    "It evaluates one container against the level of its namespace (`pss-guard.toml`(5)) and logs what it decided to \
     journald with the identifier pss-guard, or else to a file. In audit mode every container starts. In enforce mode a \
     container that violates its enforce level is refused.",
    "As `pss-guard-gate hook` it is an OCI hook of the stage createRuntime. The runtime writes the state of the container to \
     its standard input, and does not start the container unless the exit code is 0. The reason for a refusal is one line on \
     standard error.",
    "By the name `pss-guard-runtime` it is a runtime: an engine calls it with the arguments of runc, crun or youki. It \
     evaluates `create`, `run`, `restore`, `exec` and whatever else starts a process or adds a mount, and then executes the \
     real runtime with the same arguments, to which the link `runtime` beside it leads. The reason for a refusal is on \
     standard error and in the file of `--log`, in the format of `--log-format`. Commands that start nothing go to the \
     runtime at once.",
    "`pss-guard-gate publish-formats` writes which formats of imported files this gate reads. `pss-guard install` and the \
     units of systemd call it.",
];

/// What the gate reads of its environment.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "Where `pss-guard-runtime` lies, if it was called without a folder."),
    (
        "XDG_RUNTIME_DIR",
        "Where the real runtime keeps its state of containers, for an `exec` without `--root`.",
    ),
    (
        "PSS_GUARD_PASSED",
        "Set for the real runtime, so that a runtime that calls `pss-guard-runtime` again in a loop is noticed.",
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/pss-guard/policy.toml",
        "The policy; `/run/pss-guard/policy.cache` is its compiled form, and `/var/lib/pss-guard/policy.toml` the last good one.",
    ),
    ("/run/pss-guard/namespaces/", "The levels of the cluster's namespaces."),
    ("/run/pss-guard/pods/", "With `/run/pss-guard/static/`: what the pods of this node declare."),
    ("/run/pss-guard/agent/cluster.json", "The cluster's version."),
    ("/run/pss-guard/mode.json", "The temporary mode."),
    ("/run/pss-guard/gate/formats", "Which formats this gate reads."),
    (
        "/run/pss-guard/events/",
        "Where this folder exists, the gate also appends its events to a file in it, for the agent.",
    ),
    ("/run/systemd/journal/socket", "Where journald takes events."),
    ("/var/log/pss-guard/decisions.jsonl", "Events that journald did not accept."),
    ("/var/lib/pss-guard/bin/pss-guard-gate", "The gate, as `install` placed it."),
    (
        "/var/lib/pss-guard/runtimes/ENGINE/HANDLER/",
        "`pss-guard-runtime`, which an engine calls for one of its handlers, and `runtime`, the link to the real one.",
    ),
];
