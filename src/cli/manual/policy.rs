//! pss-guard.toml(5): the keys from the table that the policy's reader is compared with, and the prose of docs/policy.md.

use super::Page;
use crate::level::policy::keys::{Key, Shape, TABLES, Table};
use crate::output::roff;

const REFERENCE: &str = include_str!("../../../docs/policy.md");

pub(super) fn page() -> String {
    // The document has an example of a policy between its first paragraph and the rest.
    let (before, rest) = REFERENCE.split_once("```toml\n").unwrap_or(("", REFERENCE));
    let (example, after) = rest.split_once("```\n").unwrap_or(("", rest));
    let (usage, sections) = after.split_once("\n## ").unwrap_or((after, ""));
    let name = Page::Policy.name();
    let mut page = roff::Page::new(&name, Page::Policy.section(), "the policy of pss-guard on a node");
    page.section("Synopsis");
    page.text("`/etc/pss-guard/policy.toml`");
    page.section("Description");
    page.markdown(before);
    page.section("Keys");
    for table in TABLES {
        keys(&mut page, table);
    }
    page.section("Writing a policy");
    page.markdown(usage);
    page.markdown(&format!("## {sections}"));
    page.section("Files");
    page.entries(&FILES);
    page.section("Examples");
    page.code(example);
    page.section("See also");
    page.text("`pss-guard`(8), `pss-guard-gate`(8)");
    page.finish()
}

const FILES: [(&str, &str); 3] = [
    ("/etc/pss-guard/policy.toml", "The policy."),
    ("/var/lib/pss-guard/policy.toml", "The last good policy, in force while the other cannot be used."),
    ("/run/pss-guard/policy.cache", "The policy, compiled for the gate."),
];

/// The keys of a table, each with its default, or whether it must be there.
fn keys(page: &mut roff::Page, table: &Table) {
    match table.shape {
        Shape::Single if table.name.is_empty() => {}
        Shape::Single => page.part(&format!("[{}]", table.name)),
        Shape::ByNamespace(_) => page.part(&format!("[{}.\"NAMESPACE\"]", table.name)),
        Shape::List => page.part(&format!("[[{}]]", table.name)),
    }
    // What comes then is for who edits a file.
    let about = table.about.split(" An example: ").next().unwrap_or_default();
    if !about.is_empty() {
        page.text(about);
    }
    for Key { name, value, required, about, .. } in table.keys {
        let more = match table.shape {
            Shape::Single => format!(" [default: `{value}`]"),
            _ if *required => " [required]".to_owned(),
            _ => String::new(),
        };
        page.entry(&format!("`{name}`"), &format!("{about}{more}"));
    }
}

#[cfg(test)]
mod tests {
    use super::{REFERENCE, page};
    use crate::level::policy::keys::TABLES;

    #[test]
    fn the_page_has_every_key_and_every_section_of_the_document() {
        let page = page().replace("\\-", "-");
        for key in TABLES.iter().flat_map(|table| table.keys) {
            assert!(page.contains(&format!("\n.TP\n\\fB{}\\fR\n", key.name)), "{}\n{page}", key.name);
        }
        let titles = REFERENCE.lines().filter_map(|line| line.strip_prefix("## "));
        let missing = titles.filter(|title| !page.contains(&format!("\n.SH {}\n", title.to_uppercase())));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());
        assert!(page.contains("\n.SH EXAMPLES\n.RS 4\n.nf\nmode = "), "{page}");
    }
}
