//! The compiled form of a policy: its values one behind the other, without names, as the cache keeps them.
//!
//! A policy is read before every container. As JSON that took a tenth of all instructions of a start, for names that the program
//! knows and for checks that were made when the text was parsed.
//!
//! A number is little-endian, a text or a list has its length in four bytes before it, an option a byte, a word of the policy
//! its place among the words. Nothing in it says what it is: the cache's first line does, with the program's version.

use std::collections::BTreeMap;

use pss::{Level, Version};

use super::{
    Agent, AppArmor, Cluster, Controls, Exception, Exemptions, LevelSet, LevelVersion, Mode, NamespaceLevels,
    Node, OnFault, OnMissingFacts, OnSuspect, OnUnknownNamespace, PodAnnotations, Policy, Runtime, Setting,
    Told, Trust,
};
use crate::level::date::Date;

/// The policy's compiled form.
#[must_use]
pub fn compile(policy: &Policy) -> Vec<u8> {
    let mut bytes = Vec::new();
    policy.write(&mut bytes);
    bytes
}

/// The policy that was compiled, but for [`Policy::file`] and [`Policy::told`]; `None` where the bytes are none.
#[must_use]
pub fn read(mut bytes: &[u8]) -> Option<Policy> {
    let policy = Policy::read(&mut bytes)?;
    bytes.is_empty().then_some(policy)
}

/// The mode and the exempt namespaces of a policy that another version of this program may have compiled: in all of them these
/// two come first. Before there were such forms it was JSON, whose first byte is no mode.
#[must_use]
pub fn salvage(mut bytes: &[u8]) -> Option<(Mode, Vec<String>)> {
    Some((Mode::read(&mut bytes)?, Vec::read(&mut bytes)?))
}

/// What can be compiled.
trait Compiled: Sized {
    fn write(&self, to: &mut Vec<u8>);

    /// Takes it from the front of the bytes.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// Structs by their fields, in the order in which they are written, and what is not. A field that is missing here does not compile.
macro_rules! structs {
    ($($Name:ident { $($field:ident),+ $(; $($left:ident: $value:expr),+)? })+) => {$(
        impl Compiled for $Name {
            fn write(&self, to: &mut Vec<u8>) {
                let Self { $($field,)+ $($($left: _,)+)? } = self;
                $($field.write(to);)+
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                $(let $field = Compiled::read(from)?;)+
                Some(Self { $($field,)+ $($($left: $value,)+)? })
            }
        }
    )+};
}

structs! {
    // What comes first is `salvage`'s.
    Policy {
        mode, exemptions, on_fault, on_suspect, on_unknown_namespace, on_missing_facts, log_allowed, cluster, defaults, unmanaged,
        pod_annotations, agent, namespaces, controls, exceptions, node, runtime;
        file: None, told: Told::Nothing
    }
    Exemptions { namespaces, runtime_classes }
    LevelVersion { level, version }
    LevelSet { enforce, audit, warn }
    NamespaceLevels { enforce, enforce_version, audit, audit_version, warn, warn_version }
    PodAnnotations { trust, floor }
    Exception { namespace, pod, owner, container, image, controls, reason, expires }
    Node { kubelet_root, seccomp_default, default_capabilities, default_sysctls, not_host_paths, apparmor }
    Cluster { version }
    Agent { floor }
    Controls { read_only_root_filesystem, injected_mounts }
    Runtime { path }
}

/// What is one of a few, by its place among all.
macro_rules! words {
    ($($Name:ident)+) => {$(
        impl Compiled for $Name {
            fn write(&self, to: &mut Vec<u8>) {
                to.push(*self as u8);
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let place = u8::read(from)?;
                Self::ALL.get(usize::from(place)).copied()
            }
        }
    )+};
}

words! { Mode OnFault OnSuspect OnUnknownNamespace OnMissingFacts Trust Setting AppArmor Level }

macro_rules! numbers {
    ($($Name:ident)+) => {$(
        impl Compiled for $Name {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )+};
}

numbers! { u8 u16 u32 }

impl Compiled for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Compiled> Compiled for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        if bool::read(from)? { T::read(from).map(Some) } else { Some(None) }
    }
}

impl Compiled for Version {
    fn write(&self, to: &mut Vec<u8>) {
        let minor = if let Self::Minor(minor) = self { Some(*minor) } else { None };
        minor.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(Option::read(from)?.map_or(Self::Latest, Self::Minor))
    }
}

impl Compiled for Date {
    fn write(&self, to: &mut Vec<u8>) {
        let (year, month, day) = self.parts();
        year.write(to);
        month.write(to);
        day.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Self::new(u16::read(from)?, u8::read(from)?, u8::read(from)?).ok()
    }
}

/// A length, which no policy has that four bytes do not hold: see the limits in [`super::super::cache`].
fn write_length(length: usize, to: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).write(to);
}

/// A length of what takes a byte a piece at least.
fn read_length(from: &mut &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::read(from)?).ok()?;
    (length <= from.len()).then_some(length)
}

impl Compiled for String {
    fn write(&self, to: &mut Vec<u8>) {
        write_length(self.len(), to);
        to.extend_from_slice(self.as_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = read_length(from)?;
        let (text, rest) = from.split_at_checked(length)?;
        *from = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}

impl<T: Compiled> Compiled for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        write_length(self.len(), to);
        for item in self {
            item.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = read_length(from)?;
        // A length that is wrong must not ask for memory without an end.
        let mut items = Self::with_capacity(length.min(64));
        for _ in 0..length {
            items.push(T::read(from)?);
        }
        Some(items)
    }
}

impl Compiled for BTreeMap<String, NamespaceLevels> {
    fn write(&self, to: &mut Vec<u8>) {
        write_length(self.len(), to);
        for (name, levels) in self {
            name.write(to);
            levels.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = read_length(from)?;
        (0..length).map(|_| Some((String::read(from)?, NamespaceLevels::read(from)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::checksum;
    use crate::level::cache::FORMAT;
    use crate::level::policy::parse;
    use crate::level::policy::read::tests::EVERYTHING;

    #[test]
    fn what_was_compiled_is_what_was_read() {
        for text in [
            "",
            EVERYTHING,
            "mode = 'enforce'",
            "[defaults]\nwarn = 'baseline'",
            "[unmanaged]\naudit = 'baseline'",
            "[cluster]\nversion = 'v1.65535'",
        ] {
            let policy = parse(text, "policy.toml").unwrap();
            let compiled = compile(&policy);
            let again = read(&compiled).map(|again| Policy { file: policy.file.clone(), ..again });
            assert_eq!(again.as_ref(), Some(&policy), "{text}");
            assert_eq!(salvage(&compiled), Some((policy.mode, policy.exemptions.namespaces)), "{text}");
        }
    }

    /// No test of one program sees that two fields have changed places, or two words: a cache of before would say something else.
    #[test]
    fn what_is_written_stays_what_it_is_or_counts_the_format_up() {
        let texts = [
            EVERYTHING,
            "on-fault = 'allow'",
            "on-suspect = 'deny'",
            "on-unknown-namespace = 'deny'",
            "on-missing-facts = 'deny'",
        ];
        let all: Vec<u8> =
            texts.iter().flat_map(|text| compile(&parse(text, "policy.toml").unwrap())).collect();
        assert_eq!(
            (FORMAT, checksum(&all)),
            (7, 0xb71d_47ce_6c4a_e1db),
            "count `FORMAT` up, and write the sum down again"
        );
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_no_policy() {
        let compiled = compile(&parse(EVERYTHING, "policy.toml").unwrap());
        assert!(compiled.len() > 300, "{}", compiled.len());
        for length in 0..compiled.len() {
            assert_eq!(read(&compiled[..length]), None, "{length}");
        }
        assert_eq!(read(&[&*compiled, &[0]].concat()), None);
    }

    #[test]
    fn what_no_policy_says_is_none() {
        let compiled = compile(&parse("[exemptions]\nnamespaces = ['ab']", "policy.toml").unwrap());
        assert_eq!(compiled[..11], [0, 1, 0, 0, 0, 2, 0, 0, 0, b'a', b'b']);
        for (what, place, byte) in
            [("a mode", 0, 2), ("a length", 4, 1), ("a length of a text", 8, 0xff), ("a text", 9, 0xff)]
        {
            let mut damaged = compiled.clone();
            damaged[place] = byte;
            assert_eq!((read(&damaged), salvage(&damaged)), (None, None), "{what}");
        }
        // Every single byte may be damaged, and nothing panics or asks for memory without an end.
        let compiled = compile(&parse(EVERYTHING, "policy.toml").unwrap());
        for place in 0..compiled.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut damaged = compiled.clone();
                damaged[place] = byte;
                let _ = (read(&damaged), salvage(&damaged));
            }
        }
    }
}
