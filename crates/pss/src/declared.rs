//! The second reading of the standard: upstream's own checks, over what a pod declares.
//!
//! Reasons, details and their order are upstream's, letter for letter (`k8s.io/pod-security-admission/policy`), up to
//! [`DETAIL_BYTES`]: upstream has no limit, and a pod can name a hundred thousand containers.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::controls::{head, plural, yaml};
use crate::pod::{Container, Kind, Pod, Shared};
use crate::{Control, Finding, Found, Level, Minor, in_force};

/// A detail is cut here, in bytes, and ends in `…`.
pub const DETAIL_BYTES: usize = 16 << 10;

/// Fixes are written for so many containers of a list, so many volumes and so many annotations.
pub const FIX_CONTAINERS: usize = 64;
/// Nothing is added to a document of fixes once it has so many bytes.
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
                for part in [" (", &finding.detail, ")"] {
                    message.push_str(part);
                }
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
            let edits: Vec<&Edit> = self.edits.iter().filter(|edit| edit.place == place).collect();
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
        let length = self.text.len();
        self.text.truncate(head(&self.text, room).len());
        if self.text.len() == length {
            self.text.push_str(head(words, room - length));
        }
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
    fn is_of_the_field_of(&self, other: &Self) -> bool {
        fn key(edit: &Edit) -> Option<&str> {
            edit.lines.split(':').next()
        }
        // Lines of annotations have many keys, and no two controls read the same.
        let one_key = self.section != Section::Annotations;
        one_key && self.place == other.place && self.section == other.section && key(self) == key(other)
    }
}

/// Lines for each of these, as far as anyone reads them.
fn each(names: &[&str], lines: impl Fn(&str) -> String) -> String {
    let mut all = String::new();
    for (index, name) in names.iter().enumerate() {
        if index == FIX_CONTAINERS || all.len() > FIX_BYTES / 2 {
            indented(&mut all, 0, &format!("# and {} more", names.len() - index));
            break;
        }
        indented(&mut all, 0, &lines(name));
    }
    all
}

/// One YAML document, from the root of the pod down to the fields.
fn document(pod: &Pod, all: &[&Edit]) -> String {
    let mut edits: Vec<&Edit> = Vec::new();
    for edit in all {
        // Of two edits of one field the later control knows more, so its edit replaces the other.
        match edits.iter_mut().find(|other| other.is_of_the_field_of(edit)) {
            Some(other) => *other = edit,
            None => edits.push(edit),
        }
    }
    let mut text = String::new();
    let mut annotations = edits.iter().filter(|edit| edit.section == Section::Annotations).peekable();
    if annotations.peek().is_some() {
        text.push_str("metadata:\n  annotations:");
        annotations.for_each(|edit| add(&mut text, 4, edit));
    }
    if edits.iter().any(|edit| edit.section != Section::Annotations) {
        indented(&mut text, 0, "spec:");
        add_all(&mut text, 2, &edits, Place::Pod);
    }
    for kind in Kind::ALL {
        let mut head = Some(kind.field());
        for (index, container) in pod.spec.list(kind).iter().enumerate().take(FIX_CONTAINERS) {
            let here = Place::Container(kind, index);
            if text.len() > FIX_BYTES || !edits.iter().any(|edit| edit.place == here) {
                continue;
            }
            if let Some(head) = head.take() {
                indented(&mut text, 2, head);
                text.push(':');
            }
            indented(&mut text, 2, "- name: ");
            text.push_str(&yaml(&container.name));
            add_all(&mut text, 4, &edits, here);
        }
    }
    if text.len() > FIX_BYTES {
        indented(&mut text, 0, "# and more");
    }
    text
}

/// Everything at one place.
fn add_all(text: &mut String, depth: usize, edits: &[&Edit], place: Place) {
    let here = |section| edits.iter().filter(move |edit| edit.place == place && edit.section == section);
    here(Section::Itself).for_each(|edit| add(text, depth, edit));
    let mut context = here(Section::SecurityContext).peekable();
    if context.peek().is_some() {
        indented(text, depth, "securityContext:");
        context.for_each(|edit| add(text, depth + 2, edit));
    }
}

fn add(text: &mut String, depth: usize, edit: &Edit) {
    if text.len() <= FIX_BYTES {
        indented(text, depth, &edit.lines);
    }
}

fn indented(text: &mut String, depth: usize, lines: &str) {
    for line in lines.lines() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.extend(core::iter::repeat_n(' ', depth));
        text.push_str(line);
    }
}

#[cfg(test)]
mod tests {
    use super::{DETAIL_BYTES, go_quoted};
    use crate::controls::CONTROLS;
    use crate::pod::{APPARMOR_ANNOTATION, Container, Kind, Pod, SECCOMP_ANNOTATION, Sysctl, Volume};
    use crate::testing::{compliant_pod, pod_with};
    use crate::{Control, Level, Minor, NEWEST, Origin, evaluate_pod};

    /// Nothing is lifted.
    fn none(_: &Control) -> bool {
        false
    }

    fn bare() -> Pod {
        let container = |name: &str| Container { name: name.into(), ..Container::default() };
        let mut pod = Pod::default();
        pod.spec.init_containers.push(container("init"));
        pod.spec.containers.push(container("app"));
        pod
    }

    #[test]
    fn every_control_has_both_readings_and_upstreams_versions() {
        // Written down from upstream's registrations; `integration-tests/contract/declared.rs` asks upstream itself.
        let later: &[(&str, &[Minor])] = &[
            ("allowPrivilegeEscalation", &[8, 25]),
            ("capabilities_restricted", &[22, 25]),
            ("hostProbesAndHostLifecycle", &[34]),
            ("procMount", &[0, 35]),
            ("procMount_restricted", &[35]),
            ("runAsNonRoot", &[0, 35]),
            ("runAsUser", &[23, 35]),
            ("seLinuxOptions", &[0, 31]),
            ("seccompProfile_baseline", &[0, 19]),
            ("seccompProfile_restricted", &[19, 25]),
            ("sysctls", &[0, 27, 29, 32, 37]),
        ];
        let upstreams =
            |control: &&&Control| control.origin == Origin::Upstream || !control.declared.is_empty();
        for control in CONTROLS.iter().filter(upstreams) {
            let versions: Vec<Minor> = control.declared.iter().map(|(since, _)| *since).collect();
            let upstreams =
                later.iter().find(|(id, _)| *id == control.id).map_or(&[0][..], |(_, minors)| minors);
            assert_eq!(versions, upstreams, "{}", control.id);
            let observed = control.observed.first().map(|(since, _)| *since);
            assert_eq!(
                observed,
                Some(control.since()),
                "{}: both readings begin with the control",
                control.id
            );
        }
    }

    #[test]
    fn a_bare_pod_reads_as_upstream_words_it() {
        let pod = bare();
        let evaluation =
            evaluate_pod(Level::Restricted, NEWEST, &pod, |control| control.origin == Origin::PssGuard);
        assert_eq!(
            evaluation.message(),
            "allowPrivilegeEscalation != false (containers \"init\", \"app\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"init\", \"app\" \
             must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"init\", \
             \"app\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"init\", \"app\" \
             must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        // What is lifted is still said, and apart.
        assert_eq!(evaluation.lifted.len(), 1);
        assert_eq!(evaluation.lifted[0].control.id, "readOnlyRootFilesystem");
        for level in [Level::Privileged, Level::Baseline] {
            let evaluation = evaluate_pod(level, NEWEST, &pod, none);
            assert!(
                evaluation.is_allowed() && evaluation.message().is_empty() && evaluation.fixes().is_empty()
            );
        }
    }

    #[test]
    fn a_container_needs_one_fix_and_the_pod_another() {
        let mut pod = bare();
        pod.spec.host_network = true;
        pod.spec.volumes.push(Volume { name: "v".into(), sources: vec!["nfs".into()] });
        pod.spec.containers[0].security_context.capabilities.add = vec!["SYS_ADMIN".into()];
        pod.annotations.insert(format!("{APPARMOR_ANNOTATION}app"), "unconfined".into());
        let evaluation = evaluate_pod(Level::Restricted, NEWEST, &pod, none);
        let fixes = evaluation.fixes();
        let heads: Vec<_> = fixes.iter().map(|fix| fix.container).collect();
        assert_eq!(heads, [None, Some((Kind::Init, "init")), Some((Kind::Regular, "app"))]);
        assert_eq!(
            fixes[0].yaml,
            "metadata:\n  annotations:\n    \"container.apparmor.security.beta.kubernetes.io/app\": null   # take it \
             out\nspec:\n  hostNetwork: false\n  volumes:\n  - name: v\n    emptyDir: {}   # or a claim, a ConfigMap, ...; \
             no hostPath"
        );
        assert_eq!(
            fixes[2].yaml,
            "spec:\n  containers:\n  - name: app\n    securityContext:\n      allowPrivilegeEscalation: false\n      \
             capabilities:\n        add: []   # or only NET_BIND_SERVICE\n        drop: [\"ALL\"]\n      runAsNonRoot: true   \
             # the image's user or runAsUser must not be 0 then\n      seccompProfile:\n        type: RuntimeDefault\n      \
             readOnlyRootFilesystem: true"
        );
        // One control's own fix has all of its containers.
        let found =
            evaluation.found.iter().find(|found| found.control.id == "allowPrivilegeEscalation").unwrap();
        assert_eq!(
            found.finding.fix,
            "spec:\n  initContainers:\n  - name: init\n    securityContext:\n      allowPrivilegeEscalation: false\n  \
             containers:\n  - name: app\n    securityContext:\n      allowPrivilegeEscalation: false"
        );
    }

    #[test]
    fn a_control_points_to_the_places_that_have_to_change() {
        let mut pod = bare();
        pod.spec.host_network = true;
        pod.spec.containers[0].security_context.privileged = true;
        let evaluation = evaluate_pod(Level::Restricted, NEWEST, &pod, none);
        assert!(!evaluation.is_allowed());
        let places = |id: &str| {
            let control = CONTROLS.iter().find(|control| control.id == id).unwrap();
            evaluation.places(control).collect::<Vec<_>>()
        };
        assert_eq!(places("hostNamespaces"), [None]);
        assert_eq!(places("privileged"), [Some((Kind::Regular, 0))]);
        assert_eq!(places("allowPrivilegeEscalation"), [Some((Kind::Init, 0)), Some((Kind::Regular, 0))]);
        assert_eq!(places("hostPorts"), []);
    }

    #[test]
    fn a_fix_has_as_many_volumes_as_somebody_reads() {
        for (count, shown, rest) in [(1, 1, ""), (3, 3, ""), (64, 64, ""), (65, 64, "\n  # and 1 more")] {
            let pod = pod_with(|spec| {
                let host = |number| Volume { name: format!("v{number}"), sources: vec!["hostPath".into()] };
                spec.volumes = (0..count).map(host).collect();
            });
            let fix = evaluate_pod(Level::Baseline, NEWEST, &pod, none).found.remove(0).finding.fix;
            assert_eq!(fix.matches("emptyDir").count(), shown, "{fix}");
            assert!(fix.ends_with(&format!("no hostPath{rest}")), "{fix}");
        }
    }

    #[test]
    fn lifting_one_control_brings_back_what_it_overrides() {
        let pod =
            pod_with(|spec| spec.containers[0].security_context.capabilities.add = vec!["SYS_ADMIN".into()]);
        let ids = |lifted: &'static str| {
            let evaluation = evaluate_pod(Level::Restricted, NEWEST, &pod, |control| control.id == lifted);
            let ids = |found: &[crate::Found]| found.iter().map(|found| found.control.id).collect::<Vec<_>>();
            (ids(&evaluation.found), ids(&evaluation.lifted))
        };
        assert_eq!(ids(""), (vec!["capabilities_restricted"], vec![]));
        let back = (vec!["capabilities_baseline"], vec!["capabilities_restricted"]);
        assert_eq!(ids("capabilities_restricted"), back);
    }

    #[test]
    fn a_detail_is_upstreams_up_to_a_size() {
        let sysctls = |length: usize| {
            let pod = pod_with(|spec| {
                spec.security_context.sysctls = vec![Sysctl { name: "\u{fc}".repeat(length) }];
            });
            let found = evaluate_pod(Level::Baseline, NEWEST, &pod, none).found;
            found[0].finding.detail.clone().into_owned()
        };
        assert_eq!(sysctls(DETAIL_BYTES / 2), "\u{fc}".repeat(DETAIL_BYTES / 2));
        let cut = sysctls(DETAIL_BYTES / 2 + 1);
        assert!(cut.len() <= DETAIL_BYTES && cut.len() > DETAIL_BYTES - 4, "{}", cut.len());
        assert!(cut.ends_with("\u{fc}\u{2026}"));
    }

    #[test]
    fn no_pod_makes_a_finding_long() {
        const FIX: usize = 64 << 10;
        let long = "\u{fc}".repeat(500_000);
        let name =
            |number: usize| if number < 3 { long.clone() } else { format!("{number}{}", &long[..200]) };
        let mut pod = Pod::default();
        let spec = &mut pod.spec;
        spec.host_network = true;
        let container = |number| {
            let mut container = Container { name: name(number), ..Container::default() };
            container.security_context.privileged = true;
            container.security_context.capabilities.add = vec![name(number)];
            container.security_context.proc_mount = Some(name(number));
            container.security_context.se_linux_options.kind = name(number);
            container.security_context.app_armor_profile = Some(crate::pod::Profile { kind: name(number) });
            container.liveness_probe.http_get.host = name(number);
            container.ports = vec![crate::pod::Port { host_port: i32::try_from(number).unwrap() + 1 }];
            container
        };
        spec.containers = (0..2_000).map(container).collect();
        spec.init_containers = (0..100).map(container).collect();
        spec.ephemeral_containers = (0..10_000)
            .map(|number| Container { name: format!("{number}"), ..Container::default() })
            .collect();
        spec.volumes = (0..2_000)
            .map(|number| Volume { name: name(number), sources: vec!["hostPath".into()] })
            .collect();
        spec.security_context.sysctls = (0..2_000).map(|number| Sysctl { name: name(number) }).collect();
        for number in 0..2_000 {
            pod.annotations.insert(format!("{APPARMOR_ANNOTATION}{}", name(number)), name(number));
            pod.annotations.insert(format!("{SECCOMP_ANNOTATION}{}", name(number)), name(number));
        }
        for minor in [0, NEWEST] {
            for level in [Level::Baseline, Level::Restricted] {
                let evaluation = evaluate_pod(level, minor, &pod, none);
                assert!(evaluation.found.len() > 9, "not bad enough");
                for found in &evaluation.found {
                    let (id, finding) = (found.control.id, &found.finding);
                    assert!(finding.detail.len() <= DETAIL_BYTES, "{id}: {} bytes", finding.detail.len());
                    assert!(finding.fix.len() <= FIX, "{id}: a fix of {} bytes", finding.fix.len());
                }
                let fixes = evaluation.fixes();
                assert!(fixes.len() <= 1 + 3 * super::FIX_CONTAINERS, "{}", fixes.len());
                assert!(fixes.iter().all(|fix| fix.yaml.len() <= FIX));
                let says_so = |fix: &super::Fix<'_>| fix.yaml.ends_with("\n# and more");
                assert!(fixes.iter().all(|fix| says_so(fix) == (fix.yaml.len() > super::FIX_BYTES)));
                assert!(evaluation.message().len() <= CONTROLS.len() * (DETAIL_BYTES + 64));
            }
        }
    }

    #[test]
    fn a_hostile_name_cannot_break_out_of_a_fix() {
        let pod = pod_with(|spec| {
            spec.containers[0].name = "a\n  hostPID: true".into();
            spec.containers[0].security_context.privileged = true;
        });
        let fixes = evaluate_pod(Level::Baseline, NEWEST, &pod, none).fixes().remove(0).yaml;
        assert_eq!(
            fixes,
            "spec:\n  containers:\n  - name: \"a\\U0000000a  hostPID: true\"\n    securityContext:\n      privileged: false"
        );
    }

    #[test]
    fn text_is_quoted_as_go_does_it() {
        for (text, quoted) in [
            ("", "\"\""),
            ("a'b\"c\\", "\"a'b\\\"c\\\\\""),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r#""\a\b\f\n\r\t\v""#),
            ("\u{0}\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
            ("\u{80}\u{a0}\u{ad}\u{2028}\u{feff}", r#""\u0080\u00a0\u00ad\u2028\ufeff""#),
            ("\u{e000}\u{e0001}\u{10ffff}", r#""\ue000\U000e0001\U0010ffff""#),
            ("caf\u{e9} e\u{301} \u{fffd} \u{1f600}", "\"caf\u{e9} e\u{301} \u{fffd} \u{1f600}\""),
        ] {
            assert_eq!(go_quoted(text), quoted, "{text:?}");
        }
    }

    #[test]
    fn the_compliant_pod_is_allowed_at_every_level_and_version() {
        let pod = compliant_pod();
        for level in Level::ALL {
            for minor in 0..=NEWEST + 1 {
                let evaluation = evaluate_pod(level, minor, &pod, none);
                assert!(evaluation.is_allowed(), "{level}:v1.{minor}: {}", evaluation.message());
            }
        }
    }
}
