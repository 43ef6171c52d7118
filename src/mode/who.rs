//! Names the person who started this process, from what the kernel and sudo know.

use std::fs;
use std::io::IsTerminal as _;

/// What `/proc/self/loginuid` says of a process that nobody logged in for.
const NOBODY: &str = "4294967295";

/// The person in one line, such as `alice (login uid 1000), uid 0, pts/3`.
///
/// The login uid stays with a session whatever it becomes by su or sudo (pam_loginuid(8)), so it comes first; without
/// an audit system it is missing, and sudo's word has to do.
#[must_use]
pub fn current() -> String {
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    // Anybody's word: no name is longer.
    let sudo: String = std::env::var("SUDO_USER").unwrap_or_default().chars().take(64).collect();
    say(login.trim(), &users, &sudo, nix::unistd::getuid().as_raw(), &terminal())
}

fn say(login: &str, users: &str, sudo: &str, uid: u32, terminal: &str) -> String {
    let login = Some(login).filter(|uid| !uid.is_empty() && *uid != NOBODY);
    let name = login.and_then(|login| name(users, login));
    let mut parts = Vec::new();
    match (name, login) {
        (Some(name), Some(login)) => parts.push(format!("{name} (login uid {login})")),
        (None, Some(login)) => parts.push(format!("login uid {login}")),
        (_, None) => {}
    }
    if !sudo.is_empty() && name != Some(sudo) {
        parts.push(format!("{sudo} by sudo"));
    }
    parts.push(format!("uid {uid}"));
    if !terminal.is_empty() {
        parts.push(terminal.to_owned());
    }
    parts.join(", ")
}

/// The name of a user, where the node's own list has it.
fn name<'a>(users: &'a str, uid: &str) -> Option<&'a str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

fn terminal() -> String {
    let is =
        [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()];
    let link = is.iter().position(|is| *is).and_then(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok());
    let path = link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
    path.strip_prefix("/dev/").unwrap_or(&path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::say;

    #[test]
    fn the_login_comes_before_what_it_became() {
        let users = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\nbroken\n";
        let rows = [
            ("1000", "alice", "pts/3", "alice (login uid 1000), uid 0, pts/3"),
            ("1000", "", "", "alice (login uid 1000), uid 0"),
            ("1000", "bob", "tty1", "alice (login uid 1000), bob by sudo, uid 0, tty1"),
            ("2000", "", "", "login uid 2000, uid 0"),
            ("4294967295", "alice", "", "alice by sudo, uid 0"),
            ("4294967295", "", "", "uid 0"),
            ("", "", "", "uid 0"),
        ];
        for (login, sudo, terminal, expected) in rows {
            assert_eq!(say(login, users, sudo, 0, terminal), expected);
        }
    }
}
