//! Plans the gate as an OCI hook of CRI-O and podman: one file in a folder of hooks.
//!
//! Both engines read `/usr/share/containers/oci/hooks.d`, so one file serves them both, under one name and with the
//! same bytes: it says `--engine cri-o`, by which the gate knows podman's containers too
//! ([`crate::inspect::identity`]), while `--engine podman` would treat every pod's container as unmanaged. Two files
//! would have every container judged and logged twice. Of files with the same name in several folders only the last
//! one counts, in both engines, so the file may lie in all of them.

use std::path::Path;

use super::super::{Change, GATE, Plan, PlanError, Stripped};
use crate::node::host::Node;
use crate::paths::is_gate;

/// The folder that CRI-O and podman read unless they are told otherwise.
pub(super) const DEFAULT: &str = "/usr/share/containers/oci/hooks.d";

/// The folder for hooks that are the admin's and not a package's.
const ADMINS: &str = "/etc/containers/oci/hooks.d";

const NAME: &str = "pss-guard.json";

/// The file as people put it there by hand.
const TEMPLATE: &str = include_str!("../../../hooks/pss-guard.json");

/// The folders in which the hook can be put, of those that an engine reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Folders {
    /// These.
    Among(Vec<String>),
    /// None of them can be written to; the engine has to be told of one more, the last of these.
    AllAnd(Vec<String>),
}

/// Chooses among the folders that `engine` reads.
pub(super) fn folders(node: &dyn Node, engine: &str, read: &[String]) -> Result<Folders, PlanError> {
    if read.is_empty() {
        return Err(PlanError::Unsupported {
            what: format!(
                "the configuration of {engine} sets hooks_dir to no folder at all, so it runs no hooks"
            ),
            instead: format!("let hooks_dir name {DEFAULT}, or install with --method runtime"),
        });
    }
    if let Some(relative) = read.iter().find(|folder| !folder.starts_with('/')) {
        return Err(PlanError::Unsupported {
            what: format!("the configuration of {engine} has the relative path {relative:?} in hooks_dir"),
            instead: "write it as an absolute path, or take it out".to_owned(),
        });
    }
    // On an ostree system /usr is read-only, and what an upgrade of the system brings is not the admin's.
    let sealed = !node.list(Path::new("/ostree/repo")).is_empty();
    let writable: Vec<String> =
        read.iter().filter(|f| !(sealed && f.starts_with("/usr/"))).cloned().collect();
    if !writable.is_empty() {
        return Ok(Folders::Among(writable));
    }
    Ok(Folders::AllAnd(read.iter().cloned().chain([ADMINS.to_owned()]).collect()))
}

/// Adds the hook's file to a plan, once for each folder.
pub(super) fn put(node: &dyn Node, folders: &Folders, plan: &mut Plan) -> Result<(), PlanError> {
    let folders = match folders {
        Folders::Among(folders) => folders.as_slice(),
        Folders::AllAnd(folders) => folders.last().map(std::slice::from_ref).unwrap_or_default(),
    };
    for folder in folders {
        let path = Path::new(folder).join(NAME);
        let (before, after) = (node.read(&path)?, hook());
        if !plan.shared.contains(&path) {
            plan.shared.push(path.clone());
        }
        if before.as_deref() != Some(&after) && plan.changes.iter().all(|change| change.path != path) {
            plan.changes.push(Change { path, before, after });
        }
    }
    Ok(())
}

/// Whether this is the hook's file.
pub(crate) fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == NAME)
}

/// A changed hook file without the hook: nothing, if it still calls the gate.
pub(super) fn strip(stripped: &Stripped<'_>) -> Option<Vec<u8>> {
    let hook: Option<serde_json::Value> = serde_json::from_slice(stripped.now).ok();
    let calls_gate = hook
        .is_none_or(|hook| hook.pointer("/hook/path").is_none_or(|path| path.as_str().is_some_and(is_gate)));
    if calls_gate { stripped.original.map(<[u8]>::to_vec) } else { Some(stripped.now.to_vec()) }
}

/// The hook's file for an engine that calls the gate.
fn hook() -> Vec<u8> {
    TEMPLATE.replace("\"/usr/local/sbin/pss-guard-gate\"", &format!("\"{GATE}\"")).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::super::super::{GATE, Plan, Stripped, TOOL};
    use super::{Folders, NAME, folders, hook, put, strip};
    use crate::node::host::fake::Fake;

    fn file_in(folder: &str) -> PathBuf {
        Path::new(folder).join(NAME)
    }

    fn names(folders: &[&str]) -> Vec<String> {
        folders.iter().map(|&folder| folder.to_owned()).collect()
    }

    #[test]
    fn the_hook_calls_the_gate_for_every_container_before_it_is_made() {
        let hook: serde_json::Value = serde_json::from_slice(&hook()).unwrap();
        let expected = json!({
            "version": "1.0.0",
            "hook": { "path": GATE, "args": ["pss-guard-gate", "hook", "--engine", "cri-o"], "timeout": 10 },
            "when": { "always": true },
            "stages": ["createRuntime"],
        });
        assert_eq!(hook, expected);
    }

    #[test]
    fn only_folders_that_can_be_written_are_chosen() {
        let plain = Fake::default();
        let ostree = Fake::default().file("/ostree/repo/config", "");
        let (usr, etc, extra) =
            ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d", "/srv/hooks");
        let rows = [
            (&plain, vec![usr], Ok(Folders::Among(names(&[usr])))),
            (&plain, vec![usr, extra], Ok(Folders::Among(names(&[usr, extra])))),
            (&ostree, vec![usr, extra], Ok(Folders::Among(names(&[extra])))),
            (&ostree, vec![usr], Ok(Folders::AllAnd(names(&[usr, etc])))),
            (&plain, vec![], Err("the configuration of CRI-O sets hooks_dir to no folder at all")),
            (&plain, vec!["hooks.d"], Err("has the relative path \"hooks.d\" in hooks_dir")),
        ];
        for (node, read, expected) in rows {
            let chosen = folders(node, "CRI-O", &names(&read));
            match (chosen, expected) {
                (Ok(chosen), Ok(expected)) => assert_eq!(chosen, expected, "{read:?}"),
                (Err(refusal), Err(part)) => assert!(refusal.to_string().contains(part), "{refusal}"),
                (chosen, expected) => panic!("{read:?}: {chosen:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_right_is_relied_on_but_not_written() {
        let first = "/a/pss-guard.json";
        let node = Fake::default()
            .file(first, std::str::from_utf8(&hook()).unwrap())
            .file("/b/pss-guard.json", "{}");
        let mut plan = Plan::default();
        put(&node, &Folders::Among(names(&["/a", "/b", "/a"])), &mut plan).unwrap();
        assert_eq!(plan.shared, [file_in("/a"), file_in("/b")]);
        let changed: Vec<_> = plan.changes.iter().map(|change| change.path.clone()).collect();
        assert_eq!(changed, [file_in("/b")]);
    }

    #[test]
    fn what_is_taken_away_is_the_hook_that_calls_the_gate() {
        let installed = hook();
        let mended = String::from_utf8(installed.clone()).unwrap().replace("10", "30").into_bytes();
        let older = String::from_utf8(mended.clone()).unwrap().replace(GATE, TOOL).into_bytes();
        let foreign: &[u8] = br#"{"version":"1.0.0","hook":{"path":"/opt/other"},"when":{"always":true}}"#;
        let none: Option<&[u8]> = None;
        let rows = [
            (mended.as_slice(), none, none),
            (&older, none, none),
            (&mended, Some(b"{\"before\":1}".as_slice()), Some(b"{\"before\":1}".as_slice())),
            (foreign, none, Some(foreign)),
            (foreign, Some(b"{}".as_slice()), Some(foreign)),
            (b"{ torn", none, none),
        ];
        for (now, original, left) in rows {
            let stripped = Stripped {
                path: &file_in("/a"),
                original,
                installed: &installed,
                now,
                entries: &[],
                held: false,
            };
            assert_eq!(strip(&stripped).as_deref(), left, "{}", String::from_utf8_lossy(now));
        }
    }
}
