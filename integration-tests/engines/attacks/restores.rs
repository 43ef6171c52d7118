//! Checkpoints whose image restores something else than their config.json says: a real container is dumped by a real
//! CRIU, its images are edited as their author could, and a real runc restores them.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::checkpoints::{Attempt, Field, Gate, Message, Place, criu, status};
use crate::support::runtime::Runtime;
use crate::support::{needs, program};

const ENFORCE: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n";
const AUDIT: &str = "mode = \"audit\"\n[unmanaged]\nenforce = \"restricted\"\n";
const PRIVILEGED: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"privileged\"\n";

/// The number that CRIU has for namespaces of its own, in `ids-1.img` and `inventory.img`.
const NETWORK: u32 = 6;

/// A place with a checkpoint of runc's; nothing where there is no CRIU that can make one.
fn place(test: &str) -> Option<Place> {
    if !needs::can_run(test, &["runc", "busybox"]) {
        return None;
    }
    let Some(criu) = criu() else {
        needs::skip(test, "a criu that passes `criu check` (scripts/node-parts brings one)");
        return None;
    };
    Some(Place::new(Runtime::Runc, criu))
}

/// An edit of the images, what the gate says of it, and how the restored process shows that the attack works.
struct Attack {
    name: &'static str,
    edit: &'static dyn Fn(&Place),
    says: &'static str,
    works: &'static dyn Fn(&Attempt) -> bool,
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
        works: &is_outside,
    },
    Attack {
        name: "outside it, by names that CRIU takes for those of its controllers, or for their folders",
        edit: &|place| {
            place.edit("cgroup.img", |cgroups| {
                cgroups.each(1, &|set| {
                    set.each(2, &|member| {
                        for (own, other) in [("devices", "xdevices"), ("", "unified")] {
                            if member.is(1, own) {
                                member.set_text(1, other);
                                member.set_text(2, "/");
                                member.remove(3);
                            }
                        }
                    });
                });
                let mut controller = Message(Vec::new());
                controller.set_text(1, "unified");
                cgroups.0.push((2, Field::Message(controller)));
            });
        },
        says: "cgroup.img",
        works: &is_outside,
    },
];

/// Whether nobody limits the devices of what was restored.
fn is_outside(attempt: &Attempt) -> bool {
    let limits_devices = |line: &&str| line.contains(":devices:") || line.starts_with("0::");
    let mut lines = attempt.cgroups.lines().filter(limits_devices).peekable();
    lines.peek().is_some() && lines.all(|line| line.ends_with(":/"))
}

/// Takes `MS_RDONLY` from a mount's own flags, and gives it to those of its superblock.
fn read_only_elsewhere(mounts: &mut [Message], place: &str) {
    let mount = mounts.iter_mut().find(|mount| mount.is(7, place)).expect("the mount");
    mount.set(5, mount.get(5) & !1);
    mount.set(17, 1);
}

#[test]
fn a_restore_is_held_to_what_its_image_restores() {
    let Some(place) = place("a_restore_is_held_to_what_its_image_restores") else { return };
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
    ("an image of another user", &|place| chown(core(place), Some(1000), None).unwrap(), "owned by root"),
    ("a directory that a group may write", &|place| mode(&place.images(), 0o770), "writable by root alone"),
    ("an image that others may write", &|place| mode(&core(place), 0o646), "writable by root alone"),
    (
        "memory that others may write",
        &|place| mode(&place.images().join("pages-1.img"), 0o666),
        "writable by root alone",
    ),
    (
        "a link",
        &|place| {
            fs::rename(core(place), place.path("core")).unwrap();
            symlink(place.path("core"), core(place)).unwrap();
        },
        "core-1.img is a symbolic link",
    ),
    (
        "half an image",
        &|place| {
            let bytes = fs::read(core(place)).unwrap();
            fs::write(core(place), &bytes[..bytes.len() / 2]).unwrap();
        },
        "core-1.img ends in the middle of an entry",
    ),
    (
        "another image",
        &|place| drop(fs::copy(place.images().join("pstree.img"), core(place))),
        "is no such image",
    ),
    ("no image", &|place| fs::remove_file(core(place)).unwrap(), "has no core-1.img"),
    ("nothing", &|place| fs::remove_dir_all(place.images()).unwrap(), "open "),
];

#[test]
fn what_cannot_be_relied_on_is_not_restored_above_privileged() {
    let Some(place) = place("what_cannot_be_relied_on_is_not_restored_above_privileged") else { return };
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
                fs::remove_file(core(place)).unwrap();
                nix::unistd::mkfifo(&core(place), nix::sys::stat::Mode::S_IRWXU).unwrap();
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
    let Some(place) = place("the_images_are_looked_for_where_the_runtime_looks") else { return };
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

fn core(place: &Place) -> PathBuf {
    place.images().join("core-1.img")
}

/// What the runtime said, without the time of day and what differs from run to run.
fn told(attempt: &Attempt) -> Vec<String> {
    let lines = attempt.done.stderr.lines().filter(|line| !line.contains("cgroup"));
    lines.map(|line| line.split_once(" level=").map_or(line, |(_, rest)| rest).to_owned()).collect()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}
