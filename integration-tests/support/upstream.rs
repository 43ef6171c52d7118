//! Upstream's own code, in Go (`integration-tests/oracle`): its evaluator, its fixtures, and how kubectl reads a text.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;

use super::needs::{part, program, skip};

/// Upstream's evaluator, and the module that it is from.
pub(crate) struct Oracle {
    program: PathBuf,
    /// `k8s.io/pod-security-admission`.
    pub(crate) module: PathBuf,
}

/// The oracle, built where `scripts/node-parts` puts what it brings; `None` and a loud skip where there is no Go.
pub(crate) fn oracle(test: &str) -> Option<&'static Oracle> {
    static ORACLE: OnceLock<Result<Oracle, String>> = OnceLock::new();
    let oracle = ORACLE.get_or_init(|| {
        let own = part("../go/bin/go");
        let usual = [PathBuf::from("/usr/local/go/bin/go"), own].into_iter().find(|file| file.is_file());
        let go = program("go").or(usual).ok_or("go")?;
        let run = |arguments: &[&str]| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/oracle");
            let mut command = Command::new(&go);
            command.args(arguments).current_dir(folder).env("GOWORK", "off").env("CGO_ENABLED", "0");
            let done = command.env("GOFLAGS", "-mod=readonly -trimpath -buildvcs=false").output();
            let done = done.map_err(|error| format!("{}: {error}", go.display()))?;
            let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
            let answer = String::from_utf8_lossy(&done.stdout).trim().to_owned();
            done.status.success().then_some(answer).ok_or(format!("go {}: {said}", arguments.join(" ")))
        };
        let program = part("pod-security-oracle");
        fs::create_dir_all(program.parent().unwrap())
            .map_err(|error| format!("{}: {error}", program.display()))?;
        // Others may be running the one that is there.
        let fresh = part(&format!("pod-security-oracle.{}", std::process::id()));
        run(&["build", "-o", fresh.to_str().unwrap(), "."])?;
        fs::rename(&fresh, &program).map_err(|error| format!("{}: {error}", program.display()))?;
        let module = run(&["list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission"])?.into();
        Ok(Oracle { program, module })
    });
    match oracle {
        Ok(oracle) => Some(oracle),
        Err(missing) => {
            skip(test, missing);
            None
        }
    }
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
