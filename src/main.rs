//! The command: dispatch and exit codes, nothing else.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dlmalloc::GlobalDlmalloc;
use nix::unistd::geteuid;
use pss_guard::cli::arguments::{Cli, Cluster, Command, Install, Namespaces, Pods, Policy};
use pss_guard::cli::{
    self, check, cluster, complete, explain, install, metrics, mode, namespaces, pods, policy, report, scan,
    status, uninstall, verbose, verify,
};
use pss_guard::install::{engines, programs};
use pss_guard::level::date::Date;
use pss_guard::node::procfs::Processes;
use pss_guard::node::root::{self, Root};
use pss_guard::output::policy_file;
use pss_guard::output::terminal::Style;
use pss_guard::paths::Paths;
use pss_guard::status::Setting;

/// Not musl's, which maps and unmaps what is larger than a part of a page, and has one lock that it holds meanwhile. With this
/// one a scan has half of the page faults and takes a quarter less CPU. The gate has an arena instead.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let is_help = |argument: &OsString| argument == "--help" || argument == "-h";
    let asks_for_help =
        arguments.get(1).is_some_and(|first| first == "hook") && arguments.iter().any(is_help);
    // Entries and hooks that lead to this program, because it was the gate, too, once, or people made them by hand.
    if !asks_for_help && let Some(code) = pss_guard_gate::dispatch::run(&arguments) {
        return code.into();
    }
    match Cli::try_parse_from(arguments) {
        Ok(cli) => run(&cli).into(),
        Err(err) => {
            // Help and version are no errors; everything else is wrong usage.
            let _ = err.print();
            u8::try_from(err.exit_code()).unwrap_or(cli::FAILED).into()
        }
    }
}

#[allow(clippy::too_many_lines, reason = "a table: one arm a command")]
fn run(cli: &Cli) -> u8 {
    if cli.verbose {
        verbose::to_stderr();
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut err = std::io::stderr();
    if let Err(says) = cli::is_root(&cli.root) {
        let _ = writeln!(err, "pss-guard: {says}");
        return cli::FAILED;
    }
    let taken = Root::of(&cli.root);
    let root = match enter(&taken, &cli.command, &mut err) {
        Ok(root) => root,
        Err(code) => return code,
    };
    let root = root.as_path();
    let is_entered = matches!(taken, Root::Mounted(_));
    if let Err(says) = sees_the_node(root, is_entered, &cli.command) {
        let _ = writeln!(err, "pss-guard: {says}");
        return cli::FAILED;
    }
    let paths = Paths::under(root);
    let code = match &cli.command {
        // `hook` as the first argument never comes here.
        Command::Hook(_) => {
            let _ = writeln!(err, "pss-guard: `hook` must be the first argument, its options come after it");
            cli::FAILED
        }
        Command::Check(arguments) => {
            cli::tell_of_newer(arguments.level, &mut err);
            check::check(&paths, arguments, Style::of_terminal(), &mut out, &mut err)
        }
        Command::Scan(arguments) => {
            cli::tell_of_newer(arguments.level, &mut err);
            scan::scan(
                &pss_guard::scan::Setting::under(root),
                arguments,
                Style::of_stdout(),
                &mut out,
                &mut err,
            )
        }
        Command::Explain(arguments) => match explain::explain(arguments, &Style::of_terminal()) {
            Ok(text) => print(&mut out, &mut err, text.as_bytes()),
            Err(says) => {
                let _ = writeln!(err, "pss-guard: {says}");
                cli::FAILED
            }
        },
        Command::Policy(Policy::Check { file, format }) => {
            let look = policy::Look { format: *format, style: Style::of_terminal() };
            policy::check(&paths, file.as_deref(), today(), look, &mut out, &mut err)
        }
        Command::Policy(Policy::Init(arguments)) => match &arguments.output {
            None => print(&mut out, &mut err, policy_file::commented().as_bytes()),
            Some(file) => policy::init(&paths, file, &mut out, &mut err),
        },
        Command::Policy(Policy::Schema) => {
            print(&mut out, &mut err, format!("{:#}\n", policy_file::schema()).as_bytes())
        }
        Command::Policy(Policy::Remove(arguments)) => {
            policy::remove(&paths, &arguments.reason, arguments.yes, &mut out, &mut err)
        }
        Command::Policy(Policy::Show(arguments)) => {
            let subject = match &arguments.namespace {
                Some(name) => policy::Subject::Namespace(name),
                None if arguments.unmanaged => policy::Subject::Unmanaged,
                None => policy::Subject::All,
            };
            let look = policy::Look { format: arguments.format, style: Style::of_terminal() };
            policy::show(&paths, subject, &arguments.pod_annotation, look, &mut out, &mut err)
        }
        Command::Namespaces(Namespaces::Import) => {
            namespaces::import(&paths, &mut std::io::stdin().lock(), &mut out, &mut err)
        }
        Command::Namespaces(Namespaces::List(arguments)) => {
            let setting = pss_guard::scan::Setting::under(root);
            namespaces::list(&setting, arguments.format, &mut out, &mut err)
        }
        Command::Pods(Pods::Import(arguments)) => {
            pods::import(&paths, arguments.node.as_deref(), &mut std::io::stdin().lock(), &mut out, &mut err)
        }
        Command::Cluster(Cluster::Import) => {
            cluster::import(&paths, &mut std::io::stdin().lock(), &mut out, &mut err)
        }
        Command::Install(arguments) => install::install(root, arguments, &mut out, &mut err),
        Command::Uninstall(arguments) => uninstall::uninstall(root, arguments, &mut out, &mut err),
        Command::Status(arguments) => {
            let setting = Setting::under(root, &engines::ALL);
            let look = status::Look { containers: cli.verbose, style: Style::of_terminal() };
            status::status(&setting, &taken, arguments, look, &mut out, &mut err)
        }
        Command::Verify(arguments) => verify::verify(root, arguments, &mut out, &mut err),
        Command::Mode(arguments) => {
            let setting = pss_guard::scan::Setting::under(root);
            mode::mode(&setting, arguments, &mut out, &mut err)
        }
        Command::Metrics(arguments) => metrics::metrics(root, arguments, &mut out, &mut err),
        Command::Report(arguments) => {
            let setting = pss_guard::scan::Setting::under(root);
            report::report(&setting, arguments, Style::of_stdout(), &mut out, &mut err)
        }
        Command::Completions { shell } => print(&mut out, &mut err, shell.script().as_bytes()),
        Command::Complete { words } => {
            let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            complete::complete(&words, &mut out)
        }
        Command::Man { page } => print(&mut out, &mut err, page.text().as_bytes()),
    };
    // What has failed has said so.
    if code == cli::FAILED { code } else { code.max(written(out.flush(), &mut err)) }
}

/// Enters the running node's root if that is what `--root` names, and says what it names. A command that only reads files of
/// ours, or is given files of the caller's, stays where it is.
fn enter(root: &Root, command: &Command, err: &mut dyn Write) -> Result<PathBuf, u8> {
    let (is_of_the_node, says) = match command {
        Command::Install(_)
        | Command::Uninstall(_)
        | Command::Status(_)
        | Command::Verify(_)
        | Command::Scan(_) => (true, true),
        Command::Metrics(_)
        | Command::Report(_)
        | Command::Mode(_)
        | Command::Namespaces(Namespaces::List(_)) => (true, false),
        _ => (false, false),
    };
    let is_mounted = matches!(root, Root::Mounted(_));
    if let Some(description) = root.describe().filter(|_| says || (is_of_the_node && is_mounted)) {
        let _ = writeln!(err, "pss-guard: --root: {description}");
    }
    match root {
        Root::Mounted(path) if !is_of_the_node => Ok(path.clone()),
        _ => {
            if is_mounted {
                programs::hold();
            }
            root.enter().map_err(|error| {
                let _ =
                    writeln!(err, "pss-guard: enter the root of the running node: {error}; this takes root with CAP_SYS_CHROOT");
                cli::FAILED
            })
        }
    }
}

/// Whether a command sees all of the running node that its answer rests on. Root in a container may not; what users do not see
/// each command says itself.
fn sees_the_node(root: &Path, is_entered: bool, command: &Command) -> Result<(), String> {
    let rests_on_processes = match command {
        Command::Install(_) | Command::Uninstall(_) | Command::Status(_) | Command::Metrics(_) => true,
        // Other nodes' scans say what those have seen.
        Command::Scan(scan) => scan.merge.is_empty(),
        _ => false,
    };
    // What a package manager calls in an image: where no /proc is mounted nothing runs.
    let is_of_packages =
        matches!(command, Command::Uninstall(_) | Command::Install(Install { programs: true, .. }));
    let is_image = is_of_packages && !is_entered && !root.join("proc/self").exists();
    if !rests_on_processes || is_image || !geteuid().is_root() {
        return Ok(());
    }
    let other = is_entered.then(root::another_tree).flatten();
    other.or_else(|| Processes::of(root).untold().map(str::to_owned)).map_or(Ok(()), Err)
}

/// Exceptions end by the calendar.
fn today() -> Date {
    Date::of(std::time::SystemTime::now())
}

fn print(out: &mut dyn Write, err: &mut dyn Write, text: &[u8]) -> u8 {
    written(out.write_all(text), err)
}

/// What follows from a write to standard output. A reader that went away (`| head`) has seen enough.
fn written(result: std::io::Result<()>, err: &mut dyn Write) -> u8 {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ =
                writeln!(err, "pss-guard: write to standard output: {}", pss_guard::message::line(&error));
            cli::FAILED
        }
        _ => cli::OK,
    }
}
