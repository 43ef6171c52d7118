//! The same story on engines that know of no pods: podman, which reads the hook's folder at every start, and docker, whose
//! daemon starts containers by the runtimes of its configuration.

use std::time::Duration;

use pss_guard::pss::run;

use crate::support::cases::Said;
use crate::support::gate::{self, Method, Restart};
use crate::support::image;
use crate::support::machine::{Daemon, Machine, changed};
use crate::support::podman::{self, Case, cases};
use crate::support::run::{self as process, Done};

/// What the program says when it saw the gate at work: where the policy refuses, only writes down, and asks nothing.
const REFUSES: [&str; 2] =
    ["seen: a harmless probe started (unmanaged)", "seen: a forbidden probe was refused: "];
const WATCHES: [&str; 2] = [
    "seen: a harmless probe started (unmanaged)",
    "seen: a forbidden probe was evaluated (would-deny) and started",
];
const ASKS_NOTHING: [&str; 2] =
    ["seen: a harmless probe started (unmanaged)", "seen: a forbidden probe started, because [unmanaged]"];

/// An engine on its machine.
struct Engine<'a> {
    machine: &'a Machine,
    name: &'static str,
    /// Its command line to run a container, up to the options of a case.
    run: &'a [&'a str],
    /// Its exit code of a container that does not start.
    refused: i32,
    /// Whether what it calls privileged is less than all that the kernel has.
    gives_less: bool,
    wrong: Vec<String>,
}

impl<'a> Engine<'a> {
    fn new(machine: &'a Machine, name: &'static str, run: &'a [&'a str], refused: i32) -> Self {
        Self { machine, name, run, refused, gives_less: false, wrong: Vec::new() }
    }

    /// The cases, but for those that do not start on this machine, gate or no gate.
    fn cases(&self) -> impl Iterator<Item = Case> + use<> {
        let gives_less = self.gives_less;
        cases().into_iter().filter(move |case| !gives_less || case.name != "privileged")
    }

    fn start(&self, case: &Case) -> Done {
        let network: &[&str] =
            if case.options.contains(&"--network=host") { &[] } else { &["--network=none"] };
        let container = ["--entrypoint=/bin/sh", image::APP, "-c", "echo started"];
        self.machine.run(&[self.run, network, case.options, &container].concat())
    }

    fn expect(&mut self, when: &str, judge: impl Fn(&Case, &Done) -> bool) {
        for case in self.cases() {
            let done = self.start(&case);
            if !judge(&case, &done) {
                self.wrong.push(format!("{}, {when}\n{done}", case.name));
            }
        }
    }

    /// Without the gate, and before one that only watches, everything starts.
    fn expect_all(&mut self, when: &str) {
        self.expect(when, |_, done| done.stdout == "started\n");
    }

    /// What `restricted` makes of them, in the engine's own output.
    fn expect_refusals(&mut self) {
        let refused = self.refused;
        self.expect("should be judged by restricted", |case, done| {
            let told = |said: &Said| {
                // These engines hand no name on, so messages go by the container's id.
                said.text.split("container \"app\"").all(|words| done.stderr.contains(words))
            };
            match case.restricted {
                [] => done.stdout == "started\n",
                said => done.code == Some(refused) && done.stdout.is_empty() && said.iter().all(told),
            }
        });
    }

    /// The fix of each control, in the engine's own words: with it the container starts.
    fn expect_fixes(&mut self) {
        for row in podman::VIOLATIONS.iter().filter(|row| row.engine.is_none_or(|engine| engine == self.name))
        {
            if self.gives_less && row.control == "privileged" {
                continue;
            }
            let of_level = policy("enforce").replace("restricted", row.level);
            self.machine.write("/etc/pss-guard/policy.toml", &of_level);
            let start = |options: &[&str]| {
                let network: &[&str] =
                    if options.contains(&"--network=host") { &[] } else { &["--network=none"] };
                let container = ["--entrypoint=/bin/sh", image::APP, "-c", "echo started"];
                self.machine.run(&[self.run, network, options, &container].concat())
            };
            let before = self.machine.events("PSS_DECISION", "denied").len();
            let refused = start(&row.options());
            let events = self.machine.events("PSS_DECISION", "denied");
            let fix =
                podman::fix_of(row.control, events.get(before..).unwrap_or_default()).unwrap_or_default();
            let words = run::of(row.control).expect("a row");
            let words = if self.name == "docker" { words.docker } else { words.podman };
            if refused.code != Some(self.refused) || fix != format!("{} run {words}", self.name) {
                self.wrong.push(format!("{}: the fix is {fix:?}\n{refused}", row.control));
                continue;
            }
            let fixed = row.fixed(words);
            let done = start(&fixed.iter().map(String::as_str).collect::<Vec<_>>());
            if done.stdout != "started\n" {
                self.wrong.push(format!("{}: is refused with its fix {words:?}\n{done}", row.control));
            }
        }
        self.machine.run(&[self.name, "volume", "rm", "data"]);
        self.machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    }

    /// And in audit mode: all of it starts, and is written down.
    fn expect_events(&mut self) {
        self.machine.write("/etc/pss-guard/policy.toml", &policy("audit"));
        let count = || self.machine.events("PSS_DECISION", "would-deny").len();
        let before = count();
        self.expect_all("watched only, should have started");
        let watched = count() - before;
        let violating = self.cases().filter(|case| !case.restricted.is_empty()).count();
        if watched != violating {
            self.wrong.push(format!("audit mode should write down {violating}, not {watched}"));
        }
        self.machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    }

    /// Installs it under a policy; the program itself must have seen the gate at work, and leave nothing behind.
    fn install(&mut self, policy: &str, method: Method, restart: &str, sees: &[&str]) {
        self.machine.write("/etc/pss-guard/policy.toml", policy);
        let said = gate::install(self.machine, self.name, method, Restart::Command(restart));
        if !sees.iter().all(|line| said.contains(line)) || said.contains("not shown") {
            self.wrong.push(format!("under {policy}the installation should have been tried out\n{said}"));
        }
        gate::stands(self.machine, self.name);
        self.expect_nothing_left();
    }

    fn expect_nothing_left(&mut self) {
        for lists in [&["ps", "--all", "--format={{.Names}} {{.Image}}"][..], &["images", "--all"]] {
            let done = self.machine.run(&[&[self.name], lists].concat()).expect_success();
            if done.stdout.contains("pss-guard") || done.stdout.contains("<none>") {
                self.wrong.push(format!("a probe was left\n{done}"));
            }
        }
        let folder = self.machine.run(&["sh", "-c", "ls -d /run/machine/pss-guard-probe*"]);
        if !folder.stdout.is_empty() {
            self.wrong.push(format!("a folder was left\n{folder}"));
        }
    }

    fn end(mut self, before: &[String]) {
        self.wrong.extend(changed(before, &self.machine.snapshot()));
        let (count, wrong) = (self.wrong.len(), self.wrong.join("\n\n"));
        assert!(wrong.is_empty(), "{count} went wrong under {}\n\n{wrong}", self.name);
    }
}

fn policy(mode: &str) -> String {
    format!("mode = \"{mode}\"\n[unmanaged]\nenforce = \"restricted\"\n")
}

#[test]
fn podman() {
    tell_of_podman("unmanaged::podman");
}

#[test]
fn docker_20() {
    tell_of_docker("unmanaged::docker_20", Docker::V20);
}

#[test]
fn docker_28() {
    tell_of_docker("unmanaged::docker_28", Docker::V28);
}

fn tell_of_podman(test: &str) {
    if !Machine::can_run(test, &["podman", "conmon", "crun"], &[]) {
        return;
    }
    let machine = Machine::up();
    machine.start_journald();
    podman::lay_out(&machine);
    podman::load_images(&machine, "podman");
    let before = machine.snapshot();
    let run = ["podman", "run", "--rm"];
    let mut engine = Engine::new(&machine, "podman", &run, 126);
    engine.expect_all("before the gate, should have started");
    for (method, usual) in [(Method::Hook, true), (Method::Runtime, false)] {
        engine.install("", method, "false", &ASKS_NOTHING);
        gate::uninstall(&machine, "podman", Restart::Later);
        engine.install(&policy("audit"), method, "false", &WATCHES);
        gate::uninstall(&machine, "podman", Restart::Later);
        engine.install(&policy("enforce"), method, "false", &REFUSES);
        engine.expect_refusals();
        engine.wrong.extend(gate::is_verified(&machine, "podman"));
        engine.expect_nothing_left();
        if usual {
            engine.expect_events();
        }
        gate::uninstall(&machine, "podman", Restart::Later);
        engine.expect_all("after the gate, should have started");
    }
    // conmon outlives its container a little, and the path by which it was started stays for it.
    let callers = || machine.run(&["pgrep", "conmon"]).code == Some(0);
    process::eventually(|| !callers());
    gate::uninstall(&machine, "podman", Restart::Later);
    engine.end(&before);
}

/// A docker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Docker {
    /// It keeps the name of its shim to itself.
    V20,
    /// The gate can stand behind that name.
    V28,
}

impl Docker {
    /// The folders of its programs, and of those of its containerd.
    fn folders(self) -> [&'static str; 2] {
        match self {
            Self::V20 => ["docker-20", "containerd-1.6"],
            Self::V28 => ["docker-28", "containerd-2"],
        }
    }

    fn can_run(self, test: &str) -> bool {
        let [docker, containerd] = self.folders();
        Machine::can_run(test, &[], &[&format!("{docker}/dockerd"), &format!("{containerd}/containerd")])
    }

    fn up(self, machine: &Machine) -> [Daemon; 2] {
        let [docker, containerd] = self.folders();
        for program in ["containerd", "containerd-shim-runc-v2", "ctr"] {
            machine.link(&format!("{containerd}/{program}"), &format!("/usr/bin/{program}"));
        }
        machine.link(&format!("{docker}/dockerd"), "/usr/sbin/dockerd");
        // Before one that the machine below may have there.
        machine.link(&format!("{docker}/docker"), "/usr/local/bin/docker");
        machine.write("/etc/docker/daemon.json", DAEMON_JSON);
        let containerd = machine.start("containerd", &["containerd"]);
        let answers = || machine.run(&["ctr", "version"]).code == Some(0);
        assert!(process::within(Duration::from_secs(60), answers), "{}", machine.said("containerd"));
        let mut engine =
            machine.start("engine", &["dockerd", "--containerd=/run/containerd/containerd.sock"]);
        let answers = || !engine.is_up() || machine.run(&["docker", "info"]).code == Some(0);
        assert!(
            process::within(Duration::from_secs(60), answers) && engine.is_up(),
            "{self:?} does not come up\n{}",
            machine.said("engine")
        );
        podman::load_images(machine, "docker");
        [containerd, engine]
    }
}

/// What this machine has no way to give: no bridge, no firewall.
const DAEMON_JSON: &str = r#"{
  "bridge": "none",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "iptables": false,
  "live-restore": true,
  "userland-proxy": false
}
"#;

fn tell_of_docker(test: &str, docker: Docker) {
    if !docker.can_run(test) {
        return;
    }
    let machine = Machine::up();
    machine.start_journald();
    let [_containerd, daemon] = docker.up(&machine);
    let before = machine.snapshot();
    let run = ["docker", "run", "--rm"];
    let mut engine = Engine::new(&machine, "docker", &run, 125);
    // It knows of fewer capabilities than the kernel, and asks for some that not all machines have to give.
    engine.gives_less = docker == Docker::V20;
    engine.expect_all("before the gate, should have started");
    // As docker's unit does it: a restart ends when docker is up, a reload at once.
    let reload = "kill -HUP $(cat /run/machine/engine.pid)";
    let restart =
        format!("{} && until docker info >/dev/null 2>&1; do sleep 0.1; done", daemon.restart_command());
    engine.install("", Method::Runtime, reload, &ASKS_NOTHING);
    gate::uninstall(&machine, "docker", Restart::Command(&restart));
    engine.install(&policy("audit"), Method::Runtime, &restart, &WATCHES);
    gate::uninstall(&machine, "docker", Restart::Command(&restart));
    engine.install(&policy("enforce"), Method::Runtime, reload, &REFUSES);
    engine.expect_refusals();
    if engine.gives_less {
        let done = machine.run(&[
            "docker",
            "run",
            "--rm",
            "--privileged",
            "--network=none",
            image::APP,
            "-c",
            "true",
        ]);
        if !done.stderr.contains("violates PodSecurity \"restricted:latest\": ") {
            engine.wrong.push(format!("privileged, should have been refused\n{done}"));
        }
    }
    engine.expect_fixes();
    engine.wrong.extend(gate::is_verified(&machine, "docker"));
    engine.expect_nothing_left();
    engine.expect_events();
    let execs = execs(&machine);
    engine.wrong.extend(execs);
    gate::uninstall(&machine, "docker", Restart::Command(&restart));
    engine.expect_all("after the gate, should have started");
    engine.end(&before);
}

/// A container that complies takes a process that has no more than it has itself.
fn execs(machine: &Machine) -> Vec<String> {
    let compliant = cases().into_iter().find(|case| case.restricted.is_empty()).expect("a compliant case");
    let stay = [
        &["docker", "run", "--detach", "--rm", "--name=stay", "--network=none"][..],
        compliant.options,
        &["--entrypoint=/bin/sh", image::APP, "-c", "sleep 3600"],
    ];
    machine.run(&stay.concat()).expect_success();
    let rows: [(&[&str], Option<&str>); 3] = [
        (&[], None),
        (&["--user=0"], Some("exec violates PodSecurity \"restricted:latest\": runAsNonRoot != true")),
        (&["--privileged"], Some("exec violates PodSecurity \"restricted:latest\": ")),
    ];
    let mut wrong = Vec::new();
    for (options, said) in rows {
        let done =
            machine.run(&[&["docker", "exec"], options, &["stay", "/bin/sh", "-c", "echo ran"]].concat());
        let right = match said {
            None => done.stdout == "ran\n",
            // Where docker shows it depends on its version.
            Some(said) => {
                done.code != Some(0) && [&done.stdout, &done.stderr].iter().any(|text| text.contains(said))
            }
        };
        if !right {
            wrong.push(format!("exec: should have said {said:?}\n{done}"));
        }
    }
    machine.run(&["docker", "rm", "--force", "stay"]).expect_success();
    wrong
}
