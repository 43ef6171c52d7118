//! Can a test run here? What it needs and is not there is a loud skip, and a failure where everything must run.

use std::io::Write as _;
use std::path::PathBuf;

/// Where a program lies, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    let dirs = std::env::split_paths(&path).chain(usual.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Where `scripts/node-parts` puts what it brings.
pub(crate) fn part(name: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("PSS_GUARD_CACHE").unwrap_or_else(|| {
        let caches = set("XDG_CACHE_HOME");
        caches.unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache")).join("pss-guard")
    });
    cache.join("bin").join(name)
}

/// Whether a test that needs these programs, and root, can run here. If not it says so loudly, and where
/// everything must run (`PSS_GUARD_REQUIRE=all`, as in CI) that is a failure.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    let mut missing: Vec<String> = Vec::new();
    if !is_root() {
        missing.push("root".into());
    }
    missing.extend(programs.iter().filter(|name| program(name).is_none()).map(ToString::to_string));
    missing.is_empty() || skip(test, &missing.join(", "))
}

/// Reports a test as skipped; always false.
pub(crate) fn skip(test: &str, missing: &str) -> bool {
    let required = std::env::var_os("PSS_GUARD_REQUIRE").is_some_and(|value| value == "all");
    assert!(
        !required,
        "{test} needs what is missing here: {missing} (PSS_GUARD_REQUIRE=all; see scripts/install-deps)"
    );
    // Past the capture of the test harness, which only sees `eprintln!`: a skipped test must not look like a passed one.
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {missing}\n").as_bytes());
    false
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
