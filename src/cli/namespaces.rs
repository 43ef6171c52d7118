//! `pss-guard namespaces`: stores the labels of the API server's namespaces on this node, and lists what is stored.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use super::arguments::AnswerFormat;
use super::{FAILED, LAST_GOOD, OK, line, some};
use crate::level::date::rfc3339;
use crate::level::namespaces::{self, NamespaceError};
use crate::level::{Labels, NamespaceLabels};
use crate::message::{escape, shortened};
use crate::paths::Paths;
use crate::scan::{self, Setting};
use crate::status::ago;
use crate::words::plural;

/// Imports the list that `input` holds.
pub fn import(paths: &Paths, input: &mut dyn Read, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    // A reader that went away does not undo what was done.
    match namespaces::import(input, paths) {
        Ok(imported) => {
            for invalid in &imported.invalid {
                let _ = writeln!(err, "pss-guard: {invalid}; `pss-guard policy show` shows what is in force");
            }
            let _ = writeln!(out, "{imported}");
            OK
        }
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", line(&error));
            FAILED
        }
    }
}

/// What is imported: the labels as they are, not what the policy makes of them.
#[derive(Debug, Serialize)]
struct Listed {
    /// Where the files are.
    folder: String,
    /// When a list was imported last, in UTC; `null` if none ever was.
    imported: Option<String>,
    #[serde(skip)]
    since: Option<SystemTime>,
    namespaces: Vec<Namespace>,
    /// Namespaces that run here and are not imported; `null` where what runs could not be inspected at all.
    not_imported: Option<BTreeSet<String>>,
}

/// The labels of one namespace; what it does not set is `null`.
#[derive(Debug, Serialize)]
struct Namespace {
    name: String,
    enforce: Option<String>,
    enforce_version: Option<String>,
    audit: Option<String>,
    audit_version: Option<String>,
    warn: Option<String>,
    warn_version: Option<String>,
    /// Labels with values that do not exist.
    invalid: Vec<String>,
    /// Why its file cannot be used; then nothing is known of its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// Lists the imported namespaces with their labels, and those that run here and are not imported.
pub fn list(setting: &Setting, format: AnswerFormat, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut code = OK;
    let mut failed = |err: &mut dyn Write, says: &str| {
        code = FAILED;
        let _ = writeln!(err, "pss-guard: {says}");
    };
    let mut listed = match imported(&setting.paths.namespaces()) {
        Ok(listed) => listed,
        Err(says) => {
            failed(err, &says);
            return FAILED;
        }
    };
    for namespace in &listed.namespaces {
        if let Some(fault) = &namespace.fault {
            failed(err, fault);
        }
    }
    if listed.since.is_some() && listed.namespaces.is_empty() {
        failed(
            err,
            &format!(
                "{} has no namespace in it, which no import leaves behind: import them again",
                listed.folder
            ),
        );
    }
    match scan::scan(setting, &scan::Options::default()) {
        Ok(scan) => {
            if let Some(fault) = &scan.policy_fault {
                let _ = writeln!(err, "pss-guard: {fault}; {LAST_GOOD}");
            }
            let known: BTreeSet<&str> = listed.namespaces.iter().map(|own| &*own.name).collect();
            let runs = scan.containers.iter().filter_map(|one| one.result.container().namespace.as_deref());
            listed.not_imported =
                Some(runs.filter(|name| !known.contains(name)).map(str::to_owned).collect());
            if !scan.unseen.is_empty() {
                let places = plural(scan.unseen.len(), "place");
                failed(
                    err,
                    &format!(
                        "{places} could not be inspected (`pss-guard scan` names them), so more namespaces may run here"
                    ),
                );
            }
        }
        Err(error) => failed(err, &format!("{}; which namespaces run here is not known", line(&error))),
    }
    let _ = match format {
        AnswerFormat::Text => text(&listed, out),
        AnswerFormat::Json => {
            serde_json::to_writer(&mut *out, &listed).map_err(Into::into).and_then(|()| writeln!(out))
        }
    };
    code
}

/// Reads the folder. An error is a sentence: nothing is known of any namespace.
fn imported(folder: &Path) -> Result<Listed, String> {
    let names = namespaces::names(folder).map_err(|error| line(&error))?;
    let mut since = folder.metadata().and_then(|own| own.modified()).ok();
    // Whether the folder can be trusted is checked with every file, and must be if there is none, too.
    if names.is_empty()
        && namespaces::read(folder, "default").map_err(|error| line(&error))? == NamespaceLabels::NoFolder
    {
        since = None;
    }
    Ok(Listed {
        folder: escape(&folder.to_string_lossy()),
        imported: since.map(rfc3339),
        since,
        namespaces: names.into_iter().map(|name| namespace(namespaces::read(folder, &name), name)).collect(),
        not_imported: None,
    })
}

fn namespace(read: Result<NamespaceLabels<'_>, NamespaceError>, name: String) -> Namespace {
    let (labels, fault) = match read {
        Ok(NamespaceLabels::Labels { labels, .. }) => (labels, None),
        Ok(_) => (Labels::default(), Some(format!("namespace {name:?} was removed while it was read"))),
        Err(error) => (Labels::default(), Some(line(&error))),
    };
    let [enforce, enforce_version, audit, audit_version, warn, warn_version] =
        labels.values().map(|value| value.map(|value| shortened(value, LONGEST)));
    let invalid = labels.faults();
    Namespace { name, enforce, enforce_version, audit, audit_version, warn, warn_version, invalid, fault }
}

/// Bytes of a value: a label has 63 at most.
const LONGEST: usize = 64;

fn text(listed: &Listed, out: &mut dyn Write) -> std::io::Result<()> {
    let Listed { folder, since, namespaces, not_imported, .. } = listed;
    match since {
        Some(since) => writeln!(
            out,
            "{} in {folder}, last list imported {} ago; `pss-guard policy show` shows what is in force",
            plural(namespaces.len(), "namespace"),
            ago(*since)
        )?,
        None => writeln!(
            out,
            "no namespaces are imported ({folder} is missing or empty): the policy's levels apply to all; \
             `kubectl get namespaces -o json | pss-guard namespaces import` imports them"
        )?,
    }
    let width =
        namespaces.iter().map(|own| own.name.len()).chain(["namespace".len()]).max().unwrap_or_default();
    let mut row = |name: &str, [enforce, audit, warn]: [&str; 3]| {
        let row = format!("{name:<width$}  {enforce:<18} {audit:<18} {warn}");
        writeln!(out, "{}", row.trim_end())
    };
    if !namespaces.is_empty() {
        row("namespace", ["enforce", "audit", "warn"])?;
    }
    for own in namespaces {
        // Without a level the policy's applies, at the version that is named here.
        let pair = |level: &Option<String>, version: &Option<String>| match (level, version) {
            (None, None) => "-".to_owned(),
            (level, version) => {
                let shown =
                    |text: &Option<String>, none: &str| text.as_deref().map_or(none.to_owned(), escape);
                format!("{}:{}", shown(level, "-"), shown(version, "latest"))
            }
        };
        if own.fault.is_some() {
            row(&own.name, ["cannot be read", "", ""])?;
            continue;
        }
        let levels = [
            pair(&own.enforce, &own.enforce_version),
            pair(&own.audit, &own.audit_version),
            pair(&own.warn, &own.warn_version),
        ];
        row(&own.name, levels.each_ref().map(String::as_str))?;
    }
    for own in namespaces {
        for invalid in &own.invalid {
            writeln!(out, "namespace {:?}: {invalid}", own.name)?;
        }
    }
    match not_imported {
        Some(names) if !names.is_empty() => {
            let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
            writeln!(out, "run here and are not imported: {}", some(&names))
        }
        _ => Ok(()),
    }
}
