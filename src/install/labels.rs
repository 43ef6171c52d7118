//! Labels for SELinux, so that a confined engine can execute the gate and systemd the tool.
//!
//! What lies in `/var/lib` is `var_lib_t`, which `container_runtime_t` may execute only where the policy has the module
//! `unconfined` (container-selinux, `container.te`). `bin_t` is executable for engines and for systemd, and moves neither into
//! another domain. A program is labelled before it gets its name, so that no engine finds it without. The files of engines
//! keep the labels that they had, and new ones get that of their folder: what a pod writes would be labelled for that pod.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{GATE, TOOL, directory};
use crate::atomic::{self, WriteError};
use crate::node::host::{Live, Node as _};
use crate::node::run::run;
use crate::node::selinux::{self, Mode};

/// The type of programs.
const KIND: &str = "bin_t";

/// Types that do as well: those of programs, and what container-selinux gives to runtimes.
const KINDS: [&str; 2] = [KIND, "container_runtime_exec_t"];

/// What the file contexts say of the programs and the entries.
const CONTEXT: &str = "/var/lib/pss-guard/(bin|runtimes)(/.*)?";

/// A file of the contexts that the installer has added to those of the node, a line each.
const ADDED: &str = "/var/lib/pss-guard/install/file-contexts";

/// `semanage` compiles all contexts of the node.
const PATIENCE: Duration = Duration::from_secs(300);

/// Replaces a file as [`atomic::replace`] does, with the label that it needs. `place` is where the path lies.
pub(super) fn replace(
    node: &Live,
    path: &Path,
    place: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), WriteError> {
    let selinux = selinux::mode(node).filter(|_| is_called(path));
    let kept = || {
        let label = |path: &Path| selinux::label(path).ok().flatten();
        label(place).or_else(|| label(place.parent()?))
    };
    let label = selinux.map(|_| own_label(node)).or_else(kept);
    atomic::replace_from(place, mode, |file| {
        file.write_all(bytes)?;
        let Some(label) = label else { return Ok(()) };
        match (selinux::set_label(file, &label), selinux) {
            (Err(cause), Some(Mode::Enforcing)) => Err(unlabelled(&cause)),
            // Nobody needs it; or it is the label of one of an engine's files, and whoever may not set that may not label the
            // gate either, which comes first.
            _ => Ok(()),
        }
    })
}

/// Why an enforcing node keeps the programs that it has, and the way out.
fn unlabelled(cause: &io::Error) -> io::Error {
    io::Error::other(format!(
        "SELinux is in enforcing mode, and the file cannot be labelled {KIND} ({cause}), so no confined engine could execute \
         it; install as root on the node itself, or from a container that may label its files (type spc_t), onto a file \
         system with extended attributes"
    ))
}

/// Whether engines or systemd call this path of ours. What lies where people call it has the label of its folder.
fn is_called(path: &Path) -> bool {
    let is_in = |folder: &str, program: &str| path == directory::at(Path::new(folder), program);
    [GATE, TOOL]
        .iter()
        .any(|own| [directory::FOLDER, directory::OTHER].iter().any(|folder| is_in(folder, own)))
}

/// Labels a link of ours. One that cannot be labelled is still found by every domain that may read `/var/lib`.
pub(super) fn label_at(node: &Live, place: &Path) {
    if selinux::mode(node).is_some() && !is_executable(place) {
        let _ = selinux::set_label_at(place, &own_label(node));
    }
}

/// Whether a program has a label with which it can be executed, or needs none.
pub(super) fn is_right(node: &Live, path: &Path) -> bool {
    !is_called(path) || fault(node, path).is_none()
}

fn is_executable(place: &Path) -> bool {
    let label = selinux::label(place).ok().flatten().unwrap_or_default();
    KINDS.iter().any(|kind| selinux::kind_of(&label) == Some(kind.as_bytes()))
}

/// A policy without levels has labels of three parts.
fn own_label(node: &Live) -> Vec<u8> {
    let without_levels = node.is_running() && fs::read("/sys/fs/selinux/mls").is_ok_and(|mls| mls == b"0");
    let level = if without_levels { "" } else { ":s0" };
    format!("system_u:object_r:{KIND}{level}").into_bytes()
}

/// What is wrong with the label of a program, in words, and in which mode SELinux is; `None` if nothing is.
#[must_use]
pub fn fault(node: &Live, path: &Path) -> Option<(Mode, String)> {
    let mode = selinux::mode(node)?;
    let place = node.place(path);
    if is_executable(&place) {
        return None;
    }
    let label = selinux::label(&place).ok().flatten();
    let label = label.map_or_else(
        || "has no SELinux label".to_owned(),
        |label| format!("has the SELinux label {}", String::from_utf8_lossy(&label)),
    );
    let restores = if has_context(node) {
        format!("`restorecon {path}` or ", path = path.display())
    } else {
        String::new()
    };
    Some((
        mode,
        format!(
            "{label}, which a confined engine cannot execute; {restores}`pss-guard install` labels it {KIND}"
        ),
    ))
}

/// Whether `restorecon` would keep the labels.
fn has_context(node: &Live) -> bool {
    missing(node).is_empty()
}

/// What the file contexts have to say: of our folders, and of the programs in a directory of the admin's, where there may be
/// others.
fn contexts(node: &Live) -> Vec<String> {
    let directory = directory::in_force(node);
    let mut contexts = vec![CONTEXT.to_owned()];
    if directory != Path::new(directory::FOLDER) {
        let mut pattern = String::new();
        for sign in directory.to_string_lossy().chars() {
            // Each of these means something in a pattern (selabel_file(5)).
            if r"\.[]{}()*+?^$|".contains(sign) {
                pattern.push('\\');
            }
            pattern.push(sign);
        }
        contexts.push(format!("{pattern}/pss-guard(-gate)?"));
    }
    contexts
}

/// Those of them that the node's file contexts do not have.
fn missing(node: &Live) -> Vec<String> {
    contexts(node).into_iter().filter(|context| !selinux::has_context(node, context, KIND)).collect()
}

/// What takes the labels away again, in a sentence; `None` where nothing does.
#[must_use]
pub fn is_temporary(node: &Live) -> Option<String> {
    let missing = missing(node);
    let commands: Vec<String> =
        missing.iter().map(|context| format!("`semanage fcontext -a -t {KIND} '{context}'`")).collect();
    (selinux::mode(node).is_some() && !missing.is_empty()).then(|| {
        format!(
            "SELinux: the file contexts of this node do not name the gate, so `restorecon -R` and a relabel take the label {KIND} \
             away until the next `pss-guard install`; {} keeps it",
            commands.join(" with ")
        )
    })
}

/// Has the node's file contexts name the programs, where `semanage` is there to do so. What was not done, in a sentence.
pub(super) fn keep(node: &Live) -> Option<String> {
    let wanted = contexts(node);
    let stale = |context: &String| !wanted.contains(context);
    let (stale, mut added): (Vec<String>, Vec<String>) = added(node).into_iter().partition(stale);
    let mut failed = Vec::new();
    // Of the directory that the programs lay in before.
    for context in stale {
        if !delete(node, &context) {
            added.push(context);
        }
    }
    let lost = is_temporary(node);
    let semanage = node.find("semanage").filter(|_| node.is_running());
    let missing = if lost.is_some() && semanage.is_some() { missing(node) } else { Vec::new() };
    added.extend(missing.iter().filter(|context| !added.contains(context)).cloned().collect::<Vec<_>>());
    // First, so that it is removed with the gate even if this is interrupted.
    if let Err(error) = write_added(node, &added) {
        return Some(crate::message::line(&error));
    }
    let lost = lost?;
    let Some(semanage) = semanage else { return Some(lost) };
    for context in missing {
        match run(Command::new(&semanage).args(["fcontext", "-a", "-t", KIND, &context]), PATIENCE) {
            Ok(done) if done.ok => {}
            Ok(done) => failed.push(done.stderr.trim().lines().collect::<Vec<_>>().join("; ")),
            Err(error) => failed.push(crate::message::line(&error)),
        }
    }
    (!failed.is_empty()).then(|| format!("{lost} (failed: {})", failed.join("; ")))
}

/// The contexts that the installer has added.
fn added(node: &Live) -> Vec<String> {
    let text = node.read(Path::new(ADDED)).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

fn write_added(node: &Live, added: &[String]) -> Result<(), WriteError> {
    let place = node.place(Path::new(ADDED));
    if added.is_empty() {
        return atomic::remove_if_there(&place);
    }
    let text = added.join("\n") + "\n";
    if fs::read(&place).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(());
    }
    atomic::replace(&place, text.as_bytes(), 0o600)
}

fn delete(node: &Live, context: &str) -> bool {
    let semanage = node.find("semanage").filter(|_| node.is_running());
    let done = semanage
        .and_then(|semanage| run(Command::new(semanage).args(["fcontext", "-d", context]), PATIENCE).ok());
    done.is_some_and(|done| done.ok)
}

/// Takes out of the node's file contexts what [`keep`] added. What was not done, in a sentence.
pub(super) fn forget(node: &Live) -> Result<Option<String>, WriteError> {
    let mut failed = None;
    for context in added(node) {
        if !delete(node, &context) {
            let delete = format!("semanage fcontext -d '{context}'");
            failed = Some(format!("SELinux: `{delete}` removes what the file contexts say of the gate"));
        }
    }
    write_added(node, &[])?;
    Ok(failed)
}
