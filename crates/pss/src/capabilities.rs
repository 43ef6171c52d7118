//! Sets of capabilities by their kernel names, with room for names this program does not know.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

/// Kernel names without `CAP_`, at the index of their number (`include/uapi/linux/capability.h`).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities. Names that no kernel known to us has are kept as they are: a newer kernel's capability
/// must not fail the parse, and must not be lost.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CapabilitySet<'a> {
    /// Bit n is set for the capability numbered n.
    pub bits: u64,
    /// Names without their first `CAP_` that are not in [`NAMES`].
    pub unknown: BTreeSet<&'a str>,
}

impl<'a> CapabilitySet<'a> {
    /// A set of capabilities given without `CAP_`, which must all be known; unknown ones are kept by name.
    #[must_use]
    pub fn of(names: &[&'a str]) -> Self {
        let mut set = Self::default();
        for name in names {
            set.insert(name);
        }
        set
    }

    /// Adds one name, with or without `CAP_`.
    ///
    /// Only one `CAP_` is taken off: containerd turns an asked-for `CAP_CHOWN` into `CAP_CAP_CHOWN`, and admission
    /// forbids that spelling, so it must stay an unknown name.
    pub fn insert(&mut self, name: &'a str) {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        match NAMES.iter().position(|known| *known == bare) {
            Some(number) => self.bits |= 1 << number,
            None => _ = self.unknown.insert(bare),
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits == 0 && self.unknown.is_empty()
    }

    /// Whether a name (without `CAP_`) is in it.
    #[must_use]
    pub fn contains(&self, bare: &str) -> bool {
        match NAMES.iter().position(|known| *known == bare) {
            Some(number) => self.bits & (1 << number) != 0,
            None => self.unknown.contains(bare),
        }
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn without(&self, other: &CapabilitySet<'_>) -> Self {
        let unknown = self.unknown.iter().copied().filter(|name| !other.unknown.contains(*name)).collect();
        Self { bits: self.bits & !other.bits, unknown }
    }

    /// Adds everything of another set.
    pub fn extend(&mut self, other: &CapabilitySet<'a>) {
        self.bits |= other.bits;
        // Not `insert`: what is kept here has lost its one `CAP_` already.
        self.unknown.extend(&other.unknown);
    }

    /// The names in it without `CAP_`, sorted bytewise as upstream sorts its sets.
    #[must_use]
    pub fn names(&self) -> Vec<&'a str> {
        let known = NAMES.iter().enumerate().filter(|(number, _)| self.bits & (1 << number) != 0);
        let mut names: Vec<&str> = known.map(|(_, name)| *name).chain(self.unknown.iter().copied()).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for CapabilitySet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{CapabilitySet, NAMES};

    #[test]
    fn the_names_and_numbers_are_the_kernels() {
        let mut oracle: Vec<(u8, String)> =
            caps::all().iter().map(|capability| (capability.index(), capability.to_string())).collect();
        oracle.sort_unstable();
        let ours = NAMES.iter().zip(0_u8..).map(|(name, number)| (number, format!("CAP_{name}")));
        assert_eq!(ours.collect::<Vec<_>>(), oracle);
        for capability in caps::all() {
            let name = capability.to_string();
            let mut set = CapabilitySet::default();
            set.insert(&name);
            assert_eq!((set.bits, set.unknown.len()), (capability.bitmask(), 0), "{name}");
            let contained = NAMES.iter().filter(|other| set.contains(other));
            assert!(contained.map(|other| format!("CAP_{other}")).eq([name.as_str()]), "{set:?}");
        }
    }

    #[test]
    fn only_one_prefix_is_taken_off_a_name() {
        for (inserted, name, known) in [
            ("CHOWN", "CHOWN", true),
            ("CAP_CHOWN", "CHOWN", true),
            ("CAP_CAP_CHOWN", "CAP_CHOWN", false),
            ("CAP_FROM_THE_FUTURE", "FROM_THE_FUTURE", false),
            ("cap_chown", "cap_chown", false),
            ("chown", "chown", false),
            ("CAP_", "", false),
            ("", "", false),
        ] {
            let set = CapabilitySet::of(&[inserted, inserted]);
            assert_eq!(set.names(), [name], "{inserted}");
            assert_eq!(set.unknown.is_empty(), known, "{inserted}");
            assert!(set.contains(name) && !set.is_empty(), "{inserted}");
            assert!(!set.contains("SYS_ADMIN"), "{inserted}");
        }
    }

    #[test]
    fn sets_keep_what_no_kernel_knows_through_every_operation() {
        let some = CapabilitySet::of(&["NET_RAW", "CHOWN", "CAP_CAP_CHOWN", "NEW"]);
        assert_eq!(some.names(), ["CAP_CHOWN", "CHOWN", "NET_RAW", "NEW"]);
        assert_eq!(some.without(&CapabilitySet::of(&["NEW", "CHOWN"])).names(), ["CAP_CHOWN", "NET_RAW"]);
        assert_eq!(some.without(&CapabilitySet::default()), some);
        assert!(some.without(&some).is_empty());

        let mut union = CapabilitySet::of(&["KILL", "NEW"]);
        union.extend(&some);
        union.extend(&some);
        assert_eq!(union.names(), ["CAP_CHOWN", "CHOWN", "KILL", "NET_RAW", "NEW"]);
    }

    #[test]
    fn the_last_known_capability_has_its_own_bit() {
        let last = CapabilitySet::of(&["CHECKPOINT_RESTORE"]);
        assert_eq!(last.bits, 1 << 40);
        assert_eq!(format!("{last:?}"), "{\"CHECKPOINT_RESTORE\"}");
        assert!(CapabilitySet::default().is_empty());
    }
}
