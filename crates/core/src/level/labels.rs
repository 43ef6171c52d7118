//! The six labels of Pod Security Admission as text, and which names may become paths.

use std::borrow::Cow;

use super::provenance::Shortened;
use pss::{Level, Version};

/// The values of PSA's labels, on a namespace or as annotations of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a> {
    /// `pod-security.kubernetes.io/enforce`.
    pub enforce: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/enforce-version`.
    pub enforce_version: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/audit`.
    pub audit: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/audit-version`.
    pub audit_version: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/warn`.
    pub warn: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/warn-version`.
    pub warn_version: Option<Cow<'a, str>>,
}

impl<'a> Labels<'a> {
    /// What PSA's keys begin with.
    pub const PREFIX: &'static str = "pod-security.kubernetes.io/";

    /// PSA's six keys.
    pub const KEYS: [&'static str; 6] = [
        "pod-security.kubernetes.io/enforce",
        "pod-security.kubernetes.io/enforce-version",
        "pod-security.kubernetes.io/audit",
        "pod-security.kubernetes.io/audit-version",
        "pod-security.kubernetes.io/warn",
        "pod-security.kubernetes.io/warn-version",
    ];

    /// Sets the value of a key; false if the key is none of [`Labels::KEYS`].
    pub fn set(&mut self, key: &str, value: Cow<'a, str>) -> bool {
        let slot = self.slot(key);
        let ours = slot.is_some();
        if let Some(slot) = slot {
            *slot = Some(value);
        }
        ours
    }

    /// The place of a key's value, if the key is one of [`Labels::KEYS`].
    pub fn slot(&mut self, key: &str) -> Option<&mut Option<Cow<'a, str>>> {
        Some(match key.strip_prefix(Self::PREFIX)? {
            "enforce" => &mut self.enforce,
            "enforce-version" => &mut self.enforce_version,
            "audit" => &mut self.audit,
            "audit-version" => &mut self.audit_version,
            "warn" => &mut self.warn,
            "warn-version" => &mut self.warn_version,
            _ => return None,
        })
    }

    /// The values in the order of [`Labels::KEYS`].
    #[must_use]
    pub fn values(&self) -> [Option<&str>; 6] {
        [
            self.enforce.as_deref(),
            self.enforce_version.as_deref(),
            self.audit.as_deref(),
            self.audit_version.as_deref(),
            self.warn.as_deref(),
            self.warn_version.as_deref(),
        ]
    }

    /// What is set to a value that does not exist, a sentence each. Upstream has rules for that, and nobody means them.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let is_valid = |key: &str, value: &str| {
            if key.ends_with("-version") {
                value.parse::<Version>().is_ok()
            } else {
                value.parse::<Level>().is_ok()
            }
        };
        let set = Self::KEYS.into_iter().zip(self.values());
        let invalid =
            set.filter_map(|(key, value)| Some((key, value?))).filter(|(key, value)| !is_valid(key, value));
        invalid
            .map(|(key, value)| format!("label {key} has the invalid value {}", Shortened(value)))
            .collect()
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().iter().all(Option::is_none)
    }
}

/// Whether a name is a DNS label (RFC 1123), as every namespace is. Only such a name may become part of a path.
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether a name is a DNS subdomain (RFC 1123), as every pod's and workload's is (apimachinery
/// `pkg/util/validation/validation.go`).
#[must_use]
pub fn is_dns_subdomain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(plain) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::{Labels, is_dns_label, is_dns_subdomain};

    #[test]
    fn each_label_is_set_by_its_key_and_must_say_a_level_or_a_version() {
        assert!(Labels::default().is_empty() && Labels::default().faults().is_empty());
        assert!(!Labels::default().set("pod-security.kubernetes.io/exempt", "restricted".into()));
        assert!(!Labels::default().set("enforce", "restricted".into()));
        for (nth, key) in Labels::KEYS.into_iter().enumerate() {
            let (good, bad) =
                if key.ends_with("-version") { ("v1.24", "restricted") } else { ("restricted", "v1.24") };
            let of = |value: &'static str| {
                let mut labels = Labels::default();
                assert!(labels.set(key, value.into()), "{key}");
                labels
            };
            let mut values = [None; 6];
            values[nth] = Some(good);
            assert_eq!(of(good).values(), values, "{key}");
            assert!(!of(good).is_empty() && of(good).faults().is_empty(), "{key}");
            assert_eq!(of(bad).faults(), [format!("label {key} has the invalid value {bad:?}")]);
        }
    }

    #[test]
    fn only_a_dns_subdomain_can_be_a_pods_name() {
        let longest = "a".repeat(253);
        for name in ["a", "web-0", "etcd-node.example.org", "1.2", &longest] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        let too_long = "a".repeat(254);
        for name in ["", ".", "a.", ".a", "a..b", "-a", "a-.b", "A", "web-*", "a/b", "a\n", "ä", &too_long] {
            assert!(!is_dns_subdomain(name), "{name:?}");
        }
    }

    #[test]
    fn only_a_dns_label_can_become_part_of_a_path() {
        let longest = "a".repeat(63);
        for name in ["a", "0", "shop", "kube-system", "a--b", "1-2", &longest] {
            assert!(is_dns_label(name), "{name}");
        }
        let too_long = "a".repeat(64);
        for name in [
            "", "-", "-a", "a-", "A", "Shop", "a.b", "a_b", "a/b", "../x", "..", ".", "a b", "a\n", "a\0",
            "ä", "ａ", &too_long,
        ] {
            assert!(!is_dns_label(name), "{name:?}");
        }
    }
}
