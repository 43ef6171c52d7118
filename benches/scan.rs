//! What does a scan of a full node cost? A thousand containers in half as many pods, each with a process that lives, its
//! sandbox, and what runc keeps of it; in a mount namespace of this program's own, so that they lie where scan looks.

use std::fs;
use std::path::Path;
use std::process::Command as Program;

use nix::sched::{CloneFlags, unshare};

use crate::Failure;
use crate::full_node::{Processes, lay_out};
use crate::node::Sandbox;
use crate::sampler::{self, Command, Run, Sampler, Times};

/// Containers; a pod has two, and a sandbox.
pub(crate) const CONTAINERS: usize = 1000;

/// How many of them the script looks at: all would take longer than everything else here.
pub(crate) const FOR_SCRIPT: usize = 100;

/// What a scan and a loop over the same files cost, and the largest resident set of the scan in KiB.
pub(crate) struct Scanned {
    pub(crate) scan: Cost,
    pub(crate) script: Cost,
    pub(crate) resident: i64,
}

/// What other programs do meanwhile lengthens the second many times over, and hardly the first.
#[derive(Default)]
pub(crate) struct Cost {
    pub(crate) cpu: Times,
    pub(crate) wall: Times,
}

impl Cost {
    fn add(&mut self, run: &Run) {
        self.cpu.add(run.cpu);
        self.wall.add(run.took);
    }
}

pub(crate) fn measure(
    program: &Path,
    sandbox: &Sandbox,
    sampler: &mut Sampler,
    rounds: usize,
) -> Result<Scanned, Failure> {
    let folder = tempfile::Builder::new().prefix("pss-guard-bench").tempdir()?;
    let processes = Processes::start(sandbox, CONTAINERS / 2)?;
    lay_out(folder.path(), sandbox, &processes)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(&["--make-rprivate", "/"])?;
    let run = folder.path().join("run");
    mount(&["--bind", run.to_str().ok_or("a path that is not UTF-8")?, "/run"])?;

    // More than a pipe holds.
    let told = folder.path().join("told");
    let [program, file] = [program, &told].map(Path::to_str);
    let (program, file) = program.zip(file).ok_or("a path that is not UTF-8")?;
    let line = "exec \"$0\" scan --level restricted >\"$1\"";
    let scan = Command::new(Path::new("/bin/sh"), &["-c", line, program, file], "")?;
    let proof = sampler.run(&scan)?;
    let output = fs::read_to_string(&told)?;
    let answer = format!("{CONTAINERS} of {CONTAINERS} containers in {} pods would be", CONTAINERS / 2);
    if proof.code != 0 || !output.contains(&answer) {
        let end: Vec<&str> = output.lines().rev().take(3).collect();
        return Err(format!("scan: exit code {}, should say {answer:?}: {end:?}", proof.code).into());
    }
    if output.contains("more than was asked for") {
        return Err("these processes should have no more than their config.json asks for".into());
    }
    let resident = sampler::largest_resident_set()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/jq-scan.sh");
    let script = Command::new(&script, &[&FOR_SCRIPT.to_string()], "")?;
    let mut scanned = Scanned { scan: Cost::default(), script: Cost::default(), resident };
    for round in 0..rounds {
        scanned.scan.add(&sampler.run(&scan)?);
        if round == 0 {
            scanned.script.add(&sampler.run(&script)?);
        }
    }
    let unmounted = Program::new("umount").arg("/run").status()?;
    if !unmounted.success() {
        return Err("umount /run failed".into());
    }
    Ok(scanned)
}

fn mount(arguments: &[&str]) -> Result<(), Failure> {
    let done = Program::new("mount").args(arguments).status()?;
    if done.success() { Ok(()) } else { Err(format!("mount {arguments:?} failed").into()) }
}
