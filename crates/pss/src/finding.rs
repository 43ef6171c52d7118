//! What a control says of a container or of a pod.

use alloc::borrow::Cow;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The node cannot tell.
    Unseen,
    /// It looks like a violation, but a compliant pod can look the same.
    Suspect,
    /// Proven: no pod that the API server's admission allows looks like this.
    Violates,
}

impl Certainty {
    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Suspect => "suspect",
            Self::Violates => "violates",
        }
    }
}

/// What one control says of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How sure it is.
    pub certainty: Certainty,
    /// Upstream's reason, word for word where there is one.
    pub reason: Cow<'static, str>,
    /// Which container, which field, which value; or why it cannot be seen.
    pub detail: Cow<'static, str>,
    /// Lines of YAML that put it right; empty where nothing is wrong.
    pub fix: Cow<'static, str>,
}

impl Finding {
    /// A proven violation.
    pub fn violates(
        reason: &'static str,
        detail: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { certainty: Certainty::Violates, reason: reason.into(), detail: detail.into(), fix: fix.into() }
    }

    /// Something that a compliant pod could show as well.
    pub fn suspect(
        reason: &'static str,
        detail: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { certainty: Certainty::Suspect, reason: reason.into(), detail: detail.into(), fix: fix.into() }
    }

    /// Something this node cannot know; `why` says what hides it.
    pub fn unseen(reason: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            certainty: Certainty::Unseen,
            reason: reason.into(),
            detail: why.into(),
            fix: Cow::Borrowed(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Certainty;

    #[test]
    fn a_certainty_has_the_word_of_the_documentation_and_the_rank_of_its_weight() {
        let ranked = [Certainty::Unseen, Certainty::Suspect, Certainty::Violates];
        assert_eq!(ranked.map(Certainty::name), ["unseen", "suspect", "violates"]);
        assert!(ranked.is_sorted());
    }
}
