//! Plans one drop-in file that overrides an engine's configuration: it is read last and contains everything that it
//! replaces.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table, Value};

use super::super::{Change, PlanError, Stripped};
use super::toml;
use crate::node::host::Node;

/// The names that the file may have; the first that is read after all others.
const NAMES: [&str; 2] = ["99-pss-guard.conf", "zz-pss-guard.conf"];

/// Whether this is the drop-in.
pub(super) fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| NAMES.iter().any(|&ours| name == ours))
}

/// The drop-in among the `others` of a folder: `content` is what the table at `path` shall hold. `None` if that is what
/// it holds already.
pub(super) fn change(
    node: &dyn Node,
    folder: &Path,
    others: &[PathBuf],
    header: &str,
    path: &[&str],
    content: Table,
) -> Result<Option<Change>, PlanError> {
    let mut file = folder.to_owned();
    for name in NAMES {
        file = folder.join(name);
        if others.iter().all(|other| *other < file) {
            break;
        }
    }
    if let Some(later) = others.iter().find(|other| **other > file) {
        return Err(PlanError::Unsupported {
            what: format!("{} is read after {}, and would remove the gate", later.display(), file.display()),
            instead: "rename it so that it sorts earlier".to_owned(),
        });
    }
    let mut table = content;
    table.set_implicit(true);
    for key in path.iter().rev() {
        let mut outer = Table::new();
        outer.set_implicit(true);
        outer.insert(key, Item::Table(table));
        table = outer;
    }
    let after = format!("{header}\n{}", DocumentMut::from(table)).into_bytes();
    let before = node.read(&file)?;
    Ok((before.as_deref() != Some(&after)).then_some(Change { path: file, before, after }))
}

/// A changed drop-in without what was installed. What lies directly in the table at `whole` goes as a whole or stays as
/// a whole, after `mend` has taken the gate out of it.
pub(super) fn strip(
    stripped: &Stripped<'_>,
    whole: &[&str],
    mend: &dyn Fn(&str, &mut Item),
) -> Result<Option<Vec<u8>>, PlanError> {
    let mut now = toml::parse(stripped.path, stripped.now)?;
    let installed = toml::parse(stripped.path, stripped.installed)?;
    subtract(now.as_table_mut(), installed.as_table(), Some(whole), mend);
    if now.is_empty() {
        return Ok(stripped.original.map(<[u8]>::to_vec));
    }
    Ok(Some(now.to_string().into_bytes()))
}

/// Takes out of a table what another one has. `whole` leads on to the table whose items are not divided.
fn subtract(now: &mut Table, installed: &Table, whole: Option<&[&str]>, mend: &dyn Fn(&str, &mut Item)) {
    let undivided = whole.is_some_and(<[&str]>::is_empty);
    let mut gone = Vec::new();
    for (key, item) in now.iter_mut() {
        let Some(was) = installed.get(&key) else { continue };
        let deeper = whole.and_then(|whole| whole.split_first()).filter(|(first, _)| key == **first);
        match (&mut *item, was) {
            (now, was) if same(now, was) => gone.push(key.to_string()),
            (item, _) if undivided => mend(&key, item),
            (Item::Table(now), Item::Table(was)) => {
                subtract(now, was, deeper.map(|(_, rest)| rest), mend);
                if now.is_empty() {
                    gone.push(key.to_string());
                }
            }
            _ => {}
        }
    }
    for key in gone {
        now.remove(&key);
    }
}

/// Whether two items say the same, however they are laid out.
fn same(now: &Item, was: &Item) -> bool {
    match (now, was) {
        (Item::Table(now), Item::Table(was)) => {
            now.len() == was.len()
                && now.iter().all(|(key, item)| was.get(key).is_some_and(|was| same(item, was)))
        }
        (Item::Value(now), Item::Value(was)) => same_value(now, was),
        _ => false,
    }
}

fn same_value(now: &Value, was: &Value) -> bool {
    match (now, was) {
        (Value::Array(now), Value::Array(was)) => {
            now.len() == was.len() && now.iter().zip(was).all(|(now, was)| same_value(now, was))
        }
        (Value::InlineTable(now), Value::InlineTable(was)) => {
            let member = |(key, now)| was.get(key).is_some_and(|was| same_value(now, was));
            now.len() == was.len() && now.iter().all(member)
        }
        (Value::String(now), Value::String(was)) => now.value() == was.value(),
        (now, was) => now.to_string().trim() == was.to_string().trim(),
    }
}
