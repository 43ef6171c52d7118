//! The devices of the host that the container gets: by a node that the runtime makes (`linux.devices`), or by a rule
//! of its control group (`linux.resources.devices`), which a node of the image's own, or one that it makes with
//! CAP_MKNOD, then opens.
//!
//! A device is known by its type and numbers; its path is anybody's choice. Standard devices are not of interest, and
//! those that a CDI specification or `not-host-paths` gives out are the node's own.

use std::borrow::Cow;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::cdi::{Cdi, Numbers};
use super::host::Host;
use super::path::strip_dir;
use super::spec::{Device, DeviceRule, Linux, Text};
use pss::facts::Volume;

/// What a node is asked about its devices.
pub(super) struct DeviceLookup<'n> {
    /// The node.
    pub(super) host: &'n Host,
    /// Its CDI specifications.
    pub(super) cdi: &'n Cdi,
    /// What the admin says is no path of the host.
    pub(super) not_host_paths: &'n [String],
    /// The container is a pod's: a claim, a device plugin or an NRI plugin brings devices. Nobody but who started it
    /// brings those of another.
    pub(super) of_pod: bool,
}

/// The devices that are, or may be, the host's own business.
pub(super) fn volumes<'a>(linux: &'a Linux<'_>, node: &DeviceLookup<'_>) -> Vec<Volume<'a>> {
    let mut found: Vec<Volume<'a>> = Vec::new();
    let mut made: Vec<Numbers> = Vec::new();
    for device in linux.devices.iter().flatten() {
        let Some(numbers) = numbers(device) else { continue };
        made.push(numbers);
        let path = device.path.as_ref().map_or("", Text::as_str);
        if !is_standard(numbers) && !node.cdi.has_device(path, numbers) && !node.lists(numbers) {
            found.push(node.volume(Some(path), node.name(numbers)));
        }
    }
    let rules = linux.resources.iter().flat_map(|resources| resources.devices.iter().flatten());
    for rule in opened(rules) {
        let known = rule.numbers().is_some_and(|numbers| {
            made.contains(&numbers)
                || is_standard(numbers)
                || node.cdi.opens_device(numbers, rule.access)
                || node.lists(numbers)
        });
        if !known && !rule.is_terminals() {
            found.push(node.volume(None, rule.numbers().map_or_else(|| rule.name(), |one| node.name(one))));
        }
    }
    found
}

impl DeviceLookup<'_> {
    fn volume<'a>(&self, at: Option<&'a str>, numbers: String) -> Volume<'a> {
        let source = Cow::Owned(numbers);
        if self.of_pod {
            return Volume::Device { destination: at, source };
        }
        Volume::HostPath { destination: at.unwrap_or("/dev"), source, name: None }
    }

    /// What the host calls the device.
    fn name(&self, numbers: Numbers) -> String {
        let kernels = self.host.is_here().then(|| numbers.kernels_name()).flatten();
        kernels.unwrap_or_else(|| numbers.name())
    }

    /// Whether the admin lists the device, by its own path or a folder above it.
    fn lists(&self, numbers: Numbers) -> bool {
        if self.not_host_paths.is_empty() || !self.host.is_here() {
            return false;
        }
        let is_node = |path: &String| Numbers::of_node(path) == Some(numbers);
        let name = numbers.kernels_name();
        let is_above = |path: &String| name.as_deref().is_some_and(|name| strip_dir(name, path).is_some());
        self.not_host_paths.iter().any(|path| is_above(path) || is_node(path))
    }
}

/// Type and numbers of a node to make; none of a FIFO, which leads nowhere, and of what no runtime makes.
fn numbers(device: &Device<'_>) -> Option<Numbers> {
    let kind = device.kind.as_ref().map_or("", Text::as_str);
    Numbers::of(kind, device.major.unwrap_or(0), device.minor.unwrap_or(0)).filter(|own| own.kind != 'p')
}

/// What every container has (runc `libcontainer/specconv/spec_linux.go` AllowedDevices, moby
/// `oci/defaults.go`): null, zero, full, random, urandom; tty, console, ptmx; and what CRI-O lets pods ask for unless
/// told otherwise (`allowed_devices`): /dev/net/tun and /dev/fuse.
fn is_standard(Numbers { kind, major, minor }: Numbers) -> bool {
    kind == 'c'
        && match major {
            1 => matches!(minor, 3 | 5 | 7 | 8 | 9),
            5 => matches!(minor, 0..=2),
            10 => matches!(minor, 200 | 229),
            136 => true,
            _ => false,
        }
}

/// A rule that opens devices.
#[derive(Clone, Copy, Debug)]
struct Rule<'a> {
    /// `a`, `b` or `c`.
    kind: char,
    major: Option<i64>,
    minor: Option<i64>,
    access: &'a str,
}

impl<'a> Rule<'a> {
    fn of(rule: &'a DeviceRule<'_>) -> Self {
        let one = |number: Option<i64>| number.filter(|number| *number >= 0);
        let kind = match rule.kind.as_ref().map_or("", Text::as_str) {
            "b" => 'b',
            "c" | "u" => 'c',
            _ => 'a',
        };
        let access = rule.access.as_ref().map_or("", Text::as_str);
        // Runtimes take no access as every access.
        let access = if access.is_empty() { "rwm" } else { access };
        Self { kind, major: one(rule.major), minor: one(rule.minor), access }
    }

    fn numbers(&self) -> Option<Numbers> {
        Some(Numbers { kind: self.kind, major: self.major?, minor: self.minor? })
            .filter(|own| own.kind != 'a')
    }

    /// All of one major: terminals of the container's own devpts.
    fn is_terminals(&self) -> bool {
        (self.kind, self.major, self.minor) == ('c', Some(136), None)
    }

    /// Whether this rule takes back what another one opened. One for all devices of a type takes back nothing but such a
    /// one: runc drops the very entry that a rule names, and everything for `a` (opencontainers/cgroups
    /// `devices/devices_emulator.go` rmRule).
    fn covers(&self, other: &Rule<'_>) -> bool {
        let all_of = |own: Option<i64>, other: Option<i64>| own.is_none() || own == other;
        let is_same = (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor);
        let is_all = self.kind == 'a' && all_of(self.major, other.major) && all_of(self.minor, other.minor);
        (is_same || is_all)
            && other.access.chars().all(|letter| letter == 'm' || self.access.contains(letter))
    }

    fn name(&self) -> String {
        let part = |number: Option<i64>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        match self.kind {
            'a' => "/dev".to_owned(),
            kind => format!("{}/{}:{}", folder(kind), part(self.major), part(self.minor)),
        }
    }
}

/// The rules that let a device be read or written, after those that take it back. Leave to make a node alone opens
/// nothing; runc gives it for all (AllowedDevices).
fn opened<'a, 'r: 'a>(rules: impl Iterator<Item = &'a DeviceRule<'r>>) -> Vec<Rule<'a>> {
    let mut opened: Vec<Rule<'a>> = Vec::new();
    for rule in rules {
        let one = Rule::of(rule);
        if rule.allow.unwrap_or(false) {
            if !one.access.contains(['r', 'w']) {
                continue;
            }
            match opened.len() {
                ..MOST_RULES => opened.push(one),
                // As good as everything; and what is one too many must not be the one that matters.
                MOST_RULES => opened.push(Rule { kind: 'a', major: None, minor: None, access: "rwm" }),
                _ => {}
            }
        } else {
            opened.retain(|open| !one.covers(open));
        }
    }
    opened
}

/// More are compared with each other at a price that grows with the square; a container has a few.
const MOST_RULES: usize = 1_000;

/// Where udev names devices by their numbers.
fn folder(kind: char) -> &'static str {
    if kind == 'b' { "/dev/block" } else { "/dev/char" }
}

impl Numbers {
    /// The name that udev gives it, and that needs no look at the host.
    fn name(self) -> String {
        format!("{}/{}:{}", folder(self.kind), self.major, self.minor)
    }

    /// Where the kernel itself puts the node (`DEVNAME`, Documentation/ABI/stable/sysfs-driver and devtmpfs).
    fn kernels_name(self) -> Option<String> {
        let folder = if self.kind == 'b' { "block" } else { "char" };
        let uevent = format!("/sys/dev/{folder}/{}:{}/uevent", self.major, self.minor);
        let text = pss_guard_core::files::read_proc(Path::new(&uevent)).ok()?;
        let text = String::from_utf8(text).ok()?;
        let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(format!("/dev/{name}"))
    }

    /// Those of a node of this host. No link is followed (container-device-interface
    /// `pkg/cdi/container-edits_unix.go` deviceInfoFromPath).
    pub(super) fn of_node(path: &str) -> Option<Self> {
        let metadata = Path::new(path).symlink_metadata().ok()?;
        let device = metadata.rdev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let kind = match metadata.file_type() {
            kind if kind.is_block_device() => "b",
            kind if kind.is_char_device() => "c",
            kind if kind.is_fifo() => "p",
            _ => return None,
        };
        Self::of(kind, i64::try_from(major).ok()?, i64::try_from(minor).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_RULES, opened};
    use crate::inspect::spec::DeviceRule;

    fn names(rules: &str) -> Vec<String> {
        let text = format!("[{rules}]");
        let rules: Vec<DeviceRule<'_>> = serde_json::from_str(&text).unwrap();
        opened(rules.iter()).iter().map(super::Rule::name).collect()
    }

    #[test]
    fn a_rule_takes_back_its_own_and_one_for_all_everything() {
        let disk = r#"{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"}"#;
        for (taken_back, expected) in [
            (r#"{"allow":false,"access":"rwm"}"#, true),
            (r#"{"allow":false,"type":"b","major":8,"minor":0}"#, true),
            (r#"{"allow":false,"type":"a","major":8,"access":"rw"}"#, true),
            (r#"{"allow":false,"type":"b","access":"rwm"}"#, false),
            (r#"{"allow":false,"type":"b","major":8,"access":"rwm"}"#, false),
            (r#"{"allow":false,"type":"b","major":8,"minor":0,"access":"r"}"#, false),
        ] {
            let left = names(&format!("{disk},{taken_back}"));
            assert_eq!(left.is_empty(), expected, "{taken_back}: {left:?}");
        }
    }

    #[test]
    fn a_rule_does_not_hide_behind_a_thousand_others() {
        let null = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},"#;
        let disk = r#"{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"}"#;
        assert_eq!(names(disk), ["/dev/block/8:0"]);
        let found = names(&(null.repeat(MOST_RULES) + disk));
        assert_eq!((found.len(), found.last().map(String::as_str)), (MOST_RULES + 1, Some("/dev")));
    }
}
