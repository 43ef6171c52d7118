//! Reads how OpenRC starts a service: what its script assigns to `command` and `command_args`, and the variables that it
//! exports (openrc-run(8)). A script can do anything, so what is no literal text is an error, and no guess.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::host::Node;
use super::systemd::{Service, UnitError, unclear, words};

/// Where the scripts are.
const SCRIPTS: &str = "/etc/init.d";

/// Where the settings of a script are, by its name. They are read before it.
const SETTINGS: &str = "/etc/conf.d";

/// The names of the scripts that begin with this.
#[must_use]
pub fn beginning(node: &dyn Node, prefix: &str) -> Vec<String> {
    let mut names = node.list(Path::new(SCRIPTS));
    names.retain(|name| name.starts_with(prefix));
    names
}

/// How a service is started; `None` if there is no such script.
pub fn service(node: &dyn Node, name: &str) -> Result<Option<Service>, UnitError> {
    let file = Path::new(SCRIPTS).join(name);
    let Some(script) = text(node, &file)? else { return Ok(None) };
    let settings = text(node, &Path::new(SETTINGS).join(name))?.unwrap_or_default();
    let (mut all, mut variables) = (vec![settings, script.clone()], BTreeMap::new());
    for text in &all {
        variables.extend(assignments(text).into_iter().filter(|one| one.exported).map(Assignment::variable));
    }
    let exports_all = script.contains("allexport");
    for path in sourced(&file, &script)? {
        let text = text(node, &path)?.unwrap_or_default();
        let own = assignments(&text).into_iter().filter(|one| one.exported || exports_all);
        variables.extend(own.map(Assignment::variable));
        all.push(text);
    }
    // With one of its own it need not start what it assigns.
    if script.contains("start()") || script.contains("start ()") {
        return Err(unclear(&file, "it has a start() of its own".to_owned()));
    }
    let literal = |name: &str| {
        let mut values = all.iter().flat_map(|text| assignments(text)).filter(|one| one.name == name);
        let value = values.next().and_then(|one| one.value).filter(|value| !value.contains(['$', '`']));
        value.filter(|_| values.next().is_none())
    };
    // Also `command_args_foreground`, and what a condition assigns.
    let mentions = |name: &str| -> usize {
        all.iter().flat_map(|text| statements(text)).map(|line| line.matches(name).count()).sum()
    };
    let (Some(program), Some(arguments), 1) =
        (literal("command"), literal("command_args"), mentions("command_args"))
    else {
        let what = "it does not assign command= and command_args= once, as literal texts";
        return Err(unclear(&file, what.to_owned()));
    };
    let mut command = vec![program];
    command.extend(words(&file, &arguments)?.into_iter().take_while(|word| !is_redirection(word)));
    let written = command.clone();
    Ok(Some(Service { file, written, command, variables, directory: None, covered: Vec::new() }))
}

/// The text of a file, if there is one.
fn text(node: &dyn Node, path: &Path) -> Result<Option<String>, UnitError> {
    let Some(bytes) = node.read(path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| unclear(path, "it is no UTF-8 text".to_owned()))
}

/// The statements of a script, as far as lines, `;` and the words before a command tell them.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split(';')).map(|statement| {
        let statement = statement.trim();
        let begins = ["then ", "do ", "else "].iter().find_map(|word| statement.strip_prefix(word));
        begins.unwrap_or(statement).trim_start()
    })
}

/// The files that a script reads into itself.
fn sourced(file: &Path, script: &str) -> Result<Vec<PathBuf>, UnitError> {
    let mut paths = Vec::new();
    for statement in statements(script) {
        let Some(("." | "source" | "sourcex", path)) = statement.split_once(' ') else { continue };
        let path = words(file, path)?.into_iter().next().unwrap_or_default();
        if !path.starts_with('/') || path.contains(['$', '`', '*']) {
            return Err(unclear(file, format!("it reads {path:?}")));
        }
        paths.push(PathBuf::from(path));
    }
    Ok(paths)
}

fn is_redirection(word: &str) -> bool {
    word.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '&').starts_with(['>', '<'])
}

/// `NAME=value` at the begin of a line.
struct Assignment {
    name: String,
    /// `None` if it takes a shell to know it.
    value: Option<String>,
    exported: bool,
}

impl Assignment {
    /// As a variable. One that takes a shell to know keeps a `$`, which no path has.
    fn variable(self) -> (String, String) {
        (self.name, self.value.unwrap_or_else(|| "$".to_owned()))
    }
}

fn assignments(text: &str) -> Vec<Assignment> {
    let (mut all, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let line = rest.trim_start_matches([' ', '\t']);
        let (line, exported) =
            line.strip_prefix("export ").map_or((line, false), |line| (line.trim_start(), true));
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        rest = match line.split_once('=').filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                let (value, after) = value(after);
                all.push(Assignment { name: name.to_owned(), value, exported });
                after
            }
            None => line,
        };
        rest = rest.split_once('\n').map_or("", |(_, next)| next);
    }
    all
}

/// The value at the begin of a text, with the shell's quotes, and what follows it.
fn value(text: &str) -> (Option<String>, &str) {
    let (mut done, mut is_literal, mut quote) = (String::new(), true, None);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => quote = Some(letter),
            ('\\', None | Some('"')) => match letters.next() {
                Some((_, '\n')) => {}
                Some((_, escaped)) => {
                    if quote.is_some() && !['\\', '"', '$', '`'].contains(&escaped) {
                        done.push('\\');
                    }
                    done.push(escaped);
                }
                None => is_literal = false,
            },
            ('$' | '`', None | Some('"')) | ('(', None) => is_literal = false,
            (_, None) if letter.is_whitespace() || [';', '&', '|'].contains(&letter) => {
                return (is_literal.then_some(done), text.get(at..).unwrap_or_default());
            }
            _ => done.push(letter),
        }
    }
    ((is_literal && quote.is_none()).then_some(done), "")
}

#[cfg(test)]
mod tests {
    use super::service;
    use crate::node::host::fake::Fake;

    const SCRIPT: &str = "/etc/init.d/k3s";
    /// As the install script of k3s writes it.
    const HEAD: &str = "#!/sbin/openrc-run\n\ndepend() {\n    after network-online\n}\n\nsupervisor=supervise-daemon\nname=k3s\n\
                        command=\"/usr/local/bin/k3s\"\n";
    const TAIL: &str = "\n    >>/var/log/k3s.log 2>&1\"\n\nset -o allexport\n\
                        if [ -f /etc/environment ]; then sourcex /etc/environment; fi\n\
                        if [ -f /etc/rancher/k3s/k3s.env ]; then . /etc/rancher/k3s/k3s.env; fi\nset +o allexport\n";

    #[test]
    fn a_script_tells_its_command_and_its_variables() {
        let script = |arguments: &str| {
            Fake::default().file(SCRIPT, &format!("{HEAD}command_args=\"{arguments}{TAIL}"))
        };
        #[rustfmt::skip]
        let rows: [(Fake, &[&str], Option<&str>); 5] = [
            (script("server --data-dir /data/k3s"), &["server", "--data-dir", "/data/k3s"], None),
            (script("server \\\n\t'--data-dir' \\\n\t'/a b' \\\n"), &["server", "--data-dir", "/a b"], None),
            (script("server").file("/etc/rancher/k3s/k3s.env", "K3S_DATA_DIR='/e'\n"), &["server"], Some("/e")),
            (script("server").file("/etc/conf.d/k3s", "rc_ulimit=\"-n 1\"\nexport K3S_DATA_DIR=/c # ours\n"), &["server"], Some("/c")),
            // It stays in the shell.
            (script("server").file("/etc/conf.d/k3s", "K3S_DATA_DIR=/c\n"), &["server"], None),
        ];
        for (node, arguments, data) in rows {
            let found = service(&node, "k3s").unwrap().unwrap();
            assert_eq!(found.command[0], "/usr/local/bin/k3s");
            assert_eq!(found.command[1..], *arguments, "{node:?}");
            assert_eq!(found.variables.get("K3S_DATA_DIR").map(String::as_str), data, "{node:?}");
        }
        assert_eq!(service(&Fake::default(), "k3s").unwrap(), None);
    }

    #[test]
    fn what_takes_a_shell_to_know_is_no_guess() {
        let script = |more: &str| Fake::default().file(SCRIPT, &format!("{HEAD}{more}\n"));
        let literal = "command_args=\"server\"\n";
        #[rustfmt::skip]
        let rows = [
            (script(""), "once, as literal texts"),
            (script("command_args=\"server $MORE\""), "once, as literal texts"),
            (script("command_args='server --data-dir $D'"), "once, as literal texts"),
            (script(&format!("{literal}command_args=\"agent\"")), "once, as literal texts"),
            (script(&format!("{literal}[ -e /x ] && command_args=\"$command_args -d /x\"")), "once, as literal texts"),
            (script(&format!("{literal}command_args_foreground=\"-d /x\"")), "once, as literal texts"),
            (script(literal).file("/etc/conf.d/k3s", "command_args=\"server -d /x\"\n"), "once, as literal texts"),
            (script(&format!("{literal}command=/opt/k3s")), "once, as literal texts"),
            (script(&format!("{literal}start() {{\n    k3s server\n}}")), "a start() of its own"),
            (script(&format!("{literal}. \"$RC_DIR/x\"")), "it reads"),
        ];
        for (node, what) in rows {
            let says = service(&node, "k3s").unwrap_err().to_string();
            assert!(says.starts_with(SCRIPT) && says.contains(what), "{node:?}: {says}");
        }
    }
}
