//! Upstream's own evaluator as an oracle: the program of `integration-tests/oracle`, and the module that it is built from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;

use super::needs::{part, program, skip};

/// Upstream's evaluator, and the module that it is from.
pub(crate) struct Oracle {
    program: PathBuf,
    /// Where the module lies.
    pub(crate) module: PathBuf,
}

/// The oracle, built where `scripts/node-parts` puts what it brings; `None` and a loud skip where there is no Go.
pub(crate) fn oracle(test: &str) -> Option<&'static Oracle> {
    static ORACLE: OnceLock<Result<Oracle, String>> = OnceLock::new();
    let oracle = ORACLE.get_or_init(|| {
        let usual = ["/usr/local/go/bin/go".into(), part("../go/bin/go")];
        let found = program("go").into_iter().chain(usual).filter(|go| go.is_file());
        let mut oracle = Err("go".to_owned());
        for go in found {
            oracle = build(&go);
            // It may be too old to fetch the toolchain that the module asks for.
            if oracle.is_ok() {
                break;
            }
        }
        oracle
    });
    match oracle {
        Ok(oracle) => Some(oracle),
        Err(missing) => {
            skip(test, missing);
            None
        }
    }
}

fn build(go: &Path) -> Result<Oracle, String> {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(go);
        command
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/oracle"));
        command.envs([("GOTOOLCHAIN", "auto"), ("GOWORK", "off"), ("CGO_ENABLED", "0")]);
        // The one that `scripts/node-parts` brings was built for another folder.
        command.env(
            "GOROOT",
            go.ancestors().nth(2).filter(|root| root.join("src/runtime").is_dir()).unwrap_or(Path::new("")),
        );
        let done = command.env("GOFLAGS", "-mod=readonly -trimpath -buildvcs=false").output();
        let done = done.map_err(|error| format!("{}: {error}", go.display()))?;
        // What it downloads comes first.
        let said = String::from_utf8_lossy(&done.stderr).trim().lines().last().unwrap_or_default().to_owned();
        let answer = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        done.status.success().then_some(answer).ok_or(format!("go {}: {said}", arguments.join(" ")))
    };
    let program = part("pod-security-oracle");
    let failed = |error| format!("{}: {error}", program.display());
    fs::create_dir_all(program.parent().unwrap()).map_err(failed)?;
    // Others may be running the one that is there.
    let fresh = part(&format!("pod-security-oracle.{}", std::process::id()));
    run(&["build", "-o", fresh.to_str().unwrap(), "."])?;
    fs::rename(&fresh, &program).map_err(failed)?;
    let module = run(&["list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission"])?.into();
    Ok(Oracle { program, module })
}

impl Oracle {
    /// What it says, a line each; `input` goes by way of a file, so that neither side waits for the other.
    pub(crate) fn ask<T: for<'any> Deserialize<'any>>(&self, arguments: &[&str], input: &str) -> Vec<T> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("input");
        fs::write(&file, input).unwrap();
        let done = Command::new(&self.program)
            .args(arguments)
            .stdin(File::open(&file).unwrap())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(done.status.success(), "the oracle fails: {arguments:?}");
        let lines = done.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}
