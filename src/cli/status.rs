//! `pss-guard status`: checks that the gate is active.

use std::io::{self, Write};

use serde::Serialize;

use super::arguments::{AnswerFormat, Status as Arguments};
use super::{FAILED, OK};
use crate::level::Mode;
use crate::message::{SANDBOX, escape, line};
use crate::node::distribution::PLAIN;
use crate::node::root::Root;
use crate::output::terminal::{Style, Tone};
use crate::status::{Check, Checks, EngineStatus, Setting, State, Status};

/// Exit code: something starts past the gate, or is not as it should be.
pub const WRONG: u8 = 1;

/// The answer for machines.
#[derive(Serialize)]
struct Answer<'a> {
    /// Of which root directory.
    root: &'a Root,
    #[serde(flatten)]
    status: &'a Status,
}

/// How the answer for people looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With the names of the containers.
    pub containers: bool,
    /// Colours and width.
    pub style: Style,
}

/// Asks and answers.
pub fn status(
    setting: &Setting<'_>,
    root: &Root,
    arguments: &Arguments,
    look: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if arguments.running
        && let Root::Other(path) = root
    {
        let _ = writeln!(
            err,
            "pss-guard: {} is not the root of the running node: a volume of that has the mounts below it, and /proc among them",
            path.display()
        );
        return FAILED;
    }
    let status = setting.ask(arguments.engine);
    let is_json = arguments.json || arguments.format == AnswerFormat::Json;
    let written =
        if is_json { json(&Answer { root, status: &status }, out) } else { text(&status, look, out) };
    // A reader that went away (`| head`) has seen enough; the exit code still tells.
    if let Err(error) = written.and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = writeln!(err, "pss-guard: write the status: {}", line(&error));
        return FAILED;
    }
    match status.state {
        State::Ok | State::Note => OK,
        State::Unknown => FAILED,
        State::Open | State::Wrong => WRONG,
    }
}

fn json(answer: &Answer<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, answer)?;
    out.write_all(b"\n")
}

fn text(status: &Status, look: Look, out: &mut dyn Write) -> io::Result<()> {
    let Look { containers, style } = look;
    for line in style.wrapped("", 0, &headline(status)).lines() {
        writeln!(out, "{}", style.paint(Tone::Title, line))?;
    }
    if let Some(distribution) = status.distribution.filter(|name| *name != PLAIN.name) {
        writeln!(out, "distribution: {distribution}")?;
    }
    for engine in &status.engines {
        let method = engine.method.map(|method| format!(", {method} method")).unwrap_or_default();
        let version =
            engine.engine_version.as_deref().map(|said| format!(" ({})", escape(said))).unwrap_or_default();
        let says = format!("{}{method}: {}{version}", engine.engine, verdict(engine, status.is_running));
        writeln!(out, "{}", style.wrapped("", 2, &says))?;
        checks(&engine.checks, &style, out)?;
        if let Some(tally) = engine.containers.as_ref().filter(|_| containers) {
            for (how, list) in [
                ("passed", &tally.through_the_gate),
                ("before", &tally.before_the_gate),
                ("unproven", &tally.unproven),
                ("other kind", &tally.of_another_kind),
                ("past", &tally.past_the_gate),
            ] {
                list.iter().try_for_each(|(name, is_sandbox)| {
                    let sandbox = if is_sandbox { format!(" {SANDBOX}") } else { String::new() };
                    let name = escape(name) + &sandbox;
                    writeln!(out, "{}", style.wrapped(&format!("             {how:<14} "), 28, &name))
                })?;
            }
        }
    }
    if status.engines.is_empty() {
        writeln!(out, "no container engine that pss-guard knows is on this node")?;
    }
    writeln!(out, "policy")?;
    checks(&status.policy.checks, &style, out)
}

/// All of it in one line. Who reads no further must not take one engine's gate for that of all.
fn headline(status: &Status) -> String {
    let names = |has: &dyn Fn(&EngineStatus) -> bool| {
        let names: Vec<&str> =
            status.engines.iter().filter(|engine| has(engine)).map(|engine| engine.engine).collect();
        names.join(", ")
    };
    if status.state <= State::Note {
        let gated = names(&|engine| engine.method.is_some());
        if !status.is_running {
            return format!("installed: the gate is in place for {gated}; what runs there is not known");
        }
        return match status.policy.mode {
            Mode::Enforce => format!("enforcing: the gate is active for {gated}"),
            Mode::Audit => {
                format!("auditing: the gate is active for {gated}; nothing is refused in audit mode")
            }
        };
    }
    let mut of = names(&|engine| engine.state == status.state);
    if status.policy.checks.state() == status.state {
        of = if of.is_empty() { "policy".to_owned() } else { format!("{of}, policy") };
    }
    match status.state {
        State::Open => format!("open: some containers bypass the gate ({of})"),
        State::Unknown => format!("unknown: some checks could not be made ({of})"),
        _ if status
            .engines
            .iter()
            .all(|engine| engine.method.is_none() && engine.state != State::Unknown) =>
        {
            "WRONG: the gate is not active for any engine".to_owned()
        }
        _ => format!("WRONG: see {of} below"),
    }
}

fn verdict(engine: &EngineStatus, is_running: bool) -> &'static str {
    match engine.state {
        State::Ok | State::Note if engine.method.is_some() && !is_running => "the gate is in place",
        State::Note if engine.method.is_none() => "not gated, and no container of it runs",
        State::Ok | State::Note => "the gate is active",
        State::Open => "the gate is active, but not for everything",
        State::Unknown => "it is unknown whether the gate is active",
        State::Wrong => "the gate is not active",
    }
}

fn checks(checks: &Checks, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    for Check { check, state, says } in &checks.0 {
        let tone = match state {
            State::Ok => Tone::Good,
            State::Note => Tone::Faint,
            State::Unknown => Tone::Odd,
            State::Open | State::Wrong => Tone::Bad,
        };
        let state = if *state == State::Wrong { "WRONG" } else { state.name() };
        let first = format!("  {} {check:<14} ", style.paint(tone, &format!("{state:<8}")));
        writeln!(out, "{}", style.wrapped(&first, 26, says))?;
    }
    Ok(())
}
