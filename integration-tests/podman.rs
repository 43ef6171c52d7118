//! What happens to containers that belong to no pod? podman reads the hook from a folder; the policy's `[unmanaged]`
//! level holds, and podman's user sees what the runtime says.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::node::{self, Runtime};
use crate::util::{self, Done};

#[test]
fn podman_starts_what_the_level_of_unmanaged_containers_allows() {
    let test = "podman_starts_what_the_level_of_unmanaged_containers_allows";
    if !util::can_run(test, &["podman", "conmon", "runc", "crun", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let alone = podman.run(Runtime::Crun, case.options, None);
        if !ran(&alone) {
            wrong.push(format!("{}: does not start without the hook\n{alone}", case.name));
            continue;
        }
        for (level, denied) in
            [("privileged", None), ("baseline", case.baseline), ("restricted", case.restricted)]
        {
            for (mode, runtime) in
                [("audit", Runtime::Runc), ("enforce", Runtime::Runc), ("enforce", Runtime::Crun)]
            {
                podman.write_policy(mode, level);
                let done = podman.run(runtime, case.options, Some("hooks"));
                let denied = denied.filter(|_| mode == "enforce");
                if let Err(what) = judge(runtime, denied, &done) {
                    let policy = util::read(&podman.policy());
                    wrong
                        .push(format!("{} at {level}, {mode}: {what}\n{done}\npolicy:\n{policy}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

fn judge(runtime: Runtime, denied: Option<u8>, done: &Done) -> Result<(), String> {
    let Some(number) = denied else {
        return if ran(done) { Ok(()) } else { Err("should have started".into()) };
    };
    if ran(done) || done.code != Some(126) {
        return Err("should have been refused, with podman's exit code 126".into());
    }
    let code = 10 + number;
    let expected = match runtime {
        Runtime::Runc => format!("exit status {code}, stdout: , stderr: pss-guard: violates PodSecurity \""),
        Runtime::Crun => format!("error executing hook `{}` (exit code: {code})", node::binary().display()),
    };
    if done.stderr.contains(&expected) { Ok(()) } else { Err(format!("should have said {expected}")) }
}

/// The container's only act.
fn ran(done: &Done) -> bool {
    done.stdout == "started\n"
}

/// A container by podman's options, and the first control it violates at each level.
struct Case {
    name: &'static str,
    options: &'static [&'static str],
    baseline: Option<u8>,
    restricted: Option<u8>,
}

fn cases() -> [Case; 7] {
    let case = |name, options, baseline, restricted| Case { name, options, baseline, restricted };
    [
        case("nothing set", &[], None, Some(13)),
        case(
            "everything set",
            &["--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"],
            None,
            None,
        ),
        case("privileged", &["--privileged"], Some(7), Some(7)),
        case("adds SYS_TIME", &["--cap-add=SYS_TIME"], Some(2), Some(13)),
        case("host network", &["--network=host"], Some(3), Some(3)),
        case("host IPC", &["--ipc=host"], Some(3), Some(3)),
        case("a path of the host", &["--volume=/etc:/host:ro"], Some(4), Some(13)),
    ]
}

/// podman with storage of its own.
struct Podman {
    dir: TempDir,
}

impl Podman {
    fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("pss-guard-podman-").tempdir().expect("a temporary directory");
        let podman = Self { dir };
        node::unpack_image(&podman.path("image"));
        fs::create_dir_all(podman.path("no-hooks")).expect("a directory");
        let hook = json!({
            "version": "1.0.0",
            "hook": node::hook("podman", &podman.path("root")),
            "when": {"always": true},
            "stages": ["createRuntime"],
        });
        node::write(&podman.path("hooks/pss-guard.json"), &hook.to_string());
        podman
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn policy(&self) -> PathBuf {
        self.path("root/etc/pss-guard/policy.toml")
    }

    fn write_policy(&self, mode: &str, level: &str) {
        node::write(&self.policy(), &format!("mode = \"{mode}\"\n[unmanaged]\nenforce = \"{level}\"\n"));
    }

    fn run(&self, runtime: Runtime, options: &[&str], hooks: Option<&str>) -> Done {
        let mut command = runtime.prefix();
        command.arg(util::program("podman").expect("podman is installed"));
        command.arg("--root").arg(self.path("storage")).arg("--runroot").arg(self.path("run"));
        command.arg("--hooks-dir").arg(self.path(hooks.unwrap_or("no-hooks")));
        command
            .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime"])
            .arg(runtime.program());
        command.args(["run", "--rm"]);
        // Without CAP_SYS_RESOURCE podman's own limits cannot be set; runc 1.1 cannot do without a cgroup.
        command.args(["--ulimit=nofile=20000:20000", "--ulimit=nproc=1000:1000"]);
        if runtime == Runtime::Crun {
            command.arg("--cgroups=disabled");
        }
        if !options.iter().any(|option| option.starts_with("--network")) {
            command.arg("--network=none");
        }
        command.args(options).arg("--rootfs").arg(self.path("image"));
        util::run(command.args(["/bin/sh", "-c", "echo started"]))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // conmon cleans up after podman has returned, in the directory that is about to go.
        util::eventually(|| !util::someone_names(self.dir.path()));
        // podman keeps the parents of its containers' cgroups; they go only if nobody else's container is in them.
        node::remove_cgroups(&["libpod_parent/conmon".to_owned(), "libpod_parent".to_owned()]);
    }
}
