//! A terminal to look at.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{program, random, run};

/// A real terminal of so many columns, in which a command runs.
pub(crate) struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs the program about a root, with this command line.
    pub(crate) fn show(columns: &str, root: &Path, variables: &[&str], line: &str) -> Self {
        let terminal = Self { socket: format!("pss-guard-{}", &random::id()[..12]) };
        let script = format!("\"$@\" {line}; echo \"ended with $?\"; exec sleep 600");
        let mut tmux =
            terminal.tmux(&["-f", "/dev/null", "-u", "new-session", "-d", "-x", columns, "-y", "90"]);
        tmux.args(["env", "-u", "COLUMNS", "-u", "NO_COLOR", "LC_ALL=C.UTF-8"]).args(variables);
        tmux.args(["sh", "-c", &script, "sh"]).arg(program::binary()).arg("--root").arg(root);
        run::run(&mut tmux).expect_success();
        terminal
    }

    /// Runs a command in a folder, for somebody to type.
    pub(crate) fn open(folder: &Path, command: &[&str]) -> Self {
        let terminal = Self { socket: format!("pss-guard-{}", &random::id()[..12]) };
        let mut tmux =
            terminal.tmux(&["-f", "/dev/null", "-u", "new-session", "-d", "-x", "160", "-y", "50", "-c"]);
        run::run(tmux.arg(folder).args(command)).expect_success();
        terminal
    }

    /// Presses keys, as `tmux send-keys` names them.
    pub(crate) fn press(&self, keys: &[&str]) {
        run::run(&mut self.tmux(&[&["send-keys"], keys].concat())).expect_success();
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket]).args(arguments).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        tmux
    }

    /// What is to be seen, and how it is coloured.
    pub(crate) fn screen(&self, options: &[&str]) -> String {
        run::run(&mut self.tmux(&[&["capture-pane", "-p"], options].concat())).stdout
    }

    /// The same when the command has ended.
    pub(crate) fn end(&self, options: &[&str]) -> String {
        let ended = || self.screen(&[]).contains("ended with ");
        assert!(run::within(Duration::from_secs(60), ended), "{}", self.screen(&[]));
        self.screen(options)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        run::run(&mut self.tmux(&["kill-server"]));
    }
}
