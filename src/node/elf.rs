//! Which machine a program is for, by the header of ELF, without calling it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// As much of a program as is looked at: the header of ELF ends before, and the kernel reads no more of a script's first
/// line (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;

/// A kind of machine: its class and `e_machine` (`elf(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    class: u8,
    number: u16,
}

impl Machine {
    const X86: Self = Self { class: 1, number: 3 };
    const X86_64: Self = Self { class: 2, number: 62 };
    const ARM: Self = Self { class: 1, number: 40 };
    const ARM64: Self = Self { class: 2, number: 183 };

    /// The machine that the program with this head is for; `None` where it is no program.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let class = *head.strip_prefix(b"\x7fELF")?.first()?;
        let number = [*head.get(18)?, *head.get(19)?];
        // EI_DATA: 1 is little-endian.
        let read = if *head.get(5)? == 1 { u16::from_le_bytes } else { u16::from_be_bytes };
        Some(Self { class, number: read(number) })
    }

    /// The machine of the program in a file; `None` where none can be read there.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        Self::of(&head(path).ok()?)
    }

    /// Whether a kernel of this machine runs programs of another. A 64-bit kernel may know the 32-bit programs of its family
    /// (`CONFIG_IA32_EMULATION`; `CONFIG_COMPAT` of arm64).
    #[must_use]
    pub fn runs(self, other: Self) -> bool {
        self == other || [(Self::X86_64, Self::X86), (Self::ARM64, Self::ARM)].contains(&(self, other))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::X86 => f.write_str("x86"),
            Self::X86_64 => f.write_str("x86-64"),
            Self::ARM => f.write_str("32-bit ARM"),
            Self::ARM64 => f.write_str("arm64"),
            Self { number, .. } => write!(f, "machine {number} of ELF"),
        }
    }
}

/// The first bytes of a file.
pub fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::Machine;

    #[test]
    fn a_64_bit_kernel_runs_the_32_bit_programs_of_its_family() {
        let all = [Machine::X86, Machine::X86_64, Machine::ARM, Machine::ARM64];
        for (own, runs) in
            [(Machine::X86_64, [true, true, false, false]), (Machine::ARM64, [false, false, true, true])]
        {
            assert_eq!(all.map(|theirs| own.runs(theirs)), runs, "{own}");
        }
    }

    #[test]
    fn a_header_says_which_machine_it_is() {
        let head = |class, order, number: [u8; 2]| {
            let mut head = b"\x7fELF".to_vec();
            head.extend([class, order]);
            head.extend([0; 12]);
            head.extend(number);
            head
        };
        for (head, name) in [
            (head(2, 1, [183, 0]), Some("arm64")),
            (head(2, 1, [62, 0]), Some("x86-64")),
            (head(1, 1, [40, 0]), Some("32-bit ARM")),
            (head(2, 2, [0, 22]), Some("machine 22 of ELF")),
            (head(2, 1, [62, 0])[..19].to_vec(), None),
            (b"#!/bin/sh\n".to_vec(), None),
        ] {
            assert_eq!(Machine::of(&head).map(|machine| machine.to_string()).as_deref(), name);
        }
    }
}
