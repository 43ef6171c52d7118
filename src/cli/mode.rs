//! `pss-guard mode`: shows or changes the mode of the node.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::arguments::{AnswerFormat, Mode as Arguments};
use super::ask::ask;
use super::{FAILED, OK, faults_of_anchors, line};
use crate::install::sandboxes::unseen_on;
use crate::install::units;
use crate::level::Mode;
use crate::level::cache::{self, LoadError, Loaded};
use crate::level::date::rfc3339;
use crate::message::escape;
use crate::mode::change::{self, ChangeError, Permanent, Written};
use crate::mode::end::Author;
use crate::mode::temporary::{State, Temporary};
use crate::mode::view::View;
use crate::mode::{InForce, in_force, who};
use crate::node::distribution::{Distribution, PLAIN};
use crate::output::terminal::Bar;
use crate::paths::Paths;
use crate::report::preflight;
use crate::scan::Setting;
use crate::time;

/// Exit code: nothing was changed, because nobody confirmed it or because a pod of the system would be refused.
pub const LEFT: u8 = 1;

/// Shows or changes the mode.
pub fn mode(setting: &Setting, arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let done = match arguments.mode {
        Some(mode) => set(setting, mode, arguments, out, err),
        None if arguments.end => end(&setting.paths, &arguments.reason, out, err),
        None => {
            let is_json = arguments.json || arguments.format == AnswerFormat::Json;
            show(&setting.paths, is_json, out, err)
        }
    };
    match done {
        Ok(code) => code,
        // A reader that went away (`| head`) has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: write to standard output: {}", line(&error));
            FAILED
        }
    }
}

fn set(
    setting: &Setting,
    mode: Mode,
    arguments: &Arguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let (paths, time) = (&setting.paths, arguments.time);
    // Before anybody is asked: an answer must not lead to nothing.
    let possible = match time {
        Some(_) => change::as_root(),
        None => change::can_be_permanent(paths, mode),
    };
    if let Err(error) = possible {
        return Ok(failed(err, &error));
    }
    if mode == Mode::Enforce {
        if let Ok(policy) = cache::load(paths).policy()
            && let Some(unseen) = unseen_on(policy, &setting.live)
        {
            writeln!(err, "pss-guard: {}: {unseen}", paths.policy().display())?;
            return Ok(FAILED);
        }
        let distribution = Distribution::of(&setting.live, &setting.processes);
        let distribution = distribution.as_ref().unwrap_or(&PLAIN);
        let faults = faults_of_anchors(paths, &setting.processes, distribution);
        for fault in &faults {
            writeln!(err, "pss-guard: {}", line(fault))?;
        }
        if !faults.is_empty() {
            return Ok(FAILED);
        }
    }
    if mode == Mode::Enforce && units::engines(&setting.live).is_empty() {
        writeln!(
            err,
            "pss-guard: no gate is installed here: nothing is refused until `pss-guard install` installs it"
        )?;
    }
    let now = now(paths).1;
    if mode == Mode::Enforce && !(now.mode == mode && (time.is_some() || now.policy == mode)) {
        match confirm(setting, arguments, out, err)? {
            Answer::Yes => {}
            Answer::No(code) => return Ok(code),
        }
    }
    let who = who::current();
    let author = Author { who: &who, reason: &arguments.reason };
    let Some(time) = time else {
        return match change::permanently(paths, mode, author) {
            Ok(done) => tell_permanent(paths, mode, &done, out).map(|()| OK),
            Err(error) => Ok(failed(err, &error)),
        };
    };
    match change::for_a_time(paths, mode, time, author) {
        Err(error) => Ok(failed(err, &error)),
        Ok((temporary, replaced)) => {
            if let Some(old) = replaced {
                writeln!(out, "{} is replaced", describe(&old))?;
            }
            tell_temporary(&temporary, now.policy, out)?;
            Ok(OK)
        }
    }
}

fn end(paths: &Paths, reason: &str, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let who = who::current();
    match change::end(paths, Author { who: &who, reason }) {
        Err(error) => return Ok(failed(err, &error)),
        Ok(InForce { mode, temporary: State::Holds(old), .. }) => {
            writeln!(out, "ended {}; the mode is {mode} again", describe(&old))?;
        }
        Ok(InForce { mode, temporary: State::Ignored(why), .. }) => {
            writeln!(
                out,
                "removed a file that was not trusted ({}); the mode is {mode}, as before",
                line(&why)
            )?;
        }
        Ok(InForce { mode, temporary: State::None | State::Ended(..), .. }) => {
            writeln!(out, "no temporary mode is active; the mode is {mode}")?;
        }
    }
    Ok(OK)
}

enum Answer {
    Yes,
    No(u8),
}

/// Says what enforcing would break, and asks.
fn confirm(
    setting: &Setting,
    arguments: &Arguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Answer> {
    let bar = Bar::on_stderr();
    let outlook = preflight::look(setting, &|done, all| bar.show(done, all));
    bar.clear();
    let shown = outlook.says.iter().try_for_each(|sentence| writeln!(out, "{sentence}"));
    match shown.and_then(|()| out.flush()) {
        // A reader that went away has not said no.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    if !outlook.system.is_empty() && !arguments.force {
        let system = outlook.system.join(", ");
        let _ = writeln!(
            err,
            "pss-guard: enforce mode would refuse what this node needs: {system}; exempt its namespace, or use --force"
        );
        return Ok(Answer::No(LEFT));
    }
    let yes = arguments.yes || ask("Enforce?", "enforce", err);
    Ok(if yes { Answer::Yes } else { Answer::No(LEFT) })
}

fn tell_permanent(paths: &Paths, mode: Mode, done: &Permanent, out: &mut dyn Write) -> io::Result<()> {
    let file = done.file.display();
    match done.written {
        Written::Nothing if done.closed.is_none() => {
            writeln!(out, "{file} says mode {mode} already; nothing changed")?;
        }
        Written::Nothing => writeln!(out, "{file} says mode {mode} already")?,
        Written::Changed => writeln!(out, "mode {mode}, written into {file}")?,
        Written::Created => writeln!(out, "mode {mode}, written into {file}, which was not there before")?,
    }
    if let Some(old) = &done.closed {
        writeln!(out, "ended {}", describe(old))?;
    }
    if mode == Mode::Enforce
        && let Loaded::Good(policy) = cache::load(paths)
        && policy.defaults.enforce.level == crate::pss::Level::Privileged
    {
        writeln!(
            out,
            "the default enforce level is privileged: only namespaces and pods that ask for a stricter one \
             are affected"
        )?;
    }
    Ok(())
}

fn tell_temporary(temporary: &Temporary, policy: Mode, out: &mut dyn Write) -> io::Result<()> {
    let (mode, until) = (temporary.mode, rfc3339(temporary.until()));
    let length = time::length(temporary.length().unwrap_or_default());
    writeln!(out, "mode {mode} for {length}, until {until}; then {policy}")?;
    writeln!(out, "it ends by itself, or with a reboot; `pss-guard mode --end` ends it earlier")
}

/// Whose temporary mode it is, and how long it would have held.
fn describe(temporary: &Temporary) -> String {
    let left = time::length(temporary.left());
    format!("the {} of {} ({left} left)", temporary.name(), escape(&temporary.who))
}

fn failed(err: &mut dyn Write, error: &ChangeError) -> u8 {
    let _ = writeln!(err, "pss-guard: {}", line(error));
    FAILED
}

fn now(paths: &Paths) -> (Loaded, InForce) {
    let loaded = cache::load(paths);
    let in_force = in_force(paths, loaded.mode());
    in_force.settle(paths);
    (loaded, in_force)
}

/// What `mode` says without an argument.
#[derive(Serialize)]
struct Shown<'a> {
    mode: Mode,
    because: String,
    since: Option<String>,
    policy: Mode,
    temporary: Option<View<'a>>,
    ignored: Option<String>,
}

fn show(paths: &Paths, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let (loaded, in_force) = now(paths);
    // What this user cannot see is no fault of the policy, and the gate sees it.
    if let Some(error @ LoadError::File(file)) = loaded.fault()
        && file.is_denied()
    {
        let _ = writeln!(err, "pss-guard: only root can read the mode here: {}", line(error));
        return Ok(FAILED);
    }
    let path = paths.policy();
    let source = match &loaded {
        Loaded::Good(_) => Some(path.clone()),
        Loaded::Kept { .. } => Some(paths.kept_policy()),
        Loaded::Bad { .. } => None,
    };
    let changed = source.and_then(|source| fs::metadata(source).and_then(|file| file.modified()).ok());
    let because = match &loaded {
        Loaded::Good(policy) if policy.file.is_none() => {
            format!("no {}: the built-in defaults", path.display())
        }
        Loaded::Good(_) => path.display().to_string(),
        Loaded::Kept { error, .. } => format!("the last good policy: {}", line(error)),
        Loaded::Bad { error, .. } => format!("what is left of the policy: {}", line(error)),
    };
    let mut shown = Shown {
        mode: in_force.mode,
        because,
        since: changed.map(rfc3339),
        policy: in_force.policy,
        temporary: None,
        ignored: None,
    };
    let mut since = changed;
    match &in_force.temporary {
        State::Holds(temporary) => {
            since = Some(temporary.since());
            let view = View::of(temporary);
            view.name.clone_into(&mut shown.because);
            shown.since = Some(view.since.clone());
            shown.temporary = Some(view);
        }
        State::Ignored(why) => shown.ignored = Some(line(why)),
        State::None | State::Ended(..) => {}
    }
    if json {
        serde_json::to_writer(&mut *out, &shown)?;
        out.write_all(b"\n")?;
    } else {
        text(&shown, since, out)?;
    }
    Ok(OK)
}

fn text(shown: &Shown<'_>, since: Option<SystemTime>, out: &mut dyn Write) -> io::Result<()> {
    let means = match shown.mode {
        Mode::Audit => "violations are logged, nothing is stopped",
        Mode::Enforce => "what violates the enforce level is stopped",
    };
    writeln!(out, "{}: {means}", shown.mode)?;
    let mut row = |name: &str, text: &str| writeln!(out, "  {name:<8} {}", escape(text));
    row("because", &shown.because)?;
    if let Some(View { who, reason, .. }) = &shown.temporary {
        row("by", who)?;
        row("reason", if reason.is_empty() { "none given" } else { reason })?;
    }
    if let (Some(text), Some(since)) = (&shown.since, since) {
        let ago = SystemTime::now().duration_since(since).unwrap_or_default();
        row("since", &format!("{text} ({} ago)", time::length(ago)))?;
    }
    match &shown.temporary {
        Some(View { until, left_seconds, .. }) => {
            let left = time::length(Duration::from_secs(*left_seconds));
            row("until", &format!("{until} ({left} left), then {}", shown.policy))?;
        }
        None => row("until", "changed")?,
    }
    if let Some(ignored) = &shown.ignored {
        row("ignored", ignored)?;
    }
    Ok(())
}
