//! Defines the command line: arguments and help text, no logic. The gate parses the hook's itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::complete::Shell;
use super::examples;
use super::manual::Page;
use crate::install::{Method, engines};
use crate::level;
use crate::mode::change;
use crate::node::recognize;
use crate::pss::controls::CONTROLS;
use crate::pss::facts::Engine;
use crate::pss::{Level, Version};
use crate::report::time_range::Since;

/// Checks every container on a Kubernetes node against its Pod Security level before it starts
#[derive(Debug, Parser)]
#[command(name = "pss-guard", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = examples::TOP, after_long_help = examples::TOP)]
pub struct Cli {
    /// Trace each step of a verdict to stderr
    #[arg(short, long, global = true, display_order = 900)]
    pub verbose: bool,
    /// Use the files below this root directory: an image, a captured node, or the running node's own root as a container
    /// sees it (/host), whose processes are then inspected as well
    #[arg(long, global = true, value_name = "DIR", default_value = "/", display_order = 901)]
    pub root: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order in which a person needs them: what only programs call is last.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install the gate for a container engine
    ///
    /// Running it again changes nothing. If an upgrade fails, the previous installation is restored.
    ///
    /// Exit code: 0 installed, and with --restart proved by probes; 1 installed, but the probes could not prove it; 2 not
    /// installed or not upgraded, or wrong usage. With --dry-run: 2 if it would be refused.
    #[command(after_long_help = examples::INSTALL)]
    Install(Install),
    /// Uninstall the gate and restore every file
    ///
    /// A file that was changed since keeps that change and loses only our part. What remains is listed, with the command
    /// that removes it.
    #[command(after_long_help = examples::UNINSTALL)]
    Uninstall(Uninstall),
    /// Check that the gate is active for this node's containers
    ///
    /// Every running engine counts, gated or not. Exit code: 0 everything is good, 1 something can bypass the gate (`open`)
    /// or is not as it should be (`WRONG`), 2 unknown, or wrong usage. A runtime handler of another kind is `open` until
    /// the policy exempts it. What the admin chose, and what can start nothing past the gate, is a `note` and does not
    /// count. With --verbose the running containers are listed.
    #[command(after_long_help = examples::STATUS)]
    Status(Status),
    /// Prove with probe containers that the gate evaluates what an engine starts
    ///
    /// Starts the probes of `install`, one that complies and one that violates baseline, removes them, and prints a line for
    /// each engine that has the gate: when, node, engine, the gate's version and SHA-256, the policy's SHA-256, the mode, and
    /// what was seen. containerd and CRI-O need crictl. Anything that was not seen is *not proved*, also that the policy
    /// requires nothing of the probes.
    ///
    /// Exit code: 0 proved for each engine, 1 not proved, 2 it could not be run, or wrong usage.
    #[command(after_long_help = examples::VERIFY)]
    Verify(Verify),
    /// List running containers that would be refused at their next start
    ///
    /// Inspects every running container of containerd, CRI-O, podman and docker: its config.json and its process. A
    /// process that has more than its config.json asks for is listed, too. With --root it inspects a captured node and
    /// every bundle on it.
    ///
    /// Exit code: 0; 1 with --fail if a container would be refused or has more than was asked for; 2 if anything could
    /// not be judged or inspected, or wrong usage. With --keep and without --fail, what could not be judged is saved as a
    /// metric and does not fail.
    #[command(after_long_help = examples::SCAN)]
    Scan(Scan),
    /// Report what was decided, and which level each namespace is ready for
    ///
    /// Reads all events from the journal and its fallback file, and scans what runs. Lists first the namespaces in which
    /// restricted, or baseline, could be enforced with nothing refused. Then counts by decision, day, control, namespace
    /// and workload; changes since the previous period; and exceptions that are used, never used, or end soon. Compliant
    /// starts leave no event unless log-allowed = true, so an empty log proves nothing unless the namespace asks for the
    /// level.
    ///
    /// Exit code: 0; 2 if nothing could be read, or wrong usage.
    #[command(after_long_help = examples::REPORT)]
    Report(Report),
    /// Show or change the mode of the node, permanently or for a time
    ///
    /// Without MODE, shows the mode in force, what set it, and until when. With MODE, writes it into the policy; with
    /// --for, overrides the policy for that time, even if the policy is broken. Before enforce mode it lists what would
    /// be refused, and asks. Every change is logged.
    ///
    /// Exit code: 0 success, 1 not confirmed, or a system pod would be refused, 2 failed, or wrong usage.
    #[command(after_long_help = examples::MODE)]
    Mode(Mode),
    /// Begin, check, show or remove this node's policy
    #[command(subcommand, after_long_help = examples::POLICY)]
    Policy(Policy),
    /// Check manifests, config.json files and bundles: what would be refused?
    ///
    /// Evaluates manifests as the API server's admission does, with its defaults. The level is that of --level, else that
    /// of the namespace's labels (of a Namespace among the manifests, or imported on this node), else that of the policy.
    /// Objects that are no workloads are counted and not evaluated. Evaluates a config.json as the gate does.
    ///
    /// Exit code: 0 nothing would be refused; 1 at least one pod or container would be refused; 2 at least one cannot be
    /// judged, there is nothing to evaluate, or wrong usage.
    #[command(after_long_help = examples::CHECK)]
    Check(Check),
    /// Describe a control or an exit code: what it requires, what a node can see of it, the fix
    #[command(after_long_help = examples::EXPLAIN)]
    Explain(Explain),
    /// Import or list the levels of the cluster's namespaces
    #[command(subcommand, after_long_help = examples::NAMESPACES)]
    Namespaces(Namespaces),
    /// Import what the API server or the kubelet knows of this node's pods
    #[command(subcommand, after_long_help = examples::PODS)]
    Pods(Pods),
    /// Import the API server's version, which is what `latest` stands for
    #[command(subcommand, after_long_help = examples::CLUSTER)]
    Cluster(Cluster),
    /// Write metrics for Prometheus: decisions, and whether the node enforces
    ///
    /// Exit code: 0 metrics written, 2 failed. Partial failures go to standard error and to a metric.
    #[command(after_long_help = examples::METRICS)]
    Metrics(Metrics),
    /// Print completions for a shell
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a page of the manual, in roff
    #[command(after_long_help = examples::MAN)]
    Man {
        /// The page
        #[arg(value_enum, default_value_t)]
        page: Page,
    },
    /// Evaluate the container whose OCI state is on standard input (called by container runtimes)
    ///
    /// Exit code: 0 allowed, 2 cannot be judged, 10 + n denied, where n is the number of the first violated control
    /// (`pss-guard explain` lists them).
    #[command(after_long_help = examples::HOOK)]
    Hook(Hook),
    /// What the shells' scripts ask for at each tab
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words behind the program's name, up to the cursor
        #[arg(last = true)]
        words: Vec<OsString>,
    },
}

/// Arguments of `hook`. They are read by [`crate::hook`] itself; here they are for the help and the manual.
#[derive(Args, Debug)]
pub struct Hook {
    /// The engine that creates the containers: containerd, cri-o, podman, docker, none
    #[arg(long)]
    pub engine: Option<String>,
    /// The engine's name for the runtime class that this hook is installed for
    #[arg(long, value_name = "NAME")]
    pub runtime_handler: Option<String>,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Check every pod and container against this level instead of its own
    #[arg(long, value_name = "LEVEL[:VERSION]", value_parser = level)]
    pub level: Option<(Level, Version)>,
    /// The policy file [default: the node's, or built-in defaults where there is none]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// The pod of these containers: its object in the API (kubectl get pod -o yaml), or its facts
    ///
    /// A container of another namespace, pod or UID than the file's is an error.
    #[arg(long, value_name = "FILE")]
    pub pod: Option<PathBuf>,
    /// The namespace of manifests that name none [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Manifests in YAML or JSON, folders of them, `-` for manifests on standard input, config.json files, bundles, or
    /// captured cases (folders with observed.json)
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Output formats of `check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object per workload or container, a line each
    Json,
    /// SARIF 2.1.0, for annotations in code
    Sarif,
    /// JUnit XML, for reports of tests
    Junit,
}

/// Arguments of `scan`.
#[derive(Args, Debug)]
pub struct Scan {
    /// Check every container against this level instead of its own
    #[arg(long, value_name = "LEVEL[:VERSION]", value_parser = level)]
    pub level: Option<(Level, Version)>,
    /// Only containers of this namespace; may be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Only this control; may be repeated
    #[arg(long, value_name = "CONTROL", value_parser = control)]
    pub control: Vec<&'static str>,
    /// Exit with 1 if a container would be refused, or runs with more than was asked for
    #[arg(long)]
    pub fail: bool,
    /// Save the results for `metrics`, as pss-guard-scan.timer does
    #[arg(long, conflicts_with_all = ["namespace", "control"])]
    pub keep: bool,
    /// Do not scan: put together what `scan --format json` wrote on several nodes, a file each; `-` reads standard input
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["level", "namespace", "control", "keep"])]
    pub merge: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ScanFormat,
}

/// Output formats of commands that answer a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Output formats of `scan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ScanFormat {
    /// For people
    #[default]
    // For scripts older than `--format text`.
    #[value(alias = "table")]
    Text,
    /// One JSON object per container and line
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// One page that loads nothing, for a browser, a mail or a printer
    Html,
    /// wgpolicyk8s.io/v1alpha2 reports, one for each namespace, as JSON for kubectl apply
    Policyreport,
    /// The same as openreports.io/v1alpha1
    Openreports,
}

/// A control by its id.
fn control(text: &str) -> Result<&'static str, String> {
    let found = CONTROLS.iter().find(|control| control.id.eq_ignore_ascii_case(text));
    found
        .map(|control| control.id)
        .ok_or_else(|| "unknown control; `pss-guard explain` lists them".to_owned())
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// A control's id, or an exit code of the hook [default: list all controls]
    #[arg(value_name = "CONTROL|EXIT-CODE")]
    pub what: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ExplainFormat,
    /// Same as `--format markdown`, for older scripts
    #[arg(long, hide = true, conflicts_with_all = ["what", "format"])]
    pub markdown: bool,
}

/// Output formats of `explain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// All controls as one Markdown document
    Markdown,
}

/// Commands of `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Print a policy with every key in it, commented out at its default
    ///
    /// The policy changes nothing until a key is set, so the node is in audit mode. With --output it is written into a file
    /// that is not there yet, in a directory that only root can write.
    ///
    /// Exit code: 0 printed or written; 2 the file is there, or could not be written.
    #[command(after_long_help = examples::POLICY_INIT)]
    Init(PolicyInit),
    /// Check that a policy is valid, and say what it means
    #[command(after_long_help = examples::POLICY_CHECK)]
    Check {
        /// The file, or `-` for standard input [default: the node's policy]
        file: Option<PathBuf>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: AnswerFormat,
    },
    /// Show the levels of each namespace, or of a pod, and what set them
    #[command(after_long_help = examples::POLICY_SHOW)]
    Show(Show),
    /// Print the JSON Schema of policy.toml, for editors
    ///
    /// Draft-07. With taplo or Even Better TOML the first line of the policy names it: `#:schema ./policy.schema.json`.
    #[command(after_long_help = examples::POLICY_SCHEMA)]
    Schema,
    /// Remove the policy for good and return to the built-in defaults, which never stop a container
    ///
    /// While the policy is missing, broken or not trusted, the last good policy stays in force, across reboots and
    /// upgrades. This command removes that one, too.
    ///
    /// Exit code: 0 removed, or there was none; 1 not confirmed; 2 failed.
    #[command(after_long_help = examples::POLICY_REMOVE)]
    Remove(Remove),
}

/// Arguments of `policy init`.
#[derive(Args, Debug)]
pub struct PolicyInit {
    /// Write it into this file, with mode 0644, instead of to standard output; a file that is there is left alone
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `policy remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// The reason, for the journal
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `policy show`.
#[derive(Args, Debug)]
pub struct Show {
    /// The pod's namespace [default: a table of all]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// A container that belongs to no pod (ctr, podman, docker)
    #[arg(long, conflicts_with_all = ["namespace", "pod_annotation"])]
    pub unmanaged: bool,
    /// An annotation of the pod; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "namespace")]
    pub pod_annotation: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
}

/// Commands of `namespaces`.
#[derive(Debug, Subcommand)]
pub enum Namespaces {
    /// Import the Pod Security labels of namespaces from `kubectl get namespaces -o json` on standard input
    ///
    /// A list replaces everything: a namespace that it lacks is dropped. A single object (`kubectl get namespace shop -o
    /// json`) updates that namespace only. Several names, or a selector, print a list as well, so import them one at a
    /// time. An empty list or one page of a list is rejected, and so is a list that lacks `default`, `kube-public` or
    /// `kube-system` if the node knows them, because those cannot be deleted.
    #[command(after_long_help = examples::NAMESPACES_IMPORT)]
    Import,
    /// List the imported namespaces with their labels, and those that run here and are not imported
    ///
    /// A label that a namespace does not set is `-`: the policy's level applies. `pss-guard policy show` shows the levels in
    /// force, with everything that sets them.
    ///
    /// Exit code: 0 listed, even if none is imported; 2 a file is damaged, of a newer format or not root's, or something
    /// that runs could not be inspected.
    #[command(after_long_help = examples::NAMESPACES_LIST)]
    List(NamespacesList),
}

/// Arguments of `namespaces list`.
#[derive(Args, Debug)]
pub struct NamespacesList {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
}

/// Commands of `pods`.
#[derive(Debug, Subcommand)]
pub enum Pods {
    /// Import facts of pods from `kubectl get pods -o json`, or a kubelet's `/pods`, on standard input
    ///
    /// A list replaces everything: a pod that it lacks is dropped. Only a kubelet's list replaces
    /// static pods. A list of one namespace (not kube-system, and not a kubelet's list) drops none, and a single object
    /// updates that pod only. An empty list or one page of a list is rejected. Mirror pods are skipped, because anyone who
    /// can create pods can forge one: static pods come from the kubelet's `/pods` alone.
    #[command(after_long_help = examples::PODS_IMPORT)]
    Import(PodsImport),
}

/// Arguments of `pods import`.
#[derive(Args, Debug)]
pub struct PodsImport {
    /// Take the pods on this node only [default: all in the list, at most 10000]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// Commands of `cluster`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Import the API server's version from `kubectl get --raw /version` on standard input
    ///
    /// `latest` means this version wherever the policy has no `[cluster] version`. A version below v1.23 is rejected, because
    /// a forged one could switch controls off: that is for the policy to say.
    #[command(after_long_help = examples::CLUSTER_IMPORT)]
    Import,
}

/// Arguments of `install`.
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option by itself")]
pub struct Install {
    /// The engine: containerd, crio, podman, docker, or auto for all on this node
    #[arg(long, value_name = "ENGINE|auto", value_parser = engine_or_auto, required = false, required_unless_present = "programs",
          default_value_if("programs", "true", "auto"))]
    pub engine: Chosen,
    /// How the engine calls the gate [default: as installed; else runtime for containerd and docker, hook for CRI-O and podman]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Do not start probe containers
    #[arg(long, requires = "restart")]
    pub no_probe: bool,
    /// Put the gate back whenever the engine's configuration is written without it: by systemd, on EKS by nodeadm
    #[arg(long)]
    pub persist: bool,
    /// Put the programs into this directory of root's, where /var cannot execute; it stays in force, and is named again only
    /// to change it [default: /var/lib/pss-guard/bin]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Only put an installed gate back where it was lost, and log since when; pss-guard-install.service calls it
    #[arg(long, conflicts_with_all = ["method", "persist", "directory", "config", "distribution", "dry_run", "restart"])]
    pub repair: bool,
    /// Only replace the programs of an installed gate by those of this build, for all engines; packages call it when they
    /// are upgraded
    ///
    /// Nothing is restarted, and no engine's file changes. A policy that this build does not understand is refused before
    /// anything is replaced. Where no gate is installed, nothing is done.
    #[arg(long, conflicts_with_all = ["engine", "method", "persist", "directory", "repair", "config", "distribution", "restart"])]
    pub programs: bool,
    /// What install and uninstall share
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `uninstall`.
#[derive(Args, Debug)]
pub struct Uninstall {
    /// The engine, or auto for all that have the gate
    #[arg(long, value_name = "ENGINE|auto", value_parser = engine_or_auto, default_value = "auto")]
    pub engine: Chosen,
    /// What install and uninstall share
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `install` and `uninstall`.
#[derive(Args, Debug)]
pub struct Change {
    /// The engine's configuration file [default: the usual one, or the one given to install]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The distribution, where the node looks like more than one: plain, k3s, rke2, k0s, microk8s, eks, aks, flatcar, ...
    #[arg(long, value_name = "DISTRIBUTION", value_parser = distribution)]
    pub distribution: Option<&'static str>,
    /// Show everything that would be done, or why it is refused, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Restart the engine afterwards; `install` rolls back what does not work then, an upgrade to what was installed
    #[arg(long)]
    pub restart: bool,
    /// Restart it with this shell command instead of systemctl
    #[arg(long, value_name = "COMMAND", requires = "restart", value_parser = command)]
    pub restart_command: Option<String>,
}

/// A distribution that is known, by its name in any case, with `-` for blanks.
fn distribution(text: &str) -> Result<&'static str, String> {
    let is_it = |name: &&'static str| name.replace(' ', "-").eq_ignore_ascii_case(&text.replace(' ', "-"));
    recognize::names().find(is_it).ok_or_else(|| {
        let names: Vec<String> =
            recognize::names().map(|name| name.replace(' ', "-").to_lowercase()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// An empty command succeeds in a shell without doing anything.
fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must be a command".to_owned()) } else { Ok(text.to_owned()) }
}

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Start of the period: an age (7d, 24h, 90m), or a date in UTC (2027-06-30, 2027-06-30T08:00:00Z)
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub since: Since,
    /// Only this namespace; may be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Use only the events; do not scan what runs now
    #[arg(long)]
    pub no_scan: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// Output formats of `report`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// One page that loads nothing, for a browser, a mail or a printer
    Html,
}

/// One engine, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen(pub Option<Engine>);

fn engine_or_auto(text: &str) -> Result<Chosen, String> {
    if text == "auto" {
        return Ok(Chosen(None));
    }
    engine(text).map(|engine| Chosen(Some(engine))).map_err(|error| format!("{error}, or auto"))
}

/// Arguments of `mode`.
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Mode {
    /// audit: log, never refuse; enforce: refuse what violates the enforce level
    #[arg(value_name = "MODE", value_parser = mode)]
    pub mode: Option<level::Mode>,
    /// For this long only (90s, 30m, 2h30m; at most 24h)
    #[arg(long = "for", value_name = "TIME", value_parser = change::parse_length, requires = "mode")]
    pub time: Option<Duration>,
    /// End the temporary mode that --for started
    #[arg(long, conflicts_with_all = ["mode", "format", "json"])]
    pub end: bool,
    /// The reason, for the journal
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = reason)]
    pub reason: String,
    /// Do not ask before enforcing
    #[arg(long, short, requires = "mode")]
    pub yes: bool,
    /// Enforce even if system pods would be refused
    #[arg(long, requires = "mode")]
    pub force: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t, conflicts_with = "mode")]
    pub format: AnswerFormat,
    /// Same as `--format json`, for older scripts
    #[arg(long, hide = true, conflicts_with_all = ["mode", "format"])]
    pub json: bool,
}

fn mode(text: &str) -> Result<level::Mode, String> {
    text.parse().map_err(|error: level::policy::UnknownWord| error.to_string())
}

/// The reason is part of the event of every change, and must fit there.
fn reason(text: &str) -> Result<String, String> {
    const LONGEST: usize = 512;
    if text.len() <= LONGEST {
        Ok(text.to_owned())
    } else {
        Err(format!("must have at most {LONGEST} bytes"))
    }
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// Check one engine only [default: all on this node]
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<Engine>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
    /// Fail where `--root` is not the running node's root, instead of checking what is installed there: for probes
    #[arg(long)]
    pub running: bool,
    /// Same as `--format json`, for older scripts
    #[arg(long, hide = true, conflicts_with = "format")]
    pub json: bool,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Verify one engine only [default: all that have the gate]
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<Engine>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
}

/// Arguments of `metrics`.
#[derive(Args, Debug)]
pub struct Metrics {
    /// Replace this file, for node_exporter's textfile collector, instead of writing to standard output; the name must
    /// end in .prom
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format; node_exporter reads only the first
    #[arg(long, value_enum, default_value_t)]
    pub format: crate::metrics::exposition::Format,
}

/// An engine by its name, or one of its other names.
fn engine(text: &str) -> Result<Engine, String> {
    let found = engines::find(text).map(|installer| installer.engine);
    found.ok_or_else(|| "must be containerd, cri-o, podman or docker".to_owned())
}

/// `LEVEL[:VERSION]`.
fn level(text: &str) -> Result<(Level, Version), String> {
    let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
    let level = level.parse().map_err(|err| format!("level {level:?} {err}"))?;
    let version = version.parse().map_err(|err| format!("version {version:?} {err}"))?;
    Ok((level, version))
}
