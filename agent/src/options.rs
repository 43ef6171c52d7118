//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Brings a node what only the API server knows: the levels of namespaces, and the pods of this node
#[derive(Debug, Parser)]
#[command(name = "pss-guard-agent", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch namespaces and this node's pods, and write what the gate reads
    #[command(after_long_help = "EXAMPLES:
  On a node, with the kubelet's identity:
    pss-guard-agent run --node-name node-1 --kubeconfig /etc/kubernetes/kubelet.conf \\
      --kubelet-config /var/lib/kubelet/config.yaml
  In a DaemonSet, with its ServiceAccount:
    pss-guard-agent run --listen 0.0.0.0:9465 --static-pods /etc/kubernetes/manifests")]
    Run(Run),
}

/// What `run` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// The node's name in the cluster
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub(crate) node_name: String,
    /// How to reach the API server, with the node's own identity [default: the pod's ServiceAccount]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// As whom a ServiceAccount asks for pods
    #[arg(long, value_name = "IDENTITY", default_value = "node", conflicts_with = "kubeconfig")]
    pub(crate) pods_as: PodsAs,
    /// Where the manifests of static pods are
    #[arg(long, value_name = "PATH", conflicts_with_all = ["kubelet_config", "kubelet_config_dir"])]
    pub(crate) static_pods: Option<PathBuf>,
    /// The kubelet's configuration (its --config), whose staticPodPath says where the manifests of static pods are
    #[arg(long, value_name = "FILE")]
    pub(crate) kubelet_config: Option<PathBuf>,
    /// The folder of its drop-ins (its --config-dir)
    #[arg(long, value_name = "DIR")]
    pub(crate) kubelet_config_dir: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz here
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9465")]
    pub(crate) listen: SocketAddr,
    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Use the files below this root directory
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
}

/// As whom a ServiceAccount lists and watches pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PodsAs {
    /// As its own node, by constrained impersonation (Kubernetes 1.36 and newer): it sees this node's pods only
    Node,
    /// As itself: it may then see all pods of the cluster
    ServiceAccount,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

/// It becomes part of a field selector and of a user's name.
fn node_name(name: &str) -> Result<String, String> {
    if pss_guard_core::level::is_dns_subdomain(name) {
        Ok(name.to_owned())
    } else {
        Err("a node's name has lower-case letters, digits, dashes and dots, and at most 253 of them"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Command, Options, PodsAs};

    #[test]
    fn options_are_consistent_and_the_examples_of_the_help_parse() {
        let mut command = Options::command();
        command.clone().debug_assert();
        let run = command.find_subcommand_mut("run").unwrap();
        let help = run.get_after_long_help().unwrap().to_string();
        let help = help.replace("\\\n      ", "");
        let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        assert_eq!(examples.len(), 2);
        for example in examples {
            let words = example.split(' ').chain(["--node-name=node-1"]);
            let named = example.contains("--node-name");
            let words: Vec<&str> = words.filter(|word| !named || *word != "--node-name=node-1").collect();
            assert!(Options::try_parse_from(&words).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn a_node_is_named_and_pods_are_asked_for_as_the_node_unless_told() {
        let run = |more: &[&str]| {
            let words = ["pss-guard-agent", "run"].iter().chain(more).copied();
            Options::try_parse_from(words).map(|options| {
                let Command::Run(run) = options.command;
                run
            })
        };
        assert_eq!(run(&["--node-name", "n"]).unwrap().pods_as, PodsAs::Node);
        for wrong in ["", "N", "n,spec.nodeName!=n", "n=", "../n"] {
            assert!(run(&["--node-name", wrong]).is_err(), "{wrong:?}");
        }
        assert!(run(&["--node-name", "n", "--kubeconfig", "/x", "--pods-as", "service-account"]).is_err());
        assert!(run(&["--node-name", "n", "--static-pods", "/x", "--kubelet-config", "/y"]).is_err());
    }
}
