//! All that the observed reading of a control may know: plain data about one container, with one spelling for each fact. What a
//! pod declares is not here but in [`pod`](super::pod).
//!
//! Nothing here is read from a file: the caller gathers it, tests write it down.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::Control;
use super::capabilities::CapabilitySet;
use super::pod::{Container, Mounted, Pod};

/// A fact that a node may or may not be able to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// Learned.
    Seen(T),
    /// Not to be had here, and why.
    Unseen(&'static str),
}

/// Which of a pod's two kinds of spec this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A container that runs somebody's workload.
    Container,
    /// The pod's sandbox (pause container): only the pod-level controls apply.
    Sandbox,
}

/// The container engine that generated the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// containerd's CRI plugin.
    Containerd,
    /// CRI-O.
    CriO,
    /// podman.
    Podman,
    /// Docker (moby).
    Docker,
    /// Anybody else: `ctr`, `runc run`, a test.
    None,
}

impl Engine {
    /// All engines.
    pub const ALL: [Self; 5] = [Self::Containerd, Self::CriO, Self::Podman, Self::Docker, Self::None];

    /// The word used in every output and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::None => "none",
        }
    }

    /// Whether its containers are those of pods, asked for through the kubelet's CRI.
    #[must_use]
    pub const fn speaks_cri(self) -> bool {
        matches!(self, Self::Containerd | Self::CriO)
    }

    /// The capabilities the engine grants when nobody asks for any, beyond those baseline allows anyway.
    ///
    /// containerd `pkg/oci/spec.go` defaultUnixCaps, moby `oci/caps/defaults.go`: the thirteen and `NET_RAW`.
    /// CRI-O `internal/config/capabilities` and podman `containers.conf`: a subset of the thirteen.
    #[must_use]
    pub const fn default_beyond_baseline(self) -> &'static [&'static str] {
        match self {
            Self::Containerd | Self::Docker | Self::None => &["NET_RAW"],
            Self::CriO | Self::Podman => &[],
        }
    }
}

/// Whose users the container's uids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// The host's: uid 0 is root.
    Host,
    /// The pod's own (`hostUsers: false`), mapped away from the host's root.
    Own,
    /// An own one, but perhaps not by `hostUsers: false`: CRI-O makes one for an annotation as well.
    OwnUnclear,
}

/// The host namespaces the container would join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostNamespaces {
    /// The host's network.
    pub network: bool,
    /// The host's processes.
    pub pid: bool,
    /// The host's System V IPC and POSIX queues.
    pub ipc: bool,
}

/// What is masked in /proc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcMasks {
    /// `/proc/kcore` is masked.
    pub kcore_masked: bool,
    /// `/proc/sys` is read-only.
    pub sys_read_only: bool,
    /// Everything else is masked or read-only that every engine protects by default.
    pub rest_protected: bool,
}

impl ProcMasks {
    /// All of it is protected.
    pub const DEFAULT: Self = Self { kcore_masked: true, sys_read_only: true, rest_protected: true };

    /// Nothing of it is.
    pub const UNMASKED: Self = Self { kcore_masked: false, sys_read_only: false, rest_protected: false };

    /// What tells that nobody left it as it is by default: the same everywhere.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !self.kcore_masked || !self.sys_read_only
    }
}

/// The seccomp filter of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// No `linux.seccomp`: nothing is filtered.
    Absent,
    /// A filter.
    Filter,
    /// A filter that lets everything through: it allows by default, and by every rule.
    AllowsAll,
    /// A filter in whose place crun puts the one of an annotation.
    Replaced,
}

/// What the absence of a seccomp profile in a pod turns into on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeccompDefault {
    /// Unconfined: unset and Unconfined look the same (the kubelet without `seccompDefault`).
    Unconfined,
    /// The engine's profile: no filter means somebody asked for none.
    RuntimeDefault,
}

/// The AppArmor profile of the spec, on a node where the engine applies AppArmor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppArmor<'a> {
    /// AppArmor does nothing here, and why.
    Off(&'static str),
    /// No profile in the spec. On containerd that is how `Unconfined` looks.
    NoProfile,
    /// No profile, on an engine that may not be applying AppArmor at all; why it is unclear.
    NoProfileUnclear(&'static str),
    /// A profile by name.
    Profile(&'a str),
}

/// The SELinux label of the spec, on a node that has SELinux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeLinux<'a> {
    /// SELinux does nothing here, and why.
    Off(&'static str),
    /// A label, already taken apart.
    Label {
        /// `system_u` unless somebody asked for another.
        user: &'a str,
        /// `system_r` unless somebody asked for another.
        role: &'a str,
        /// The domain.
        kind: &'a str,
    },
    /// Something that is no `user:role:type[:level]`.
    Malformed(&'a str),
}

/// The label that the node's own policy gives to containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeLinuxDefault<'a> {
    /// The user part.
    pub user: Cow<'a, str>,
    /// The role part.
    pub role: Cow<'a, str>,
    /// The type part.
    pub kind: Cow<'a, str>,
}

impl Default for SeLinuxDefault<'_> {
    fn default() -> Self {
        Self { user: "system_u".into(), role: "system_r".into(), kind: "container_t".into() }
    }
}

/// Where a mount of the container leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume<'a> {
    /// A path of the host that is not the pod's.
    HostPath {
        /// Where the container sees it.
        destination: &'a str,
        /// The path on the host, after every subPath and symbolic link.
        source: Cow<'a, str>,
        /// The volume's name where the path tells it (subPath mounts).
        name: Option<&'a str>,
    },
    /// A volume of an in-tree plugin, from the kubelet's directory of this pod.
    Plugin {
        /// The volume's (or persistent volume's) name.
        name: &'a str,
        /// The plugin segment after `kubernetes.io~`, or `vendor~driver`.
        plugin: &'a str,
    },
    /// A device of the host that a claim, a device plugin or another plugin of the node may have brought.
    Device {
        /// Where the container sees it; nowhere where it is only let in, and the container must make the node.
        destination: Option<&'a str>,
        /// The device on the host, by its numbers: `/dev/block/8:0`.
        source: Cow<'a, str>,
    },
    /// A mount whose origin could not be found.
    Unclear {
        /// Where the container sees it.
        destination: &'a str,
        /// Why.
        why: &'static str,
    },
}

/// Something in the spec for which a pod has no field: the engine's configuration, a plugin or root put it there, or an
/// annotation asks the runtime for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addition<'a> {
    /// An annotation on which the runtime acts.
    Order(&'a str),
    /// A hook that nothing on the node explains.
    Hook {
        /// When it runs.
        stage: &'static str,
        /// What runs, as root of the host.
        path: &'a str,
    },
    /// `linux.rootfsPropagation`: what is mounted inside appears on the host.
    Propagation(&'a str),
    /// A file system of the kernel's own that can be written.
    Writable {
        /// `cgroup` or `sysfs`.
        kind: &'a str,
        /// Where the container sees it.
        destination: &'a str,
    },
    /// A network device of the host that moves into the container.
    NetworkDevice(&'a str),
    /// A section for another kind of system.
    Section(&'static str),
}

/// Everything the controls may know about one container.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a bit of the runtime spec, with no states in between"
)]
pub struct Facts<'a> {
    /// Container or sandbox.
    pub subject: Subject,
    /// The container's name, for messages.
    pub name: &'a str,
    /// Who generated the spec.
    pub engine: Engine,
    /// The user the process will really have.
    pub uid: u32,
    /// Whose users these are.
    pub user_namespace: UserNamespace,
    /// `no_new_privs` will be set.
    pub no_new_privileges: bool,
    /// The root file system is read-only.
    pub root_read_only: bool,
    /// The union of all capability sets of the spec.
    pub capabilities: CapabilitySet<'a>,
    /// What the engine grants by default: built-in, learned from the sandbox, and configured.
    pub default_capabilities: CapabilitySet<'a>,
    /// The bounding set has every capability that the runtime itself has.
    pub has_all_capabilities: bool,
    /// `/sys` is writable, or not the engine's own read-only mount any more.
    pub sys_writable: bool,
    /// Which host namespaces it joins.
    pub host_namespaces: Known<HostNamespaces>,
    /// What of /proc is masked.
    pub proc_masks: ProcMasks,
    /// Names of the sysctls that the pod asked for, in order.
    pub sysctls: Known<Vec<Cow<'a, str>>>,
    /// The seccomp filter.
    pub seccomp: Seccomp,
    /// What an unset profile means here.
    pub seccomp_default: SeccompDefault,
    /// The AppArmor profile.
    pub apparmor: AppArmor<'a>,
    /// The SELinux label.
    pub selinux: SeLinux<'a>,
    /// What the node's own policy labels containers with.
    pub selinux_default: SeLinuxDefault<'a>,
    /// Host ports, as many as the spec tells of.
    pub host_ports: Known<Vec<u16>>,
    /// Hosts named in the preStop handler (all that a node can see of probes and lifecycle hooks).
    pub lifecycle_hosts: Vec<Cow<'a, str>>,
    /// Mounts that are, or may be, something else than the volumes restricted allows.
    pub volumes: Vec<Volume<'a>>,
    /// Mounts and devices of the host that the pod's declaration does not explain: where the container sees them, if
    /// anywhere, and what they are on the host. Empty where nobody has the declaration.
    pub injected: Vec<(Option<&'a str>, Cow<'a, str>)>,
    /// What no field of a pod asks for.
    pub additions: Vec<Addition<'a>>,
    /// CDI specifications of the node that explain nothing, because they cannot be read or believed; each with why.
    /// Empty where nobody had to look.
    pub skipped_cdi: Vec<String>,
}

impl Facts<'_> {
    /// Explains mounts by what the pod declares of this container. A path of the host at the `mountPath` of a claim is what
    /// the claim is bound to, and no violation: admission allows claims; so is a device at its `devicePath`. A path of the
    /// host or a device where the pod has nothing is [injected](Self::injected): the engine, a device plugin or an NRI plugin
    /// brought it, and no field of the pod asks for it. A mount of unclear origin stays unclear only where the pod mounts
    /// nothing.
    ///
    /// A path that the container has twice explains nothing.
    pub fn explain_mounts(&mut self, pod: &Pod, container: &Container) {
        for volume in core::mem::take(&mut self.volumes) {
            let (destination, source, brought) = match &volume {
                Volume::HostPath { destination, source, .. } => {
                    (Some(*destination), source, pod.mounted(container, destination))
                }
                Volume::Device { destination, source } => {
                    let device = destination.map(|destination| pod.device(container, destination));
                    (*destination, source, device.unwrap_or(Mounted::Nothing))
                }
                Volume::Unclear { destination, .. } => {
                    if pod.mounted(container, destination) == Mounted::Nothing {
                        self.volumes.push(volume);
                    }
                    continue;
                }
                Volume::Plugin { .. } => {
                    self.volumes.push(volume);
                    continue;
                }
            };
            match brought {
                Mounted::Nothing => self.injected.push((destination, source.clone())),
                Mounted::Claim => {}
                Mounted::Other => self.volumes.push(volume),
            }
        }
    }

    /// Whether a control may find what no field of a pod brings, so that what the pod declares settles nothing: additions,
    /// and mounts of unclear origin that [`explain_mounts`](Self::explain_mounts) left.
    #[must_use]
    pub fn beyond_declaration(&self, control: &Control) -> bool {
        match control.id {
            "privileged" => !self.additions.is_empty(),
            "hostPathVolumes" | "restrictedVolumes" => {
                self.volumes.iter().any(|volume| matches!(volume, Volume::Unclear { .. }))
            }
            _ => false,
        }
    }

    /// `securityContext.privileged: true`, as a conjunction: every capability, nothing masked in /proc, and a /sys
    /// that is not read-only. Each alone can be had without it (`capabilities.add: [ALL]`, `procMount: Unmasked`).
    ///
    /// containerd `pkg/oci/spec_opts.go` WithPrivileged, CRI-O `internal/factory/container` SetPrivileged.
    #[must_use]
    pub fn privileged(&self) -> bool {
        self.has_all_capabilities && self.proc_unmasked() && self.sys_writable
    }

    /// As `procMount: Unmasked` leaves it.
    #[must_use]
    pub fn proc_unmasked(&self) -> bool {
        self.proc_masks.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::{Addition, Engine, Facts, Volume};
    use crate::controls::CONTROLS;
    use crate::pod::{Pod, Volume as Declared, VolumeDevice, VolumeMount};
    use crate::testing::{pod_with, with};

    /// A pod whose first container mounts volumes of these sources at `/` and their names.
    fn mounting(volumes: &[(&str, &[&str])]) -> Pod {
        pod_with(|spec| {
            let app = &mut spec.containers[0];
            let mount = |(name, _): &(&str, &[&str])| VolumeMount {
                name: (*name).into(),
                mount_path: format!("/{name}"),
            };
            app.volume_mounts = volumes.iter().map(mount).collect();
            let volume = |(name, sources): &(&str, &[&str])| Declared {
                name: (*name).into(),
                sources: sources.iter().map(|source| (*source).into()).collect(),
            };
            spec.volumes = volumes.iter().map(volume).collect();
        })
    }

    fn explain(volume: Volume<'static>, pod: &Pod) -> Facts<'static> {
        let mut facts = with(|facts| facts.volumes = vec![volume]);
        facts.explain_mounts(pod, &pod.spec.containers[0]);
        facts
    }

    /// What became of it: explained, still a volume of the host, or injected.
    fn outcome(facts: &Facts<'_>) -> &'static str {
        match (facts.volumes.len(), facts.injected.len()) {
            (0, 0) => "explained",
            (1, 0) => "kept",
            (0, 1) => "injected",
            other => panic!("{other:?}"),
        }
    }

    fn host_path(destination: &'static str) -> Volume<'static> {
        Volume::HostPath { destination, source: "/srv/pv".into(), name: None }
    }

    #[test]
    fn only_a_mount_of_a_claim_explains_a_path_of_the_host() {
        let claims: &[(&str, &[&str])] = &[
            ("claim", &["persistentVolumeClaim"]),
            ("generic", &["ephemeral"]),
            ("host", &["hostPath"]),
            ("both", &["persistentVolumeClaim", "hostPath"]),
            ("none", &[]),
        ];
        for (destination, expected) in [
            ("/claim", "explained"),
            // As engines clean paths.
            ("/./claim/", "explained"),
            ("/generic", "explained"),
            ("/host", "kept"),
            ("/both", "kept"),
            ("/none", "kept"),
            ("/clai", "injected"),
            ("/claim/below", "injected"),
            ("/", "injected"),
        ] {
            let facts = explain(host_path(destination), &mounting(claims));
            assert_eq!(outcome(&facts), expected, "{destination}");
            if expected == "injected" {
                assert_eq!(facts.injected, [(Some(destination), "/srv/pv".into())]);
            }
        }
    }

    #[test]
    fn what_a_pod_says_twice_or_not_at_all_explains_nothing() {
        type Change = fn(&mut Pod);
        let claim: (&str, &[&str]) = ("claim", &["persistentVolumeClaim"]);
        let changes: [(Change, &str); 6] = [
            (|_| {}, "explained"),
            (|pod| pod.spec.volumes.clear(), "kept"),
            (|pod| pod.spec.volumes.push(pod.spec.volumes[0].clone()), "kept"),
            (
                |pod| {
                    pod.spec.containers[0]
                        .volume_mounts
                        .push(VolumeMount { name: "other".into(), mount_path: "/claim/".into() });
                },
                "kept",
            ),
            (|pod| pod.spec.containers[0].volume_mounts.clear(), "injected"),
            // Another container's mount is not this one's.
            (
                |pod| {
                    let spec = &mut pod.spec;
                    spec.containers[1].volume_mounts = std::mem::take(&mut spec.containers[0].volume_mounts);
                },
                "injected",
            ),
        ];
        for (change, expected) in changes {
            let mut pod = mounting(&[claim]);
            change(&mut pod);
            assert_eq!(outcome(&explain(host_path("/claim"), &pod)), expected, "{pod:?}");
        }
    }

    #[test]
    fn a_device_is_explained_by_a_claims_device_path_alone() {
        let mut pod = mounting(&[("claim", &["persistentVolumeClaim"]), ("host", &["hostPath"])]);
        pod.spec.containers[0].volume_devices = ["claim", "host"]
            .map(|name| VolumeDevice { name: name.into(), device_path: format!("/dev/{name}") })
            .into();
        for (destination, expected) in [
            (Some("/dev/claim"), "explained"),
            (Some("/dev/host"), "kept"),
            (Some("/claim"), "injected"),
            (Some("/dev/x"), "injected"),
            (None, "injected"),
        ] {
            let device = Volume::Device { destination, source: "/dev/block/8:0".into() };
            let facts = explain(device, &pod);
            assert_eq!(outcome(&facts), expected, "{destination:?}");
            assert!(
                facts.injected.iter().all(|injected| *injected == (destination, "/dev/block/8:0".into()))
            );
        }
        assert_eq!(outcome(&explain(host_path("/dev/claim"), &pod)), "injected");
    }

    #[test]
    fn a_mount_of_unclear_origin_is_clear_where_the_pod_mounts_anything() {
        let pod = mounting(&[("host", &["hostPath"])]);
        let unclear = |destination| Volume::Unclear { destination, why: "gone" };
        assert_eq!(outcome(&explain(unclear("/host"), &pod)), "explained");
        assert_eq!(outcome(&explain(unclear("/x"), &pod)), "kept");
        // What the kubelet's own path tells needs no explanation.
        assert_eq!(outcome(&explain(Volume::Plugin { name: "host", plugin: "nfs" }, &pod)), "kept");
    }

    #[test]
    fn what_a_pod_declares_settles_all_but_additions_and_unclear_mounts() {
        let beyond = |facts: &Facts<'_>| -> Vec<&str> {
            let found = CONTROLS.iter().filter(|control| facts.beyond_declaration(control));
            found.map(|control| control.id).collect()
        };
        assert!(beyond(&with(|facts| facts.volumes = vec![host_path("/x")])).is_empty());
        assert_eq!(beyond(&with(|facts| facts.additions = vec![Addition::Order("x")])), ["privileged"]);
        let unclear = Volume::Unclear { destination: "/x", why: "gone" };
        assert_eq!(
            beyond(&with(|facts| facts.volumes = vec![host_path("/y"), unclear])),
            ["hostPathVolumes", "restrictedVolumes"]
        );
    }

    #[test]
    fn engines_have_their_own_names_and_defaults() {
        let of = |engine: Engine| (engine.name(), engine.speaks_cri(), engine.default_beyond_baseline());
        assert_eq!(
            Engine::ALL.map(of),
            [
                ("containerd", true, &["NET_RAW"][..]),
                ("cri-o", true, &[]),
                ("podman", false, &[]),
                ("docker", false, &["NET_RAW"]),
                ("none", false, &["NET_RAW"]),
            ]
        );
    }
}
