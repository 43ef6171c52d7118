//! A pod as its object in the API declares it: the fields that the standard reads, and no others.
//!
//! Names and nesting are those of `PodSpec`. Strings are owned, because an agent keeps pods for long. The gate, which reads one
//! pod per start, pays for that with a few short copies. Evaluating a compliant pod allocates nothing either way.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

#[cfg(feature = "serde")]
mod json;

#[cfg(feature = "serde")]
pub use json::Strict;

/// Defines the types. With the feature `serde` each is an object of JSON, under the given keys.
macro_rules! types {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty = $key:literal,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $name {
            /// The keys of its fields.
            pub const KEYS: &'static [&'static str] = &[$($key),*];
        }

        #[cfg(feature = "serde")]
        impl json::Object for $name {
            fn read(
                &mut self,
                key: &str,
                value: &mut dyn json::Source,
            ) -> Result<Option<&'static str>, json::Stop> {
                match key {
                    $($key => json::Field::read(&mut self.$field, value).map(|()| Some($key)),)*
                    _ => Ok(None),
                }
            }
        }

        #[cfg(feature = "serde")]
        json::object!($name, $($field = $key),*);
    )*};
}

types! {
    /// What admission reads of a pod. As JSON it is `{"annotations": …, "spec": …}`; an object of the API is a [`Manifest`].
    pub struct Pod {
        /// The annotations that were fields before there were fields, by key. Reading keeps no others.
        annotations: Annotations = "annotations",
        /// The specification.
        spec: PodSpec = "spec",
    }

    /// An object of the API that is a pod, or the template of one.
    pub struct Manifest {
        /// Name, labels, annotations.
        metadata: Metadata = "metadata",
        /// The specification.
        spec: PodSpec = "spec",
    }

    /// `metadata` of an object, as far as the standard reads it.
    pub struct Metadata {
        /// See [`Pod::annotations`].
        annotations: Annotations = "annotations",
    }

    /// `spec` of a pod.
    pub struct PodSpec {
        /// The host's network.
        host_network: bool = "hostNetwork",
        /// The host's processes.
        host_pid: bool = "hostPID",
        /// The host's System V IPC and POSIX queues.
        host_ipc: bool = "hostIPC",
        /// `false`: users of its own.
        host_users: Option<bool> = "hostUsers",
        /// For which operating system it is made.
        os: Os = "os",
        /// Which handler of the engine runs it. No check reads it; a cluster can exempt runtime classes.
        runtime_class_name: Option<String> = "runtimeClassName",
        /// What all containers begin with.
        security_context: PodSecurityContext = "securityContext",
        /// Volumes, in order.
        volumes: Vec<Volume> = "volumes",
        /// Containers that run before the others.
        init_containers: Vec<Container> = "initContainers",
        /// The containers.
        containers: Vec<Container> = "containers",
        /// Containers that were added to debug the others.
        ephemeral_containers: Vec<Container> = "ephemeralContainers",
    }

    /// `spec.os`.
    pub struct Os {
        /// `linux` or `windows`.
        name: String = "name",
    }

    /// `spec.securityContext`.
    pub struct PodSecurityContext {
        /// The system call filter.
        seccomp_profile: Option<Profile> = "seccompProfile",
        /// The AppArmor profile.
        app_armor_profile: Option<Profile> = "appArmorProfile",
        /// The SELinux label.
        se_linux_options: SeLinuxOptions = "seLinuxOptions",
        /// The user.
        run_as_user: Option<i64> = "runAsUser",
        /// Whether the kubelet refuses root.
        run_as_non_root: Option<bool> = "runAsNonRoot",
        /// Kernel parameters, in order.
        sysctls: Vec<Sysctl> = "sysctls",
        /// What only Windows has.
        windows_options: WindowsOptions = "windowsOptions",
    }

    /// One of `spec.containers`, `spec.initContainers` or `spec.ephemeralContainers`.
    pub struct Container {
        /// Its name.
        name: String = "name",
        /// Ports of the host. Reading keeps no others.
        ports: Vec<Port> = "ports",
        /// What it asks of the kernel.
        security_context: SecurityContext = "securityContext",
        /// Whether it is alive.
        liveness_probe: Handler = "livenessProbe",
        /// Whether it can serve.
        readiness_probe: Handler = "readinessProbe",
        /// Whether it has started.
        startup_probe: Handler = "startupProbe",
        /// What is called after it starts and before it stops.
        lifecycle: Lifecycle = "lifecycle",
        /// Where it sees volumes. No check reads it; it tells which mount of a container is which volume.
        volume_mounts: Vec<VolumeMount> = "volumeMounts",
        /// Where it finds volumes that are devices. No check reads it either.
        volume_devices: Vec<VolumeDevice> = "volumeDevices",
    }

    /// `securityContext` of a container.
    pub struct SecurityContext {
        /// No isolation.
        privileged: bool = "privileged",
        /// Whether processes may gain privileges.
        allow_privilege_escalation: Option<bool> = "allowPrivilegeEscalation",
        /// What is added to and taken from the engine's default capabilities.
        capabilities: Capabilities = "capabilities",
        /// Whether parts of /proc are masked.
        proc_mount: Option<String> = "procMount",
        /// Whether its image is read-only to it. Upstream does not read it.
        read_only_root_filesystem: bool = "readOnlyRootFilesystem",
        /// The system call filter.
        seccomp_profile: Option<Profile> = "seccompProfile",
        /// The AppArmor profile.
        app_armor_profile: Option<Profile> = "appArmorProfile",
        /// The SELinux label.
        se_linux_options: SeLinuxOptions = "seLinuxOptions",
        /// The user.
        run_as_user: Option<i64> = "runAsUser",
        /// Whether the kubelet refuses root.
        run_as_non_root: Option<bool> = "runAsNonRoot",
        /// What only Windows has.
        windows_options: WindowsOptions = "windowsOptions",
    }

    /// `seccompProfile` or `appArmorProfile`. One without a type is not the same as none.
    pub struct Profile {
        /// `RuntimeDefault`, `Localhost` or `Unconfined`.
        kind: String = "type",
    }

    /// `seLinuxOptions`.
    pub struct SeLinuxOptions {
        /// The user part.
        user: String = "user",
        /// The role part.
        role: String = "role",
        /// The type part.
        kind: String = "type",
    }

    /// `windowsOptions`.
    pub struct WindowsOptions {
        /// A process of the host.
        host_process: bool = "hostProcess",
    }

    /// `capabilities`, as they are spelled.
    pub struct Capabilities {
        /// What is added.
        add: Vec<String> = "add",
        /// What is taken away.
        drop: Vec<String> = "drop",
    }

    /// One of `sysctls`.
    pub struct Sysctl {
        /// Its name, as it is spelled.
        name: String = "name",
    }

    /// One of `ports`.
    pub struct Port {
        /// The host's port; 0 is none.
        host_port: i32 = "hostPort",
    }

    /// A probe, or a handler of a lifecycle.
    pub struct Handler {
        /// A request by HTTP.
        http_get: Call = "httpGet",
        /// A TCP connection.
        tcp_socket: Call = "tcpSocket",
    }

    /// Whom a [`Handler`] calls.
    pub struct Call {
        /// Empty is the pod itself.
        host: String = "host",
    }

    /// `lifecycle`.
    pub struct Lifecycle {
        /// After the start.
        post_start: Handler = "postStart",
        /// Before the stop.
        pre_stop: Handler = "preStop",
    }

    /// One of `volumeMounts`.
    pub struct VolumeMount {
        /// The volume's name.
        name: String = "name",
        /// Where the container sees it.
        mount_path: String = "mountPath",
    }

    /// One of `volumeDevices`.
    pub struct VolumeDevice {
        /// The volume's name.
        name: String = "name",
        /// Where the container finds the device.
        device_path: String = "devicePath",
    }
}

/// One of `volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The keys of its sources: one, or none, or what a newer API knows and this program does not.
    pub sources: Vec<String>,
}

impl Volume {
    /// Whether it has this source.
    #[must_use]
    pub fn has(&self, source: &str) -> bool {
        self.sources.iter().any(|own| own == source)
    }
}

/// Annotations by key.
pub type Annotations = BTreeMap<String, String>;

/// The annotations that name a container's AppArmor profile begin with this, and end with the container's name.
pub const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// The annotation that named the pod's seccomp profile.
pub const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// The annotations that named a container's seccomp profile began with this.
pub const SECCOMP_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Whether the standard reads an annotation.
#[must_use]
pub fn is_read(annotation: &str) -> bool {
    annotation == SECCOMP_POD_ANNOTATION
        || [APPARMOR_ANNOTATION, SECCOMP_ANNOTATION].iter().any(|prefix| annotation.starts_with(prefix))
}

impl From<Manifest> for Pod {
    fn from(manifest: Manifest) -> Self {
        Self { annotations: manifest.metadata.annotations, spec: manifest.spec }
    }
}

/// Which of a pod's lists a container is in, in the order in which upstream visits them (`policy/visitor.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `spec.initContainers`.
    Init,
    /// `spec.containers`.
    Regular,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

impl Kind {
    /// All kinds, in upstream's order.
    pub const ALL: [Self; 3] = [Self::Init, Self::Regular, Self::Ephemeral];

    /// The field of the pod's specification.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Regular => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// What a pod mounts somewhere in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// Nothing.
    Nothing,
    /// A persistent volume claim, once.
    Claim,
    /// Something else, or several things.
    Other,
}

impl Pod {
    /// The container of this name, in whichever list.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Container> {
        Kind::ALL.iter().flat_map(|kind| self.spec.list(*kind)).find(|container| container.name == name)
    }

    /// The names of all containers.
    pub fn container_names(&self) -> impl Iterator<Item = &String> {
        Kind::ALL.iter().flat_map(|kind| self.spec.list(*kind)).map(|container| &container.name)
    }

    /// The pod as it would be with the container of this name alone, and with the volumes that it uses.
    #[must_use]
    pub fn alone(&self, name: &str) -> Option<Self> {
        let container = self.container(name)?;
        let mounts = container.volume_mounts.iter().map(|mount| &mount.name);
        let used: Vec<&String> =
            mounts.chain(container.volume_devices.iter().map(|device| &device.name)).collect();
        let mut alone = self.clone();
        alone.spec.volumes.retain(|volume| used.contains(&&volume.name));
        for list in [
            &mut alone.spec.init_containers,
            &mut alone.spec.containers,
            &mut alone.spec.ephemeral_containers,
        ] {
            list.retain(|container| container.name == name);
        }
        Some(alone)
    }

    /// What a container mounts at a path. The kubelet passes paths on as they are written, and engines clean them.
    pub(crate) fn mounted(&self, container: &Container, destination: &str) -> Mounted {
        let mounts = container.volume_mounts.iter();
        self.is_at(destination, mounts.map(|mount| (mount.mount_path.as_str(), mount.name.as_str())))
    }

    /// The same of its devices: a claim with `volumeMode: Block` is one.
    pub(crate) fn device(&self, container: &Container, destination: &str) -> Mounted {
        let devices = container.volume_devices.iter();
        self.is_at(destination, devices.map(|device| (device.device_path.as_str(), device.name.as_str())))
    }

    fn is_at<'p>(&self, destination: &str, places: impl Iterator<Item = (&'p str, &'p str)>) -> Mounted {
        fn parts(path: &str) -> impl Iterator<Item = &str> {
            path.split('/').filter(|part| !part.is_empty() && *part != ".")
        }
        let mut here = places.filter(|(path, _)| parts(path).eq(parts(destination)));
        let Some((_, name)) = here.next() else { return Mounted::Nothing };
        let mut volumes = self.spec.volumes.iter().filter(|volume| volume.name == name);
        let claim = |volume: &Volume| {
            volume.sources.len() == 1 && (volume.has("persistentVolumeClaim") || volume.has("ephemeral"))
        };
        match (here.next(), volumes.next(), volumes.next()) {
            (None, Some(volume), None) if claim(volume) => Mounted::Claim,
            _ => Mounted::Other,
        }
    }
}

impl PodSpec {
    /// The containers of one list.
    #[must_use]
    pub fn list(&self, kind: Kind) -> &[Container] {
        match kind {
            Kind::Init => &self.init_containers,
            Kind::Regular => &self.containers,
            Kind::Ephemeral => &self.ephemeral_containers,
        }
    }

    /// Upstream's relaxation for Windows, from v1.25.
    pub(crate) fn is_windows(&self) -> bool {
        self.os.name == "windows"
    }

    /// Upstream's relaxation for user namespaces, from v1.35 (`policy/helpers.go`).
    pub(crate) fn has_own_users(&self) -> bool {
        self.host_users == Some(false)
    }
}

/// What a pod and a container can both ask for.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'p> {
    pub(crate) seccomp_profile: Option<&'p Profile>,
    pub(crate) app_armor_profile: Option<&'p Profile>,
    pub(crate) se_linux_options: &'p SeLinuxOptions,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) host_process: bool,
}

impl PodSecurityContext {
    pub(crate) fn shared(&self) -> Shared<'_> {
        Shared {
            seccomp_profile: self.seccomp_profile.as_ref(),
            app_armor_profile: self.app_armor_profile.as_ref(),
            se_linux_options: &self.se_linux_options,
            run_as_user: self.run_as_user,
            run_as_non_root: self.run_as_non_root,
            host_process: self.windows_options.host_process,
        }
    }
}

impl SecurityContext {
    pub(crate) fn shared(&self) -> Shared<'_> {
        Shared {
            seccomp_profile: self.seccomp_profile.as_ref(),
            app_armor_profile: self.app_armor_profile.as_ref(),
            se_linux_options: &self.se_linux_options,
            run_as_user: self.run_as_user,
            run_as_non_root: self.run_as_non_root,
            host_process: self.windows_options.host_process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Container, Kind, Pod, VolumeDevice, is_read};
    use crate::testing::{compliant_pod, pod_with};

    fn three() -> Pod {
        pod_with(|spec| {
            spec.ephemeral_containers.push(Container { name: "debug".into(), ..Container::default() });
            spec.containers[1].volume_mounts.clear();
            spec.containers[1].volume_devices =
                vec![VolumeDevice { name: "tmp".into(), device_path: "/dev/x".into() }];
        })
    }

    #[test]
    fn containers_are_found_in_every_list_in_upstreams_order() {
        let pod = three();
        assert!(pod.container_names().eq(["init", "app", "sidecar", "debug"]));
        for (name, kind, field) in [
            ("init", Kind::Init, "initContainers"),
            ("app", Kind::Regular, "containers"),
            ("sidecar", Kind::Regular, "containers"),
            ("debug", Kind::Ephemeral, "ephemeralContainers"),
        ] {
            assert_eq!(kind.field(), field);
            let found = pod.container(name).unwrap();
            assert_eq!(found.name, name);
            assert!(pod.spec.list(kind).contains(found), "{name}");
        }
        assert!(pod.container("other").is_none() && Pod::default().container("").is_none());
    }

    #[test]
    fn a_container_alone_keeps_the_pods_fields_and_the_volumes_that_it_uses() {
        let pod = three();
        for (name, volumes) in
            [("init", &["data"][..]), ("app", &["data"]), ("sidecar", &["tmp"]), ("debug", &[])]
        {
            let alone = pod.alone(name).unwrap();
            assert!(alone.container_names().eq([name]), "{alone:?}");
            assert_eq!(alone.container(name), pod.container(name));
            assert!(alone.spec.volumes.iter().map(|volume| volume.name.as_str()).eq(volumes.iter().copied()));
            assert_eq!(alone.spec.security_context, compliant_pod().spec.security_context);
        }
        assert_eq!(pod.alone("other"), None);
    }

    #[test]
    fn the_standard_reads_the_annotations_that_were_fields_and_no_others() {
        for (key, expected) in [
            ("container.apparmor.security.beta.kubernetes.io/app", true),
            ("seccomp.security.alpha.kubernetes.io/pod", true),
            ("container.seccomp.security.alpha.kubernetes.io/app", true),
            ("seccomp.security.alpha.kubernetes.io/pods", false),
            ("apparmor.security.beta.kubernetes.io/app", false),
            ("", false),
        ] {
            assert_eq!(is_read(key), expected, "{key}");
        }
    }

    #[test]
    fn users_of_its_own_and_windows_are_asked_for_by_name() {
        for (host_users, own) in [(None, false), (Some(true), false), (Some(false), true)] {
            assert_eq!(pod_with(|spec| spec.host_users = host_users).spec.has_own_users(), own);
        }
        for (os, windows) in [("", false), ("linux", false), ("windows", true), ("Windows", false)] {
            assert_eq!(pod_with(|spec| spec.os.name = os.into()).spec.is_windows(), windows, "{os}");
        }
    }
}
