//! What does each command print? Bodies of commands: text to a writer, an exit code back.

pub mod check;
pub mod install;
pub mod manual;
pub mod metrics;
pub mod mode;
pub mod namespaces;
pub mod policy;
pub mod report;
pub mod scan;
pub mod status;

use std::path::Path;

use crate::facts::anchors;
use crate::files::FileError;
use crate::level::Policy;
use crate::level::cache::{self, Loaded};
use crate::paths::Paths;
pub use crate::report::text::line;

/// Exit code of a command that did what it should.
pub const OK: u8 = 0;

/// Exit code of wrong usage and of everything that could not be done.
pub const FAILED: u8 = 2;

/// What is wrong with the directories of this node that every pod's mounts rest on; nothing of another root's.
fn faults_of_anchors(paths: &Paths) -> Vec<FileError> {
    if paths.other_root().is_some() {
        return Vec::new();
    }
    let kubelet_root = match cache::load(paths) {
        Loaded::Good(policy) => policy.node.kubelet_root,
        Loaded::Bad { .. } => Policy::default().node.kubelet_root,
    };
    anchors::faults(Path::new(&kubelet_root))
}
