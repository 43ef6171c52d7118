//! What does a real shell make of a tab? bash, zsh and fish with the scripts that `completions` prints, each in a terminal.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::captured::{Captured, config};
use crate::support::terminal::Terminal;
use crate::support::{files, needs, program, run};

/// What is typed behind `pss-guard `, and what stands there after a tab. `NODE` is a root directory.
const ROWS: [(&str, &str); 13] = [
    ("unins", "uninstall"),
    ("explain runAsN", "explain runAsNonRoot"),
    ("scan --control=hostPo", "scan --control=hostPorts"),
    ("scan --level res", "scan --level restricted"),
    ("scan --level restricted:l", "scan --level restricted:latest"),
    ("scan --level=restricted:l", "scan --level=restricted:latest"),
    ("status --engine cont", "status --engine containerd"),
    ("install --distribution fl", "install --distribution flatcar"),
    ("policy show --for", "policy show --format"),
    ("--root NODE scan --namespace sh", "--root NODE scan --namespace shop"),
    ("--root=NODE report --namespace ru", "--root=NODE report --namespace running"),
    ("policy check ./po", "policy check ./policy.toml"),
    ("check --policy=./po", "check --policy=./policy.toml"),
];

/// Names that are no namespace's, and that a shell would make more of than a word. Each begins as a real one does.
const HOSTILE: [&str; 10] = [
    "sh$(touch taken)",
    "sh`touch taken`",
    "sh;touch taken",
    "sh op",
    "sh'op",
    "sh\"op",
    "sh\nop",
    "sh\top",
    "sh\\op",
    "sh\u{1b}[31mop",
];

/// A node that knows namespaces by their files and by what runs.
fn node() -> Captured {
    let node = Captured::new();
    let imported = node.root().join("run/pss-guard/namespaces");
    files::write(&imported.join("shop.json"), "{}");
    for (number, name) in HOSTILE.iter().enumerate() {
        files::write(&imported.join(format!("{name}.json")), "{}");
        node.lay("containerd", &format!("0{number}"), &config(name, "web-0", "app", true));
    }
    node.lay("containerd", "11", &config("running", "web-0", "app", true));
    node
}

/// A shell, the file that its script goes to, and how it is started in its home.
struct Shell {
    name: &'static str,
    script: &'static str,
    setting: (&'static str, &'static str),
    command: &'static [&'static str],
}

const SHELLS: [Shell; 4] = [
    Shell {
        name: "bash",
        script: "pss-guard",
        setting: ("rc", "PS1='$ '\nbind 'set bell-style none'\nsource ~/pss-guard\n"),
        command: &["bash", "--noprofile", "--rcfile", "rc", "-i"],
    },
    Shell {
        name: "zsh",
        script: "functions/_pss-guard",
        setting: (".zshrc", "PS1='$ '\nfpath=(~/functions $fpath)\nautoload -Uz compinit\ncompinit -u\n"),
        command: &["zsh", "-d", "-i"],
    },
    Shell {
        name: "zsh",
        script: "pss-guard.zsh",
        setting: (".zshrc", "PS1='$ '\nautoload -Uz compinit\ncompinit -u\nsource ~/pss-guard.zsh\n"),
        command: &["zsh", "-d", "-i"],
    },
    Shell {
        name: "fish",
        script: ".config/fish/completions/pss-guard.fish",
        setting: (
            ".config/fish/config.fish",
            "set -g fish_greeting\nset -g fish_autosuggestion_enabled 0\nfunction fish_prompt\necho -n '$ '\nend\n",
        ),
        command: &["fish", "-i"],
    },
];

impl Shell {
    /// Starts it in a home of its own.
    fn open(&self, home: &Path) -> Terminal {
        let script =
            run::run(Command::new(program::binary()).args(["completions", self.name])).expect_success();
        files::write(&home.join(self.script), &script.stdout);
        files::write(&home.join(self.setting.0), self.setting.1);
        files::write(&home.join("policy.toml"), "");
        let programs = program::binary().parent().expect("a folder").display().to_string();
        let path = format!("PATH={programs}:{}", std::env::var("PATH").unwrap_or_default());
        let home_is = format!("HOME={}", home.display());
        let clear = ["env", "-u", "ZDOTDIR", "-u", "XDG_CONFIG_HOME", "-u", "XDG_DATA_HOME", &path, &home_is];
        Terminal::open(home, &[&clear[..], self.command].concat())
    }
}

#[test]
fn a_tab_completes_a_word_in_every_shell_and_runs_nothing() {
    let test = "completions::a_tab_completes_a_word_in_every_shell_and_runs_nothing";
    if !needs::can_run(test, &["tmux", "bash", "zsh", "fish"]) {
        return;
    }
    let node = node();
    let root = node.root().display().to_string();
    for shell in SHELLS {
        let home = tempfile::tempdir().expect("a temporary directory");
        let terminal = shell.open(home.path());
        // Joined, because a line is longer than the terminal.
        let line = || {
            terminal
                .screen(&["-J"])
                .lines()
                .rfind(|line| !line.is_empty())
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        };
        let ready = run::within(Duration::from_secs(30), || line() == "$");
        assert!(ready, "{}: {}", shell.script, terminal.screen(&[]));
        for (typed, completed) in ROWS {
            terminal.press(&["C-u"]);
            terminal.press(&["-l", &format!("pss-guard {}", typed.replace("NODE", &root))]);
            terminal.press(&["Tab"]);
            let expected = format!("$ pss-guard {}", completed.replace("NODE", &root));
            let is_there = run::within(Duration::from_secs(20), || line() == expected);
            assert!(
                is_there,
                "{}, {typed}: {:?} is not {expected:?}\n{}",
                shell.script,
                line(),
                terminal.screen(&[])
            );
        }
        for taken in [home.path().join("taken"), node.root().join("taken")] {
            assert!(!taken.exists(), "{} ran a name", shell.script);
        }
    }
}

/// What shells are told, byte by byte; also where nothing can be read.
#[test]
fn only_names_of_namespaces_are_offered_and_nothing_is_ever_said() {
    let node = node();
    let ask = |root: &Path, typed: &str| {
        let root = root.display().to_string();
        let words = ["__complete", "--", "--root", &root, "scan", "--namespace", typed];
        let done = run::run(Command::new(program::binary()).args(words)).expect_success();
        assert_eq!(done.stderr, "");
        done.stdout
    };
    assert_eq!(ask(node.root(), ""), "words\nkube-system\t\nrunning\t\nshop\t\n");
    assert_eq!(ask(node.root(), "sh"), "words\nshop\t\n");
    assert_eq!(ask(&node.root().join("nothing"), ""), "words\nkube-system\t\n");
    files::write(
        &node.root().join("etc/pss-guard/policy.toml"),
        "[namespaces.ops]\nenforce = \"baseline\"\n",
    );
    assert_eq!(ask(node.root(), "o"), "words\nops\t\n");
    files::write(&node.root().join("etc/pss-guard/policy.toml"), "[");
    assert!(ask(node.root(), "sh").starts_with("words\nshop\t\n"));
}
