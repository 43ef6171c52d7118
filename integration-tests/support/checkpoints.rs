//! Checkpoints of a real container, whose images can be edited as their author could.
//!
//! A dump of a container of root is what every machine can make (CRIU reads the limits of another user's tasks with
//! `CAP_SYS_RESOURCE`); the healthy image is edited from it like the others.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::pod::{MASKED, READ_ONLY};
use crate::support::run::{self, Done};
use crate::support::runtime::{self, Runtime};
use crate::support::{files, image, needs, program, random};

/// A place with one bundle, and the images of its container: user 1000, nothing added, as config.json says.
pub(crate) struct Place {
    dir: TempDir,
    runtime: Runtime,
    criu: PathBuf,
    pub(crate) id: String,
}

/// A restore, and what came of it.
pub(crate) struct Attempt {
    pub(crate) done: Done,
    /// `/proc/PID/status` of the restored process.
    pub(crate) process: Option<String>,
    /// Its network namespace is the host's.
    pub(crate) host_network: bool,
    pub(crate) mountinfo: String,
    pub(crate) cgroups: String,
    /// What is in a file of the host's.
    pub(crate) victim: String,
    /// A directory of the host's is user 1000's.
    pub(crate) given_away: bool,
}

/// What stands before the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Absent,
    Wrapper,
    Hook,
}

impl Place {
    /// Dumps a container.
    pub(crate) fn new(runtime: Runtime, criu: PathBuf) -> Self {
        let dir = tempfile::Builder::new().prefix("pss-guard-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("a mode");
        let place = Self { dir, runtime, criu, id: random::id() };
        image::unpack(&place.bundle().join("rootfs"));
        fs::create_dir(place.bundle().join("rootfs/data")).expect("a directory of the image");
        place.dump();
        place.edit_thread(|thread| {
            let creds = thread.message(10);
            // uid, gid, euid, egid, suid, sgid, fsuid, fsgid
            (1..=8).for_each(|id| creds.set(id, 1000));
        });
        place.write_config(Gate::Absent, &|_| {});
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.path("images")
    }

    pub(crate) fn write_policy(&self, policy: &str) {
        files::write(&self.path("root/etc/pss-guard/policy.toml"), policy);
    }

    pub(crate) fn events(&self) -> String {
        run::read(&self.path("root/var/log/pss-guard/decisions.jsonl"))
    }

    pub(crate) fn write_config(&self, gate: Gate, change: &dyn Fn(&mut Value)) {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 1000, "gid": 1000}, "args": ["/bin/busybox", "sleep", "3600"], "cwd": "/",
                "noNewPrivileges": true, "capabilities": {}},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "nodev", "ro"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "mount"}],
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]},
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
                "cgroupsPath": format!("/pss-guard-{}", self.id),
            },
        });
        if gate == Gate::Hook {
            spec["hooks"] = json!({"createRuntime": [program::hook("none", &self.path("root"))]});
        }
        change(&mut spec);
        files::write(&self.bundle().join("config.json"), &spec.to_string());
    }

    pub(crate) fn calling(&self, program: &Path) -> Command {
        let mut command = self.runtime.prefix();
        command.arg(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let with_criu = std::env::join_paths(
            std::iter::once(self.criu.parent().expect("a directory").to_owned())
                .chain(std::env::split_paths(&path)),
        );
        command.env("PATH", with_criu.expect("a list of paths")).arg("--root").arg(self.path("state"));
        command
    }

    pub(crate) fn alone(&self) -> Command {
        self.calling(&self.runtime.program())
    }

    /// Starts the container as root, and takes it down into its images.
    pub(crate) fn dump(&self) {
        self.write_config(Gate::Absent, &|spec| spec["process"]["user"] = json!({"uid": 0, "gid": 0}));
        let mut run = self.alone();
        // An open file of the host's could not be restored.
        let streams = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = streams.args(["run", "--detach", "--bundle"]).arg(self.bundle()).arg(&self.id).status();
        assert!(status.expect("a runtime").success(), "the container that is dumped runs");
        // runc makes it, crun 1.21 does not.
        fs::create_dir_all(self.path("work")).expect("a directory for CRIU's logs");
        let mut dump = self.alone();
        dump.args(["checkpoint", "--image-path"]).arg(self.images());
        dump.arg("--work-path").arg(self.path("work")).arg(&self.id);
        let done = run::run(&mut dump);
        assert!(done.code == Some(0), "{done}\n{}", run::read(&self.path("work/dump.log")));
        self.delete();
    }

    pub(crate) fn delete(&self) {
        run::run(self.alone().args(["delete", "--force"]).arg(&self.id));
        runtime::remove_cgroups(&[format!("/pss-guard-{}", self.id)]);
    }

    pub(crate) fn restore(&self, gate: Gate) -> Attempt {
        self.restore_from(gate, &[OsStr::new("--image-path"), self.images().as_os_str()])
    }

    pub(crate) fn restore_from(&self, gate: Gate, arguments: &[&OsStr]) -> Attempt {
        let runtime = self.runtime.program();
        let program = match gate {
            Gate::Wrapper => program::entry(&self.path("root"), "none", "runc", &runtime),
            Gate::Absent | Gate::Hook => runtime,
        };
        let mut restore = self.calling(&program);
        restore.args(["restore", "--detach"]).args(arguments).arg("--work-path").arg(self.path("work"));
        // Where neither runtime looks for images that nobody names.
        restore.current_dir(self.dir.path());
        let done = run::run(restore.arg("--bundle").arg(self.bundle()).arg(&self.id));
        let state = run::run(self.alone().arg("state").arg(&self.id)).stdout;
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        let running = state["status"] == "running";
        let of = |file: &str| PathBuf::from(format!("/proc/{}/{file}", state["pid"]));
        let network = |path: &Path| fs::read_link(path).ok();
        let attempt = Attempt {
            done,
            process: running.then(|| run::read(&of("status"))),
            host_network: running && network(&of("ns/net")) == network(Path::new("/proc/self/ns/net")),
            mountinfo: if running { run::read(&of("mountinfo")) } else { String::new() },
            given_away: fs::metadata(self.path("given")).is_ok_and(|meta| meta.uid() == 1000),
            victim: fs::read_to_string(self.path("victim")).unwrap_or_default(),
            cgroups: if running { run::read(&of("cgroup")) } else { String::new() },
        };
        self.delete();
        attempt
    }

    /// Edits an image that has one entry.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Message)) {
        self.edit_all(name, |entries| change(&mut entries[0]));
    }

    pub(crate) fn edit_all(&self, name: &str, change: impl FnOnce(&mut Vec<Message>)) {
        let path = self.images().join(name);
        let bytes = fs::read(&path).expect("an image");
        // The inventory alone has one number in front and not two.
        let (head, mut rest) = bytes.split_at(if name == "inventory.img" { 4 } else { 8 });
        let mut entries = Vec::new();
        while let Some((size, after)) = rest.split_first_chunk() {
            let (entry, after) = after.split_at(u32::from_ne_bytes(*size) as usize);
            entries.push(Message::of(entry));
            rest = after;
        }
        change(&mut entries);
        let mut edited = head.to_owned();
        for entry in entries {
            let entry = entry.bytes();
            edited.extend(u32::try_from(entry.len()).expect("a small entry").to_ne_bytes());
            edited.extend(entry);
        }
        fs::write(path, edited).expect("an image");
    }

    /// Writes an image of one entry of numbers.
    pub(crate) fn write_image(&self, name: &str, magic: u32, numbers: &[(u32, u64)]) {
        let entry =
            Message(numbers.iter().map(|(name, value)| (*name, Field::Number(*value))).collect()).bytes();
        let size = u32::try_from(entry.len()).expect("a small entry");
        let mut image = [0x5456_4319, magic, size].map(u32::to_ne_bytes).concat();
        image.extend(entry);
        fs::write(self.images().join(name), image).expect("an image");
    }

    pub(crate) fn edit_mounts(&self, change: impl FnOnce(&mut Vec<Message>)) {
        let names = fs::read_dir(self.images()).expect("the images").flatten().map(|entry| entry.file_name());
        let mut names = names.filter_map(|name| name.into_string().ok());
        let name = names.find(|name| name.starts_with("mountpoints-")).expect("one mount namespace");
        self.edit_all(&name, change);
    }

    /// Edits the `thread_core_entry` of the one thread.
    pub(crate) fn edit_thread(&self, change: impl FnOnce(&mut Message)) {
        self.edit("core-1.img", |core| change(core.message(5)));
    }

    pub(crate) fn edit_creds(&self, change: impl FnOnce(&mut Message)) {
        self.edit_thread(|thread| change(thread.message(10)));
    }

    /// Runs something with images that are put back afterwards.
    pub(crate) fn with<R>(&self, edit: &dyn Fn(&Self), then: impl FnOnce() -> R) -> R {
        let kept = self.path("kept");
        run::run(Command::new("cp").arg("-a").arg(self.images()).arg(&kept)).expect_success();
        edit(self);
        let result = then();
        fs::remove_dir_all(self.images()).expect("the images");
        fs::rename(kept, self.images()).expect("the images that were kept");
        result
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.delete();
    }
}

/// A protobuf message as fields of whatever meaning, so that what is not edited stays as CRIU wrote it.
#[derive(Debug)]
pub(crate) struct Message(pub(crate) Vec<(u32, Field)>);

#[derive(Debug)]
pub(crate) enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    Fixed(u32, Vec<u8>),
    Message(Message),
}

impl Message {
    pub(crate) fn of(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = u32::try_from(number(&mut bytes)).expect("a key");
            let mut take = |count: usize| {
                let (taken, rest) = bytes.split_at(count);
                bytes = rest;
                taken.to_owned()
            };
            let field = match key & 7 {
                1 => Field::Fixed(1, take(8)),
                5 => Field::Fixed(5, take(4)),
                2 => {
                    let mut rest = bytes;
                    let size = usize::try_from(number(&mut rest)).expect("a size");
                    bytes = &rest[size..];
                    Field::Bytes(rest[..size].to_owned())
                }
                _ => Field::Number(number(&mut bytes)),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (name, field) in &self.0 {
            let key = |wire: u32| u64::from(name << 3 | wire);
            match field {
                Field::Number(value) => {
                    push(&mut all, key(0));
                    push(&mut all, *value);
                }
                Field::Fixed(wire, bytes) => {
                    push(&mut all, key(*wire));
                    all.extend(bytes);
                }
                Field::Bytes(bytes) => {
                    push(&mut all, key(2));
                    push(&mut all, bytes.len() as u64);
                    all.extend(bytes);
                }
                Field::Message(message) => {
                    let bytes = message.bytes();
                    push(&mut all, key(2));
                    push(&mut all, bytes.len() as u64);
                    all.extend(bytes);
                }
            }
        }
        all
    }

    pub(crate) fn remove(&mut self, name: u32) {
        self.0.retain(|(other, _)| *other != name);
    }

    pub(crate) fn set(&mut self, name: u32, value: u64) {
        self.set_all(name, &[value]);
    }

    pub(crate) fn set_all(&mut self, name: u32, values: &[u64]) {
        self.remove(name);
        self.0.extend(values.iter().map(|value| (name, Field::Number(*value))));
    }

    pub(crate) fn set_text(&mut self, name: u32, text: &str) {
        self.remove(name);
        self.0.push((name, Field::Bytes(text.into())));
    }

    pub(crate) fn get(&self, name: u32) -> u64 {
        let field = self.0.iter().find(|(other, _)| *other == name);
        match field {
            Some((_, Field::Number(value))) => *value,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn is(&self, name: u32, text: &str) -> bool {
        self.0.iter().any(|(other, field)| {
            *other == name && matches!(field, Field::Bytes(bytes) if bytes == text.as_bytes())
        })
    }

    /// Edits every message of a name.
    pub(crate) fn each(&mut self, name: u32, edit: &dyn Fn(&mut Message)) {
        for (_, field) in self.0.iter_mut().filter(|(other, _)| *other == name) {
            if let Field::Bytes(bytes) = field {
                *field = Field::Message(Message::of(bytes));
            }
            if let Field::Message(message) = field {
                edit(message);
            }
        }
    }

    pub(crate) fn message(&mut self, name: u32) -> &mut Message {
        let (_, field) = self.0.iter_mut().find(|(other, _)| *other == name).expect("a field");
        if let Field::Bytes(bytes) = field {
            *field = Field::Message(Message::of(bytes));
        }
        match field {
            Field::Message(message) => message,
            other => panic!("{name} is {other:?}"),
        }
    }
}

pub(crate) fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a number to its end");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

pub(crate) fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
}

/// A CRIU that works on this kernel.
pub(crate) fn criu() -> Option<PathBuf> {
    static CRIU: OnceLock<Option<PathBuf>> = OnceLock::new();
    let works = |criu: &PathBuf| criu.is_file() && run::run(Command::new(criu).arg("check")).code == Some(0);
    let find = || [needs::part("criu-4/criu")].into_iter().chain(needs::program("criu")).find(works);
    CRIU.get_or_init(find).clone()
}

/// Whether a line of `/proc/PID/status` is this one, with single spaces.
pub(crate) fn status(attempt: &Attempt, line: &str) -> bool {
    attempt.process.as_ref().is_some_and(|status| {
        status.lines().any(|own| own.split_whitespace().collect::<Vec<_>>().join(" ") == line)
    })
}
