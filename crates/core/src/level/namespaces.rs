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
        Err(error) if error.is_missing() => Ok(NamespaceLabels::Missing),
        Err(error) => Err(error.into()),
    }
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

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Labels::default())
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
    /// What is known of the others cannot be read.
    #[error("keep the levels of the other namespaces; import all of them; nothing was changed")]
    Others(#[source] NamespaceError),
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
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Makes the folder `live` say what the API server's list says, and `kept` the same for the next boot. A list is all
/// there is: what it lacks is dropped. One object changes one namespace. The whole input is checked before anything
/// changes.
///
/// The folder's own time is that of the last list, even of one that brought nothing new: who watches the node learns from
/// it how old that knowledge is. The files are of the version that this node's gate reads.
pub fn import(input: &mut dyn Read, paths: &Paths) -> Result<Imported, ImportError> {
    let (live, kept) = (&paths.namespaces(), &paths.kept_namespaces());
    let version = formats::agreed(&paths.formats(), Format::Namespace)?;
    let Input { mut wanted, one } = namespaces(list::read(input)?)?;
    let invalid = wanted.iter().flat_map(|(name, labels)| {
        labels.faults().into_iter().map(move |fault| format!("namespace {name:?}: {fault}"))
    });
    let invalid = invalid.collect();

    let _lock = store::lock(live)?;
    let known = names(live)?;
    if one {
        for name in known {
            if !wanted.contains_key(&name)
                && let NamespaceLabels::Labels { labels, .. } =
                    read(live, &name).map_err(ImportError::Others)?
            {
                wanted.insert(name, labels);
            }
        }
    } else if let Some(name) =
        IMMORTAL.into_iter().find(|name| known.contains(*name) && !wanted.contains_key(*name))
    {
        return Err(ImportError::Part(name));
    }
    let files: BTreeMap<String, String> =
        wanted.iter().map(|(name, labels)| (name.clone(), content(labels, version))).collect();
    let fill = |dir, lasts| store::fill(dir, &files, is_dns_label, lasts);
    let live_fill = || fill(live, Lasts::Processes);
    let Changes { changed, removed } = if one { store::keeping_time(live, live_fill) } else { live_fill() }?;
    // Afterwards: a full disk must not keep the node from what the cluster asks for now.
    fill(kept, Lasts::PowerCuts).map_err(ImportError::Keep)?;
    Ok(Imported { namespaces: files.len(), changed, removed, one, invalid })
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
