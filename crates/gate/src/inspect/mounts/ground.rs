//! Checks that nobody but root can write to the directories from an anchor down to a mount source.
//!
//! An anchor is a directory in which the kubelet or this container's engine makes what it mounts. Its name comes from
//! the policy, or from what the engine says of this container (its bundle, the bundle's `work` link, its root file
//! system), never from a mount's source. Links above an anchor are the admin's.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::shape::{self, CRI_PLUGIN, Engines, Ids};
use crate::inspect::host::Host;
use crate::inspect::path::{normalize, strip_dir};
use pss::facts::Engine;
use pss_guard_core::files::{self, FileError, Links, Owners};

/// The directories on the way to sources, each looked at once.
pub(super) struct Ground<'h> {
    host: &'h Host,
    closed: RefCell<BTreeSet<String>>,
}

impl<'h> Ground<'h> {
    pub(super) fn of(host: &'h Host) -> Self {
        Self { host, closed: RefCell::default() }
    }

    /// Looks at every directory from the anchor, the first bytes of the path, to the parent of what the path names:
    /// each must be owned by root and closed to others, and below the anchor be no link. `also` may own them, too: the root of
    /// the container's own users, to whom podman and docker hand the container's directory.
    ///
    /// Top down, so each was closed when the next was looked up: whoever is not root can exchange none of them
    /// afterwards. What does not exist cannot be made by others either. Nothing here enters what the path names, so a
    /// volume whose server is gone holds nothing up.
    pub(super) fn is_firm(&self, path: &str, anchor: &str, also: Option<u32>) -> Result<(), FileError> {
        if !self.host.is_here() {
            return Ok(());
        }
        let parent = path.rfind('/').unwrap_or(0);
        let bytes = path.bytes().enumerate().take(parent + 1).skip(anchor.len());
        for end in bytes.filter(|(_, byte)| *byte == b'/').map(|(at, _)| at) {
            let directory = path.get(..end).unwrap_or_default();
            let directory = if directory.is_empty() { "/" } else { directory };
            if self.closed.borrow().contains(directory) {
                continue;
            }
            let owners = Owners { root: self.host.root_user(), also };
            let links = if end == anchor.len() { Links::Follow } else { Links::Refuse };
            match files::check_closed(Path::new(directory), links, owners) {
                Ok(()) => {}
                Err(err) if err.is_missing() => return Ok(()),
                Err(err) => return Err(err),
            }
            self.closed.borrow_mut().insert(directory.to_owned());
        }
        Ok(())
    }

    /// Whether anybody may put things of his own into a directory.
    pub(super) fn is_shared(&self, directory: &str) -> bool {
        self.host.is_here() && std::fs::metadata(directory).is_ok_and(|meta| meta.mode() & 0o022 != 0)
    }

    /// See [`Host::link`].
    pub(super) fn link(&self, path: &str) -> Option<String> {
        self.host.link(path)
    }
}

/// Where this container's engine keeps what it makes.
pub(super) struct Anchors<'p> {
    engine: Engine,
    ids: Ids<'p>,
    /// Each with what is kept there.
    names: Vec<(String, Keeps)>,
    /// No node to ask: any directory of a fitting name is taken for the engine's.
    anywhere: bool,
}

/// What is kept below an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    /// containerd's CRI plugin.
    Cri,
    /// `<driver>-containers` of containers/storage.
    Containers,
    /// CRI-O's artifacts.
    Artifacts,
    /// Docker's containers.
    Docker,
    /// Volumes of podman or docker.
    Volumes,
}

/// What the source of a mount is to this container's engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape<'p> {
    /// What it made for the container.
    Engines(Engines<'p>),
    /// A managed volume by its directory, and what follows that.
    Volume { directory: &'p str, inside: &'p str },
}

impl<'p> Anchors<'p> {
    /// Learns them from the bundle and the root file system of a container.
    pub(super) fn of(
        engine: Engine,
        ids: Ids<'p>,
        bundle: Option<&str>,
        root: Option<&str>,
        ground: &Ground<'_>,
    ) -> Self {
        let mut names = Vec::new();
        let bundle = bundle.map(normalize);
        match engine {
            Engine::Containerd => {
                let state = bundle.as_deref().and_then(of_task);
                // containerd links the bundle to its own directory for this container (`core/runtime/v2/bundle.go`).
                let work = bundle.as_deref().and_then(|bundle| ground.link(&format!("{bundle}/work")));
                let root = work.as_deref().and_then(of_task);
                for directory in [state, root].into_iter().flatten() {
                    names.push((format!("{directory}/{CRI_PLUGIN}"), Keeps::Cri));
                }
            }
            Engine::CriO | Engine::Podman => {
                let of_bundle = bundle.as_deref().and_then(of_userdata);
                names.extend(of_bundle.map(|containers| (containers.to_owned(), Keeps::Containers)));
                let storage = match engine {
                    // CRI-O's bundles are in its run root, and its root file systems in its graph root.
                    Engine::CriO => root.and_then(of_layer),
                    _ => of_bundle.and_then(|containers| Some(containers.rsplit_once('/')?.0)),
                };
                if let Some(storage) = storage {
                    let driver = root.and_then(|root| strip_dir(root, storage)?.split('/').next());
                    let containers = driver.map(|driver| format!("{storage}/{driver}-containers"));
                    names.extend(containers.map(|containers| (containers, Keeps::Containers)));
                    names.push((format!("{storage}/artifacts"), Keeps::Artifacts));
                    names.push((format!("{storage}/volumes"), Keeps::Volumes));
                }
            }
            Engine::Docker => {
                if let Some(data) = root.and_then(of_layer) {
                    names.push((format!("{data}/containers"), Keeps::Docker));
                    names.push((format!("{data}/volumes"), Keeps::Volumes));
                }
            }
            Engine::None => {}
        }
        Self { engine, ids, names, anywhere: !ground.host.is_here() }
    }

    /// What a path is to the engine, and which of its first bytes are the anchor.
    pub(super) fn find<'s>(&self, path: &'s str) -> Option<(&'s str, Shape<'s>)> {
        for (name, keeps) in &self.names {
            if let Some(below) = strip_dir(path, name)
                && let Some(found) = self.below(*keeps, below)
            {
                return Some((path.get(..name.len())?, found));
            }
        }
        // Not told by a bundle: podman's run root. Without a node: everything.
        if self.anywhere || self.engine == Engine::Podman { self.somewhere(path) } else { None }
    }

    fn below<'s>(&self, keeps: Keeps, below: &'s str) -> Option<Shape<'s>> {
        match keeps {
            Keeps::Cri => shape::of_containerd(below, self.ids).map(Shape::Engines),
            Keeps::Containers => shape::of_storage(below, self.ids, self.engine).map(Shape::Engines),
            Keeps::Artifacts => shape::of_artifacts(below).map(Shape::Engines),
            Keeps::Docker => shape::of_docker(below, self.ids).map(Shape::Engines),
            Keeps::Volumes => {
                shape::of_volumes(below).map(|(directory, inside)| Shape::Volume { directory, inside })
            }
        }
    }

    /// The same by the names that the directories usually have, below whatever directory.
    fn somewhere<'s>(&self, path: &'s str) -> Option<(&'s str, Shape<'s>)> {
        let keeps = |part: &str| match (self.engine, part) {
            (Engine::Containerd, CRI_PLUGIN) => Some(Keeps::Cri),
            (Engine::CriO | Engine::Podman, part) if part.ends_with("-containers") => Some(Keeps::Containers),
            (Engine::CriO, "artifacts") => Some(Keeps::Artifacts),
            (Engine::Docker, "containers") => Some(Keeps::Docker),
            (Engine::Podman | Engine::Docker, "volumes") if self.anywhere => Some(Keeps::Volumes),
            _ => None,
        };
        let mut start = 0;
        for part in path.split('/') {
            let end = start + part.len();
            let below = path.get(end..).and_then(|rest| rest.strip_prefix('/'));
            if let Some(found) = keeps(part).zip(below).and_then(|(keeps, below)| self.below(keeps, below)) {
                return Some((path.get(..end)?, found));
            }
            start = end + 1;
        }
        None
    }

    /// Whether the path of a root file system is one that the engine makes.
    pub(super) fn is_root(&self, path: &str, bundle: Option<&str>) -> bool {
        let of_bundle =
            || bundle.and_then(of_userdata).and_then(|containers| Some(containers.rsplit_once('/')?.0));
        match self.engine {
            Engine::CriO | Engine::Docker => of_layer(path).is_some(),
            Engine::Podman => {
                of_bundle().and_then(|storage| strip_dir(path, storage)).is_some_and(shape::is_layer)
            }
            Engine::Containerd | Engine::None => false,
        }
    }
}

/// The storage of which a path is a container's root file system.
pub(super) fn of_layer(path: &str) -> Option<&str> {
    path.match_indices('/').map(|(at, _)| path.split_at(at)).find_map(|(storage, below)| {
        (!storage.is_empty() && shape::is_layer(below.strip_prefix('/')?)).then_some(storage)
    })
}

/// containerd's directory of which a path is that of a task: `<directory>/io.containerd.runtime.v2.task/<client>/<id>`.
fn of_task(path: &str) -> Option<&str> {
    let (client, _) = path.rsplit_once('/')?;
    let (tasks, _) = client.rsplit_once('/')?;
    tasks.strip_suffix("/io.containerd.runtime.v2.task")
}

/// The `<driver>-containers` of a bundle, which is `<driver>-containers/<id>/userdata`.
fn of_userdata(bundle: &str) -> Option<&str> {
    let (containers, _) = bundle.strip_suffix("/userdata")?.rsplit_once('/')?;
    containers.ends_with("-containers").then_some(containers)
}

/// The directories in which distributions and admins move an engine's or the kubelet's directory elsewhere by a link,
/// `/var/run` for one. No container writes there unless it may write anywhere.
const SYSTEM: [&str; 4] = ["", "/run", "/var", "/var/lib"];

/// A path after the links in [`SYSTEM`]; `None` where there are none.
pub(super) fn without_aliases(path: &str, ground: &Ground<'_>) -> Option<String> {
    follow(path, |part| ground.host.link_of_node(part))
}

/// So many links are followed, and a loop is none.
const MOST_LINKS: usize = 8;

fn follow(path: &str, link: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut path = Cow::Borrowed(path);
    let mut followed = 0;
    let mut start = 0;
    while let Some(at) = path.get(start + 1..).and_then(|rest| rest.find('/')) {
        let end = start + 1 + at;
        let (directory, part) = (path.get(..start)?, path.get(..end)?);
        if !SYSTEM.contains(&directory) {
            break;
        }
        match link(part) {
            Some(target) if followed < MOST_LINKS => {
                followed += 1;
                let rest = path.get(end..)?;
                let whole = if target.starts_with('/') {
                    format!("{target}{rest}")
                } else {
                    format!("{directory}/{target}{rest}")
                };
                path = Cow::Owned(normalize(&whole).into_owned());
                start = 0;
            }
            Some(_) => return None,
            None => start = end,
        }
    }
    (followed > 0).then(|| path.into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Ground, MOST_LINKS, follow};
    use crate::inspect::host::Host;

    #[test]
    fn links_of_the_system_are_followed_and_no_others() {
        let chain: Vec<_> = (0..=MOST_LINKS)
            .map(|nth| (format!("/var/lib/{nth}"), format!("/var/lib/{}", nth + 1)))
            .chain(
                [
                    ("/var/run", "/run"),
                    ("/var/lib/kubelet", "/data/kubelet"),
                    ("/var/lib/near", "../../srv/near"),
                    ("/data/kubelet/link", "/etc"),
                    ("/var/lib/loop", "/var/lib/loop"),
                ]
                .map(|(at, target)| (at.to_owned(), target.to_owned())),
            )
            .collect();
        let link = |part: &str| chain.iter().find(|(at, _)| at == part).map(|(_, target)| target.clone());
        let last = format!("/var/lib/{}/x", MOST_LINKS + 1);
        for (path, expected) in [
            ("/var/run/containerd/x", Some("/run/containerd/x")),
            ("/var/lib/kubelet/pods/u", Some("/data/kubelet/pods/u")),
            ("/var/lib/near/x", Some("/srv/near/x")),
            ("/etc/x/y", None),
            // The end of a path is what it is.
            ("/var/lib/kubelet", None),
            // Not in one of the system's own directories.
            ("/data/kubelet/link/x", None),
            ("/var/lib/loop/x", None),
            ("/var/lib/1/x", Some(last.as_str())),
            ("/var/lib/0/x", None),
        ] {
            assert_eq!(follow(path, link).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn every_directory_down_to_the_parent_is_closed_and_none_below() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(anchor.join("a/b/c")).unwrap();
        let (anchor, path) = (anchor.to_str().unwrap(), anchor.join("a/b/c"));
        let path = path.to_str().unwrap();
        for (open, is_firm) in [("", false), ("/a", false), ("/a/b", false), ("/a/b/c", true)] {
            let open = format!("{anchor}{open}");
            let before = fs::metadata(&open).unwrap().permissions();
            fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
            assert_eq!(Ground::of(&Host::Live).is_firm(path, anchor, None).is_ok(), is_firm, "{open}");
            fs::set_permissions(&open, before).unwrap();
            Ground::of(&Host::Live).is_firm(path, anchor, None).unwrap();
        }
    }
}
