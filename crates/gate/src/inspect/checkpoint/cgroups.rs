//! Would the tasks be where the runtime limits the devices that they may open? CRIU moves them into the cgroups that the
//! image names, and writes there what it names (`criu/cgroup.c` move_in_cgroup, restore_cgroup_prop): outside the
//! container's own, a device that the image brings (a tmpfs has them, `criu/tmpfs.c`) is the host's.
//!
//! The runtime says where the container's cgroup is now (runc `libcontainer/criu_linux.go` criuApplyCgroups, crun since
//! 1.21), and CRIU puts that in place of the directory that the image gives for the controller (rewrite_cgsets). So every
//! path must lie in that directory, and there must be one. Only the cgroups that limit devices are held to this; a limit
//! of memory or processes is no control's.
//!
//! CRIU mounts each controller in a folder of its own, named after it (ctrl_dir_and_opt), unless there is such a folder already,
//! and takes a member for the first controller whose names each end a part of the member's (cgroup_contains). So a member is held
//! to the controller that CRIU takes it for, and no controller may have another's folder.
//!
//! On a host of version 1 the kernel may have a hierarchy of version 2 as well, for another's use: hybrid hosts mount it beside the
//! others, and Cilium elsewhere. It limits no devices there, and a runtime that does not see it leaves its containers in `/` of it
//! (crun 1.21 where /sys/fs/cgroup/unified is not mounted).

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::CheckpointError;
use super::images::{Cgroups, Controller, Directory, Member};

/// Who limits devices: the controller of version 1, and the one hierarchy of version 2, which has no name.
const LIMIT_DEVICES: [&str; 2] = ["devices", UNIFIED];
const UNIFIED: &str = "";

/// The version of cgroups by which runtimes limit devices on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// By the controller `devices`.
    One,
    /// By programs of the one hierarchy, or by what cannot be told.
    Two,
}

impl CgroupVersion {
    /// This host's, told as crun tells it (`libcrun_get_cgroup_mode`): the hierarchies of version 1 lie in a tmpfs. To runc it is
    /// whatever is no hierarchy of version 2 (`IsCgroup2UnifiedMode`), also where none is mounted.
    #[must_use]
    pub fn of_host() -> Self {
        match statfs("/sys/fs/cgroup") {
            Ok(fs) if fs.filesystem_type() == TMPFS_MAGIC => Self::One,
            _ => Self::Two,
        }
    }
}

/// Whether every task stays in the container's cgroup.
pub(super) fn check(cgroups: &Cgroups, host: CgroupVersion) -> Result<(), CheckpointError> {
    let outside = |path: &str| CheckpointError::Cgroup(path.to_owned());
    let Cgroups { sets, controllers } = cgroups;
    let mut folders = Vec::with_capacity(controllers.len());
    for controller in controllers {
        // Of what else there is, CRIU makes paths and options of mount(2), and texts end for it at a NUL.
        if let Some(name) = controller.names.iter().find(|name| !is_controller(name)) {
            return Err(outside(name));
        }
        let folder = folder_of(controller);
        // Beside others CRIU looks for a name that is none without end.
        let is_mixed = controller.names.len() > 1 && controller.names.iter().any(|name| name == UNIFIED);
        if is_mixed || folders.contains(&folder) {
            return Err(outside(&folder));
        }
        folders.push(folder);
        controller.directories.iter().try_for_each(check_names)?;
    }
    for member in sets.iter().flat_map(|set| &set.members) {
        let is_plain = is_name(&member.name) && member.path.starts_with('/') && is_path(&member.path);
        let limits_devices = member.name.split(',').any(limits_devices)
            || taken_for(member, controllers)
                .is_some_and(|own| own.names.iter().any(|name| limits_devices(name)));
        let is_unused = host == CgroupVersion::One && member.name == UNIFIED && member.path == "/";
        let is_inside = !limits_devices || is_unused || stays(member, controllers);
        if !is_plain || !is_inside || !has_its_prefix(member, controllers) {
            return Err(outside(&member.path));
        }
    }
    Ok(())
}

fn limits_devices(name: &str) -> bool {
    LIMIT_DEVICES.contains(&name)
}

/// Whether a name is one of a controller of version 1, of a hierarchy without any, or of version 2. Any other would be an option
/// with which CRIU mounts, or another folder.
fn is_controller(name: &str) -> bool {
    /// What the kernel reads as something else than a controller (`kernel/cgroup/cgroup-v1.c` cgroup1_fs_parameters).
    const OPTIONS: [&str; 8] = [
        "all",
        "none",
        "noprefix",
        "xattr",
        "clone_children",
        "cpuset_v2_mode",
        "favordynmods",
        "nofavordynmods",
    ];
    let is_word =
        |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    match name.strip_prefix("name=") {
        Some(hierarchy) => !["", ".", ".."].contains(&hierarchy) && is_word(hierarchy, "_-."),
        None => is_word(name, "_") && !OPTIONS.contains(&name),
    }
}

/// Where CRIU mounts a controller.
fn folder_of(controller: &Controller) -> String {
    let names = controller.names.iter().map(|name| match name.strip_prefix("name=").unwrap_or(name) {
        UNIFIED => "unified",
        name => name,
    });
    names.collect::<Vec<_>>().join(",")
}

/// The controller that CRIU takes a member for.
fn taken_for<'c>(member: &Member, controllers: &'c [Controller]) -> Option<&'c Controller> {
    controllers.iter().find(|controller| is_of(member, controller))
}

/// Whether CRIU takes a member for one of a controller.
fn is_of(member: &Member, controller: &Controller) -> bool {
    if let [UNIFIED] = controller.names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return member.name.is_empty();
    }
    let ends_a_part = |name: &String| {
        let mut found = member.name.match_indices(name.as_str());
        found.any(|(at, name)| matches!(member.name.as_bytes().get(at + name.len()), None | Some(b',')))
    };
    !controller.names.is_empty() && controller.names.iter().all(ends_a_part)
}

/// Whether what CRIU cuts off a path is there, and of each directory for which it puts another.
fn has_its_prefix(member: &Member, controllers: &[Controller]) -> bool {
    let prefix = member.prefix.map_or(0, |prefix| prefix as usize);
    let is_below = |directory: &&Directory| {
        member.path.strip_prefix('/').is_some_and(|path| path.starts_with(directory.name.as_str()))
    };
    let own = controllers.iter().filter(|controller| is_of(member, controller));
    let mut replaced = own.flat_map(|controller| &controller.directories).filter(is_below);
    prefix <= member.path.len() && replaced.all(|directory| prefix <= directory.name.len() + 1)
}

/// Whether CRIU makes a path below the container's own cgroup of it.
fn stays(member: &Member, controllers: &[Controller]) -> bool {
    let of = |controller: &&Controller| controller.names.contains(&member.name);
    let mut controllers = controllers.iter().filter(of);
    let (Some(Controller { directories, .. }), None) = (controllers.next(), controllers.next()) else {
        return false;
    };
    let [Directory { name: own, .. }] = directories.as_slice() else { return false };
    let is_part = |rest: &str| rest.is_empty() || rest.starts_with('/');
    let is_inside =
        member.path.strip_prefix('/').and_then(|path| path.strip_prefix(own.as_str())).is_some_and(is_part);
    // Where the container has a cgroup namespace, that much of the path is replaced.
    let kept = match member.prefix.map(|prefix| prefix as usize) {
        None | Some(0) => true,
        Some(prefix) => prefix <= own.len() + 1 && member.path.get(prefix..).is_some_and(is_part),
    };
    !own.is_empty() && is_inside && kept
}

fn check_names(directory: &Directory) -> Result<(), CheckpointError> {
    let properties = directory.properties.iter().map(|property| &property.name);
    let wrong = properties.into_iter().find(|name| !is_name(name));
    let wrong = wrong.or_else(|| Some(&directory.name).filter(|name| !is_path(name)));
    match wrong {
        Some(name) => Err(CheckpointError::Cgroup(name.clone())),
        None => directory.children.iter().try_for_each(check_names),
    }
}

fn is_name(name: &str) -> bool {
    !name.contains('/') && is_path(name)
}

/// Whether a path leads to nothing above where it starts, and does not go on where it ends for CRIU.
pub(super) fn is_path(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| part != "..")
}
