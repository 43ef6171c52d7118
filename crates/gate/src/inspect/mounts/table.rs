//! The mount table as the runtime sees it: what is mounted where, and what is behind a subPath mount.
//!
//! The kernel names what is mounted by the device of its file system and by the path of its root in that file system
//! (`proc_pid_mountinfo(5)`), which nobody can forge by links or names. NFS is the exception: there every root is `/`
//! (`fs/nfs/super.c`, nfs_show_path), and all exports of one file system of a server have one device. What tells them
//! apart is the export that a mount was cloned from, and the inode of its root.

use std::borrow::Cow;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::fstatat;

use crate::inspect::path::strip_dir;

/// `/proc/PID/mountinfo`, read once, in the two orders in which it is asked.
#[derive(Debug)]
pub(in crate::inspect) struct Table {
    by_point: Vec<MountInfo>,
    by_device: Vec<MountInfo>,
    /// Whether its mount points are on this node, now.
    is_here: bool,
}

/// Another path of what is mounted somewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin<'t> {
    /// The path.
    pub(super) path: String,
    /// The mount point that it lies in.
    pub(super) point: &'t str,
}

/// What a subPath mount shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing is mounted there.
    Nothing,
    /// A part of one of the pod's volumes.
    OfPod,
    /// A path of the host, by all its names in the mount table, the shortest first.
    HostPath(Vec<String>),
    /// Perhaps a part of one of the pod's volumes; why that cannot be told.
    Unclear(&'static str),
}

/// Where the data of a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// On a disk, or in memory of its own.
    Here,
    /// On a server, which may not answer.
    OnServer,
    /// Nowhere: it shows the kernel's insides, or directories of the host in another way.
    OfHost,
    /// A kind of file system of which that is not known, FUSE for one.
    Unknown,
}

/// How many mounts of one NFS file system are told apart; a node with more has one volume a hundred times.
const MOST_OF_ONE_SERVER: usize = 256;

impl Table {
    /// A table of another node or time, whose mount points cannot be looked at.
    pub(in crate::inspect) fn captured(text: &str) -> Self {
        Self { is_here: false, ..Self::of(text) }
    }

    pub(in crate::inspect) fn of(text: &str) -> Self {
        let mut by_point: Vec<MountInfo> = text.lines().filter_map(MountInfo::parse).collect();
        // What subPath mounts hide is never another subPath mount, and a pod can have thousands of them.
        let origins = by_point.iter().filter(|entry| !entry.point.contains("/volume-subpaths/"));
        let mut by_device: Vec<MountInfo> = origins.cloned().collect();
        // Stable: of several mounts on one point the last stays last.
        by_point.sort_by(|one, other| one.point.cmp(&other.point));
        by_device.sort_by(|one, other| one.device.cmp(&other.device));
        Self { by_point, by_device, is_here: true }
    }

    /// What is mounted on a point: the last mount covers the ones before.
    fn mounted(&self, point: &str) -> Option<&MountInfo> {
        let end = self.by_point.partition_point(|entry| entry.point.as_str() <= point);
        self.by_point.get(end.checked_sub(1)?).filter(|entry| entry.point == point)
    }

    /// The same directory by its other paths, the shortest first: for each other mount of the same file system, the path
    /// below it.
    fn others_of(&self, hidden: &MountInfo) -> Vec<Origin<'_>> {
        let start = self.by_device.partition_point(|entry| entry.device < hidden.device);
        let same = self.by_device.iter().skip(start).take_while(|entry| entry.device == hidden.device);
        let same = same.filter(|entry| entry.point != hidden.point);
        let same = same.filter(|entry| !hidden.is_nfs() || entry.source == hidden.source);
        let below = |entry: &'_ MountInfo| {
            let rest = strip_dir(&hidden.root, &entry.root)?;
            Some(match (entry.point.as_str(), rest) {
                (point, "") => point.to_owned(),
                ("/", rest) => format!("/{rest}"),
                (point, rest) => format!("{point}/{rest}"),
            })
        };
        let mut paths: Vec<Origin<'_>> =
            same.filter_map(|entry| Some(Origin { path: below(entry)?, point: &entry.point })).collect();
        paths.sort_by(|one, other| (one.path.len(), &one.path).cmp(&(other.path.len(), &other.path)));
        paths.dedup();
        paths
    }

    /// The other paths of what is mounted on a point.
    pub(super) fn others(&self, point: &str) -> Vec<Origin<'_>> {
        self.mounted(point).map(|hidden| self.others_of(hidden)).unwrap_or_default()
    }

    /// What kind of file system is mounted on a point, and where its data is; `None` where nothing is mounted.
    pub(super) fn data(&self, point: &str) -> Option<(&str, Data)> {
        self.mounted(point).map(|mounted| (mounted.kind.as_str(), mounted.data()))
    }

    /// What a subPath mount shows. `volume` gives the directory of the pod's volume that a path lies in.
    pub(super) fn behind(&self, point: &str, volume: impl Fn(&str) -> Option<String>) -> Behind {
        let Some(hidden) = self.mounted(point) else { return Behind::Nothing };
        let others = self.others_of(hidden);
        let mut nested = false;
        let mut own = None;
        for other in &others {
            let Some(directory) = volume(&other.path) else { continue };
            // The volume is a mount of its own, or lies in one. A mount inside it is not the volume.
            if strip_dir(&directory, other.point).is_some() {
                own = own.or(Some(other));
            } else {
                nested = true;
            }
        }
        match (own, others.first()) {
            (Some(own), _) if hidden.is_nfs() && !self.is_only_root(own, &others) => Behind::Unclear(
                "several directories of one NFS export are mounted here, and it is unknown which of them it \
                 shows",
            ),
            (Some(_), _) => Behind::OfPod,
            (None, _) if nested => {
                Behind::Unclear("it shows a file system that is mounted inside a volume of the pod")
            }
            (None, Some(_)) => {
                let mut paths: Vec<String> = others.into_iter().map(|other| other.path).collect();
                paths.dedup();
                Behind::HostPath(paths)
            }
            // Mounted nowhere else: the root of the device's file system is what there is to say.
            (None, None) => Behind::HostPath(vec![format!("{}:{}", hidden.device, hidden.root)]),
        }
    }

    /// Whether all mounts of one NFS export have the same root: then a subPath can lie in no other directory.
    fn is_only_root(&self, own: &Origin<'_>, others: &[Origin<'_>]) -> bool {
        if others.len() > MOST_OF_ONE_SERVER || !self.is_here {
            return others.len() == 1;
        }
        // What the client knows of the root will do, and asking the server could take forever (`fs/nfs/inode.c`, nfs_getattr).
        let cached = AtFlags::from_bits_retain(libc::AT_STATX_DONT_SYNC);
        let root = |origin: &Origin<'_>| {
            fstatat(AT_FDCWD, origin.point, cached).ok().map(|root| (root.st_dev, root.st_ino))
        };
        let Some(root_of_own) = root(own) else { return others.len() == 1 };
        others.iter().all(|other| root(other) == Some(root_of_own))
    }
}

/// What a subPath mount shows by the text of a mount table, for fuzzing.
#[cfg(fuzzing)]
pub fn behind(mountinfo: &str, point: &str, volume: impl Fn(&str) -> Option<String>) -> String {
    format!("{:?}", Table::of(mountinfo).behind(point, volume))
}

/// A line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug)]
struct MountInfo {
    device: String,
    root: String,
    point: String,
    kind: String,
    source: String,
}

impl MountInfo {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        let root = unescape(root.strip_suffix("//deleted").unwrap_or(root)).into_owned();
        // Any number of optional fields, then a dash.
        let mut rest = fields.skip_while(|field| *field != "-").skip(1);
        let (kind, source) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
        Some(Self {
            device: device.to_owned(),
            root,
            point: unescape(point).into_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
        })
    }

    fn is_nfs(&self) -> bool {
        matches!(self.kind.as_str(), "nfs" | "nfs4")
    }

    fn data(&self) -> Data {
        match self.kind.as_str() {
            // These have no device of their own, and a disk all the same.
            "tmpfs" | "ramfs" | "btrfs" | "zfs" | "bcachefs" => Data::Here,
            "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "virtiofs" | "lustre" | "afs" => {
                Data::OnServer
            }
            kind if OF_HOST.contains(&kind) => Data::OfHost,
            // The kernel gives what has no block device the number 0 (`fs/super.c`, get_anon_bdev).
            _ if !self.device.starts_with("0:") => Data::Here,
            _ => Data::Unknown,
        }
    }
}

/// File systems without data of their own (`/proc/filesystems`): a mount of one shows the same as the host's.
const OF_HOST: [&str; 29] = [
    "aufs",
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "ecryptfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{Behind, Table, unescape};

    const OWN: &str = "/var/lib/kubelet/pods/dab344e9-1d4f-4e7d-941e-7a1219bef1c5";

    /// The pod's volumes as the kubelet lays them out.
    fn volume(path: &str) -> Option<String> {
        let rest = path.strip_prefix(OWN)?.strip_prefix("/volumes/")?;
        let parts: Vec<&str> = rest.split('/').take(3).collect();
        match parts.as_slice() {
            ["kubernetes.io~csi", _, "mount"] => Some(format!("{OWN}/volumes/{}", parts.join("/"))),
            ["kubernetes.io~csi", ..] => None,
            [plugin, name, ..] => Some(format!("{OWN}/volumes/{plugin}/{name}")),
            _ => None,
        }
    }

    fn host(path: &str) -> Behind {
        Behind::HostPath(vec![path.to_owned()])
    }

    #[test]
    fn the_mount_table_tells_what_a_sub_path_hides() {
        let own = OWN;
        let table = format!(
            "27 1 254:0 / / rw shared:3 - ext4 /dev/vda rw\n\
             59 27 254:0 /var/lib/kubelet /var/lib/kubelet rw - ext4 /dev/vda rw\n\
             76 59 0:57 / {own}/volumes/kubernetes.io~secret/s rw - tmpfs tmpfs rw\n\
             80 59 254:0 /etc {own}/volume-subpaths/h/c/0 rw - ext4 /dev/vda rw\n\
             81 59 0:57 /..2026/k {own}/volume-subpaths/s/c/0 rw - tmpfs tmpfs rw\n\
             82 59 254:0 {own}/volumes/kubernetes.io~empty-dir/m/a\\040b {own}/volume-subpaths/m/c/0 rw - ext4 /dev/vda rw\n\
             83 59 8:1 /data {own}/volume-subpaths/n/c/0 rw - ext4 /dev/sda1 rw\n\
             84 59 254:0 /root {own}/volume-subpaths/s/c/1 rw - ext4 /dev/vda rw\n\
             85 59 0:57 / {own}/volume-subpaths/s/c/1 rw - tmpfs tmpfs rw\n\
             86 59 8:2 / /srv rw - ext4 /dev/sda2 rw\n\
             87 59 8:2 / {own}/volumes/kubernetes.io~empty-dir/m/in rw - ext4 /dev/sda2 rw\n\
             88 59 8:2 /x {own}/volume-subpaths/m/c/1 rw - ext4 /dev/sda2 rw\n\
             89 59 8:3 /sub {own}/volumes/kubernetes.io~csi/pv/mount rw - ext4 /dev/sda3 rw\n\
             90 59 8:3 /sub/x {own}/volume-subpaths/pv/c/0 rw - ext4 /dev/sda3 rw\n\
             91 59 8:3 / /var/lib/kubelet/plugins/g rw - ext4 /dev/sda3 rw\n\
             92 59 8:3 /other {own}/volume-subpaths/pv/c/1 rw - ext4 /dev/sda3 rw\n\
             93 59 254:0 {own}/volumes/kubernetes.io~csi/pv/vol_data.json {own}/volume-subpaths/pv/c/2 rw - ext4 /dev/vda rw"
        );
        let rows = [
            ("h/c/0", host("/etc")),
            ("s/c/0", Behind::OfPod),
            ("m/c/0", Behind::OfPod),
            ("n/c/0", host("8:1:/data")),
            ("s/c/1", Behind::OfPod),
            ("x/c/0", Behind::Nothing),
            ("m/c/1", Behind::Unclear("it shows a file system that is mounted inside a volume of the pod")),
            ("pv/c/0", Behind::OfPod),
            ("pv/c/1", host("/var/lib/kubelet/plugins/g/other")),
            ("pv/c/2", host(&format!("{own}/volumes/kubernetes.io~csi/pv/vol_data.json"))),
        ];
        let table = Table::of(&table);
        for (sub_path, expected) in rows {
            let found = table.behind(&format!("{own}/volume-subpaths/{sub_path}"), volume);
            assert_eq!(found, expected, "{sub_path}");
        }
    }

    #[test]
    fn exports_of_one_server_are_told_apart() {
        let own = OWN;
        let claim = format!("{own}/volumes/kubernetes.io~nfs/claim");
        let sub_path = format!("{own}/volume-subpaths/claim/c/0");
        let table = |more: &str, export: &str| {
            Table::of(&format!(
                "76 59 0:57 / {claim} rw - nfs server:/export/a rw\n\
                 77 59 0:57 / {sub_path} rw - nfs {export} rw\n{more}"
            ))
        };
        assert_eq!(table("", "server:/export/a").behind(&sub_path, volume), Behind::OfPod);
        // One file system of the server, and so one device and one root for the kernel; but another export.
        let other = "78 59 0:57 / /mnt/secret rw - nfs server:/export/b rw";
        assert_eq!(table(other, "server:/export/b").behind(&sub_path, volume), host("/mnt/secret"));
        assert_eq!(table(other, "server:/export/a").behind(&sub_path, volume), Behind::OfPod);
        // A part of the same export elsewhere: neither of the two is there to be looked at.
        let part = "78 59 0:57 / /nothing/here rw - nfs server:/export/a rw";
        let found = table(part, "server:/export/a").behind(&sub_path, volume);
        assert!(matches!(found, Behind::Unclear(_)), "{found:?}");
    }

    #[test]
    fn mounts_of_one_export_show_one_directory_if_their_roots_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(at("own")).unwrap();
        fs::create_dir(at("other")).unwrap();
        symlink("own", at("again")).unwrap();
        let own = at("own");
        let text = |elsewhere: &[String]| {
            let mount = |point: &String| format!("78 59 0:57 / {point} rw - nfs server:/x rw\n");
            let more: String = elsewhere.iter().map(mount).collect();
            format!(
                "76 59 0:57 / {own} rw - nfs server:/x rw\n\
                 77 59 0:57 /part /k/volume-subpaths/c/0 rw - nfs server:/x rw\n{more}"
            )
        };
        let behind = |table: Table| {
            let volume = |path: &str| path.starts_with(&format!("{own}/")).then(|| own.clone());
            table.behind("/k/volume-subpaths/c/0", volume) == Behind::OfPod
        };
        // As often as a mount of one server is looked at, and more often.
        let (all, more): (Vec<_>, _) =
            ((1..256).map(|n| format!("{}/{}", at("again"), "./".repeat(n))).collect(), at("again"));
        for (elsewhere, is_own) in [
            (vec![], true),
            (vec![at("again")], true),
            (vec![at("other")], false),
            (vec![at("again"), at("other")], false),
            (vec![at("missing")], false),
            (all.clone(), true),
            ([all, vec![more]].concat(), false),
        ] {
            let text = text(&elsewhere);
            assert_eq!(behind(Table::of(&text)), is_own, "{elsewhere:?}");
            // Of another node or time nothing can be looked at.
            assert_eq!(behind(Table::captured(&text)), elsewhere.is_empty(), "{elsewhere:?}");
        }
    }

    #[test]
    fn what_was_deleted_is_still_mounted() {
        let point = format!("{OWN}/volume-subpaths/h/c/0");
        let table = Table::of(&format!(
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n80 27 254:0 /etc//deleted {point} rw - ext4 /dev/vda rw"
        ));
        assert_eq!(table.behind(&point, volume), host("/etc"));
    }

    #[test]
    fn thousands_of_sub_paths_are_not_held_against_each_other() {
        let lines = (0..10_000).map(|n| {
            format!("{n} 27 254:0 /srv/{n} {OWN}/volume-subpaths/h/c/{n} rw shared:1 - ext4 /dev/vda rw\n")
        });
        let text = format!("27 1 254:0 / / rw - ext4 /dev/vda rw\n{}", lines.collect::<String>());
        let table = Table::of(&text);
        // All that each of them is compared with.
        assert_eq!(table.by_device.len(), 1);
        for n in 0..10_000 {
            let found = table.behind(&format!("{OWN}/volume-subpaths/h/c/{n}"), volume);
            assert_eq!(found, host(&format!("/srv/{n}")));
        }
    }

    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134\011x\q"), "/a b\\\tx\\q");
    }
}
