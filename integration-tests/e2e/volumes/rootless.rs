//! The volumes of a podman without root, which asks no admission: what leads to a path of the host is refused, the rest
//! starts.

use std::fmt::Write as _;
use std::time::Instant;

use super::{facts, facts_dir};
use crate::support::gate::{self, Method, Restart};
use crate::support::machine::Machine;
use crate::support::run::Done;
use crate::support::{files, image};

/// Its user, whose files lie on a disk of their own.
const HOME: &str = "/opt/disks/home/ada";
/// The same by a link, as `/home` is on some distributions.
const LINK: &str = "/opt/home/ada";

const UID: &str = "4711";

/// Before every case: a disk, a user, and what his containers refer to.
const DISK: &str = r"
umask 022
truncate -s 512M /run/machine/home.img
mkfs.ext4 -q /run/machine/home.img
mkdir -p /opt/disks/home
mount -o loop /run/machine/home.img /opt/disks/home
mkdir -p /opt/disks/home/ada/host/dir /run/user/4711
ln -s disks/home /opt/home
echo text >/opt/disks/home/ada/host/dir/file
chown -R 4711:4711 /opt/disks/home/ada /run/user/4711
chmod 0700 /run/user/4711
chmod 0711 /opt/disks/home/ada
echo ada:x:4711:4711::/opt/disks/home/ada:/bin/sh >>/etc/passwd
echo ada:x:4711: >>/etc/group
echo ada:100000:655360 >/etc/subuid
echo ada:100000:655360 >/etc/subgid
";

const PREPARE: &str = r"
podman volume create --opt type=tmpfs --opt device=tmpfs memory
podman volume create --opt type=none --opt o=bind --opt device=$HOME/host bound
echo text >$HOME/text
podman secret create secret $HOME/text
podman create --name=donor --volume=data:/v --network=none localhost/app:1
podman create --name=bad-donor --volume=$HOME/host:/v --network=none localhost/app:1
";

/// What makes a container comply with `restricted` but for its volumes.
const COMPLIANT: [&str; 5] =
    ["--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--network=none"];

/// A container by podman's options, in which `HOME` stands for the user's.
struct Case {
    name: &'static str,
    options: &'static [&'static str],
    refused: bool,
    overlay: bool,
}

fn cases() -> Vec<Case> {
    let case = |refused, name, options: &'static [&'static str]| {
        let overlay = options.iter().any(|option| option.ends_with(":O") || option.contains("type=image"));
        Case { name, options, refused, overlay }
    };
    let starts = |name, options| case(false, name, options);
    let refused = |name, options| case(true, name, options);
    vec![
        starts("nothing", &[]),
        starts("named volume", &["--volume=data:/v"]),
        starts("named volume, read-only", &["--volume=data:/v:ro"]),
        starts("named volume, given to the user", &["--volume=owned:/v:U"]),
        starts("named volume, twice", &["--volume=data:/v", "--volume=data:/w"]),
        starts("named volume, as a mount", &["--mount=type=volume,source=data,destination=/v"]),
        starts("named volume, overlaid", &["--volume=data:/v:O"]),
        starts("named volume in memory", &["--volume=memory:/v"]),
        starts("volume without a name", &["--volume=/v"]),
        starts("tmpfs", &["--tmpfs=/v"]),
        starts("tmpfs, as a mount", &["--mount=type=tmpfs,destination=/v"]),
        starts("image", &["--mount=type=image,source=localhost/app:1,destination=/v"]),
        starts("image, writable", &["--mount=type=image,source=localhost/app:1,destination=/v,rw=true"]),
        starts("secret", &["--secret=secret"]),
        starts("secret, elsewhere", &["--secret=secret,type=mount,target=/v/secret,mode=0444"]),
        starts("volumes of another container", &["--volumes-from=donor"]),
        starts("size of shared memory", &["--shm-size=1m"]),
        refused("path of the host", &["--volume=HOME/host:/v"]),
        refused("path of the host, read-only", &["--volume=HOME/host:/v:ro"]),
        refused("path of the host, as a mount", &["--mount=type=bind,source=HOME/host,destination=/v"]),
        refused("path of the host, overlaid", &["--volume=HOME/host:/v:O"]),
        refused("file of the host", &["--volume=HOME/host/dir/file:/v"]),
        refused("named volume that is a path of the host", &["--volume=bound:/v"]),
        refused("path of the host of another container", &["--volumes-from=bad-donor"]),
        refused("the volumes' folder", &["--volume=HOME/.local/share/containers/storage/volumes:/v"]),
    ]
}

/// Which users the container has.
const USERS: [(&str, &[&str]); 3] =
    [("own", &[]), ("keep-id", &["--userns=keep-id"]), ("auto", &["--userns=auto:size=4096"])];

#[test]
fn volumes_of_rootless_podman() {
    tell("volumes::rootless::volumes_of_rootless_podman");
}

fn tell(test: &str) {
    let programs = ["podman", "conmon", "crun", "newuidmap", "setpriv", "losetup", "mkfs.ext4"];
    if !Machine::can_run(test, &programs, &[]) {
        return;
    }
    let machine = Machine::up();
    machine.start_journald();
    machine.write("/etc/containers/policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n");
    machine.write("/etc/containers/containers.conf", CONTAINERS_CONF);
    machine.write("/etc/containers/storage.conf", "[storage]\ndriver = \"overlay\"\n");
    machine.run(&["sh", "-e", "-c", DISK]).expect_success();
    let rootless = Rootless { machine: &machine };
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (_, file) in image::write_all(dir.path()) {
        let there = format!("{HOME}/image.tar");
        std::fs::copy(file, machine.path(&there)).expect("a copy of an image");
        rootless.run(HOME, &["podman", "load", "--quiet", "--input", &there]).expect_success();
    }
    rootless.run(HOME, &["sh", "-e", "-c", PREPARE]).expect_success();

    rootless.keep_facts();
    let begun = Instant::now();
    let (mut table, mut wrong) = (String::new(), Vec::new());
    // crun 1.8 does not reach what podman lays over a volume or an image for such users, gate or no gate.
    let auto = USERS[2].1;
    let fails = |case: &Case| case.overlay && rootless.start(HOME, auto, case).0 == "FAILED";
    let failing: Vec<&str> = cases().iter().filter(|case| fails(case)).map(|case| case.name).collect();
    let starts_nothing = |case: &Case| failing.contains(&case.name);
    for method in [Method::Hook, Method::Runtime] {
        machine.write("/etc/pss-guard/policy.toml", POLICY);
        gate::install(&machine, "podman", method, Restart::Later);
        for (home, users) in USERS.iter().map(|users| (HOME, users)).chain([(LINK, &USERS[0])]) {
            for case in cases() {
                // The other method sees the same specs.
                if users.0 == "auto" && (method == Method::Runtime || starts_nothing(&case)) {
                    continue;
                }
                let (word, done) = rootless.start(home, users.1, &case);
                let expected = if case.refused { "refused" } else { "started" };
                let met = if word == expected { "" } else { "!" };
                let behind = if home == LINK { ", home behind a link" } else { "" };
                let row = format!("{method:?}, users: {}{behind}, {}: {met}{word}", users.0, case.name);
                let _ = writeln!(table, "{row}");
                if word != expected {
                    wrong.push(format!("{row}, should have been {expected}\n{done}"));
                }
            }
        }
        gate::uninstall(&machine, "podman", Restart::Later);
    }
    let rows = table.lines().count();
    let _ = writeln!(table, "without the gate, users: auto, podman does not start: {}", failing.join(", "));
    eprintln!("{test}\n{table}{rows} containers after {} s", begun.elapsed().as_secs());
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

const POLICY: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n";

/// All that crun shows of a hook: 10, and the number of restrictedVolumes.
const REFUSED_BY_THE_HOOK: &str =
    "error executing hook `/var/lib/pss-guard/bin/pss-guard-gate` (exit code: 26)";

/// crun, which can do without control groups, which a user has none of here.
const CONTAINERS_CONF: &str = r#"# The node's own configuration.
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"#;

struct Rootless<'a> {
    machine: &'a Machine,
}

impl Rootless<'_> {
    /// A command of the user's.
    fn run(&self, home: &str, line: &[&str]) -> Done {
        let (home, run) = (format!("HOME={home}"), format!("XDG_RUNTIME_DIR=/run/user/{UID}"));
        let user = [
            "setpriv",
            &format!("--reuid={UID}"),
            &format!("--regid={UID}"),
            "--clear-groups",
            "env",
            &format!("--chdir={HOME}"),
            &home,
            &run,
            "TMPDIR=/tmp",
        ]
        .map(str::to_owned);
        let line: Vec<&str> = user.iter().map(String::as_str).chain(line.iter().copied()).collect();
        self.machine.run(&line)
    }

    /// What podman makes of each case, without the gate.
    fn keep_facts(&self) {
        let Some(dir) = facts_dir("podman") else { return };
        for (users, case) in USERS.iter().flat_map(|users| cases().into_iter().map(move |case| (users, case)))
        {
            let options: Vec<String> =
                case.options.iter().map(|option| option.replace("HOME", HOME)).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let container = ["--name=facts", "--entrypoint=/bin/busybox", image::APP, "sleep", "60"];
            let line =
                [&["podman", "run", "--rm", "--detach"], &COMPLIANT[..], users.1, &options, &container];
            self.run(HOME, &line.concat());
            let inspect = ["podman", "inspect", "--format={{.OCIConfigPath}}", "facts"];
            let path = self.run(HOME, &inspect).stdout.trim().to_owned();
            let config = serde_json::from_str(&self.machine.read(&path)).unwrap_or_default();
            let inside = |line: &[&str]| self.run(HOME, &[&["podman", "unshare"], line].concat());
            let text = facts(inside, &path, &config) + &inside(&["cat", "/proc/self/mountinfo"]).stdout;
            let name = format!("{}/{}.txt", users.0, case.name.replace(' ', "-"));
            files::write(&dir.join(name), &text);
            self.run(HOME, &["podman", "rm", "--force", "--time=0", "facts"]);
        }
    }

    fn start(&self, home: &str, users: &[&str], case: &Case) -> (&'static str, Done) {
        let options: Vec<String> = case.options.iter().map(|option| option.replace("HOME", home)).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let container = ["--entrypoint=/bin/busybox", image::APP, "echo", "started"];
        let done = self
            .run(home, &[&["podman", "run", "--rm"], &COMPLIANT[..], users, &options, &container].concat());
        let word = if done.stdout == "started\n" {
            "started"
        } else if done.stderr.contains("violates PodSecurity") || done.stderr.contains(REFUSED_BY_THE_HOOK) {
            "refused"
        } else {
            "FAILED"
        };
        (word, done)
    }
}
