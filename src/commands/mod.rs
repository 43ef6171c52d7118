//! What does each command print? Bodies of commands: text to a writer, an exit code back.

mod ask;
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

use std::io::Write;
use std::path::Path;

use crate::facts::anchors;
use crate::files::FileError;
use crate::level::Policy;
use crate::level::cache::{self, LoadError, Usable};
use crate::paths::Paths;
pub use crate::report::text::line;

/// Exit code of a command that did what it should.
pub const OK: u8 = 0;

/// Exit code of wrong usage and of everything that could not be done.
pub const FAILED: u8 = 2;

/// What a command adds that only looks, where the policy cannot be used.
const LAST_GOOD: &str = "the last good policy is used";

/// The policy of a command that only looks, and says so if that is the last good one.
fn policy_to_look(paths: &Paths, err: &mut dyn Write) -> Result<Policy, LoadError> {
    let Usable { policy, fault } = cache::load_usable(paths)?;
    if let Some(fault) = fault {
        let _ = writeln!(err, "pss-guard: {}; {LAST_GOOD}", line(&fault));
    }
    Ok(policy)
}

/// What is wrong with the directories of this node that every pod's mounts rest on; nothing of another root's.
fn faults_of_anchors(paths: &Paths) -> Vec<FileError> {
    if paths.other_root().is_some() {
        return Vec::new();
    }
    let policy = cache::load_usable(paths).map(|usable| usable.policy).unwrap_or_default();
    anchors::faults(Path::new(&policy.node.kubelet_root))
}
