//! The table of controls, in upstream's output order: baseline's ids sorted bytewise, restricted's, then ours.
//!
//! Below it: the words and the YAML that controls share.

mod allow_privilege_escalation;
mod app_armor_profile;
mod capabilities_baseline;
mod capabilities_restricted;
mod host_namespaces;
mod host_path_volumes;
mod host_ports;
mod host_probes_and_host_lifecycle;
mod injected_mounts;
mod privileged;
mod proc_mount;
mod proc_mount_restricted;
mod read_only_root_filesystem;
mod restricted_volumes;
mod run_as_non_root;
mod run_as_user;
mod se_linux_options;
mod seccomp_profile_baseline;
mod seccomp_profile_restricted;
mod sysctls;
mod windows_host_process;

use alloc::borrow::Cow;
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use super::Control;
use super::declared::{DeclaredCheck, Violation};
use super::facts::Facts;
use super::pod::Pod;

pub use capabilities_baseline::ADDABLE;

/// Every control there is.
pub const CONTROLS: &[&Control] = &[
    &app_armor_profile::CONTROL,
    &capabilities_baseline::CONTROL,
    &host_namespaces::CONTROL,
    &host_path_volumes::CONTROL,
    &host_ports::CONTROL,
    &host_probes_and_host_lifecycle::CONTROL,
    &privileged::CONTROL,
    &proc_mount::CONTROL,
    &se_linux_options::CONTROL,
    &seccomp_profile_baseline::CONTROL,
    &sysctls::CONTROL,
    &windows_host_process::CONTROL,
    &allow_privilege_escalation::CONTROL,
    &capabilities_restricted::CONTROL,
    &proc_mount_restricted::CONTROL,
    &restricted_volumes::CONTROL,
    &run_as_non_root::CONTROL,
    &run_as_user::CONTROL,
    &seccomp_profile_restricted::CONTROL,
    &injected_mounts::CONTROL,
    &read_only_root_filesystem::CONTROL,
];

/// The controls that stand in for one where they are in force.
pub fn successors(id: &str) -> impl Iterator<Item = &'static Control> {
    CONTROLS.iter().copied().filter(move |control| control.overrides.contains(&id))
}

/// So many items of a list are shown, and no more once these have so many bytes. What is beyond is counted.
pub const LIST_ITEMS: usize = 64;
/// See [`LIST_ITEMS`].
pub const LIST_BYTES: usize = 4096;

/// As much is shown of a name, in bytes. Kubernetes' own have 253.
pub const NAME_BYTES: usize = 512;

/// How many items of these lengths are shown.
fn as_many_as_fit(lengths: impl Iterator<Item = usize>) -> usize {
    let mut room = LIST_BYTES;
    let fits = |length: &usize| {
        let fits = room > 0;
        room = room.saturating_sub(*length);
        fits
    };
    lengths.take(LIST_ITEMS).take_while(fits).count()
}

/// A list as far as somebody reads it: a config.json can name a million sysctls.
fn listed<T>(items: &[T], separator: &str, show: impl Fn(&T) -> String) -> String {
    let mut list = String::new();
    for (count, item) in items.iter().enumerate() {
        if count == LIST_ITEMS || list.len() >= LIST_BYTES {
            // Writing to a String cannot fail.
            let _ = write!(list, " and {} more", items.len() - count);
            break;
        }
        if count > 0 {
            list.push_str(separator);
        }
        list.push_str(&show(item));
    }
    list
}

/// A name as far as somebody reads it.
fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("{}\u{2026}", head(name, NAME_BYTES)))
}

/// The beginning of a text, in whole characters.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// `container "app"`: how upstream names the one container that is judged here.
fn container(facts: &Facts<'_>) -> String {
    format!("container \"{}\"", short(facts.name))
}

/// `"a", "b"`, unescaped as upstream's `joinQuote` (`policy/helpers.go`); the message escapes the whole line.
fn quoted(names: &[&str]) -> String {
    listed(names, ", ", |name| format!("\"{}\"", short(name)))
}

/// Upstream's `pluralize` (`policy/helpers.go`): singular for exactly one.
pub(crate) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// Upstream's relaxation of the checks whose fields no Windows pod may have, from v1.25.
fn unless_windows(pod: &Pod, check: DeclaredCheck) -> Option<Violation> {
    if pod.spec.is_windows() { None } else { check(pod) }
}

/// Upstream's relaxation for pods that have users of their own, from v1.35.
fn unless_own_users(pod: &Pod, check: DeclaredCheck) -> Option<Violation> {
    if pod.spec.has_own_users() { None } else { check(pod) }
}

/// The lines of a fix that belongs under the container's `securityContext`.
fn security_context_fix(facts: &Facts<'_>, lines: &str) -> String {
    let mut fix = container_fix(facts, "securityContext:");
    for line in lines.lines() {
        fix.push_str("\n      ");
        fix.push_str(line);
    }
    fix
}

/// The lines of a fix that belongs into the container.
fn container_fix(facts: &Facts<'_>, lines: &str) -> String {
    let mut fix = format!("spec:\n  containers:\n  - name: {}", yaml(facts.name));
    for line in lines.lines() {
        fix.push_str("\n    ");
        fix.push_str(line);
    }
    fix
}

/// A string as a YAML scalar. Plain only where no reader could take it for anything but a string; else in double
/// quotes and pure ASCII, so that a hostile name can neither end the line nor the scalar.
pub(crate) fn yaml(text: &str) -> String {
    let text = &*short(text);
    let plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !NOT_STRINGS.contains(&text);
    if plain {
        return text.to_owned();
    }
    let mut scalar = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => scalar.extend(['\\', c]),
            ' '..='~' => scalar.push(c),
            _ => drop(write!(scalar, "\\U{:08x}", u32::from(c))),
        }
    }
    scalar.push('"');
    scalar
}

/// Several strings as YAML scalars, for a flow sequence or a comment.
fn yaml_list(texts: &[&str]) -> String {
    listed(texts, ", ", |text| yaml(text))
}

/// Words that YAML 1.1 reads as a boolean or as nothing.
const NOT_STRINGS: [&str; 9] = ["false", "n", "no", "null", "off", "on", "true", "y", "yes"];

#[cfg(test)]
mod tests {
    use super::{
        LIST_BYTES, NAME_BYTES, container_fix, listed, security_context_fix, short, successors, yaml,
    };
    use crate::testing::{compliant, with};

    #[test]
    fn the_controls_that_stand_in_for_one_are_those_that_override_it() {
        for (id, expected) in [
            ("capabilities_baseline", &["capabilities_restricted"][..]),
            ("hostPathVolumes", &["restrictedVolumes"]),
            ("procMount", &["procMount_restricted"]),
            ("seccompProfile_baseline", &["seccompProfile_restricted"]),
            ("privileged", &[]),
        ] {
            assert!(successors(id).map(|control| control.id).eq(expected.iter().copied()), "{id}");
        }
    }

    #[test]
    fn a_name_is_plain_yaml_only_where_it_cannot_be_anything_else() {
        for (text, scalar) in [
            ("app", "app"),
            ("app-2", "app-2"),
            ("no", "\"no\""),
            ("null", "\"null\""),
            ("", "\"\""),
            ("12", "\"12\""),
            ("1e3", "\"1e3\""),
            ("-a", "\"-a\""),
            ("---", "\"---\""),
            ("My_App.1", "\"My_App.1\""),
            ("a: b # c", "\"a: b # c\""),
            ("say \"hi\" \\", "\"say \\\"hi\\\" \\\\\""),
            ("a\nb\u{1b}", "\"a\\U0000000ab\\U0000001b\""),
            ("\u{85}\u{2028}\u{feff}", "\"\\U00000085\\U00002028\\U0000feff\""),
            ("caf\u{e9}", "\"caf\\U000000e9\""),
        ] {
            assert_eq!(yaml(text), scalar, "{text:?}");
        }
    }

    #[test]
    fn a_list_is_cut_and_says_by_how_much() {
        let names: Vec<String> = (0..1_200_000).map(|number| number.to_string()).collect();
        let shown = listed(&names, ", ", Clone::clone);
        assert!(shown.starts_with("0, 1, 2, ") && shown.ends_with(", 63 and 1199936 more"), "{shown}");
        let long = vec!["\u{fc}".repeat(1000); 100];
        let shown = listed(&long, ", ", |name| short(name).into_owned());
        assert!(
            shown.len() < LIST_BYTES + 2 * NAME_BYTES && shown.ends_with("\u{2026} and 92 more"),
            "{shown}"
        );
        assert_eq!(listed(&names[..64], "", |_| "x".to_owned()).len(), 64);
        assert_eq!((short("app").as_ref(), listed(&names[..0], ", ", Clone::clone)), ("app", String::new()));
    }

    #[test]
    fn a_fix_is_complete_from_spec_to_the_field() {
        assert_eq!(
            security_context_fix(&compliant(), "capabilities:\n  drop: [\"ALL\"]"),
            "spec:\n  containers:\n  - name: app\n    securityContext:\n      capabilities:\n        drop: [\"ALL\"]"
        );
        assert_eq!(
            container_fix(&with(|facts| facts.name = "a\nhostPID: true"), "ports: []"),
            "spec:\n  containers:\n  - name: \"a\\U0000000ahostPID: true\"\n    ports: []"
        );
    }
}
