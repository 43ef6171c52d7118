//! Removes from a file what the installer added.

use std::path::Path;

use super::config::{HEADER, PLUGINS};
use super::edit::File;
use super::place::{UNIT_DROP_IN, strip_unit};
use super::{BINARY, CONTAINER_ANNOTATIONS, ENTRIES, POD_ANNOTATIONS, SPEC, spec};
use crate::install::{PlanError, Stripped};

/// See [`crate::install::Installer::strip`].
pub(super) fn strip(file: &Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError> {
    if spec::is_ours(&file.path.to_string_lossy()) {
        return Ok(file.original.map(<[u8]>::to_vec));
    }
    if file.path == Path::new(UNIT_DROP_IN) {
        return Ok(file.original.map(<[u8]>::to_vec).or_else(|| strip_unit(file.now)));
    }
    // A copy of a file that cannot be written, which containerd reads again once the unit's drop-in is gone.
    let is_copy = file.original.is_none() && !file.installed.starts_with(HEADER.as_bytes());
    if is_copy && file.now == file.installed {
        return Ok(None);
    }
    let parse = |bytes: &[u8]| File::parse(file.path, bytes);
    let original = parse(file.original.unwrap_or_default())?;
    let installed = parse(file.installed)?;
    let mut now = parse(file.now)?;
    // A file that names nothing of ours was rewritten, such as from a backup. A table like ours in it is the admin's.
    let ours = [ENTRIES, spec::FOLDER, POD_ANNOTATIONS, CONTAINER_ANNOTATIONS];
    let has = |word: &str| file.now.windows(word.len()).any(|part| part == word.as_bytes());
    if !ours.into_iter().any(has) {
        return Ok(Some(file.now.to_vec()));
    }
    for plugin in PLUGINS {
        let containerd = ["plugins", plugin, "containerd"];
        let runtimes = ["plugins", plugin, "containerd", "runtimes"];
        for name in now.keys(&runtimes)? {
            let [a, b, c, d] = runtimes;
            let at = [a, b, c, d, &name];
            if is_copy && let Some(entry) = file.entries.iter().find(|entry| entry.handler == name) {
                // Nothing says what the copied file had there, but what started the containers.
                let binary = [a, b, c, d, &name, "options", "BinaryName"];
                if now.string(&binary)?.is_some_and(|binary| binary.starts_with(ENTRIES)) {
                    now.set(&binary, entry.runtime.to_string_lossy().as_ref())?;
                }
            }
            handler(&mut now, &original, &installed, &at)?;
        }
        for name in ["default_runtime", "untrusted_workload_runtime"] {
            let [a, b, c] = containerd;
            handler(&mut now, &original, &installed, &[a, b, c, name])?;
        }
        for depth in (2..=runtimes.len()).rev() {
            prune(&mut now, &original, runtimes.get(..depth).unwrap_or_default())?;
        }
    }
    prune(&mut now, &original, &["plugins"])?;
    // A version that only our own tables needed.
    let others = now.keys(&[])?.into_iter().any(|key| match key.as_str() {
        "version" => false,
        "plugins" | "disabled_plugins" | "required_plugins" => true,
        _ => file.original.is_none(),
    });
    if !others && original.get(&["version"]).is_none() && installed.get(&["version"]).is_some() {
        now.remove(&["version"])?;
    }
    match file.original {
        Some(_) => Ok(Some(now.render())),
        None if now.is_empty() => Ok(None),
        None => Ok(Some(String::from_utf8_lossy(&now.render()).replacen(HEADER, "", 1).into_bytes())),
    }
}

/// Takes what is ours out of a handler's table.
fn handler(now: &mut File, original: &File, installed: &File, at: &[&str]) -> Result<(), PlanError> {
    let key = |key: &[&'static str]| -> Vec<&str> { at.iter().copied().chain(key.iter().copied()).collect() };
    let binary = now.string(&key(BINARY))?.is_some_and(|binary| binary.starts_with(ENTRIES));
    let spec = now.string(&key(SPEC))?.is_some_and(spec::is_ours);
    for (key, ours) in [(key(BINARY), binary), (key(SPEC), spec)] {
        if ours {
            now.put(&key, original)?;
        }
    }
    for (list, word) in
        [("pod_annotations", POD_ANNOTATIONS), ("container_annotations", CONTAINER_ANNOTATIONS)]
    {
        let key = key(&[list]);
        let old = original.strings(&key)?.unwrap_or_default();
        let ours = installed.strings(&key)?.unwrap_or_default();
        let mut rest = now.strings(&key)?.unwrap_or_default();
        if old.iter().any(|old| old == word) {
            continue;
        }
        rest.retain(|rest| rest != word);
        // A list that was made here has the words of other files as well.
        let made_here = old.is_empty() && rest.iter().all(|word| ours.contains(word));
        if rest == old || made_here {
            now.put(&key, original)?;
        } else {
            now.take(&key, word)?;
        }
    }
    prune(now, original, &key(&["options"]))?;
    let made_here = original.get(at).is_none() && installed.get(at).is_some();
    if made_here && now.keys(at)?.iter().all(|key| key == "runtime_type") {
        now.remove(at)?;
    }
    now.hide_header(at, original)
}

/// Removes a table that is empty and was not there before.
fn prune(now: &mut File, original: &File, at: &[&str]) -> Result<(), PlanError> {
    let empty =
        now.get(at).and_then(toml_edit::Item::as_table_like).is_some_and(toml_edit::TableLike::is_empty);
    if empty && original.get(at).is_none() {
        return now.remove(at);
    }
    Ok(())
}
