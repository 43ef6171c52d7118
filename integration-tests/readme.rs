//! Is what the README says true? Its policy is valid, its numbers are those of the tests, its files exist.

use std::path::Path;

use pss_guard::level::cache::load_file;
use pss_guard::level::{Mode, Policy};
use pss_guard::paths::Paths;

pub(crate) fn text() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The commands of a section: its first block.
pub(crate) fn commands(section: &str) -> Vec<String> {
    let readme = text();
    let section = readme.split(&format!("\n## {section}\n\n")).nth(1).unwrap();
    section.lines().map_while(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

#[test]
fn the_policy_in_the_readme_is_valid() {
    let readme = text();
    let policy = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), policy).unwrap();
    let policy: Policy = load_file(&Paths::default(), file.path()).unwrap();
    assert_eq!(policy.mode, Mode::Enforce);
    assert_eq!(policy.exceptions.len(), 1);
}

#[test]
fn every_file_that_the_readme_links_to_exists() {
    let readme = text();
    let links = readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let files: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists(), "{file}");
    }
}
