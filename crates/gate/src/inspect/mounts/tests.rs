//! What a source is, by its text alone and on a node that is laid out as engines lay one out.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::shape::Kubelet;
use super::{Is, Lookup, Pod, Spec, Table, elsewhere, managed, volumes};
use crate::inspect::cdi::Cdi;
use crate::inspect::host::Host;
use pss::facts::{Engine, HostNamespaces, Volume};

const SANDBOX: &str = "3c2c694ac650841e0aa6ee03e962a7ca817cfcd7aee13ef10154ed229386cdb6";
const ID: &str = "acb1e50360630d8c6043f4b1aef582a651aec8263f6ba527a74aa7cbe1d607af";
const LAYER: &str = "0f3c650841e0aa6ee03e962a7ca817cfcd7aee13ef10154ed229386cdb63c2c6";
const UID: &str = "dab344e9-1d4f-4e7d-941e-7a1219bef1c5";

fn pod(engine: Engine, not_host_paths: &[String]) -> Pod<'_> {
    Pod {
        engine,
        kubelet_root: "/var/lib/kubelet",
        uid: engine.speaks_cri().then_some(UID),
        sandbox: Some(SANDBOX),
        id: Some(ID),
        not_host_paths,
        bundle: Some("/run/b/x"),
        root: None,
        joins: HostNamespaces::default(),
        user_namespace: false,
        mapped_root: None,
    }
}

/// The one mount's volume as text, or why it cannot be told.
fn shown(pod: &Pod<'_>, host: &Host, mount: &str) -> String {
    of_spec(pod, host, &format!(r#"{{"mounts":[{mount}]}}"#))
}

fn of_spec(pod: &Pod<'_>, host: &Host, text: &str) -> String {
    let spec: Spec<'_> = serde_json::from_str(text).unwrap();
    match volumes(&spec, pod, host, &Cdi::of(host)).as_deref() {
        Ok([]) => "own".to_owned(),
        Ok([volume]) => describe(volume),
        Ok(more) => panic!("{more:?}"),
        Err(err) => format!("fault: {err}"),
    }
}

fn describe(volume: &Volume<'_>) -> String {
    match volume {
        Volume::HostPath { source, name: Some(name), .. } => format!("host {source} ({name})"),
        Volume::HostPath { source, name: None, .. } => format!("host {source}"),
        Volume::Plugin { name, plugin } => format!("{plugin} {name}"),
        Volume::Unclear { why, .. } => format!("unclear: {why}"),
        Volume::Device { .. } => format!("{volume:?}"),
    }
}

/// As the kubelet asks for it.
fn bind(source: &str) -> String {
    format!(r#"{{"destination":"/mnt","type":"bind","source":"{source}","options":["rbind"]}}"#)
}

/// The same, read-only.
fn bind_ro(source: &str) -> String {
    bind(source).replace("\"rbind\"", "\"rbind\",\"ro\"")
}

/// As CRI-O and podman mount what they make themselves.
fn own_bind(source: &str, destination: &str) -> String {
    format!(r#"{{"destination":"{destination}","type":"bind","source":"{source}","options":["bind","ro"]}}"#)
}

#[test]
fn a_source_is_a_path_of_the_host_unless_it_has_an_exact_shape() {
    let own = format!("/var/lib/kubelet/pods/{UID}");
    let other = "/var/lib/kubelet/pods/00000000-1d4f-4e7d-941e-7a1219bef1c5";
    let containerd = "/var/lib/containerd/io.containerd.grpc.v1.cri";
    let host = |path: &str| format!("host {path}");
    let rows = [
        (format!("{own}/volumes/kubernetes.io~empty-dir/m"), "empty-dir m".to_owned()),
        (format!("{own}/volumes/kubernetes.io~csi/pv/mount"), "csi pv".to_owned()),
        (format!("{own}/volumes/acme~nas/v"), "acme~nas v".to_owned()),
        (format!("{own}/etc-hosts"), "own".to_owned()),
        (format!("{own}/containers/c/1234abcd"), "own".to_owned()),
        (own.clone(), host(&own)),
        (format!("{own}/volumes/kubernetes.io~csi/pv"), host(&format!("{own}/volumes/kubernetes.io~csi/pv"))),
        // Below a volume anybody can make links.
        (
            format!("{own}/volumes/kubernetes.io~empty-dir/m/x"),
            host(&format!("{own}/volumes/kubernetes.io~empty-dir/m/x")),
        ),
        (format!("{own}/volume-subpaths/h/c/0/b"), host(&format!("{own}/volume-subpaths/h/c/0/b"))),
        (format!("{own}/etc-hosts/../../../../../../etc"), host("/etc")),
        (format!("{own}/./etc-hosts"), host(&format!("{own}/etc-hosts"))),
        (format!("{own}//etc-hosts"), host(&format!("{own}/etc-hosts"))),
        (
            format!("{own}-evil/volumes/kubernetes.io~empty-dir/m"),
            host(&format!("{own}-evil/volumes/kubernetes.io~empty-dir/m")),
        ),
        (
            format!("{other}/volumes/kubernetes.io~secret/s"),
            host(&format!("{other}/volumes/kubernetes.io~secret/s")),
        ),
        ("/var/lib/kubelet/pods".to_owned(), host("/var/lib/kubelet/pods")),
        (format!("{containerd}/sandboxes/{SANDBOX}/resolv.conf"), "own".to_owned()),
        (
            format!("/run/k3s/x/io.containerd.grpc.v1.cri/image-volumes/{SANDBOX}/i"),
            host(&format!("/run/k3s/x/io.containerd.grpc.v1.cri/image-volumes/{SANDBOX}/i")),
        ),
        (format!("{containerd}/containers/{ID}/volumes/r"), "own".to_owned()),
        (format!("{containerd}/sandboxes/{ID}/shm"), host(&format!("{containerd}/sandboxes/{ID}/shm"))),
        (format!("{containerd}/sandboxes"), host(&format!("{containerd}/sandboxes"))),
        ("/dev/shm".to_owned(), host("/dev/shm")),
        ("../../../etc".to_owned(), host("/etc")),
        ("/proc/1/root/etc".to_owned(), host("/proc/1/root/etc")),
        ("//etc//./passwd".to_owned(), host("/etc/passwd")),
        ("/opt/local-path/pvc-1".to_owned(), "own".to_owned()),
        ("/opt/local-path-evil".to_owned(), host("/opt/local-path-evil")),
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

/// A node of one engine and a kubelet, in a temporary directory.
struct Laid {
    dir: tempfile::TempDir,
}

impl Laid {
    fn out() -> Self {
        let laid = Self { dir: tempfile::tempdir().unwrap() };
        for directory in [
            laid.volume("empty-dir/m"),
            laid.volume("csi/pv/mount"),
            laid.at(&format!("kubelet/pods/{UID}/containers/c")),
            laid.state(&format!("sandboxes/{SANDBOX}/shm")),
            laid.state(&format!("image-volumes/{SANDBOX}/i/in")),
            laid.at(&format!("root/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}")),
            laid.at(&format!("state/io.containerd.runtime.v2.task/k8s.io/{ID}")),
            laid.at(&format!("root/io.containerd.runtime.v2.task/k8s.io/{ID}")),
            laid.at(&format!("run/overlay-containers/{SANDBOX}/userdata/shm")),
            laid.at(&format!("run/overlay-containers/{ID}/userdata/run/secrets")),
            laid.at(&format!("graph/overlay/{LAYER}/merged/usr/share")),
            laid.at("graph/artifacts/blobs/sha256"),
        ] {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::set_permissions(laid.volume("empty-dir/m"), fs::Permissions::from_mode(0o777)).unwrap();
        symlink(
            laid.at(&format!("root/io.containerd.runtime.v2.task/k8s.io/{ID}")),
            laid.at(&format!("state/io.containerd.runtime.v2.task/k8s.io/{ID}/work")),
        )
        .unwrap();
        for file in [
            laid.at(&format!("kubelet/pods/{UID}/etc-hosts")),
            laid.at(&format!("root/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}/hostname")),
            laid.at(&format!("run/overlay-containers/{SANDBOX}/userdata/resolv.conf")),
            laid.at(&format!("run/overlay-containers/{SANDBOX}/userdata/config.json")),
            laid.at(&format!("graph/artifacts/blobs/sha256/{LAYER}")),
        ] {
            fs::write(&file, "").unwrap();
        }
        laid
    }

    fn at(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(path)
    }

    fn volume(&self, path: &str) -> PathBuf {
        self.at(&format!("kubelet/pods/{UID}/volumes/kubernetes.io~{path}"))
    }

    fn state(&self, path: &str) -> PathBuf {
        self.at(&format!("state/io.containerd.grpc.v1.cri/{path}"))
    }

    /// What a mount is to a container of this node.
    fn shown(&self, engine: Engine, mount: &str) -> String {
        let kubelet = self.at("kubelet");
        let bundle = match engine {
            Engine::Containerd => self.at(&format!("state/io.containerd.runtime.v2.task/k8s.io/{ID}")),
            _ => self.at(&format!("run/overlay-containers/{ID}/userdata")),
        };
        let root = self.at(&format!("graph/overlay/{LAYER}/merged"));
        let pod = Pod {
            kubelet_root: kubelet.to_str().unwrap(),
            bundle: bundle.to_str(),
            root: if engine == Engine::CriO { root.to_str() } else { Some("rootfs") },
            ..pod(engine, &[])
        };
        shown(&pod, &Host::Live, mount)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_the_kubelet_and_the_engine_make_is_the_pods_own() {
    let laid = Laid::out();
    let rows = [
        (Engine::Containerd, bind(text(&laid.volume("empty-dir/m"))), "empty-dir m"),
        (Engine::Containerd, bind(text(&laid.volume("csi/pv/mount"))), "csi pv"),
        (Engine::Containerd, bind(text(&laid.at(&format!("kubelet/pods/{UID}/etc-hosts")))), "own"),
        // Not made yet, and nobody else can make it.
        (
            Engine::Containerd,
            bind(text(&laid.at(&format!("kubelet/pods/{UID}/containers/c/1234abcd")))),
            "own",
        ),
        (Engine::Containerd, bind(text(&laid.state(&format!("sandboxes/{SANDBOX}/shm")))), "own"),
        (
            Engine::Containerd,
            bind(text(&laid.at(&format!("root/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}/hostname")))),
            "own",
        ),
        (Engine::Containerd, bind_ro(text(&laid.state(&format!("image-volumes/{SANDBOX}/i")))), "own"),
        (Engine::Containerd, bind_ro(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/in")))), "own"),
        (Engine::Containerd, bind_ro(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/./in//")))), "own"),
        (Engine::CriO, bind(text(&laid.volume("empty-dir/m"))), "empty-dir m"),
        (
            Engine::CriO,
            own_bind(
                text(&laid.at(&format!("run/overlay-containers/{SANDBOX}/userdata/resolv.conf"))),
                "/etc/resolv.conf",
            ),
            "own",
        ),
        // Where CRI-O mounts it anyway it makes no difference who asks.
        (
            Engine::CriO,
            bind(text(&laid.at(&format!("run/overlay-containers/{SANDBOX}/userdata/resolv.conf"))))
                .replace("/mnt", "/etc/resolv.conf"),
            "own",
        ),
        (
            Engine::CriO,
            own_bind(
                text(&laid.at(&format!("run/overlay-containers/{ID}/userdata/run/secrets"))),
                "/run/secrets",
            ),
            "own",
        ),
        (
            Engine::CriO,
            own_bind(text(&laid.at(&format!("graph/artifacts/blobs/sha256/{LAYER}"))), "/artifact/f"),
            "own",
        ),
        (
            Engine::CriO,
            own_bind(
                text(&laid.at(&format!("graph/overlay/{LAYER}/merged/usr/share"))),
                "/etc/crypto-policies/back-ends",
            ),
            "own",
        ),
    ];
    for (engine, mount, expected) in rows {
        assert_eq!(laid.shown(engine, &mount), expected, "{engine:?} {mount}");
    }
}

#[test]
fn what_looks_like_it_is_a_path_of_the_host() {
    let laid = Laid::out();
    let volume = laid.volume("empty-dir/m");
    // A pod can make anything inside its volume.
    let forged = [
        format!("io.containerd.grpc.v1.cri/image-volumes/{SANDBOX}"),
        format!("io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}"),
        format!("x-containers/{SANDBOX}/userdata"),
        "artifacts/blobs/sha256".to_owned(),
    ];
    for directory in &forged {
        fs::create_dir_all(volume.join(directory)).unwrap();
    }
    symlink("/etc", volume.join(&forged[0]).join("p")).unwrap();
    symlink("/etc/hosts", volume.join(&forged[1]).join("hosts")).unwrap();
    symlink("/etc", laid.state(&format!("image-volumes/{SANDBOX}/i/link"))).unwrap();
    let shared = laid.at(&format!("run/overlay-containers/{SANDBOX}/userdata"));
    let rows = [
        (Engine::Containerd, bind(text(&volume.join(&forged[0]).join("p")))),
        (Engine::Containerd, bind(text(&volume.join(&forged[1]).join("hosts")))),
        (Engine::Containerd, bind_ro(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/link/x"))))),
        (Engine::Containerd, bind(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/in"))))),
        (Engine::Containerd, bind(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/./in"))))),
        (Engine::Containerd, bind_ro(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/in/.."))))),
        (Engine::Containerd, bind_ro(text(&laid.state(&format!("image-volumes/{SANDBOX}/i/./link/x"))))),
        (Engine::Containerd, bind(text(&laid.state(&format!("image-volumes/{SANDBOX}"))))),
        (Engine::CriO, bind(text(&volume.join(&forged[2]).join("shm")))),
        (Engine::CriO, own_bind(text(&volume.join(&forged[2]).join("shm")), "/dev/shm")),
        (Engine::CriO, own_bind(text(&volume.join(&forged[3]).join(LAYER)), "/x")),
        (Engine::CriO, bind(text(&shared))),
        (Engine::CriO, own_bind(text(&shared), "/x")),
        (Engine::CriO, own_bind(text(&shared.join("config.json")), "/x")),
        // What the kubelet asks for carries `rbind`, and is never CRI-O's own.
        (Engine::CriO, bind(text(&shared.join("resolv.conf")))),
        (Engine::CriO, bind(text(&laid.at(&format!("graph/artifacts/blobs/sha256/{LAYER}"))))),
        (Engine::CriO, bind("/sys/fs/cgroup/systemd")),
    ];
    for (engine, mount) in rows {
        let found = laid.shown(engine, &mount);
        assert!(found.starts_with("host "), "{engine:?} {mount}: {found}");
    }
}

#[test]
fn an_anchor_that_does_not_hold_is_a_fault_of_the_node() {
    type Break = fn(&Laid);
    let open: [(Break, &str); 4] = [
        (
            |laid| {
                let pods = laid.at("kubelet/pods");
                fs::set_permissions(pods, fs::Permissions::from_mode(0o777)).unwrap();
            },
            "kubelet/pods must be writable by root alone, but its mode is 0777; chmod go-w",
        ),
        (
            |laid| chown(laid.at(&format!("kubelet/pods/{UID}/volumes")), Some(1000), None).unwrap(),
            "volumes must be owned by root, but is owned by uid 1000; chown root:root",
        ),
        (
            |laid| {
                fs::rename(laid.at("kubelet/pods"), laid.at("pods")).unwrap();
                symlink(laid.at("pods"), laid.at("kubelet/pods")).unwrap();
            },
            "kubelet/pods must be a directory, but is a symbolic link",
        ),
        (
            |laid| {
                let pods = laid.at("kubelet/pods");
                fs::set_permissions(pods, fs::Permissions::from_mode(0o1777)).unwrap();
            },
            "",
        ),
    ];
    for (break_it, expected) in open {
        let laid = Laid::out();
        break_it(&laid);
        let found = laid.shown(Engine::Containerd, &bind(text(&laid.volume("empty-dir/m"))));
        if expected.is_empty() {
            assert_eq!(found, "empty-dir m", "sticky counts as closed");
        } else {
            assert!(found.starts_with("fault: ") && found.contains(expected), "{found}");
        }
        // A path of the host stays one whatever the kubelet's directory is like.
        assert_eq!(laid.shown(Engine::Containerd, &bind("/etc")), "host /etc");
    }
}

#[test]
fn a_link_in_the_place_of_a_source_counts_for_where_it_leads() {
    let laid = Laid::out();
    symlink("/etc", laid.volume("empty-dir/bad")).unwrap();
    symlink("../m", laid.volume("empty-dir/in")).unwrap();
    // The kubelet's directory itself may be a link: both its names are the pod's.
    symlink(laid.at("kubelet"), laid.at("by-name")).unwrap();
    let by_name = laid.at("by-name");
    for configured in [&by_name, &laid.at("kubelet")] {
        let pod = Pod { kubelet_root: text(configured), ..pod(Engine::CriO, &[]) };
        for root in [&by_name, &laid.at("kubelet")] {
            let below = format!("pods/{UID}/volumes/kubernetes.io~empty-dir");
            let good = shown(&pod, &Host::Live, &bind(text(&root.join(&below).join("m"))));
            // Only the name that the policy has, and where it leads.
            let known = root == configured || *configured == by_name;
            assert_eq!(good == "empty-dir m", known, "{good} {}", configured.display());
        }
        let bad = bind(text(&laid.volume("empty-dir/bad")));
        assert_eq!(shown(&pod, &Host::Live, &bad), "host /etc");
        let inside = bind(text(&laid.volume("empty-dir/in")));
        assert!(shown(&pod, &Host::Live, &inside).starts_with("host "), "no links at all");
    }
}

#[test]
fn what_is_listed_is_believed_as_far_as_root_alone_can_change_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    fs::create_dir_all(root.join("pv/claim/data")).unwrap();
    fs::create_dir_all(root.join("pv/closed/data")).unwrap();
    fs::set_permissions(root.join("pv/claim"), fs::Permissions::from_mode(0o777)).unwrap();
    symlink("/", root.join("pv/claim/out")).unwrap();
    symlink("closed", root.join("pv/in")).unwrap();
    symlink("/etc", root.join("pv/out")).unwrap();
    symlink(root.join("pv"), root.join("named")).unwrap();
    let rows = [
        ("pv/claim", "own"),
        ("named/claim", "own"),
        // So can a container's root where it is the host's, whoever owns the directory.
        ("pv/closed/data", "host"),
        ("pv/in", "own"),
        // Whoever can write to a claim can exchange what is in it for a link.
        ("pv/claim/data", "host"),
        ("pv/claim/out/etc", "host"),
        ("pv/claim/missing", "host"),
        ("pv/out", "host"),
    ];
    // A link that leads by another one to what the admin meant.
    symlink("named", root.join("chain")).unwrap();
    let list = [text(&root.join("chain")).to_owned()];
    assert_eq!(shown(&pod(Engine::CriO, &list), &Host::Live, &bind(&list[0])), "own");
    // Whose directory is listed can exchange what lies in it.
    fs::create_dir_all(root.join("theirs/claim")).unwrap();
    chown(root.join("theirs"), Some(1000), Some(1000)).unwrap();
    let list = [text(&root.join("theirs")).to_owned()];
    let found = shown(&pod(Engine::CriO, &list), &Host::Live, &bind(text(&root.join("theirs/claim"))));
    assert!(found.starts_with("host "), "{found}");
    fs::create_dir_all(root.join("shared/claim")).unwrap();
    fs::set_permissions(root.join("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    let list = [root.join("shared").to_str().unwrap().to_owned()];
    let found = shown(&pod(Engine::CriO, &list), &Host::Live, &bind(text(&root.join("shared/claim"))));
    assert!(found.starts_with("host "), "anybody may have made it: {found}");
    for listed in ["pv", "named"] {
        let list = [root.join(listed).to_str().unwrap().to_owned()];
        for (source, expected) in rows {
            // By the name that is not listed only what it resolves to can be ours.
            if listed == "pv" && source.starts_with("named") {
                continue;
            }
            let mount = bind(root.join(source).to_str().unwrap());
            let found = shown(&pod(Engine::CriO, &list), &Host::Live, &mount);
            assert_eq!(found.split(' ').next(), Some(expected), "{listed}: {source}: {found}");
        }
    }
}

#[test]
fn file_systems_that_no_engine_mounts_are_the_hosts() {
    let graph = "/var/lib/containers/storage";
    let image = format!("{graph}/overlay/{LAYER}/merged");
    let overlay = |options: &str| {
        format!(r#"{{"destination":"/d","type":"overlay","source":"overlay","options":[{options}]}}"#)
    };
    let volume = overlay(&format!(r#""lowerdir={image}:/run/crio/image-volumes""#));
    let part = overlay(&format!(
        r#""lowerdir=/run/containers/storage/overlay-containers/{ID}/userdata/subpath12:/run/crio/image-volumes""#
    ));
    let rows = [
        (
            Engine::None,
            r#"{"destination":"/d","type":"ext4","source":"/dev/vda"}"#.to_owned(),
            "host /dev/vda",
        ),
        (Engine::Containerd, r#"{"destination":"/d","type":"ext4","source":"vda"}"#.to_owned(), "host vda"),
        (Engine::Podman, overlay(r#""lowerdir=/etc""#), "host /etc"),
        (Engine::Containerd, overlay(r#""lowerdir=/""#), "host /"),
        (Engine::Containerd, volume.clone(), &format!("host {image}")),
        (Engine::CriO, overlay(r#""lowerdir=/x:/run/crio/image-volumes""#), "host /x"),
        (Engine::CriO, volume, "own"),
        (Engine::CriO, part, "own"),
        (Engine::CriO, overlay(&format!(r#""lowerdir={image}:/etc""#)), &format!("host {image}")),
        (
            Engine::CriO,
            overlay(&format!(r#""lowerdir={image}:/run/crio/image-volumes","upperdir=/etc""#)),
            &format!("host {image}"),
        ),
        (Engine::None, r#"{"destination":"/d","type":"9p","source":"share"}"#.to_owned(), "host share"),
        (Engine::CriO, r#"{"destination":"/d","type":"devtmpfs"}"#.to_owned(), "host devtmpfs"),
        (
            Engine::Containerd,
            r#"{"destination":"/d","type":"debugfs","source":"debugfs"}"#.to_owned(),
            "host debugfs",
        ),
        (Engine::None, r#"{"destination":"/d","type":"tmpfs","source":"/etc"}"#.to_owned(), "own"),
        (
            Engine::None,
            r#"{"destination":"/d","type":"tmpfs","source":"/etc","options":["rbind"]}"#.to_owned(),
            "host /etc",
        ),
    ];
    let root = format!("{graph}/overlay/{ID}/merged");
    let bundle = format!("/run/containers/storage/overlay-containers/{ID}/userdata");
    for (engine, mount, expected) in rows {
        let pod = Pod { root: Some(&root), bundle: Some(&bundle), ..pod(engine, &[]) };
        assert_eq!(shown(&pod, &Host::Unknown, &mount), expected, "{engine:?} {mount}");
    }
}

#[test]
fn podman_and_docker_cannot_hide_a_path_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let text = root.to_str().unwrap();
    fs::create_dir_all(root.join("containers/storage")).unwrap();
    symlink("/etc", root.join("containers/storage/link")).unwrap();
    symlink("/etc/passwd", root.join("catatonit")).unwrap();
    let storage = "/var/lib/containers/storage";
    let bundle = format!("{storage}/overlay-containers/{ID}/userdata");
    let overlay = |lower: &str| {
        format!(
            r#"{{"destination":"/x","type":"overlay","source":"overlay","options":["lowerdir={lower}"]}}"#
        )
    };
    let (podman, docker) = (Engine::Podman, Engine::Docker);
    let rows = [
        (podman, overlay(&format!("{text}/containers/storage/link")), "host /etc"),
        (podman, overlay(&format!("{storage}/../../../../etc")), "host /etc"),
        (podman, overlay(&format!("{storage}/overlay")), "host /var/lib/containers/storage/overlay"),
        (podman, overlay(&format!("{storage}/overlay/{ID}/merged:{bundle}/overlay/1/lower")), "own"),
        (podman, overlay(&format!("{storage}/overlay/{ID}/merged,lowerdir=/etc")), "host /etc"),
        (podman, overlay(&format!("{storage}/volumes/v/_data")), "own"),
        (podman, bind("/srv/volumes/v/_data"), "host /srv/volumes/v/_data"),
        (podman, own_bind("/etc", "/run/podman-init"), "host /etc"),
        (
            podman,
            own_bind(&format!("{text}/catatonit"), "/run/podman-init"),
            &format!("host {text}/catatonit"),
        ),
        (podman, own_bind("/usr/libexec/podman/catatonit", "/run/podman-init"), "own"),
        (docker, own_bind("/", "/sbin/docker-init"), "host /"),
        (docker, own_bind("/usr/bin/docker-init", "/sbin/docker-init"), "own"),
        (podman, own_bind("/usr/bin/tini", "/dev/init"), "own"),
        // Each engine at its own place, and never writable.
        (docker, own_bind("/usr/bin/docker-init", "/run/podman-init"), "host /usr/bin/docker-init"),
        (podman, own_bind("/usr/bin/tini", "/sbin/docker-init"), "host /usr/bin/tini"),
        (podman, bind("/usr/bin/tini").replace("/mnt", "/dev/init"), "host /usr/bin/tini"),
        (
            docker,
            bind("/usr/bin/docker-init").replace("/mnt", "/sbin/docker-init"),
            "host /usr/bin/docker-init",
        ),
    ];
    for (engine, mount, expected) in rows {
        let pod = Pod { bundle: Some(&bundle), ..pod(engine, &[]) };
        assert_eq!(shown(&pod, &Host::Live, &mount), expected, "{mount}");
    }
}

#[test]
fn a_managed_volume_that_is_a_path_of_the_host_is_one() {
    let storage = "/var/lib/containers/storage";
    let volumes = format!("{storage}/volumes");
    let table = Table::of(&format!(
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
         90 27 254:0 /etc {volumes}/bound/_data rw - ext4 /dev/vda rw\n\
         91 27 0:60 / {volumes}/memory/_data rw - tmpfs tmpfs rw\n\
         92 27 0:61 / {volumes}/nfs/_data rw - nfs4 server:/x rw\n\
         93 27 0:61 / {volumes}/nfs2/_data rw - nfs4 server:/x rw\n\
         94 27 0:62 / {volumes}/proc/_data rw - proc proc rw\n\
         95 27 0:63 / {volumes}/overlay/_data rw - overlay overlay rw,lowerdir=/etc\n\
         96 27 8:1 / {volumes}/disk/_data rw - ext4 /dev/sda1 rw\n\
         97 27 0:64 / {volumes}/fuse/_data rw - fuse.bindfs /etc rw"
    ));
    let bundle = format!("{storage}/overlay-containers/{ID}/userdata");
    let pod = Pod { bundle: Some(&bundle), ..pod(Engine::Podman, &[]) };
    let cdi = Cdi::of(&Host::Unknown);
    let node = Lookup::of(&pod, &Host::Unknown, &cdi);
    for (name, expected) in [
        ("bound", Some("/etc")),
        ("memory", None),
        ("nfs", None),
        ("nfs2", None),
        ("plain", None),
        // They have no data of their own, whatever their device is called.
        ("proc", Some("proc")),
        ("overlay", Some("overlay")),
        ("disk", None),
        ("fuse", None),
    ] {
        let found = elsewhere(&table, &format!("{volumes}/{name}/_data"), &node);
        assert_eq!(found.as_deref(), expected, "{name}");
    }
    let table = Rc::new(table);
    for (name, inside, expected) in [
        ("memory", "", "own"),
        ("memory", "x", "unclear: its source is inside"),
        ("proc", "", "host proc"),
        ("proc", "sys/kernel", "host proc"),
        ("fuse", "", "unclear: it is a volume of a kind of file system"),
    ] {
        let node = Lookup::of(&pod, &Host::Unknown, &cdi);
        node.table.set(Rc::clone(&table)).unwrap();
        let found = match managed(&format!("{volumes}/{name}/_data"), inside, "/x", &node).unwrap() {
            Is::Own => "own".to_owned(),
            Is::Volume(volume) => describe(&volume),
            Is::Unknown => "unknown".to_owned(),
        };
        assert!(found.starts_with(expected), "{name} {inside}: {found}");
    }
    let inside = shown(&pod, &Host::Unknown, &bind(&format!("{volumes}/v/_data/below/it")));
    assert!(inside.starts_with("unclear: its source is inside a volume"), "{inside}");
}

#[test]
fn a_link_in_a_managed_volume_is_followed_as_the_runtime_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = fs::canonicalize(dir.path()).unwrap();
    let bundle = storage.join(format!("overlay-containers/{ID}/userdata"));
    let volume = storage.join("volumes/v/_data");
    fs::create_dir_all(volume.join("in/it")).unwrap();
    fs::create_dir_all(&bundle).unwrap();
    symlink("/etc", volume.join("out")).unwrap();
    symlink("../../../x", volume.join("above")).unwrap();
    symlink("in", volume.join("within")).unwrap();
    let pod = Pod { bundle: bundle.to_str(), ..pod(Engine::Podman, &[]) };
    for (inside, leads_out) in [
        ("out", true),
        ("out/ssh", true),
        ("above", true),
        ("in/it", false),
        ("within/it", false),
        ("missing", false),
    ] {
        let source = format!("{}/{inside}", text(&volume));
        let shown = shown(&pod, &Host::Live, &bind(&source));
        let expected =
            if leads_out { format!("host {source}") } else { "unclear: its source is inside".to_owned() };
        assert!(shown.starts_with(&expected), "{inside}: {shown}");
    }
}

#[test]
fn what_engines_mount_themselves_is_no_host_path() {
    let other = SANDBOX;
    let rows = [
        (
            Engine::CriO,
            format!("/run/containers/storage/btrfs-containers/{SANDBOX}/userdata/hostname"),
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
        let pod = Pod { sandbox: (*engine == Engine::CriO).then_some(SANDBOX), ..pod(*engine, &[]) };
        assert_eq!(shown(&pod, &Host::Unknown, &own_bind(source, at)), "own", "{source}");
        // Somewhere else in the container only its own files are the engine's.
        let expected = if source.contains(other) && *engine != Engine::CriO {
            format!("host {source}")
        } else {
            "own".to_owned()
        };
        assert_eq!(shown(&pod, &Host::Unknown, &own_bind(source, "/x")), expected, "{source}");
    }
    let systemd = "/sys/fs/cgroup/systemd";
    for (engine, mount, expected) in [
        (Engine::CriO, own_bind(systemd, systemd), "own"),
        (Engine::Podman, own_bind(systemd, systemd), "own"),
        (Engine::Containerd, own_bind(systemd, systemd), "host /sys/fs/cgroup/systemd"),
        (Engine::CriO, bind(systemd).replace("/mnt", systemd), "host /sys/fs/cgroup/systemd"),
    ] {
        assert_eq!(shown(&pod(engine, &[]), &Host::Unknown, &mount), expected, "{engine:?} {mount}");
    }
}

#[test]
fn engines_bind_the_host_only_for_who_joins_it_and_never_as_the_kubelet_asks() {
    let sys = r#"{"destination":"/sys","type":"bind","source":"/sys","options":["rbind","rro"]}"#;
    let writable = sys.replace("rro", "rw");
    let at = |path: &str, options: &str| {
        format!(r#"{{"destination":"{path}","type":"bind","source":"{path}","options":[{options}]}}"#)
    };
    let joins = HostNamespaces { network: true, ipc: true, ..HostNamespaces::default() };
    let none = HostNamespaces::default();
    let (ipc, pid) = (HostNamespaces { ipc: true, ..none }, HostNamespaces { pid: true, ..none });
    let rows = [
        (Engine::Containerd, sys.to_owned(), joins, true, "own"),
        (Engine::Containerd, sys.to_owned(), joins, false, "host /sys"),
        (Engine::Containerd, writable, joins, true, "host /sys"),
        (Engine::Containerd, at("/dev/shm", r#""rbind","rw""#), joins, false, "own"),
        (Engine::Containerd, at("/dev/shm", r#""rbind","rw""#), none, false, "host /dev/shm"),
        (Engine::CriO, at("/dev/shm", r#""rw","bind""#), joins, false, "own"),
        (Engine::CriO, at("/dev/shm", r#""rbind","rw","bind""#), joins, false, "host /dev/shm"),
        (Engine::CriO, at("/etc/hosts", r#""bind""#), joins, false, "own"),
        (
            Engine::CriO,
            at("/etc/hosts", r#""rbind","rprivate","rw","bind""#),
            joins,
            false,
            "host /etc/hosts",
        ),
        (Engine::CriO, at("/etc/hosts", r#""bind""#), none, false, "host /etc/hosts"),
        (Engine::Containerd, at("/etc/hosts", r#""bind""#), joins, false, "host /etc/hosts"),
        (Engine::Containerd, sys.to_owned(), ipc, true, "host /sys"),
        (Engine::Containerd, sys.replace("rro", "ro"), joins, true, "own"),
        (Engine::Podman, at("/sys", r#""rbind","rw""#), joins, false, "own"),
        (Engine::Docker, at("/sys", r#""rbind","rw""#), ipc, true, "host /sys"),
        (Engine::Podman, at("/dev/mqueue", r#""bind""#), joins, false, "own"),
        (Engine::Docker, at("/dev/mqueue", r#""bind""#), none, false, "host /dev/mqueue"),
        // The kubelet's pods get a new one.
        (Engine::CriO, at("/dev/mqueue", r#""bind""#), joins, false, "host /dev/mqueue"),
        (Engine::Docker, at("/proc", r#""rbind""#), pid, false, "own"),
        (Engine::Podman, at("/proc", r#""rbind""#), joins, false, "host /proc"),
        (Engine::Containerd, at("/proc", r#""rbind""#), pid, false, "host /proc"),
    ];
    for (engine, mount, joins, user_namespace, expected) in rows {
        let pod = Pod { joins, user_namespace, ..pod(engine, &[]) };
        assert_eq!(shown(&pod, &Host::Unknown, &mount), expected, "{engine:?} {mount}");
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
fn a_root_file_system_that_no_engine_made_is_a_path_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = fs::canonicalize(dir.path()).unwrap();
    fs::create_dir_all(bundle.join("rootfs/in")).unwrap();
    symlink("/etc", bundle.join("link")).unwrap();
    symlink("rootfs", bundle.join("stays")).unwrap();
    let layer = format!("/var/lib/containers/storage/overlay/{ID}/merged");
    let of_podman = format!("/var/lib/containers/storage/overlay-containers/{ID}/userdata");
    let inside = bundle.join("rootfs/in");
    let own = text(&bundle);
    let rows = [
        (Engine::None, own, "/", "host /"),
        (Engine::None, own, "/./", "host /"),
        (Engine::None, own, "/etc/..", "host /"),
        (Engine::None, own, "/proc/self/root", "host /proc/self/root"),
        (Engine::None, own, "rootfs", "own"),
        (Engine::None, own, "missing", "own"),
        (Engine::None, own, text(&inside), "own"),
        (Engine::None, own, "stays", "own"),
        (Engine::None, own, "link", "host /etc"),
        (Engine::None, own, ".", &format!("host {own}")),
        (Engine::None, own, "../x", &format!("host {}/x", text(bundle.parent().unwrap()))),
        (Engine::Containerd, own, "rootfs", "own"),
        (Engine::Containerd, own, "/srv/rootfs", "host /srv/rootfs"),
        (Engine::Containerd, own, "link", "host /etc"),
        (Engine::CriO, &of_podman, &layer, "own"),
        (Engine::CriO, &of_podman, "/srv", "host /srv"),
        (Engine::Podman, &of_podman, &layer, "own"),
        (
            Engine::Podman,
            &of_podman,
            &format!("/srv/overlay/{ID}/merged"),
            &format!("host /srv/overlay/{ID}/merged"),
        ),
        (Engine::Podman, &of_podman, "/srv", "host /srv"),
        (Engine::Docker, own, &format!("/var/lib/docker/overlay2/{ID}/merged"), "own"),
        (Engine::Docker, own, &format!("/var/lib/docker/rootfs/overlayfs/{ID}"), "own"),
        (Engine::Docker, own, "/srv", "host /srv"),
    ];
    let of_bundle = |engine, bundle, path| {
        let pod = Pod { bundle: Some(bundle), root: Some(path), ..pod(engine, &[]) };
        of_spec(&pod, &Host::Live, &format!(r#"{{"root":{{"path":"{path}"}}}}"#))
    };
    for (engine, bundle, path, expected) in rows {
        assert_eq!(of_bundle(engine, bundle, path), expected, "{engine:?} {path}");
    }
    // containerd mounts over what is there.
    fs::create_dir(bundle.join("other")).unwrap();
    symlink("/etc", bundle.join("other/rootfs")).unwrap();
    let other = bundle.join("other");
    for (engine, expected) in
        [(Engine::None, "host /etc"), (Engine::Podman, "host /etc"), (Engine::Containerd, "own")]
    {
        assert_eq!(of_bundle(engine, text(&other), "rootfs"), expected, "{engine:?}");
    }
}

#[test]
fn away_from_its_bundle_and_its_node_a_root_file_system_is_only_judged_by_where_it_cannot_be() {
    for (bundle, path, expected) in [
        (None, "rootfs", "own"),
        (None, "a/../../x", "host a/../../x"),
        (None, "/", "host /"),
        (None, "/./", "host /"),
        (None, "/srv", "own"),
        (Some("/run/b/x"), "/srv", "own"),
        (Some("/run/b/x"), "/", "host /"),
        (Some("/run/b/x"), "../../..", "host /"),
    ] {
        let pod = Pod { bundle, root: Some(path), ..pod(Engine::None, &[]) };
        let spec = format!(r#"{{"root":{{"path":"{path}"}}}}"#);
        assert_eq!(of_spec(&pod, &Host::Unknown, &spec), expected, "{bundle:?} {path}");
    }
    let pod = Pod { bundle: None, ..pod(Engine::None, &[]) };
    let found = shown(&pod, &Host::Unknown, &bind("../etc"));
    assert_eq!(found, "unclear: its source is relative to a bundle that is not known");
}

#[test]
fn a_sub_path_is_what_its_mount_shows() {
    let own = format!("/var/lib/kubelet/pods/{UID}");
    let volume = format!("{own}/volumes/kubernetes.io~empty-dir/m");
    let below = |nth: usize| format!("pods/{UID}/volume-subpaths/v/app/{nth}");
    let table = Rc::new(Table::of(&format!(
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
         90 27 254:0 {volume}/sub /var/lib/kubelet/{} rw - ext4 /dev/vda rw\n\
         91 27 254:0 /etc/x /var/lib/kubelet/{} rw - ext4 /dev/vda rw",
        below(0),
        below(1)
    )));
    let listed = ["/etc/x".to_owned()];
    let host = "/etc/x";
    for (nth, listed, expected) in [(0, &[][..], None), (1, &[], Some(host)), (1, &listed, None)] {
        let pod = pod(Engine::Containerd, listed);
        let cdi = Cdi::of(&Host::Unknown);
        let node = Lookup::of(&pod, &Host::Unknown, &cdi);
        node.table.set(Rc::clone(&table)).unwrap();
        let shape = Kubelet::SubPath { name: "v" };
        let found = super::of_kubelet(shape, ("/var/lib/kubelet", &below(nth)), "/mnt", &pod, &node).unwrap();
        let source = found.as_ref().map(|volume| match volume {
            Volume::HostPath { source, name: Some("v"), .. } => source.as_ref(),
            other => panic!("{other:?}"),
        });
        assert_eq!(source, expected, "{nth}");
    }
    // Where nothing is mounted yet nobody but the author of a hostPath knows the place. Of another time that is unknown.
    for (host, expected) in [
        (Host::Live, format!("host /var/lib/kubelet/{}", below(2))),
        (Host::Unknown, "unclear: it is a subPath mount that the mount table does not show".to_owned()),
    ] {
        let (pod, cdi) = (pod(Engine::Containerd, &[]), Cdi::of(&host));
        let node = Lookup::of(&pod, &host, &cdi);
        node.table.set(Rc::clone(&table)).unwrap();
        let shape = Kubelet::SubPath { name: "v" };
        let found = super::of_kubelet(shape, ("/var/lib/kubelet", &below(2)), "/mnt", &pod, &node).unwrap();
        assert_eq!(describe(&found.unwrap()), expected);
    }
    let pod = pod(Engine::Containerd, &[]);
    let cdi = Cdi::of(&Host::Unknown);
    let node = Lookup::of(&pod, &Host::Unknown, &cdi);
    for (path, of) in [
        (volume.clone(), Some(&volume)),
        (format!("{volume}/sub/x"), Some(&volume)),
        (own.clone(), None),
        (volume.replace(UID, "00000000-1d4f-4e7d-941e-7a1219bef1c5"), None),
        ("/etc".to_owned(), None),
    ] {
        assert_eq!(super::volume_of(&path, &pod, &node).as_ref(), of, "{path}");
    }
}

#[test]
fn podman_and_docker_share_four_files_between_containers() {
    let is_shared = |engine, path: &str, destination: &str, host: &Host| {
        let (pod, cdi) = (Pod { bundle: None, ..pod(engine, &[]) }, Cdi::of(host));
        super::is_of_another_container(path, destination, &pod, &Lookup::of(&pod, host, &cdi)).unwrap()
    };
    let of_podman = |file: &str| format!("/s/overlay-containers/{SANDBOX}/userdata/{file}");
    let of_docker = |file: &str| format!("/d/containers/{SANDBOX}/{file}");
    let places = [
        ("/dev/shm", "shm", "mounts/shm"),
        ("/etc/hosts", "hosts", "hosts"),
        ("/etc/hostname", "hostname", "hostname"),
        ("/etc/resolv.conf", "resolv.conf", "resolv.conf"),
    ];
    for (destination, podmans, dockers) in places {
        for (engine, path, expected) in [
            (Engine::Podman, of_podman(podmans), true),
            (Engine::Docker, of_docker(dockers), true),
            (Engine::Podman, of_docker(dockers), false),
            (Engine::Docker, of_podman(podmans), false),
            (Engine::CriO, of_podman(podmans), false),
            (Engine::Podman, of_podman("passwd"), false),
            (Engine::Docker, of_docker("passwd"), false),
            (Engine::Docker, of_docker(dockers).replace(SANDBOX, "x"), false),
            (Engine::Docker, of_docker(dockers).replace("containers", "other"), false),
        ] {
            let found = is_shared(engine, &path, destination, &Host::Unknown);
            assert_eq!(found, expected, "{engine:?} {path} {destination}");
            assert!(!is_shared(engine, &path, "/etc/passwd", &Host::Unknown), "{engine:?} {path}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(dir.path()).unwrap().join("containers").join(SANDBOX);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hosts"), "").unwrap();
    symlink("/etc/shadow", folder.join("hostname")).unwrap();
    let live = |file: &str| {
        is_shared(Engine::Docker, text(&folder.join(file)), &format!("/etc/{file}"), &Host::Live)
    };
    assert!(live("hosts") && !live("hostname"), "a link leads anywhere");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!live("hosts"), "anybody may have put it there");
}

#[test]
fn an_image_volume_is_of_the_storage_of_the_containers_own_root() {
    let storage = "/var/lib/containers/storage";
    let root = format!("{storage}/overlay/{LAYER}/merged");
    let layer = |storage: &str| format!("{storage}/overlay/{ID}/merged");
    let empty = format!("{storage}/overlay-containers/{ID}/userdata/image-volumes");
    let of_container = format!("{storage}/overlay-containers/{ID}/userdata");
    for (root, image, is_own) in [
        (Some(&root), layer(storage), true),
        (Some(&root), format!("{of_container}/bound"), true),
        (Some(&root), layer("/srv"), false),
        (Some(&root), "/etc/x".to_owned(), false),
        (Some(&root), format!("{of_container}/../../../../../../etc"), false),
        (None, "/etc/x".to_owned(), false),
    ] {
        let pod = Pod { bundle: None, root: root.map(String::as_str), ..pod(Engine::CriO, &[]) };
        let mount = format!(
            r#"{{"destination":"/x","type":"overlay","source":"overlay","options":["lowerdir={image}:{empty}"]}}"#
        );
        let found = shown(&pod, &Host::Unknown, &mount);
        assert_eq!(found == "own", is_own, "{root:?} {image}: {found}");
    }
}

#[test]
fn a_part_of_the_own_root_is_one_only_of_storage_that_the_engine_made() {
    let root = format!("/var/lib/containers/storage/overlay/{LAYER}/merged");
    let elsewhere = "/srv/root".to_owned();
    for (engine, root, source, is_own) in [
        (Engine::CriO, &root, format!("{root}/etc/x"), true),
        (Engine::CriO, &root, root.clone(), false),
        (Engine::CriO, &root, "/etc/x".to_owned(), false),
        (Engine::CriO, &elsewhere, format!("{elsewhere}/etc/x"), false),
        (Engine::Containerd, &root, format!("{root}/etc/x"), false),
    ] {
        let pod = Pod { root: Some(root), ..pod(engine, &[]) };
        // Without a node the text is all there is; with one, the file must be there, too.
        for (host, expected) in [(Host::Unknown, is_own), (Host::Live, false)] {
            let cdi = Cdi::of(&host);
            let node = Lookup::of(&pod, &host, &cdi);
            assert_eq!(super::is_in_own_root(&source, &pod, &node), expected, "{engine:?} {source} {host:?}");
        }
    }
}

#[test]
fn away_from_the_node_an_engines_directory_is_one_of_its_usual_name() {
    let (cri_o, podman, docker) = (Engine::CriO, Engine::Podman, Engine::Docker);
    let blob = format!("blobs/sha256/{LAYER}");
    for (engine, source, is_own) in [
        (cri_o, format!("/a/overlay-containers/{SANDBOX}/userdata/resolv.conf"), true),
        (cri_o, format!("/a/overlay/{SANDBOX}/userdata/resolv.conf"), false),
        (cri_o, format!("/a/artifacts/{blob}"), true),
        (cri_o, format!("/a/artefacts/{blob}"), false),
        (docker, format!("/a/artifacts/{blob}"), false),
        (docker, format!("/a/containers/{ID}/hostname"), true),
        (podman, format!("/a/containers/{ID}/hostname"), false),
        (docker, "/a/volumes/v/_data".into(), true),
        (podman, "/a/volumes/v/_data".into(), true),
        (cri_o, "/a/volumes/v/_data".into(), false),
    ] {
        let pod = Pod { bundle: None, ..pod(engine, &[]) };
        let expected = if is_own { "own".to_owned() } else { format!("host {source}") };
        let mount = if engine == cri_o { own_bind(&source, "/m") } else { bind(&source) };
        assert_eq!(shown(&pod, &Host::Unknown, &mount), expected, "{engine:?} {source}");
    }
}

#[test]
fn the_files_of_a_docker_container_are_below_the_storage_of_its_root() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let at = |path: &str| text(&root).to_owned() + "/" + path;
    for directory in [
        format!("data/containers/{ID}/mounts/shm"),
        "data/volumes/v/_data/in".into(),
        format!("x/containers/{ID}"),
    ] {
        fs::create_dir_all(at(&directory)).unwrap();
    }
    symlink("/etc/hosts", at(&format!("data/containers/{ID}/hosts"))).unwrap();
    let layer = at(&format!("data/overlay2/{LAYER}/merged"));
    let pod = Pod { root: Some(&layer), ..pod(Engine::Docker, &[]) };
    let inside = "unclear: its source is inside a volume";
    for (source, expected) in [
        (format!("data/containers/{ID}/hostname"), "own"),
        (format!("data/containers/{ID}/mounts/shm"), "own"),
        (format!("data/containers/{ID}/hosts"), "host /etc/hosts"),
        ("data/volumes/v/_data".to_owned(), "own"),
        ("data/volumes/v/_data/in".to_owned(), inside),
        (format!("data/containers/{SANDBOX}/hostname"), "host "),
        ("data/volumes/v".to_owned(), "host "),
        ("data/volumes".to_owned(), "host "),
        // Where another engine, or nobody, keeps it.
        (format!("x/containers/{ID}/hostname"), "host "),
        (format!("data/overlay-containers/{ID}/userdata/hostname"), "host "),
    ] {
        let found = shown(&pod, &Host::Live, &bind(&at(&source)));
        assert!(found.starts_with(expected), "{source}: {found}");
    }
}

#[test]
fn a_container_with_users_of_its_own_may_own_its_directory_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let storage = fs::canonicalize(dir.path()).unwrap();
    let own = storage.join(format!("overlay-containers/{ID}/userdata"));
    fs::create_dir_all(&own).unwrap();
    chown(&own, Some(100_000), None).unwrap();
    let mount = own_bind(text(&own.join("run/secrets")), "/run/secrets");
    for (mapped_root, expected) in [
        (Some(100_000), "own"),
        (Some(100_001), "userdata must be owned by root, but is owned by uid 100000"),
        (None, "userdata must be owned by root, but is owned by uid 100000"),
    ] {
        let pod = Pod { bundle: Some(text(&own)), mapped_root, ..pod(Engine::Podman, &[]) };
        let found = shown(&pod, &Host::Live, &mount);
        assert!(found.contains(expected), "{mapped_root:?}: {found}");
    }
}
