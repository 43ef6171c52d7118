//! Finds what an installation has left in an engine's files whose record is gone, such as with `/var/lib/pss-guard`. The next
//! installation records that again: without it, `uninstall` would leave files that name a gate that is not there.

use std::path::{Path, PathBuf};

use super::engines::hooks_d;
use super::transaction::{installations, manifest};
use super::{Installer, Plan, PlanError, Stripped};
use crate::install::job::Failure;
use crate::node::host::{Live, Node as _};

/// A file with something of ours in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it is, as the node sees it.
    pub path: PathBuf,
    /// Its bytes without what is ours; `None` if nothing else would be left of it.
    pub without: Option<Vec<u8>>,
    /// Its bytes.
    pub now: Vec<u8>,
}

/// What is left in the files that an engine's plan has read, and no installation has recorded.
pub fn left(node: &Live, installer: &Installer, plan: &Plan) -> Result<Vec<Left>, Failure> {
    let mut recorded = Vec::new();
    for name in installations(node) {
        recorded.extend(manifest(node, &name)?.into_iter().flat_map(|own| own.files).map(|file| file.path));
    }
    let mut left: Vec<Left> = Vec::new();
    for path in plan.read.iter().chain(&plan.shared) {
        if recorded.contains(path) || left.iter().any(|left| left.path == *path) {
            continue;
        }
        let Some(now) = node.read(path)? else { continue };
        left.extend(left_in(installer, plan, path, now)?);
    }
    Ok(left)
}

fn left_in(installer: &Installer, plan: &Plan, path: &Path, now: Vec<u8>) -> Result<Option<Left>, PlanError> {
    let has = |word: &[u8]| now.windows(word.len()).any(|part| part == word);
    let is_whole = hooks_d::is_ours(path) || WRITTEN.iter().any(|header| now.starts_with(header.as_bytes()));
    if !is_whole && !has(OURS) {
        return Ok(None);
    }
    // Of a file that was made for the gate all is ours; of another one, what leads to the gate.
    let stripped = Stripped {
        path,
        original: None,
        installed: if is_whole { &now } else { b"" },
        now: &now,
        entries: &plan.entries,
        held: false,
    };
    let without = (installer.strip)(&stripped)?;
    Ok((without.as_ref() != Some(&now)).then(|| Left { path: path.to_owned(), without, now }))
}

/// How files begin that were made for the gate.
const WRITTEN: [&str; 2] = ["# Written by pss-guard", "# Written by `pss-guard install`"];

/// What leads to the gate leads here.
const OURS: &[u8] = b"/var/lib/pss-guard/";
