//! Checks the README and the manual: every command in them parses, every policy is valid, every link leads somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use pss_guard::cli::arguments::Cli;
use pss_guard::documents::{self, node::Node};
use pss_guard::level::cache::load_file;
use pss_guard::level::{Mode, Policy};
use pss_guard::paths::Paths;
use pss_guard::record::Field;

use crate::support::documents::{anchors, blocks, read, targets};

/// The documents that tell readers to run `pss-guard`.
const MANUAL: [&str; 10] = [
    "README.md",
    "docs/agent.md",
    "docs/ci.md",
    "docs/install.md",
    "docs/operations.md",
    "docs/policy.md",
    "docs/rollout.md",
    "docs/scan.md",
    "docs/upgrade.md",
    "docs/watch.md",
];

/// Programs of others; their arguments are not checked.
const OTHERS: [&str; 13] = [
    "kubectl",
    "rm",
    "curl",
    "journalctl",
    "jq",
    "make",
    "systemctl",
    "helm",
    "kustomize",
    "dpkg",
    "rpm",
    "tar",
    "install.sh",
];

/// Every document, by its path in the repository.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["", "docs/"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                all.push(format!("{folder}{name}"));
            }
        }
    }
    all
}

fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    load_file(&Paths::default(), file.path()).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

#[test]
fn the_policies_of_the_documents_are_valid() {
    let reference: Vec<Policy> = blocks("docs/policy.md", "toml").iter().map(|text| policy(text)).collect();
    assert_eq!(reference[0].mode, Mode::Enforce);
    assert_eq!(reference[0].exceptions.len(), 1);
    let rollout: Vec<Policy> = blocks("docs/rollout.md", "toml").iter().map(|text| policy(text)).collect();
    // Nobody is led to enforce by a file.
    assert!(rollout.len() == 2 && rollout.iter().all(|policy| policy.mode == Mode::Audit));
}

#[test]
fn the_readme_is_short_and_names_every_document() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 150, "{}", readme.lines().count());
    for document in documents().iter().filter(|document| *document != "README.md") {
        assert!(readme.contains(&format!("({document})")), "README.md does not link to {document}");
    }
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap();
        for link in targets(&text).filter(|link| !link.contains("://")) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root.join(&document) } else { root.join(folder).join(file) };
            assert!(target.exists(), "{document}: {link}");
            if !section.is_empty() {
                let target = target.to_str().unwrap();
                assert!(anchors(target).iter().any(|own| own == section), "{document}: no section {link}");
            }
            links += 1;
        }
    }
    assert!(links > 50, "only {links} links were found");
}

/// The table of `docs/architecture.md`: a package, and what is in its `src`.
#[test]
fn the_architecture_is_that_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = read("docs/architecture.md");
    let (mut package, mut places) = (String::new(), 0);
    for row in text.lines().filter(|line| line.starts_with("| ") && line.contains("` | ")) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        if let [name] = &quoted(columns[1], "`").into_iter().step_by(2).collect::<Vec<_>>()[..] {
            package.clone_from(name);
        }
        let sources = if package == "src" { root.join("src") } else { root.join(&package).join("src") };
        for place in quoted(columns[2], "`").iter().step_by(2) {
            assert!(sources.join(place).exists(), "docs/architecture.md: {package} has no {place}");
            places += 1;
        }
    }
    assert!(places > 25, "only {places} places were found");
    // And the other way round: no room is left out.
    for package in ["src", "crates/gate/src", "crates/core/src", "crates/pss/src"] {
        for entry in std::fs::read_dir(root.join(package)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                assert!(
                    text.contains(&format!("`{name}/`")),
                    "docs/architecture.md does not name {package}/{name}/"
                );
            }
        }
    }
}

/// The words of a command, as a shell has them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted, mut begun) = (vec![String::new()], false, false);
    for c in line.trim().chars() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(String::new());
                }
                begun = false;
            }
            _ => {
                words.last_mut().unwrap().push(c);
                begun = true;
            }
        }
    }
    assert!(!quoted, "a quote has no end: {line}");
    words
}

/// Every command of a document: the lines of its blocks, and what begins with the program's name within a sentence.
fn commands(document: &str) -> Vec<String> {
    let text = read(document);
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let lines = prose.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| {
        // A list goes on with the same indentation.
        line.starts_with(|c: char| c.is_ascii_lowercase())
    });
    let inline = prose
        .lines()
        .filter(|line| !line.starts_with("    "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let inline = inline.filter(|code| code.starts_with("pss-guard "));
    lines.chain(inline).map(|line| line.split(" # ").next().unwrap().trim().to_owned()).collect()
}

#[test]
fn every_command_of_the_documents_is_one() {
    for document in MANUAL {
        let mut ours = 0;
        for line in commands(document) {
            // Where a shell puts what is written is the shell's.
            let line = line.split(" >").next().unwrap();
            for part in line.split(" | ").map(words) {
                let part: Vec<&str> =
                    part.iter().map(String::as_str).skip_while(|word| *word == "sudo").collect();
                let program = part[0].rsplit('/').next().unwrap();
                if program == "pss-guard" {
                    ours += 1;
                    let parsed = Cli::try_parse_from(&part);
                    assert!(parsed.is_ok(), "{document}: {line}\n{}", parsed.unwrap_err());
                    continue;
                }
                assert!(OTHERS.contains(&program), "{document}: unknown program {program}: {line}");
                let is_unit = |word: &&&str| program == "systemctl" && word.starts_with("pss-guard-");
                for unit in part.iter().filter(is_unit) {
                    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit);
                    assert!(file.exists(), "{document}: {line}");
                }
            }
        }
        assert!(ours >= 2, "{document}: only {ours} commands were found");
    }
}

/// A command's name and the names of those above it, and its examples.
fn examples(command: &clap::Command) -> Vec<(String, String)> {
    let own = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let own = own.lines().filter_map(|line| line.strip_prefix("    "));
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let mut all: Vec<(String, String)> = own.map(|line| (name.clone(), line.to_owned())).collect();
    let parts = command.get_subcommands().filter(|part| part.get_name() != "help" && !part.is_hide_set());
    assert!(!all.is_empty(), "{name} has no example");
    all.extend(parts.flat_map(examples));
    all
}

fn command_of<'c>(program: &'c clap::Command, name: &str) -> &'c clap::Command {
    let below = |command: &'c clap::Command, part| command.find_subcommand(part).expect("a command");
    name.split(' ').skip(1).fold(program, below)
}

#[test]
fn every_example_of_the_help_is_a_call_of_its_command() {
    let mut command = Cli::command();
    command.build();
    let all = examples(&command);
    assert!(all.len() > 25, "{all:?}");
    for (name, line) in all {
        let line = line.split(" >").next().unwrap();
        let parts: Vec<Vec<String>> = line.split(" | ").map(words).collect();
        let ours = parts.iter().find(|part| part[0] == "pss-guard").unwrap_or_else(|| panic!("{line}"));
        let parsed = command.clone().try_get_matches_from(ours);
        let matches = parsed.unwrap_or_else(|error| panic!("{name}: {line}\n{error}"));
        let (mut called, mut at) = ("pss-guard".to_owned(), &matches);
        while let Some((part, below)) = at.subcommand() {
            called = format!("{called} {part}");
            at = below;
        }
        // Those of a group are of its commands.
        let is_of_a_group = command_of(&command, &name).has_subcommands() && called.starts_with(&name);
        assert!(called == name || is_of_a_group, "{name}: {line}");
    }
}

/// What the recipes for CI systems run.
#[test]
fn the_recipes_are_yaml_and_their_commands_parse() {
    fn texts(node: &Node, found: &mut Vec<String>) {
        match &node.value {
            documents::node::Value::String(text) => found.push(text.clone()),
            documents::node::Value::List(items) => items.iter().for_each(|item| texts(item, found)),
            documents::node::Value::Map(entries) => entries.iter().for_each(|(_, node)| texts(node, found)),
            _ => {}
        }
    }
    let recipes = blocks("docs/ci.md", "yaml");
    assert_eq!(recipes.len(), 3);
    for recipe in recipes {
        let mut found = Vec::new();
        let documents =
            documents::read::documents(&recipe).unwrap_or_else(|error| panic!("{error}\n{recipe}"));
        for document in &documents {
            texts(document, &mut found);
        }
        let ours: Vec<&String> = found.iter().filter(|text| text.starts_with("pss-guard ")).collect();
        assert_eq!(ours.len(), 1, "{recipe}");
        for line in ours {
            let parsed = Cli::try_parse_from(words(line.split(" >").next().unwrap()));
            assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
        }
    }
}

/// The strings between two marks.
fn quoted(text: &str, mark: &str) -> Vec<String> {
    text.split(mark).skip(1).map(|rest| rest.split(mark).next().unwrap_or_default().to_owned()).collect()
}

/// The names in the first column of the tables in `docs/watch.md`.
fn documented_names() -> Vec<String> {
    let text = read("docs/watch.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|line| quoted(line.split(" | ").next().unwrap(), "`").into_iter().step_by(2)).collect()
}

#[test]
fn every_event_field_is_in_the_document_and_every_field_of_the_document_there() {
    let is_ours = |name: &str| name.starts_with("PSS_");
    let written: BTreeSet<String> =
        Field::ALL.iter().map(|field| field.name().to_owned()).filter(|name| is_ours(name)).collect();
    let documented: BTreeSet<String> = documented_names().into_iter().filter(|name| is_ours(name)).collect();
    assert_eq!(written, documented);
}

#[test]
fn every_number_is_in_the_document_and_every_number_of_the_document_there() {
    let source = ["counters", "mod", "node", "scan"].map(|name| read(&format!("src/metrics/{name}.rs")));
    let is_name = |name: &String| {
        (name.starts_with("pss_guard_") || name.starts_with("kube_pod_"))
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let source: BTreeSet<String> =
        source.iter().flat_map(|text| quoted(text, "\"")).filter(is_name).collect();
    let mut documented = BTreeSet::new();
    for name in documented_names().iter().filter(|name| !name.starts_with("PSS_")) {
        // `a_{b,c}_d{labels}`: labels are at the end.
        let labels = name.strip_suffix('}').and_then(|rest| rest.rfind('{')).filter(|at| *at > 0);
        let name = labels.map_or(&**name, |at| &name[..at]);
        let all = match name.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?))) {
            None => vec![name.to_owned()],
            Some((head, (words, tail))) => {
                words.split(',').map(|word| format!("{head}{word}{tail}")).collect()
            }
        };
        documented.extend(all.into_iter().map(|name| name.trim_end_matches("_total").to_owned()));
    }
    assert_eq!(source, documented);
}
