//! Commands in running containers, and the wrapper's own surroundings.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::pod::{Engine, Pod, Volume};
use crate::support::run::{self, Done};
use crate::support::runtime::{Runtime, RuntimeNode};
use crate::support::{files, image, needs, node, program};

fn policy(mode: &str, level: &str) -> String {
    format!(
        "mode = \"{mode}\"\n[defaults]\nenforce = \"{level}\"\naudit = \"privileged\"\nwarn = \"privileged\"\n"
    )
}

/// A process that says who it is and which descriptors it has.
fn process(uid: u32) -> Value {
    json!({
        "user": {"uid": uid, "gid": uid},
        "args": ["/bin/sh", "-c", "id -u; for fd in /proc/self/fd/*; do fd=${fd##*/}; \
            [ $fd -lt 3 ] || echo $fd $(/bin/busybox readlink /proc/self/fd/$fd); done"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {},
        "noNewPrivileges": true,
    })
}

/// Runs a command behind a shell: `$@` is its command line.
fn through_shell(shell: &str, script: &str, command: &Command) -> Done {
    let mut through = Command::new(shell);
    through.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    run::run(&mut through)
}

/// The events of a node, all of them.
fn events(node: &RuntimeNode) -> Vec<Value> {
    run::read(&node.decisions()).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What differs from one run to the next: times, and the numbers of pipes and files.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    let mut digits = false;
    for char in text.chars() {
        if !char.is_ascii_digit() {
            steady.push(char);
        } else if !digits {
            steady.push('0');
        }
        digits = char.is_ascii_digit();
    }
    steady
}

/// `exec --process <(…)`: what is in a pipe can be read once. In each mode and at each level the runtime gets it, and the
/// process has no descriptor more than without the gate.
#[test]
fn a_process_in_a_pipe_is_judged_and_handed_on() {
    let test = "a_process_in_a_pipe_is_judged_and_handed_on";
    for runtime in [Runtime::Runc, Runtime::Crun] {
        if !needs::can_run(test, &[runtime.name(), "busybox", "bash"]) {
            return;
        }
        let node = RuntimeNode::new(Engine::Containerd, runtime);
        node.write_policy(&policy("enforce", "restricted"));
        let sandbox = node.sandbox(&Pod::compliant());
        let id = sandbox.keep();
        let file = node.root().join("process.json");
        // How the runtime is given the pipe, and what else it is given.
        let scripts: [(&str, &[&str]); 5] = [
            ("exec \"$@\" --process <(cat @F) @I", &["exec"]),
            ("exec \"$@\" --process=<(cat @F) @I", &["exec"]),
            ("cat @F | \"$@\" --process /dev/stdin @I", &["exec"]),
            (
                "exec 3</dev/null 4</dev/zero; exec \"$@\" --process <(cat @F) @I",
                &["exec", "--preserve-fds", "2"],
            ),
            ("exec 3</dev/null; export LISTEN_FDS=1; exec \"$@\" --process <(cat @F) @I", &["exec"]),
        ];
        let rows = [
            ("enforce", "restricted", 1000, 0, 0),
            ("enforce", "restricted", 0, 27, 1),
            ("audit", "restricted", 0, 0, 1),
            ("enforce", "privileged", 0, 0, 0),
        ];
        // To crun alone this is standard input.
        let dash: (&str, &[&str]) = ("cat @F | \"$@\" --process - @I", &["exec"]);
        let dash = (runtime == Runtime::Crun).then_some(dash);
        for (script, arguments) in scripts.into_iter().chain(dash) {
            let script = script.replace("@F", file.to_str().expect("UTF-8")).replace("@I", &id);
            // Each mode and level once, each way to give it judged and refused once.
            let rows =
                if script.contains("--process <(") && arguments == ["exec"] { &rows[..] } else { &rows[..2] };
            for &(mode, level, uid, code, said) in rows {
                node.write_policy(&policy(mode, level));
                files::write(&file, &process(uid).to_string());
                let alone = through_shell("bash", &script, &node.runtime(arguments));
                assert!(alone.stdout.starts_with(&format!("{uid}\n")), "the runtime takes it\n{alone}");
                let _ = fs::remove_file(node.decisions());
                let done = through_shell("bash", &script, &node.wrapped(arguments));
                assert_eq!(done.code, Some(code), "{mode} {level} {uid} {script}\n{done}");
                assert_eq!(events(&node).len(), said, "{mode} {level} {uid} {script}\n{:?}", events(&node));
                if code == 0 {
                    let (one, other) = (steady(&done.stdout), steady(&alone.stdout));
                    assert_eq!(one, other, "{mode} {level} {uid} {script}\n{done}\n{alone}");
                } else {
                    assert!(done.stderr.contains("pss-guard: exec violates"), "{done}");
                }
            }
        }
    }
}

/// A file that its user may write is one thing when the gate looks and another when the runtime does.
#[test]
fn a_process_file_cannot_be_exchanged_after_the_look() {
    let test = "a_process_file_cannot_be_exchanged_after_the_look";
    for runtime in [Runtime::Runc, Runtime::Crun] {
        if !needs::can_run(test, &[runtime.name(), "busybox"]) {
            return;
        }
        let node = RuntimeNode::new(Engine::Containerd, runtime);
        node.write_policy(&policy("enforce", "restricted"));
        let sandbox = node.sandbox(&Pod::compliant());
        let id = sandbox.keep();
        let folder = node.root().join("user");
        let (harmless, root) = (process(1000).to_string(), process(0).to_string());
        // The exchange at the worst moment: when the runtime is called.
        let racing = node.root().join("racing");
        let script = format!(
            "#!/bin/sh\ncp {0}/evil.json {0}/next && mv {0}/next {0}/process.json\nexec {1} \"$@\"\n",
            folder.display(),
            runtime.program().display()
        );
        files::write(&racing, &script);
        fs::set_permissions(&racing, fs::Permissions::from_mode(0o755)).expect("set a mode");
        let entry = program::entry(&node.root(), "containerd", "racing", &racing);
        let file = folder.join("process.json");
        symlink("user/process.json", node.root().join("link.json")).expect("a link");
        for (path, mode, owner) in [
            (file.clone(), 0o644, 1000),
            (file.clone(), 0o666, 0),
            (file.clone(), 0o600, 0),
            (node.root().join("link.json"), 0o600, 0),
        ] {
            let lay_out = || {
                files::write(&folder.join("evil.json"), &root);
                files::write(&file, &harmless);
                chown(&folder, Some(1000), None).expect("chown");
                chown(&file, Some(owner), None).expect("chown");
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set a mode");
            };
            lay_out();
            let alone = run::run(node.calling(&racing, &["exec", "--process"]).arg(&path).arg(&id));
            assert!(alone.stdout.starts_with("0\n"), "the exchange works\n{alone}");
            lay_out();
            let done = run::run(node.calling(&entry, &["exec", "--process"]).arg(&path).arg(&id));
            assert!(done.stdout.starts_with("1000\n"), "what was judged runs\n{done}");
            assert!(run::read(&file) == root, "it was exchanged");
        }
        // An engine's own file stays where it is.
        let own = node.root().join("process.json");
        files::write(&own, &harmless);
        let show = node.root().join("show");
        files::write(&show, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
        fs::set_permissions(&show, fs::Permissions::from_mode(0o755)).expect("set a mode");
        let entry = program::entry(&node.root(), "containerd", "show", &show);
        let done = run::run(node.calling(&entry, &["exec", "--process"]).arg(&own).arg(&id));
        assert!(done.stdout.lines().any(|line| Path::new(line) == own), "{done}");
    }
}

/// The runtime's own behaviour is untouched where nothing is asked of a container, and where there is none: what it
/// prints, and how it ends.
#[test]
fn without_a_demand_every_command_is_the_runtimes_own() {
    let test = "without_a_demand_every_command_is_the_runtimes_own";
    for runtime in [Runtime::Runc, Runtime::Crun] {
        if !needs::can_run(test, &[runtime.name(), "busybox"]) {
            return;
        }
        let node = RuntimeNode::new(Engine::Containerd, runtime);
        node.write_policy(&policy("enforce", "privileged"));
        let sandbox = node.sandbox(&Pod::compliant());
        let id = sandbox.keep();
        let path = |name: &str| node.root().join(name);
        for (name, text) in
            [("good", process(0).to_string()), ("garbage", "{".into()), ("empty", String::new())]
        {
            files::write(&path(name), &text);
        }
        // For what a runtime does before it finds that it cannot restore: nobody lives in this one.
        let spare = path("spare");
        let config = run::read(&node.bundle(&id).join("config.json"));
        files::write(
            &spare.join("config.json"),
            &config.replace("/pss-guard-test-", "/pss-guard-test-spare-"),
        );
        image::unpack(&spare.join("rootfs"));
        let known = [
            "exec @I /bin/sh -c 'exit 3'",
            "exec @I /bin/busybox id -u",
            "exec --user 0:0 @I /bin/sh -c 'id -u'",
            "exec --user root @I /bin/sh -c 'id -u'",
            "exec --cap CAP_SYS_ADMIN @I /bin/sh -c 'exit 4'",
            "exec --cwd /nowhere @I /bin/sh",
            "exec --env A=B @I /bin/busybox env",
            "exec @I /nowhere",
            "exec @I",
            "exec",
            "exec --process @R/good @I",
            "exec --process @R/garbage @I",
            "exec --process @R/empty @I",
            "exec --process @R/nowhere @I",
            "exec --process /dev/null @I",
            "exec --process / @I",
            "exec --process= @I",
            "exec --process - @I",
            "--log @R/log --log-format json exec --process @R/garbage @I",
            "state @I",
            "ps --format json @I",
            "update --pids-limit 100 @I",
        ];
        let unknown = [
            "exec nobody /bin/true",
            "exec --process @R/good nobody",
            "exec --process @R/nowhere nobody",
            "exec --user 0 nobody /bin/true",
            "exec ../nobody /bin/true",
            "exec /etc /bin/true",
            "exec . /bin/true",
            "--log @R/log --log-format json exec nobody /bin/true",
            "state nobody",
            "start nobody",
            "kill nobody 9",
            "delete nobody",
            "delete --force nobody",
            "pause nobody",
            "update --pids-limit 100 nobody",
            "mounts add nobody @R/empty",
        ];
        let restores = [
            "restore --image-path @R/nothing --work-path @R/nothing --bundle @B nobody",
            "restore --image-path @R --work-path @R --bundle @B nobody",
            "restore",
        ];
        for (level, lines) in [
            ("privileged", [&known[..], &unknown[..], &restores[..]].concat()),
            ("restricted", unknown.to_vec()),
        ] {
            let modes: &[&str] = if level == "privileged" { &["enforce"] } else { &["enforce", "audit"] };
            for mode in modes {
                node.write_policy(&policy(mode, level));
                for line in &lines {
                    let line = line.replace("@I", &id).replace("@R", node.root().to_str().expect("UTF-8"));
                    let line = line.replace("@B", spare.to_str().expect("UTF-8"));
                    let said = |command: &Command| {
                        let _ = fs::remove_file(path("log"));
                        let done = through_shell("/bin/sh", &format!("exec \"$@\" {line}"), command);
                        let log = run::read(&path("log"));
                        (done.code, [&done.stdout, &done.stderr, &log].map(|text| steady(text)))
                    };
                    let (bare, wrapped) = (said(&node.runtime(&[])), said(&node.wrapped(&[])));
                    assert_eq!(wrapped, bare, "{level}, {mode}, {}: {line}", runtime.name());
                }
                assert!(events(&node).is_empty(), "{level}, {mode}: {:?}", events(&node));
            }
        }
    }
}

/// crun 1.22 mounts into a container that runs, whatever the container is. Debian has none that new, so another program
/// stands for it: what matters is whether it is called.
#[test]
fn a_mount_into_a_running_container_is_refused_above_privileged() {
    let test = "a_mount_into_a_running_container_is_refused_above_privileged";
    if !needs::can_run(test, &["runc", "busybox"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    node.write_policy(&policy("enforce", "restricted"));
    let sandbox = node.sandbox(&Pod::compliant());
    let id = sandbox.keep();
    let show = node.root().join("show");
    files::write(&show, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    fs::set_permissions(&show, fs::Permissions::from_mode(0o755)).expect("set a mode");
    let entry = program::entry(&node.root(), "containerd", "show", &show);
    let file = node.root().join("mounts.json");
    files::write(&file, &json!([{"destination": "/mnt", "source": "/etc", "type": "bind"}]).to_string());
    let exempt = format!("{}[exemptions]\nnamespaces = [\"shop\"]\n", policy("enforce", "restricted"));
    let rows = [
        (policy("enforce", "restricted"), id.as_str(), Some(2), 1),
        (policy("enforce", "baseline"), &id, Some(2), 1),
        (policy("audit", "baseline"), &id, Some(0), 1),
        (policy("enforce", "privileged"), &id, Some(0), 0),
        (exempt, &id, Some(0), 0),
        ("broken".to_owned(), &id, Some(2), 1),
        (policy("enforce", "restricted"), "nobody", Some(0), 0),
    ];
    for verb in ["add", "remove"] {
        for (policy, id, code, said) in &rows {
            node.write_policy(policy);
            if policy == "broken" {
                // Nor is a good one kept.
                let _ = fs::remove_file(node.root().join("var/lib/pss-guard/policy.toml"));
            }
            let _ = fs::remove_file(node.decisions());
            let done = run::run(node.calling(&entry, &["mounts", verb, id]).arg(&file));
            assert_eq!(done.code, *code, "{policy}\n{done}");
            assert_eq!(done.stdout.contains("mounts.json"), *code == Some(0), "{policy}\n{done}");
            assert_eq!(events(&node).len(), *said, "{policy}\n{:?}", events(&node));
            let says = "mounts into a running container cannot be judged";
            assert!(*code == Some(0) || policy == "broken" || done.stderr.contains(says), "{done}");
        }
    }
}

/// A bundle anywhere, with its state anywhere: what the gate refuses is what `check` refuses, as long as the container
/// runs. A copy is of no node that can be asked.
#[test]
fn check_of_a_live_bundle_says_what_the_gate_says() {
    let test = "check_of_a_live_bundle_says_what_the_gate_says";
    if !needs::can_run(test, &["runc", "crun", "busybox"]) {
        return;
    }
    for (engine, runtime) in [
        (Engine::Containerd, Runtime::Runc),
        (Engine::CriO, Runtime::Runc),
        (Engine::Containerd, Runtime::Crun),
        (Engine::CriO, Runtime::Crun),
    ] {
        let node = RuntimeNode::new(engine, runtime);
        node.write_policy(&policy("enforce", "privileged"));
        // What the node alone can say: that the host's folder is mounted where a subPath's is.
        let volume = Volume::HostPathSubPath { name: "etc", path: "/etc", at: "/mnt" };
        let sandbox = node.sandbox(&Pod { volumes: vec![volume], ..Pod::compliant() });
        let id = sandbox.keep();
        let policy_file = node.root().join("baseline.toml");
        files::write(&policy_file, &run::read(&node.policy_path()));
        let check = |path: &Path| {
            let mut command = Command::new(program::binary());
            command.args(["check", "--level", "baseline", "--format", "json", "--policy"]).arg(&policy_file);
            let done = run::run(command.arg(path));
            let object: Value =
                serde_json::from_str(&done.stdout).unwrap_or_else(|err| panic!("{err}: {done}"));
            let findings = object["findings"].as_array().expect("a list").iter();
            let mut found = findings.filter(|finding| finding["control"] == "hostPathVolumes");
            found.any(|finding| finding["certainty"] == "violates")
        };
        let bundle = node.bundle(&id);
        assert!(check(&bundle), "{engine:?}");
        assert!(check(&bundle.join("config.json")), "{engine:?}");
        let link = node.root().join("link");
        symlink(&bundle, &link).expect("a link");
        assert!(check(&link), "{engine:?}: by another path");
        // Copies: the file, and the whole bundle.
        let copy = node.root().join("copy/of/it");
        files::write(&copy.join("config.json"), &run::read(&bundle.join("config.json")));
        assert!(!check(&copy), "{engine:?}");
        image::unpack(&copy.join("rootfs"));
        assert!(!check(&copy), "{engine:?}");
        // And when nothing runs there any more: what was killed may take a moment.
        run::run(node.runtime(&["delete", "--force"]).arg(&id)).expect_success();
        assert!(run::eventually(|| !check(&bundle)), "{engine:?}");
    }
}

/// A node whose containerd calls the wrapper before a runtime that says that it was called.
struct Surroundings {
    node: node::Node,
    entry: PathBuf,
}

impl Surroundings {
    fn new(policy: &str) -> Self {
        let node = node::Node::new(policy);
        let runtime = script(&node, "runtime", "#!/bin/sh\necho called\n");
        let entry = program::entry(node.root(), "containerd", "runc", &runtime);
        Self { node, entry }
    }

    fn create(&self, command: &mut Command) -> Done {
        run::run(command.args(["create", "--bundle"]).arg(self.node.bundle()).arg("id"))
    }
}

fn script(node: &node::Node, name: &str, text: &str) -> PathBuf {
    let path = node.file(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set a mode");
    path
}

#[test]
fn marks_in_the_environment_refuse_nobody() {
    let own = std::process::id();
    let marks =
        ["8", "99", "4294967295", "-1", "x", "", "1:8", "0:99", "8:8", ":", "1:8:8"].map(str::to_owned);
    let marks = marks.into_iter().chain([format!("{own}:8"), format!("{own}:99")]);
    let nodes = ["enforce", "audit"].map(|mode| Surroundings::new(&policy(mode, "restricted")));
    for mark in marks {
        for node in &nodes {
            let done = node.create(Command::new(&node.entry).env("PSS_GUARD_PASSED", &mark));
            assert_eq!((done.code, done.stdout.as_str()), (Some(0), "called\n"), "{mark}\n{done}");
        }
    }
}

/// What calls itself without an end is stopped all the same, also where each call is a process of its own.
#[test]
fn a_runtime_that_calls_the_gate_again_is_no_endless_loop() {
    let node = node::Node::new(&policy("audit", "restricted"));
    let entry = node.root().join("var/lib/pss-guard/runtimes/containerd/again/pss-guard-runtime");
    let entry = entry.display();
    for again in [
        format!("#!/bin/sh\nexec {entry} \"$@\"\n"),
        format!("#!/bin/sh\n{entry} \"$@\"\n"),
        format!("#!/bin/sh\n({entry} \"$@\"); exit $?\n"),
        format!("#!/bin/sh\ntimeout 50 sh -c 'exec {entry} \"$@\"' sh \"$@\"\n"),
    ] {
        let runtime = script(&node, "again", &again);
        let entry = program::entry(node.root(), "containerd", "again", &runtime);
        let done = run::run(Command::new(entry).args(["state", "id"]).env("PSS_GUARD_PASSED", "1:8"));
        assert_eq!(done.code, Some(1), "{again}\n{done}");
        assert!(done.stderr.contains("calls pss-guard-runtime again in a loop"), "{again}\n{done}");
    }
}

#[test]
fn a_relative_path_leads_to_the_same_gate() {
    let node = Surroundings::new(&policy("enforce", "restricted"));
    let config = node.node.bundle().join("config.json");
    let spec = run::read(&config).replace("\"uid\":1000", "\"uid\":0");
    assert!(spec.contains("\"uid\":0"), "{spec}");
    let folder = node.entry.parent().expect("a folder");
    let rows: [(&Path, &str); 7] = [
        (Path::new("/"), node.entry.to_str().expect("UTF-8")),
        (folder, "./pss-guard-runtime"),
        (folder, "../runc/pss-guard-runtime"),
        (folder, "../../containerd/./runc/pss-guard-runtime"),
        (node.node.root(), "var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime"),
        (folder, "pss-guard-runtime"),
        (node.node.root(), "link/runc/pss-guard-runtime"),
    ];
    symlink("var/lib/pss-guard/runtimes/containerd", node.node.root().join("link")).expect("a link");
    let honest = run::read(&config);
    for (directory, path) in rows {
        for (spec, code) in [(&honest, 0), (&spec, 27)] {
            files::write(&config, spec);
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "PATH=.:$PATH; exec \"$@\"", "sh", path]).current_dir(directory);
            let done = node.create(&mut command);
            assert_eq!(done.code, Some(code), "{path}\n{done}");
            assert_eq!(done.stdout == "called\n", code == 0, "{path}\n{done}");
        }
        let event = node.node.events().pop().expect("an event of this node");
        let whose = [&event["PSS_DECISION"], &event["PSS_ENGINE"], &event["PSS_NAMESPACE"]];
        assert_eq!(whose, ["denied", "containerd", "shop"], "{path}: {event}");
    }
}
