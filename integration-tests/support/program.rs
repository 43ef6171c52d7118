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

/// What an engine calls instead of a runtime, as the installer lays it out.
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
        let _ = fs::remove_file(&link);
        symlink(target, link).expect("a link of the product");
    }
    directory.join("pss-guard-runtime")
}
