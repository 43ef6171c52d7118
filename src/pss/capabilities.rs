//! Sets of capabilities by their kernel names, with room for names this program does not know.

use std::fmt;

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
    pub unknown: Vec<&'a str>,
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
            None if self.unknown.contains(&bare) => {}
            None => self.unknown.push(bare),
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
            None => self.unknown.contains(&bare),
        }
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn without(&self, other: &CapabilitySet<'_>) -> Self {
        let unknown = self.unknown.iter().copied().filter(|name| !other.unknown.contains(name)).collect();
        Self { bits: self.bits & !other.bits, unknown }
    }

    /// Adds everything of another set.
    pub fn extend(&mut self, other: &CapabilitySet<'a>) {
        self.bits |= other.bits;
        for name in &other.unknown {
            // Not `insert`: what is kept here has lost its one `CAP_` already.
            if !self.unknown.contains(name) {
                self.unknown.push(name);
            }
        }
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
