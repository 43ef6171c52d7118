//! What is mounted where, and what hides behind a mount point? The mount table as the runtime sees it.

use std::borrow::Cow;

use super::path::strip_dir;

/// `/proc/PID/mountinfo`, read once, in the two orders in which it is asked.
#[derive(Debug)]
pub(super) struct Table {
    by_point: Vec<Entry>,
    by_device: Vec<Entry>,
}

impl Table {
    pub(super) fn of(text: &str) -> Self {
        let mut by_point: Vec<Entry> = text.lines().filter_map(Entry::parse).collect();
        // What subPath mounts hide is never another subPath mount, and a pod can have thousands of them.
        let origins = by_point.iter().filter(|entry| !entry.point.contains("/volume-subpaths/"));
        let mut by_device: Vec<Entry> = origins.cloned().collect();
        // Stable: of several mounts on one point the last stays last.
        by_point.sort_by(|one, other| one.point.cmp(&other.point));
        by_device.sort_by(|one, other| one.device.cmp(&other.device));
        Self { by_point, by_device }
    }

    /// What is mounted on a point: the last mount covers the ones before.
    fn mounted(&self, point: &str) -> Option<&Entry> {
        let end = self.by_point.partition_point(|entry| entry.point.as_str() <= point);
        self.by_point.get(end.checked_sub(1)?).filter(|entry| entry.point == point)
    }

    /// The same directory by its other paths, the shortest first: for each other mount of the same device, the path
    /// below it.
    fn others_of(&self, hidden: &Entry) -> Vec<String> {
        let start = self.by_device.partition_point(|entry| entry.device < hidden.device);
        let same = self.by_device.iter().skip(start).take_while(|entry| entry.device == hidden.device);
        let below = |entry: &Entry| {
            let rest = strip_dir(&hidden.root, &entry.root)?;
            Some(match (entry.point.as_str(), rest) {
                (point, "") => point.to_owned(),
                ("/", rest) => format!("/{rest}"),
                (point, rest) => format!("{point}/{rest}"),
            })
        };
        let mut paths: Vec<String> =
            same.filter(|entry| entry.point != hidden.point).filter_map(below).collect();
        paths.sort_unstable_by_key(String::len);
        paths.dedup();
        paths
    }

    /// The other paths of what is mounted on a point.
    pub(super) fn others(&self, point: &str) -> Vec<String> {
        self.mounted(point).map(|hidden| self.others_of(hidden)).unwrap_or_default()
    }

    /// The directories of the host that a subPath mount shows; none where nothing is mounted.
    pub(super) fn behind(&self, point: &str) -> Vec<String> {
        let Some(hidden) = self.mounted(point) else { return Vec::new() };
        let paths = self.others_of(hidden);
        if paths.is_empty() {
            // Mounted nowhere else: the root of the device's file system is what there is to say.
            return vec![format!("{}:{}", hidden.device, hidden.root)];
        }
        paths
    }
}

/// A line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug)]
struct Entry {
    device: String,
    root: String,
    point: String,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        let root = unescape(root.strip_suffix("//deleted").unwrap_or(root)).into_owned();
        Some(Self { device: device.to_owned(), root, point: unescape(point).into_owned() })
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

#[cfg(test)]
mod tests {
    use super::{Table, unescape};

    const UID: &str = "dab344e9-1d4f-4e7d-941e-7a1219bef1c5";

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
        let table = Table::of(&table);
        for (sub_path, expected) in rows {
            let found = table.behind(&format!("{own}/volume-subpaths/{sub_path}"));
            assert_eq!(found, expected, "{sub_path}");
        }
    }

    #[test]
    fn thousands_of_sub_paths_cost_no_thousands_times_as_much() {
        let own = format!("/var/lib/kubelet/pods/{UID}");
        let lines = (0..10_000).map(|n| {
            format!("{n} 27 254:0 /srv/{n} {own}/volume-subpaths/h/c/{n} rw shared:1 - ext4 /dev/vda rw\n")
        });
        let text = format!("27 1 254:0 / / rw - ext4 /dev/vda rw\n{}", lines.collect::<String>());
        let started = std::time::Instant::now();
        let table = Table::of(&text);
        for n in 0..10_000 {
            let found = table.behind(&format!("{own}/volume-subpaths/h/c/{n}"));
            assert_eq!(found, [format!("/srv/{n}")]);
        }
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134\011x\q"), "/a b\\\tx\\q");
    }
}
