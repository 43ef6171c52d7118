//! The wrapper in front of a runtime: command lines, verdicts and modes against what is executed, what is said, and what
//! the real runtime gets to see.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::{needs, program, run};

const ENFORCE: &str = "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n";
const AUDIT: &str = "mode = \"audit\"\n[defaults]\nenforce = \"restricted\"\n";
const OPEN: &str = "mode = \"enforce\"\non-fault = \"allow\"\n[defaults]\nenforce = \"restricted\"\n";

/// Writes down all that it was given.
const FAKE: &str = r#"#!/bin/sh
out=@OUT@
for argument in "$0" "$@"; do printf '%s\0' "$argument"; done >$out/argv
cat /proc/$$/environ >$out/environ
while read -r name value; do
  case $name in SigBlk: | SigIgn:) echo "$name $value" ;; esac
done </proc/$$/status >$out/signals
ls /proc/$$/fd >$out/fds
pwd >$out/cwd
exit 7
"#;

/// The fake runtime's exit code.
const RAN: Option<i32> = Some(7);

/// A node whose containerd calls the wrapper before a fake runtime.
struct Wrapped {
    node: Node,
    entry: PathBuf,
}

impl Wrapped {
    fn new(policy: &str) -> Self {
        let node = Node::new(policy);
        let fake = node.file("bin/fake", &FAKE.replace("@OUT@", &node.root().display().to_string()));
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let entry = program::entry(node.root(), "containerd", "runc", &fake);
        Self { node, entry }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.root().join(name)
    }

    fn runtime(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.entry);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Whether the fake runtime ran, and forgets it.
    fn ran(&self) -> bool {
        fs::remove_file(self.path("argv")).is_ok()
    }

    /// Changes the container's spec.
    fn spec(&self, change: impl FnOnce(&mut Value)) {
        let path = self.node.bundle().join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(&path, spec.to_string()).unwrap();
    }

    fn last_event(&self) -> Value {
        self.node.events().pop().unwrap_or_default()
    }
}

fn root_user(spec: &mut Value) {
    spec["process"]["user"]["uid"] = 0.into();
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The command lines of engines that start a container, with `@B` for the bundle and `@L` for the log.
const STARTS: &[&str] = &[
    "--root /r --log @L --log-format json create --bundle @B --pid-file @B/init.pid id",
    "--root /r --log @L --log-format json --systemd-cgroup create --bundle @B --console-socket /s --no-pivot id",
    "--log-format=json --log=@L --root=/r --systemd-cgroup create --bundle @B --pid-file /p id",
    "--log @L --log-format=json run --bundle=@B --keep id",
    "--log @L --log-format json run -b @B -d id",
    "--log @L --log-format json create id -b@B",
];

/// Issue: what is refused for missing knowledge must be tried again, and only sandboxes always are.
#[test]
fn a_namespace_that_nobody_knows_is_refused_at_its_sandbox_and_nowhere_else() {
    let policy = "mode = 'enforce'\non-fault = 'allow'\non-unknown-namespace = 'deny'\n[defaults]\nenforce = 'baseline'\n";
    let node = Wrapped::new(policy);
    node.node.file("run/pss-guard/namespaces/other.json", "{}");
    let (sandbox, container) = (node.node.sandbox(), node.node.bundle());
    let start = |bundle: &Path| {
        let done = output(&mut node.runtime(&["create", "--bundle", bundle.to_str().unwrap(), "id"]));
        (node.ran(), done.status.code(), stderr(&done))
    };
    let (ran, code, said) = start(&sandbox);
    let expected = "pss-guard: namespace \"shop\" is not known on this node yet; level from on-unknown-namespace = \"deny\" \
                    (`pss-guard namespaces import` makes it known)\n";
    assert_eq!((ran, code, said.as_str()), (false, Some(2), expected));
    // Its sandbox runs: it was let in before the import, or before the policy. What holds is [defaults].
    assert_eq!(start(&container), (true, RAN, String::new()));
    node.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "ipc");
    });
    let (ran, code, said) = start(&container);
    assert!(!ran && code == Some(13) && said.contains("[defaults]"), "{code:?} {said}");
    // In audit mode nothing is stopped, and it is said.
    node.node.policy(&policy.replace("'enforce'\non-fault", "'audit'\non-fault"));
    assert_eq!(start(&sandbox), (true, RAN, String::new()));
    assert_eq!(node.last_event()["PSS_DECISION"], "fault");
    // As soon as it is known the sandbox starts.
    node.node.policy(policy);
    node.node.file("run/pss-guard/namespaces/shop.json", "{}");
    assert_eq!(start(&sandbox), (true, RAN, String::new()));
}

/// CRI-O: whether and how it tries a refused sandbox again was not measured, and usually it has none.
#[test]
fn where_no_sandbox_is_seen_the_refusal_says_that_the_setting_is_wrong() {
    let policy = "mode = 'enforce'\non-unknown-namespace = 'deny'\n";
    let node = Node::new(policy);
    node.file("run/pss-guard/namespaces/other.json", "{}");
    let done = run::feed(&mut node.hook_command(), node.state().as_bytes());
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(2), "{said}");
    let reason = "on-unknown-namespace = \"deny\" does not work on containerd with the hook method: the gate does not see \
                  sandboxes there, and a refused container of a pod with restartPolicy Never is not retried";
    assert!(
        said.contains("namespace \"shop\" is not known on this node yet") && said.contains(reason),
        "{said}"
    );
    // Nobody else is touched by it.
    node.config("other");
    let done = run::feed(&mut node.hook_command(), node.state().as_bytes());
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
}

#[test]
fn a_verdict_is_the_same_on_every_command_line() {
    for (policy, user, starts) in
        [(ENFORCE, 1000, true), (ENFORCE, 0, false), (AUDIT, 0, true), (OPEN, 0, false)]
    {
        let node = Wrapped::new(policy);
        node.spec(|spec| spec["process"]["user"]["uid"] = user.into());
        for line in STARTS {
            let (bundle, log) = (node.node.bundle(), node.path("log.json"));
            let _ = fs::remove_file(&log);
            let line = line.replace("@B", bundle.to_str().unwrap()).replace("@L", log.to_str().unwrap());
            let line: Vec<&str> = line.split(' ').collect();
            let done = output(&mut node.runtime(&line));
            assert_eq!(node.ran(), starts, "{line:?}: {done:?}");
            if starts {
                assert_eq!((done.status.code(), stderr(&done)), (RAN, String::new()), "{line:?}");
                assert!(!log.exists() && done.stdout.is_empty(), "{line:?}");
                continue;
            }
            let said = stderr(&done);
            // runAsNonRoot is number 17.
            assert_eq!(done.status.code(), Some(27), "{line:?}: {said}");
            assert!(said.starts_with("pss-guard: violates PodSecurity \"restricted:latest\": "), "{said}");
            let text = fs::read_to_string(&log).unwrap();
            let logged: Value = serde_json::from_str(text.trim_end()).unwrap();
            assert_eq!((&logged["level"], &logged["msg"]), (&"error".into(), &said.trim_end().into()));
            assert!(done.stdout.is_empty(), "{line:?}");
        }
        let decision = match (policy == AUDIT, starts) {
            (true, _) => json!("would-deny"),
            (false, false) => json!("denied"),
            (false, true) => Value::Null,
        };
        assert_eq!(node.last_event()["PSS_DECISION"], decision, "{policy}");
    }
}

#[test]
fn what_starts_nothing_passes_whatever_state_the_gate_is_in() {
    let node = Wrapped::new("this is no policy");
    for line in
        ["features", "--root /r state id", "kill id 9", "delete --force id", "start id", "--version", ""]
    {
        let line: Vec<&str> = line.split_whitespace().collect();
        let done = output(&mut node.runtime(&line));
        assert!(node.ran(), "{line:?}");
        assert_eq!((done.status.code(), stderr(&done)), (RAN, String::new()), "{line:?}");
    }
    assert!(node.node.events().is_empty(), "and nobody is told");
}

#[test]
fn a_fault_is_an_answer_by_the_policy_alone() {
    let faults: &[(&str, &str)] = &[
        ("create -b=@B id", "runc, crun and youki read these arguments differently"),
        ("create --config /x.json --bundle @B id", "--config names another file"),
        ("create --new=x --bundle @B", "neither runc nor crun nor youki is known to accept them"),
        ("create --bundle /nowhere id", "open /nowhere: No such file"),
        ("create id", "config.json: No such file"),
    ];
    for (policy, starts) in [(ENFORCE, false), (AUDIT, true), (OPEN, true), ("broken", false)] {
        let node = Wrapped::new(policy);
        for (line, says) in faults {
            let line = line.replace("@B", node.node.bundle().to_str().unwrap());
            let log = node.path("log");
            let _ = fs::remove_file(&log);
            let all: Vec<&str> =
                ["--log", log.to_str().unwrap()].into_iter().chain(line.split(' ')).collect();
            let done = output(node.runtime(&all).current_dir("/"));
            assert_eq!(node.ran(), starts, "{policy}: {line}: {done:?}");
            assert_eq!(done.status.code(), if starts { RAN } else { Some(2) }, "{line}");
            let event = node.last_event();
            let message = event["MESSAGE"].as_str().unwrap();
            let known = line.starts_with("create --bundle /nowhere") || line == "create id";
            assert_eq!(event["PSS_CONTAINER_ID"] == "id", known, "{event}");
            assert!(message.contains(says) && event["PSS_DECISION"] == "fault", "{line}: {message}");
            let logged = run::read(&log);
            if starts {
                assert_eq!((stderr(&done), logged), (String::new(), String::new()), "{line}");
            } else {
                let (_, message) = message.split_once("cannot judge: ").unwrap();
                let said = format!("pss-guard: cannot judge: {message}");
                assert_eq!(stderr(&done).trim_end(), said, "{line}");
                assert!(logged.starts_with("time=\"20"), "{logged}");
                let quoted = format!("level=error msg={}", Value::from(said));
                assert!(logged.trim_end().ends_with(&quoted), "{logged}");
            }
        }
    }
}

#[test]
fn without_a_bundle_it_is_the_working_directory() {
    let node = Wrapped::new(ENFORCE);
    for (change, code) in [(None, RAN), (Some(root_user as fn(&mut Value)), Some(27))] {
        if let Some(change) = change {
            node.spec(change);
        }
        let done = output(node.runtime(&["create", "id"]).current_dir(node.node.bundle()));
        assert_eq!((done.status.code(), node.ran()), (code, code == RAN), "{done:?}");
    }
}

#[test]
fn a_log_that_cannot_be_written_changes_no_verdict() {
    let node = Wrapped::new(ENFORCE);
    node.spec(root_user);
    let fifo = node.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let bundle = node.node.bundle();
    for log in ["/nowhere/log", "/dev/full", "/", "", "journald:x", fifo.to_str().unwrap()] {
        let done = output(&mut node.runtime(&["--log", log, "create", "-b", bundle.to_str().unwrap(), "id"]));
        assert_eq!((done.status.code(), node.ran()), (Some(27), false), "{log}: {done:?}");
        assert!(stderr(&done).starts_with("pss-guard: violates"), "{log}");
    }
    // Nor is it everybody's to write, whatever the engine's umask.
    let log = node.path("log");
    let arguments = ["--log", log.to_str().unwrap(), "create", "-b", bundle.to_str().unwrap(), "id"];
    through_shell(&node, "umask 0; exec \"$@\"", &arguments.map(OsStr::new));
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o644);
}

/// A shell that does something to itself and then becomes the wrapper: `$@` is the command line.
fn through_shell(node: &Wrapped, script: &str, arguments: &[&OsStr]) -> Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(&node.entry).args(arguments);
    output(command.stdin(Stdio::null()))
}

#[test]
fn the_runtime_gets_what_the_wrapper_got() {
    let node = Wrapped::new(ENFORCE);
    let bundle = node.node.bundle();
    let mut many: Vec<OsString> = ["create", "--bundle"].map(OsString::from).to_vec();
    many.extend([bundle.into_os_string(), OsStr::from_bytes(b"id-\xff\xfe").to_owned()]);
    let mut exec: Vec<OsString> = vec!["state".into()];
    exec.extend((0..1000).map(|nth| OsString::from(format!("argument {nth}\n"))));
    for arguments in [many, exec] {
        let mut command = Command::new(&node.entry);
        // What looks like a mark of the gate's own, and was left by no process that is there.
        command.args(&arguments).current_dir("/tmp").env("PSS_GUARD_PASSED", "9");
        command.env("MARK", OsStr::from_bytes(b"\xff=x"));
        assert_eq!(output(command.stdin(Stdio::null())).status.code(), RAN);
        let argv = fs::read(node.path("argv")).unwrap();
        let argv: Vec<&[u8]> = argv.split(|byte| *byte == 0).filter(|part| !part.is_empty()).collect();
        let fake = node.path("bin/fake");
        let expected: Vec<&[u8]> = std::iter::once(fake.as_os_str().as_bytes())
            .chain(arguments.iter().map(|argument| argument.as_bytes()))
            .collect();
        assert_eq!(argv, expected);
        let environment = fs::read(node.path("environ")).unwrap();
        assert!(environment.split(|byte| *byte == 0).any(|entry| entry == b"MARK=\xff=x"));
        assert_eq!(run::read(&node.path("cwd")), "/tmp\n");
    }
    // By the path in the link, because some look at their own name. The kernel gives a script another one, so this
    // is a program.
    let cat = node.path("bin/cat");
    std::os::unix::fs::symlink("/bin/cat", &cat).unwrap();
    let entry = program::entry(node.node.root(), "containerd", "cat", &cat);
    let seen = output(Command::new(entry).arg("/proc/self/cmdline")).stdout;
    assert_eq!(String::from_utf8_lossy(&seen), format!("{}\0/proc/self/cmdline\0", cat.display()));
    // A link may be relative, to where it lies.
    let entry =
        program::entry(node.node.root(), "containerd", "near", Path::new("../../../../../../bin/fake"));
    assert_eq!(output(Command::new(entry).arg("state").current_dir("/")).status.code(), RAN);
}

#[test]
fn signals_and_descriptors_are_the_callers() {
    let node = Wrapped::new(ENFORCE);
    let fake = node.path("bin/fake");
    let bundle = node.node.bundle();
    let arguments = [OsStr::new("create"), OsStr::new("--bundle"), bundle.as_os_str(), OsStr::new("id")];
    let scripts = [
        "exec \"$@\"",
        "trap '' PIPE; exec \"$@\"",
        "trap '' XFSZ HUP; exec \"$@\"",
        "exec 0<&-; exec \"$@\"",
        "exec 0<&- 1<&- 2<&-; exec \"$@\"",
        "exec 5</dev/null; exec \"$@\"",
    ];
    for script in scripts {
        let seen = |program: &Path| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script, "sh"]).arg(program).args(arguments).stdin(Stdio::null());
            assert_eq!(output(&mut command).status.code(), RAN, "{script}");
            ["signals", "fds"].map(|name| run::read(&node.path(name)))
        };
        assert_eq!(seen(&node.entry), seen(&fake), "{script}");
    }
    // With a mask: std would have emptied it, and so does a shell, so the runtime is another program here.
    let mut command =
        Command::new(program::entry(node.node.root(), "containerd", "grep", Path::new("/bin/grep")));
    command.args(["SigBlk", "/proc/self/status"]);
    let blocked = || {
        let mut set = nix::sys::signal::SigSet::empty();
        set.add(nix::sys::signal::Signal::SIGUSR1);
        set.thread_block().map_err(Into::into)
    };
    // SAFETY: one system call between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(blocked);
    }
    let seen = output(&mut command).stdout;
    assert_eq!(String::from_utf8_lossy(&seen), "SigBlk:\t0000000000000200\n");
}

#[test]
fn a_parents_death_is_still_told() {
    if !needs::can_run("a_parents_death_is_still_told", &["setpriv"]) {
        return;
    }
    let node = Wrapped::new(ENFORCE);
    let dump = node.node.file("bin/dump", "#!/bin/sh\nexec setpriv --dump\n");
    fs::set_permissions(&dump, fs::Permissions::from_mode(0o755)).unwrap();
    let entry = program::entry(node.node.root(), "containerd", "dump", &dump);
    let mut command = Command::new("setpriv");
    let done = output(command.args(["--pdeathsig", "KILL"]).arg(entry).args(["state", "id"]));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("Parent death signal: KILL"), "{said}{}", stderr(&done));
}

#[test]
fn a_limit_on_file_sizes_stops_neither_the_gate_nor_the_runtime() {
    let node = Wrapped::new(AUDIT);
    node.spec(root_user);
    let bundle = node.node.bundle();
    let arguments = [OsStr::new("create"), OsStr::new("--bundle"), bundle.as_os_str(), OsStr::new("id")];
    let quiet = node.node.file("bin/quiet", "#!/bin/sh\nexit 9\n");
    fs::set_permissions(&quiet, fs::Permissions::from_mode(0o755)).unwrap();
    let node =
        Wrapped { entry: program::entry(node.node.root(), "containerd", "quiet", &quiet), node: node.node };
    let done = through_shell(&node, "ulimit -f 0; exec \"$@\"", &arguments);
    assert_eq!(done.status.code(), Some(9), "{done:?}");
}

#[test]
fn a_runtime_that_a_package_has_moved_is_called_where_it_is() {
    let node = Wrapped::new(AUDIT);
    // A program that is on every machine, by a place where it is on none.
    let entry = program::entry(node.node.root(), "cri-o", "moved", Path::new("/usr/libexec/crio/echo"));
    let done = output(Command::new(&entry).args(["state", "id"]).stdin(Stdio::null()));
    assert_eq!((done.status.code(), &*done.stdout), (Some(0), b"state id\n".as_slice()), "{done:?}");
}

#[test]
fn without_a_real_runtime_nothing_starts_and_it_says_why() {
    let node = Wrapped::new(AUDIT);
    let root = node.node.root();
    let log = node.path("log");
    let wrapper = node.node.file(
        "bin/again",
        &format!(
            "#!/bin/sh\nexec {} \"$@\"\n",
            root.join("var/lib/pss-guard/runtimes/podman/loop/pss-guard-runtime").display()
        ),
    );
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let rows = [
        (
            program::entry(root, "cri-o", "gone", Path::new("/nowhere/runc")),
            "start the real runtime /nowhere/runc; install it",
        ),
        (program::entry(root, "cri-o", "self", &program::gate()), "would be pss-guard itself"),
        (program::entry(root, "podman", "loop", &wrapper), "calls pss-guard-runtime again in a loop"),
    ];
    let bundle = node.node.bundle();
    for (entry, says) in rows {
        for line in [&["state", "id"][..], &["create", "--bundle", bundle.to_str().unwrap(), "id"][..]] {
            let _ = fs::remove_file(&log);
            let done = output(Command::new(&entry).arg("--log").arg(&log).args(line).stdin(Stdio::null()));
            assert_eq!(done.status.code(), Some(1), "{says}: {done:?}");
            assert!(stderr(&done).contains(says), "{says}: {}", stderr(&done));
            assert!(run::read(&log).contains(says), "{says}");
        }
    }
    // Where nobody reads what is said, it ends all the same, and not by a signal.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = root.join("var/lib/pss-guard/runtimes/cri-o/gone/pss-guard-runtime");
    assert_eq!(Command::new(gone).arg("state").stderr(writer).status().unwrap().code(), Some(1));
    let broken = program::entry(root, "docker", "link", Path::new("/bin/true"));
    fs::remove_file(broken.with_file_name("runtime")).unwrap();
    let done = output(&mut Command::new(&broken));
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).contains("pss-guard: read the link"), "{}", stderr(&done));
    // Without the gate's own file the engine cannot even call it: closed, not open.
    fs::remove_file(root.join("var/lib/pss-guard/bin/pss-guard-gate")).unwrap();
    assert!(node.runtime(&["state", "id"]).output().is_err());
}

#[test]
fn exempt_handlers_and_namespaces_start() {
    let policy = format!("{ENFORCE}[exemptions]\nruntime-classes = [\"runc\"]\n");
    let node = Wrapped::new(&policy);
    node.spec(root_user);
    let bundle = node.node.bundle();
    let done = output(&mut node.runtime(&["create", "--bundle", bundle.to_str().unwrap(), "id"]));
    assert_eq!((done.status.code(), node.last_event()["PSS_DECISION"].as_str()), (RAN, Some("exempt")));
}

#[test]
fn the_entry_tells_whose_a_container_without_a_pod_is() {
    let node = Wrapped::new(&format!("{ENFORCE}[unmanaged]\nenforce = \"restricted\"\n"));
    node.spec(|spec| {
        root_user(spec);
        spec["annotations"] = json!({});
    });
    let bundle = node.node.file("bundle/config.json", &run::read(&node.node.bundle().join("config.json")));
    let entry = program::entry(node.node.root(), "docker", "runc", &node.path("bin/fake"));
    let done = output(Command::new(entry).args(["create", "id", "-b"]).arg(bundle.parent().unwrap()));
    let event = node.last_event();
    assert_eq!((done.status.code(), &event["PSS_ENGINE"]), (Some(27), &json!("docker")), "{done:?} {event}");
}

/// A process as engines write it: the container's own.
fn probe() -> Value {
    json!({"user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": true, "capabilities": {}, "args": ["true"], "cwd": "/"})
}

/// Executes a process in a container of runc; the exit code and what was said.
fn exec(node: &Wrapped, process: &Value) -> (Option<i32>, String) {
    let file = node.node.file("process.json", &process.to_string());
    exec_line(node, &["exec", "--process", file.to_str().unwrap(), "--detach", "id"])
}

fn exec_line(node: &Wrapped, line: &[&str]) -> (Option<i32>, String) {
    let root = node.path("state");
    let bundle = format!("bundle={}", node.node.bundle().display());
    node.node
        .file("state/id/state.json", &json!({"id": "id", "config": {"labels": ["a=b", bundle]}}).to_string());
    let line: Vec<&str> = ["--root", root.to_str().unwrap()].iter().chain(line).copied().collect();
    let done = output(&mut node.runtime(&line));
    assert_eq!(done.status.code() == RAN, node.ran(), "{done:?}");
    (done.status.code(), stderr(&done))
}

#[test]
fn an_exec_is_refused_for_what_it_adds() {
    let with = |change: fn(&mut Value)| {
        let mut process = probe();
        change(&mut process);
        process
    };
    let rows: Vec<(&str, Value, i32, &str)> = vec![
        ("as the container", probe(), 7, ""),
        ("another user", with(|p| p["user"]["uid"] = 1001.into()), 7, ""),
        ("root", with(|p| p["user"]["uid"] = 0.into()), 27, "runAsNonRoot"),
        ("root by crun's reading", with(|p| p["user"]["uid"] = u32::MAX.into()), 27, "runAsNonRoot"),
        ("no user", with(|p| p["user"] = Value::Null), 27, "runAsNonRoot"),
        ("may escalate", with(|p| p["noNewPrivileges"] = false.into()), 23, "allowPrivilegeEscalation"),
        ("says nothing of it", with(|p| p["noNewPrivileges"] = Value::Null), 23, "allowPrivilegeEscalation"),
        (
            "adds SYS_ADMIN",
            with(|p| p["capabilities"] = json!({"ambient": ["CAP_SYS_ADMIN"]})),
            24,
            "SYS_ADMIN",
        ),
        ("adds CHOWN", with(|p| p["capabilities"] = json!({"effective": ["CAP_CHOWN"]})), 24, "capabilities"),
        (
            "adds what restricted allows",
            with(|p| p["capabilities"] = json!({"bounding": ["CAP_NET_BIND_SERVICE"]})),
            7,
            "",
        ),
        ("a label of its own", with(|p| p["selinuxLabel"] = "u:r:spc_t:s0".into()), 19, "seLinuxOptions"),
        ("two users", with(|p| p["User"] = json!({"uid": 0})), 2, "ambiguous key"),
    ];
    for (name, process, code, says) in rows {
        for policy in [ENFORCE, AUDIT] {
            let node = Wrapped::new(policy);
            let (got, said) = exec(&node, &process);
            let expected = if policy == AUDIT { 7 } else { code };
            assert_eq!(got, Some(expected), "{name}, {policy}: {said}");
            assert!(policy == AUDIT || said.contains(says), "{name}: {said}");
            assert_eq!(node.node.events().is_empty(), code == 7, "{name}: {:?}", node.node.events());
            if code > 10 {
                let decision = if policy == AUDIT { "would be denied" } else { "denied" };
                let event = node.last_event();
                let begins =
                    event["MESSAGE"].as_str().unwrap().contains(&format!(": {decision}: exec violates "));
                assert!(begins, "{name}: {event}");
            }
            // A fault's, too, which has no message of its own.
            assert!(code == 7 || node.last_event()["PSS_EXEC"] == "1", "{name}");
        }
    }
}

#[test]
fn an_exec_by_options_is_read_as_the_runtime_reads_it() {
    let rows: &[(&[&str], i32)] = &[
        (&["exec", "id", "true"], 7),
        (&["exec", "-u", "1001:0", "id", "true"], 7),
        (&["exec", "-u", "0", "id", "true"], 27),
        (&["exec", "--user=4294967296", "id", "true"], 27),
        (&["exec", "--user", "root", "id", "true"], 2),
        (&["exec", "--cap", "CAP_NET_ADMIN", "id", "true"], 24),
        (&["exec", "-c", "CAP_NET_BIND_SERVICE", "id", "true"], 7),
        (&["exec", "--no-new-privs=false", "id", "true"], 23),
        (&["exec", "id", "true", "--user", "0"], 7),
    ];
    for (line, code) in rows {
        let (got, said) = exec_line(&Wrapped::new(ENFORCE), line);
        assert_eq!(got, Some(*code), "{line:?}: {said}");
    }
    // crun forgets no_new_privs, youki the user.
    for (file, line, code) in [
        ("status", &["exec", "id", "true"][..], 23),
        ("status", &["exec", "--no-new-privs", "id", "true"][..], 7),
        ("state.json", &["exec", "id", "true"][..], 27),
    ] {
        let node = Wrapped::new(ENFORCE);
        let root = node.path("other");
        node.node.file(&format!("other/id/{file}"), &json!({"bundle": node.node.bundle()}).to_string());
        let line: Vec<&str> = ["--root", root.to_str().unwrap()].iter().chain(line).copied().collect();
        let done = output(&mut node.runtime(&line));
        assert_eq!(done.status.code(), Some(code), "{file} {line:?}: {done:?}");
    }
}

#[test]
fn a_process_that_cannot_be_read_is_a_fault() {
    let node = Wrapped::new(ENFORCE);
    let huge = node.node.file("huge", "");
    fs::File::options().write(true).open(&huge).unwrap().set_len((16 << 20) + 1).unwrap();
    let garbage = node.node.file("garbage", "{");
    let rows = [
        ("-", "open -"),
        ("/nowhere", "open /nowhere"),
        ("/dev/null", "is a device"),
        (huge.to_str().unwrap(), "is larger than"),
        (garbage.to_str().unwrap(), "as an OCI process"),
        ("/", "is a directory"),
    ];
    for (file, says) in rows {
        let (code, said) = exec_line(&node, &["exec", "--process", file, "id"]);
        assert_eq!(code, Some(2), "{file}: {said}");
        assert!(said.contains(says), "{file}: {said}");
    }
    // Without the container's own config.json nobody knows what is beyond it.
    fs::remove_file(node.node.bundle().join("config.json")).unwrap();
    let (code, said) = exec_line(&node, &["exec", "id", "true"]);
    assert!(code == Some(2) && said.contains("config.json: No such file"), "{said}");
}

#[test]
fn a_container_that_is_older_than_its_level_keeps_its_probes_and_is_named_once() {
    let node = Wrapped::new(ENFORCE);
    node.spec(|spec| {
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_TIME", "CAP_CHOWN"]});
        root_user(spec);
    });
    let mut own = probe();
    own["user"]["uid"] = 0.into();
    own["capabilities"] = json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_SYS_TIME"]});
    for _ in 0..3 {
        assert_eq!(exec(&node, &own), (RAN, String::new()));
    }
    let events = node.node.events();
    let said = ": would be denied: exec into a container that violates PodSecurity \"restricted:latest\": ";
    assert!(events[0]["MESSAGE"].as_str().unwrap().contains(said), "{events:?}");
    assert_eq!((events.len(), &events[0]["PSS_DECISION"]), (1, &"would-deny".into()));
    // More than it has is still refused.
    own["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    let (code, said) = exec(&node, &own);
    assert_eq!(code, Some(24), "{said}");
    assert!(said.contains("SYS_ADMIN") && !said.contains("SYS_TIME"), "{said}");
    // A policy that nobody can read, and of which no good text is kept, stops no probe, either; but what adds something
    // cannot be judged.
    node.node.policy("broken");
    fs::remove_file(node.path("var/lib/pss-guard/policy.toml")).unwrap();
    own["capabilities"] = json!({});
    assert_eq!(exec(&node, &own), (RAN, String::new()));
    own["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
    assert_eq!(exec(&node, &own).0, Some(2));
    // A container of the same name that comes later is another one.
    node.node.policy(ENFORCE);
    output(&mut node.runtime(&["delete", "id"]));
    own["capabilities"] = json!({});
    let before = node.node.events().len();
    assert_eq!(exec(&node, &own), (RAN, String::new()));
    assert_eq!(node.node.events().len(), before + 1);
}

/// Not a test of its own: the process that panics for the test below. Its runtime comes too late for the first answer, so
/// that the process is still there afterwards.
#[test]
fn panicking_process() {
    if let Some(root) = std::env::var_os("PSS_GUARD_TEST_WRAPPER_PANIC").map(PathBuf::from) {
        let entry = root.join("var/lib/pss-guard/runtimes/containerd/late/pss-guard-runtime");
        let mut arguments = vec![entry.into_os_string(), "--log".into(), root.join("log").into_os_string()];
        arguments.extend(["create", "id"].map(OsString::from));
        pss_guard::wrapper::install_panic_hook(&arguments);
        let _ = pss_guard::wrapper::run(&arguments);
        fs::remove_file(root.join("log")).unwrap();
        fs::rename(root.join("bin/fake"), root.join("bin/late")).unwrap();
        panic!("a bug");
    }
}

/// Not a test of its own, either: it panics before anything was read.
#[test]
fn early_panicking_process() {
    if std::env::var_os("PSS_GUARD_TEST_EARLY_PANIC").is_some() {
        pss_guard::wrapper::install_panic_hook(&std::env::args_os().collect::<Vec<_>>());
        panic!("a bug");
    }
}

#[test]
fn a_panic_before_the_policy_was_read_asks_it_for_the_mode() {
    #[rustfmt::skip]
    let rows = [(ENFORCE, Some(2)), (AUDIT, RAN), ("", RAN), ("mode = \"strict\"\n", Some(2)), (OPEN, RAN)];
    for (policy, code) in rows {
        let node = Wrapped::new(policy);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg0(&node.entry).args(["--exact", "wrapper::early_panicking_process", "--nocapture"]);
        let done = output(command.env("PSS_GUARD_TEST_EARLY_PANIC", "1").stdin(Stdio::null()));
        assert_eq!((done.status.code(), node.ran()), (code, code == RAN), "{policy}: {done:?}");
        assert_eq!(stderr(&done).contains("this is a bug in pss-guard"), code != RAN, "{policy}: {done:?}");
        assert_eq!(node.last_event()["PSS_DECISION"], "fault", "{policy}");
    }
    // Where there is no runtime to hand over to nobody must take it for one that ran.
    let node = Wrapped::new(AUDIT);
    for gone in [node.path("bin/fake"), node.entry.with_file_name("runtime")] {
        fs::remove_file(gone).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg0(&node.entry).args(["--exact", "wrapper::early_panicking_process", "--nocapture"]);
        let done = output(command.env("PSS_GUARD_TEST_EARLY_PANIC", "1").stdin(Stdio::null()));
        assert_eq!(done.status.code(), Some(1), "{done:?}");
    }
}

/// A wrapper of nobody's entry, which an engine was made to call by hand: the policy says what it hands over to.
#[test]
fn a_wrapper_without_an_entry_hands_over_to_what_the_policy_names() {
    let test = "a_wrapper_without_an_entry_hands_over_to_what_the_policy_names";
    if !needs::can_run(test, &["unshare", "mount"]) {
        return;
    }
    let machine = Wrapped::new("");
    let called = machine.path("by-hand/pss-guard-runtime");
    fs::create_dir_all(called.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(program::gate(), &called).unwrap();
    let fake = machine.path("bin/fake").display().to_string();
    let nowhere = machine.path("nowhere").display().to_string();
    let named = |path: &str| format!("[runtime]\npath = \"{path}\"\n");
    #[rustfmt::skip]
    let rows = [
        (named(&fake), ENFORCE, 1000, RAN, ""),
        (named(&fake), ENFORCE, 0, Some(27), "violates PodSecurity \"restricted:latest\": "),
        (named(&fake), AUDIT, 0, RAN, ""),
        (named(&nowhere), AUDIT, 1000, Some(1), "start the real runtime "),
        (named(&called.display().to_string()), AUDIT, 1000, Some(1), "would be pss-guard itself"),
        (named("bin/runc"), ENFORCE, 1000, Some(2), "cannot judge: "),
    ];
    for (runtime, policy, user, code, says) in rows {
        machine.spec(|spec| spec["process"]["user"]["uid"] = user.into());
        let policy = format!("{policy}{runtime}");
        let file = machine.node.file("by-hand/policy.toml", &policy);
        // An /etc, a /run and a /var of its own, because by hand everything is where it is on a node.
        let script = "for dir in /etc /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs $dir; done\n\
                      mkdir /etc/pss-guard && cp \"$1\" /etc/pss-guard/policy.toml && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&file).arg(&called);
        command.args(["create", "--bundle"]).arg(machine.node.bundle()).arg("id").stdin(Stdio::null());
        let done = output(&mut command);
        assert_eq!((done.status.code(), machine.ran()), (code, code == RAN), "{policy}: {done:?}");
        assert!(stderr(&done).contains(says), "{policy}: {done:?}");
    }
}

#[test]
fn a_wrapper_without_an_entry_and_a_policy_finds_a_runtime_but_not_itself() {
    let test = "a_wrapper_without_an_entry_and_a_policy_finds_a_runtime_but_not_itself";
    if !needs::can_run(test, &["unshare", "mount", "runc", "crun"]) {
        return;
    }
    let machine = Wrapped::new("");
    let (fake, plain) = (machine.path("bin/fake"), machine.node.file("bin/plain", ""));
    // What is in the place of each runc, and of each crun.
    for [runc, crun] in [[&program::gate(), &fake], [&plain, &fake], [&fake, &PathBuf::from("/bin/false")]] {
        let script = "for dir in /etc /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs $dir; done\n\
                      for dir in /usr/sbin /usr/bin /sbin /bin /usr/local/sbin /usr/local/bin; do\n\
                      [ ! -e $dir/runc ] || mount --bind \"$1\" $dir/runc\n\
                      [ ! -e $dir/crun ] || mount --bind \"$2\" $dir/crun\ndone\n\
                      exec \"$3\" state id";
        let called = machine.path("pss-guard-runtime");
        let _ = std::os::unix::fs::symlink(program::gate(), &called);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).args([runc, crun, &called]).stdin(Stdio::null());
        let done = output(&mut command);
        assert_eq!((done.status.code(), machine.ran()), (RAN, true), "{}: {done:?}", runc.display());
    }
}

#[test]
fn a_panic_hands_over_only_where_the_node_is_known_to_be_in_audit_mode() {
    for (policy, code) in [(ENFORCE, Some(2)), (AUDIT, RAN)] {
        let node = Wrapped::new(policy);
        program::entry(node.node.root(), "containerd", "late", &node.path("bin/late"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "wrapper::panicking_process", "--nocapture"]);
        command.env("PSS_GUARD_TEST_WRAPPER_PANIC", node.node.root()).current_dir(node.node.bundle());
        let done = output(command.stdin(Stdio::null()));
        assert_eq!((done.status.code(), node.ran()), (code, code == RAN), "{done:?}");
        let logged = run::read(&node.path("log"));
        assert_eq!(logged.contains("this is a bug in pss-guard"), code != RAN, "{logged}");
        assert_eq!(node.last_event()["PSS_DECISION"], "fault");
    }
}
