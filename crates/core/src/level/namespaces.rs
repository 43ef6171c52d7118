//! Stores the labels of namespaces, one small file each, so that a start costs the same in every cluster.
//!
//! [`import`] writes the files from the API server's list; [`read`] reads one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::provenance::Shortened;
use super::{Labels, NamespaceLabels, is_dns_label};
use crate::atomic::{Lasts, WriteError};
use crate::files::{self, FileError, Links, Owner};
use crate::formats::{self, Format, NothingInCommon};
use crate::list::{self, ListError, Listed};
use crate::paths::Paths;
use crate::store::{self, Changes};
use crate::words::plural;

/// Why it cannot be said what a namespace asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name must not become part of a path.
    #[error("{0:?} cannot be the name of a namespace: it is not a DNS label")]
    Name(String),
    /// The file or its folder cannot be believed or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file says something else than labels.
    #[error("parse {} as labels of a namespace (pss-guard namespaces import rewrites it)", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The labels of one namespace. Costs the same however many there are.
pub fn read(dir: &Path, name: &str) -> Result<NamespaceLabels<'static>, NamespaceError> {
    if !is_dns_label(name) {
        return Err(NamespaceError::Name(name.chars().take(64).collect()));
    }
    // Whoever can rename files in the folder can give a namespace another one's labels; whoever can rename the folder
    // can take all of them away.
    match files::check_folder_of(dir) {
        Err(error) if error.is_missing() => return Ok(NamespaceLabels::NoFolder),
        checked => checked?,
    };
    match fs::metadata(dir) {
        Ok(metadata) => files::check_folder(dir, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(NamespaceLabels::NoFolder),
        Err(source) => return Err(FileError::Open { path: dir.to_owned(), source }.into()),
    }
    let path = dir.join(format!("{name}.json"));
    match files::read_as(&path, Links::Refuse, Owner::Root, store::LIMIT) {
        Ok((_, _, bytes)) => match serde_json::from_slice::<Strict>(&bytes) {
            Ok(Strict(labels)) => Ok(NamespaceLabels::Labels { labels, path }),
            Err(source) => Err(NamespaceError::Parse { path, source }),
        },
        Err(error) if error.is_missing() && store::is_unfilled(dir) => Ok(NamespaceLabels::NoFolder),
        Err(error) if error.is_missing() => Ok(NamespaceLabels::Missing),
        Err(error) => Err(error.into()),
    }
}

/// Whether any namespace is known here. Until one is, none is unknown: [`read`] says [`NamespaceLabels::NoFolder`].
#[must_use]
pub fn are_known(dir: &Path) -> bool {
    store::is_filled(dir)
}

/// The content of a file: PSA's labels, and from version 1 of the format on its version. Nothing else.
struct Strict(Labels<'static>);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(LabelVisitor { others: Others::Refuse }).map(Self)
    }
}

/// The labels of a Namespace object: PSA's, and those of everybody else.
#[derive(Default)]
struct Lenient(Labels<'static>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Go prints a map that was never made as null.
        struct Maybe;
        impl<'de> Visitor<'de> for Maybe {
            type Value = Labels<'static>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(Labels::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
                from.deserialize_map(LabelVisitor { others: Others::Skip })
            }
        }
        from.deserialize_option(Maybe).map(Self)
    }
}

enum Others {
    Refuse,
    Skip,
}

struct LabelVisitor {
    others: Others,
}

impl<'de> Visitor<'de> for LabelVisitor {
    type Value = Labels<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Labels<'static>, M::Error> {
        let mut labels = Labels::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match (labels.slot(&key), &self.others) {
                (None, Others::Refuse) if key == "v" => {
                    Format::Namespace.check(map.next_value()?).map_err(de::Error::custom)?;
                }
                // Two values for one label: nobody can say which of them the API server meant.
                (Some(Some(_)), _) => return Err(de::Error::custom(format_args!("{key:?} appears twice"))),
                (Some(slot), _) => *slot = Some(Cow::Owned(map.next_value()?)),
                (None, Others::Skip) => {
                    map.next_value::<IgnoredAny>()?;
                }
                (None, Others::Refuse) => {
                    return Err(de::Error::custom(format_args!(
                        "{} is not a Pod Security label",
                        Shortened(&key)
                    )));
                }
            }
        }
        Ok(labels)
    }
}

/// Why an import changed nothing, or not everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The gate reads no version of the files that this program writes.
    #[error("{0}; nothing was changed")]
    Format(#[from] NothingInCommon),
    /// The input is no list of namespaces, or not all of it.
    #[error(transparent)]
    List(#[from] ListError),
    /// Some namespaces by name or by a selector: the rest would be dropped.
    #[error(
        "the list lacks namespace {0:?}, which cannot be deleted, so the list is incomplete; import all \
         namespaces, or one at a time; nothing was changed"
    )]
    Part(&'static str),
    /// A name that must not become part of a path.
    #[error("{0:?} cannot be the name of a namespace: it is not a DNS label; nothing was changed")]
    Name(String),
    /// Two objects with one name.
    #[error("namespace {0:?} is in the list twice; nothing was changed")]
    Twice(String),
    /// A file cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The next boot would bring back older levels.
    #[error(
        "the namespaces were imported, but cannot be saved for the next boot; import them again after it"
    )]
    Keep(#[source] WriteError),
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many namespaces there are.
    pub namespaces: usize,
    /// How many are new or have other labels now.
    pub changed: usize,
    /// How many were dropped, because they are gone.
    pub removed: usize,
    /// Whether one namespace was imported, and the others stay as they are.
    pub one: bool,
    /// Labels whose values are invalid, a sentence each: upstream has rules for them, but nobody means them.
    pub invalid: Vec<String>,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespaces, changed, removed, one, invalid: _ } = self;
        if *one {
            let done = if *changed == 0 { "1 namespace is unchanged" } else { "updated 1 namespace" };
            return match namespaces.saturating_sub(1) {
                0 => write!(f, "{done}; this node knows no other"),
                others => write!(f, "{done}; this node knows {others} more, which are unchanged"),
            };
        }
        write!(f, "imported {} ({changed} changed, {removed} removed)", plural(*namespaces, "namespace"))
    }
}

/// The API server lets nobody delete these (apiserver `pkg/admission/plugin/namespace/lifecycle/admission.go`).
pub const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// The folder of the levels of namespaces, and its copy for the next boot.
///
/// A file is written only if its content changes. The files are of the version that this node's gate reads.
#[derive(Clone, Debug)]
pub struct Store {
    version: u32,
    live: PathBuf,
    kept: PathBuf,
}

impl Store {
    /// The node's own.
    pub fn of(paths: &Paths) -> Result<Self, ImportError> {
        let version = formats::agreed(&paths.formats(), Format::Namespace)?;
        Ok(Self { version, live: paths.namespaces(), kept: paths.kept_namespaces() })
    }

    /// Writes the labels of one namespace. Whether anything changed; if so, the next boot knows of it after [`Self::keep`].
    pub fn put(&self, name: &str, labels: &Labels<'_>) -> Result<bool, ImportError> {
        let content = content(labels, self.version);
        self.change(name, |folder| store::put(folder, name, &content, Lasts::Processes))
    }

    /// Removes a namespace that is gone. Whether it was there; if so, the next boot knows of it after [`Self::keep`].
    pub fn remove(&self, name: &str) -> Result<bool, ImportError> {
        self.change(name, |folder| store::remove(folder, name))
    }

    /// Copies everything for the next boot. It waits for the disk, and changes of the folder do not wait for it.
    pub fn keep(&self) -> Result<(), ImportError> {
        store::copy(&self.live, &self.kept, is_dns_label).map_err(ImportError::Keep)
    }

    /// The namespaces that there are files of.
    pub fn names(&self) -> Result<BTreeSet<String>, ImportError> {
        Ok(names(&self.live)?)
    }

    /// How many files the copy for the next boot lacks.
    pub fn uncopied(&self) -> Result<usize, ImportError> {
        Ok(store::uncopied(&self.live, &self.kept, is_dns_label)?)
    }

    /// Writes all namespaces, and removes what is not among them. Whoever watches the node learns from the folder's time how old
    /// that knowledge is, so it is set even if there is nothing to write. How many were changed, and how many removed.
    pub fn replace_all(&self, all: &BTreeMap<String, Labels<'_>>) -> Result<[usize; 2], ImportError> {
        if let Some(name) = all.keys().find(|name| !is_dns_label(name)) {
            return Err(ImportError::Name(name.chars().take(64).collect()));
        }
        let _lock = store::lock(&self.live)?;
        let known = names(&self.live)?;
        let lacks = |name: &&str| known.contains(*name) && !all.contains_key(*name);
        if let Some(name) = IMMORTAL.into_iter().find(lacks) {
            return Err(ImportError::Part(name));
        }
        let content = |(name, labels): (&String, &Labels<'_>)| (name.clone(), content(labels, self.version));
        let files: BTreeMap<String, String> = all.iter().map(content).collect();
        let Changes { changed, removed } = store::fill(&self.live, &files, is_dns_label, Lasts::Processes)?;
        // Afterwards: a full disk must not keep the node from what the cluster asks for now.
        store::keep(&self.kept, &files, is_dns_label).map_err(ImportError::Keep)?;
        Ok([changed, removed])
    }

    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&Path) -> Result<bool, WriteError>,
    ) -> Result<bool, ImportError> {
        if !is_dns_label(name) {
            return Err(ImportError::Name(name.chars().take(64).collect()));
        }
        Ok(store::change(&self.live, change)?)
    }
}

/// Makes the node's folder say what the API server's list says, and the copy for the next boot the same. A list is all
/// there is: what it lacks is dropped. One object changes one namespace. The whole input is checked before anything
/// changes.
pub fn import(input: &mut dyn Read, paths: &Paths) -> Result<Imported, ImportError> {
    let store = Store::of(paths)?;
    let Input { wanted, one } = namespaces(list::read(input)?)?;
    let invalid = wanted.iter().flat_map(|(name, labels)| {
        labels.faults().into_iter().map(move |fault| format!("namespace {name:?}: {fault}"))
    });
    let invalid = invalid.collect();
    if let (true, Some((name, labels))) = (one, wanted.first_key_value()) {
        let changed = usize::from(store.put(name, labels)?);
        store.keep()?;
        let namespaces = names(&paths.namespaces())?.len();
        return Ok(Imported { namespaces, changed, removed: 0, one, invalid });
    }
    let [changed, removed] = store.replace_all(&wanted)?;
    Ok(Imported { namespaces: wanted.len(), changed, removed, one, invalid })
}

/// An object of the API, as far as it matters here.
#[derive(serde::Deserialize)]
struct Object {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, serde::Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: Lenient,
}

impl list::Object for Object {
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";

    fn kind(&self) -> &str {
        &self.kind
    }
}

/// What an import is given.
struct Input {
    wanted: BTreeMap<String, Labels<'static>>,
    /// Whether it is one object rather than a list.
    one: bool,
}

fn namespaces(Listed { items, one }: Listed<Object>) -> Result<Input, ImportError> {
    let mut wanted = BTreeMap::new();
    for Object { metadata: Metadata { name, labels }, .. } in items {
        if !is_dns_label(&name) {
            return Err(ImportError::Name(name.chars().take(64).collect()));
        }
        if wanted.insert(name.clone(), labels.0).is_some() {
            return Err(ImportError::Twice(name));
        }
    }
    Ok(Input { wanted, one })
}

fn content(labels: &Labels<'_>, version: u32) -> String {
    let set = Labels::KEYS.into_iter().zip(labels.values());
    let map: BTreeMap<&str, &str> = set.filter_map(|(key, value)| Some((key, value?))).collect();
    // A map of strings to strings has no way to fail.
    let mut text = serde_json::to_string(&map).unwrap_or_default();
    if version > 0 {
        // Before everything that a reader of another version may not understand.
        text.insert_str(1, &format!("\"v\":{version}{}", if map.is_empty() { "" } else { "," }));
    }
    text.push('\n');
    text
}

/// The namespaces that are imported; none if nobody imports any.
pub fn names(dir: &Path) -> Result<BTreeSet<String>, WriteError> {
    store::names(dir, is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::{Labels, content};

    #[test]
    fn a_version_stands_before_all_else_and_the_first_is_not_written() {
        let none = Labels::default();
        let some = Labels { enforce: Some("baseline".into()), ..Labels::default() };
        for (version, labels, expected) in [
            (0, &none, "{}\n"),
            (0, &some, "{\"pod-security.kubernetes.io/enforce\":\"baseline\"}\n"),
            (1, &none, "{\"v\":1}\n"),
            (12, &some, "{\"v\":12,\"pod-security.kubernetes.io/enforce\":\"baseline\"}\n"),
        ] {
            assert_eq!(content(labels, version), expected);
        }
    }
}
