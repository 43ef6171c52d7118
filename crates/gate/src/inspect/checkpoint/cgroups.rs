//! Would the tasks be where the runtime limits the devices that they may open? CRIU moves them into the cgroups that the
//! image names, and writes there what it names (`criu/cgroup.c` move_in_cgroup, restore_cgroup_prop): outside the
//! container's own, a device that the image brings (a tmpfs has them, `criu/tmpfs.c`) is the host's.
//!
//! The runtime says where the container's cgroup is now (runc `libcontainer/criu_linux.go` criuApplyCgroups, crun since
//! 1.21), and CRIU puts that in place of the directory that the image gives for the controller (rewrite_cgsets). So every
//! path must lie in that directory, and there must be one. Only the cgroups that limit devices are held to this; a limit
//! of memory or processes is no control's.
//!
//! On a host of version 1 the kernel may have a hierarchy of version 2 as well, for another's use: hybrid hosts mount it beside the
//! others, and Cilium elsewhere. It limits no devices there, and a runtime that does not see it leaves its containers in `/` of it
//! (crun 1.21 where /sys/fs/cgroup/unified is not mounted).

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

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
    /// This host's, told as runtimes tell it (crun `libcrun_get_cgroup_mode`, runc `IsCgroup2UnifiedMode`).
    #[must_use]
    pub fn of_host() -> Self {
        match statfs("/sys/fs/cgroup") {
            Ok(fs) if fs.filesystem_type() != CGROUP2_SUPER_MAGIC => Self::One,
            _ => Self::Two,
        }
    }
}

/// Whether every task stays in the container's cgroup.
pub(super) fn check(cgroups: &Cgroups, host: CgroupVersion) -> Result<(), CheckpointError> {
    let outside = |path: &str| CheckpointError::Cgroup(path.to_owned());
    let Cgroups { sets, controllers } = cgroups;
    for controller in controllers {
        // Of what else there is, CRIU makes paths, and texts end for it at a NUL.
        if let Some(name) = controller.names.iter().find(|name| !is_name(name)) {
            return Err(outside(name));
        }
        controller.directories.iter().try_for_each(check_names)?;
    }
    for member in sets.iter().flat_map(|set| &set.members) {
        let is_plain = is_name(&member.name) && is_path(&member.path);
        let limits_devices = member.name.split(',').any(|name| LIMIT_DEVICES.contains(&name));
        let is_unused = host == CgroupVersion::One && member.name == UNIFIED && member.path == "/";
        if !is_plain || (limits_devices && !is_unused && !stays(member, controllers)) {
            return Err(outside(&member.path));
        }
    }
    Ok(())
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
