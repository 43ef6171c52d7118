//! What the documents say.

use std::path::Path;

/// A document of the repository.
pub(crate) fn read(document: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap()
}

/// The blocks of a language.
pub(crate) fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = read(document);
    let begins = format!("```{language}\n");
    text.split(&begins).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The commands of a section of the README: its first block.
pub(crate) fn commands_of(section: &str) -> Vec<String> {
    let readme = read("README.md");
    let section = readme.split(&format!("\n## {section}\n\n")).nth(1).unwrap();
    section.lines().map_while(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// Where the links of a text lead: inline ones, and definitions (`[name]: target`).
pub(crate) fn targets(text: &str) -> impl Iterator<Item = &str> {
    let inline = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let defined = text.lines().filter(|line| line.starts_with('['));
    inline.chain(defined.filter_map(|line| line.split_once("]: ")).map(|(_, target)| target))
}

/// The sections of a document, as GitHub names them: lower case, without punctuation, blanks as dashes.
pub(crate) fn anchors(document: &str) -> Vec<String> {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(name).collect()
}
