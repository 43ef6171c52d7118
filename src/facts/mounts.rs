//! Where do the container's mounts lead? Which are the pod's own volumes, which the engine's, and which are paths of
//! the host.
//!
//! The kubelet gives a hostPath volume as the host's path itself, every other volume as
//! `<kubelet>/pods/<uid>/volumes/<plugin>/<name>`, and any subPath mount as `<kubelet>/pods/<uid>/volume-subpaths/…`,
//! which is a bind mount that hides what is behind it (`pkg/volume/util/subpath/subpath_linux.go`). Paths are compared
//! component by component, after `.`, `..` and symbolic links, and only with this pod's directory.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::host::Host;
use super::spec::Mount;
use crate::files::ReadError;
use crate::pss::facts::{Engine, Volume};

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
    /// It joins the host's network, processes or IPC: engines then bind a few paths of the host themselves.
    pub(super) host_network: bool,
    /// See `host_network`.
    pub(super) host_pid: bool,
    /// See `host_network`.
    pub(super) host_ipc: bool,
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
    /// Somewhere else on the host.
    Elsewhere,
}

/// Looks at every mount and keeps those that are volumes.
pub(super) fn volumes<'a>(
    mounts: &'a [Mount<'_>],
    pod: &Pod<'_>,
    host: &Host,
) -> Result<Vec<Volume<'a>>, ReadError> {
    let mut found = Vec::new();
    let roots = Roots::of(pod.kubelet_root, host);
    for mount in mounts {
        if mount.is_bind() {
            found.extend(bind(mount, pod, &roots, host)?);
        } else {
            found.extend(file_system(mount, pod));
        }
    }
    Ok(found)
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
    roots: &Roots<'_>,
    host: &Host,
) -> Result<Option<Volume<'a>>, ReadError> {
    let destination = mount.destination();
    let Some(source) = absolute(mount.source(), pod.bundle) else {
        let why = "its source is relative to a bundle that is not known";
        return Ok(Some(Volume::Unclear { destination, why }));
    };
    if is_engines_bind_of_the_host(&source, destination, mount, pod) {
        return Ok(None);
    }
    let host_path = |source: String, name| Volume::HostPath { destination, source: Cow::Owned(source), name };
    // A symbolic link in a volume may lead out of it, and the pod's own containers can make one: the source counts for
    // where it leads. Where only the engine and the kubelet write, nobody makes links.
    let real = match place(&source, pod, roots) {
        Place::Own | Place::Elsewhere => source,
        Place::Volume { .. } | Place::SubPath { .. } => {
            host.resolve(&source).unwrap_or_else(|| source.into_owned()).into()
        }
    };
    match place(&real, pod, roots) {
        Place::Own => Ok(None),
        Place::Volume { .. } => match place(mount.source(), pod, roots) {
            Place::Volume { plugin, name } => Ok(Some(Volume::Plugin { name, plugin })),
            _ => Ok(Some(Volume::Unclear {
                destination,
                why: "its source takes a detour to a volume of the pod",
            })),
        },
        Place::SubPath { .. } => {
            let name = match place(mount.source(), pod, roots) {
                Place::SubPath { name } => name,
                _ => None,
            };
            let table = host.mountinfo()?;
            let behind = behind(&table, &real);
            if behind.is_empty() {
                let why = "it is a subPath mount that the mount table does not show";
                return Ok(Some(Volume::Unclear { destination, why }));
            }
            // The same directory can be mounted in several places; one of them in this pod's volumes is enough.
            let of_pod = |path: &&String| matches!(place(path, pod, roots), Place::Volume { .. });
            if behind.iter().any(|path| of_pod(&path)) {
                return Ok(None);
            }
            Ok(behind.into_iter().next().map(|path| host_path(path, name)))
        }
        Place::Elsewhere if is_listed(&real, pod.not_host_paths) => Ok(None),
        Place::Elsewhere => Ok(Some(host_path(real.into_owned(), None))),
    }
}

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
    Place::Elsewhere
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
            if is_named_volume(path, pod.engine) {
                return true;
            }
            if !parts.any(|part| part == "overlay-containers" || part == "vfs-containers") {
                return false;
            }
            let of = parts.next();
            (is_id(of, sandbox) || is_id(of, id)) && parts.next() == Some("userdata")
        }
        Engine::Docker => {
            if is_named_volume(path, pod.engine) {
                return true;
            }
            parts.any(|part| part == "docker")
                && parts.next() == Some("containers")
                && is_id(parts.next(), id)
        }
        Engine::None => false,
    }
}

/// An id counts only if it is one that an engine makes: long and random.
fn is_id(part: Option<&str>, id: Option<&str>) -> bool {
    part.is_some()
        && part == id
        && id.is_some_and(|id| id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A volume that podman or docker manages itself.
fn is_named_volume(path: &str, engine: Engine) -> bool {
    let managed = match engine {
        Engine::Podman => "/containers/storage/volumes/",
        Engine::Docker => "/docker/volumes/",
        _ => return false,
    };
    path.split_once(managed).is_some_and(|(_, rest)| rest.split('/').nth(1) == Some("_data"))
}

/// What engines bind from the host themselves, because of what else the pod asks for.
fn is_engines_bind_of_the_host(source: &str, destination: &str, mount: &Mount<'_>, pod: &Pod<'_>) -> bool {
    let unmanaged = matches!(pod.engine, Engine::Podman | Engine::Docker);
    match (source, destination) {
        // containerd `container_create.go` and CRI-O `container_create.go`: hostIPC shares the host's /dev/shm.
        ("/dev/shm", "/dev/shm") => pod.host_ipc,
        ("/dev/mqueue", "/dev/mqueue") => pod.host_ipc && unmanaged,
        // hostNetwork in a user namespace: sysfs cannot be mounted anew, so both engines bind the host's.
        ("/sys", "/sys") => pod.host_network,
        ("/proc", "/proc") => pod.host_pid && unmanaged,
        // CRI-O without the kubelet (`crictl`), hostNetwork.
        ("/etc/hosts", "/etc/hosts") => pod.host_network && pod.engine == Engine::CriO,
        // `--init` of podman and docker.
        (_, "/run/podman-init" | "/dev/init") => pod.engine == Engine::Podman && mount.has("ro"),
        (_, "/sbin/docker-init") => pod.engine == Engine::Docker && mount.has("ro"),
        _ => false,
    }
}

/// A mount that is no bind mount: a file system of the kernel, or one with somebody's data.
fn file_system<'a>(mount: &'a Mount<'_>, pod: &Pod<'_>) -> Option<Volume<'a>> {
    const OF_THE_KERNEL: [&str; 8] =
        ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"];
    if OF_THE_KERNEL.contains(&mount.kind()) {
        return None;
    }
    let destination = mount.destination();
    let by_cri = matches!(pod.engine, Engine::Containerd | Engine::CriO);
    if mount.kind() == "overlay" {
        // The CRI knows no mount types: an overlay is how CRI-O mounts an image volume. podman's `-v PATH:…:O`
        // shows a path of the host as its lower layer.
        let mut options = mount.options.iter().flatten().map(super::spec::Text::as_str);
        let lower = options.find_map(|option| option.strip_prefix("lowerdir=")).unwrap_or_default();
        let of_storage = lower.contains("/containers/storage/") || lower.contains("/overlay-containers/");
        if by_cri || of_storage {
            return None;
        }
        return Some(Volume::HostPath { destination, source: Cow::Borrowed(lower), name: None });
    }
    if mount.source().starts_with('/') {
        return Some(Volume::HostPath { destination, source: Cow::Borrowed(mount.source()), name: None });
    }
    let why = "its file system is neither a bind mount nor one of the kernel's";
    Some(Volume::Unclear { destination, why })
}

/// The directories of the host that a mount point shows: for each other mount of the same device, the path below it.
fn behind(table: &str, mount_point: &str) -> Vec<String> {
    let entries = || table.lines().filter_map(Entry::parse);
    // The last mount on a point covers the ones before.
    let Some(hidden) = entries().rfind(|entry| entry.mount_point == mount_point) else {
        return Vec::new();
    };
    let others = entries().filter(|entry| entry.device == hidden.device && entry.mount_point != mount_point);
    let below = |entry: Entry<'_>| {
        let rest = strip_dir(&hidden.root, &entry.root)?;
        Some(match (entry.mount_point.as_ref(), rest) {
            (point, "") => point.to_owned(),
            ("/", rest) => format!("/{rest}"),
            (point, rest) => format!("{point}/{rest}"),
        })
    };
    let mut paths: Vec<String> = others.filter_map(below).collect();
    // Mounted nowhere else: the root of the device's file system is what there is to say.
    if paths.is_empty() {
        paths.push(format!("{}:{}", hidden.device, hidden.root));
    }
    paths.sort_unstable_by_key(String::len);
    paths.dedup();
    paths
}

/// A line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
struct Entry<'t> {
    device: &'t str,
    root: Cow<'t, str>,
    mount_point: Cow<'t, str>,
}

impl<'t> Entry<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let (device, root, mount_point) = (fields.next()?, fields.next()?, fields.next()?);
        let root = unescape(root.strip_suffix("//deleted").unwrap_or(root));
        Some(Self { device, root, mount_point: unescape(mount_point) })
    }
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(text: &str) -> Cow<'_, str> {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (Some(code), Some(tail)) = (code, after.get(3..)) {
            plain.push(char::from(code));
            rest = tail;
        } else {
            plain.push('\\');
            rest = after;
        }
    }
    if plain.is_empty() {
        return Cow::Borrowed(text);
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

fn is_listed(path: &str, list: &[String]) -> bool {
    list.iter().any(|listed| strip_dir(path, normalize(listed).as_ref()).is_some())
}

/// What follows a directory in a path, without the slash; `None` unless the path is the directory or below it.
fn strip_dir<'p>(path: &'p str, dir: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(dir.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// An absolute path without `.` and `..`; a relative one starts at the bundle, as runc and crun have it.
fn absolute<'p>(path: &'p str, bundle: Option<&str>) -> Option<Cow<'p, str>> {
    if path.starts_with('/') {
        return Some(normalize(path));
    }
    Some(Cow::Owned(normalize(&format!("{}/{path}", bundle?)).into_owned()))
}

/// Resolves `.`, `..` and double slashes by text alone.
fn normalize(path: &str) -> Cow<'_, str> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !path.split('/').skip(1).any(odd) {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Cow::Owned(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::{Pod, behind, normalize, strip_dir, unescape, volumes};
    use crate::facts::host::Host;
    use crate::facts::spec::Spec;
    use crate::pss::facts::{Engine, Volume};

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
            host_network: false,
            host_pid: false,
            host_ipc: false,
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
    fn the_mount_table_tells_what_a_sub_path_hides() {
        let own = format!("/var/lib/kubelet/pods/{UID}");
        let table = format!(
            "27 1 254:0 / / rw shared:3 - ext4 /dev/vda rw\n\
             59 27 254:0 /var/lib/kubelet /var/lib/kubelet rw - ext4 /dev/vda rw\n\
             76 59 0:57 / {own}/volumes/kubernetes.io~secret/s rw - tmpfs tmpfs rw\n\
             80 59 254:0 /etc {own}/volume-subpaths/h/c/0 rw - ext4 /dev/vda rw\n\
             81 59 0:57 /..2026/k {own}/volume-subpaths/s/c/0 rw - tmpfs tmpfs rw\n\
             82 59 254:0 /var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~empty-dir/m/a\\040b {own}/volume-subpaths/m/c/0 rw - ext4 /dev/vda rw\n\
             83 59 8:1 /data {own}/volume-subpaths/n/c/0 rw - ext4 /dev/sda1 rw\n\
             84 59 254:0 /root {own}/volume-subpaths/s/c/1 rw - ext4 /dev/vda rw\n\
             85 59 0:57 / {own}/volume-subpaths/s/c/1 rw - tmpfs tmpfs rw"
        );
        let rows = [
            ("h/c/0", vec!["/etc".to_owned()]),
            ("s/c/0", vec![format!("{own}/volumes/kubernetes.io~secret/s/..2026/k")]),
            ("m/c/0", vec![format!("{own}/volumes/kubernetes.io~empty-dir/m/a b")]),
            ("n/c/0", vec!["8:1:/data".to_owned()]),
            ("s/c/1", vec![format!("{own}/volumes/kubernetes.io~secret/s")]),
            ("x/c/0", vec![]),
        ];
        for (sub_path, expected) in rows {
            let mut found = behind(&table, &format!("{own}/volume-subpaths/{sub_path}"));
            // A secret's mount shows below each of its other mounts, too.
            found.retain(|path| !path.contains("volume-subpaths"));
            assert_eq!(found, expected, "{sub_path}");
        }
    }

    #[test]
    fn paths_are_compared_by_whole_components() {
        assert_eq!(strip_dir("/var/lib/kubelet", "/var/lib/kubelet"), Some(""));
        assert_eq!(strip_dir("/var/lib/kubelet/pods", "/var/lib/kubelet/"), Some("pods"));
        assert_eq!(strip_dir("/var/lib/kubelet-2/pods", "/var/lib/kubelet"), None);
        assert_eq!(strip_dir("/etc", "/"), Some("etc"));
        assert_eq!(normalize("/a/../../b/./c//d/"), "/b/c/d");
        assert_eq!(normalize("/.."), "/");
        assert_eq!(unescape(r"/a\040b\134\011x\q"), "/a b\\\tx\\q");
    }
}
