//! `pss-guard check`: evaluates containers by their config.json, and manifests by what their pods ask for.

mod containers;
mod manifests;

use std::io::{self, ErrorKind, Read as _, Write};
use std::path::Path;

use self::containers::{Case, cases, shown};
use self::manifests::{File, Manifests};
use super::arguments::{Check, Format};
use crate::decision::Verdict;
use crate::documents::read::LARGEST;
use crate::files::{FileError, LIMIT, read};
use crate::level::Policy;
use crate::level::cache::{LoadError, load_file};
use crate::message::{escape, line};
use crate::node::stdin;
use crate::output::json::Result as Object;
use crate::output::terminal::{Style, Tone};
use crate::output::{junit, sarif};
use crate::paths::Paths;
use crate::pss::Certainty;

/// Exit code: every container may start.
pub const ALLOW: u8 = 0;
/// Exit code: at least one may not.
pub const DENY: u8 = 1;

/// Counts for the exit code and the last line.
#[derive(Default)]
struct Tally {
    allowed: usize,
    exempt: usize,
    denied: usize,
    unjudged: usize,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Allow => self.allowed += 1,
            Verdict::Exempt => self.exempt += 1,
            Verdict::Deny => self.denied += 1,
            Verdict::CannotJudge => self.unjudged += 1,
        }
    }

    fn count(&self) -> usize {
        self.allowed + self.exempt + self.denied + self.unjudged
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self { unjudged: 1.., .. } => super::FAILED,
            Self { denied: 1.., .. } => DENY,
            _ => ALLOW,
        }
    }
}

/// Where results go, one after the other. After a write that failed nothing more is written.
struct Results<'o> {
    format: Format,
    style: Style,
    out: &'o mut dyn Write,
    written: io::Result<()>,
    sarif: sarif::Log,
    junit: junit::Suite,
    tally: Tally,
}

impl Results<'_> {
    fn add(&mut self, object: &Object<'_>, verdict: Verdict) {
        self.tally.add(verdict);
        match self.format {
            Format::Sarif => self.sarif.add(object),
            Format::Junit => self.junit.add(object),
            _ if self.written.is_err() => {}
            Format::Text => {
                let mut text = Text { style: &self.style, out: self.out };
                self.written = text.object(object, verdict);
            }
            Format::Json => self.written = json(object, self.out),
        }
    }

    /// Writes what comes last. `passed_over`: objects that are no workloads; `None` where there was no manifest.
    fn finish(self, passed_over: Option<usize>) -> io::Result<()> {
        self.written?;
        match self.format {
            Format::Sarif => self.sarif.write(self.out)?,
            Format::Junit => self.junit.write(self.out)?,
            Format::Text if self.tally.count() > 1 || passed_over.is_some_and(|count| count > 0) => {
                let Tally { allowed, exempt, denied, unjudged } = self.tally;
                let exempt = if exempt > 0 { format!("{exempt} exempt, ") } else { String::new() };
                let others = match passed_over {
                    Some(1) => "; 1 other object is no workload".to_owned(),
                    Some(count @ 2..) => format!("; {count} other objects are no workloads"),
                    _ => String::new(),
                };
                writeln!(
                    self.out,
                    "{allowed} allowed, {exempt}{denied} refused, {unjudged} could not be judged{others}"
                )?;
            }
            Format::Text | Format::Json => {}
        }
        self.out.flush()
    }
}

/// What a path stands for.
enum Input {
    Container(Case),
    Manifest(File),
}

/// Checks every path and writes the results.
pub fn check(paths: &Paths, options: &Check, style: Style, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let policy = match policy(paths, options.policy.as_deref(), err) {
        Ok(policy) => policy,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", line(&error));
            return super::FAILED;
        }
    };
    let pod = match options.pod.as_deref().map(manifests::pod).transpose() {
        Ok(pod) => pod,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: --pod: {}", escape(&error));
            return super::FAILED;
        }
    };
    let inputs: Vec<Input> = options.paths.iter().flat_map(|path| inputs(path)).collect();
    let files = || {
        inputs.iter().filter_map(|input| match input {
            Input::Manifest(file) => Some(file),
            Input::Container(_) => None,
        })
    };
    // Who has only captured cases knows what they are.
    let cases: Vec<String> =
        options.paths.iter().filter_map(|path| Some(shown(&manifests::pod_of_case(path)?))).collect();
    if !cases.is_empty() && files().next().is_some() {
        let _ = writeln!(
            err,
            "pss-guard: of captured cases the containers are evaluated, and not {}; name it to check it",
            super::some(&cases)
        );
    }
    let namespaces = paths.namespaces();
    let manifests = Manifests::of(files(), &policy, options, &namespaces);
    let mut results = Results {
        format: options.format,
        style,
        out,
        written: Ok(()),
        sarif: sarif::Log::default(),
        junit: junit::Suite::default(),
        tally: Tally::default(),
    };
    for input in &inputs {
        match input {
            Input::Container(case) => {
                let show = |object: &Object<'_>, verdict| results.add(object, verdict);
                case.evaluate(&policy, options, &namespaces, pod.as_ref(), show);
            }
            Input::Manifest(file) => {
                manifests.evaluate(file, |object, verdict| results.add(object, verdict));
            }
        }
    }
    let nothing = results.tally.count() == 0;
    let code = results.tally.exit_code();
    let passed_over = files().next().map(|_| manifests.passed_over());
    // A reader that went away (`| head`) has seen enough; the exit code still tells.
    if let Err(error) = results.finish(passed_over)
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = writeln!(err, "pss-guard: write the results: {}", line(&error));
        return super::FAILED;
    }
    if nothing {
        // No workload is no all-clear: a template that came out empty, or the wrong file.
        let _ = writeln!(err, "pss-guard: there is no pod and no workload in {}", names(&options.paths));
        return super::FAILED;
    }
    code
}

fn names(paths: &[std::path::PathBuf]) -> String {
    let name = |path: &std::path::PathBuf| {
        if stdin::is_it(path) { stdin::NAME.to_owned() } else { shown(path) }
    };
    super::some(&paths.iter().map(name).collect::<Vec<_>>())
}

fn policy(paths: &Paths, file: Option<&Path>, err: &mut dyn Write) -> Result<Policy, LoadError> {
    let Some(file) = file else { return super::policy_to_look(paths, err) };
    load_file(paths, file)
}

/// What a path stands for: manifests, a folder of them, or containers.
fn inputs(path: &Path) -> Vec<Input> {
    if stdin::is_it(path) {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes);
        let bytes = read.map(|_| bytes).map_err(|source| FileError::Read { path: path.to_owned(), source });
        return vec![Input::Manifest(File::of("stdin".to_owned(), path, bytes))];
    }
    if path.is_dir() {
        let mut inputs: Vec<Input> = manifests::in_folder(path).into_iter().map(Input::Manifest).collect();
        let has_containers = manifests::has_containers(path);
        if inputs.is_empty() && !has_containers {
            return vec![Input::Container(Case::nothing(path))];
        }
        if has_containers {
            inputs.extend(cases(path).into_iter().map(Input::Container));
        }
        return inputs;
    }
    let bytes = read(path, LARGEST);
    if manifests::has_name(path) || bytes.as_ref().is_ok_and(|bytes| manifests::is_manifest(bytes)) {
        return vec![Input::Manifest(File::of(shown(path), path, bytes))];
    }
    let too_large = |bytes: &Vec<u8>| u64::try_from(bytes.len()).is_ok_and(|length| length > LIMIT);
    let bytes = if bytes.as_ref().is_ok_and(too_large) { read(path, LIMIT) } else { bytes };
    vec![Input::Container(Case::of_file(path, bytes))]
}

fn json(object: &Object<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

/// Results for people.
struct Text<'t> {
    style: &'t Style,
    out: &'t mut dyn Write,
}

impl Text<'_> {
    /// One container or workload: the verdict, what is wrong with its fix, and what nobody here can see.
    fn object(&mut self, object: &Object<'_>, verdict: Verdict) -> io::Result<()> {
        let line = object.line.map_or_else(String::new, |line| format!(":{line}"));
        let name = object.name();
        let word = self.style.paint(Tone::of(verdict), &format!("{:<12}", object.verdict));
        if name == object.path {
            self.line(&format!("{word} "), &format!("{name}{line}"))?;
        } else {
            let document = object.document.map_or_else(String::new, |nth| format!(" (document {nth})"));
            self.line(&format!("{word} "), &escape(&name))?;
            self.row("file", &format!("{}{line}{document}", object.path))?;
        }
        let because = escape(&object.because);
        if object.level.is_empty() {
            self.row("because", &because)?;
        } else {
            self.row("level", &format!("{}:{}, {because}", object.level, object.version))?;
        }
        let mut unseen = Vec::new();
        for finding in &object.findings {
            if finding.certainty == Certainty::Unseen.name() {
                unseen.push(finding.control);
                continue;
            }
            let ours = if finding.origin == "upstream" { "" } else { " [pss-guard's own control]" };
            let (reason, detail) = (escape(&finding.reason), escape(&finding.detail));
            let line = finding.line.map_or_else(String::new, |line| format!(" (line {line})"));
            let tone = if finding.certainty == Certainty::Violates.name() { Tone::Bad } else { Tone::Odd };
            let word = self.style.paint(tone, &format!("{:<10}", finding.certainty));
            let says = format!("{}{ours}: {reason} ({detail}){line}", finding.control);
            self.line(&format!("  {word} "), &says)?;
            if finding.reported {
                self.row("", "reported only: nothing is refused by it")?;
            }
            if let Some(exception) = &finding.exception {
                self.row("", &format!("exception: {}", escape(exception)))?;
            }
            // A workload has its fixes merged, below.
            if object.workload.is_none() {
                self.yaml(&finding.fix)?;
            }
        }
        if let Some(note) = &object.note {
            self.row("note", &escape(note))?;
        }
        for fix in &object.fixes {
            self.row("fix", &escape(&fix.of()))?;
            self.yaml(&fix.yaml)?;
        }
        if !unseen.is_empty() {
            self.row("not seen", &format!("{} (`pss-guard explain` says why)", unseen.join(", ")))?;
        }
        Ok(())
    }

    fn row(&mut self, what: &str, says: &str) -> io::Result<()> {
        self.line(&format!("  {what:<10} "), says)
    }

    /// A text behind what it is about; where it goes on, it is indented as far. It must be escaped already.
    fn line(&mut self, first: &str, says: &str) -> io::Result<()> {
        writeln!(self.out, "{}", self.style.wrapped(first, 13, says))
    }

    /// What somebody copies stays as it is.
    fn yaml(&mut self, text: &str) -> io::Result<()> {
        text.lines()
            .try_for_each(|line| writeln!(self.out, "  {:<10} | {}", "", self.style.plain(&escape(line))))
    }
}
