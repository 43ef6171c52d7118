//! What happens to containers that belong to no pod? podman reads the hook from a folder; the policy's `[unmanaged]`
//! level holds, and podman's user sees what the runtime says.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pss_guard::install::{Method, Request, engines, entry_path};
use pss_guard::node::distribution::PLAIN;
use pss_guard::node::host::Live;
use pss_guard::pss::facts::Engine;
use pss_guard::pss::run as run_words;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::cases::{HOST_PATH, Said, message, refusal};
use crate::support::journal::Journal;
use crate::support::run::{self, Done};
use crate::support::runtime::{self, Runtime};
use crate::support::{files, image, needs, podman, program, root};

#[test]
fn podman_starts_what_the_level_of_unmanaged_containers_allows() {
    let test = "podman_starts_what_the_level_of_unmanaged_containers_allows";
    if !needs::can_run(test, &["podman", "conmon", "runc", "crun", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    let mut wrong = Vec::new();
    for case in podman::cases() {
        let alone = podman.run(Runtime::Crun, case.options, None);
        if !ran(&alone) {
            wrong.push(format!("{}: does not start without the hook\n{alone}", case.name));
            continue;
        }
        for (level, said) in
            [("privileged", &[][..]), ("baseline", case.baseline), ("restricted", case.restricted)]
        {
            for (mode, runtime) in
                [("audit", Runtime::Runc), ("enforce", Runtime::Runc), ("enforce", Runtime::Crun)]
            {
                podman.write_policy(mode, level);
                let done = podman.run(runtime, case.options, Some("hooks"));
                let said = if mode == "enforce" { said } else { &[] };
                if let Err(what) = podman.judge(runtime, level, said, &done) {
                    let policy = run::read(&podman.policy());
                    wrong
                        .push(format!("{} at {level}, {mode}: {what}\n{done}\npolicy:\n{policy}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The fix of each control, in podman's words: the container is refused because of that control alone, and starts with it.
#[test]
fn podman_starts_what_it_refused_with_the_fix_that_is_shown() {
    let test = "podman_starts_what_it_refused_with_the_fix_that_is_shown";
    if !needs::can_run(test, &["podman", "conmon", "runc", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    let mut wrong = Vec::new();
    let rows = podman::VIOLATIONS.iter().filter(|row| row.engine.is_none_or(|engine| engine == "podman"));
    for row in rows {
        podman.write_policy("enforce", row.level);
        let root = podman.path("root");
        let _ = fs::remove_file(root::decisions(&root));
        let refused = podman.run(Runtime::Runc, &row.options(), Some("hooks"));
        let fix = podman::fix_of(row.control, &root::events(&root)).unwrap_or_default();
        let words = run_words::of(row.control).expect("a row").podman;
        if ran(&refused) || fix != format!("podman run {words}") {
            wrong.push(format!("{}: the fix is {fix:?}\n{refused}", row.control));
            continue;
        }
        let fixed = row.fixed(words);
        let options: Vec<&str> = fixed.iter().map(String::as_str).collect();
        let done = podman.run(Runtime::Runc, &options, Some("hooks"));
        if !ran(&done) {
            wrong.push(format!("{}: is refused with its fix {words:?}\n{done}", row.control));
        }
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// What looks like podman's own and shows something of the host.
#[test]
fn podman_hides_nothing_of_the_host_behind_what_it_manages() {
    let test = "podman_hides_nothing_of_the_host_behind_what_it_manages";
    if !needs::can_run(test, &["podman", "conmon", "runc", "busybox", "mount"]) {
        return;
    }
    let podman = Podman::new();
    podman.write_policy("enforce", "baseline");
    // The image is loaded into a storage that is still empty.
    assert!(ran(&podman.run(Runtime::Runc, &[], None)));
    let volume = |name: &str, options: &[&str]| {
        let mut create = podman.podman(Runtime::Runc);
        create.args(["volume", "create"]);
        for option in options {
            create.args(["--opt", option]);
        }
        run::run(create.arg(name)).expect_success();
    };
    volume("plain", &[]);
    volume("memory", &["type=tmpfs", "device=tmpfs"]);
    volume("kernel", &["type=proc", "device=proc"]);
    let data = podman.path("storage/volumes/plain/_data");
    fs::create_dir_all(data.join("in")).expect("a directory");
    symlink("/etc", data.join("out")).expect("a link");
    let (inside, outside) = (format!("{}/in:/x", data.display()), format!("{}/out:/x", data.display()));
    let mut rows = vec![
        (vec!["--volume", "plain:/x"], true),
        (vec!["--volume", "memory:/x"], true),
        (vec!["--volume", &inside], true),
        (vec!["--volume", "kernel:/x"], false),
        (vec!["--volume", &outside], false),
        (vec!["--security-opt", "unmask=/proc/irq"], false),
    ];
    let groups = "/sys/fs/cgroup/systemd";
    let of_systemd = format!("type=bind,src={groups},dst={groups},bind-nonrecursive");
    if Path::new(groups).exists() {
        rows.push((vec!["--systemd=always"], true));
        rows.push((vec!["--mount", &of_systemd], false));
    }
    let mut wrong = Vec::new();
    for (options, starts) in rows {
        let alone = podman.run(Runtime::Runc, &options, None);
        let done = podman.run(Runtime::Runc, &options, Some("hooks"));
        if !ran(&alone) || ran(&done) != starts || (!starts && !done.stderr.contains("violates PodSecurity"))
        {
            wrong.push(format!("{options:?}\n{alone}\n{done}"));
        }
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The container's only act.
fn ran(done: &Done) -> bool {
    done.stdout == "started\n"
}

/// A container of each runtime that podman knows by name, with the drop-in as it is planned and a recorder in the place of
/// the gate. What podman knows of a runtime it knows by the name: `--cgroups=disabled` it allows crun alone.
#[test]
fn podman_starts_its_runtimes_through_the_entries() {
    let test = "podman_starts_its_runtimes_through_the_entries";
    if !needs::can_run(test, &["podman", "conmon", "runc", "crun", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    let root = podman.path("node");
    for runtime in [Runtime::Crun, Runtime::Runc] {
        let program = root.join("usr/bin").join(runtime.name());
        files::write(&program, "");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .expect("set the mode of a file of ours");
    }
    let installer = engines::find("podman").expect("podman's installer");
    let request = Request { method: Method::Runtime, config: None, distribution: &PLAIN };
    let plan = (installer.plan)(&Live::under(&root), &request).expect("a plan");
    let names: Vec<&str> = plan.entries.iter().map(|entry| entry.handler.as_str()).collect();
    assert_eq!(names, ["crun", "runc"]);
    let change = plan.changes.first().expect("a drop-in");
    let here = root.join("var/lib/pss-guard").display().to_string();
    let config = podman.path("containers.conf");
    files::write(&config, &String::from_utf8_lossy(&change.after).replace("/var/lib/pss-guard", &here));
    for entry in &plan.entries {
        let path = entry_path(Engine::Podman, &entry.handler);
        let path = root.join(path.strip_prefix("/").expect("an absolute path"));
        files::write(&path, "#!/bin/sh\necho \"$@\" >>\"$0.log\"\nexec \"${0%/*}/runtime\" \"$@\"\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .expect("set the mode of a file of ours");
        let real = needs::program(&entry.handler).expect("a runtime that is installed");
        symlink(real, path.with_file_name("runtime")).expect("a link");
    }
    for runtime in [Runtime::Crun, Runtime::Runc] {
        let done = podman.run_by(runtime, Path::new(runtime.name()), Some(&config), &[], None);
        assert!(ran(&done), "{done}");
        let log =
            root.join("var/lib/pss-guard/runtimes/podman").join(runtime.name()).join("pss-guard-runtime.log");
        assert!(
            run::read(&log).contains(" create --bundle "),
            "{}: {}\n{done}",
            log.display(),
            run::read(&log)
        );
    }
}

/// By its path podman takes an entry for no runtime that it knows, so `--cgroups=disabled`, which crun needs here, is
/// not to be had: crun's is tried by its name above.
#[test]
fn podman_is_refused_by_the_wrapper_as_its_runtime() {
    let test = "podman_is_refused_by_the_wrapper_as_its_runtime";
    if !needs::can_run(test, &["podman", "conmon", "runc", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    let runtime = Runtime::Runc;
    let entry = program::entry(&podman.path("root"), "podman", runtime.name(), &runtime.program());
    for (mode, level, starts) in
        [("enforce", "baseline", true), ("enforce", "restricted", false), ("audit", "restricted", true)]
    {
        podman.write_policy(mode, level);
        let done = podman.run_by(runtime, &entry, None, &[], None);
        assert_eq!(ran(&done), starts, "{mode}, {level}: {done}");
        let said = "pss-guard: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation";
        assert_eq!(done.stderr.contains(said), !starts, "{mode}, {level}: {done}");
    }
}

/// Without root the gate judges as well, in a user namespace in which the policy's owner is nobody: what it reads, what it
/// says and where it says it must not need root.
#[test]
fn rootless_podman_starts_what_the_level_of_unmanaged_containers_allows() {
    let test = "rootless_podman_starts_what_the_level_of_unmanaged_containers_allows";
    if !needs::can_run(test, &["podman", "conmon", "crun", "busybox", "newuidmap"]) || !Journal::can_run(test)
    {
        return;
    }
    let podman = Podman::rootless();
    let _journal = Journal::open();
    Journal::lead_to(&podman.path("root"));
    let mut wrong = Vec::new();
    // The host's message queues are not mounted on every machine, and podman has no other way to the host's IPC.
    for case in podman::cases().iter().filter(|case| case.name != "host IPC") {
        let alone = podman.run(Runtime::Crun, case.options, None);
        if !ran(&alone) {
            wrong.push(format!("{}: does not start without the hook\n{alone}", case.name));
            continue;
        }
        for (mode, level, said) in [
            ("enforce", "baseline", case.baseline),
            ("enforce", "restricted", case.restricted),
            ("audit", "restricted", case.restricted),
        ] {
            podman.write_policy(mode, level);
            let done = podman.run(Runtime::Crun, case.options, Some("hooks"));
            let refusals = match (mode, case.name, level) {
                ("audit", ..) => &[],
                // See `judge_event`.
                (_, "privileged", "baseline") => &[HOST_PATH][..],
                _ => said,
            };
            let mut outcome = podman.judge(Runtime::Crun, level, refusals, &done);
            if !said.is_empty() {
                outcome = outcome.and_then(|()| podman.judge_event(mode, said));
            }
            if let Err(what) = outcome {
                wrong.push(format!("{} at {level}, {mode}: {what}\n{done}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// podman with storage of its own.
struct Podman {
    dir: TempDir,
    rootless: bool,
}

/// The user of a rootless podman: one that every machine has, and that is not nobody.
const USER: u32 = 1;

impl Podman {
    fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("pss-guard-podman-").tempdir().expect("a temporary directory");
        let podman = Self { dir, rootless: false };
        let archives = image::write_all(&podman.path("archives"));
        let (_, archive) = archives.into_iter().find(|(name, _)| *name == image::APP).expect("the image");
        fs::copy(archive, podman.path("image.tar")).expect("a copy of an archive of ours");
        files::write(&podman.path("trust.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        fs::create_dir_all(podman.path("no-hooks")).expect("a directory");
        fs::create_dir_all(podman.path("home")).expect("a directory");
        // The file as it is shipped, for CRI-O and podman alike, with the paths of this test.
        let mut hook: Value = serde_json::from_str(include_str!("../../hooks/pss-guard.json")).expect("JSON");
        hook["hook"] = program::hook("cri-o", &podman.path("root"));
        files::write(&podman.path("hooks/pss-guard.json"), &hook.to_string());
        podman
    }

    fn rootless() -> Self {
        let mut podman = Self::new();
        podman.rootless = true;
        fs::set_permissions(podman.dir.path(), fs::Permissions::from_mode(0o755)).expect("set a mode");
        files::write(&podman.path("ids"), &format!("{USER}:100000:65536\n"));
        let mut chown = Command::new("chown");
        chown.args(["--recursive", "--no-dereference", &USER.to_string()]);
        for name in ["home", "storage", "run"] {
            fs::create_dir_all(podman.path(name)).expect("a directory");
            chown.arg(podman.path(name));
        }
        run::run(&mut chown).expect_success();
        podman
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn policy(&self) -> PathBuf {
        self.path("root/etc/pss-guard/policy.toml")
    }

    fn write_policy(&self, mode: &str, level: &str) {
        files::write(&self.policy(), &format!("mode = \"{mode}\"\n[unmanaged]\nenforce = \"{level}\"\n"));
    }

    fn judge(&self, runtime: Runtime, level: &str, said: &[Said], done: &Done) -> Result<(), String> {
        let Some(first) = said.first() else {
            return if ran(done) { Ok(()) } else { Err("should have started".into()) };
        };
        if ran(done) || done.code != Some(126) {
            return Err("should have been refused, with podman's exit code 126".into());
        }
        // podman hands no name on: messages go by the container's id.
        let id = format!("\"{}\"", run::read(&self.path("home/cid")).get(..12).unwrap_or_default());
        let because = format!("[unmanaged] of {}", self.policy().display());
        let message = message("violates", level, said, &because).replace("\"app\"", &id);
        let refusal = refusal(runtime, *first, &message);
        let expected =
            format!("Error: OCI runtime error: {}: {}", runtime.program().display(), refusal.trim_end());
        if done.stderr.trim_end() == expected { Ok(()) } else { Err(format!("should have said\n{expected}")) }
    }

    /// Journald wrote down itself whose event it is. A privileged container has more to it than with root: every device
    /// is mounted from the host, since a user cannot make any.
    fn judge_event(&self, mode: &str, said: &[Said]) -> Result<(), String> {
        let id = run::read(&self.path("home/cid"));
        let events = Journal::events(&[&format!("PSS_CONTAINER_ID={id}"), &format!("_UID={USER}")]);
        let [event] = &events[..] else { return Err(format!("not one event of {id}: {events:?}")) };
        let message = event["MESSAGE"].as_str().unwrap_or_default();
        let message = message.replace(&format!("container \"{}\"", &id[..12]), "container \"app\"");
        let decision = if mode == "audit" { "would-deny" } else { "denied" };
        let complete = said.iter().all(|said| message.contains(said.text));
        if complete && event["PSS_DECISION"] == decision { Ok(()) } else { Err(format!("says: {event:#}")) }
    }

    fn run(&self, runtime: Runtime, options: &[&str], hooks: Option<&str>) -> Done {
        self.run_by(runtime, &runtime.program(), None, options, hooks)
    }

    /// A command that becomes what its first argument says, as a user who may have other users' ids. The process in
    /// which podman keeps its user namespace ends with it.
    fn as_user(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        command.arg(format!(
            "mount --make-rshared / &&
            mount --bind \"$1/ids\" /etc/subuid && mount --bind \"$1/ids\" /etc/subgid && cd \"$1/home\" &&
            export HOME=\"$1/home\" XDG_RUNTIME_DIR=\"$1/run\" && shift &&
            exec setpriv --reuid={USER} --regid={USER} --clear-groups \"$@\""
        ));
        command.arg("sh").arg(self.dir.path());
        command
    }

    /// Runs a container by what `--runtime` and containers.conf say.
    fn run_by(
        &self,
        runtime: Runtime,
        chosen: &Path,
        config: Option<&Path>,
        options: &[&str],
        hooks: Option<&str>,
    ) -> Done {
        // An image in podman's own storage: a root file system from elsewhere is a path of the host.
        if !self.path("storage/vfs-images").exists() {
            let mut load = self.podman(runtime);
            load.args(["load", "--quiet", "--signature-policy"]).arg(self.path("trust.json"));
            run::run(load.arg("--input").arg(self.path("image.tar"))).expect_success();
        }
        let mut command = self.podman(runtime);
        command.envs(config.map(|config| ("CONTAINERS_CONF", config)));
        command.arg("--hooks-dir").arg(self.path(hooks.unwrap_or("no-hooks")));
        command.arg("--runtime").arg(chosen);
        let _ = fs::remove_file(self.path("home/cid"));
        command.args(["run", "--rm", "--cidfile"]).arg(self.path("home/cid"));
        // Without CAP_SYS_RESOURCE podman's own limits cannot be set; runc 1.1 cannot do without a cgroup.
        command.args(["--ulimit=nofile=20000:20000", "--ulimit=nproc=20000:20000"]);
        if runtime == Runtime::Crun {
            command.arg("--cgroups=disabled");
        }
        if !options.iter().any(|option| option.starts_with("--network")) {
            command.arg("--network=none");
        }
        command.args(options).arg(image::APP);
        // podman 4.3 can lose the words of a container that ends at once.
        run::run(command.args(["-c", "echo started; sleep 0.1"]))
    }

    /// podman with its storage and nothing else yet.
    fn podman(&self, runtime: Runtime) -> Command {
        let mut command = if self.rootless { self.as_user() } else { runtime.prefix() };
        command.arg(needs::program("podman").expect("podman is installed"));
        command.arg("--root").arg(self.path("storage")).arg("--runroot").arg(self.path("run"));
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // conmon cleans up after podman has returned, in the directory that is about to go.
        run::eventually(|| !run::someone_names(self.dir.path()));
        // podman keeps the parents of its containers' cgroups; they go only if nobody else's container is in them.
        runtime::remove_cgroups(&["libpod_parent/conmon".to_owned(), "libpod_parent".to_owned()]);
    }
}
