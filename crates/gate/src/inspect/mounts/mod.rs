//! Classifies the mounts of a container: the pod's own volumes, the engine's, and paths of the host.
//!
//! **The law.** The kubelet gives a hostPath volume as the host's path itself, every other volume and file as a path in
//! its own directory of the pod. Engines follow a link that is the last part of a hostPath and write where it leads, so
//! any path that a pod can find out, ids included, can stand here. A bind source is the pod's own or the engine's only
//! if all of this holds; everything else is a path of the host:
//!
//! 1. *Exact shape* ([`shape`]): the text is what the kubelet or this engine writes for this very pod, container and
//!    sandbox, without `.`, `..` and `//`, and nothing below it.
//! 2. *Anchored* ([`ground`]): it begins with a directory whose name comes from the policy (the kubelet's root) or from
//!    what the engine says of this container, not from the source.
//! 3. *Firm*: from the anchor to the source's parent each part is a directory, no link, that root owns and nobody else
//!    can write to. What the source itself is may be anybody's; only a link it is not.
//! 4. A subPath mount shows what is behind it by the kernel's mount table ([`table`]), not by its text. It is there before the
//!    container is asked for.
//!
//! **No race is left**, because a race needs a directory that someone other than root can write to: what is exchanged between this
//! look and the runtime's mount would have to lie in one of the directories of 3, or be the source's own name in the
//! last of them. A path *below* a volume, in which a container could exchange a directory, never has an exact shape. The
//! one content that is looked into, that of an image volume, no container can write to.
//!
//! **Nothing waits**: no system call enters what a source names, so a volume whose server is gone holds nothing up.
//!
//! Where 1 and 2 hold and 3 does not, nobody but root can have made it so: it is the node's fault and not the pod's, and
//! an error that names the directory. [`anchors`](super::anchors) finds it before a pod does.

mod file_system;
pub(super) mod ground;
mod host_binds;
mod shape;
mod table;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use self::ground::{Anchors, Ground, Shape};
use self::shape::{Engines, Ids, Kubelet};
use self::table::{Behind, Data};
use super::cdi::Cdi;
use super::host::Host;
use super::path::{absolute, is_plain, normalize, strip_dir};
use super::spec::{Mount, Spec, Text};
use pss::facts::{Engine, HostNamespaces, Volume};
use pss_guard_core::files::FileError;

pub(in crate::inspect) use self::table::Table;
#[cfg(fuzzing)]
pub use self::table::behind;

/// What is known of the pod when its mounts are looked at.
pub(super) struct Pod<'p> {
    /// The engine.
    pub(super) engine: Engine,
    /// The kubelet's directory, as configured.
    pub(super) kubelet_root: &'p str,
    /// The pod's UID.
    pub(super) uid: Option<&'p str>,
    /// The id of its sandbox.
    pub(super) sandbox: Option<&'p str>,
    /// The container's id.
    pub(super) id: Option<&'p str>,
    /// Bind sources that the admin says are no hostPath volumes.
    pub(super) not_host_paths: &'p [String],
    /// The directory of config.json: a relative source starts there.
    pub(super) bundle: Option<&'p str>,
    /// The path of its root file system, as config.json has it.
    pub(super) root: Option<&'p str>,
    /// The host's network, processes or IPC that it joins: engines then bind a few paths of the host themselves.
    pub(super) joins: HostNamespaces,
    /// It has users of its own.
    pub(super) user_namespace: bool,
    /// Whom the root of its users is on the host.
    pub(super) mapped_root: Option<u32>,
}

/// Looks at the root file system and every mount and keeps what is a volume.
pub(super) fn volumes<'a>(
    spec: &'a Spec<'_>,
    pod: &Pod<'_>,
    host: &Host,
    cdi: &Cdi,
) -> Result<Vec<Volume<'a>>, FileError> {
    let node = Lookup::of(pod, host, cdi);
    let mut found = Vec::new();
    found.extend(root(spec, pod, &node));
    for mount in spec.mounts.as_deref().unwrap_or_default() {
        found.extend(if mount.is_bind() {
            bind(mount, pod, &node)?
        } else {
            file_system::volume(mount, pod, &node)?
        });
    }
    Ok(found)
}

/// The node, and what was looked up on it once for all mounts.
struct Lookup<'p> {
    host: &'p Host,
    cdi: &'p Cdi,
    ground: Ground<'p>,
    anchors: Anchors<'p>,
    kubelet: Named<'p>,
    listed: Vec<Named<'p>>,
    table: OnceCell<Rc<Table>>,
}

impl<'p> Lookup<'p> {
    fn of(pod: &Pod<'p>, host: &'p Host, cdi: &'p Cdi) -> Self {
        let ground = Ground::of(host);
        let ids = Ids { sandbox: pod.sandbox, container: pod.id };
        Self {
            host,
            cdi,
            anchors: Anchors::of(pod.engine, ids, pod.bundle, pod.root, &ground),
            ground,
            kubelet: Named::of(pod.kubelet_root, host),
            listed: pod.not_host_paths.iter().map(|listed| Named::of(listed, host)).collect(),
            table: OnceCell::new(),
        }
    }

    /// The mount table: a pod can have thousands of subPath mounts, each of which is a line of it.
    fn table(&self) -> Result<&Table, FileError> {
        if self.table.get().is_none() {
            let _ = self.table.set(self.host.mount_table()?);
        }
        Ok(self.table.get_or_init(|| Rc::new(Table::of(""))))
    }
}

/// A directory that the policy names, by that name and, where there is a link in it, by what it leads to: engines follow
/// a link only where it is the last part of a source.
struct Named<'h> {
    name: String,
    real: OnceCell<Option<String>>,
    host: &'h Host,
}

impl<'h> Named<'h> {
    fn of(configured: &str, host: &'h Host) -> Self {
        Self { name: normalize(configured).into_owned(), real: OnceCell::new(), host }
    }

    /// The directory as a path begins with it, and what follows. Where it leads is looked up only for a path that does
    /// not begin with its name.
    fn strip<'s>(&self, path: &'s str) -> Option<(&'s str, &'s str)> {
        self.strip_name(path).or_else(|| split(path, self.real()?))
    }

    /// The same by its name alone.
    fn strip_name<'s>(&self, path: &'s str) -> Option<(&'s str, &'s str)> {
        split(path, &self.name)
    }

    fn real(&self) -> Option<&str> {
        self.real.get_or_init(|| self.host.resolve_directory(&self.name)).as_deref()
    }
}

/// A directory as a path begins with it, and what follows.
fn split<'s>(path: &'s str, directory: &str) -> Option<(&'s str, &'s str)> {
    let below = strip_dir(path, directory)?;
    Some((path.get(..directory.trim_end_matches('/').len())?, below))
}

/// A container's root file system that is no engine's, but a directory of the host: `podman run --rootfs /`, `ctr run
/// --rootfs`.
fn root<'a>(spec: &'a Spec<'_>, pod: &Pod<'_>, node: &Lookup<'_>) -> Option<Volume<'a>> {
    let path = spec.root.as_ref()?.path.as_ref().map(Text::as_str)?;
    let host_path = |source: Cow<'a, str>| Volume::HostPath { destination: "/", source, name: None };
    let Some(whole) = absolute(path, pod.bundle) else {
        // Relative to a bundle that is not known: what leads out of any is a path of the host.
        return path.split('/').any(|part| part == "..").then(|| host_path(Cow::Borrowed(path)));
    };
    // containerd makes the bundle and mounts the root file system there itself; the CRI names no other.
    if pod.engine == Engine::Containerd && path == "rootfs" {
        return None;
    }
    let bundle = pod.bundle.map(normalize);
    let is_inside = |path: &str, bundle: &str| strip_dir(path, bundle).is_some_and(|below| !below.is_empty());
    if bundle.as_deref().is_some_and(|bundle| is_inside(&whole, bundle)) {
        // What counts is where it leads: whoever made the bundle may have made a link.
        let real = |path: &str| node.host.resolve(path).unwrap_or_else(|| path.to_owned());
        let (root, bundle) = (real(&whole), real(bundle.as_deref().unwrap_or_default()));
        return (!is_inside(&root, &bundle)).then(|| host_path(Cow::Owned(root)));
    }
    // Away from its node nothing can be compared.
    let is_engines = node.anchors.is_root(&whole, pod.bundle) || (!node.host.is_here() && whole != "/");
    (!is_engines).then(|| host_path(Cow::Owned(whole.into_owned())))
}

fn bind<'a>(mount: &'a Mount<'_>, pod: &Pod<'_>, node: &Lookup<'_>) -> Result<Option<Volume<'a>>, FileError> {
    let destination = mount.destination();
    let source = mount.source();
    if host_binds::is_engines(mount, pod, node) {
        return Ok(None);
    }
    // What is not spelled as the kubelet and engines spell it is not theirs, but for a part of an image that is mounted as a volume:
    // there containerd appends the pod's own words (`container_image_mount.go`).
    if !is_plain(source) {
        if pod.engine == Engine::Containerd
            && let Some(path) = absolute(source, None).filter(|_| !source.split('/').any(|part| part == ".."))
            && matches!(node.anchors.find(&path), Some((_, Shape::Engines(Engines::InImage(_)))))
            && let Is::Own = of_engine(&path, mount, pod, node)?
        {
            return Ok(None);
        }
        return Ok(Some(match absolute(source, pod.bundle) {
            Some(path) => Volume::HostPath { destination, source: path, name: None },
            None => {
                Volume::Unclear { destination, why: "its source is relative to a bundle that is not known" }
            }
        }));
    }
    let made_by_kubelet = |stripped: Option<(&'a str, &'a str)>| {
        let (anchor, below) = stripped.filter(|_| pod.engine.speaks_cri())?;
        Some((anchor, below, shape::of_kubelet(below, pod.uid)?))
    };
    // By its name first: where that leads need not be known for what the engine made.
    let mut made = made_by_kubelet(node.kubelet.strip_name(source));
    if made.is_none() {
        match of_engine(source, mount, pod, node)? {
            Is::Own => return Ok(None),
            Is::Volume(volume) => return Ok(Some(volume)),
            Is::Unknown => made = made_by_kubelet(node.kubelet.strip(source)),
        }
    }
    if let Some((anchor, below, shape)) = made {
        node.ground.is_firm(source, anchor, None)?;
        return match node.ground.link(source) {
            Some(target) => Ok(Some(linked(source, &target, destination))),
            None => of_kubelet(shape, (anchor, below), destination, pod, node),
        };
    }
    if is_listed(source, node)? || is_of_another_container(source, destination, pod, node)? {
        return Ok(None);
    }
    // Asked last: the node's specifications are read only for what nothing else explains.
    let options: Vec<&str> = mount.options.iter().flatten().map(Text::as_str).collect();
    if node.cdi.has_mount(source, destination, &options) {
        return Ok(None);
    }
    Ok(Some(Volume::HostPath { destination, source: Cow::Borrowed(source), name: None }))
}

/// What the kubelet made: a volume, a part of one, or a file of its own.
fn of_kubelet<'a>(
    shape: Kubelet<'a>,
    (anchor, below): (&str, &str),
    destination: &'a str,
    pod: &Pod<'_>,
    node: &Lookup<'_>,
) -> Result<Option<Volume<'a>>, FileError> {
    let unclear = |why| Ok(Some(Volume::Unclear { destination, why }));
    let name = match shape {
        Kubelet::File => return Ok(None),
        Kubelet::OfSomePod => {
            return unclear("it is in the kubelet's directory of a pod, and the pod's UID is not known");
        }
        Kubelet::Volume { plugin, name } => return Ok(Some(Volume::Plugin { name, plugin })),
        Kubelet::SubPath { name } => name,
    };
    // The mount table has no links in it.
    let point = format!("{}/{below}", node.kubelet.real().unwrap_or(anchor).trim_end_matches('/'));
    match node.table()?.behind(&point, |path| volume_of(path, pod, node)) {
        Behind::OfPod => Ok(None),
        // The kubelet mounts it before it asks for the container (`pkg/volume/util/subpath/subpath_linux.go`). Who names the
        // place before may be shown by propagation what is mounted there later.
        Behind::Nothing if node.host.is_here() => {
            Ok(Some(Volume::HostPath { destination, source: Cow::Owned(point), name: None }))
        }
        Behind::Nothing => unclear("it is a subPath mount that the mount table does not show"),
        Behind::Unclear(why) => unclear(why),
        Behind::HostPath(paths) => {
            // The kernel's own paths have no links in them, so how far below makes no difference.
            let is_listed = |path: &String| node.listed.iter().any(|listed| listed.strip(path).is_some());
            let shown = paths.first().cloned().unwrap_or_default();
            let volume = Volume::HostPath { destination, source: Cow::Owned(shown), name: Some(name) };
            Ok((!paths.iter().any(is_listed)).then_some(volume))
        }
    }
}

/// The directory of the pod's volume that a path is, or lies in.
fn volume_of(path: &str, pod: &Pod<'_>, node: &Lookup<'_>) -> Option<String> {
    let (anchor, below) = node.kubelet.strip(path)?;
    let ends = below.match_indices('/').map(|(at, _)| at).chain([below.len()]);
    let is_volume = |part: &&str| matches!(shape::of_kubelet(part, pod.uid), Some(Kubelet::Volume { .. }));
    let volume = ends.filter_map(|end| below.get(..end)).find(is_volume)?;
    Some(format!("{anchor}/{volume}"))
}

/// What a link leads to, as a path of the host.
fn linked<'a>(source: &str, target: &str, destination: &'a str) -> Volume<'a> {
    Volume::HostPath { destination, source: Cow::Owned(beside(source, target)), name: None }
}

/// Where the target of a link leads.
fn beside(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return normalize(target).into_owned();
    }
    let (parent, _) = link.rsplit_once('/').unwrap_or_default();
    normalize(&format!("{parent}/{target}")).into_owned()
}

/// What a source is to an engine.
enum Is<'a> {
    /// Its own, or the pod's.
    Own,
    /// Of a shape that it makes, and yet something of the host.
    Volume(Volume<'a>),
    /// Nothing of its.
    Unknown,
}

/// What a source is to this engine, which made it for this container, its sandbox or its pod, or did not.
fn of_engine<'a>(
    source: &str,
    mount: &'a Mount<'_>,
    pod: &Pod<'_>,
    node: &Lookup<'_>,
) -> Result<Is<'a>, FileError> {
    // Everything that the kubelet asks CRI-O for carries `rbind`, and nothing that CRI-O adds itself
    // (`server/container_create_linux.go`: addOCIBindMounts). What CRI-O mounts at the same place anyway is no more.
    if pod.engine == Engine::CriO && mount.has("rbind") && !is_where_cri_o_has_it(source, mount.destination())
    {
        return Ok(Is::Unknown);
    }
    let mut source = Cow::Borrowed(source);
    if node.anchors.find(&source).is_none()
        && let Some(path) = ground::without_aliases(&source, &node.ground)
    {
        source = Cow::Owned(path);
    }
    let destination = mount.destination();
    let Some((anchor, found)) = node.anchors.find(&source) else {
        return Ok(if is_in_own_root(&source, pod, node) { Is::Own } else { Is::Unknown });
    };
    let own = |path: &str| -> Result<Is<'a>, FileError> {
        node.ground.is_firm(path, anchor, pod.mapped_root)?;
        let target = node.ground.link(path);
        Ok(target.map_or(Is::Own, |target| Is::Volume(linked(path, &target, destination))))
    };
    match found {
        // Engines refuse to mount an image or an artifact writable (containerd `container_image_mount.go`
        // mutateImageMount). A hostPath may ask for it, and then writes to the layer that every container of it shares.
        Shape::Engines(Engines::Blob | Engines::InImage(_))
            if !(mount.is_read_only() || mount.has("rro")) =>
        {
            Ok(Is::Unknown)
        }
        Shape::Engines(Engines::Own | Engines::Blob) => own(&source),
        Shape::Engines(Engines::InImage(inside)) => {
            let image = source.strip_suffix(inside).unwrap_or(&source).trim_end_matches('/');
            match own(image)? {
                Is::Own if !inside.is_empty() && !node.host.is_below(image, inside) => Ok(Is::Unknown),
                is => Ok(is),
            }
        }
        Shape::Volume { directory, inside } => {
            let path = format!("{anchor}/{directory}");
            match own(&path)? {
                Is::Own => managed(&path, inside, destination, node),
                is => Ok(is),
            }
        }
    }
}

/// Whether both ends of a mount are those of a file of the sandbox that CRI-O mounts into every container.
fn is_where_cri_o_has_it(source: &str, destination: &str) -> bool {
    let file = source.rsplit('/').next().unwrap_or_default();
    matches!(
        (file, destination),
        ("resolv.conf", "/etc/resolv.conf")
            | ("hostname", "/etc/hostname")
            | (".containerenv", "/run/.containerenv")
            | ("shm", "/dev/shm")
    )
}

/// Whether a source is in the container's own root file system, in which nothing has run yet: CRI-O and podman mount
/// a part of the image over another where the host is in FIPS mode (containers/common `pkg/subscriptions`).
fn is_in_own_root(source: &str, pod: &Pod<'_>, node: &Lookup<'_>) -> bool {
    let of_storage = matches!(pod.engine, Engine::CriO | Engine::Podman);
    let Some(root) = pod.root.filter(|root| of_storage && root.starts_with('/')) else { return false };
    let inside = strip_dir(source, root).filter(|inside| !inside.is_empty());
    inside.is_some_and(|inside| {
        node.anchors.is_root(root, pod.bundle) && (!node.host.is_here() || node.host.is_below(root, inside))
    })
}

/// What a managed volume is, or what lies in one.
fn managed<'a>(
    volume: &str,
    inside: &str,
    destination: &'a str,
    node: &Lookup<'_>,
) -> Result<Is<'a>, FileError> {
    let table = node.table()?;
    let host_path =
        |path| Ok(Is::Volume(Volume::HostPath { destination, source: Cow::Owned(path), name: None }));
    let unclear = |why| Ok(Is::Volume(Volume::Unclear { destination, why }));
    if let Some(path) = elsewhere(table, volume, node) {
        return host_path(path);
    }
    let data = table.data(volume).map_or(Data::Here, |(_, data)| data);
    match data {
        Data::Unknown => unclear("it is a volume of a kind of file system that can show anything"),
        _ if inside.is_empty() => Ok(Is::Own),
        // A server is not asked: it may not answer.
        Data::Here if node.host.leads_out(volume, inside) => host_path(format!("{volume}/{inside}")),
        _ => unclear("its source is inside a volume, where a container can replace parts of its path"),
    }
}

/// The path of the host that a managed volume really is, or its kind of file system if that is the kernel's; `None` for a
/// volume with data of its own, also on a disk or server of its own. A driver can make anything a volume
/// (`-o type=none -o o=bind -o device=PATH`, `-o type=proc`).
fn elsewhere(table: &Table, volume: &str, node: &Lookup<'_>) -> Option<String> {
    if let Some((kind, Data::OfHost)) = table.data(volume) {
        return Some(kind.to_owned());
    }
    let managed = |path: &str| matches!(node.anchors.find(path), Some((_, Shape::Volume { .. })));
    table.others(volume).into_iter().map(|origin| origin.path).find(|path| !managed(path))
}

/// Whether the policy lists a source: an entry stands for itself, and for what lies directly in it. Further down are the
/// insides of claims, where a container whose root is the host's root can exchange whatever it likes, and nothing about
/// an owner would show it. A link is followed where root made it, and has to stay in what the policy lists.
fn is_listed(source: &str, node: &Lookup<'_>) -> Result<bool, FileError> {
    let mut path = source.to_owned();
    for _ in 0..8 {
        let close = |(_, below): &(&str, &str)| !below.contains('/');
        let Some((anchor, below)) = node.listed.iter().filter_map(|listed| listed.strip(&path)).find(close)
        else {
            return Ok(false);
        };
        // A listed path itself is there to be mounted, whoever owns it. In a sticky directory anybody may have made
        // what lies there, and may exchange it.
        let is_closed =
            || Ok(is_believed(node.ground.is_firm(&path, anchor, None))? && !node.ground.is_shared(anchor));
        if !below.is_empty() && !is_closed()? {
            return Ok(false);
        }
        match node.ground.link(&path) {
            None => return Ok(true),
            // The admin listed a link: its target counts.
            Some(_) if below.is_empty() => return Ok(true),
            Some(target) => path = beside(&path, &target),
        }
    }
    Ok(false)
}

/// A directory that others can write to is no fault here: it is a claim's, and what is below it is not believed.
fn is_believed(firm: Result<(), FileError>) -> Result<bool, FileError> {
    match firm {
        Ok(()) => Ok(true),
        Err(FileError::Owner { .. } | FileError::Writable { .. } | FileError::Kind { .. }) => Ok(false),
        Err(err) => Err(err),
    }
}

/// The few files that podman and docker share between containers of one pod, or of one `--network` and `--ipc`
/// `container:…`: recognized by both ends of the mount.
fn is_of_another_container(
    path: &str,
    destination: &str,
    pod: &Pod<'_>,
    node: &Lookup<'_>,
) -> Result<bool, FileError> {
    let (above, file) = match (pod.engine, destination) {
        (Engine::Podman, "/dev/shm") => ("userdata", "shm"),
        (Engine::Podman, "/etc/hosts") => ("userdata", "hosts"),
        (Engine::Podman, "/etc/hostname") => ("userdata", "hostname"),
        (Engine::Podman, "/etc/resolv.conf") => ("userdata", "resolv.conf"),
        (Engine::Docker, "/dev/shm") => ("mounts", "shm"),
        (Engine::Docker, "/etc/hosts") => ("", "hosts"),
        (Engine::Docker, "/etc/hostname") => ("", "hostname"),
        (Engine::Docker, "/etc/resolv.conf") => ("", "resolv.conf"),
        _ => return Ok(false),
    };
    let mut parts = path.rsplit('/');
    let files = parts.next() == Some(file) && (above.is_empty() || parts.next() == Some(above));
    let Some(id) = parts.next().filter(|id| files && shape::is_random(id)) else { return Ok(false) };
    let of_engine = |folder: &str| match pod.engine {
        Engine::Podman => folder.ends_with("-containers"),
        _ => folder == "containers",
    };
    if !parts.next().is_some_and(of_engine) {
        return Ok(false);
    }
    let anchor = path.split_once(&format!("/{id}/")).map_or(path, |(anchor, _)| anchor);
    Ok(is_believed(node.ground.is_firm(path, anchor, pod.mapped_root))? && node.ground.link(path).is_none())
}

#[cfg(test)]
mod tests;
