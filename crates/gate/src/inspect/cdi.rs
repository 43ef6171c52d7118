//! Reads the CDI specifications of this node. Devices of the node (GPUs, above all) come into a container by
//! edits of its spec that root wrote down: nodes, mounts and hooks. Such an edit is the node's own, as the engine's are.
//!
//! An engine puts an edit into config.json word for word (container-device-interface `pkg/cdi/container-edits.go` Apply,
//! `oci.go` toOCI): the source of a mount is `hostPath`, not resolved; its options are those of the specification, and
//! `idmap` or `ridmap` behind them in a container with users of its own; `sortMounts` changes the order alone. What a
//! device lacks of type and numbers is filled in from the host's node (`container-edits_unix.go` fillMissingInfo).
//! Edits belong to one device or to all of the specification.
//!
//! This reads the two folders that engines read by default (`pkg/cdi/spec-dirs.go` DefaultSpecDirs). What another folder
//! (`cdi_spec_dirs` of containerd and CRI-O) has is not known here: link its files into /etc/cdi.

use std::cell::{Cell, OnceCell};
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;

use super::host::Host;
use super::path::normalize;
use super::root_files::{self, SkipError};
use super::yaml;

/// The specifications of the node; read when something is first asked of them.
#[derive(Debug)]
pub(super) struct Cdi {
    folders: &'static [&'static str],
    /// What was read for whichever container asked first.
    read: Rc<OnceCell<Read>>,
    /// Whether this one asked.
    asked: Cell<bool>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    edits: Vec<Edits>,
    skipped: Vec<SkipError>,
}

/// The parts of a CDI specification that matter (`specs-go/config.go`).
#[derive(Deserialize)]
struct Specification {
    #[serde(default, rename = "containerEdits")]
    edits: Option<Edits>,
    #[serde(default)]
    devices: Option<Vec<Device>>,
}

#[derive(Deserialize)]
struct Device {
    #[serde(default, rename = "containerEdits")]
    edits: Option<Edits>,
}

#[derive(Debug, Deserialize)]
struct Edits {
    #[serde(default, rename = "deviceNodes")]
    nodes: Option<Vec<DeviceNode>>,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
    #[serde(default)]
    hooks: Option<Vec<HookEdit>>,
    #[serde(default, rename = "netDevices")]
    net_devices: Option<Vec<NetDevice>>,
}

#[derive(Debug, Deserialize)]
struct DeviceNode {
    path: String,
    #[serde(default, rename = "hostPath")]
    host_path: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    major: Option<i64>,
    #[serde(default)]
    minor: Option<i64>,
    #[serde(default)]
    permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Mount {
    #[serde(rename = "hostPath")]
    source: String,
    #[serde(rename = "containerPath")]
    destination: String,
    #[serde(default)]
    options: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct HookEdit {
    #[serde(rename = "hookName")]
    stage: String,
    path: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct NetDevice {
    #[serde(rename = "hostInterfaceName")]
    name: String,
}

/// Type and numbers of a device node. `u` of the runtime spec is `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// `b`, `c` or `p`.
    pub(super) kind: char,
    /// The driver; 0 for a FIFO.
    pub(super) major: i64,
    /// The device; 0 for a FIFO.
    pub(super) minor: i64,
}

impl Numbers {
    /// By the letters of the runtime spec.
    pub(super) fn of(kind: &str, major: i64, minor: i64) -> Option<Self> {
        match kind {
            "b" => Some(Self { kind: 'b', major, minor }),
            "c" | "u" => Some(Self { kind: 'c', major, minor }),
            "p" => Some(Self { kind: 'p', major: 0, minor: 0 }),
            _ => None,
        }
    }
}

/// The folders, in the engines' order.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

impl Cdi {
    /// The specifications of a node, if it can be asked.
    pub(super) fn of(host: &Host) -> Self {
        let folders: &[&str] = if host.is_here() { &FOLDERS } else { &[] };
        Self { folders, read: host.specifications(), asked: Cell::new(false) }
    }

    /// Whether a specification makes this mount.
    pub(super) fn has_mount(&self, source: &str, destination: &str, options: &[&str]) -> bool {
        let plain = match options {
            [plain @ .., "idmap" | "ridmap"] => plain,
            _ => options,
        };
        let is_this = |mount: &Mount| {
            let own = mount.options.as_deref().unwrap_or_default();
            normalize(&mount.source) == normalize(source)
                && mount.destination == destination
                && (own == options || own == plain)
        };
        self.edits().iter().flat_map(|edits| edits.mounts.iter().flatten()).any(is_this)
    }

    /// Whether a specification makes this device node.
    pub(super) fn has_device(&self, path: &str, numbers: Numbers) -> bool {
        self.nodes().any(|node| node.path == path && node.numbers() == Some(numbers))
    }

    /// Whether a specification opens this device for these accesses (letters of `rwm`).
    pub(super) fn opens_device(&self, numbers: Numbers, access: &str) -> bool {
        self.nodes().any(|node| {
            let own = match node.permissions.as_deref() {
                None | Some("") => "rwm",
                Some("none") => "",
                Some(own) => own,
            };
            access.chars().all(|letter| own.contains(letter)) && node.numbers() == Some(numbers)
        })
    }

    /// Whether a specification adds this hook.
    pub(super) fn has_hook<'s>(
        &self,
        stage: &str,
        path: &str,
        args: &(impl Iterator<Item = &'s str> + Clone),
        env: &(impl Iterator<Item = &'s str> + Clone),
    ) -> bool {
        let texts = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let is_this = |hook: &HookEdit| {
            hook.stage == stage
                && hook.path == path
                && args.clone().eq(texts(&hook.args).iter().map(String::as_str))
                && env.clone().eq(texts(&hook.env).iter().map(String::as_str))
        };
        self.edits().iter().flat_map(|edits| edits.hooks.iter().flatten()).any(is_this)
    }

    /// Whether a specification moves this network device of the host into a container.
    pub(super) fn has_net_device(&self, name: &str) -> bool {
        let all = self.edits().iter().flat_map(|edits| edits.net_devices.iter().flatten());
        all.into_iter().any(|device| device.name == name)
    }

    /// What of the specifications does not count, and why; nothing as long as nobody has asked for any.
    pub(super) fn skipped(&self) -> &[SkipError] {
        let read = self.read.get().filter(|_| self.asked.get());
        read.map(|read| read.skipped.as_slice()).unwrap_or_default()
    }

    fn nodes(&self) -> impl Iterator<Item = &DeviceNode> {
        self.edits().iter().flat_map(|edits| edits.nodes.iter().flatten())
    }

    fn edits(&self) -> &[Edits] {
        self.asked.set(true);
        &self.read.get_or_init(|| read(self.folders)).edits
    }
}

impl DeviceNode {
    fn numbers(&self) -> Option<Numbers> {
        let kind = self.kind.as_deref().filter(|kind| !kind.is_empty());
        let (major, minor) = (self.major.unwrap_or(0), self.minor.unwrap_or(0));
        if let Some(kind) = kind.filter(|kind| major != 0 || *kind == "p") {
            return Numbers::of(kind, major, minor);
        }
        let host_path = self.host_path.as_deref().filter(|path| !path.is_empty());
        let of_node = Numbers::of_node(host_path.unwrap_or(&self.path))?;
        if let Some(kind) = kind {
            Numbers::of(kind, 0, 0).filter(|own| own.kind == of_node.kind)?;
        }
        // A major that is given counts without a type as well.
        Some(if major == 0 { of_node } else { Numbers { major, minor, ..of_node } })
    }
}

fn read(folders: &[&str]) -> Read {
    let mut read = Read::default();
    for folder in folders {
        let skipped = root_files::each(Path::new(folder), &["json", "yaml"], |path, bytes| {
            let specification = parse(path, bytes)?;
            let of_devices = specification.devices.into_iter().flatten().filter_map(|device| device.edits);
            read.edits.extend(specification.edits.into_iter().chain(of_devices));
            Ok(())
        });
        trace!(?skipped, "CDI specifications");
        read.skipped.extend(skipped);
    }
    read
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Specification, Box<dyn std::error::Error + Send + Sync>> {
    // One way for both, which keeps the program small.
    let value = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_slice(bytes)?
    } else {
        yaml::value(std::str::from_utf8(bytes)?)?
    };
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{Cdi, Numbers};
    use crate::inspect::host::{Beside, Host};

    /// As nvidia-ctk writes it, shortened; and a device whose numbers only the host knows.
    const YAML: &str = r"---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: '0'
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      type: c
      major: 195
      permissions: rw
    - path: /dev/none
      hostPath: /dev/null
- name: all
  containerEdits:
    deviceNodes: null
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args:
    - nvidia-cdi-hook
    - update-ldcache
    - --folder
    - /usr/lib64
    env:
    - NVIDIA_CTK_DEBUG=false
  mounts:
  - hostPath: /usr/bin/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options:
    - ro
    - nosuid
    - nodev
    - rbind
    - rprivate
  - hostPath: /run/nvidia/../x
    containerPath: /x
";

    const JSON: &str = r#"{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{"name":"x","containerEdits":{
        "mounts":[{"hostPath":"/opt/lib","containerPath":"/lib","options":["bind"],"type":"bind"}],
        "deviceNodes":[{"path":"/dev/fifo","type":"p"},{"path":"/dev/null","type":"b"}]}}]}"#;

    fn with<R>(files: &[(&str, &str)], then: impl FnOnce(&Cdi) -> R) -> R {
        // Below /tmp nothing is root's alone.
        let room = tempfile::tempdir_in("/run").unwrap();
        for (name, text) in files {
            std::fs::write(room.path().join(name), text).unwrap();
        }
        let folder: &'static str = room.path().display().to_string().leak();
        then(&Cdi { folders: vec![folder, "/nowhere"].leak(), ..Cdi::of(&Host::Live) })
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    const SMI: &str = "/usr/bin/nvidia-smi";
    const OPTIONS: [&str; 5] = ["ro", "nosuid", "nodev", "rbind", "rprivate"];

    #[test]
    fn a_scan_reads_them_once_and_says_what_is_skipped_only_of_those_who_asked() {
        if !is_root() {
            return;
        }
        let node = Rc::default();
        let host = Host::Beside(Beside::new("/proc/self".into(), node));
        let (of_node, other) = (Cdi::of(&host), Cdi::of(&host));
        with(&[("bad.json", "{"), ("good.json", JSON)], |cdi| {
            let one = Cdi { folders: cdi.folders, ..of_node };
            assert!(one.has_mount("/opt/lib", "/lib", &["bind"]));
            assert_eq!(one.skipped().len(), 1);
        });
        assert!(other.skipped().is_empty());
        assert!(other.has_mount("/opt/lib", "/lib", &["bind"]), "read again");
        assert_eq!(other.skipped().len(), 1);
        let host = Host::Beside(Beside::new("/proc/self".into(), Rc::default()).of_a_stranger());
        assert!(!Cdi::of(&host).has_mount("/opt/lib", "/lib", &["bind"]));
    }

    #[test]
    fn a_mount_is_the_nodes_if_source_destination_and_options_are_those_of_a_specification() {
        if !is_root() {
            return;
        }
        with(&[("nvidia.yaml", YAML), ("b.json", JSON)], |cdi| {
            assert!(cdi.has_mount(SMI, SMI, &OPTIONS));
            assert!(cdi.has_mount(SMI, SMI, &["ro", "nosuid", "nodev", "rbind", "rprivate", "ridmap"]));
            assert!(cdi.has_mount("/opt/lib", "/lib", &["bind"]));
            assert!(cdi.has_mount("/run/x", "/x", &[]));
            let others = [
                (SMI, SMI, &OPTIONS[..4]),
                (SMI, SMI, &["rw", "nosuid", "nodev", "rbind", "rprivate"][..]),
                (SMI, "/usr/bin/other", &OPTIONS[..]),
                ("/usr/bin", SMI, &OPTIONS[..]),
                ("/usr/bin/nvidia-smi/..", SMI, &OPTIONS[..]),
                ("/run/x", "/x", &["bind"][..]),
            ];
            for (source, destination, options) in others {
                assert!(!cdi.has_mount(source, destination, options), "{source} {destination} {options:?}");
            }
            assert!(cdi.skipped().is_empty(), "{:?}", cdi.skipped());
        });
    }

    #[test]
    fn a_device_without_numbers_has_those_of_the_hosts_node() {
        if !is_root() {
            return;
        }
        with(&[("nvidia.yaml", YAML), ("b.json", JSON)], |cdi| {
            let numbers = |kind, major, minor| Numbers::of(kind, major, minor).unwrap();
            let rows = [
                ("/dev/nvidia0", numbers("c", 195, 0), true),
                ("/dev/nvidia0", numbers("u", 195, 0), true),
                ("/dev/nvidia0", numbers("c", 195, 1), false),
                ("/dev/nvidia0", numbers("b", 195, 0), false),
                ("/dev/nvidia1", numbers("c", 195, 0), false),
                ("/dev/none", numbers("c", 1, 3), true),
                ("/dev/none", numbers("b", 8, 0), false),
                ("/dev/fifo", numbers("p", 7, 7), true),
                // The host has another type, which the engine refuses.
                ("/dev/null", numbers("b", 1, 3), false),
            ];
            for (path, numbers, expected) in rows {
                assert_eq!(cdi.has_device(path, numbers), expected, "{path} {numbers:?}");
            }
            assert!(cdi.opens_device(numbers("c", 195, 0), "rw"));
            assert!(!cdi.opens_device(numbers("c", 195, 0), "rwm"));
            assert!(cdi.opens_device(numbers("c", 1, 3), "rwm"));
            assert!(!cdi.opens_device(numbers("b", 8, 0), "r"));
        });
    }

    #[test]
    fn a_hook_is_the_nodes_if_it_is_called_as_a_specification_says() {
        if !is_root() {
            return;
        }
        let args = ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib64"];
        let env = ["NVIDIA_CTK_DEBUG=false"];
        with(&[("nvidia.yaml", YAML)], |cdi| {
            let has = |stage: &str, path: &str, args: &[&'static str], env: &[&'static str]| {
                cdi.has_hook(stage, path, &args.iter().copied(), &env.iter().copied())
            };
            assert!(has("createContainer", "/usr/bin/nvidia-cdi-hook", &args, &env));
            assert!(!has("createRuntime", "/usr/bin/nvidia-cdi-hook", &args, &env));
            assert!(!has("createContainer", "/bin/sh", &args, &env));
            assert!(!has("createContainer", "/usr/bin/nvidia-cdi-hook", &args[..3], &env));
            assert!(!has("createContainer", "/usr/bin/nvidia-cdi-hook", &args, &[]));
        });
    }

    #[test]
    fn what_does_not_parse_is_skipped_and_remembered_and_nothing_is_read_unasked() {
        if !is_root() {
            return;
        }
        let files =
            [("a.json", "{"), ("b.yaml", "devices: 7"), ("c.yaml", "mounts: &a\n- *a"), ("d.json", JSON)];
        with(&files, |cdi| {
            assert!(cdi.skipped().is_empty());
            assert!(cdi.has_mount("/opt/lib", "/lib", &["bind"]));
            assert_eq!(cdi.skipped().len(), 3, "{:?}", cdi.skipped());
        });
        let cdi = Cdi::of(&Host::Unknown);
        assert!(!cdi.has_mount("/a", "/b", &[]) && cdi.skipped().is_empty());
        assert_eq!(Cdi::of(&Host::Live).folders, ["/etc/cdi", "/var/run/cdi"]);
    }
}
