//! pss-guard-agent(8): the agent. Its options are those that it parses: the file that defines its command line is compiled here
//! as well, because its workspace is another one.

#[path = "../../../agent/src/options.rs"]
#[allow(dead_code, reason = "only the agent reads what was parsed")]
mod options;

use clap::CommandFactory as _;

use super::{Page, options, synopsis};
use crate::output::roff;

pub(super) fn page() -> String {
    let mut agent = self::options::Options::command();
    agent.build();
    let Some(run) = agent.find_subcommand("run") else { return String::new() };
    let about = "tells the gate what only the API server knows";
    let mut page = roff::Page::new(&Page::Agent.name(), Page::Agent.section(), about);
    page.section("Synopsis");
    page.text(&synopsis(run, false));
    page.text("`pss-guard-agent --version`");
    page.section("Description");
    for paragraph in DESCRIPTION {
        page.text(paragraph);
    }
    page.section("Options");
    page.text("Of `pss-guard-agent run`:");
    options(&mut page, run, false);
    page.section("Exit status");
    page.entries(EXITS);
    page.section("Environment");
    page.entries(ENVIRONMENT);
    page.section("Files");
    page.entries(FILES);
    page.section("Examples");
    let examples = run.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    // Lines that a shell joins.
    page.examples(&examples.replace(" \\\n      ", " "));
    page.text("As a unit of the host, and what it says there:");
    page.code("systemctl enable --now pss-guard-agent.service\njournalctl -u pss-guard-agent.service");
    page.text("Whether it has contact, and what it knows:");
    page.code("curl --silent http://127.0.0.1:9465/readyz\npss-guard status");
    page.section("See also");
    page.text("`pss-guard`(8), `pss-guard-gate`(8), `pss-guard.toml`(5), `systemctl`(1)");
    page.finish()
}

const DESCRIPTION: &[&str] = &[
    "The agent watches the cluster's namespaces and this node's pods, reads the manifests of static pods, and writes what it \
     finds into files. The gate (`pss-guard-gate`(8)) reads them before each container starts. The agent decides nothing. While \
     it does not run, or the API server does not answer, everything that was written stays in force.",
    "It runs as a DaemonSet with a ServiceAccount, or on the host as `pss-guard-agent.service` with the kubelet's identity. \
     Nothing starts it by itself. One agent per node is enough.",
    "It serves `/metrics`, `/healthz` and `/readyz` on the address of `--listen`. `/readyz` fails while the API server does not \
     answer or a list is not complete; `/healthz` fails only if the agent itself does not work. Of what the gate logs it creates \
     Events on pods and their owners.",
    "It needs root, because the gate reads root's files only, and no capabilities.",
];

const EXITS: &[(&str, &str)] = &[
    ("0", "It was ended by SIGTERM or SIGINT. What it has written stays."),
    (
        "2",
        "Wrong usage, or it cannot serve on the address of `--listen`. It never ends because the API server does not answer.",
    ),
];

/// What the agent reads of its environment.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("NODE_NAME", "The node's name, unless `--node-name` is given."),
    ("RUST_LOG", "What to log, as `info` or `debug`, also by part of the program: `info,kube=debug`."),
    (
        "KUBERNETES_SERVICE_HOST",
        "With `KUBERNETES_SERVICE_PORT`: the API server, without `--kubeconfig`. Kubernetes sets both in a pod.",
    ),
];

const FILES: &[(&str, &str)] = &[
    ("/run/pss-guard/namespaces/", "It writes the levels of the cluster's namespaces, a file each."),
    ("/run/pss-guard/pods/", "With `/run/pss-guard/static/`: what the pods of this node declare."),
    (
        "/run/pss-guard/agent/",
        "`agent.json`: when the API server last answered. `cluster.json`: the cluster's version.",
    ),
    (
        "/var/lib/pss-guard/",
        "Copies of these four folders for the next boot. It writes nothing else on the node.",
    ),
    ("/run/pss-guard/events/", "The gate's events, of which it makes Events of Kubernetes."),
    ("/run/pss-guard/gate/formats", "Which formats of files the gate reads."),
    ("/var/run/secrets/kubernetes.io/serviceaccount/", "The pod's ServiceAccount, without `--kubeconfig`."),
    (
        "/etc/systemd/system/pss-guard-agent.service",
        "The unit; its comment has what can be set in it. A package has it in `/usr/lib/systemd/system/`.",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::tests::{plain, section};
    use super::super::{Page, value};
    use super::options::Options;
    use clap::CommandFactory as _;

    #[test]
    fn the_agents_page_has_every_option_and_every_variable_of_its_command_line() {
        let text = plain(Page::Agent);
        let (described, environment) = (section(&text, "OPTIONS"), section(&text, "ENVIRONMENT"));
        let mut agent = Options::command();
        agent.build();
        let run = agent.find_subcommand("run").unwrap();
        let mut seen = (0, 0);
        for option in run.get_arguments().filter(|own| !own.is_hide_set()) {
            let Some(long) = option.get_long().filter(|long| *long != "help") else { continue };
            let entry = format!("\n.TP\n--{long} {}\n", value(option).unwrap());
            assert!(described.contains(&entry), "{entry}\n{described}");
            seen.0 += 1;
            if let Some(variable) = option.get_env().and_then(std::ffi::OsStr::to_str) {
                assert!(environment.contains(&format!("\n{variable}\n")), "{variable}\n{environment}");
                seen.1 += 1;
            }
        }
        assert!(seen.0 > 5 && seen.1 > 0, "{seen:?}");
    }
}
