//! A tolerant view of the OCI runtime spec: the fields that controls need, borrowed from
//! the file's bytes.
//!
//! The types of `oci-spec` are the oracle in the tests and not used here: they fail the whole file for a namespace type or
//! a capability of tomorrow, read containerd's `CAP_CAP_CHOWN` as `CHOWN`, and take three times as long.
//!
//! Tolerant of what is new: an unknown field, capability or mount option never fails the parse. Strict where two
//! readers could disagree: Go's `encoding/json` (runc) matches keys without regard to case and lets the last of two
//! equal keys win, crun's parser does neither. A key that is ambiguous in this sense is an error, because the runtime
//! might read another container than the one that was evaluated. So is a string with a zero byte, where C ends it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{Read, Reader};
use pss::capabilities::CapabilitySet;

/// A JSON string, borrowed unless it has escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    /// The string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            // What has an escape, without which JSON has no zero byte.
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                if text.contains('\0') {
                    return Err(E::custom(format_args!(
                        "zero byte in {text:?}: to crun the string ends there"
                    )));
                }
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl Text<'_> {
    /// The same, on its own.
    fn own(&self) -> Text<'static> {
        Text(Cow::Owned(self.as_str().to_owned()))
    }
}

/// Whether another JSON reader could take a key for one of ours.
fn is_ambiguous(key: &str, known: &[&str]) -> bool {
    // Go also folds a few letters outside ASCII (U+017F to s, U+212A to k); no engine writes such keys here.
    !key.is_ascii() || known.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// Declares a JSON object as a struct of optional fields. `null` is absence, as in Go.
macro_rules! view {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $key:literal => $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name<'a> {
            $($(#[$field_doc])* pub $field: Option<$type>,)*
            /// Ties the lifetime down for views that borrow nothing.
            pub borrows: PhantomData<&'a ()>,
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor<'a>(PhantomData<&'a ()>);
                impl<'de: 'a, 'a> Visitor<'de> for ObjectVisitor<'a> {
                    type Value = $name<'a>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name<'a>, A::Error> {
                        let mut object = $name::default();
                        // Beside the object: a key that was there as `null` was there, and crun takes the first.
                        $(let mut $field = false;)*
                        while let Some(key) = map.next_key::<Text<'de>>()? {
                            match key.as_str() {
                                $($key => {
                                    if std::mem::replace(&mut $field, true) {
                                        return Err(A::Error::duplicate_field($key));
                                    }
                                    object.$field = map.next_value()?;
                                })*
                                other if is_ambiguous(other, &[$($key),*]) => {
                                    let what = format_args!(
                                        "ambiguous key {other:?}: runtimes disagree on what it means"
                                    );
                                    return Err(A::Error::custom(what));
                                }
                                _ => {
                                    map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(ObjectVisitor(PhantomData))
            }
        }

        impl<'a> Read<'a> for $name<'a> {
            fn read(reader: &mut Reader<'a>) -> Option<Self> {
                let mut object = Self::default();
                $(let mut $field = false;)*
                reader.object(&mut |reader, key| {
                    match key.as_str() {
                        $($key if std::mem::replace(&mut $field, true) => return None,
                        $key => object.$field = Read::read(reader)?,)*
                        other if is_ambiguous(other, &[$($key),*]) => return None,
                        _ => reader.skip()?,
                    }
                    Some(())
                })?;
                Some(object)
            }
        }
    };
}

view! {
    /// The OCI state that a runtime gives its hooks on standard input.
    State {
        /// The container's id.
        "id" => id: Text<'a>,
        /// The container's first process, as the runtime sees it; 0 where there is none.
        "pid" => pid: i32,
        /// How far the container is.
        "status" => status: Text<'a>,
        /// The directory that holds config.json.
        "bundle" => bundle: Text<'a>,
    }
}

view! {
    /// config.json.
    Spec {
        /// The annotations that [`Annotations`] keeps.
        "annotations" => annotations: Annotations<'a>,
        /// The process to start.
        "process" => process: Process<'a>,
        /// The root file system.
        "root" => root: Root<'a>,
        /// The mounts, in order.
        "mounts" => mounts: Mounts<'a>,
        /// Everything that only Linux has.
        "linux" => linux: Linux<'a>,
        /// The programs that the runtime calls on the way.
        "hooks" => hooks: Hooks<'a>,
        /// What only a virtual machine has.
        "vm" => vm: IgnoredAny,
        /// What only Windows has.
        "windows" => windows: IgnoredAny,
        /// What only Solaris has.
        "solaris" => solaris: IgnoredAny,
        /// What only z/OS has.
        "zos" => zos: IgnoredAny,
        /// What only FreeBSD has.
        "freebsd" => freebsd: IgnoredAny,
    }
}

impl Spec<'_> {
    /// What counts for the containers of the pod whose sandbox this is, on its own. Whatever is asked of a container's
    /// sandbox must be here: a test compares the two.
    #[must_use]
    pub fn of_pod(&self) -> Spec<'static> {
        let own = |list: &Vec<Text<'_>>| list.iter().map(Text::own).collect();
        let entry = |entry: &Namespace<'_>| Namespace {
            kind: entry.kind.as_ref().map(Text::own),
            path: entry.path.as_ref().map(Text::own),
            borrows: PhantomData,
        };
        let pair = |(key, value): &(Text<'_>, Text<'_>)| (key.own(), value.own());
        Spec {
            annotations: self.annotations.as_ref().map(|all| Annotations(all.0.iter().map(pair).collect())),
            process: self.process.as_ref().map(|process| Process {
                capabilities: process.capabilities.as_ref().map(|sets| CapabilitySets {
                    bounding: sets.bounding.as_ref().map(own),
                    ..CapabilitySets::default()
                }),
                ..Process::default()
            }),
            linux: self.linux.as_ref().map(|linux| Linux {
                namespaces: linux.namespaces.as_ref().map(|list| list.iter().map(entry).collect()),
                sysctl: linux.sysctl.as_ref().map(|keys| Keys(keys.0.iter().map(Text::own).collect())),
                cgroups_path: linux.cgroups_path.as_ref().map(Text::own),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }
}

view! {
    /// `process`.
    #[derive(Clone)]
    Process {
        /// The user.
        "user" => user: User<'a>,
        /// The capability sets.
        "capabilities" => capabilities: CapabilitySets<'a>,
        /// `no_new_privs`.
        "noNewPrivileges" => no_new_privileges: bool,
        /// The AppArmor profile's name.
        "apparmorProfile" => apparmor_profile: Text<'a>,
        /// The SELinux label.
        "selinuxLabel" => selinux_label: Text<'a>,
    }
}

view! {
    /// `process.user`.
    #[derive(Clone)]
    User {
        /// The numeric user; engines resolve names before they write the file.
        "uid" => uid: u32,
    }
}

view! {
    /// `process.capabilities`.
    #[derive(Clone)]
    CapabilitySets {
        /// What the process can ever get.
        "bounding" => bounding: Vec<Text<'a>>,
        /// What it has.
        "effective" => effective: Vec<Text<'a>>,
        /// What it may switch on.
        "permitted" => permitted: Vec<Text<'a>>,
        /// What survives execve of a file that asks for it.
        "inheritable" => inheritable: Vec<Text<'a>>,
        /// What survives any execve.
        "ambient" => ambient: Vec<Text<'a>>,
    }
}

impl<'a> CapabilitySets<'a> {
    /// The names in all sets.
    #[must_use]
    pub fn names(&self) -> Vec<Text<'a>> {
        let sets = [&self.bounding, &self.effective, &self.permitted, &self.inheritable, &self.ambient];
        sets.into_iter().flatten().flatten().cloned().collect()
    }

    /// The bounding set.
    #[must_use]
    pub fn bounding_set(&self) -> CapabilitySet<'_> {
        collect(&[&self.bounding])
    }

    /// The union of all sets.
    #[must_use]
    pub fn union(&self) -> CapabilitySet<'_> {
        collect(&[&self.bounding, &self.effective, &self.permitted, &self.inheritable, &self.ambient])
    }
}

fn collect<'s>(sets: &[&'s Option<Vec<Text<'_>>>]) -> CapabilitySet<'s> {
    let mut all = CapabilitySet::default();
    for name in sets.iter().filter_map(|set| set.as_ref()).flatten() {
        all.insert(name.as_str());
    }
    all
}

view! {
    /// `root`.
    Root {
        /// The directory that becomes the container's root.
        "path" => path: Text<'a>,
        /// The root file system is mounted read-only.
        "readonly" => read_only: bool,
    }
}

/// `mounts`: as many as a kernel lets one container have (`fs.mount-max`, 100,000) and no more. An empty mount takes
/// three bytes of the file and fifty times as much of memory.
#[derive(Debug, Default)]
pub struct Mounts<'a>(Vec<Mount<'a>>);

const MOST_MOUNTS: usize = 100_000;

impl<'a> std::ops::Deref for Mounts<'a> {
    type Target = [Mount<'a>];
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Mounts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MountsVisitor;
        impl<'de> Visitor<'de> for MountsVisitor {
            type Value = Mounts<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of mounts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Mounts<'de>, A::Error> {
                let mut mounts = Vec::new();
                while let Some(mount) = seq.next_element()? {
                    if mounts.len() == MOST_MOUNTS {
                        return Err(A::Error::custom(format_args!("more than {MOST_MOUNTS} mounts")));
                    }
                    mounts.push(mount);
                }
                Ok(Mounts(mounts))
            }
        }
        deserializer.deserialize_seq(MountsVisitor)
    }
}

impl<'a> Read<'a> for Mounts<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut mounts = Vec::new();
        reader.array(&mut |reader| {
            (mounts.len() < MOST_MOUNTS).then_some(())?;
            Read::read(reader).map(|mount| mounts.push(mount))
        })?;
        Some(Self(mounts))
    }
}

view! {
    /// One of `mounts`.
    Mount {
        /// Where the container sees it.
        "destination" => destination: Text<'a>,
        /// The file system's type.
        "type" => kind: Text<'a>,
        /// What is mounted.
        "source" => source: Text<'a>,
        /// Mount options.
        "options" => options: Vec<Text<'a>>,
    }
}

impl Mount<'_> {
    /// Whether it cannot be written: of `ro` and `rw` the last one counts.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let mut options = self.options.iter().flatten().map(Text::as_str);
        options.rfind(|option| matches!(*option, "ro" | "rw")) == Some("ro")
    }

    /// Whether an option is set.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().flatten().any(|o| o.as_str() == option)
    }

    /// Whether runtimes bind the source: by type or by option, whichever is there (runc `libcontainer/specconv`
    /// createLibcontainerMount, crun `libcrun/linux.c` do_mounts).
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.kind() == "bind" || self.has("bind") || self.has("rbind")
    }

    /// The type; empty where there is none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.kind.as_ref().map_or("", Text::as_str)
    }

    /// The source; empty where there is none.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.as_ref().map_or("", Text::as_str)
    }

    /// The destination; empty where there is none.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.destination.as_ref().map_or("", Text::as_str)
    }
}

view! {
    /// `linux`.
    Linux {
        /// New namespaces, and existing ones to join.
        "namespaces" => namespaces: Vec<Namespace<'a>>,
        /// Paths hidden from the container.
        "maskedPaths" => masked_paths: Vec<Text<'a>>,
        /// Paths the container cannot write.
        "readonlyPaths" => readonly_paths: Vec<Text<'a>>,
        /// The system call filter.
        "seccomp" => seccomp: Seccomp<'a>,
        /// Kernel parameters, by name.
        "sysctl" => sysctl: Keys<'a>,
        /// How the container's users map to the host's.
        "uidMappings" => uid_mappings: Vec<Mapping<'a>>,
        /// The cgroup; engines put the container's id into its last part.
        "cgroupsPath" => cgroups_path: Text<'a>,
        /// Device nodes to make.
        "devices" => devices: Vec<Device<'a>>,
        /// Limits.
        "resources" => resources: Resources<'a>,
        /// Where mounts appear that are made inside.
        "rootfsPropagation" => rootfs_propagation: Text<'a>,
        /// The host's network devices that move into the container, by name.
        "netDevices" => net_devices: Keys<'a>,
    }
}

view! {
    /// One of `linux.namespaces`.
    Namespace {
        /// `pid`, `network`, `ipc`, `uts`, `mount`, `user`, `cgroup`, `time`.
        "type" => kind: Text<'a>,
        /// An existing namespace to join; a new one without.
        "path" => path: Text<'a>,
    }
}

view! {
    /// One of `linux.uidMappings`.
    Mapping {
        /// The first user in the container.
        "containerID" => container: u32,
        /// The first user on the host.
        "hostID" => host: u32,
        /// How many.
        "size" => size: u32,
    }
}

view! {
    /// One of `linux.devices`.
    Device {
        /// Where the container sees it.
        "path" => path: Text<'a>,
        /// `b`, `c`, `u` or `p`.
        "type" => kind: Text<'a>,
        /// The driver.
        "major" => major: i64,
        /// The device.
        "minor" => minor: i64,
    }
}

view! {
    /// `linux.resources`.
    Resources {
        /// Which devices may be used, whoever makes the node; of two rules for one device the last counts.
        "devices" => devices: Vec<DeviceRule<'a>>,
    }
}

view! {
    /// One of `linux.resources.devices`. What is absent, or -1, means all.
    DeviceRule {
        /// Allow or deny.
        "allow" => allow: bool,
        /// `a`, `b` or `c`.
        "type" => kind: Text<'a>,
        /// The driver.
        "major" => major: i64,
        /// The device.
        "minor" => minor: i64,
        /// Letters of `rwm`.
        "access" => access: Text<'a>,
    }
}

view! {
    /// `hooks`, by the moment at which the runtime calls them.
    Hooks {
        /// Before `createRuntime`, deprecated.
        "prestart" => prestart: Vec<Hook<'a>>,
        /// In the runtime's namespaces.
        "createRuntime" => create_runtime: Vec<Hook<'a>>,
        /// In the container's, with the host's files.
        "createContainer" => create_container: Vec<Hook<'a>>,
        /// In the container.
        "startContainer" => start_container: Vec<Hook<'a>>,
        /// When it runs.
        "poststart" => poststart: Vec<Hook<'a>>,
        /// When it is gone.
        "poststop" => poststop: Vec<Hook<'a>>,
    }
}

impl<'a> Hooks<'a> {
    /// Every hook with its moment.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Hook<'a>)> {
        let stages = [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ];
        stages.into_iter().flat_map(|(stage, hooks)| hooks.iter().flatten().map(move |hook| (stage, hook)))
    }
}

view! {
    /// One of `hooks`.
    Hook {
        /// The program, on the host.
        "path" => path: Text<'a>,
        /// Its arguments, the first of which is its name.
        "args" => args: Vec<Text<'a>>,
        /// Its environment.
        "env" => env: Vec<Text<'a>>,
    }
}

impl Hook<'_> {
    /// The program; empty where there is none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_ref().map_or("", Text::as_str)
    }

    /// The arguments.
    pub fn args(&self) -> impl Iterator<Item = &str> + Clone {
        self.args.iter().flatten().map(Text::as_str)
    }

    /// The environment.
    pub fn env(&self) -> impl Iterator<Item = &str> + Clone {
        self.env.iter().flatten().map(Text::as_str)
    }
}

view! {
    /// `linux.seccomp`.
    Seccomp {
        /// What happens to a call that no rule names.
        "defaultAction" => default_action: Text<'a>,
        /// The rules.
        "syscalls" => rules: Vec<Rule<'a>>,
    }
}

view! {
    /// One of `linux.seccomp.syscalls`.
    Rule {
        /// What happens to the calls that it names.
        "action" => action: Text<'a>,
    }
}

impl Seccomp<'_> {
    /// Whether no call is ever refused: what `SCMP_ACT_LOG` does is said in the kernel's log and done.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        let lets_through = |action: &Option<Text<'_>>| {
            action.as_ref().is_some_and(|a| matches!(a.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG"))
        };
        lets_through(&self.default_action)
            && self.rules.iter().flatten().all(|rule| lets_through(&rule.action))
    }
}

/// The keys of an object, in order.
#[derive(Debug, Default)]
pub struct Keys<'a>(pub Vec<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Keys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys<'de>, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key()? {
                    keys.push(key);
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

impl<'a> Read<'a> for Keys<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut keys = Vec::new();
        reader.object(&mut |reader, key| {
            keys.push(key);
            reader.skip()
        })?;
        Some(Self(keys))
    }
}

/// With it crun passes over `linux.seccomp`, and gives the kernel the program in it (crun(1)).
pub(crate) const SECCOMP_OF_CRUN: &str = "run.oci.seccomp_bpf_data";

/// Where crun lets hooks write (crun(1)): a file of the host, opened by the runtime before it calls the gate.
const OUTPUT_OF_HOOKS: &str = "run.oci.hooks.";

/// What begins the annotations on which runtimes act, as root. Each runtime names its own
/// (`potentiallyUnsafeConfigAnnotations` of `runc features` since 1.2 and `crun features` since 1.15: runc `features.go`,
/// crun `src/libcrun/container.c`); crun reads `org.systemd.property.` without naming it (`cgroup-systemd.c`).
/// `io.kubernetes.cri.container-type`, which crun names, is containerd's own.
const ORDERS: [&str; 4] = ["org.systemd.property.", "run.oci.", "org.criu.", "module.wasm."];

/// runc notes the bundle among the annotations, under this key.
const BUNDLE: &str = "bundle";

/// Whether a runtime acts on an annotation.
fn is_order(key: &str) -> bool {
    key == BUNDLE || ORDERS.iter().any(|order| key.starts_with(order))
}

/// What engines write themselves, and what does no harm whoever wrote it: how systemd stops a container's scope and when
/// it forgets it (CRI-O `internal/factory/container/container.go` SpecAddAnnotations and, before 1.3x, CollectMode;
/// podman `libpod/container_internal_common.go` generateSpec), and the SELinux context of tmpfs (podman
/// `pkg/specgenutil/specgen.go`).
fn is_engines_order(key: &str, value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match key {
        "org.systemd.property.CollectMode" => value == "'inactive-or-failed'",
        "org.systemd.property.DefaultDependencies" => value == "true",
        "org.systemd.property.After" => value == "['crio.service']",
        "org.systemd.property.TimeoutStopUSec" => value.strip_prefix("uint64 ").is_some_and(is_number),
        "org.systemd.property.KillSignal" => is_number(value),
        "run.oci.mount_context_type" => value == "rootcontext",
        _ => false,
    }
}

/// With it a runtime lets CRIU take its options from a file, which overrules the runtime's own (runc
/// `libcontainer/criu_linux.go` handleCriuConfigurationFile, crun `libcrun/criu.c` handle_criu_config_file).
pub(crate) const OPTIONS_OF_CRIU: &str = "org.criu.config";

/// The annotations that somebody here reads; engines write many more, some of them large.
#[derive(Debug, Default)]
pub struct Annotations<'a>(Vec<(Text<'a>, Text<'a>)>);

impl Annotations<'_> {
    /// The value of a key. Of two equal keys the last one counts, as for every runtime that reads them into a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k.as_str() == key).map(|(_, value)| value.as_str())
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k.as_str() != key);
    }

    /// The one by which a container would tell crun where the gate's own output goes.
    #[must_use]
    pub fn output_of_hooks(&self) -> Option<&str> {
        self.0.iter().map(|(key, _)| key.as_str()).find(|key| key.starts_with(OUTPUT_OF_HOOKS))
    }

    /// Those on which a runtime acts, and which no engine writes of its own. Without the one that replaces the system
    /// call filter: that is a finding of its own.
    pub fn orders(&self) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let asked = pairs
            .filter(|(key, value)| is_order(key) && *key != SECCOMP_OF_CRUN && !is_engines_order(key, value));
        asked.map(|(key, _)| key)
    }

    /// Whether somebody here reads the key.
    fn keeps(key: &str) -> bool {
        let Some(rest) = key.strip_prefix("io.kubernetes.") else {
            return key.starts_with("pod-security.kubernetes.io/")
                || key == "io.container.manager"
                || key == "userns-mode.crio.io"
                || is_order(key);
        };
        // Of CRI-O's many keys only these; its copies of labels and volumes are long.
        let cri_o = ["Annotations", "ContainerID", "ContainerType", "ImageName", "SandboxID", "userns-mode"];
        match rest.strip_prefix("cri-o.") {
            Some(cri_o_key) => cri_o.contains(&cri_o_key),
            None => rest.starts_with("cri.") || rest.starts_with("pod.") || rest.starts_with("container."),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnnotationsVisitor;
        impl<'de> Visitor<'de> for AnnotationsVisitor {
            type Value = Annotations<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations<'de>, A::Error> {
                let mut kept = Vec::new();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if Annotations::keeps(key.as_str()) {
                        kept.push((key, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Annotations(kept))
            }
        }
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

impl<'a> Read<'a> for Annotations<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut kept = Vec::new();
        reader.object(&mut |reader, key| {
            if !Annotations::keeps(key.as_str()) {
                return reader.skip();
            }
            Read::read(reader).map(|value| kept.push((key, value)))
        })?;
        Some(Self(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::Spec;

    fn parse(text: &str) -> Result<Spec<'_>, String> {
        serde_json::from_str(text).map_err(|err| err.to_string())
    }

    #[test]
    fn no_string_and_no_key_ends_before_its_end() {
        for text in [
            r#"{"mounts":[{"type":"tmpfs","source":"/etc","options":["rbind\u0000"]}]}"#,
            r#"{"mounts":[{"type":"bind\u0000x","source":"/etc"}]}"#,
            r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW\u0000"}}}"#,
            r#"{"linux\u0000":{},"linux":{}}"#,
            r#"{"annotations":{"run.oci.keep_original_groups\u0000":"1"}}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("zero byte"), "{text}");
        }
        // What is not read may be what it likes, a pod's own annotation for one.
        parse(r#"{"annotations":{"mine":"a\u0000b"},"hostname":"\u0000"}"#).unwrap();
    }

    #[test]
    fn what_is_new_does_not_fail_the_parse() {
        let rows = [
            r#"{"process":{"capabilities":{"bounding":["CAP_FROM_THE_FUTURE"]}}}"#,
            r#"{"linux":{"namespaces":[{"type":"dream"}],"newThing":[[[{}]]]}}"#,
            r#"{"mounts":[{"destination":"/x","options":["shiny"],"uidMappings":[]}],"zos":{}}"#,
            r#"{"process":null,"linux":{"seccomp":null,"maskedPaths":null},"mounts":null}"#,
        ];
        for row in rows {
            parse(row).unwrap_or_else(|err| panic!("{row}: {err}"));
        }
    }

    #[test]
    fn a_key_that_two_readers_could_take_differently_is_an_error() {
        let rows = [
            (r#"{"linux":{},"Linux":{}}"#, "ambiguous key \"Linux\""),
            (r#"{"process":{"noNewPrivileges":true,"nonewprivileges":false}}"#, "ambiguous key"),
            (r#"{"proce\u017f\u017f":{}}"#, "ambiguous key"),
            (r#"{"process":{"user":{"uid":1000}},"process":{}}"#, "duplicate field `process`"),
            (r#"{"root":{"readonly":true,"readonly":false}}"#, "duplicate field `readonly`"),
            // runc reads true, crun reads nothing: it takes the first of two.
            (
                r#"{"process":{"noNewPrivileges":null,"noNewPrivileges":true}}"#,
                "duplicate field `noNewPrivileges`",
            ),
            (r#"{"process":{"user":null,"user":{"uid":1000}}}"#, "duplicate field `user`"),
        ];
        for (row, expected) in rows {
            let err = parse(row).expect_err(row);
            assert!(err.contains(expected), "{row}: {err}");
        }
    }

    #[test]
    fn a_wrong_type_is_an_error_and_never_an_absence() {
        let rows = [
            "[]",
            r#"{"process":{"user":{"uid":"0"}}}"#,
            r#"{"process":{"user":{"uid":-1}}}"#,
            r#"{"process":{"user":{"uid":4294967296}}}"#,
            r#"{"process":{"noNewPrivileges":1}}"#,
            r#"{"process":{"capabilities":[]}}"#,
            r#"{"linux":{"namespaces":{}}}"#,
            r#"{"mounts":[null]}"#,
            r#"{"annotations":{"io.container.manager":7}}"#,
        ];
        for row in rows {
            parse(row).expect_err(row);
        }
    }

    #[test]
    fn strings_are_borrowed_unless_they_have_escapes() {
        let spec = parse(
            r#"{"annotations":{"io.container.manager":"cri-o","io.kubernetes.pod.name":"a\u002fb","x":"y"}}"#,
        )
        .unwrap();
        let annotations = spec.annotations.unwrap();
        assert_eq!(annotations.get("io.container.manager"), Some("cri-o"));
        assert_eq!(annotations.get("io.kubernetes.pod.name"), Some("a/b"));
        assert_eq!(annotations.get("x"), None, "nobody reads it");
    }

    #[test]
    fn bind_mounts_are_known_by_type_or_by_option() {
        let spec = parse(
            r#"{"mounts":[{"type":"bind"},{"options":["rbind"]},{"type":"none","options":["bind"]},{"type":"tmpfs"}]}"#,
        )
        .unwrap();
        let binds: Vec<_> = spec.mounts.unwrap().iter().map(super::Mount::is_bind).collect();
        assert_eq!(binds, [true, true, true, false]);
    }

    #[test]
    fn a_filter_that_refuses_nothing_is_none() {
        let rows = [
            (r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, true),
            (r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[]}"#, true),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#,
                true,
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"action":"SCMP_ACT_LOG"},{"action":"SCMP_ACT_ERRNO"}]}"#,
                false,
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}"#,
                false,
            ),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"]}]}"#, false),
            (r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#, false),
            ("{}", false),
        ];
        for (seccomp, expected) in rows {
            let text = format!(r#"{{"linux":{{"seccomp":{seccomp}}}}}"#);
            let spec = parse(&text).unwrap();
            assert_eq!(spec.linux.unwrap().seccomp.unwrap().allows_all(), expected, "{seccomp}");
        }
    }
}
