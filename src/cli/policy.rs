//! `pss-guard policy`: checks, shows, begins and removes the policy.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::answers;
use super::arguments::AnswerFormat;
use super::ask::ask;
use super::mode::LEFT;
use super::{FAILED, OK, line};
use crate::atomic;
use crate::files;
use crate::install::sandboxes::unseen_on;
use crate::level::cache::{LoadError, built_in};
use crate::level::date::Date;
use crate::level::policy::{Exception, LevelSet, Policy};
use crate::level::{
    self, Labels, Levels, Mode, NamespaceLabels, PodAttributes, RequiredLevel, Resolution, cache, namespaces,
};
use crate::message::escape;
use crate::mode::change;
use crate::mode::end::Author;
use crate::mode::{in_force, who};
use crate::node::host::Live;
use crate::node::stdin;
use crate::output::policy_file;
use crate::output::terminal::{Style, Tone};
use crate::paths::Paths;
use crate::pss::Version;
use crate::pss::controls::CONTROLS;
use crate::status::latest;
use crate::words::plural;

/// How an answer looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// For people, or for machines.
    pub format: AnswerFormat,
    /// Colours and width of a text for people.
    pub style: Style,
}

impl Look {
    /// Text, and no terminal.
    pub const PLAIN: Self = Self { format: AnswerFormat::Text, style: Style::PLAIN };
}

/// Says whether a policy is valid, and what it means. Without `file` (or with the path of it) it is the node's own,
/// which must also be owned by root; any other file is only read, and so is standard input (`-`).
pub fn check(
    paths: &Paths,
    file: Option<&Path>,
    today: Date,
    look: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let invalid = |mistakes: &[answers::Mistake], out: &mut dyn Write, err: &mut dyn Write| {
        for mistake in mistakes {
            let _ = failed(err, &mistake.line);
        }
        if look.format == AnswerFormat::Json {
            let _ = answers::invalid(mistakes, out);
        }
        FAILED
    };
    let is_given = file.is_some_and(stdin::is_it);
    let given = is_given.then(given).transpose();
    let file = file.filter(|_| !is_given);
    let policy = match (&given, file) {
        (Err(says), _) => return invalid(&[answers::Mistake::of(says.clone())], out, err),
        (Ok(Some(text)), _) => cache::load_given(paths, text, stdin::NAME).map(Some),
        (Ok(None), Some(file)) => cache::load_file(paths, file).map(Some),
        (Ok(None), None) => cache::load_fresh(paths),
    };
    match policy {
        Ok(policy) => {
            let node = Live::under(paths.other_root().unwrap_or(Path::new("/")));
            let unseen = policy.as_ref().and_then(|policy| Some((policy, unseen_on(policy, &node)?)));
            if let Some((policy, unseen)) = unseen {
                let says = format!("{}: {unseen}", policy.file.as_deref().unwrap_or_default());
                return invalid(&[answers::Mistake::of(says)], out, err);
            }
            // Elsewhere than on a node, in a repository, it is somebody's of course.
            let closed = file.filter(|_| change::as_root().is_ok()).and_then(cache::would_not_take);
            if let Some(error) = closed {
                let _ = writeln!(err, "pss-guard: a node would reject this file as it is: {}", line(&error));
            }
            let headline = match &policy {
                Some(_) => "valid".to_owned(),
                None => format!("no {}: the built-in defaults apply", paths.policy().display()),
            };
            let policy = policy.unwrap_or_else(|| built_in(paths));
            // A reader that went away does not make a valid policy invalid.
            let _ = match look.format {
                AnswerFormat::Json => answers::valid(&policy, out),
                AnswerFormat::Text => writeln!(out, "{}", look.style.paint(Tone::Title, &headline))
                    .and_then(|()| describe(&policy, paths, today, &look.style, out)),
            };
            OK
        }
        Err(LoadError::Text(error)) => {
            let mut mistakes = match &given {
                Ok(Some(text)) => level::policy::mistakes(text, stdin::NAME),
                _ => cache::mistakes(file.unwrap_or(&paths.policy())),
            };
            if mistakes.is_empty() {
                mistakes.push(error);
            }
            let mistakes: Vec<_> = mistakes.iter().map(answers::Mistake::at).collect();
            invalid(&mistakes, out, err)
        }
        Err(error) => invalid(&[answers::Mistake::of(line(&error))], out, err),
    }
}

/// The text on standard input, no larger than a policy; or why there is none, in a line.
fn given() -> Result<String, String> {
    let bytes = stdin::read(cache::LIMIT).map_err(|error| line(&error))?;
    String::from_utf8(bytes).map_err(|error| format!("read {}: {error}", stdin::NAME))
}

fn describe(
    policy: &Policy,
    paths: &Paths,
    today: Date,
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let row = |out: &mut dyn Write, name: &str, text: &str| {
        writeln!(out, "{}", style.wrapped(&format!("  {name:<17} "), 20, text))
    };
    row(
        out,
        "mode",
        match policy.mode {
            Mode::Audit => "audit: violations are logged, nothing is stopped",
            Mode::Enforce => "enforce: what violates the enforce level is stopped",
        },
    )?;
    row(out, "latest", &latest(policy, &paths.cluster()).1)?;
    row(out, "defaults", &levels(&policy.defaults))?;
    row(out, "unmanaged", &levels(&policy.unmanaged))?;
    row(
        out,
        "namespaces",
        &listed(policy.namespaces.keys().map(String::as_str), "no overrides in this file"),
    )?;
    let exempt = &policy.exemptions;
    row(out, "exempt", &listed(exempt.namespaces.iter().map(String::as_str), "no namespace"))?;
    if !exempt.runtime_classes.is_empty() {
        let classes = listed(exempt.runtime_classes.iter().map(String::as_str), "");
        row(out, "", &format!("runtime classes: {classes}"))?;
    }
    row(
        out,
        "pod annotations",
        &format!("{}, floor {}", policy.pod_annotations.trust, policy.pod_annotations.floor),
    )?;
    row(out, "unknown namespace", policy.on_unknown_namespace.name())?;
    row(out, "missing facts", policy.on_missing_facts.name())?;
    row(out, "on fault", &format!("{} (in enforce mode; audit mode never stops anything)", policy.on_fault))?;
    row(out, "on suspect", policy.on_suspect.name())?;
    row(out, "log allowed", if policy.log_allowed { "yes" } else { "no" })?;
    row(
        out,
        "controls",
        &format!(
            "readOnlyRootFilesystem {}, injectedMounts {}",
            policy.controls.read_only_root_filesystem, policy.controls.injected_mounts
        ),
    )?;
    let node = &policy.node;
    let seccomp = if node.seccomp_default { "on" } else { "off" };
    let apparmor = node.apparmor;
    row(
        out,
        "node",
        &format!("kubelet {}, seccomp default {seccomp}, AppArmor {apparmor}", node.kubelet_root()),
    )?;
    for (what, list) in [
        ("default capabilities", &node.default_capabilities),
        ("default sysctls", &node.default_sysctls),
        ("no host paths", &node.not_host_paths),
    ] {
        if !list.is_empty() {
            row(out, "", &format!("{what}: {}", list.join(", ")))?;
        }
    }
    row(out, "runtime", &policy.runtime.path)?;
    row(out, "exceptions", &policy.exceptions.len().to_string())?;
    for exception in &policy.exceptions {
        row(out, "", &end_of(exception, today))?;
        let still = still_in_force(exception);
        if !still.is_empty() {
            row(out, "", &format!("  leaves {} in force", still.join(", ")))?;
        }
    }
    Ok(())
}

fn levels(set: &LevelSet) -> String {
    format!("enforce {}, audit {}, warn {}", set.enforce, set.audit, set.warn)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>, none: &str) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
}

/// An exception that ends soon is a denial that comes soon.
fn end_of(exception: &Exception, today: Date) -> String {
    let Exception { controls, reason, expires, .. } = exception;
    let left = expires.days() - today.days();
    let end = match left {
        ..0 => format!("expired on {expires}"),
        0 => format!("expires today ({expires})"),
        1..=30 => format!("expires in {} ({expires})", plural(left, "day")),
        _ => format!("until {expires}"),
    };
    format!("{}: {} ({reason:?}), {end}", exception.whom(), controls.join(", "))
}

/// The controls that those of an exception stand in for, and that it does not name. Somebody may expect them to be lifted.
fn still_in_force(exception: &Exception) -> Vec<&'static str> {
    let named = |id: &str| exception.controls.iter().any(|own| own == id);
    let overridden =
        CONTROLS.iter().filter(|control| named(control.id)).flat_map(|control| control.overrides);
    overridden.copied().filter(|id| !named(id)).collect()
}

/// Writes a policy that changes nothing into a file that is not there yet: a node reads none from a folder that others can write.
pub fn init(paths: &Paths, file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let shown = escape(&file.display().to_string());
    if let Err(error) = change::as_root() {
        return failed(
            err,
            &format!("{} (`pss-guard policy init` without --output prints it)", line(&error)),
        );
    }
    // The folder of a bare name is the working directory.
    let file = match std::path::absolute(file) {
        Ok(file) => file,
        Err(error) => return failed(err, &format!("{shown}: {}", line(&error))),
    };
    // Only the usual folder is made: another one may be a typo.
    if file == paths.policy()
        && let Some(folder) = file.parent()
        && let Err(error) = atomic::make_folder(folder)
    {
        return failed(err, &line(&error));
    }
    if let Err(error) = files::check_folder_of(&file) {
        return failed(err, &format!("{}; the gate reads no policy from there", line(&error)));
    }
    match atomic::create(&file, policy_file::commented().as_bytes(), 0o644) {
        Ok(()) => {
            let _ = writeln!(out, "wrote {shown}; it sets nothing yet");
            OK
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failed(
            err,
            &format!("{shown} is there and was left alone; `pss-guard policy check` shows what it means"),
        ),
        Err(error) => failed(err, &format!("write {shown}: {}", line(&error))),
    }
}

/// Removes the policy and the last good text of it. In enforce mode that opens the node, so it asks.
pub fn remove(paths: &Paths, reason: &str, yes: bool, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    if let Err(error) = change::as_root() {
        return failed(err, &line(&error));
    }
    let question = "Remove the policy? The built-in defaults apply then, and stop nothing.";
    let is_there = cache::was_there(paths) || paths.policy().symlink_metadata().is_ok();
    if is_there && !yes && !ask(question, "remove the policy", err) {
        return LEFT;
    }
    let who = who::current();
    match change::remove_policy(paths, Author { who: &who, reason }) {
        Err(error) => failed(err, &line(&error)),
        Ok(removed) => {
            let _ = if removed.is_empty() {
                writeln!(out, "there is no policy; the built-in defaults apply")
            } else {
                removed.iter().try_for_each(|path| writeln!(out, "removed {}", path.display())).and_then(
                    |()| {
                        let mode = in_force(paths, cache::load(paths).mode()).mode;
                        writeln!(out, "the built-in defaults apply; the mode is {mode}")
                    },
                )
            };
            OK
        }
    }
}

/// Whose level `policy show` asks for.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Everybody, in a table.
    All,
    /// A pod of a namespace.
    Namespace(&'a str),
    /// A container of no pod.
    Unmanaged,
}

/// Prints the levels that would hold, and because of what. `annotations` are `KEY=VALUE`.
pub fn show(
    paths: &Paths,
    subject: Subject<'_>,
    annotations: &[String],
    look: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let Look { format, style } = look;
    let mut whose = PodAttributes::default();
    if let Subject::Namespace(name) = subject {
        whose.namespace = Some(name);
    }
    for annotation in annotations {
        let Some((key, value)) = annotation.split_once('=') else {
            return failed(err, &format!("--pod-annotation {annotation:?} must be KEY=VALUE"));
        };
        if !whose.annotations.set(key, Cow::Borrowed(value)) {
            let keys = Labels::KEYS.join(", ");
            return failed(err, &format!("--pod-annotation {key:?} sets no level; those that do are {keys}"));
        }
    }
    let policy = match super::policy_to_look(paths, err) {
        Ok(policy) => policy,
        Err(error) => return failed(err, &line(&error)),
    };
    if let Subject::All = subject {
        return match namespaces::names(&paths.namespaces()) {
            Ok(known) => show_all(paths, &policy, &known, look, out, err),
            Err(error) => failed(err, &line(&error)),
        };
    }
    let found = match whose.namespace {
        Some(name) if level::exempt(&policy, &whose).is_none() => {
            match namespaces::read(&paths.namespaces(), name) {
                Ok(found) => found,
                Err(error) => return failed(err, &line(&error)),
            }
        }
        _ => NamespaceLabels::NoFolder,
    };
    let resolution = level::resolve(&policy, &whose, &found);
    if let (Some(name), NamespaceLabels::Missing, Resolution::Levels(_)) =
        (whose.namespace, &found, &resolution)
        && !policy.namespaces.contains_key(name)
    {
        let folder = paths.namespaces();
        let _ = writeln!(
            err,
            "pss-guard: namespace {name:?} is not known on this node ({} has those of the cluster): a typo, or a new one",
            folder.display()
        );
    }
    if format == AnswerFormat::Json {
        let _ = answers::levels(whose.namespace, &resolution, &policy, out);
        return OK;
    }
    let _ = match resolution {
        Resolution::Exempt(exempt) => {
            writeln!(out, "{}", style.wrapped("", 2, &format!("exempt: {exempt}; nothing is evaluated")))
        }
        Resolution::UnknownNamespace(name) => writeln!(
            out,
            "denied: namespace {name:?} is not in {}, and on-unknown-namespace is \"deny\"",
            paths.namespaces().display()
        ),
        Resolution::Levels(Levels { enforce, audit, warn }) => demands("enforce", &enforce, &style, out)
            .and_then(|()| demands("audit", &audit, &style, out))
            .and_then(|()| demands("warn", &warn, &style, out))
            .and_then(|()| {
                let mut all = enforce.iter().chain(&audit).chain(&warn);
                let asked = all.any(|demand| demand.version == Version::Latest);
                let says = || style.wrapped("latest   ", 9, &latest(&policy, &paths.cluster()).1);
                if asked { writeln!(out, "{}", says()) } else { Ok(()) }
            }),
    };
    OK
}

/// A row for each namespace that is imported or named in the policy, one for all others, and one for containers of no pod.
fn show_all(
    paths: &Paths,
    policy: &Policy,
    known: &BTreeSet<String>,
    Look { format, style }: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let in_policy = policy.namespaces.keys().chain(&policy.exemptions.namespaces);
    let names: BTreeSet<&str> = known.iter().chain(in_policy).map(String::as_str).collect();
    let width = names.iter().map(|name| name.len()).chain([WHOSE.len()]).max().unwrap_or_default();
    let mut code = OK;
    let is_text = format == AnswerFormat::Text;
    let mut objects = answers::All::of(policy);
    let mut row = |name: &str, [enforce, audit, warn]: [&str; 3], because: &str| {
        if is_text {
            let first = format!("{name:<width$}  {enforce:<18} {audit:<18} {warn:<18} ");
            // Where the last column would be too narrow to read, it goes on below.
            let indent = if first.len() + 24 <= style.width { first.len() } else { 4 };
            let _ = writeln!(out, "{}", style.wrapped(&first, indent, because));
        }
    };
    let title = style.paint(Tone::Title, &format!("{:<width$}", "namespace"));
    row(&title, ["enforce", "audit", "warn"], "enforce level from");
    // No namespace can have this name: it is what is not known of.
    let others = "";
    for name in names.iter().copied().chain([others]) {
        let whose = PodAttributes { namespace: Some(name), ..PodAttributes::default() };
        let found = match level::exempt(policy, &whose) {
            None if name != others => namespaces::read(&paths.namespaces(), name),
            None if namespaces::are_known(&paths.namespaces()) => Ok(NamespaceLabels::Missing),
            _ => Ok(NamespaceLabels::NoFolder),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                objects.add_fault(name, line(&error));
                row(name, ["unknown"; 3], "its file cannot be used, see below");
                code = failed(err, &line(&error));
                continue;
            }
        };
        let shown = if name == others { "(any other)" } else { name };
        let resolution = level::resolve(policy, &whose, &found);
        objects.add(Some(name).filter(|name| *name != others), &resolution);
        match resolution {
            Resolution::Exempt(_) => row(shown, ["exempt"; 3], "[exemptions]"),
            Resolution::UnknownNamespace(_) => row(shown, ["denied"; 3], "on-unknown-namespace"),
            Resolution::Levels(levels) => level_row(&mut row, shown, &levels),
        }
    }
    let nobodys = PodAttributes::default();
    let unmanaged = level::resolve(policy, &nobodys, &NamespaceLabels::NoFolder);
    objects.unmanaged(&unmanaged);
    if let Resolution::Levels(levels) = unmanaged {
        level_row(&mut row, WHOSE, &levels);
    }
    if !is_text {
        let _ = objects.write(out);
    }
    code
}

/// What the table calls containers of no pod.
const WHOSE: &str = "(unmanaged)";

fn level_row(row: &mut impl FnMut(&str, [&str; 3], &str), name: &str, levels: &Levels<'_>) {
    let shown = [&levels.enforce, &levels.audit, &levels.warn].map(|demands| {
        let all = demands.iter().map(|demand| format!("{}:{}", demand.level, demand.version));
        all.collect::<Vec<_>>().join(" and ")
    });
    let because = levels.enforce.first().map(|demand| demand.because.origin().to_string());
    row(name, [&shown[0], &shown[1], &shown[2]], &because.unwrap_or_default());
}

fn demands(
    purpose: &str,
    demands: &[RequiredLevel<'_>],
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (index, RequiredLevel { level, version, because }) in demands.iter().enumerate() {
        let purpose = if index == 0 { purpose } else { "  and" };
        let purpose = style.paint(Tone::Title, &format!("{purpose:<8}"));
        let first = format!("{purpose} {:<18} ", format!("{level}:{version}"));
        writeln!(out, "{}", style.wrapped(&first, 28, &because.to_string()))?;
    }
    Ok(())
}

fn failed(err: &mut dyn Write, what: &str) -> u8 {
    let _ = writeln!(err, "pss-guard: {what}");
    FAILED
}
