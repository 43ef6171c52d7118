//! Every key of `policy.toml` in one table: its type, its default, and what it is for. `pss-guard policy init` prints it as a
//! file and `pss-guard policy schema` as a JSON Schema.
//!
//! What is read is decided by the types in [`super`] alone; the tests here ask the reader for the keys and the words that it
//! knows, and compare.

use pss::{Level, capabilities, controls::CONTROLS};

use super::{AppArmor, Mode, OnFault, OnMissingFacts, OnSuspect, OnUnknownNamespace, Setting, Trust};

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name; empty for what is above the first header.
    pub name: &'static str,
    /// How often it can be there.
    pub shape: Shape,
    /// What it is for; empty for what is above the first header.
    pub about: &'static str,
    /// Its keys, in the order of the file.
    pub keys: &'static [Key],
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[name]`, once.
    Single,
    /// `[name."…"]`, one for each namespace; the text is the example's namespace.
    ByNamespace(&'static str),
    /// `[[name]]`, any number of them.
    List,
}

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// Its default in TOML. In a table that is there by name or in a list, an example.
    pub value: &'static str,
    /// Whether its table is invalid without it.
    pub required: bool,
    /// What it is for, in one sentence without a full stop; names each of its words.
    pub about: &'static str,
}

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of these strings.
    Words(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A Pod Security level.
    Level,
    /// `latest` or `v1.N`.
    Version,
    /// A string that is not blank.
    Text,
    /// An absolute path.
    Path,
    /// The name of a namespace or a container.
    Label,
    /// The name of a pod or a workload.
    Name,
    /// An image with its registry.
    Image,
    /// The id of a control.
    Control,
    /// A capability, with or without `CAP_`.
    Capability,
    /// A day.
    Date,
    /// An array of such values; the number is the smallest that it can have.
    List(&'static Kind, usize),
}

impl Kind {
    /// The strings that it can be, if they can be listed.
    #[must_use]
    pub fn words(self) -> Option<Vec<String>> {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Words(words) => Some(own(words)),
            Self::Level => Some(own(&Level::ALL.map(Level::name))),
            Self::Control => Some(CONTROLS.iter().map(|control| control.id.to_owned()).collect()),
            Self::Capability => {
                let names = capabilities::NAMES;
                Some(names.iter().flat_map(|name| [(*name).to_owned(), format!("CAP_{name}")]).collect())
            }
            _ => None,
        }
    }

    /// A regular expression that its strings match, in the dialect of JSON Schema (ECMA 262), if there is one. The reader
    /// decides; this is what an editor can tell while somebody types.
    #[must_use]
    pub const fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Version => Some(r"^(latest|v1\.(0|[1-9][0-9]*))$"),
            Self::Text => Some(r"\S"),
            Self::Path => Some("^/"),
            Self::Label => Some("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
            Self::Name => Some(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
            Self::Image => Some(
                r"^(localhost|[A-Za-z0-9.:\[\]-]*[.:][A-Za-z0-9.:\[\]-]*)(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$",
            ),
            Self::Date => Some("^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"),
            _ => None,
        }
    }
}

const fn key(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { name, kind, value, required: false, about }
}

const fn must(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { required: true, ..key(name, kind, value, about) }
}

const fn table(name: &'static str, about: &'static str, keys: &'static [Key]) -> Table {
    Table { name, shape: Shape::Single, about, keys }
}

const PRIVILEGED: &str = "\"privileged\"";
const RESTRICTED: &str = "\"restricted\"";
const LATEST: &str = "\"latest\"";
const NONE: &str = "[]";

/// The tables of the file, in its order.
#[rustfmt::skip]
pub const TABLES: &[Table] = &[
    table(
        "",
        "",
        &[
            key("mode", Kind::Words(Mode::WORDS), "\"audit\"", "audit logs violations and never refuses; enforce refuses what violates the enforce level"),
            key("on-fault", Kind::Words(OnFault::WORDS), "\"deny\"", "A container that cannot be evaluated, in enforce mode: deny or allow"),
            key("on-suspect", Kind::Words(OnSuspect::WORDS), "\"audit\"", "What only looks like a violation, in enforce mode: audit logs it, deny refuses it"),
            key("on-unknown-namespace", Kind::Words(OnUnknownNamespace::WORDS), "\"defaults\"", "A namespace that was not imported: defaults applies [defaults], deny refuses its pods until it is"),
            key("on-missing-facts", Kind::Words(OnMissingFacts::WORDS), "\"unseen\"", "A pod without facts, on a node that has those of others: unseen evaluates what the node shows, deny refuses it until they are there"),
            key("log-allowed", Kind::Boolean, "false", "Also log containers that comply"),
        ],
    ),
    table("cluster", "The cluster.", &[key(
        "version",
        Kind::Version,
        LATEST,
        "What `latest` means, like \"v1.36\"; \"latest\" is the imported version of the cluster, else the newest that is known",
    )]),
    table(
        "defaults",
        "Levels of namespaces without labels: privileged, baseline or restricted, and the version (\"latest\" or \"v1.x\").",
        &[
            key("enforce", Kind::Level, PRIVILEGED, "What violates it is refused in enforce mode"),
            key("enforce-version", Kind::Version, LATEST, "Its version"),
            key("audit", Kind::Level, RESTRICTED, "What violates it is logged"),
            key("audit-version", Kind::Version, LATEST, "Its version"),
            key("warn", Kind::Level, RESTRICTED, "What violates it is logged as a warning"),
            key("warn-version", Kind::Version, LATEST, "Its version"),
        ],
    ),
    table("exemptions", "What is not evaluated at all.", &[
        key("namespaces", Kind::List(&Kind::Label, 0), "[\"kube-system\"]", "Namespaces, by their whole names"),
        key("runtime-classes", Kind::List(&Kind::Text, 0), NONE, "Runtime classes, by the engine's name of their handler"),
    ]),
    table("pod-annotations", "The annotations pod-security.kubernetes.io/… of pods.", &[
        key("trust", Kind::Words(Trust::WORDS), "\"tighten\"", "tighten lets them demand more; override lets them replace the namespace's level; ignore does not read them"),
        key("floor", Kind::Level, PRIVILEGED, "The level that override cannot go below"),
    ]),
    table("agent", "What writes the imported files.", &[key(
        "floor",
        Kind::Level,
        PRIVILEGED,
        "No imported label lowers an enforce level below this one",
    )]),
    table("unmanaged", "Levels of containers that belong to no pod (podman, docker, ctr).", &[
        key("enforce", Kind::Level, PRIVILEGED, "What violates it is refused in enforce mode"),
        key("enforce-version", Kind::Version, LATEST, "Its version"),
        key("audit", Kind::Level, PRIVILEGED, "What violates it is logged"),
        key("audit-version", Kind::Version, LATEST, "Its version"),
        key("warn", Kind::Level, PRIVILEGED, "What violates it is logged as a warning"),
        key("warn-version", Kind::Version, LATEST, "Its version"),
    ]),
    table("controls", "pss-guard's own controls, which are not part of the standard: enforce, audit (log only) or off.", &[
        key("readOnlyRootFilesystem", Kind::Words(Setting::WORDS), "\"enforce\"", "A container that can change its image, at restricted: enforce, audit or off"),
        key("injectedMounts", Kind::Words(Setting::WORDS), "\"audit\"", "What of the host is in a container and its pod did not ask for: enforce, audit or off"),
    ]),
    table("node", "The node and its engine.", &[
        key("kubelet-root", Kind::Path, "\"/var/lib/kubelet\"", "The kubelet's --root-dir; without the key it is what `install` recorded, else this"),
        key("seccomp-default", Kind::Boolean, "false", "The kubelet's own setting seccompDefault"),
        key("default-capabilities", Kind::List(&Kind::Capability, 0), NONE, "Capabilities that the engine grants by default beyond its built-in list"),
        key("default-sysctls", Kind::List(&Kind::Text, 0), NONE, "Sysctls that the engine's configuration sets in every pod"),
        key("not-host-paths", Kind::List(&Kind::Path, 0), NONE, "Bind sources that are no hostPath volumes: each path, and what lies directly in it"),
        key("apparmor", Kind::Words(AppArmor::WORDS), "\"auto\"", "auto looks at the node; off if the engine applies no profiles (containerd's disable_apparmor)"),
    ]),
    table("runtime", "The runtime behind the wrapper.", &[key(
        "path",
        Kind::Path,
        "\"/usr/sbin/runc\"",
        "What a wrapper executes that `install` did not place",
    )]),
    Table {
        name: "namespaces",
        shape: Shape::ByNamespace("ingress-nginx"),
        about: "Levels of one namespace whose labels are not imported; a key that is left out is that of [defaults]. An example: uncomment the block.",
        keys: &[
            key("enforce", Kind::Level, "\"baseline\"", "What violates it is refused in enforce mode"),
            key("enforce-version", Kind::Version, "\"v1.36\"", "Its version"),
            key("audit", Kind::Level, RESTRICTED, "What violates it is logged"),
            key("audit-version", Kind::Version, LATEST, "Its version"),
            key("warn", Kind::Level, RESTRICTED, "What violates it is logged as a warning"),
            key("warn-version", Kind::Version, LATEST, "Its version"),
        ],
    },
    Table {
        name: "exceptions",
        shape: Shape::List,
        about: "Controls that may fail, for a reason, until a day; for containers that match every key of the block. An example: uncomment the block, and keep of pod, owner, container and image what you need.",
        keys: &[
            must("namespace", Kind::Label, "\"monitoring\"", "The namespace"),
            key("pod", Kind::Name, "\"node-exporter-8k4xr\"", "The pod"),
            key("owner", Kind::Name, "\"node-exporter\"", "The workload"),
            key("container", Kind::Label, "\"node-exporter\"", "The container"),
            key("image", Kind::Image, "\"quay.io/prometheus/node-exporter\"", "The image with its registry; with a tag or a digest only that one"),
            must("controls", Kind::List(&Kind::Control, 1), "[\"hostPathVolumes\", \"restrictedVolumes\"]", "The controls, as `pss-guard explain` lists them"),
            must("reason", Kind::Text, "\"reads /proc and /sys of the host\"", "Why"),
            must("expires", Kind::Date, "2027-06-30", "The last day of the exception, in UTC"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Key, Kind, Shape, TABLES, Table};
    use crate::level::policy::{Policy, mistakes, parse};

    /// What a key's place is in a text: the header of its table.
    fn header(table: &Table) -> String {
        match table.shape {
            Shape::Single if table.name.is_empty() => String::new(),
            Shape::Single => format!("[{}]\n", table.name),
            Shape::ByNamespace(name) => format!("[{}.{name}]\n", table.name),
            Shape::List => format!("[[{}]]\n", table.name),
        }
    }

    /// The names that the reader offers for one that is none.
    fn offered(text: &str, after: &str) -> BTreeSet<String> {
        let mistakes = mistakes(text, "f");
        let offered = mistakes.iter().find_map(|mistake| {
            let names = mistake.what.split(after).nth(1)?;
            Some(names.split(", not ").next()?.split(", ").map(str::to_owned).collect())
        });
        offered.unwrap_or_else(|| panic!("nothing is offered: {text}\n{mistakes:?}"))
    }

    fn keys() -> impl Iterator<Item = (&'static Table, &'static Key)> {
        TABLES.iter().flat_map(|table| table.keys.iter().map(move |key| (table, key)))
    }

    #[test]
    fn the_table_has_the_keys_that_the_reader_has_and_no_other() {
        for table in TABLES {
            let text = format!("{}zzzzzzzzzz = 1", header(table));
            let mut own: BTreeSet<String> = table.keys.iter().map(|key| key.name.to_owned()).collect();
            if table.name.is_empty() {
                own.extend(
                    TABLES.iter().filter(|table| !table.name.is_empty()).map(|table| table.name.to_owned()),
                );
            }
            assert_eq!(offered(&text, "known keys: "), own, "{text}");
        }
    }

    #[test]
    fn the_table_has_the_words_that_the_reader_has_and_says_what_they_mean() {
        let mut with_words = 0;
        for (table, key) in keys() {
            let (Kind::Words(_) | Kind::Level) = key.kind else { continue };
            let own = key.kind.words().unwrap();
            let text = format!("{}{} = 'zzzzzzzzzz'", header(table), key.name);
            assert_eq!(offered(&text, "must be one of "), own.iter().cloned().collect(), "{text}");
            if let Kind::Words(_) = key.kind {
                assert!(own.iter().all(|word| key.about.contains(word)), "{}: {}", key.name, key.about);
                with_words += 1;
            }
        }
        assert!(with_words > 8, "{with_words}");
    }

    #[test]
    fn each_default_is_the_readers_and_each_example_is_valid() {
        for (table, key) in keys().filter(|(table, _)| table.shape == Shape::Single) {
            let text = format!("{}{} = {}", header(table), key.name, key.value);
            let mut policy = parse(&text, "f").unwrap_or_else(|error| panic!("{text}\n{error}"));
            policy.file = None;
            // Named or not, it is the same directory.
            assert_eq!(policy.node.kubelet_root(), Policy::default().node.kubelet_root());
            policy.node.kubelet_root = None;
            assert_eq!(policy, Policy::default(), "{text}");
        }
        for table in TABLES.iter().filter(|table| table.shape != Shape::Single) {
            let without = |left_out: &str| {
                let keys = table.keys.iter().filter(|key| key.name != left_out);
                let lines: Vec<String> = keys.map(|key| format!("{} = {}", key.name, key.value)).collect();
                header(table) + &lines.join("\n")
            };
            assert!(parse(&without(""), "f").is_ok(), "{}", without(""));
            for key in table.keys {
                assert_eq!(
                    parse(&without(key.name), "f").is_err(),
                    key.required,
                    "{} {}",
                    table.name,
                    key.name
                );
            }
        }
    }
}
