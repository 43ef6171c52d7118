//! Is what the documents say true? Their commands are ones that there are, their policies are valid, their files exist.

use std::path::Path;

use clap::Parser as _;
use pss_guard::cli::Cli;
use pss_guard::level::cache::load_file;
use pss_guard::level::{Mode, Policy};
use pss_guard::paths::Paths;

use crate::support::documents;

const DOCUMENTS: [&str; 4] = ["README.md", "docs/operations.md", "docs/rollout.md", "docs/watch.md"];

/// Who else may be called, and what is then not ours to check.
const OTHERS: [&str; 7] = ["kubectl", "curl", "journalctl", "jq", "make", "systemctl", "helm"];

fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    load_file(&Paths::default(), file.path()).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

#[test]
fn the_policies_of_the_documents_are_valid() {
    let readme: Vec<Policy> =
        documents::blocks("README.md", "toml").iter().map(|text| policy(text)).collect();
    assert_eq!(readme[0].mode, Mode::Enforce);
    assert_eq!(readme[0].exceptions.len(), 1);
    let rollout: Vec<Policy> =
        documents::blocks("docs/rollout.md", "toml").iter().map(|text| policy(text)).collect();
    // Nobody is led to enforce by a file.
    assert!(rollout.len() == 2 && rollout.iter().all(|policy| policy.mode == Mode::Audit));
}

#[test]
fn every_file_that_a_document_links_to_exists() {
    for document in DOCUMENTS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let folder = folder.parent().unwrap();
        let text = documents::read(document);
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        // What leads to a section: see `watch`.
        let files: Vec<&str> = links.filter(|link| !link.contains("://") && !link.starts_with('#')).collect();
        assert!(!files.is_empty(), "{document}");
        for file in files {
            assert!(folder.join(file).exists(), "{document}: {file}");
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
    let text = documents::read(document);
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
    for document in DOCUMENTS {
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
                // The README also shows what is printed.
                assert!(
                    document == "README.md" || OTHERS.contains(&program),
                    "{document}: who is {program}? {line}"
                );
                for unit in part.iter().filter(|word| word.starts_with("pss-guard-")) {
                    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit);
                    assert!(file.exists(), "{document}: {line}");
                }
            }
        }
        assert!(ours >= 2, "{document}: only {ours} commands were found");
    }
}

/// What `docs/watch.md` says that there is, and nothing else.
#[test]
fn every_number_is_in_the_document_and_every_number_of_the_document_there() {
    let source =
        ["counters", "mod", "node", "scan"].map(|name| documents::read(&format!("src/metrics/{name}.rs")));
    let quoted = |text: &str, end: &str| -> Vec<String> {
        let names = text.split(end).skip(1).map(|rest| rest.split(end).next().unwrap_or_default());
        names.map(str::to_owned).collect()
    };
    let is_name = |name: &String| {
        (name.starts_with("pss_guard_") || name.starts_with("kube_pod_"))
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let source: std::collections::BTreeSet<String> =
        source.iter().flat_map(|text| quoted(text, "\"")).filter(is_name).collect();
    let mut documented = std::collections::BTreeSet::new();
    for line in documents::read("docs/watch.md").lines().filter(|line| line.starts_with("| `")) {
        let names = line.split(" | ").next().unwrap();
        for name in quoted(names, "`").iter().step_by(2) {
            // `a_{b,c}_d{labels}`: labels are at the end.
            let labels = name.strip_suffix('}').and_then(|rest| rest.rfind('{')).filter(|at| *at > 0);
            let name = labels.map_or(&**name, |at| &name[..at]);
            let all = match name.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
            {
                None => vec![name.to_owned()],
                Some((head, (words, tail))) => {
                    words.split(',').map(|word| format!("{head}{word}{tail}")).collect()
                }
            };
            documented.extend(all.into_iter().map(|name| name.trim_end_matches("_total").to_owned()));
        }
    }
    assert_eq!(source, documented);
}
