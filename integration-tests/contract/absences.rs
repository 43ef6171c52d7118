//! Which value of an option makes a command say *good* without having looked? None: what is not there, a name with a typo,
//! a place that is another one, is said and is no success. Every option of every command has its row, or a reason.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::CommandFactory as _;
use pss_guard::cli::arguments::Cli;

use crate::support::captured::{Captured, config};
use crate::support::run::{self, Done};
use crate::support::{files, needs, program};

/// What is asked.
struct Row {
    /// The command and the option or argument that is wrong.
    option: &'static str,
    /// The command line. `NODE` is a captured node with pods of `shop`, `GATED` one with a gate before containerd.
    line: &'static str,
    /// What is wrong with it.
    wrong: &'static str,
    code: i32,
    /// What is said, on standard error or output.
    says: &'static str,
    /// What a good answer would say.
    never: &'static str,
}

const fn row(
    option: &'static str,
    line: &'static str,
    wrong: &'static str,
    (code, says): (i32, &'static str),
    never: &'static str,
) -> Row {
    Row { option, line, wrong, code, says, never }
}

/// What a scan says that has found nothing to complain of.
const NONE: &str = "none of ";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("pss-guard --root", "--root NODE/typo scan --fail", "no such directory", (2, "NODE/typo: no such directory\n"), "no container"),
    row("pss-guard --root", "--root NODE/typo status", "no such directory", (2, "NODE/typo: no such directory\n"), ""),
    row("pss-guard --root", "--root NODE/typo check NODE/shop", "no such directory", (2, "NODE/typo: no such directory\n"), "allow"),
    row("pss-guard --root", "--root NODE/typo report", "no such directory", (2, "NODE/typo: no such directory\n"), "ready"),
    row("pss-guard --root", "--root NODE/typo mode", "no such directory", (2, "NODE/typo: no such directory\n"), "audit"),
    row("pss-guard --root", "--root NODE/typo metrics", "no such directory", (2, "NODE/typo: no such directory\n"), "pss_guard"),
    row("pss-guard --root", "--root NODE/typo policy check", "no such directory", (2, "NODE/typo: no such directory\n"), "valid"),
    row("pss-guard --root", "--root NODE/typo policy show --unmanaged", "no such directory", (2, "NODE/typo: no such directory\n"), "enforce"),
    row("pss-guard --root", "--root NODE/typo namespaces import", "no such directory", (2, "NODE/typo: no such directory\n"), ""),
    row("pss-guard --root", "--root NODE/typo install --engine auto", "no such directory", (2, "NODE/typo: no such directory\n"), ""),
    row("pss-guard --root", "--root NODE/typo uninstall", "no such directory", (2, "NODE/typo: no such directory\n"), "not installed"),
    row("pss-guard --root", "--root NODE/file scan", "a file", (2, "/file: not a directory\n"), NONE),
    row("pss-guard --root", "--root NODE/etc scan --fail", "no node's root", (2, "NODE/etc is not the root directory of a node"), NONE),

    row("scan --namespace", "--root NODE scan --namespace shopp --fail", "a typo", (2, "no container of namespace \"shopp\" runs here (namespaces with pods: ops, shop)"), NONE),
    row("scan --namespace", "--root NODE scan --namespace shopp --format json", "a typo", (2, "no container of namespace \"shopp\" runs here"), "verdict"),
    row("scan --namespace", "--root NODE scan --namespace shop --namespace shopp", "one of two", (2, "no container of namespace \"shopp\" runs here"), ""),
    row("scan --control", "--root NODE scan --level restricted --control hostPathVolumes --fail", "replaced at this level", (1, "at restricted restrictedVolumes replaces hostPathVolumes"), NONE),
    row("scan --control", "--root NODE scan --level restricted --control capabilities_baseline --fail", "replaced at this level", (1, "at restricted capabilities_restricted replaces capabilities_baseline"), NONE),
    row("scan --control", "--root NODE scan --level restricted --control seccompProfile_baseline --fail", "replaced at this level", (1, "at restricted seccompProfile_restricted replaces seccompProfile_baseline"), NONE),
    row("scan --control", "--root NODE scan --level restricted --control procMount", "replaced at this level", (0, "at restricted procMount_restricted replaces procMount"), ""),
    row("scan --control", "--root NODE scan --level baseline --control runAsNonRoot --fail", "not of this level", (2, "runAsNonRoot is not in force at baseline:latest"), NONE),
    row("scan --control", "--root NODE scan --level restricted:v1.5 --control capabilities_restricted", "not of this version", (2, "capabilities_restricted is not in force at restricted:v1.5"), NONE),
    row("scan --control", "--root NODE scan --control windowsHostProcess --fail", "nothing can be seen of it", (2, "a node can see nothing of windowsHostProcess"), NONE),
    row("scan --control", "--root NODE scan --control hostPath", "a typo", (2, "pss-guard explain"), NONE),
    row("scan --level", "--root NODE scan --level restrictd", "a typo", (2, "restrictd"), NONE),
    row("scan --level", "--root NODE scan --level restricted:v1.99", "a version that nobody knows", (0, "v1.99 is newer than v1."), ""),
    row("scan --fail", "--root NODE scan --fail --level restricted", "a violation", (1, "would be refused"), NONE),
    row("scan --keep", "--root NODE scan --keep --namespace shop", "not the whole", (2, "cannot be used with"), NONE),
    row("scan --format", "--root NODE scan --format jsn", "a typo", (2, "invalid value"), NONE),
    row("scan --merge", "scan --merge NODE/nothing.json", "no such file", (2, "NODE/nothing.json: No such file"), NONE),
    row("scan --merge", "scan --merge NODE/file --format html", "an empty file", (2, "NODE/file: is empty"), "<html"),
    row("scan --merge", "scan --merge NODE/shop/config.json --format json", "another file", (2, "no line of `pss-guard scan --format json`"), "verdict"),
    row("scan --merge", "scan --merge NODE/file --level restricted", "a level that was not asked about", (2, "cannot be used with"), NONE),
    row("status --running", "--root NODE status --running", "another root directory", (2, "is not the root of the running node"), "gate is"),
    row("mode MODE", "--root NODE mode enforce --yes", "no gate is here", (0, "no gate is installed here"), ""),
    row("mode --format", "--root NODE mode --format jsn", "a typo", (2, "invalid value"), NONE),
    row("status --format", "--root NODE status --format jsn", "a typo", (2, "invalid value"), NONE),

    row("check --level", "check --level restrictd NODE/shop", "a typo", (2, "restrictd"), "allow "),
    row("check --level", "check --level restricted:v1.99 NODE/shop", "a version that nobody knows", (1, "v1.99 is newer than v1."), ""),
    row("check --policy", "check --policy NODE/nothing NODE/shop", "no such file", (2, "NODE/nothing: No such file"), "allow "),
    row("check --pod", "check --pod NODE/nothing --level baseline NODE/shop", "no such file", (2, "NODE/nothing: No such file"), "allow "),
    row("check --format", "check --format jsn NODE/shop", "a typo", (2, "invalid value"), "allow "),
    row("check PATH", "check NODE/nothing", "no such file", (2, "cannot-judge"), "allow "),
    row("check PATH", "check NODE/etc", "nothing to judge in it", (2, "cannot-judge"), "allow "),
    row("check PATH", "check NODE/shop NODE/nothing", "one of two", (2, "cannot-judge"), ""),

    row("explain CONTROL|EXIT-CODE", "explain runAsNonRoott", "a typo", (2, "did you mean \"runAsNonRoot\"?"), ""),

    row("policy check FILE", "policy check NODE/nothing", "no such file", (2, "NODE/nothing: No such file"), "valid"),
    row("policy show --namespace", "policy show --namespace a/b", "no name", (2, "it is not a DNS label"), "enforce "),
    row("policy show --pod-annotation", "--root NODE policy show --namespace shop --pod-annotation pod-security.kubernetes.io/enfoce=restricted", "a typo", (2, "sets no level"), ""),
    row("policy show --unmanaged", "--root NODE policy show --unmanaged --namespace shop", "two questions", (2, "cannot be used with"), "enforce "),

    row("namespaces list --format", "--root NODE namespaces list --format jsn", "a typo", (2, "invalid value"), "imported"),
    row("namespaces list --format", "--root NODE namespaces list", "none is imported", (0, "no namespaces are imported"), "namespace  enforce"),
    row("policy init --output", "--root NODE policy init --output NODE/nothing/policy.toml", "no such directory", (2, "NODE/nothing: No such file"), "wrote"),
    row("policy init --output", "--root NODE policy init --output NODE/file", "a file is there", (2, "NODE/file is there and was left alone"), "wrote"),

    row("install --engine", "--root NODE install --engine crio", "not there", (2, "cri-o is not on this node: no program crio in "), "wrote"),
    row("install --engine", "--root NODE install --engine podman --dry-run", "not there", (2, "podman is not on this node: no program podman in "), "would"),
    row("install --engine", "--root NODE install --engine auto", "none there", (2, "no supported container engine was found"), "wrote"),
    row("install --engine", "--root NODE install --engine crioo", "a typo", (2, "must be containerd, cri-o, podman or docker, or auto"), "wrote"),
    row("install --method", "--root GATED install --engine docker --method hook", "not for this engine", (2, "docker supports only --method runtime"), "wrote"),
    row("install --config", "--root GATED install --engine containerd --config /etc/nothing.toml", "no such file", (2, "/etc/nothing.toml: no such file"), "wrote"),
    row("install --directory", "--root GATED install --engine containerd --directory /opt/nothing", "no such directory", (2, "opt/nothing: No such file or directory"), "wrote"),
    row("install --programs", "--root NODE install --programs", "no gate is here", (0, "the gate is not installed for any engine, and nothing was changed"), "wrote"),
    row("install --dry-run", "--root NODE install --engine docker --dry-run", "what install refuses", (2, "docker is not on this node"), "would"),
    row("install --restart", "--root GATED install --engine containerd --restart", "out of reach", (2, "--restart does not reach the containerd of another root directory"), "wrote"),
    row("install --restart-command", "--root GATED install --engine containerd --restart-command true", "no restart", (2, "--restart"), "wrote"),
    row("install --restart-command", "--root GATED install --engine containerd --restart --restart-command=", "no command", (2, "value"), "wrote"),
    row("install --restart-command", "--root GATED install --engine containerd --restart --restart-command true", "no proof", (1, "not shown: that it evaluates containers"), "seen: "),
    row("install --no-probe", "--root GATED install --engine containerd --no-probe", "no probe is made anyway", (2, "--restart"), "wrote"),
    row("install --distribution", "--root GATED install --engine containerd --distribution k4s", "a typo", (2, "must be one of k3s, rke2"), "wrote"),
    row("install --distribution", "--root GATED install --engine containerd --distribution k3s", "another one", (2, "--distribution k3s, and this node is plain"), "wrote"),
    row("install --persist", "--root NODE install --engine containerd --persist", "not there", (2, "containerd is not on this node"), "wrote"),
    row("install --repair", "--root NODE install --engine containerd --repair", "no gate is here", (0, ""), "is where it was installed"),

    row("uninstall --engine", "--root GATED uninstall --engine crio", "not gated", (0, "cri-o: the gate is not installed"), "restored"),
    row("uninstall --engine", "--root NODE uninstall", "nothing is", (0, "pss-guard is not installed on this node; nothing was changed"), "restored"),
    row("uninstall --config", "--root GATED uninstall --config /etc/nothing.toml", "another file", (2, "the gate is not installed in /etc/nothing.toml, but in /etc/containerd/config.toml"), "restored"),
    row("uninstall --dry-run", "--root GATED uninstall --dry-run", "nothing was done", (0, "--- /etc/containerd/config.toml"), "restored"),
    row("uninstall --restart", "--root GATED uninstall --restart", "out of reach", (2, "--restart does not reach the containerd of another root directory"), "restored"),
    row("uninstall --distribution", "--root GATED uninstall --distribution k3s", "another one", (2, "--distribution k3s, and this node is plain"), "restored"),
    row("uninstall --restart-command", "--root GATED uninstall --restart-command true", "no restart", (2, "--restart"), "restored"),

    row("report --namespace", "--root NODE report --namespace shopp", "a typo", (2, "namespace \"shopp\" is not known on this node: no event of it in this time, and no container (known: ops, shop)"), "ready"),
    row("report --namespace", "--root NODE report --no-scan --namespace shop", "nothing is known of it", (2, "namespace \"shop\" is not known on this node"), "ready"),
    row("report --since", "--root NODE report --since 2999-01-01", "not yet", (2, "--since is not in the past"), "ready"),
    row("report --since", "--root NODE report --since yesterday", "no time", (2, "invalid value"), "ready"),
    row("report --no-scan", "--root NODE report --no-scan", "nothing was looked at", (0, ""), "ready to enforce restricted in 1"),
    row("report --format", "--root NODE report --format jsn", "a typo", (2, "invalid value"), "ready"),

    row("mode MODE", "--root NODE mode enforc --yes", "a typo", (2, "invalid value"), "the mode is"),
    row("mode --for", "--root NODE mode audit --for 0s", "no time", (2, "invalid value"), "the mode is"),
    row("mode --for", "--root NODE mode --for 1h", "no mode", (2, "MODE"), "the mode is"),
    row("mode --end", "--root NODE mode --end", "none is in force", (0, "no temporary mode is active"), ""),
    row("mode --yes", "--root NODE mode --yes", "no mode", (2, "MODE"), "the mode is"),
    row("mode --force", "--root NODE mode --force", "no mode", (2, "MODE"), "the mode is"),

    row("status --engine", "--root NODE status --engine crio", "not there", (1, "no gate is installed for cri-o"), "is active"),
    row("status --engine", "--root NODE status --engine crioo", "a typo", (2, "must be containerd, cri-o, podman or docker"), "is active"),
    row("status --json", "--root NODE status --json", "no gate", (1, "\"state\":\"wrong\""), ""),

    row("verify --engine", "--root GATED verify --engine containerd", "another root directory", (2, "is another root directory"), "proved"),
    row("verify --engine", "--root NODE verify --engine crioo", "a typo", (2, "must be containerd, cri-o, podman or docker"), "proved"),
    row("verify --format", "--root NODE verify --format jsn", "a typo", (2, "invalid value"), "proved"),

    row("metrics --output", "--root NODE metrics --output NODE/nothing/x.prom", "no such folder", (2, "NODE/nothing"), ""),
    row("metrics --format", "--root NODE metrics --format prom", "a typo", (2, "invalid value"), "pss_guard_"),
    row("policy check --format", "policy check --format jsn", "a typo", (2, "invalid value"), "valid"),
    row("policy show --format", "policy show --format jsn", "a typo", (2, "invalid value"), "enforce"),
    row("explain --format", "explain --format markdown runAsNonRoot", "no document of one control", (2, "leave CONTROL|EXIT-CODE out"), "#"),
    row("man PAGE", "man pss-guardd", "a typo", (2, "invalid value"), ".TH"),
    row("completions SHELL", "completions bsh", "a typo", (2, "invalid value"), "complete"),
];

/// Options that cannot make an answer better than it is, and why.
const ARGUED: &[(&str, &str)] = &[
    ("pss-guard --verbose", "says more, on standard error"),
    ("hook --engine", "written by the installer; the gate's own tests have what it makes of another word"),
    ("hook --runtime-handler", "one that is not in the policy exempts nothing"),
    (
        "check --namespace",
        "names no file: a namespace that is not there has no level, which is an error of its own",
    ),
    ("pods import --node", "a node that no pod is on has an empty list, which is an error"),
    ("__complete WORDS", "a shell asks it for words to type, which say nothing of the node"),
    ("explain --markdown", "documentation, which speaks of no node"),
    ("policy remove --reason", "a text for the journal"),
    ("policy remove --yes", "answers a question that says what is lost by it"),
    ("mode --reason", "a text for the journal"),
    ("mode --json", "shows the same"),
];

fn nodes() -> (Captured, Captured) {
    let (node, gated) = (Captured::new(), Captured::new());
    let mut bare = config("shop", "db-0", "database", false);
    bare["process"] =
        serde_json::json!({"user": {"uid": 0}, "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}});
    bare["linux"]["seccomp"] = serde_json::Value::Null;
    bare["mounts"] =
        serde_json::json!([{"destination": "/host", "type": "bind", "source": "/etc", "options": ["rbind"]}]);
    node.lay("containerd", "01", &bare);
    node.lay("containerd", "02", &config("ops", "web-0", "app", true));
    files::write(&node.root().join("shop/config.json"), &bare.to_string());
    files::write(&node.root().join("file"), "");
    fs::create_dir_all(node.root().join("etc")).expect("a folder of ours");
    // What CRI-O and podman share makes neither of them be there.
    files::write(&node.root().join("usr/share/containers/oci/hooks.d/other.json"), "{}");
    for program in ["containerd", "dockerd", "runc"] {
        let path = gated.root().join("usr/bin").join(program);
        files::write(&path, "#!/bin/sh\n");
        run::run(Command::new("chmod").arg("755").arg(path)).expect_success();
    }
    files::write(
        &gated.root().join("etc/containerd/config.toml"),
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
    );
    call(&gated, "install --engine containerd", &gated).expect_success();
    (node, gated)
}

fn call(root: &Captured, line: &str, gated: &Captured) -> Done {
    let path = |node: &Captured| node.root().display().to_string();
    let line = line.replace("NODE", &path(root)).replace("GATED", &path(gated));
    let mut command = Command::new(program::binary());
    if !line.starts_with("--root") {
        command.arg("--root").arg(root.root());
    }
    command.args(line.split(' ')).env_remove("COLUMNS").env("LC_ALL", "C.UTF-8");
    run::run(&mut command)
}

#[test]
fn nothing_is_called_good_that_was_not_looked_at() {
    let (node, gated) = nodes();
    let mut wrong = Vec::new();
    for Row { option, line, wrong: what, code, says, never } in ROWS {
        let done = call(&node, line, &gated);
        // Wrapped as a terminal has it, or not.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = format!("{}{}", done.stdout, done.stderr);
        let expected = words(&says.replace("NODE", &node.root().display().to_string()));
        let is_good = !never.is_empty() && done.stdout.contains(never);
        if done.code != Some(*code) || !words(&said).contains(&expected) || is_good {
            wrong.push(format!("{option}, {what}: expected {code} and {says:?}, and not {never:?}\n{done}"));
        }
    }
    assert!(wrong.is_empty(), "{} rows\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Who may not look at everything claims nothing of what was not looked at.
#[test]
fn without_a_whole_look_nothing_is_said_to_be_absent() {
    let (node, gated) = nodes();
    files::write(&node.bundle("containerd", "99").join("config.json"), "{}");
    let closed = node.root().join("run/containerd/io.containerd.runtime.v2.task/k8s.io");
    if !needs::can_run("absences::without_a_whole_look_nothing_is_said_to_be_absent", &["setpriv"]) {
        return;
    }
    for path in [node.root(), &closed] {
        let mode = if path == closed { "700" } else { "755" };
        run::run(Command::new("chmod").arg(mode).arg(path)).expect_success();
    }
    let program = node.root().join("program");
    fs::copy(program::binary(), &program).expect("a copy of the program");
    for (arguments, words) in [
        (&["scan"][..], "no container was seen, but not everything could be inspected"),
        (&["scan", "--namespace", "shop"], "no container of namespace \"shop\" was seen (no pod was seen)"),
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        let done = run::run(command.arg("--root").arg(node.root()).args(arguments));
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(done.code == Some(2) && said.contains(words) && !said.contains("runs here"), "{done}");
    }
    drop(gated);
}

/// The control: with what is there, the same commands do say that it is good.
#[test]
fn what_is_there_is_answered() {
    let (node, gated) = nodes();
    for (line, code, says) in [
        ("scan --namespace ops --level restricted --fail", 0, "would not be refused|none of 1 container"),
        ("scan --namespace shop --level baseline --control hostPathVolumes --fail", 1, "would be refused"),
        (
            "scan --namespace ops --level restricted --control runAsNonRoot --fail",
            0,
            "would not be refused|none of 1 container",
        ),
        ("report --namespace shop", 0, "shop"),
        // What stands in for containerd here answers nothing.
        (
            "--root GATED status --engine containerd",
            2,
            "what containerd makes of these files was not compared",
        ),
        (
            "--root GATED install --engine containerd --config /etc/containerd/config.toml --dry-run",
            0,
            "no file would change",
        ),
        (
            "--root GATED uninstall --config /etc/containerd/config.toml",
            0,
            "restored /etc/containerd/config.toml",
        ),
    ] {
        let done = call(&node, line, &gated);
        let is_said = says.split('|').any(|says| done.stdout.contains(says));
        assert!(done.code == Some(code) && is_said, "{line}\n{done}");
    }
}

#[test]
fn every_option_has_a_row_or_a_reason() {
    let mut options = BTreeSet::new();
    add(&Cli::command(), "", &mut options);
    assert!(options.len() > 40, "{options:?}");
    let known = ROWS.iter().map(|row| row.option).chain(ARGUED.iter().map(|(option, _)| *option));
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    let missing: Vec<&String> = options.difference(&known).collect();
    assert!(missing.is_empty(), "which value makes it say good without looking? {missing:?}");
    let gone: Vec<&String> = known.difference(&options).collect();
    assert!(gone.is_empty(), "there is no such option any more: {gone:?}");
}

/// Every option and argument of a command and of those below it: `policy show --namespace`, `check PATH`. `name` is what
/// is called, where that is not the program itself.
fn add(command: &clap::Command, name: &str, options: &mut BTreeSet<String>) {
    let called = if name.is_empty() { command.get_name() } else { name };
    let own = command.get_arguments().filter(|own| !["help", "version"].contains(&own.get_id().as_str()));
    for argument in own {
        let value = || argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let shown = argument.get_long().map_or_else(
            || value().unwrap_or_else(|| argument.get_id().to_string().to_uppercase()),
            |long| format!("--{long}"),
        );
        options.insert(format!("{called} {shown}"));
    }
    for below in command.get_subcommands() {
        add(below, format!("{name} {}", below.get_name()).trim_start(), options);
    }
}
