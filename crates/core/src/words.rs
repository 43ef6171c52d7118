//! Words of messages: a noun with its count, and "did you mean" for an unknown name.

use std::fmt::Display;

/// `1 pod`, `2 pods`: a count and what is counted.
#[must_use]
pub fn plural<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let s = agree(&count, "", "s");
    format!("{count} {noun}{s}")
}

/// The form of a word that goes with a count: that for one, or that for none and many.
#[must_use]
pub fn agree<'w, N: PartialEq + From<u8>>(count: &N, one: &'w str, many: &'w str) -> &'w str {
    if *count == N::from(1) { one } else { many }
}

/// The question behind an unknown name: `did you mean "enforce"?`. `None` where nothing comes near it.
#[must_use]
pub fn did_you_mean<'c>(text: &str, known: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let near: Vec<String> = nearest(text, known).into_iter().map(|name| format!("{name:?}")).collect();
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}

/// The names that a text was probably meant as, whatever the case of its letters: those that contain it, else those that
/// the fewest typing errors lead to, at most one in three letters.
fn nearest<'c>(text: &str, known: impl IntoIterator<Item = &'c str>) -> Vec<&'c str> {
    // The distance takes the product of both lengths; nobody means a short name by a very long one.
    if text.len() > 64 {
        return Vec::new();
    }
    let text = text.to_lowercase();
    let known: Vec<(&str, String)> = known.into_iter().map(|name| (name, name.to_lowercase())).collect();
    if text.len() >= 3 {
        let within = known.iter().filter(|(_, lower)| lower.contains(&text));
        let within: Vec<&str> = within.map(|(name, _)| *name).collect();
        // A word that many names have in common is no name with a typing error.
        if (1..=3).contains(&within.len()) {
            return within;
        }
    }
    let measured = known.iter().map(|(name, lower)| (strsim::levenshtein(&text, lower), *name));
    let close: Vec<_> = measured.filter(|(errors, name)| *errors <= name.len().div_ceil(3)).collect();
    let least = close.iter().map(|(errors, _)| *errors).min();
    close.into_iter().filter(|(errors, _)| Some(*errors) == least).map(|(_, name)| name).collect()
}

/// Whether a name is another one in other case or with a typing error: one letter of five or more, two of eight or more. Closer
/// than [`did_you_mean`], for names among which unknown ones are no mistake.
#[must_use]
pub fn is_misspelt(text: &str, name: &str) -> bool {
    let errors = match text.len().min(name.len()) {
        _ if text == name || text.len() > 64 => return false,
        ..5 => 0,
        5..8 => 1,
        _ => 2,
    };
    strsim::levenshtein(&text.to_lowercase(), &name.to_lowercase()) <= errors
}

#[cfg(test)]
mod tests {
    use super::{agree, did_you_mean, is_misspelt, nearest, plural};

    #[test]
    fn a_misspelt_name_is_near_and_not_the_same() {
        for (text, name, expected) in [
            ("hostnetwork", "hostNetwork", true),
            ("containres", "containers", true),
            ("container", "containers", true),
            ("hostPid", "hostPID", true),
            ("HOST", "host", true),
            ("hostPID", "hostPID", false),
            ("port", "host", false),
            ("ports", "sport", false),
            ("hostIP", "hostPort", false),
            ("runAsGroup", "runAsUser", false),
        ] {
            assert_eq!(is_misspelt(text, name), expected, "{text}, {name}");
        }
        assert!(!is_misspelt(&"x".repeat(100_000), "hostNetwork"));
    }

    #[test]
    fn a_noun_goes_with_its_count() {
        assert_eq!(plural(0_u64, "pod"), "0 pods");
        assert_eq!(plural(1_usize, "pod"), "1 pod");
        assert_eq!(plural(2_u32, "pod"), "2 pods");
        assert_eq!([0, 1, 2].map(|count: i64| agree(&count, "is", "are")), ["are", "is", "are"]);
    }

    #[test]
    fn the_name_that_was_meant_is_near() {
        let known = ["mode", "defaults", "enforce", "enforce-version", "audit-version", "warn-version"];
        for (text, expected) in [
            ("mode", &["mode"][..]),
            ("Mode", &["mode"]),
            ("mdoe", &["mode"]),
            ("moed", &["mode"]),
            ("default", &["defaults"]),
            ("enforcee", &["enforce"]),
            ("enforce_version", &["enforce-version"]),
            ("version", &["enforce-version", "audit-version", "warn-version"]),
            ("xxxx", &[]),
            ("", &[]),
            ("m", &[]),
            ("entirely different", &[]),
        ] {
            assert_eq!(nearest(text, known), expected, "{text}");
        }
        let many = ["a-level", "b-level", "c-level", "d-level"];
        assert_eq!(nearest("level", many), many, "as near as each other");
        assert_eq!(nearest(&"enforce".repeat(100_000), known), [""; 0]);
        assert_eq!(did_you_mean("warn", known), Some("did you mean \"warn-version\"?".to_owned()));
        assert_eq!(did_you_mean("xxxx", known), None);
    }
}
