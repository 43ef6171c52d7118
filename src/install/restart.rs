//! Restarts an engine: by systemd, or by a command that the admin names.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use crate::message::{cut, escape};
use crate::node::run::{RunError, run};

/// How long a restart may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long an engine may take to go by a configuration that it was told to read again.
pub const RELOAD: Duration = Duration::from_secs(10);

/// How long an engine may take that its distribution restarts: k0s waits for 3 s until nothing more changes.
pub const ITSELF: Duration = Duration::from_secs(60);

/// How an engine is restarted.
#[derive(Clone, Copy, Debug)]
pub enum Restart<'a> {
    /// This systemd unit.
    Unit(&'a str),
    /// This systemd unit, which reads its configuration again and stops nothing.
    Reload(&'a str),
    /// By this command, which a shell runs.
    Command(&'a str),
    /// By this distribution, as soon as its folder of drop-ins changes.
    Itself(&'a str),
}

/// Why an engine was not restarted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The command cannot be run, or hangs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The distribution that is to restart it has not done so.
    #[error("{who} has not restarted it within {} s", ITSELF.as_secs())]
    Silent {
        /// The distribution.
        who: String,
    },
    /// The command says no.
    #[error("`{command}` failed with {how}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        how: String,
        /// The lines that it complained with, safe for a terminal.
        said: Vec<String>,
    },
}

impl RestartError {
    /// What the command complained with, line by line.
    #[must_use]
    pub fn said(&self) -> &[String] {
        match self {
            Self::Run(_) | Self::Silent { .. } => &[],
            Self::Failed { said, .. } => said,
        }
    }
}

impl fmt::Display for Restart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "systemctl restart {unit}"),
            Self::Reload(unit) => write!(f, "systemctl reload {unit}"),
            Self::Command(text) => f.write_str(&escape(text)),
            Self::Itself(who) => write!(f, "{who} restarts it by itself"),
        }
    }
}

/// Restarts an engine; containers go on meanwhile. The command may take as long as `patience` says.
pub fn restart(how: Restart<'_>, patience: Duration) -> Result<(), RestartError> {
    let (program, arguments) = match how {
        Restart::Unit(unit) => ("systemctl", ["restart", unit]),
        Restart::Reload(unit) => ("systemctl", ["reload", unit]),
        Restart::Command(text) => ("/bin/sh", ["-c", text]),
        Restart::Itself(_) => return Ok(()),
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let done = run(&mut command, patience)?;
    if done.ok {
        return Ok(());
    }
    let text = if done.stderr.trim().is_empty() { &done.stdout } else { &done.stderr };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let said = lines.take(MOST_LINES).map(|line| cut(&escape(line.trim_end()), 300)).collect();
    Err(RestartError::Failed { command: how.to_string(), how: done.how, said })
}

/// As many lines are shown of what a restart complains with.
const MOST_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Restart, RestartError, restart};

    #[test]
    fn a_restart_that_fails_says_what_the_command_said() {
        let patience = Duration::from_secs(2);
        restart(Restart::Command("exit 0"), patience).unwrap();
        let error = restart(
            Restart::Command("echo unit is masked >&2; echo; echo >&2; echo 'a\tb' >&2; exit 3"),
            patience,
        );
        let error = error.unwrap_err();
        assert!(error.to_string().ends_with("exit 3` failed with exit status 3"), "{error}");
        assert_eq!(error.said(), ["unit is masked", "a\\tb"]);
        let error = restart(Restart::Command("false"), patience).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.said().len()),
            ("`false` failed with exit status 1", 0)
        );
        let error = restart(Restart::Command("sleep 60"), patience).unwrap_err();
        assert!(matches!(error, RestartError::Run(_)), "{error}");
    }
}
