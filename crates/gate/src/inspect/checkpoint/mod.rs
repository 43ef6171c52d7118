//! What a restored container would be. A runtime's `restore` starts nothing that config.json describes: CRIU gives
//! every thread the credentials that its image has (`criu/pie/restorer.c` restore_creds, restore_seccomp). So the image
//! is read, and config.json is evaluated as if it said what the image says:
//!
//! | of the image | counts as |
//! |---|---|
//! | uid, euid, suid, fsuid of every thread | `process.user.uid`, 0 if one of them is |
//! | its five capability sets | `process.capabilities` |
//! | `no_new_privs` | `process.noNewPrivileges`, if every thread has it |
//! | seccomp mode and filters | `linux.seccomp`, if every thread has one |
//! | LSM profile, as far as `--lsm-profile` does not replace it | `process.apparmorProfile`, `process.selinuxLabel` |
//! | namespaces that are CRIU's own | are not in `linux.namespaces` |
//! | a user namespace that maps the host's root | is none |
//! | mounts over what engines protect in /proc and /sys | `linux.maskedPaths`, `linux.readonlyPaths` |
//! | flags of the root mount | `root.readonly` |
//!
//! The union with config.json is evaluated: what violates there violates here, too.
//!
//! # What is not restored above privileged
//!
//! An image that cannot be read to the end; one that somebody but root could change before CRIU reads it;
//! one of another layout than CRIU has written since 2.0; mounts that neither config.json explains nor CRIU takes from
//! the runtime; tasks in namespaces of their own, or outside the container's cgroup; an annotation that gives CRIU options
//! of its own.
//!
//! # What is not looked at
//!
//! Memory and registers are the container's own, and so are `parent` (memory pages of an earlier dump, `criu/pagemap.c`)
//! and what a `--lazy-pages` daemon delivers. No control speaks of groups and limits. Open files are opened below the
//! restored mounts, by names that lead nowhere else (`criu/files-reg.c`). What CRIU does as root with the images of sockets,
//! pipes, networks and IPC is not evaluated.

mod cgroups;
mod images;
mod place;
mod tasks;
mod view;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::inspect::spec::Spec;
pub use cgroups::CgroupVersion;
use pss::facts::Engine;
use pss_guard_core::files::FileError;
pub use tasks::{Read, Restored};

/// A restore that was asked for.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The directory of CRIU's images; an error where that cannot be said in one way.
    pub images: Result<PathBuf, CheckpointError>,
    /// `--lsm-profile`.
    pub lsm_profile: Option<&'a OsStr>,
    /// `--manage-cgroups-mode`; `soft` where runc is told nothing.
    pub cgroups_mode: Option<&'a OsStr>,
}

/// Why a checkpoint cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Nobody says where it is.
    #[error("restore: runtimes disagree on where the images are; give --image-path DIRECTORY")]
    NoPlace,
    /// The hook was not called by the runtime itself.
    #[error(
        "restore: the process that called the hook does not say where the images are; --method runtime needs no such help"
    )]
    NoRuntime,
    /// A file or folder of it is not what it should be, or not root's alone.
    #[error("restore: {0}")]
    File(#[from] FileError),
    /// A link where nobody makes any.
    #[error("restore: {} is a symbolic link; put the images themselves there", .0.display())]
    Link(PathBuf),
    /// An image is not there.
    #[error("restore: the checkpoint has no {0}")]
    Missing(String),
    /// An image does not begin as it should.
    #[error("restore: {0} is no such image, or of a CRIU before 2.0; take the checkpoint again")]
    Magic(String),
    /// An image has no entry.
    #[error("restore: {0} is empty")]
    Empty(String),
    /// An image ends in the middle.
    #[error("restore: {0} ends in the middle of an entry")]
    Short(String),
    /// An entry is no such message.
    #[error("restore: parse {file}")]
    Message {
        /// The image.
        file: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// descriptors.json is not what runtimes write.
    #[error("restore: {0} must be an array of at most three strings")]
    Descriptors(&'static str),
    /// There is more of it than any container has.
    #[error("restore: the checkpoint has more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// What is allowed.
        most: usize,
    },
    /// The task tree has no root, or more than one.
    #[error("restore: pstree.img has not exactly one first task")]
    NoRoot,
    /// A thread without credentials would keep those of CRIU.
    #[error("restore: {0} says nothing of the thread's credentials; take the checkpoint again")]
    NoCredentials(String),
    /// A seccomp filter that is not there.
    #[error("restore: {0} names a seccomp filter that seccomp.img does not have")]
    NoFilter(String),
    /// A task in a namespace that is not the container's.
    #[error("restore: task {0} is in namespaces of its own, which cannot be judged")]
    OtherNamespaces(u32),
    /// The tasks would see the host's mounts.
    #[error("restore: the tasks of the checkpoint have no mount namespace of their own")]
    NoMountNamespace,
    /// A mount that nothing explains.
    #[error("restore: the checkpoint mounts something at {0:?} that config.json does not")]
    Mount(String),
    /// A mount that would be writable.
    #[error("restore: the checkpoint mounts {0:?} writable, config.json read-only")]
    Writable(String),
    /// Several labels, of which only one could be evaluated.
    #[error("restore: the checkpoint has the SELinux label {image:?} where config.json has {config:?}")]
    Label {
        /// What the image says.
        image: String,
        /// What config.json says.
        config: String,
    },
    /// Tasks would not be where the runtime limits them.
    #[error("restore: cgroup.img names {0:?}, which is not in the container's own cgroup")]
    Cgroup(String),
    /// A file would be made outside the container.
    #[error("restore: the checkpoint has an open file at {0:?}, which no kernel calls one")]
    FileName(String),
    /// CRIU would load them into the host's kernel.
    #[error("restore: apparmor.img brings AppArmor policies, which cannot be judged")]
    Policies,
    /// The image's limits, devices among them, would replace those of the container's cgroup.
    #[error(
        "restore: --manage-cgroups-mode {0:?} gives the container the checkpoint's own limits and devices; leave it out"
    )]
    CgroupsMode(String),
    /// CRIU would take options from a file.
    #[error(
        "restore: the annotation org.criu.config gives CRIU options that cannot be judged; leave it out, or empty"
    )]
    Options,
}

impl Restore<'_> {
    /// Makes of a spec what the container would be once it is restored.
    pub fn apply(&self, spec: &mut Spec<'_>, engine: Engine) -> Result<(), CheckpointError> {
        // CRIU's `full` and `strict` write every property of the image (`criu/cgroup.c` restore_devices_list).
        if let Some(mode) =
            self.cgroups_mode.filter(|mode| !["", "soft", "ignore"].iter().any(|known| mode == known))
        {
            return Err(CheckpointError::CgroupsMode(mode.to_string_lossy().into_owned()));
        }
        let place = match &self.images {
            Ok(images) => place::Place::open(images)?,
            Err(CheckpointError::NoRuntime) => return Err(CheckpointError::NoRuntime),
            Err(_) => return Err(CheckpointError::NoPlace),
        };
        let read: &mut Read<'_> = &mut |name, limit| place.read(name, limit);
        let restored = Restored::read(read, CgroupVersion::of_host())?;
        restored.apply(spec, engine, self.lsm_profile)
    }
}
