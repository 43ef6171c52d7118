//! Where do the container's mounts lead? Which are the pod's own volumes, which the engine's, and which are paths of
//! the host.
//!
//! The kubelet gives a hostPath volume as the host's path itself, every other volume as
//! `<kubelet>/pods/<uid>/volumes/<plugin>/<name>`, and any subPath mount as `<kubelet>/pods/<uid>/volume-subpaths/…`,
//! which is a bind mount that hides what is behind it (`pkg/volume/util/subpath/subpath_linux.go`). Paths are compared
//! component by component, after `.`, `..` and symbolic links, and only with this pod's directory.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use super::host::Host;
use super::mount_table::Table;
use super::path::{absolute, normalize, strip_dir};
use super::spec::{Mount, Spec};
use crate::files::FileError;
use crate::pss::facts::{Engine, HostNamespaces, Volume};

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
    /// The host's network, processes or IPC that it joins: engines then bind a few paths of the host themselves.
    pub(super) joins: HostNamespaces,
    /// It has users of its own.
    pub(super) user_namespace: bool,
}

/// What the path of a mount's source is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// The engine's own, or a part of the pod's directory that is no volume.
    Own,
    /// A volume in the pod's directory.
    Volume { plugin: &'a str, name: &'a str },
    /// A subPath mount point: what it is, only the mount table tells.
    SubPath { name: Option<&'a str> },
    /// In the directory of a pod that may be this one: its UID is not known.
    OfSomePod,
    /// Somewhere else on the host.
    Elsewhere,
}

/// Looks at every mount and keeps those that are volumes.
pub(super) fn volumes<'a>(
    mounts: &'a [Mount<'_>],
    pod: &Pod<'_>,
    host: &Host,
) -> Result<Vec<Volume<'a>>, FileError> {
    let mut found = Vec::new();
    let mut node = Node { host, roots: Roots::of(pod.kubelet_root, host), table: None };
    for mount in mounts {
        if mount.is_bind() {
            found.extend(bind(mount, pod, &mut node)?);
        } else {
            found.extend(file_system(mount, pod, &mut node)?);
        }
    }
    Ok(found)
}

/// The host's root as the container's own (`podman run --rootfs /`): no mount, and yet all of the host's paths.
pub(super) fn root_of_the_host<'a>(spec: &'a Spec<'_>, host: &Host) -> Option<Volume<'a>> {
    let path = spec.root.as_ref()?.path.as_ref()?.as_str();
    let found = path.starts_with('/') && host.is_root(&normalize(path));
    found.then_some(Volume::HostPath { destination: "/", source: Cow::Borrowed("/"), name: None })
}

/// The node, and what was looked up on it once for all mounts.
struct Node<'h> {
    host: &'h Host,
    roots: Roots<'h>,
    table: Option<Rc<Table>>,
}

impl Node<'_> {
    /// The mount table: a pod can have thousands of subPath mounts, each of which is a line of it.
    fn table(&mut self) -> Result<&Table, FileError> {
        let table = match self.table.take() {
            Some(table) => table,
            None => self.host.mount_table()?,
        };
        Ok(self.table.insert(table))
    }
}

/// The kubelet's directory by its name and, where that is a symbolic link, by what it leads to: engines write the
/// resolved source into config.json.
struct Roots<'h> {
    named: String,
    real: OnceCell<Option<String>>,
    host: &'h Host,
}

impl<'h> Roots<'h> {
    fn of(configured: &str, host: &'h Host) -> Self {
        Self { named: normalize(configured).into_owned(), real: OnceCell::new(), host }
    }

    /// What follows the kubelet's directory in a path.
    fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        strip_dir(path, &self.named).or_else(|| strip_dir(path, self.real()?))
    }

    /// Where the directory leads; looked up only for a path that does not begin with its name.
    fn real(&self) -> Option<&str> {
        self.real.get_or_init(|| self.host.resolve(&self.named)).as_deref()
    }
}

fn bind<'a>(
    mount: &'a Mount<'_>,
    pod: &Pod<'_>,
    node: &mut Node<'_>,
) -> Result<Option<Volume<'a>>, FileError> {
    let destination = mount.destination();
    let host = node.host;
    let unclear = |why| Ok(Some(Volume::Unclear { destination, why }));
    let Some(source) = absolute(mount.source(), pod.bundle) else {
        return unclear("its source is relative to a bundle that is not known");
    };
    if is_engines_bind_of_the_host(&source, destination, mount, pod, host) {
        return Ok(None);
    }
    if source == SYSTEMD_CGROUP && source == destination && pod.engine != Engine::Containerd {
        return unclear("engines bind it, too, where the entry point is systemd and cgroups are v1");
    }
    let host_path = |source: String, name| Volume::HostPath { destination, source: Cow::Owned(source), name };
    // A symbolic link in a volume may lead out of it, and the pod's own containers can make one: the source counts for
    // where it leads. Where only the kubelet and the engine write, nobody makes links.
    let real = match place(&source, pod, &node.roots) {
        Place::Elsewhere => source,
        Place::Own if pod.engine.speaks_cri() => source,
        _ => match host.resolve(&source) {
            Some(real) => real.into(),
            // It is there, and the kernel does not say where it leads.
            None if host.is_there(&source) => {
                let path = PathBuf::from(source.as_ref());
                let source = std::io::Error::other("where it leads cannot be found out (is /proc mounted?)");
                return Err(FileError::Read { path, source });
            }
            None => source,
        },
    };
    match place(&real, pod, &node.roots) {
        Place::Own => match managed_volume(&real, pod.engine) {
            Some(volume) => {
                Ok(elsewhere(node.table()?, volume, pod.engine).map(|path| host_path(path, None)))
            }
            None => Ok(None),
        },
        Place::Volume { .. } => match place(mount.source(), pod, &node.roots) {
            Place::Volume { plugin, name } => Ok(Some(Volume::Plugin { name, plugin })),
            _ => unclear("its source takes a detour to a volume of the pod"),
        },
        Place::SubPath { .. } => {
            let name = match place(mount.source(), pod, &node.roots) {
                Place::SubPath { name } => name,
                _ => None,
            };
            let behind = node.table()?.behind(&real);
            if behind.is_empty() {
                return unclear("it is a subPath mount that the mount table does not show");
            }
            // The same directory can be mounted in several places; one of them in this pod's volumes is enough.
            let of_pod = |path: &&String| matches!(place(path, pod, &node.roots), Place::Volume { .. });
            if behind.iter().any(|path| of_pod(&path)) {
                return Ok(None);
            }
            Ok(behind.into_iter().next().map(|path| host_path(path, name)))
        }
        Place::OfSomePod => {
            unclear("it is in the kubelet's directory of a pod, and the pod's UID is not known")
        }
        Place::Elsewhere if is_listed(&real, pod.not_host_paths, host) => match host.resolve(&real) {
            // What is listed may be somebody's to write: a link in it leads wherever he likes.
            Some(leads) if !is_listed(&leads, pod.not_host_paths, host) => Ok(Some(host_path(leads, None))),
            None if host.is_here() => unclear("where its source leads cannot be found out"),
            _ => Ok(None),
        },
        Place::Elsewhere if is_of_another_container(&real, destination, pod, host) => Ok(None),
        Place::Elsewhere => Ok(Some(host_path(real.into_owned(), None))),
    }
}

/// Where engines mount systemd's cgroups, on cgroup v1, for a container that runs it (CRI-O
/// `server/container_create_linux.go`, podman `libpod/container_internal_linux.go` setupSystemd).
const SYSTEMD_CGROUP: &str = "/sys/fs/cgroup/systemd";

/// What a path is to this pod.
fn place<'p>(path: &'p str, pod: &Pod<'_>, roots: &Roots<'_>) -> Place<'p> {
    // First, because it asks nothing of the kernel.
    if is_engines(path, pod) {
        return Place::Own;
    }
    let of_pod = roots.strip(path).and_then(|rest| strip_dir(rest, "pods"));
    if let Some(rest) = pod.uid.and_then(|uid| strip_dir(of_pod?, uid)) {
        let mut parts = rest.split('/');
        return match (parts.next(), parts.next(), parts.next()) {
            (Some("volumes"), Some(plugin), Some(name)) => {
                Place::Volume { plugin: plugin.strip_prefix("kubernetes.io~").unwrap_or(plugin), name }
            }
            (Some("volume-subpaths"), Some(name), Some(_)) => Place::SubPath { name: Some(name) },
            // The termination log, and the hosts file. The directory itself, or its other parts, the kubelet never
            // mounts: whoever does wrote a hostPath.
            (Some("containers"), Some(_), Some(_)) | (Some("etc-hosts"), None, None) => Place::Own,
            _ => Place::Elsewhere,
        };
    }
    let kind = of_pod
        .filter(|_| pod.engine.speaks_cri() && pod.uid.is_none())
        .and_then(|rest| rest.split('/').nth(1));
    match kind {
        Some("volumes" | "volume-subpaths" | "containers" | "etc-hosts") => Place::OfSomePod,
        _ => Place::Elsewhere,
    }
}

/// Files that an engine makes for the container. They are recognized by the container's and the sandbox's ids, which
/// are random and not known before the container is made, so no hostPath can name them.
fn is_engines(path: &str, pod: &Pod<'_>) -> bool {
    let (sandbox, id) = (pod.sandbox, pod.id);
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match pod.engine {
        Engine::Containerd => {
            // `internal/cri/server/helpers.go`: getSandboxRootDir, getContainerRootDir, getImageVolumeHostPath.
            if !parts.any(|part| part == "io.containerd.grpc.v1.cri") {
                return false;
            }
            let (kind, of, what) = (parts.next(), parts.next(), parts.next());
            match kind {
                Some("sandboxes") => {
                    is_id(of, sandbox) && matches!(what, Some("shm" | "hostname" | "hosts" | "resolv.conf"))
                }
                Some("containers") => is_id(of, id) && what == Some("volumes"),
                Some("image-volumes") => is_id(of, sandbox),
                _ => false,
            }
        }
        Engine::CriO | Engine::Podman => {
            if managed_volume(path, pod.engine).is_some() {
                return true;
            }
            // `<driver>-containers` of containers/storage: overlay, vfs, btrfs, zfs.
            if !parts.any(|part| part.ends_with("-containers")) {
                return false;
            }
            let of = parts.next();
            (is_id(of, sandbox) || is_id(of, id)) && parts.next() == Some("userdata")
        }
        Engine::Docker => {
            // The directory above is whatever `data-root` and `userns-remap` make it.
            managed_volume(path, pod.engine).is_some()
                || (parts.any(|part| part == "containers") && is_id(parts.next(), id))
        }
        Engine::None => false,
    }
}

/// An id counts only if it is one that an engine makes: long and random.
fn is_id(part: Option<&str>, id: Option<&str>) -> bool {
    part == id && part.is_some_and(is_random)
}

fn is_random(id: &str) -> bool {
    id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The directory of a volume that podman or docker manages itself, of which the path is a part.
fn managed_volume(path: &str, engine: Engine) -> Option<&str> {
    let managed = match engine {
        Engine::Podman => "/containers/storage/volumes/",
        Engine::Docker => "/docker/volumes/",
        _ => return None,
    };
    let (_, rest) = path.split_once(managed)?;
    let (name, rest) = rest.split_once('/')?;
    let end = path.len() - rest.len() + "_data".len();
    let volume = path.get(..end).filter(|_| strip_dir(rest, "_data").is_some());
    volume.filter(|_| !name.is_empty())
}

/// The few files that podman and docker share between containers of one pod, or of one `--network` and `--ipc`
/// `container:…`: recognized by both ends of the mount.
fn is_of_another_container(path: &str, destination: &str, pod: &Pod<'_>, host: &Host) -> bool {
    let (above, file) = match (pod.engine, destination) {
        (Engine::Podman, "/dev/shm") => ("userdata", "shm"),
        (Engine::Podman, "/etc/hosts") => ("userdata", "hosts"),
        (Engine::Podman, "/etc/hostname") => ("userdata", "hostname"),
        (Engine::Podman, "/etc/resolv.conf") => ("userdata", "resolv.conf"),
        (Engine::Docker, "/dev/shm") => ("mounts", "shm"),
        (Engine::Docker, "/etc/hosts") => ("", "hosts"),
        (Engine::Docker, "/etc/hostname") => ("", "hostname"),
        (Engine::Docker, "/etc/resolv.conf") => ("", "resolv.conf"),
        _ => return false,
    };
    let real = host.resolve(path).unwrap_or_else(|| path.to_owned());
    let mut parts = real.rsplit('/');
    let files = parts.next() == Some(file) && (above.is_empty() || parts.next() == Some(above));
    let of_engine = |folder: &str| match pod.engine {
        Engine::Podman => folder.ends_with("-containers"),
        _ => folder == "containers",
    };
    files && parts.next().is_some_and(is_random) && parts.next().is_some_and(of_engine)
}

/// What engines bind from the host themselves, because of what else the pod asks for.
fn is_engines_bind_of_the_host(
    source: &str,
    destination: &str,
    mount: &Mount<'_>,
    pod: &Pod<'_>,
    host: &Host,
) -> bool {
    let unmanaged = matches!(pod.engine, Engine::Podman | Engine::Docker);
    match (source, destination) {
        // containerd `container_create.go` and CRI-O `container_create.go`: hostIPC shares the host's /dev/shm.
        ("/dev/shm", "/dev/shm") => pod.joins.ipc,
        ("/dev/mqueue", "/dev/mqueue") => pod.joins.ipc && unmanaged,
        // hostNetwork in a user namespace: sysfs cannot be mounted anew, so both engines bind the host's.
        ("/sys", "/sys") => pod.joins.network && (pod.user_namespace || unmanaged),
        ("/proc", "/proc") => pod.joins.pid && unmanaged,
        // CRI-O without the kubelet (`crictl`), hostNetwork.
        ("/etc/hosts", "/etc/hosts") => pod.joins.network && pod.engine == Engine::CriO,
        // `--init` of podman and docker.
        (init, "/run/podman-init" | "/dev/init") => {
            pod.engine == Engine::Podman && mount.has("ro") && is_init(init, host)
        }
        (init, "/sbin/docker-init") => pod.engine == Engine::Docker && mount.has("ro") && is_init(init, host),
        _ => false,
    }
}

/// One of the programs that `--init` puts first. The destination alone could be anybody's.
fn is_init(path: &str, host: &Host) -> bool {
    let real = host.resolve(path).unwrap_or_else(|| path.to_owned());
    let name = real.rsplit('/').next().unwrap_or_default();
    matches!(name, "catatonit" | "podman-init" | "docker-init" | "tini" | "tini-static" | "dumb-init")
}

/// A mount that is no bind mount: a file system of the kernel, or one with somebody's data.
fn file_system<'a>(
    mount: &'a Mount<'_>,
    pod: &Pod<'_>,
    node: &mut Node<'_>,
) -> Result<Option<Volume<'a>>, FileError> {
    const OF_THE_KERNEL: [&str; 8] =
        ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"];
    if OF_THE_KERNEL.contains(&mount.kind()) {
        return Ok(None);
    }
    let destination = mount.destination();
    let host_path = |source| Some(Volume::HostPath { destination, source, name: None });
    if mount.kind() == "overlay" {
        // The CRI knows no mount types: an overlay is how CRI-O mounts an image volume. podman's `-v PATH:…:O`
        // shows a path of the host as its lower layer.
        if pod.engine.speaks_cri() {
            return Ok(None);
        }
        return Ok(lower_of_the_host(mount, pod, node)?.and_then(|lower| host_path(Cow::Owned(lower))));
    }
    if mount.source().starts_with('/') {
        return Ok(host_path(Cow::Borrowed(mount.source())));
    }
    let why = "its file system is neither a bind mount nor one of the kernel's";
    Ok(Some(Volume::Unclear { destination, why }))
}

/// The path of the host that a managed volume really is: its driver can bind one (`-o type=none -o o=bind -o
/// device=PATH`). `None` for a volume with data of its own, also on a disk or server of its own.
fn elsewhere(table: &Table, volume: &str, engine: Engine) -> Option<String> {
    table.others(volume).into_iter().find(|path| managed_volume(path, engine).is_none())
}

/// The first lower layer of an overlay that is neither an image's, nor the engine's, nor a volume's.
fn lower_of_the_host(
    mount: &Mount<'_>,
    pod: &Pod<'_>,
    node: &mut Node<'_>,
) -> Result<Option<String>, FileError> {
    let options = mount.options.iter().flatten().flat_map(|option| option.as_str().split(','));
    let mut lowers = Vec::new();
    for option in options {
        // `lowerdir+=` adds layers one by one (Linux 6.7).
        if let Some(all) = option.strip_prefix("lowerdir=").or_else(|| option.strip_prefix("lowerdir+=")) {
            lowers.extend(all.split(':').filter(|lower| !lower.is_empty()));
        }
    }
    if lowers.is_empty() {
        return Ok(Some(String::new()));
    }
    for lower in lowers {
        let named = absolute(lower, pod.bundle).unwrap_or(Cow::Borrowed(lower));
        let real = node.host.resolve(&named).unwrap_or_else(|| named.into_owned());
        if let Some(volume) = managed_volume(&real, pod.engine) {
            match elsewhere(node.table()?, volume, pod.engine) {
                Some(path) => return Ok(Some(path)),
                None => continue,
            }
        }
        if !is_in_storage(&real, pod) {
            return Ok(Some(real));
        }
    }
    Ok(None)
}

/// Whether a path is a layer in the same containers/storage as the container's own bundle, which is
/// `<storage>/<driver>-containers/<id>/userdata`, or in that bundle.
fn is_in_storage(path: &str, pod: &Pod<'_>) -> bool {
    let Some(bundle) = pod.bundle.filter(|_| pod.engine == Engine::Podman) else { return false };
    if strip_dir(path, bundle).is_some_and(|rest| !rest.is_empty()) {
        return true;
    }
    let mut above = bundle.rsplitn(4, '/');
    let names = (above.next(), above.next(), above.next());
    let (Some(storage), (Some("userdata"), Some(_), Some(containers))) = (above.next(), names) else {
        return false;
    };
    let Some(driver) = containers.strip_suffix("-containers") else { return false };
    // A layer, not the directory of all layers: `overlay/ID/merged`, `vfs/dir/ID`, `btrfs/subvolumes/ID`.
    let layer = strip_dir(path, storage).and_then(|rest| strip_dir(rest, driver));
    layer.is_some_and(|rest| rest.split('/').count() >= 2)
}

/// Whether a path is in a directory of the list, by the directory's name or by what it leads to.
fn is_listed(path: &str, list: &[String], host: &Host) -> bool {
    list.iter().any(|listed| {
        let named = normalize(listed);
        let real = || host.resolve(&named).is_some_and(|real| strip_dir(path, &real).is_some());
        strip_dir(path, &named).is_some() || real()
    })
}

#[cfg(test)]
mod tests {
    use super::{Pod, Spec, Table, elsewhere, root_of_the_host, volumes};
    use crate::facts::host::Host;
    use crate::pss::facts::{Engine, HostNamespaces, Volume};

    const SANDBOX: &str = "3c2c694ac650841e0aa6ee03e962a7ca817cfcd7aee13ef10154ed229386cdb6";
    const ID: &str = "acb1e50360630d8c6043f4b1aef582a651aec8263f6ba527a74aa7cbe1d607af";
    const UID: &str = "dab344e9-1d4f-4e7d-941e-7a1219bef1c5";

    fn pod(engine: Engine, not_host_paths: &[String]) -> Pod<'_> {
        Pod {
            engine,
            kubelet_root: "/var/lib/kubelet",
            uid: Some(UID),
            sandbox: Some(SANDBOX),
            id: Some(ID),
            not_host_paths,
            bundle: Some("/run/b/x"),
            joins: HostNamespaces::default(),
            user_namespace: false,
        }
    }

    /// The one mount's volume as text.
    fn shown(pod: &Pod<'_>, host: &Host, mount: &str) -> String {
        let text = format!(r#"{{"mounts":[{mount}]}}"#);
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let mounts = spec.mounts.unwrap();
        match volumes(&mounts, pod, host).unwrap().as_slice() {
            [] => "own".to_owned(),
            [Volume::HostPath { source, name, .. }] => match name {
                Some(name) => format!("host {source} ({name})"),
                None => format!("host {source}"),
            },
            [Volume::Plugin { name, plugin }] => format!("{plugin} {name}"),
            [Volume::Unclear { why, .. }] => format!("unclear: {why}"),
            more => panic!("{more:?}"),
        }
    }

    fn bind(source: &str) -> String {
        format!(r#"{{"destination":"/mnt","type":"bind","source":"{source}","options":["rbind"]}}"#)
    }

    #[test]
    fn a_source_counts_for_where_it_really_is() {
        let own = format!("/var/lib/kubelet/pods/{UID}");
        let other = "/var/lib/kubelet/pods/00000000-1d4f-4e7d-941e-7a1219bef1c5";
        let containerd = "/var/lib/containerd/io.containerd.grpc.v1.cri";
        let rows = [
            (format!("{own}/volumes/kubernetes.io~empty-dir/m"), "empty-dir m".to_owned()),
            (format!("{own}/volumes/kubernetes.io~csi/pv/mount"), "csi pv".to_owned()),
            (format!("{own}/volumes/acme~nas/v"), "acme~nas v".to_owned()),
            (format!("{own}/etc-hosts"), "own".to_owned()),
            (format!("{own}/containers/c/1234abcd"), "own".to_owned()),
            (own.clone(), format!("host {own}")),
            (format!("{own}/volumes"), format!("host {own}/volumes")),
            (format!("{own}/plugins/x"), format!("host {own}/plugins/x")),
            (format!("{own}/etc-hosts/../../../../../../etc"), "host /etc".to_owned()),
            (
                format!("{own}/volumes/kubernetes.io~empty-dir/m/../../../../../pods"),
                "host /var/lib/kubelet/pods".to_owned(),
            ),
            (
                format!("{own}-evil/volumes/kubernetes.io~empty-dir/m"),
                format!("host {own}-evil/volumes/kubernetes.io~empty-dir/m"),
            ),
            (
                format!("{other}/volumes/kubernetes.io~secret/s"),
                format!("host {other}/volumes/kubernetes.io~secret/s"),
            ),
            ("/var/lib/kubelet/pods".to_owned(), "host /var/lib/kubelet/pods".to_owned()),
            (format!("{containerd}/sandboxes/{SANDBOX}/resolv.conf"), "own".to_owned()),
            (format!("{containerd}/sandboxes/{SANDBOX}/shm"), "own".to_owned()),
            (format!("/run/k3s/x/io.containerd.grpc.v1.cri/image-volumes/{SANDBOX}/i"), "own".to_owned()),
            (format!("{containerd}/containers/{ID}/volumes/r"), "own".to_owned()),
            (format!("{containerd}/sandboxes/{ID}/shm"), format!("host {containerd}/sandboxes/{ID}/shm")),
            (format!("{containerd}/sandboxes"), format!("host {containerd}/sandboxes")),
            ("/run/containerd/containerd.sock".to_owned(), "host /run/containerd/containerd.sock".to_owned()),
            ("/dev/shm".to_owned(), "host /dev/shm".to_owned()),
            ("../../../etc".to_owned(), "host /etc".to_owned()),
            ("/proc/1/root/etc".to_owned(), "host /proc/1/root/etc".to_owned()),
            ("//etc//./passwd".to_owned(), "host /etc/passwd".to_owned()),
            ("/opt/local-path/pvc-1".to_owned(), "own".to_owned()),
            ("/opt/local-path-evil".to_owned(), "host /opt/local-path-evil".to_owned()),
        ];
        let listed = ["/opt/local-path/".to_owned()];
        for (source, expected) in rows {
            assert_eq!(
                shown(&pod(Engine::Containerd, &listed), &Host::Unknown, &bind(&source)),
                expected,
                "{source}"
            );
        }
    }

    #[test]
    fn file_systems_with_somebodys_data_are_the_hosts() {
        let rows = [
            (Engine::None, r#"{"destination":"/d","type":"ext4","source":"/dev/vda"}"#, "host /dev/vda"),
            (
                Engine::Podman,
                r#"{"destination":"/d","type":"overlay","source":"overlay","options":["lowerdir=/etc"]}"#,
                "host /etc",
            ),
            (
                Engine::CriO,
                r#"{"destination":"/d","type":"overlay","source":"overlay","options":["lowerdir=/x"]}"#,
                "own",
            ),
            (
                Engine::None,
                r#"{"destination":"/d","type":"9p","source":"share"}"#,
                "unclear: its file system is neither a bind mount nor one of the kernel's",
            ),
            (Engine::None, r#"{"destination":"/d","type":"tmpfs","source":"/etc"}"#, "own"),
            (
                Engine::None,
                r#"{"destination":"/d","type":"tmpfs","source":"/etc","options":["rbind"]}"#,
                "host /etc",
            ),
        ];
        for (engine, mount, expected) in rows {
            assert_eq!(shown(&pod(engine, &[]), &Host::Unknown, mount), expected, "{mount}");
        }
    }

    #[test]
    fn a_symbolic_link_in_the_pods_directory_counts_for_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let real = root.join("data/kubelet");
        let volumes = real.join(format!("pods/{UID}/volumes/kubernetes.io~empty-dir"));
        std::fs::create_dir_all(volumes.join("good")).unwrap();
        std::os::unix::fs::symlink("/etc", volumes.join("bad")).unwrap();
        std::os::unix::fs::symlink(&real, root.join("kubelet")).unwrap();
        // The kubelet's directory itself may be a link: both its names are the pod's.
        let by_name = root.join("kubelet");
        for configured in [&by_name, &real] {
            let pod = Pod { kubelet_root: configured.to_str().unwrap(), ..pod(Engine::CriO, &[]) };
            let good = bind(volumes.join("good").to_str().unwrap());
            assert_eq!(shown(&pod, &Host::Live, &good), "empty-dir good", "{}", configured.display());
            let bad = bind(volumes.join("bad").to_str().unwrap());
            assert_eq!(shown(&pod, &Host::Live, &bad), "host /etc");
        }
    }

    #[test]
    fn what_is_listed_counts_for_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(root.join("pv/claim/data")).unwrap();
        // Whoever can write to a claim can make this link; CRI-O follows it only as the last part of a source.
        std::os::unix::fs::symlink("/", root.join("pv/claim/out")).unwrap();
        std::os::unix::fs::symlink("data", root.join("pv/claim/in")).unwrap();
        std::os::unix::fs::symlink(root.join("pv"), root.join("named")).unwrap();
        let rows = [
            ("pv/claim/data", "own"),
            ("pv/claim/in", "own"),
            ("named/claim/data", "own"),
            ("pv/claim/out/etc", "host /etc"),
            ("named/claim/out", "host /"),
            ("pv/claim/missing", "unclear: where its source leads cannot be found out"),
        ];
        for listed in ["pv", "named"] {
            let list = [root.join(listed).to_str().unwrap().to_owned()];
            for (source, expected) in rows {
                // By the name that is not listed only what it resolves to can be ours.
                if listed == "pv" && source.starts_with("named") {
                    continue;
                }
                let mount = bind(root.join(source).to_str().unwrap());
                assert_eq!(
                    shown(&pod(Engine::CriO, &list), &Host::Live, &mount),
                    expected,
                    "{listed}: {source}"
                );
            }
        }
    }

    #[test]
    fn podman_and_docker_cannot_hide_a_path_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let text = root.to_str().unwrap();
        std::fs::create_dir_all(root.join("containers/storage")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("containers/storage/link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("catatonit")).unwrap();
        let storage = "/var/lib/containers/storage";
        let bundle = format!("{storage}/overlay-containers/{ID}/userdata");
        let overlay = |lower: &str| {
            format!(
                r#"{{"destination":"/x","type":"overlay","source":"overlay","options":["lowerdir={lower}"]}}"#
            )
        };
        let init = |source: &str, at: &str| {
            format!(r#"{{"destination":"{at}","type":"bind","source":"{source}","options":["bind","ro"]}}"#)
        };
        let (podman, docker) = (Engine::Podman, Engine::Docker);
        let rows = [
            (podman, overlay(&format!("{text}/containers/storage/link")), "host /etc"),
            (podman, overlay(&format!("{storage}/../../../../etc")), "host /etc"),
            (podman, overlay(&format!("{storage}/overlay")), "host /var/lib/containers/storage/overlay"),
            (podman, overlay(&format!("{storage}/overlay/{ID}/merged:{bundle}/overlay/1/lower")), "own"),
            (podman, overlay(&format!("{storage}/overlay/{ID}/merged,lowerdir=/etc")), "host /etc"),
            (podman, overlay(&format!("{storage}/volumes/v/_data")), "own"),
            (podman, init("/etc", "/run/podman-init"), "host /etc"),
            (
                podman,
                init(&format!("{text}/catatonit"), "/run/podman-init"),
                &format!("host {text}/catatonit"),
            ),
            (podman, init("/usr/libexec/podman/catatonit", "/run/podman-init"), "own"),
            (docker, init("/", "/sbin/docker-init"), "host /"),
            (docker, init("/usr/bin/docker-init", "/sbin/docker-init"), "own"),
        ];
        for (engine, mount, expected) in rows {
            let pod = Pod { bundle: Some(&bundle), ..pod(engine, &[]) };
            assert_eq!(shown(&pod, &Host::Live, &mount), expected, "{mount}");
        }
    }

    #[test]
    fn a_managed_volume_that_is_a_path_of_the_host_is_one() {
        let volumes = "/var/lib/containers/storage/volumes";
        let table = Table::of(&format!(
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
             90 27 254:0 /etc {volumes}/bound/_data rw - ext4 /dev/vda rw\n\
             91 27 0:60 / {volumes}/memory/_data rw - tmpfs tmpfs rw\n\
             92 27 0:61 / {volumes}/nfs/_data rw - nfs4 server:/x rw\n\
             93 27 0:61 / {volumes}/nfs2/_data rw - nfs4 server:/x rw"
        ));
        for (name, expected) in
            [("bound", Some("/etc")), ("memory", None), ("nfs", None), ("nfs2", None), ("plain", None)]
        {
            let found = elsewhere(&table, &format!("{volumes}/{name}/_data"), Engine::Podman);
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        for (path, expected) in [
            (format!("{volumes}/v/_data"), Some(format!("{volumes}/v/_data"))),
            (format!("{volumes}/v/_data/below/it"), Some(format!("{volumes}/v/_data"))),
            (format!("{volumes}/v/_database"), None),
            (format!("{volumes}/v"), None),
            ("/etc".to_owned(), None),
        ] {
            assert_eq!(super::managed_volume(&path, Engine::Podman), expected.as_deref(), "{path}");
        }
    }

    #[test]
    fn what_engines_mount_themselves_is_no_host_path() {
        let other = SANDBOX;
        let rows = [
            (
                Engine::CriO,
                format!("/run/containers/storage/btrfs-containers/{ID}/userdata/hostname"),
                "/etc/hostname",
            ),
            (Engine::Podman, format!("/x/storage/zfs-containers/{ID}/userdata/secrets/s"), "/run/secrets/s"),
            (Engine::Podman, format!("/x/storage/overlay-containers/{other}/userdata/shm"), "/dev/shm"),
            (Engine::Podman, format!("/x/storage/overlay-containers/{other}/userdata/hosts"), "/etc/hosts"),
            (Engine::Docker, format!("/mnt/data/containers/{ID}/resolv.conf"), "/etc/resolv.conf"),
            (Engine::Docker, format!("/var/lib/docker/100000.100000/containers/{ID}/mounts/shm"), "/dev/shm"),
            (Engine::Docker, format!("/var/lib/docker/containers/{other}/mounts/shm"), "/dev/shm"),
            (Engine::Docker, format!("/var/lib/docker/containers/{other}/hostname"), "/etc/hostname"),
        ];
        for (engine, source, at) in &rows {
            let mount = format!(r#"{{"destination":"{at}","type":"bind","source":"{source}"}}"#);
            let pod = Pod { sandbox: None, ..pod(*engine, &[]) };
            assert_eq!(shown(&pod, &Host::Unknown, &mount), "own", "{mount}");
            // Somewhere else in the container only its own files are the engine's.
            let moved = format!(r#"{{"destination":"/x","type":"bind","source":"{source}"}}"#);
            let expected = if source.contains(ID) { "own".to_owned() } else { format!("host {source}") };
            assert_eq!(shown(&pod, &Host::Unknown, &moved), expected, "{moved}");
        }
        let systemd =
            r#"{"destination":"/sys/fs/cgroup/systemd","type":"bind","source":"/sys/fs/cgroup/systemd"}"#;
        let found = shown(&pod(Engine::CriO, &[]), &Host::Unknown, systemd);
        assert!(found.starts_with("unclear: engines bind it"), "{found}");
        let found = shown(&pod(Engine::Containerd, &[]), &Host::Unknown, systemd);
        assert_eq!(found, "host /sys/fs/cgroup/systemd");
    }

    #[test]
    fn engines_bind_sys_only_for_users_of_the_pods_own() {
        let sys = r#"{"destination":"/sys","type":"bind","source":"/sys","options":["rbind","rro"]}"#;
        for (user_namespace, expected) in [(true, "own"), (false, "host /sys")] {
            let joins = HostNamespaces { network: true, ..HostNamespaces::default() };
            let pod = Pod { joins, user_namespace, ..pod(Engine::Containerd, &[]) };
            assert_eq!(shown(&pod, &Host::Unknown, sys), expected);
        }
    }

    #[test]
    fn without_the_pods_uid_nothing_of_the_kubelet_is_proof() {
        let of_kubelet = bind("/var/lib/kubelet/pods/x/volumes/kubernetes.io~secret/s");
        let pod = Pod { uid: None, ..pod(Engine::Containerd, &[]) };
        let found = shown(&pod, &Host::Unknown, &of_kubelet);
        assert!(found.starts_with("unclear: it is in the kubelet's directory of a pod"), "{found}");
        let found = shown(&pod, &Host::Unknown, &bind("/var/lib/kubelet/pods/x/plugins"));
        assert_eq!(found, "host /var/lib/kubelet/pods/x/plugins");
    }

    #[test]
    fn the_hosts_root_as_the_containers_own_is_a_host_path() {
        for (path, expected) in
            [("/", true), ("/./", true), ("/etc/..", true), ("rootfs", false), ("/proc/self/root", true)]
        {
            let text = format!(r#"{{"root":{{"path":"{path}"}}}}"#);
            let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(root_of_the_host(&spec, &Host::Live).is_some(), expected, "{path}");
        }
    }
}
