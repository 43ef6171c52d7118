//! The command: dispatch and exit codes, nothing else.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use pss_guard::cli::arguments::{AnswerFormat, Change, Cli, Command, Namespaces, Pods, Policy};
use pss_guard::cli::{
    self, arguments, check, explain, install, manual, metrics, mode, namespaces, pods, policy, report, scan,
    status, uninstall, verbose,
};
use pss_guard::install::engines;
use pss_guard::level::date::Date;
use pss_guard::output::terminal::Style;
use pss_guard::paths::Paths;
use pss_guard::status::Setting;

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
    let paths = Paths::under(&cli.root);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut err = std::io::stderr();
    if let Err(says) = cli::is_root(&cli.root) {
        let _ = writeln!(err, "pss-guard: {says}");
        return cli::FAILED;
    }
    let code = match &cli.command {
        // `hook` as the first argument never comes here.
        Command::Hook(_) => {
            let _ = writeln!(err, "pss-guard: `hook` must be the first argument, its options come after it");
            cli::FAILED
        }
        Command::Check(arguments) => {
            cli::tell_of_newer(arguments.level, &mut err);
            check::check(&paths, arguments, &mut out, &mut err)
        }
        Command::Scan(arguments) => {
            cli::tell_of_newer(arguments.level, &mut err);
            scan::scan(
                &pss_guard::scan::Setting::under(&cli.root),
                arguments,
                Style::of_stdout(),
                &mut out,
                &mut err,
            )
        }
        Command::Explain(arguments) if arguments.markdown => {
            print(&mut out, &mut err, explain::markdown().as_bytes())
        }
        Command::Explain(arguments) => match arguments.what.as_deref().map(explain::find) {
            None => print(&mut out, &mut err, explain::overview().as_bytes()),
            Some(Ok(explained)) => print(&mut out, &mut err, explained.to_string().as_bytes()),
            Some(Err(unknown)) => {
                let _ = writeln!(err, "pss-guard: {unknown}");
                cli::FAILED
            }
        },
        Command::Policy(Policy::Check { file }) => {
            policy::check(&paths, file.as_deref(), today(), &mut out, &mut err)
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
            policy::show(&paths, subject, &arguments.pod_annotation, &mut out, &mut err)
        }
        Command::Namespaces(Namespaces::Import) => {
            namespaces::import(&paths, &mut std::io::stdin().lock(), &mut out, &mut err)
        }
        Command::Pods(Pods::Import(arguments)) => {
            pods::import(&paths, arguments.node.as_deref(), &mut std::io::stdin().lock(), &mut out, &mut err)
        }
        Command::Install(arguments) => {
            let options = install::Options {
                engine: arguments.engine.0,
                method: arguments.method,
                probe: !arguments.no_probe,
                ..changes(&arguments.change)
            };
            install::install(&cli.root, &options, &mut out, &mut err)
        }
        Command::Uninstall(arguments) => {
            let options = install::Options { engine: arguments.engine.0, ..changes(&arguments.change) };
            uninstall::uninstall(&cli.root, &options, &mut out, &mut err)
        }
        Command::Status(arguments) => {
            let options = status::Options {
                engine: arguments.engine,
                json: arguments.json || arguments.format == AnswerFormat::Json,
                containers: cli.verbose,
            };
            status::status(&Setting::under(&cli.root, &engines::ALL), options, &mut out, &mut err)
        }
        Command::Mode(arguments) => change_mode(cli, arguments, &mut out, &mut err),
        Command::Metrics(arguments) => {
            if arguments.http {
                metrics::serve(&cli.root, Duration::from_secs(arguments.idle), &mut err)
            } else {
                let setting = Setting::under(&cli.root, &engines::ALL);
                metrics::write(&setting, arguments.format, arguments.output.as_deref(), &mut out, &mut err)
            }
        }
        Command::Report(arguments) => {
            let setting = pss_guard::scan::Setting::under(&cli.root);
            report::report(&setting, arguments, Style::of_stdout(), &mut out, &mut err)
        }
        Command::Completions { shell } => {
            // Into memory first, because it panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "pss-guard", &mut script);
            print(&mut out, &mut err, &script)
        }
        Command::Man => print(&mut out, &mut err, &manual::manual()),
    };
    // What has failed has said so.
    if code == cli::FAILED { code } else { code.max(written(out.flush(), &mut err)) }
}

fn change_mode(cli: &Cli, arguments: &arguments::Mode, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let act = match arguments.mode {
        Some(mode) => mode::Act::Set { mode, time: arguments.time },
        None if arguments.end => mode::Act::End,
        None => mode::Act::Show { json: arguments.json || arguments.format == AnswerFormat::Json },
    };
    let options = mode::Options { reason: &arguments.reason, yes: arguments.yes, force: arguments.force };
    mode::mode(&pss_guard::scan::Setting::under(&cli.root), act, &options, out, err)
}

fn changes(change: &Change) -> install::Options<'_> {
    install::Options {
        engine: None,
        method: None,
        config: change.config.as_deref(),
        dry_run: change.dry_run,
        restart: change.restart,
        restart_command: change.restart_command.as_deref(),
        probe: false,
    }
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
            let _ = writeln!(err, "pss-guard: write to standard output: {error}");
            cli::FAILED
        }
        _ => cli::OK,
    }
}
