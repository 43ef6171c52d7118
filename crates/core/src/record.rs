//! The kinds of event and the names of their fields. The gate writes them, and the tool those of a changed mode. journald, the
//! fallback file and the spool keep them; `report`, `metrics`, the agent and queries of the journal read them.

/// The kinds of event. Each has its message id and its entry in `systemd/pss-guard.catalog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container was refused.
    Denied,
    /// Audit mode: it would have been refused.
    WouldDeny,
    /// The audit level is violated.
    Audit,
    /// The warn level is violated.
    Warn,
    /// It was not evaluated.
    Exempt,
    /// An exception let it start.
    Exception,
    /// It could not be evaluated.
    Fault,
    /// It was allowed (`log-allowed = true`).
    Allowed,
    /// The node's mode was changed.
    ModeChange,
    /// An engine's configuration had lost the gate, and got it back.
    Restored,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Denied,
        Self::WouldDeny,
        Self::Audit,
        Self::Warn,
        Self::Exempt,
        Self::Exception,
        Self::Fault,
        Self::Allowed,
        Self::ModeChange,
        Self::Restored,
    ];

    /// The word in `PSS_DECISION`, and the constant `MESSAGE_ID`.
    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Denied => ("denied", "6b52a4b24abb49c7b3bf48fe11dfe305", "4"),
            Self::WouldDeny => ("would-deny", "59f78bbb8c304038b9583a3e361c18d7", "4"),
            Self::Audit => ("audit", "bfd3048ad1b14533ad7ccd59d8062c5b", "5"),
            Self::Warn => ("warn", "4509b834f58449ca86586c9b6c3f5fff", "5"),
            Self::Exempt => ("exempt", "885b47efaca24d5f82e821d381a5f09b", "6"),
            Self::Exception => ("exception", "02060cee3e2a4c3ab90d8fb90cc18656", "5"),
            Self::Fault => ("fault", "8c3bdf9b0a95406cae882291b74b6d32", "3"),
            Self::Allowed => ("allowed", "ba075927321949c0b245420dc3891581", "6"),
            Self::ModeChange => ("mode-change", "3172d57843e24b2b8e1e2876853c90c6", "5"),
            Self::Restored => ("restored", "e0a5f3c1d92b4f6a8a7e51c06b3d94f7", "4"),
        }
    }

    /// The word in `PSS_DECISION`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The 128-bit id that `journalctl MESSAGE_ID=…` and the catalog know it by.
    #[must_use]
    pub const fn message_id(self) -> &'static str {
        self.row().1
    }

    /// The kind with this message id.
    #[must_use]
    pub fn of_message_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.message_id() == id)
    }

    /// The word that tells a line of the journal from those of other decisions.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::WouldDeny => "would be denied",
            Self::Fault => "cannot judge",
            Self::Denied
            | Self::Audit
            | Self::Warn
            | Self::Exempt
            | Self::Exception
            | Self::Allowed
            | Self::ModeChange
            | Self::Restored => self.name(),
        }
    }

    /// Whether it is about the node, and not about a container.
    #[must_use]
    pub const fn is_of_the_node(self) -> bool {
        matches!(self, Self::ModeChange | Self::Restored)
    }

    /// The syslog priority.
    #[must_use]
    pub const fn priority(self) -> &'static str {
        self.row().2
    }
}

/// An enum whose variants are the names of fields.
macro_rules! fields {
    ($($(#[$doc:meta])* $Field:ident = $name:literal,)+) => {
        /// The fields of an event, by the names that journald knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$doc])* $Field,)+ }

        impl Field {
            /// All fields, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$Field,)+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Field => $name,)+ }
            }

            /// The field of this name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$Field),)+
                    _ => None,
                }
            }
        }
    };
}

fields! {
    /// The line for people.
    Message = "MESSAGE",
    /// Which kind of event it is.
    MessageId = "MESSAGE_ID",
    /// syslog's priority.
    Priority = "PRIORITY",
    /// The program.
    Identifier = "SYSLOG_IDENTIFIER",
    /// The kind in a word.
    Decision = "PSS_DECISION",
    /// The node's mode.
    Mode = "PSS_MODE",
    /// The level that was asked.
    Level = "PSS_LEVEL",
    /// Its version.
    Version = "PSS_VERSION",
    /// The controls against it, separated by commas.
    Controls = "PSS_CONTROLS",
    /// Violations and suspicions, as a JSON array.
    Findings = "PSS_FINDINGS",
    /// What set the level, or the mode.
    Provenance = "PSS_BECAUSE",
    /// Why the last good policy is in force.
    PolicyFault = "PSS_POLICY_FAULT",
    /// `1` if a command is to join a running container.
    Exec = "PSS_EXEC",
    /// Who changed the node's mode.
    Who = "PSS_WHO",
    /// Why.
    Reason = "PSS_REASON",
    /// When that ends by itself.
    Until = "PSS_UNTIL",
    /// Whose container it is, in words.
    Subject = "PSS_SUBJECT",
    /// The engine.
    Engine = "PSS_ENGINE",
    /// The namespace.
    Namespace = "PSS_NAMESPACE",
    /// The pod.
    Pod = "PSS_POD",
    /// Its UID.
    PodUid = "PSS_POD_UID",
    /// The container's name.
    Container = "PSS_CONTAINER",
    /// Its id.
    ContainerId = "PSS_CONTAINER_ID",
    /// Its image.
    Image = "PSS_IMAGE",
}

/// The longest field but for the findings, in bytes. Annotations of images and of containers of no pod are as long as
/// somebody likes.
pub const FIELD: usize = 4096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Field, Kind};

    #[test]
    fn names_and_ids_lead_back_to_what_they_are_of() {
        for field in Field::ALL {
            assert_eq!(Field::of_name(field.name()), Some(*field));
            // systemd.journal-fields(7): others are dropped, or hidden.
            let valid = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            assert!(field.name().bytes().all(valid) && !field.name().starts_with('_'), "{field:?}");
        }
        let names: BTreeSet<&str> = Field::ALL.iter().map(|field| field.name()).collect();
        assert_eq!(names.len(), Field::ALL.len());
        assert_eq!(Field::of_name("PSS_"), None);
        for kind in Kind::ALL {
            assert_eq!(Kind::of_message_id(kind.message_id()), Some(kind));
        }
    }
}
