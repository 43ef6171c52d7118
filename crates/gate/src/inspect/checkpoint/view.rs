//! Writes what the images would restore into the spec, so that every control sees that instead of config.json.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use super::CheckpointError;
use super::images::Mount;
use super::tasks::{Filtered, Restored};
use crate::inspect::COPY_OF_CRI_O;
use crate::inspect::spec::{self, CapabilitySets, OPTIONS_OF_CRIU, Process, Seccomp, Spec, Text, User};
use pss::capabilities::NAMES;
use pss::facts::Engine;

impl Restored {
    /// Makes of a spec what the container would be.
    pub fn apply(
        &self,
        spec: &mut Spec<'_>,
        engine: Engine,
        lsm_profile: Option<&OsStr>,
    ) -> Result<(), CheckpointError> {
        let annotation = spec.annotations.as_ref().and_then(|annotations| annotations.get(OPTIONS_OF_CRIU));
        if annotation.is_some_and(|file| !file.is_empty()) {
            return Err(CheckpointError::Options);
        }
        if let Some(annotations) = spec.annotations.as_mut().filter(|_| engine == Engine::CriO) {
            // CRI-O takes them from the checkpoint, all but a hash (`server/container_restore.go`): whoever made it could hide the
            // pod's host ports.
            annotations.remove(COPY_OF_CRI_O);
        }
        let mounts = Mounts::of(&self.mounts, spec)?;
        if let Some(root) = &mut spec.root {
            root.read_only = root.read_only.map(|read_only| read_only && mounts.root_read_only);
        }
        let process = spec.process.get_or_insert_default();
        self.credentials(process);
        self.labels(process, engine, lsm_profile)?;
        let Some(linux) = &mut spec.linux else { return Ok(()) };
        match self.filtered {
            Filtered::Yes => {}
            Filtered::Not => linux.seccomp = None,
            Filtered::ByNothing => {
                if let Some(seccomp) = &mut linux.seccomp {
                    let allow = Text(Cow::Borrowed("SCMP_ACT_ALLOW"));
                    *seccomp = Seccomp { default_action: Some(allow), ..Seccomp::default() };
                }
            }
        }
        if let Some(namespaces) = &mut linux.namespaces {
            let is_shared = |kind: &Text<'_>| self.shared.iter().any(|shared| *shared == kind.as_str());
            namespaces.retain(|namespace| !namespace.kind.as_ref().is_some_and(is_shared));
        }
        // What the kernel does not have needs no mount, and gets none.
        let is_missing = |path: &str| !Path::new(path).exists();
        if let Some(paths) = &mut linux.masked_paths {
            paths.retain(|path| mounts.hides(path.as_str()) || is_missing(path.as_str()));
        }
        if let Some(paths) = &mut linux.readonly_paths {
            paths.retain(|path| mounts.protects(path.as_str()) || is_missing(path.as_str()));
        }
        Ok(())
    }

    fn credentials(&self, process: &mut Process<'_>) {
        if self.root {
            process.user = Some(User { uid: Some(0), ..User::default() });
        }
        process.no_new_privileges =
            process.no_new_privileges.map(|no_new_privileges| no_new_privileges && self.no_new_privileges);
        let bits = (0..u64::BITS).filter(|bit| self.capabilities & 1 << bit != 0);
        let mut names = bits
            .map(|bit| {
                let known = NAMES.get(bit as usize);
                // As the kernel's own tools call what they have no name for.
                Text(known.map_or_else(|| Cow::Owned(format!("{bit}")), |name| Cow::Borrowed(*name)))
            })
            .peekable();
        if names.peek().is_some() {
            let sets = process.capabilities.get_or_insert_with(CapabilitySets::default);
            sets.bounding.get_or_insert_default().extend(names);
        }
    }

    /// What the tasks' LSM profiles would be: those of the image, all replaced by the one of `--lsm-profile`; but a task
    /// that has none gets none (`criu/cr-restore.c` rst_prep_creds_args) and stays what CRIU is.
    fn labels(
        &self,
        process: &mut Process<'_>,
        engine: Engine,
        lsm_profile: Option<&OsStr>,
    ) -> Result<(), CheckpointError> {
        let instead = lsm_profile.map(OsStr::to_string_lossy);
        let (kind, instead) = match instead.as_ref().map(|instead| instead.split_once(':')) {
            Some(Some((kind, profile))) => (kind, Some(profile)),
            Some(None) => ("", Some("")),
            None => ("", None),
        };
        let profiles = || {
            let image = self.profiles.iter().map(Option::as_deref);
            image.map(|own| own.map(|own| instead.unwrap_or(own)).filter(|profile| !profile.is_empty()))
        };
        let is_unconfined = |profile: Option<&str>| profile.is_none_or(is_unconfined);
        if kind == "none" || profiles().any(is_unconfined) {
            // How each engine writes it: `pss::controls`, appArmorProfile.
            let unconfined = || Text(Cow::Borrowed("unconfined"));
            process.apparmor_profile = (engine != Engine::Containerd).then(unconfined);
        }
        let config = process.selinux_label.as_ref().map_or("", Text::as_str).to_owned();
        // Without a label in config.json there is no SELinux, and profiles are AppArmor's.
        let is_label = |profile: &&str| profile.split(':').count() >= 3;
        let labels = profiles().map(Option::unwrap_or_default);
        let mut others = labels.filter(|label| !config.is_empty() || is_label(label));
        let Some(other) = others.find(|label| domain(label) != domain(&config)) else { return Ok(()) };
        // One is evaluated; both are set only where every control allows the other.
        let is_usual = config.is_empty() || domain(&config) == domain("system_u:system_r:container_t");
        if other.is_empty()
            || !is_usual
            || others.any(|label| ![domain(other), domain(&config)].contains(&domain(label)))
        {
            return Err(CheckpointError::Label { image: other.to_owned(), config });
        }
        process.selinux_label = Some(Text(Cow::Owned(other.to_owned())));
        Ok(())
    }
}

/// A label without its level, of which no control speaks: every pod has one of its own.
fn domain(label: &str) -> Vec<&str> {
    label.split(':').take(3).collect()
}

/// The mounts of the images, and which of config.json each of them is.
struct Mounts<'m> {
    roles: BTreeMap<&'m Path, Role<'m>>,
    root_read_only: bool,
}

/// Why a mount is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role<'m> {
    /// The root file system; CRIU binds the one that the runtime names.
    Root,
    /// What the runtime gives CRIU for this key: the source of a mount of config.json, a device, a cgroup, /dev/null. Of
    /// other keys CRIU knows nothing (`criu/mount.c` get_mp_root).
    External(&'m str),
    /// An empty file system that CRIU fills from the images.
    Tmpfs,
    /// A part of /proc or /sys that is only to be read.
    ReadOnlyPath,
    /// Another file system that config.json has as well.
    Own,
}

/// `fstype` of `images/mnt.proto`.
mod kind {
    pub(super) const PROC: u32 = 1;
    pub(super) const SYSFS: u32 = 2;
    pub(super) const TMPFS: u32 = 5;
    pub(super) const DEVPTS: u32 = 6;
    pub(super) const CGROUP: u32 = 12;
    pub(super) const MQUEUE: u32 = 14;
    pub(super) const CGROUP2: u32 = 23;
}

impl<'m> Mounts<'m> {
    /// Explains every mount by config.json, or fails: CRIU mounts whatever type with whatever options the image says
    /// (`criu/mount.c` do_new_mount), an overlay of the host's root as well, before it changes the root. A part of a file system
    /// is bound by its path, and links in it are followed from the host's root (do_bind_mount).
    fn of(mounts: &'m [Mount], spec: &Spec<'_>) -> Result<Self, CheckpointError> {
        let unexplained = |mount: &Mount| CheckpointError::Mount(mount.mountpoint.clone());
        let mut ids: BTreeMap<&Path, u32> = BTreeMap::new();
        // A mount that shares its device with one of these is bound from it, whatever its type (mounts_sb_equal).
        let mut foreign: Vec<u32> = Vec::new();
        for mount in mounts {
            if !is_clean(mount) || ids.insert(Path::new(&mount.mountpoint), mount.id).is_some() {
                return Err(unexplained(mount));
            }
            if mount.mountpoint == "/" || (key(mount).is_some() && !is_mask(mount)) {
                foreign.push(mount.device);
            }
        }
        let mut of = Self { roles: BTreeMap::new(), root_read_only: false };
        for mount in mounts {
            let place = Path::new(&mount.mountpoint);
            // Below another than the nearest it would be hidden by that one, and a mask would hide nothing.
            let mut above = place.ancestors().skip(1);
            if above.find_map(|above| ids.get(above)).is_some_and(|nearest| *nearest != mount.parent) {
                return Err(unexplained(mount));
            }
            let role = role(mount, spec)?.ok_or_else(|| unexplained(mount))?;
            if !matches!(role, Role::Root | Role::External(_)) && foreign.contains(&mount.device) {
                return Err(unexplained(mount));
            }
            if role == Role::Root {
                of.root_read_only = is_read_only(mount);
            }
            of.roles.insert(place, role);
        }
        // Two mounts of one number could each be the parent that the other seems to have.
        let unique: std::collections::BTreeSet<u32> = ids.values().copied().collect();
        match mounts.first() {
            Some(first) if unique.len() != mounts.len() => Err(unexplained(first)),
            _ if !ids.contains_key(Path::new("/")) => Err(CheckpointError::Mount("/".to_owned())),
            _ => Ok(of),
        }
    }

    /// Whether something hides the path: a tmpfs over a directory, /dev/null over a file (runc `libcontainer/rootfs_linux.go`
    /// maskPaths). runc's key for that is /dev/null, crun's the path.
    fn hides(&self, path: &str) -> bool {
        match self.roles.get(Path::new(path)) {
            Some(Role::Tmpfs) => true,
            Some(Role::External(key)) => *key == "/dev/null" || *key == path,
            _ => false,
        }
    }

    /// Whether the path is only to be read.
    fn protects(&self, path: &str) -> bool {
        self.roles.get(Path::new(path)) == Some(&Role::ReadOnlyPath) || self.hides(path)
    }
}

fn role<'m>(mount: &'m Mount, spec: &Spec<'_>) -> Result<Option<Role<'m>>, CheckpointError> {
    let place = mount.mountpoint.as_str();
    let root = mount.root.as_str();
    let declared = |place: &str| {
        let mut mounts = spec.mounts.as_deref().unwrap_or_default().iter().rev();
        mounts.find(|own| own.destination().trim_end_matches('/') == place)
    };
    let is_declared = |kind: &str| declared(place).is_some_and(|own| own.kind() == kind && !own.is_bind());
    let key = key(mount);
    let is_read_only = is_read_only(mount);
    if place != "/" && !is_read_only && declared(key.unwrap_or(place)).is_some_and(|own| own.has("ro")) {
        return Err(CheckpointError::Writable(place.to_owned()));
    }
    let below = |base: &str| place.strip_prefix(base) == Some(root) && is_read_only;
    let listed = |paths: &Option<Vec<Text<'_>>>| paths.iter().flatten().any(|path| path.as_str() == place);
    let is_listed = spec.linux.as_ref().is_some_and(|linux| listed(&linux.readonly_paths));
    Ok(match (key, mount.kind, root) {
        _ if mount.with_plugin == Some(true) => None,
        _ if place == "/" => Some(Role::Root),
        (Some(key), _, _) => key.starts_with('/').then_some(Role::External(key)),
        (None, kind::TMPFS, "/") => Some(Role::Tmpfs),
        (None, kind::DEVPTS | kind::MQUEUE, "/") => Some(Role::Own),
        (None, kind::PROC, "/") => is_declared("proc").then_some(Role::Own),
        (None, kind::SYSFS, "/") => is_declared("sysfs").then_some(Role::Own),
        (None, kind::CGROUP | kind::CGROUP2, "/") => {
            let mut mounts = spec.mounts.as_deref().unwrap_or_default().iter();
            let of_cgroups = |own: &spec::Mount<'_>| {
                own.kind().starts_with("cgroup") && Path::new(place).starts_with(own.destination())
            };
            mounts.any(of_cgroups).then_some(Role::Own)
        }
        (None, kind::PROC, _) => (below("/proc") && is_listed).then_some(Role::ReadOnlyPath),
        (None, kind::SYSFS, _) => (below("/sys") && is_listed).then_some(Role::ReadOnlyPath),
        // The terminal, from the container's own devpts.
        (None, kind::DEVPTS, _) if place == "/dev/console" => {
            let number = root.strip_prefix('/').unwrap_or_default();
            (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(Role::Own)
        }
        _ => None,
    })
}

/// Whether the kernel makes nothing but "unconfined" of an AppArmor profile's name: it strips spaces, and stacks what begins
/// with `&` on the label that CRIU has (`security/apparmor/lsm.c` do_setattr, `label.c` aa_label_strn_parse).
fn is_unconfined(profile: &str) -> bool {
    let mut stacked = profile.trim().trim_start_matches('&').split("//&");
    stacked.all(|name| name.trim() == "unconfined")
}

/// Whether it is a file that runc masks: the container's own `/dev/null` bound over it, on the device of the container's `/dev`
/// (`libcontainer/rootfs_linux.go` maskPaths). CRIU binds no other mount from one that has no peers but those of its file system that
/// lie below its root (`criu/mount.c` propagate_mount), and below a file lies nothing.
fn is_mask(mount: &Mount) -> bool {
    let Mount { shared_id, master_id, .. } = mount;
    let is_private = [shared_id, master_id].iter().all(|id| id.unwrap_or_default() == 0);
    key(mount) == Some("/dev/null") && mount.root == "/null" && is_private
}

/// What the mount is called where it is mapped to one of the runtime's.
fn key(mount: &Mount) -> Option<&str> {
    match (mount.external, &mount.external_key) {
        (Some(true), _) => Some(&mount.root),
        (_, key) => key.as_deref(),
    }
}

/// Whether CRIU makes the mount itself read-only. To the root and to what is bound it gives the flags of the mount and
/// not those of the file system (do_mount_root, do_bind_mount), and where an image does not tell the two apart it takes
/// this flag for the file system's (collect_mnt_from_image).
fn is_read_only(mount: &Mount) -> bool {
    const READ_ONLY: u32 = 1;
    mount.superblock_flags.is_some() && mount.flags & READ_ONLY != 0
}

/// Whether the path of the mount is spelled as the kernel spells it, and no text goes on where it ends for CRIU.
fn is_clean(mount: &Mount) -> bool {
    let Mount { mountpoint: path, root, external_key, .. } = mount;
    let is_whole = |text: &str| !text.contains('\0');
    let parts = path.strip_prefix('/').map(|parts| parts.split('/'));
    let is_plain =
        path == "/" || parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")));
    is_plain && is_whole(path) && is_whole(root) && external_key.as_deref().is_none_or(is_whole)
}
