//! Checkpoints whose image restores something else than their config.json says: a real container is dumped by a real
//! CRIU, its images are edited as their author could, and a real runc restores them.
//!
//! A dump of a container of root is what every machine can make (CRIU reads the limits of another user's tasks with
//! `CAP_SYS_RESOURCE`); the healthy image is edited from it like the others.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::run::{self, Done};
use crate::support::runtime::{self, Runtime};
use crate::support::{files, image, needs, program, random};

/// A place with one bundle, and the images of its container: user 1000, nothing added, as config.json says.
struct Place {
    dir: TempDir,
    criu: PathBuf,
    id: String,
}

/// A restore, and what came of it.
struct Attempt {
    done: Done,
    /// `/proc/PID/status` of the restored process.
    process: Option<String>,
    /// Its network namespace is the host's.
    host_network: bool,
    mountinfo: String,
    cgroups: String,
    /// What is in a file of the host's.
    victim: String,
    /// A directory of the host's is user 1000's.
    given_away: bool,
}

/// What stands before runc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Absent,
    Wrapper,
    Hook,
}

const ENFORCE: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n";
const AUDIT: &str = "mode = \"audit\"\n[unmanaged]\nenforce = \"restricted\"\n";
const PRIVILEGED: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"privileged\"\n";

/// The number that CRIU has for namespaces of its own, in `ids-1.img` and `inventory.img`.
const NETWORK: u32 = 6;

impl Place {
    /// Dumps a container; nothing where there is no CRIU that can.
    fn new(test: &str) -> Option<Self> {
        if !needs::can_run(test, &["runc", "busybox"]) {
            return None;
        }
        let Some(criu) = criu() else {
            needs::skip(test, "a criu that passes `criu check` (scripts/node-parts brings one)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("pss-guard-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("a mode");
        let place = Self { dir, criu, id: random::id() };
        image::unpack(&place.bundle().join("rootfs"));
        fs::create_dir(place.bundle().join("rootfs/data")).expect("a directory of the image");
        place.dump();
        place.edit_thread(|thread| {
            let creds = thread.message(10);
            // uid, gid, euid, egid, suid, sgid, fsuid, fsgid
            (1..=8).for_each(|id| creds.set(id, 1000));
        });
        place.write_config(Gate::Absent, &|_| {});
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    fn images(&self) -> PathBuf {
        self.path("images")
    }

    fn write_policy(&self, policy: &str) {
        files::write(&self.path("root/etc/pss-guard/policy.toml"), policy);
    }

    fn events(&self) -> String {
        run::read(&self.path("root/var/log/pss-guard/decisions.jsonl"))
    }

    fn write_config(&self, gate: Gate, change: &dyn Fn(&mut Value)) {
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
                "maskedPaths": ["/proc/kcore", "/proc/acpi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/sys"],
                "cgroupsPath": format!("/pss-guard-{}", self.id),
            },
        });
        if gate == Gate::Hook {
            spec["hooks"] = json!({"createRuntime": [program::hook("none", &self.path("root"))]});
        }
        change(&mut spec);
        files::write(&self.bundle().join("config.json"), &spec.to_string());
    }

    fn runtime(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let with_criu = std::env::join_paths(
            std::iter::once(self.criu.parent().expect("a directory").to_owned())
                .chain(std::env::split_paths(&path)),
        );
        command.env("PATH", with_criu.expect("a list of paths")).arg("--root").arg(self.path("state"));
        command
    }

    fn runc(&self) -> Command {
        self.runtime(&Runtime::Runc.program())
    }

    /// Starts the container as root, and takes it down into its images.
    fn dump(&self) {
        self.write_config(Gate::Absent, &|spec| spec["process"]["user"] = json!({"uid": 0, "gid": 0}));
        let mut run = self.runc();
        // An open file of the host's could not be restored.
        let streams = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = streams.args(["run", "--detach", "--bundle"]).arg(self.bundle()).arg(&self.id).status();
        assert!(status.expect("runc").success(), "runc runs the container that is dumped");
        let mut dump = self.runc();
        dump.args(["checkpoint", "--image-path"]).arg(self.images());
        dump.arg("--work-path").arg(self.path("work")).arg(&self.id);
        let done = run::run(&mut dump);
        assert!(done.code == Some(0), "{done}\n{}", run::read(&self.path("work/dump.log")));
        self.delete();
    }

    fn delete(&self) {
        run::run(self.runc().args(["delete", "--force"]).arg(&self.id));
        runtime::remove_cgroups(&[format!("/pss-guard-{}", self.id)]);
    }

    fn restore(&self, gate: Gate) -> Attempt {
        self.restore_from(gate, &[OsStr::new("--image-path"), self.images().as_os_str()])
    }

    fn restore_from(&self, gate: Gate, arguments: &[&OsStr]) -> Attempt {
        let runc = Runtime::Runc.program();
        let program = match gate {
            Gate::Wrapper => program::entry(&self.path("root"), "none", "runc", &runc),
            Gate::Absent | Gate::Hook => runc,
        };
        let mut restore = self.runtime(&program);
        restore.args(["restore", "--detach"]).args(arguments).arg("--work-path").arg(self.path("work"));
        // Where neither runtime looks for images that nobody names.
        restore.current_dir(self.dir.path());
        let done = run::run(restore.arg("--bundle").arg(self.bundle()).arg(&self.id));
        let state = run::run(self.runc().arg("state").arg(&self.id)).stdout;
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
    fn edit(&self, name: &str, change: impl FnOnce(&mut Message)) {
        self.edit_all(name, |entries| change(&mut entries[0]));
    }

    fn edit_all(&self, name: &str, change: impl FnOnce(&mut Vec<Message>)) {
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
    fn write_image(&self, name: &str, magic: u32, numbers: &[(u32, u64)]) {
        let entry =
            Message(numbers.iter().map(|(name, value)| (*name, Field::Number(*value))).collect()).bytes();
        let size = u32::try_from(entry.len()).expect("a small entry");
        let mut image = [0x5456_4319, magic, size].map(u32::to_ne_bytes).concat();
        image.extend(entry);
        fs::write(self.images().join(name), image).expect("an image");
    }

    fn edit_mounts(&self, change: impl FnOnce(&mut Vec<Message>)) {
        let names = fs::read_dir(self.images()).expect("the images").flatten().map(|entry| entry.file_name());
        let mut names = names.filter_map(|name| name.into_string().ok());
        let name = names.find(|name| name.starts_with("mountpoints-")).expect("one mount namespace");
        self.edit_all(&name, change);
    }

    /// Edits the `thread_core_entry` of the one thread.
    fn edit_thread(&self, change: impl FnOnce(&mut Message)) {
        self.edit("core-1.img", |core| change(core.message(5)));
    }

    fn edit_creds(&self, change: impl FnOnce(&mut Message)) {
        self.edit_thread(|thread| change(thread.message(10)));
    }

    /// Runs something with images that are put back afterwards.
    fn with<R>(&self, edit: &dyn Fn(&Self), then: impl FnOnce() -> R) -> R {
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
struct Message(Vec<(u32, Field)>);

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    Fixed(u32, Vec<u8>),
    Message(Message),
}

impl Message {
    fn of(mut bytes: &[u8]) -> Self {
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

    fn bytes(&self) -> Vec<u8> {
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

    fn remove(&mut self, name: u32) {
        self.0.retain(|(other, _)| *other != name);
    }

    fn set(&mut self, name: u32, value: u64) {
        self.set_all(name, &[value]);
    }

    fn set_all(&mut self, name: u32, values: &[u64]) {
        self.remove(name);
        self.0.extend(values.iter().map(|value| (name, Field::Number(*value))));
    }

    fn set_text(&mut self, name: u32, text: &str) {
        self.remove(name);
        self.0.push((name, Field::Bytes(text.into())));
    }

    fn get(&self, name: u32) -> u64 {
        let field = self.0.iter().find(|(other, _)| *other == name);
        match field {
            Some((_, Field::Number(value))) => *value,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn is(&self, name: u32, text: &str) -> bool {
        self.0.iter().any(|(other, field)| {
            *other == name && matches!(field, Field::Bytes(bytes) if bytes == text.as_bytes())
        })
    }

    /// Edits every message of a name.
    fn each(&mut self, name: u32, edit: &dyn Fn(&mut Message)) {
        for (_, field) in self.0.iter_mut().filter(|(other, _)| *other == name) {
            if let Field::Bytes(bytes) = field {
                *field = Field::Message(Message::of(bytes));
            }
            if let Field::Message(message) = field {
                edit(message);
            }
        }
    }

    fn message(&mut self, name: u32) -> &mut Message {
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

fn number(bytes: &mut &[u8]) -> u64 {
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

fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
}

/// A CRIU that works on this kernel.
fn criu() -> Option<PathBuf> {
    static CRIU: OnceLock<Option<PathBuf>> = OnceLock::new();
    let works = |criu: &PathBuf| criu.is_file() && run::run(Command::new(criu).arg("check")).code == Some(0);
    let find = || [needs::part("criu-4/criu")].into_iter().chain(needs::program("criu")).find(works);
    CRIU.get_or_init(find).clone()
}

/// An edit of the images, what the gate says of it, and how the restored process shows that the attack works.
struct Attack {
    name: &'static str,
    edit: &'static dyn Fn(&Place),
    says: &'static str,
    works: &'static dyn Fn(&Attempt) -> bool,
}

fn status(attempt: &Attempt, line: &str) -> bool {
    attempt.process.as_ref().is_some_and(|status| {
        status.lines().any(|own| own.split_whitespace().collect::<Vec<_>>().join(" ") == line)
    })
}

const SYS_ADMIN: u64 = 1 << 21;

const ATTACKS: &[Attack] = &[
    Attack {
        name: "root",
        edit: &|place| place.edit_creds(|creds| (1..=8).for_each(|id| creds.set(id, 0))),
        says: "runAsNonRoot != true",
        works: &|attempt| status(attempt, "Uid: 0 0 0 0"),
    },
    Attack {
        name: "root as the saved user alone",
        edit: &|place| place.edit_creds(|creds| creds.set(5, 0)),
        says: "runAsNonRoot != true",
        works: &|attempt| status(attempt, "Uid: 1000 1000 0 1000"),
    },
    Attack {
        name: "SYS_ADMIN in every set but the ambient one",
        edit: &|place| place.edit_creds(|creds| (9..=12).for_each(|set| creds.set_all(set, &[SYS_ADMIN, 0]))),
        says: "SYS_ADMIN",
        works: &|attempt| status(attempt, "CapEff: 0000000000200000"),
    },
    Attack {
        name: "SYS_ADMIN in the bounding set alone",
        edit: &|place| place.edit_creds(|creds| creds.set_all(12, &[SYS_ADMIN, 0])),
        says: "SYS_ADMIN",
        works: &|attempt| status(attempt, "CapBnd: 0000000000200000"),
    },
    Attack {
        name: "without no_new_privs",
        edit: &|place| place.edit_creds(|creds| creds.remove(18)),
        says: "allowPrivilegeEscalation != false",
        works: &|attempt| status(attempt, "NoNewPrivs: 0"),
    },
    Attack {
        name: "without seccomp",
        edit: &|place| {
            place.edit_thread(|thread| {
                thread.remove(11);
                thread.remove(12);
            });
        },
        says: "seccompProfile",
        works: &|attempt| status(attempt, "Seccomp: 0"),
    },
    Attack {
        name: "all of it",
        edit: &|place| {
            place.edit_thread(|thread| {
                thread.remove(11);
                let creds = thread.message(10);
                (1..=8).for_each(|id| creds.set(id, 0));
                (9..=12).for_each(|set| creds.set_all(set, &[SYS_ADMIN, 0]));
                creds.remove(18);
            });
        },
        says: "SYS_ADMIN",
        works: &|attempt| status(attempt, "Uid: 0 0 0 0") && status(attempt, "CapEff: 0000000000200000"),
    },
    Attack {
        name: "in the host's network",
        edit: &|place| {
            let mut own = 0;
            place.edit("inventory.img", |inventory| own = inventory.message(3).get(NETWORK));
            place.edit("ids-1.img", |ids| ids.set(NETWORK, own));
        },
        says: "hostNetwork=true",
        works: &|attempt| attempt.host_network,
    },
    Attack {
        name: "a file system of the host's",
        edit: &|place| {
            place.edit_mounts(|mounts| {
                let root = mounts.iter().find(|mount| mount.is(7, "/")).expect("the root").get(2);
                let mut mount = Message(Vec::new());
                // TRACEFS
                mount.set(1, 19);
                mount.set(2, 4242);
                mount.set(3, 99);
                mount.set(4, root);
                mount.set(5, 0);
                mount.set_text(6, "/");
                mount.set_text(7, "/data");
                mount.set_text(8, "tracefs");
                mount.set_text(9, "");
                mounts.push(mount);
            });
        },
        says: "/data",
        works: &|attempt| attempt.mountinfo.contains(" /data "),
    },
    Attack {
        name: "/proc/sys not read-only",
        edit: &|place| {
            place.edit_mounts(|mounts| mounts.retain(|mount| !mount.is(7, "/proc/sys")));
        },
        says: "procMount",
        works: &|attempt| !attempt.mountinfo.contains(" /proc/sys ro"),
    },
    Attack {
        name: "a root that is not read-only",
        edit: &|place| {
            place.edit_mounts(|mounts| {
                let root = mounts.iter_mut().find(|mount| mount.is(7, "/")).expect("the root");
                root.set(5, 0);
            });
        },
        says: "readOnlyRootFilesystem",
        works: &|attempt| attempt.mountinfo.contains(" / rw"),
    },
    Attack {
        name: "/proc/sys read-only as a file system, not as a mount",
        edit: &|place| place.edit_mounts(|mounts| read_only_elsewhere(mounts, "/proc/sys")),
        says: "/proc/sys",
        works: &|attempt| !attempt.mountinfo.contains(" /proc/sys ro"),
    },
    Attack {
        name: "a root that is read-only as a file system, not as a mount",
        edit: &|place| place.edit_mounts(|mounts| read_only_elsewhere(mounts, "/")),
        says: "readOnlyRootFilesystem",
        works: &|attempt| attempt.mountinfo.contains(" / rw"),
    },
    Attack {
        name: "the root bound once more, as what looks like a tmpfs",
        edit: &|place| {
            place.edit_mounts(|mounts| {
                let root = mounts.iter_mut().find(|mount| mount.is(7, "/")).expect("the root");
                // TMPFS
                root.set(1, 5);
                root.set_text(6, "/");
                root.set_text(8, "x");
                root.set_text(9, "");
                let (id, device) = (root.get(2), root.get(3));
                let mut mount = Message(Vec::new());
                for (name, value) in [(1, 5), (2, 4242), (3, device), (4, id), (5, 0), (17, 0)] {
                    mount.set(name, value);
                }
                for (name, text) in [(6, "/"), (7, "/data"), (8, "x"), (9, "")] {
                    mount.set_text(name, text);
                }
                mounts.push(mount);
            });
        },
        says: "/data",
        works: &|attempt| {
            attempt.mountinfo.lines().any(|line| line.contains(" /data rw") && !line.contains(" - tmpfs x"))
        },
    },
    Attack {
        name: "a value for a file of the host's, in place of one of a cgroup's",
        edit: &|place| {
            let victim = place.path("victim");
            fs::write(&victim, "untouched").expect("a file");
            // The way up from where CRIU collects cgroups is long enough from anywhere.
            let path = format!("{}{}", "../".repeat(40), victim.strip_prefix("/").unwrap().display());
            place.edit("cgroup.img", |cgroups| {
                let own = format!("pss-guard-{}", place.id);
                cgroups.each(2, &|controller| {
                    controller.each(2, &|directory| {
                        if directory.is(1, &own) {
                            let mut value = Message(Vec::new());
                            value.set_text(1, &path);
                            value.set_text(2, "changed");
                            let mut child = Message(Vec::new());
                            child.set_text(1, "x");
                            child.0.push((3, Field::Message(value)));
                            directory.0.push((2, Field::Message(child)));
                        }
                    });
                });
            });
        },
        says: "cgroup.img",
        works: &|attempt| attempt.victim.starts_with("changed"),
    },
    Attack {
        name: "a directory of the host's given away, as one that was deleted",
        edit: &|place| {
            let given = place.path("given");
            fs::create_dir(&given).expect("a directory");
            // CRIU removes an empty one afterwards.
            fs::write(given.join("file"), "").expect("a file");
            place.edit_all("files.img", |files| {
                let first = files.iter_mut().find(|file| file.0.iter().any(|(name, _)| *name == 3));
                let mut file = Message::of(&first.expect("a regular file").message(3).bytes());
                file.set(1, 99);
                file.set_text(
                    6,
                    &format!("/{}{}", "../".repeat(40), given.strip_prefix("/").unwrap().display()),
                );
                file.remove(8);
                files.push(Message(vec![
                    (1, Field::Number(1)),
                    (2, Field::Number(99)),
                    (3, Field::Message(file)),
                ]));
            });
            place.write_image("remap-fpath.img", 0x5913_3954, &[(1, 99), (2, 7), (3, 1)]);
            let directory = [(1, 1000), (2, 1000), (3, 0o40777), (4, 1), (5, 7)];
            place.write_image("ghost-file-7.img", 0x5258_3605, &directory);
        },
        says: "has an open file at",
        works: &|attempt| attempt.given_away,
    },
    Attack {
        name: "outside the cgroup that limits devices",
        edit: &|place| {
            place.edit("cgroup.img", |cgroups| {
                cgroups.each(1, &|set| set.each(2, &|member| member.set_text(2, "/")));
            });
        },
        says: "cgroup.img",
        works: &|attempt| {
            let limits_devices = |line: &str| line.contains(":devices:") || line.starts_with("0::");
            let mut lines = attempt.cgroups.lines().filter(|line| limits_devices(line)).peekable();
            lines.peek().is_some() && lines.all(|line| line.ends_with(":/"))
        },
    },
];

/// Takes `MS_RDONLY` from a mount's own flags, and gives it to those of its superblock.
fn read_only_elsewhere(mounts: &mut [Message], place: &str) {
    let mount = mounts.iter_mut().find(|mount| mount.is(7, place)).expect("the mount");
    mount.set(5, mount.get(5) & !1);
    mount.set(17, 1);
}

#[test]
fn a_restore_is_held_to_what_its_image_restores() {
    let Some(place) = Place::new("a_restore_is_held_to_what_its_image_restores") else { return };
    place.write_policy(ENFORCE);
    for gate in [Gate::Absent, Gate::Wrapper, Gate::Hook] {
        place.write_config(gate, &|_| {});
        let healthy = place.restore(gate);
        assert!(status(&healthy, "Uid: 1000 1000 1000 1000"), "{gate:?}: {}", healthy.done);
        assert!(status(&healthy, "NoNewPrivs: 1") && status(&healthy, "Seccomp: 2"), "{:?}", healthy.process);
    }
    for attack in ATTACKS {
        place.with(attack.edit, || {
            place.write_config(Gate::Absent, &|_| {});
            let alone = place.restore(Gate::Absent);
            assert!(
                (attack.works)(&alone),
                "{}: {}\n{:?}\n{}",
                attack.name,
                alone.done,
                alone.process,
                alone.mountinfo
            );
            for gate in [Gate::Wrapper, Gate::Hook] {
                place.write_config(gate, &|_| {});
                let refused = place.restore(gate);
                assert!(refused.process.is_none(), "{}, {gate:?}: {}", attack.name, refused.done);
                assert_ne!(refused.done.code, Some(0), "{}, {gate:?}: {}", attack.name, refused.done);
                assert!(
                    refused.done.stderr.contains(attack.says),
                    "{}, {gate:?}: {}",
                    attack.name,
                    refused.done
                );
            }
        });
    }
}

/// What the gate cannot rely on: a name, what is done to the images, and what is said.
type Doubt = (&'static str, &'static dyn Fn(&Place), &'static str);

const DOUBTS: &[Doubt] = &[
    (
        "a directory of another user",
        &|place| chown(place.images(), Some(1000), None).unwrap(),
        "owned by root",
    ),
    ("an image of another user", &|place| chown(place.core(), Some(1000), None).unwrap(), "owned by root"),
    ("a directory that a group may write", &|place| mode(&place.images(), 0o770), "writable by root alone"),
    ("an image that others may write", &|place| mode(&place.core(), 0o646), "writable by root alone"),
    (
        "memory that others may write",
        &|place| mode(&place.images().join("pages-1.img"), 0o666),
        "writable by root alone",
    ),
    (
        "a link",
        &|place| {
            fs::rename(place.core(), place.path("core")).unwrap();
            symlink(place.path("core"), place.core()).unwrap();
        },
        "core-1.img is a symbolic link",
    ),
    (
        "half an image",
        &|place| {
            let bytes = fs::read(place.core()).unwrap();
            fs::write(place.core(), &bytes[..bytes.len() / 2]).unwrap();
        },
        "core-1.img ends in the middle of an entry",
    ),
    (
        "another image",
        &|place| drop(fs::copy(place.images().join("pstree.img"), place.core())),
        "is no such image",
    ),
    ("no image", &|place| fs::remove_file(place.core()).unwrap(), "has no core-1.img"),
    ("nothing", &|place| fs::remove_dir_all(place.images()).unwrap(), "open "),
];

#[test]
fn what_cannot_be_relied_on_is_not_restored_above_privileged() {
    let Some(place) = Place::new("what_cannot_be_relied_on_is_not_restored_above_privileged") else { return };
    for (name, edit, says) in DOUBTS {
        place.with(edit, || {
            place.write_policy(ENFORCE);
            let refused = place.restore(Gate::Wrapper);
            assert_eq!(refused.done.code, Some(2), "{name}: {}", refused.done);
            assert!(refused.done.stderr.contains(says), "{name}: {}", refused.done);
            // No level, or nobody who stops anything: then it is the runtime's alone, to the last byte.
            let alone = place.restore(Gate::Absent);
            for policy in [PRIVILEGED, AUDIT] {
                place.write_policy(policy);
                let passed = place.restore(Gate::Wrapper);
                assert_eq!(passed.done.code, alone.done.code, "{name}: {}", passed.done);
                assert_eq!(told(&passed), told(&alone), "{name}");
                assert_eq!(passed.process.is_some(), alone.process.is_some(), "{name}");
            }
        });
        assert!(place.events().contains(says), "{name}: {}", place.events());
    }
    // CRIU itself would wait for somebody who writes into it, and runc loses the socket on which it speaks with CRIU.
    let deadly: [Doubt; 2] = [
        (
            "a FIFO",
            &|place| {
                fs::remove_file(place.core()).unwrap();
                nix::unistd::mkfifo(&place.core(), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            "is a FIFO",
        ),
        (
            "one descriptor more",
            &|place| {
                let four = r#"["a","b","c","pipe:[1]"]"#;
                fs::write(place.images().join("descriptors.json"), four).unwrap();
            },
            "descriptors.json must be an array of at most three strings",
        ),
    ];
    place.write_policy(ENFORCE);
    for (name, edit, says) in deadly {
        place.with(edit, || {
            let refused = place.restore(Gate::Wrapper);
            assert!(refused.done.stderr.contains(says), "{name}: {}", refused.done);
        });
    }
    place.write_config(Gate::Absent, &|spec| spec["annotations"] = json!({"org.criu.config": "/tmp/x"}));
    let refused = place.restore(Gate::Wrapper);
    assert!(refused.done.stderr.contains("org.criu.config"), "{}", refused.done);
}

#[test]
fn the_images_are_looked_for_where_the_runtime_looks() {
    let Some(place) = Place::new("the_images_are_looked_for_where_the_runtime_looks") else { return };
    place.write_policy(ENFORCE);
    let from =
        |gate, images: &Path| place.restore_from(gate, &[OsStr::new("--image-path"), images.as_os_str()]);
    let works = |attempt: &Attempt| status(attempt, "Uid: 1000 1000 1000 1000");
    // A link is root's word where only root can exchange it; /tmp is sticky.
    symlink(place.images(), place.path("link")).unwrap();
    // Memory pages of an earlier dump change nobody's credentials.
    fs::create_dir(place.path("earlier")).unwrap();
    symlink("../earlier", place.images().join("parent")).unwrap();
    let attempt = from(Gate::Wrapper, &place.path("link"));
    assert!(works(&attempt), "{}", attempt.done);
    fs::remove_file(place.images().join("parent")).unwrap();
    // runc and crun go to the bundle first.
    let relative = Path::new("../images");
    for gate in [Gate::Absent, Gate::Wrapper] {
        let attempt = from(gate, relative);
        assert!(works(&attempt), "{gate:?}: {}", attempt.done);
    }
    // Below a directory of everybody's it could be exchanged for another, and so could a link.
    let open = place.path("open");
    fs::create_dir(&open).unwrap();
    symlink(place.images(), open.join("link")).unwrap();
    mode(&open, 0o777);
    fs::rename(place.images(), open.join("images")).unwrap();
    for name in ["images", "link"] {
        let attempt = from(Gate::Wrapper, &open.join(name));
        assert!(attempt.done.stderr.contains("writable by root alone"), "{}", attempt.done);
    }
    mode(&open, 0o1777);
    let attempt = from(Gate::Wrapper, &open.join("images"));
    assert!(works(&attempt), "{}", attempt.done);
    fs::rename(open.join("images"), place.images()).unwrap();
    // runc takes ./checkpoint, crun the bundle's.
    let attempt = place.restore_from(Gate::Wrapper, &[]);
    assert!(attempt.done.stderr.contains("give --image-path"), "{}", attempt.done);
    // Whoever puts a script before the hook takes its runtime away from it.
    place.write_config(Gate::Hook, &|spec| {
        let hook = &mut spec["hooks"]["createRuntime"][0];
        let line: Vec<String> = hook["args"]
            .as_array()
            .unwrap()
            .iter()
            .skip(1)
            .map(|word| word.as_str().unwrap().to_owned())
            .collect();
        let script = format!("{} {}; exit $?", program::binary().display(), line.join(" "));
        *hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    });
    let attempt = place.restore(Gate::Hook);
    assert!(attempt.process.is_none(), "{}", attempt.done);
    assert!(attempt.done.stderr.contains("does not say where the images are"), "{}", attempt.done);
}

impl Place {
    fn core(&self) -> PathBuf {
        self.images().join("core-1.img")
    }
}

/// What the runtime said, without the time of day and what differs from run to run.
fn told(attempt: &Attempt) -> Vec<String> {
    let lines = attempt.done.stderr.lines().filter(|line| !line.contains("cgroup"));
    lines.map(|line| line.split_once(" level=").map_or(line, |(_, rest)| rest).to_owned()).collect()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}
