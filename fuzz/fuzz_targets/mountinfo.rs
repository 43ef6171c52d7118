//! The mount table: what a subPath mount shows is told by the mounts that are there, and by nothing that is written beside
//! them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::inspect::behind;

const POINT: &str = "/var/lib/kubelet/pods/u-1/volume-subpaths/data/app/0";
const VOLUME: &str = "/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~empty-dir/data";

fuzz_target!(|text: &str| {
    let shown = of(text);
    let lines: Vec<Line> = text.lines().filter_map(Line::read).collect();
    let Some(hidden) = lines.iter().rfind(|line| line.point == POINT) else {
        return assert_eq!(shown, "Nothing");
    };
    assert_ne!(shown, "Nothing");

    // It is the pod's only if its file system is mounted, elsewhere, where it shows a volume of this pod: by the same device,
    // at a point that holds the volume or is it, and with a root that the subPath lies in.
    if shown == "OfPod" {
        let is_volumes = |line: &&Line| {
            line.device == hidden.device
                && line.point != POINT
                && lies_in(VOLUME, &line.point)
                && lies_in(&hidden.root, &line.root)
        };
        assert!(lines.iter().any(|line| is_volumes(&line)), "nothing of the pod's is mounted");
    }

    // What is covered does not count, nor another file system, nor another subPath mount, wherever it is mounted.
    let device = if hidden.device == "0:77" { "0:78" } else { "0:77" };
    for line in [
        format!("1 1 {} {VOLUME} {POINT} rw - ext4 /dev/sda rw", hidden.device),
        format!("1 1 {device} {} {VOLUME} rw - ext4 /dev/sda rw", "/"),
        format!("1 1 {device} / / rw - ext4 /dev/sda rw"),
        format!(
            "1 1 {} / /var/lib/kubelet/pods/u-1/volume-subpaths/data/app/1 rw - ext4 a rw",
            hidden.device
        ),
        "1 1".to_owned(),
    ] {
        assert_eq!(of(&format!("{line}\n{text}")), shown, "{line}");
    }

    // Its last mount is what a point shows.
    let last = format!("{text}\n1 1 0:9999 /etc {POINT} rw - ext4 /dev/sda rw");
    let shown = of(&last);
    if !lines.iter().any(|line| line.device == "0:9999") {
        assert_eq!(shown, "HostPath([\"0:9999:/etc\"])");
    }
});

fn of(text: &str) -> String {
    behind(text, POINT, |path| (path == VOLUME || lies_in(path, VOLUME)).then(|| VOLUME.to_owned()))
}

/// A slash at the end, which the kernel never writes, names the same directory.
fn lies_in(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path == directory || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// A line as the kernel writes it, read another way.
struct Line {
    device: String,
    root: String,
    point: String,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, _, device, root, point, ..] = fields.as_slice() else { return None };
        let root = root.strip_suffix("//deleted").unwrap_or(root);
        Some(Self { device: (*device).to_owned(), root: unescape(root), point: unescape(point) })
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let code = rest.as_str().get(..3).filter(|_| next == '\\');
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                plain.push(char::from(code));
                rest.nth(2);
            }
            None => plain.push(next),
        }
    }
    plain
}
