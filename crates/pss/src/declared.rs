//! The second reading of the standard: upstream's own checks, over what a pod declares.
//!
//! Reasons, details and their order are upstream's, letter for letter (`k8s.io/pod-security-admission/policy`), up to
//! [`DETAIL_BYTES`]: upstream has no limit, and a pod can name a hundred thousand containers.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::controls::{as_many_as_fit, plural, yaml};
use crate::pod::{Container, Kind, Pod, Shared};
use crate::{Control, Finding, Found, Level, Minor, in_force};

/// A detail is cut here, in bytes, and ends in `…`.
pub const DETAIL_BYTES: usize = 16 << 10;

/// Fixes are written for so many containers, and not for more once these have so many bytes of YAML.
pub const FIX_CONTAINERS: usize = 64;
/// See [`FIX_CONTAINERS`].
pub const FIX_BYTES: usize = 32 << 10;

/// One revision of upstream's check: what it says of a pod, or nothing.
pub type DeclaredCheck = fn(&Pod) -> Option<Violation>;

/// Everything the standard says of a pod as it is declared, at a level and version.
///
/// Lifted controls are those of [`active`](crate::active): nothing is overridden by them, and what they find is kept apart.
#[must_use]
pub fn evaluate_pod(
    level: Level,
    minor: Minor,
    pod: &Pod,
    lifted: impl Fn(&Control) -> bool,
) -> Evaluation<'_> {
    let mut evaluation =
        Evaluation { pod, found: Vec::new(), lifted: Vec::new(), edits: Vec::new(), places: Vec::new() };
    for control in in_force(level, minor, &lifted) {
        if let Some(violation) = control.declared_at(minor).and_then(|check| check(pod)) {
            evaluation.add(control, violation, lifted(control));
        }
    }
    evaluation
}

/// What came of [`evaluate_pod`].
#[derive(Clone, Debug)]
pub struct Evaluation<'p> {
    pod: &'p Pod,
    /// What forbids the pod, in upstream's order: none, and it is allowed.
    pub found: Vec<Found>,
    /// What lifted controls would have forbidden.
    pub lifted: Vec<Found>,
    edits: Vec<Edit>,
    places: Vec<(u8, Place)>,
}

impl<'p> Evaluation<'p> {
    /// Where a control wants a change: in the pod (`None`), or in the container with this index in its list. None for
    /// a control that forbids nothing, and at most [`FIX_CONTAINERS`] of a list.
    pub fn places(&self, control: &Control) -> impl Iterator<Item = Option<(Kind, usize)>> + use<'_> {
        let number = control.number;
        self.places.iter().filter(move |(of, _)| *of == number).map(|(_, place)| match *place {
            Place::Pod => None,
            Place::Container(kind, index) => Some((kind, index)),
        })
    }

    /// No control that counts forbids the pod.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.found.is_empty()
    }

    /// Upstream's message, which the API server prints behind `violates PodSecurity "…": `; empty for an allowed pod.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = String::new();
        for Found { finding, .. } in &self.found {
            message.push_str(if message.is_empty() { "" } else { ", " });
            message.push_str(&finding.reason);
            // A sysctl can have an empty name.
            if !finding.detail.is_empty() {
                [" (", &finding.detail, ")"].into_iter().for_each(|part| message.push_str(part));
            }
        }
        message
    }

    /// All that has to change, as one document for the pod and one for each container.
    #[must_use]
    pub fn fixes(&self) -> Vec<Fix<'p>> {
        let mut places: Vec<Place> = self.edits.iter().map(|edit| edit.place).collect();
        places.sort_unstable();
        places.dedup();
        let fix = |place: Place| {
            let mut edits: Vec<&Edit> = Vec::new();
            for edit in self.edits.iter().filter(|edit| edit.place == place) {
                // A control knows more of a field than the one that it would override.
                match edits.iter_mut().find(|other| other.same_field(edit)) {
                    Some(other) => *other = edit,
                    None => edits.push(edit),
                }
            }
            Fix { container: place.container(self.pod), yaml: document(self.pod, &edits) }
        };
        places.into_iter().map(fix).collect()
    }

    fn add(&mut self, control: &'static Control, violation: Violation, lifted: bool) {
        let Violation { reason, detail, edits } = violation;
        let fix = document(self.pod, &edits.iter().collect::<Vec<_>>());
        self.places.extend(edits.iter().map(|edit| (control.number, edit.place)));
        let found = Found { control, finding: Finding::violates(reason, detail.text, fix) };
        if lifted {
            return self.lifted.push(found);
        }
        self.found.push(found);
        self.edits.extend(edits);
    }
}

/// What has to change in one container, or in the pod around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix<'p> {
    /// The list that the container is in, and its name; none is the pod.
    pub container: Option<(Kind, &'p str)>,
    /// YAML from the root of the pod down to the fields.
    pub yaml: String,
}

/// What one of upstream's checks says of a pod that it forbids.
#[derive(Debug)]
pub struct Violation {
    reason: &'static str,
    detail: Text,
    edits: Vec<Edit>,
}

impl Violation {
    pub(crate) fn new(reason: &'static str) -> Self {
        Self { reason, detail: Text::default(), edits: Vec::new() }
    }

    /// Words of the detail.
    pub(crate) fn say(mut self, words: &str) -> Self {
        self.detail.push(words);
        self
    }

    /// `type "a"`, `types "a", "b"`.
    pub(crate) fn say_quoted(self, one: &str, many: &str, names: &[&str]) -> Self {
        self.say(plural(one, many, names.len())).say(" ").say_list(names, "\"")
    }

    /// Upstream's `joinQuote` (`policy/helpers.go`), which escapes nothing; or the same without quotes.
    pub(crate) fn say_list<T: AsRef<str>>(mut self, items: &[T], quote: &str) -> Self {
        for (index, item) in items.iter().enumerate() {
            for part in [if index == 0 { "" } else { ", " }, quote, item.as_ref(), quote] {
                self.detail.push(part);
            }
        }
        self
    }

    /// What has to change in the pod.
    pub(crate) fn fix_pod(mut self, section: Section, lines: impl Into<Cow<'static, str>>) -> Self {
        self.edits.push(Edit { place: Place::Pod, section, lines: lines.into() });
        self
    }

    /// The same change of each container's `securityContext`, and of the pod's own where it is among them.
    pub(crate) fn fix(self, setters: &Setters<'_>, lines: &'static str) -> Self {
        let section = Section::SecurityContext;
        let violation = if setters.pod { self.fix_pod(section, lines) } else { self };
        violation.fix_containers(setters, section, lines)
    }

    /// What has to change in each of these containers.
    pub(crate) fn fix_containers(
        mut self,
        setters: &Setters<'_>,
        section: Section,
        lines: &'static str,
    ) -> Self {
        for (place, _) in &setters.containers {
            if !matches!(place, Place::Container(_, index) if *index >= FIX_CONTAINERS) {
                self.edits.push(Edit { place: *place, section, lines: lines.into() });
            }
        }
        self
    }

    /// Annotations that have to go.
    pub(crate) fn fix_annotations<'k>(self, keys: impl Iterator<Item = &'k String>) -> Self {
        let keys: Vec<&str> = keys.map(String::as_str).collect();
        let lines = each(&keys, |key| format!("{}: null   # take it out", yaml(key)));
        self.fix_pod(Section::Annotations, lines)
    }

    /// Volumes that have to be something else.
    pub(crate) fn fix_volumes(self, names: &[&str]) -> Self {
        let lines = each(names, |name| {
            format!("- name: {}\n  emptyDir: {{}}   # or a claim, a ConfigMap, ...; no hostPath", yaml(name))
        });
        self.fix_pod(Section::Itself, format!("volumes:\n{lines}"))
    }
}

/// Words up to a size.
#[derive(Debug, Default)]
struct Text {
    text: String,
    is_cut: bool,
}

impl Text {
    fn push(&mut self, words: &str) {
        if self.is_cut {
            return;
        }
        if self.text.len() + words.len() <= DETAIL_BYTES {
            return self.text.push_str(words);
        }
        self.is_cut = true;
        let room = DETAIL_BYTES - '\u{2026}'.len_utf8();
        let whole = words.floor_char_boundary(room.saturating_sub(self.text.len()));
        self.text.push_str(words.get(..whole).unwrap_or_default());
        self.text.truncate(self.text.floor_char_boundary(room));
        self.text.push('\u{2026}');
    }
}

/// Who asks for what is forbidden: the pod itself, its containers, and the values that they ask for.
#[derive(Debug, Default)]
pub(crate) struct Setters<'p> {
    pub(crate) pod: bool,
    pub(crate) containers: Vec<(Place, &'p str)>,
    /// Each once and sorted as text, like upstream's sets.
    pub(crate) values: Vec<&'p str>,
}

impl<'p> Setters<'p> {
    /// The containers of which this is true; it may add values.
    pub(crate) fn containers(
        pod: &'p Pod,
        is_bad: &mut dyn FnMut(&'p Container, &mut Vec<&'p str>) -> bool,
    ) -> Self {
        let mut setters = Self::default();
        for kind in Kind::ALL {
            for (index, container) in pod.spec.list(kind).iter().enumerate() {
                if is_bad(container, &mut setters.values) {
                    setters.containers.push((Place::Container(kind, index), &container.name));
                }
            }
        }
        sort(&mut setters.values);
        setters
    }

    /// The same of the fields that the pod has, too.
    pub(crate) fn all(pod: &'p Pod, is_bad: &mut dyn FnMut(Shared<'p>, &mut Vec<&'p str>) -> bool) -> Self {
        let mut setters = Self::containers(pod, &mut |container, values| {
            is_bad(container.security_context.shared(), values)
        });
        setters.pod = is_bad(pod.spec.security_context.shared(), &mut setters.values);
        sort(&mut setters.values);
        setters
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    /// `containers "a", "b"`, and what they must not do.
    pub(crate) fn forbid(&self, reason: &'static str, words: &str, fix: &'static str) -> Option<Violation> {
        (!self.is_empty()).then(|| self.violate(reason).say(words).fix(self, fix))
    }

    /// `pod or containers "a", "b"`, and what one of the two must do.
    pub(crate) fn demand(&self, reason: &'static str, words: &str, fix: &'static str) -> Option<Violation> {
        let pod_or = || self.say(Violation::new(reason).say("pod or "));
        (!self.is_empty()).then(|| pod_or().say(words).fix(self, fix))
    }

    /// Begins a detail: `pod`, `container "a"`, `containers "a", "b"`, `pod and container "a"`.
    pub(crate) fn violate(&self, reason: &'static str) -> Violation {
        self.say(Violation::new(reason))
    }

    /// The same later in a detail.
    pub(crate) fn say(&self, mut violation: Violation) -> Violation {
        if self.pod {
            violation = violation.say(if self.containers.is_empty() { "pod" } else { "pod and " });
        }
        if self.containers.is_empty() {
            return violation;
        }
        let names: Vec<&str> = self.containers.iter().map(|(_, name)| *name).collect();
        violation.say_quoted("container", "containers", &names)
    }
}

/// Upstream's sets: each once, as text.
pub(crate) fn sort<T: Ord>(set: &mut Vec<T>) {
    set.sort_unstable();
    set.dedup();
}

/// Go's `%q` (`strconv.Quote`).
pub(crate) fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if is_printable(c) => quoted.push(c),
            // Writing to a String cannot fail.
            c => drop(match u32::from(c) {
                code @ ..0x80 => write!(quoted, "\\x{code:02x}"),
                code @ 0x80..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                code => write!(quoted, "\\U{code:08x}"),
            }),
        }
    }
    quoted.push('"');
    quoted
}

/// Letters, marks, numbers, punctuation, symbols and the space of ASCII. The standard library knows them, and asks behind
/// the first character of a text about nothing else.
fn is_printable(c: char) -> bool {
    let mut text = [b'x'; 5];
    let length = c.encode_utf8(text.split_at_mut(1).1).len();
    let behind_another = text.get(..=length).and_then(|text| core::str::from_utf8(text).ok());
    matches!(c, '\'' | '"' | '\\')
        || behind_another.is_some_and(|text| text.escape_debug().nth(1).is_some_and(|first| first == c))
}

/// Where a pod has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Pod,
    Container(Kind, usize),
}

impl Place {
    fn container(self, pod: &Pod) -> Option<(Kind, &str)> {
        match self {
            Self::Pod => None,
            Self::Container(kind, index) => Some((kind, &pod.spec.list(kind).get(index)?.name)),
        }
    }
}

/// Under which key of its place a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// The pod's annotations.
    Annotations,
    /// The pod's `spec`, or the container itself.
    Itself,
    /// `securityContext` of the pod or the container.
    SecurityContext,
}

/// One field that has to change.
#[derive(Clone, Debug)]
struct Edit {
    place: Place,
    section: Section,
    /// The field's key and its value, in YAML.
    lines: Cow<'static, str>,
}

impl Edit {
    fn same_field(&self, other: &Self) -> bool {
        fn key(edit: &Edit) -> Option<&str> {
            edit.lines.split(':').next()
        }
        // One control reads annotations at a time.
        self.section == other.section && self.section != Section::Annotations && key(self) == key(other)
    }
}

/// Lines for each of these, as far as anyone reads them.
fn each(names: &[&str], lines: impl Fn(&str) -> String) -> String {
    let shown = as_many_as_fit(names.iter().map(|name| name.len()));
    let mut all: Vec<String> = names.iter().take(shown).map(|name| lines(name)).collect();
    if shown < names.len() {
        all.push(format!("# and {} more", names.len() - shown));
    }
    all.join("\n")
}

/// One YAML document, from the root of the pod down to the fields.
fn document(pod: &Pod, edits: &[&Edit]) -> String {
    let mut yaml_text = String::new();
    let mut annotations = edits.iter().filter(|edit| edit.section == Section::Annotations).peekable();
    if annotations.peek().is_some() {
        yaml_text.push_str("metadata:\n  annotations:");
        annotations.for_each(|edit| indented(&mut yaml_text, 4, &edit.lines));
    }
    if edits.iter().any(|edit| edit.section != Section::Annotations) {
        indented(&mut yaml_text, 0, "spec:");
        place(&mut yaml_text, edits, Place::Pod, 2);
    }
    for kind in Kind::ALL {
        let mut head = Some(kind.field());
        for (index, container) in pod.spec.list(kind).iter().enumerate().take(FIX_CONTAINERS) {
            let here = Place::Container(kind, index);
            if !edits.iter().any(|edit| edit.place == here) {
                continue;
            }
            if yaml_text.len() > FIX_BYTES {
                indented(&mut yaml_text, 2, "# and more containers");
                return yaml_text;
            }
            if let Some(head) = head.take() {
                indented(&mut yaml_text, 2, head);
                yaml_text.push(':');
            }
            indented(&mut yaml_text, 2, "- name: ");
            yaml_text.push_str(&yaml(&container.name));
            place(&mut yaml_text, edits, here, 4);
        }
    }
    yaml_text
}

fn place(yaml_text: &mut String, edits: &[&Edit], place: Place, depth: usize) {
    let here = |section| edits.iter().filter(move |edit| edit.place == place && edit.section == section);
    here(Section::Itself).for_each(|edit| indented(yaml_text, depth, &edit.lines));
    let mut context = here(Section::SecurityContext).peekable();
    if context.peek().is_some() {
        indented(yaml_text, depth, "securityContext:");
        context.for_each(|edit| indented(yaml_text, depth + 2, &edit.lines));
    }
}

fn indented(yaml_text: &mut String, depth: usize, lines: &str) {
    for line in lines.lines() {
        if !yaml_text.is_empty() {
            yaml_text.push('\n');
        }
        yaml_text.extend(core::iter::repeat_n(' ', depth));
        yaml_text.push_str(line);
    }
}
