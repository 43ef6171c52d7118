//! Stores the labels of namespaces, one small file each, so that a start costs the same in every cluster.
//!
//! [`import`] writes the files from the API server's list; [`read`] reads one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::provenance::Shortened;
use super::{Found, Labels, is_dns_label};
use crate::files::{self, FileError, Links, Owner};
use crate::formats::{self, Format, NothingInCommon};
use crate::paths::Paths;
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

/// Six labels of at most 63 characters need less than 1 KiB.
const FILE_LIMIT: u64 = 64 << 10;

/// The labels of one namespace. Costs the same however many there are.
pub fn read(dir: &Path, name: &str) -> Result<Found<'static>, NamespaceError> {
    if !is_dns_label(name) {
        return Err(NamespaceError::Name(name.chars().take(64).collect()));
    }
    // Whoever can rename files in the folder can give a namespace another one's labels; whoever can rename the folder
    // can take all of them away.
    match files::check_folder_of(dir) {
        Err(error) if error.is_missing() => return Ok(Found::NoFolder),
        checked => checked?,
    };
    match fs::metadata(dir) {
        Ok(metadata) => files::check_folder(dir, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoFolder),
        Err(source) => return Err(FileError::Open { path: dir.to_owned(), source }.into()),
    }
    let path = dir.join(format!("{name}.json"));
    match files::read_as(&path, Links::Refuse, Owner::Root, FILE_LIMIT) {
        Ok((_, _, bytes)) => match serde_json::from_slice::<Strict>(&bytes) {
            Ok(Strict(labels)) => Ok(Found::Labels { labels, path }),
            Err(source) => Err(NamespaceError::Parse { path, source }),
        },
        Err(error) if error.is_missing() => Ok(Found::Missing),
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
    /// The input cannot be read.
    #[error("read the namespaces from standard input")]
    Input(#[source] io::Error),
    /// There is no input.
    #[error("standard input is empty (did kubectl fail?); nothing was changed")]
    Nothing,
    /// The input is too large.
    #[error("the list of namespaces is larger than {INPUT_LIMIT} bytes; nothing was changed")]
    TooLarge,
    /// The input is no JSON of that shape.
    #[error("parse the output of kubectl get namespaces -o json; nothing was changed")]
    Parse(#[source] serde_json::Error),
    /// The input is something else.
    #[error("expected the output of kubectl get namespaces -o json, but got {0}; nothing was changed")]
    Shape(String),
    /// A list without namespaces would drop them all.
    #[error(
        "the list has no namespaces (is the cluster reachable, and may this user list them?); nothing was changed"
    )]
    Empty,
    /// Only a page of a list: the rest would be dropped.
    #[error(
        "the list is one page of several; use kubectl get namespaces -o json, which fetches all; nothing was changed"
    )]
    Page,
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
    #[error("{what} {}", .path.display())]
    Write {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The next boot would bring back older levels.
    #[error(
        "the namespaces were imported, but cannot be saved for the next boot; import them again after it"
    )]
    Keep(#[source] Box<ImportError>),
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

/// 10,000 namespaces with all their managed fields are about 30 MB.
const INPUT_LIMIT: u64 = 256 << 20;

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
    let mut bytes = Vec::new();
    input.take(INPUT_LIMIT + 1).read_to_end(&mut bytes).map_err(ImportError::Input)?;
    if bytes.len() as u64 > INPUT_LIMIT {
        return Err(ImportError::TooLarge);
    }
    if bytes.trim_ascii().is_empty() {
        return Err(ImportError::Nothing);
    }
    let Input { mut wanted, one } = namespaces(&bytes)?;
    let invalid = wanted.iter().flat_map(|(name, labels)| {
        labels.faults().into_iter().map(move |fault| format!("namespace {name:?}: {fault}"))
    });
    let invalid = invalid.collect();

    let parent = live.parent().unwrap_or(Path::new("/"));
    make_folder(parent)?;
    let _lock = lock(parent)?;
    let known = known(live)?;
    let time = if one { fs::metadata(live).and_then(|folder| folder.modified()).ok() } else { None };
    if one {
        for name in known {
            if !wanted.contains_key(&name)
                && let Found::Labels { labels, .. } = read(live, &name).map_err(ImportError::Others)?
            {
                wanted.insert(name, labels);
            }
        }
    } else if let Some(name) =
        IMMORTAL.into_iter().find(|name| known.contains(*name) && !wanted.contains_key(*name))
    {
        return Err(ImportError::Part(name));
    }
    let done = Imported { one, invalid, ..fill(live, &wanted, version)? };
    if let Some(time) = time {
        File::open(live)
            .and_then(|folder| folder.set_modified(time))
            .map_err(fault("set the time of", live))?;
    }
    // Afterwards: a full disk must not keep the node from what the cluster asks for now.
    fill(kept, &wanted, version).map_err(|error| ImportError::Keep(Box::new(error)))?;
    Ok(done)
}

/// Makes one folder say what is wanted. A power cut leaves whole files, the old or the new.
fn fill(
    dir: &Path,
    wanted: &BTreeMap<String, Labels<'static>>,
    version: u32,
) -> Result<Imported, ImportError> {
    make_folder(dir.parent().unwrap_or(Path::new("/")))?;
    let exists = dir.is_dir();
    // A folder that exists and is not filled yet would make every namespace an unknown one. In one that is filled, this
    // one comes and goes even if there is nothing to write, which sets the folder's time.
    let new = if exists { dir.join(".new") } else { dir.with_extension("new") };
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("remove", &new)(error)),
        _ => make_folder(&new)?,
    }
    let mut changed = Vec::new();
    for (name, labels) in wanted {
        let (file, content) = (format!("{name}.json"), content(labels, version));
        let same = files::read_as(&dir.join(&file), Links::Refuse, Owner::Root, FILE_LIMIT)
            .is_ok_and(|(_, _, bytes)| bytes == content.as_bytes());
        if !same {
            write(&new.join(&file), &content)?;
            changed.push(file);
        }
    }
    let sync = |folder: &Path| {
        let synced = File::open(folder).and_then(|folder| Ok(nix::unistd::syncfs(folder)?));
        synced.map_err(fault("sync", folder))
    };
    let stale: Vec<PathBuf> = known(dir)?
        .into_iter()
        .filter(|name| !wanted.contains_key(name))
        .map(|name| dir.join(format!("{name}.json")))
        .collect();
    let done = Imported {
        namespaces: wanted.len(),
        changed: changed.len(),
        removed: stale.len(),
        ..Imported::default()
    };
    if !changed.is_empty() {
        sync(&new)?;
    }
    if exists {
        for file in &changed {
            fs::rename(new.join(file), dir.join(file)).map_err(fault("write", &dir.join(file)))?;
        }
        for stale in &stale {
            fs::remove_file(stale).map_err(fault("remove", stale))?;
        }
        fs::remove_dir(&new).map_err(fault("remove", &new))?;
    } else {
        fs::rename(&new, dir).map_err(fault("create", dir))?;
    }
    if done.changed + done.removed > 0 {
        sync(dir)?;
    }
    Ok(done)
}

/// An object of the API, as far as it matters here.
#[derive(serde::Deserialize)]
struct Object {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    items: Option<Vec<Object>>,
}

#[derive(Default, serde::Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: Lenient,
    /// Set on a list that goes on elsewhere.
    #[serde(default, rename = "continue")]
    more: String,
    /// How many items of it are elsewhere.
    #[serde(rename = "remainingItemCount")]
    remaining: Option<i64>,
}

/// What an import is given.
struct Input {
    wanted: BTreeMap<String, Labels<'static>>,
    /// Whether it is one object rather than a list.
    one: bool,
}

fn namespaces(bytes: &[u8]) -> Result<Input, ImportError> {
    let object: Object = serde_json::from_slice(bytes).map_err(ImportError::Parse)?;
    let shape = |kind: &str| {
        let kind: String = kind.chars().take(64).collect();
        ImportError::Shape(if kind.is_empty() {
            "an object without kind".to_owned()
        } else {
            format!("kind {kind:?}")
        })
    };
    let named = object.kind == "NamespaceList";
    let one = object.kind == "Namespace";
    let whole = object.metadata.more.is_empty() && object.metadata.remaining.is_none_or(|count| count <= 0);
    let items = match (object.kind.as_str(), object.items) {
        ("Namespace", None) => vec![Object { kind: object.kind, metadata: object.metadata, items: None }],
        ("List" | "NamespaceList", Some(items)) if whole => items,
        ("List" | "NamespaceList", Some(_)) => return Err(ImportError::Page),
        (kind, _) => return Err(shape(kind)),
    };
    if items.is_empty() {
        return Err(ImportError::Empty);
    }
    let mut wanted = BTreeMap::new();
    for item in items {
        // The items of a NamespaceList, as the API server itself writes it, have no kind.
        let bare = item.kind.is_empty() && named;
        if item.kind != "Namespace" && !bare {
            return Err(shape(&item.kind));
        }
        let name = item.metadata.name;
        if !is_dns_label(&name) {
            return Err(ImportError::Name(name.chars().take(64).collect()));
        }
        if wanted.insert(name.clone(), item.metadata.labels.0).is_some() {
            return Err(ImportError::Twice(name));
        }
    }
    Ok(Input { wanted, one })
}

/// One import at a time: two would each remove what the other just wrote.
fn lock(parent: &Path) -> Result<File, ImportError> {
    let path = parent.join("namespaces.lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(fault("create", &path))?;
    file.lock().map_err(fault("lock", &path))?;
    Ok(file)
}

fn make_folder(path: &Path) -> Result<(), ImportError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(fault("create", path))?;
    // Rootless engines read these as well, whatever the umask of the one who imports.
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(fault("chmod", path))
}

fn write(path: &Path, content: &str) -> Result<(), ImportError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    opened
        .and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(content.as_bytes())
        })
        .map_err(fault("write", path))
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
pub fn names(dir: &Path) -> Result<BTreeSet<String>, ImportError> {
    known(dir)
}

/// The namespaces that a folder has files of; none if it is not there. What this program did not write is not among
/// them.
fn known(dir: &Path) -> Result<BTreeSet<String>, ImportError> {
    let mut known = BTreeSet::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(known);
        }
        entries => entries.map_err(fault("list", dir))?,
    };
    for entry in entries {
        let name = entry.map_err(fault("list", dir))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        known.extend(stem.filter(|stem| is_dns_label(stem)).map(str::to_owned));
    }
    Ok(known)
}

fn fault(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::Write { what, path, source }
}
