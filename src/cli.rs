//! The command line of everything but the hook: structure and help text, no logic.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::install::{Method, engines};
use crate::level;
use crate::mode::change;
use crate::pss::controls::CONTROLS;
use crate::pss::facts::Engine;
use crate::pss::{Level, Version};
use crate::report::period::Since;

/// The last gate on a Kubernetes node: holds every container to its Pod Security level before it starts.
#[derive(Debug, Parser)]
#[command(name = "pss-guard", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Trace each step of a verdict to stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Work on the files under another root directory
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Judge the container whose OCI state is on standard input (called by container runtimes)
    ///
    /// Exit code: 0 it may start, 2 it cannot be judged, 10 + n it is refused, where n is the number of the first
    /// violated control (`pss-guard explain` lists them).
    Hook(Hook),
    /// Would these containers be refused?
    ///
    /// Exit code: 0 all may start, 1 at least one would be refused, 2 at least one cannot be judged, or wrong usage.
    Check(Check),
    /// What of this node would be refused at its next start?
    ///
    /// Looks at every running container of containerd, CRI-O, podman and docker, by its config.json and by its process.
    /// What has more than its config.json asks for is listed, too. Under --root it is a captured node, and every bundle
    /// counts.
    ///
    /// Exit code: 0, 1 with --fail if a container would be refused or has more than was asked for, 2 if something could
    /// not be judged or looked at, or wrong usage. With --keep alone this is recorded as a metric and does not fail.
    Scan(Scan),
    /// What a control wants, what a node can see of it, and the fix
    Explain(Explain),
    /// The policy of this node
    #[command(subcommand)]
    Policy(Policy),
    /// The levels of the cluster's namespaces on this node
    #[command(subcommand)]
    Namespaces(Namespaces),
    /// Put the gate in front of an engine's containers
    ///
    /// Exit code: 0 it is installed (with --restart: and was seen to judge), 1 it is installed but could not be seen to
    /// judge, 2 it is not installed, or wrong usage. A second call changes nothing. With --dry-run: 2 if it would be
    /// refused.
    Install(Install),
    /// Take the gate away; every file becomes what it was
    ///
    /// A file that somebody changed since keeps that change and loses only what is ours. What stays is said, with the
    /// command that removes it.
    Uninstall(Uninstall),
    /// Does the gate really stand before this node's containers?
    ///
    /// Every engine that runs here counts, gated or not. Exit code: 0 all is good, 1 something starts past the gate
    /// (`open`) or is not as it should be (`WRONG`), 2 it cannot be told, or wrong usage. A runtime handler of another
    /// kind is `open` until the policy exempts it; what the admin chose, and what can start nothing, is a `note` and does
    /// not count. With --verbose the running containers are named.
    Status(Status),
    /// Which mode is in force, or another one: for good, or for a time
    ///
    /// Without a mode it says which one is in force, because of what, and until when. With one it is written into the
    /// policy; with --for it holds for that time, whatever the policy says and even if it is broken, and ends by itself.
    /// Before enforce mode it says what would be refused, and asks. Every change is an event in the journal.
    ///
    /// Exit code: 0 success, 1 not confirmed, or a system pod would be refused, 2 it could not be done, or wrong usage.
    Mode(Mode),
    /// What Prometheus wants to know of this node: decisions counted, and whether it enforces
    ///
    /// Exit code: 0 metrics written, 2 failed. Partial failures go to standard error, and are a metric.
    Metrics(Metrics),
    /// What has the gate seen, and which level could be enforced?
    ///
    /// Reads every event of the journal and of the file that stands in for it, and answers first: in which namespaces could
    /// restricted, or baseline, be enforced with nothing refused, neither in the events nor of what runs now (as scan sees
    /// it). Then by decision, day, control, namespace and workload;
    /// what changed since the period before; which exceptions are used, never used, or end soon. Compliant starts leave no
    /// event unless log-allowed = true in the policy, so silence proves something only where the namespace asks for the
    /// level. Exit code: 0, or 2 if nothing could be read, or wrong usage.
    Report(Report),
    /// Completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The manual page
    Man,
}

/// Arguments of `hook`. They are read by [`crate::hook`] itself; here they are for the help and the manual.
#[derive(Args, Debug)]
pub struct Hook {
    /// The engine that makes the containers: containerd, cri-o, podman, docker, none
    #[arg(long)]
    pub engine: Option<String>,
    /// The engine's name for the runtime class that this hook is installed for
    #[arg(long, value_name = "NAME")]
    pub runtime_handler: Option<String>,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Check every container against this level instead of its own
    #[arg(long, value_name = "LEVEL[:VERSION]", value_parser = level)]
    pub level: Option<(Level, Version)>,
    /// The policy file [default: the node's, or built-in defaults where there is none]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// How to show the results
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// config.json files, bundles, or captured cases (folders with observed.json)
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Output formats of `check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One object a container, one a line
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// Arguments of `scan`.
#[derive(Args, Debug)]
pub struct Scan {
    /// Check every container against this level instead of its own: what would break?
    #[arg(long, value_name = "LEVEL[:VERSION]", value_parser = level)]
    pub level: Option<(Level, Version)>,
    /// Only containers of this namespace; may be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Only this control; may be repeated
    #[arg(long, value_name = "CONTROL", value_parser = control)]
    pub control: Vec<&'static str>,
    /// Fail if a container would be refused, or runs with more than was asked for
    #[arg(long)]
    pub fail: bool,
    /// Keep the numbers for `metrics`, as pss-guard-scan.timer does
    #[arg(long, conflicts_with_all = ["namespace", "control"])]
    pub keep: bool,
    /// How to show the results
    #[arg(long, value_enum, default_value_t)]
    pub format: ScanFormat,
}

/// Output formats of commands that answer a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// For people
    #[default]
    Text,
    /// One object
    Json,
}

/// Output formats of `scan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ScanFormat {
    /// For people
    #[default]
    // What scripts say that are older than the one spelling.
    #[value(alias = "table")]
    Text,
    /// One object a container, one a line
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// One page that loads nothing: for a browser, a mail, a printer
    Html,
    /// wgpolicyk8s.io/v1alpha2 reports, one for each namespace, as JSON for kubectl apply
    Policyreport,
    /// The same as openreports.io/v1alpha1
    Openreports,
}

/// A control by its id.
fn control(text: &str) -> Result<&'static str, String> {
    let found = CONTROLS.iter().find(|control| control.id.eq_ignore_ascii_case(text));
    found.map(|control| control.id).ok_or_else(|| "is no control; `pss-guard explain` lists them".to_owned())
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// A control's id, or an exit code of the hook [default: list all controls]
    #[arg(value_name = "CONTROL|EXIT-CODE")]
    pub what: Option<String>,
    /// All controls as one Markdown document
    #[arg(long, conflicts_with = "what")]
    pub markdown: bool,
}

/// Commands of `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Is a policy valid, and what does it mean?
    Check {
        /// The file [default: the node's policy]
        file: Option<PathBuf>,
    },
    /// Which level holds in each namespace, or for a pod of one, and because of what?
    Show(Show),
    /// Remove the policy for good: the built-in defaults hold then, which stop nothing
    ///
    /// While the policy is gone, broken or not to be trusted, the last good text of it goes on judging, over reboots and
    /// upgrades as well. This removes that text, too.
    ///
    /// Exit code: 0 it is removed, or there was none; 1 nobody confirmed it; 2 it cannot be removed.
    Remove(Remove),
}

/// Arguments of `policy remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// Why, for the journal
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
    /// A container of no pod (ctr, podman, docker)
    #[arg(long, conflicts_with_all = ["namespace", "pod_annotation"])]
    pub unmanaged: bool,
    /// An annotation of the pod; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "namespace")]
    pub pod_annotation: Vec<String>,
}

/// Commands of `namespaces`.
#[derive(Debug, Subcommand)]
pub enum Namespaces {
    /// Take over the Pod Security labels of namespaces from `kubectl get namespaces -o json` on standard input
    ///
    /// A list is all there is: a namespace that it lacks is dropped. One object (`kubectl get namespace shop -o json`)
    /// updates that namespace alone. Several names, or a selector, print a list as well: import them one at a time. An
    /// empty list and a page of a list change nothing, and neither does a list without `default`, `kube-public` or
    /// `kube-system` where the node knows them, because nobody can delete those.
    Import,
}

/// Arguments of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// The engine: containerd, crio, podman, docker, or auto for all that are there
    #[arg(long, value_name = "ENGINE", value_parser = engine_or_auto)]
    pub engine: Chosen,
    /// How the gate stands there [default: runtime for containerd and docker, hook for CRI-O and podman]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Do not start containers to see whether they are judged
    #[arg(long, requires = "restart")]
    pub no_probe: bool,
    /// What install and uninstall share
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `uninstall`.
#[derive(Args, Debug)]
pub struct Uninstall {
    /// The engine, or auto for all that the gate is installed for
    #[arg(long, value_name = "ENGINE", value_parser = engine_or_auto, default_value = "auto")]
    pub engine: Chosen,
    /// What install and uninstall share
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `install` and `uninstall`.
#[derive(Args, Debug)]
pub struct Change {
    /// The engine's configuration file [default: the usual one, or the one that was named at the installation]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show all that would be done, or why it is refused, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Restart the engine afterwards; after an installation that does not work, undo it
    #[arg(long)]
    pub restart: bool,
    /// Restart it by this command, which a shell runs, instead of systemctl
    #[arg(long, value_name = "COMMAND", requires = "restart", value_parser = command)]
    pub restart_command: Option<String>,
}

/// A shell does nothing for an empty command, and says that it went well.
fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must be a command".to_owned()) } else { Ok(text.to_owned()) }
}

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Where to begin: so long ago (7d, 24h, 90m), or at a date in UTC (2027-06-30, 2027-06-30T08:00:00Z)
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub since: Since,
    /// Only this namespace; may be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Do not look at what runs now: go by the events alone
    #[arg(long)]
    pub no_scan: bool,
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// Output formats of `report`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Text,
    /// One object
    Json,
    /// One page that loads nothing: for a browser, a mail, a printer
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
    /// audit: log, never block; enforce: block what violates the enforce level
    #[arg(value_name = "MODE", value_parser = mode)]
    pub mode: Option<level::Mode>,
    /// For a time (90s, 30m, 2h30m; at most 24h) instead of for good
    #[arg(long = "for", value_name = "TIME", value_parser = change::parse_length, requires = "mode")]
    pub time: Option<Duration>,
    /// End what --for has put in force
    #[arg(long, conflicts_with_all = ["mode", "format", "json"])]
    pub end: bool,
    /// Why; kept with the mode and written into the event
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = reason)]
    pub reason: String,
    /// Do not ask before enforcing
    #[arg(long, short, requires = "mode")]
    pub yes: bool,
    /// Enforce even if pods of the system would be refused
    #[arg(long, requires = "mode")]
    pub force: bool,
    /// How to answer
    #[arg(long, value_enum, default_value_t, conflicts_with = "mode")]
    pub format: AnswerFormat,
    /// The same as `--format json`, for scripts that are older than it
    #[arg(long, hide = true, conflicts_with_all = ["mode", "format"])]
    pub json: bool,
}

fn mode(text: &str) -> Result<level::Mode, String> {
    text.parse().map_err(|error: level::policy::UnknownWord| error.to_string())
}

/// It goes into the event of every change, and has to fit there.
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
    /// Ask for one engine [default: all that are on the node]
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<Engine>,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
    /// The same as `--format json`, for scripts that are older than it
    #[arg(long, hide = true, conflicts_with = "format")]
    pub json: bool,
}

/// Arguments of `metrics`.
#[derive(Args, Debug)]
pub struct Metrics {
    /// Replace this file, as node_exporter's textfile collector wants it (its name must end in .prom), instead of
    /// writing to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// In this format; node_exporter reads the first alone
    #[arg(long, value_enum, default_value_t)]
    pub format: crate::metrics::exposition::Format,
    /// Answer GET /metrics on the sockets that systemd passed, until nobody asks any more; in the format that the
    /// client prefers
    #[arg(long, conflicts_with_all = ["output", "format"])]
    pub http: bool,
    /// For how long nobody must have asked
    #[arg(long, value_name = "SECONDS", requires = "http", default_value_t = 120)]
    pub idle: u64,
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
