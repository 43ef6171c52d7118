//! How do answers look? The same question asked by a person at a terminal, by a pipe, and by a program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::captured::{Captured, config};
use crate::support::run::{self, Done};
use crate::support::terminal::Terminal;
use crate::support::{files, needs, program};

const POLICY: &str = "mode = \"enforce\"\n\
    [defaults]\nenforce = \"restricted\"\n\
    [namespaces.shop]\nenforce = \"baseline\"\n\
    [[exceptions]]\nnamespace = \"shop\"\ncontrols = [\"hostPathVolumes\", \"restrictedVolumes\", \"runAsNonRoot\"]\n\
    reason = \"reads all of the host's logs, which are in /var/log, and will be replaced by an agent of the host\"\n\
    expires = 2027-06-30\n";

/// A node with a policy, namespaces, and a file whose name is an instruction to a terminal.
fn node() -> Captured {
    let node = Captured::new();
    files::write(&node.root().join("etc/pss-guard/policy.toml"), POLICY);
    files::write(&node.root().join("run/pss-guard/namespaces/ops.json"), LABELS);
    files::write(&node.root().join("run/pss-guard/namespaces/shop.json"), "{}");
    let mut bad = config("shop", "db-0", "database", false);
    bad["process"] = json!({"user": {"uid": 0}});
    files::write(&node.root().join(format!("{EVIL}/config.json")), &bad.to_string());
    node
}

const LABELS: &str = "{\"pod-security.kubernetes.io/enforce\":\"baseline\",\"pod-security.kubernetes.io/enforce-version\":\"v1.30\"}";

const EVIL: &str = "\u{1b}[31mred";

fn call(root: &Path, line: &str) -> Done {
    let mut command = Command::new(program::binary());
    command.arg("--root").arg(root).args(line.split(' ')).env_remove("COLUMNS").env("LC_ALL", "C.UTF-8");
    run::run(command.current_dir(root))
}

/// A command, the exit code, and what is coloured in it, as tmux shows it.
const SHOWN: [(&str, i32, &str); 6] = [
    ("status", 1, "\u{1b}[1mWRONG"),
    ("check --level restricted EVIL", 1, "\u{1b}[1m\u{1b}[31mdeny"),
    ("policy check", 0, "\u{1b}[1mvalid"),
    ("policy show", 0, "\u{1b}[1mnamespace"),
    ("policy show --namespace shop", 0, "\u{1b}[1menforce"),
    ("explain hostPathVolumes", 0, "\u{1b}[1mhostPathVolumes (exit code 14)"),
];

#[test]
fn a_terminal_has_colours_and_whole_words_and_a_pipe_has_neither() {
    if !needs::can_run("answers::a_terminal_has_colours_and_whole_words_and_a_pipe_has_neither", &["tmux"]) {
        return;
    }
    let node = node();
    for (line, code, coloured) in SHOWN {
        let path = node.root().join(EVIL).display().to_string();
        let line_here = line.replace("EVIL", &format!("'{path}'"));
        let end = format!("ended with {code}");
        let narrow = Terminal::show("80", node.root(), &[], &line_here);
        let colours = narrow.end(&["-e"]);
        assert!(colours.contains(coloured) && colours.contains(&end), "{line}: {coloured:?}\n{colours:?}");
        // Joined, a line that the terminal had to break is one.
        let seen = narrow.end(&["-J"]);
        let is_copied = |line: &&str| line.contains(" | ") || line.starts_with("    ");
        let folder = node.root().display().to_string();
        for shown in
            seen.lines().map(str::trim_end).filter(|line| !is_copied(line) && !line.contains(&folder))
        {
            assert!(shown.chars().count() <= 80, "{line}: {shown}\n{seen}");
        }
        assert!(!seen.contains(EVIL) && !colours.contains(EVIL), "{colours:?}");

        let plain = Terminal::show("80", node.root(), &["NO_COLOR=1"], &line_here).end(&["-e"]);
        assert!(!plain.contains('\u{1b}') && plain.contains(&end), "{line}: {plain:?}");
        let piped =
            Terminal::show("80", node.root(), &[], &format!("{line_here} | cat; echo ended with {code}"));
        assert!(!piped.end(&["-e"]).contains('\u{1b}'), "{line}");
        // As a program reads it: no line is broken, and no word is lost.
        // How long ago something was is another number a moment later.
        let is_told =
            |word: &&str| !word.starts_with(|c: char| c.is_ascii_digit()) && !word.starts_with("second");
        let words = |text: &str| text.split_whitespace().filter(is_told).collect::<String>();
        let done = call(node.root(), &line.replace("EVIL", &path));
        assert_eq!(done.code, Some(code), "{done}");
        assert!(!done.stdout.contains('\u{1b}'), "{done}");
        let expected = format!("{}{}{}", words(&done.stderr), words(&done.stdout), words(&end));
        assert_eq!(words(&seen), expected, "{line}\n{seen}\n{done}");
    }
}

fn object(done: &Done) -> Value {
    let (line, rest) = done.stdout.split_once('\n').unwrap_or_else(|| panic!("one line\n{done}"));
    assert_eq!(rest, "", "one object\n{done}");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}\n{done}"))
}

#[test]
fn policy_check_answers_programs() {
    let node = node();
    let valid = object(&call(node.root(), "policy check --format json").expect_success());
    assert_eq!((&valid["valid"], &valid["mistakes"]), (&json!(true), &json!([])), "{valid}");
    assert_eq!(valid["policy"]["mode"], "enforce");
    assert_eq!(valid["policy"]["namespaces"]["shop"], json!({"enforce": "baseline"}));
    assert_eq!(valid["policy"]["exceptions"][0]["expires"], "2027-06-30");
    assert!(valid["latest"].as_str().is_some_and(|latest| latest.starts_with("v1.")), "{valid}");
    assert!(
        valid["file"].as_str().is_some_and(|file| file.ends_with("/etc/pss-guard/policy.toml")),
        "{valid}"
    );

    files::write(&node.root().join("wrong.toml"), "mode = \"loud\"\nmodee = 1\n");
    for (file, mistakes) in [("wrong.toml", &[(1, 8), (2, 1)][..]), ("nothing.toml", &[])] {
        let done = call(node.root(), &format!("policy check --format json {file}"));
        assert_eq!(done.code, Some(2), "{done}");
        let answer = object(&done);
        assert_eq!(answer["valid"], false);
        let all = answer["mistakes"].as_array().expect("a list");
        assert!(!all.is_empty(), "{answer}");
        let places: Vec<(u64, u64)> =
            all.iter().filter_map(|one| Some((one["line"].as_u64()?, one["column"].as_u64()?))).collect();
        assert_eq!(places, mistakes, "{answer}");
        // The same lines as for people.
        let said: Vec<String> =
            all.iter().map(|one| format!("pss-guard: {}", one["message"].as_str().unwrap())).collect();
        assert_eq!(done.stderr.lines().collect::<Vec<_>>(), said);
    }
    std::fs::remove_file(node.root().join("etc/pss-guard/policy.toml")).expect("a file of ours");
    std::fs::remove_dir_all(node.root().join("var")).ok();
    std::fs::remove_dir_all(node.root().join("run/pss-guard")).expect("a folder of ours");
    let built_in = object(&call(node.root(), "policy check --format json").expect_success());
    assert_eq!(
        (&built_in["valid"], &built_in["file"], &built_in["policy"]["mode"]),
        (&json!(true), &json!(null), &json!("audit"))
    );
}

#[test]
fn policy_show_answers_programs() {
    let node = node();
    let all = object(&call(node.root(), "policy show --format json").expect_success());
    let by_name = |name: &str| {
        let all = all["namespaces"].as_array().expect("a list");
        all.iter().find(|one| one["namespace"] == name).unwrap_or_else(|| panic!("{name} is not in {all:?}"))
    };
    let levels = |one: &Value| {
        format!("{}:{}", one["enforce"][0]["level"], one["enforce"][0]["version"]).replace('"', "")
    };
    assert_eq!(levels(by_name("ops")), "baseline:v1.30");
    assert_eq!(levels(by_name("shop")), "baseline:latest");
    assert_eq!(levels(&all["other"]), "restricted:latest");
    assert_eq!(levels(&all["unmanaged"]), "privileged:latest");
    assert!(by_name("kube-system")["exempt"].is_string() && by_name("kube-system").get("enforce").is_none());
    assert!(
        by_name("ops")["enforce"][0]["because"].as_str().is_some_and(|says| says.contains("ops.json")),
        "{all}"
    );
    // One of them alone is the same object.
    for (line, expected) in [
        ("policy show --format json --namespace ops", by_name("ops")),
        ("policy show --format json --namespace kube-system", by_name("kube-system")),
        ("policy show --format json --unmanaged", &all["unmanaged"]),
    ] {
        let mut one = object(&call(node.root(), line).expect_success());
        assert!(one["latest"].is_string(), "{one}");
        one.as_object_mut().unwrap().remove("latest");
        assert_eq!(one, *expected, "{line}");
    }
    let line = "policy show --format json --namespace ops --pod-annotation pod-security.kubernetes.io/enforce=restricted";
    let both = object(&call(node.root(), line).expect_success());
    let levels: BTreeSet<&str> =
        both["enforce"].as_array().unwrap().iter().map(|one| one["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["baseline", "restricted"].into(), "{both}");
    files::write(&node.root().join("run/pss-guard/namespaces/ops.json"), "{");
    let done = call(node.root(), "policy show --format json");
    assert_eq!(done.code, Some(2), "{done}");
    let damaged = object(&done);
    let ops = damaged["namespaces"].as_array().unwrap().iter().find(|one| one["namespace"] == "ops").unwrap();
    assert!(ops["fault"].as_str().is_some_and(|says| done.stderr.contains(says)), "{done}");
    files::write(&node.root().join("etc/pss-guard/policy.toml"), "on-unknown-namespace = \"deny\"\n");
    let denied = object(&call(node.root(), "policy show --format json --namespace shopp").expect_success());
    assert_eq!(denied["denied"], "on-unknown-namespace", "{denied}");
}

/// Every command that has data has `--format`, with `text` and `json` in it; what was spelled otherwise still works.
#[test]
fn the_format_is_spelled_one_way_and_old_spellings_stay() {
    use clap::CommandFactory as _;
    let mut program = pss_guard::cli::arguments::Cli::command();
    program.build();
    for line in ["check", "scan", "explain", "status", "mode", "report", "policy check", "policy show"] {
        let command =
            line.split(' ').fold(&program, |above, name| above.find_subcommand(name).expect("a command"));
        let format = command.get_arguments().find(|own| own.get_long() == Some("format"));
        let format = format.unwrap_or_else(|| panic!("{line} has no --format"));
        let words: Vec<String> =
            format.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        assert!(words.starts_with(&["text".to_owned(), "json".to_owned()]), "{line}: {words:?}");
        assert_eq!(format.get_default_values(), ["text"], "{line}");
    }
    let node = node();
    for (old, new) in [
        ("status --json", "status --format json"),
        ("mode --json", "mode --format json"),
        ("scan --format table", "scan --format text"),
        ("explain --markdown", "explain --format markdown"),
    ] {
        let [old, new] = [old, new].map(|line| call(node.root(), line));
        assert!(!old.stdout.is_empty() && old.stdout == new.stdout && old.code == new.code, "{old}\n{new}");
    }
}
