//! The program under test, and how engines call it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use serde_json::{Value, json};

/// The tool under test. The gate lies beside it.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PSS_GUARD_BINARY") {
        return PathBuf::from(path);
    }
    let tool = if let Some(path) = option_env!("CARGO_BIN_EXE_pss-guard") {
        PathBuf::from(path)
    } else {
        // An example is not told where the binary is: it lies beside `examples/`.
        let own = std::env::current_exe().expect("the path of this program");
        let beside = own.parent().and_then(Path::parent).map(|dir| dir.join("pss-guard"));
        beside
            .filter(|path| path.is_file())
            .expect("pss-guard beside the examples directory; `make demo` builds both")
    };
    build_gate(&tool);
    tool
}

/// Cargo builds the programs of a test's own package before it runs, and the gate is another's.
fn build_gate(tool: &Path) {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let target = tool.ancestors().nth(2).expect("a profile's folder in a target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "pss-guard-gate", "--target-dir"]);
        let built = cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.expect("cargo").success(), "pss-guard-gate does not build");
    });
}

/// The agent as it ships, static: `PSS_GUARD_AGENT`, or what `make build-agent` makes of the checkout.
pub(crate) fn agent() -> PathBuf {
    if let Some(path) = std::env::var_os("PSS_GUARD_AGENT").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new("make").args(["--quiet", "build-agent"]).current_dir(checkout).status();
    assert!(made.expect("make").success(), "the agent does not build");
    built(std::env::consts::ARCH, "pss-guard-agent")
}

/// Where `make build` and `make build-agent` leave a program for an architecture.
fn built(architecture: &str, program: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
    target.join(format!("{architecture}-unknown-linux-musl/release/{program}"))
}

/// What runs a program for arm64 on this machine.
pub(crate) const EMULATOR: &str = "qemu-aarch64-static";

/// The same tool for arm64, with its gate beside it, if it was built of this very source: that which ships, where `make e2e`
/// says where that is, else that of `make build TARGET=aarch64-unknown-linux-musl`.
pub(crate) fn arm64() -> Option<PathBuf> {
    if let Some(dist) = dist() {
        return Some(dist.join("image/arm64/pss-guard"));
    }
    let tool = built("aarch64", "pss-guard");
    [tool.clone(), tool.with_file_name("pss-guard-gate")]
        .iter()
        .all(|program| is_current(program))
        .then_some(tool)
}

/// Where `make image` has left what ships.
pub(crate) fn dist() -> Option<PathBuf> {
    std::env::var_os("PSS_GUARD_DIST").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether none of the files that a program was built from is newer, by cargo's list of them.
fn is_current(program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let list = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((built, (_, files))) = changed(program).zip(list.split_once(": ")) else { return false };
    files.split_whitespace().all(|file| changed(file.as_ref()).is_some_and(|changed| changed <= built))
}

/// The program that engines call.
pub(crate) fn gate() -> PathBuf {
    let gate = binary().with_file_name("pss-guard-gate");
    assert!(gate.is_file(), "{} must lie beside the tool", gate.display());
    gate
}

/// The hook's entry as the installer writes it.
pub(crate) fn hook(engine: &str, root: &Path) -> Value {
    json!({
        "path": gate(),
        "args": ["pss-guard-gate", "hook", "--engine", engine, "--root", root],
        "timeout": 10,
    })
}

/// What an engine calls instead of a runtime, as the installer lays it out. What is there stays, and a gate that is a file of its own
/// as well: others may be starting by it.
pub(crate) fn entry(root: &Path, engine: &str, handler: &str, runtime: &Path) -> PathBuf {
    let directory = root.join("var/lib/pss-guard/runtimes").join(engine).join(handler);
    let programs = root.join("var/lib/pss-guard/bin");
    for directory in [&directory, &programs] {
        fs::create_dir_all(directory).expect("a directory of the product");
    }
    let links = [
        (gate(), programs.join("pss-guard-gate")),
        ("../../../bin/pss-guard-gate".into(), directory.join("pss-guard-runtime")),
        (runtime.to_owned(), directory.join("runtime")),
    ];
    for (target, link) in links {
        let there = fs::symlink_metadata(&link);
        if there.is_ok_and(|there| there.is_file()) || fs::read_link(&link).is_ok_and(|there| there == target)
        {
            continue;
        }
        let _ = fs::remove_file(&link);
        symlink(target, link).expect("a link of the product");
    }
    directory.join("pss-guard-runtime")
}
