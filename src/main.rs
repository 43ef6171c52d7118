//! The command: dispatch and exit codes, nothing else.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pss_guard::alloc::{ARENA, Bump};
use pss_guard::cli::{Cli, Command, Format, Namespaces, Policy};
use pss_guard::commands::{self, check, namespaces, policy};
use pss_guard::level::date::Date;
use pss_guard::paths::Paths;
use pss_guard::{explain, hook, verbose};

#[global_allocator]
static MEMORY: Bump<ARENA> = Bump::new();

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before the command line parser: it costs more than the judgement, and this runs before every container.
    if let Some((_, rest)) = arguments.split_first()
        && let Some((first, rest)) = rest.split_first()
        && first == "hook"
        && !rest.iter().any(|argument| argument == "--help" || argument == "-h")
    {
        hook::install_panic_hook();
        return hook::run(rest).into();
    }
    match Cli::try_parse_from(arguments) {
        Ok(cli) => run(&cli).into(),
        Err(err) => {
            // Help and version are no errors; everything else is wrong usage.
            let _ = err.print();
            u8::try_from(err.exit_code()).unwrap_or(commands::FAILED).into()
        }
    }
}

fn run(cli: &Cli) -> u8 {
    if cli.verbose {
        verbose::to_stderr();
    }
    let paths = Paths::under(&cli.root);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut err = std::io::stderr().lock();
    let code = match &cli.command {
        // Only for `hook --help`, which never comes here.
        Command::Hook(_) => commands::FAILED,
        Command::Check(arguments) => {
            let options = check::Options {
                level: arguments.level,
                policy: arguments.policy.as_deref(),
                format: match arguments.format {
                    Format::Text => check::Format::Text,
                    Format::Json => check::Format::Json,
                    Format::Sarif => check::Format::Sarif,
                },
                paths: &arguments.paths,
            };
            check::check(&paths, &options, &mut out, &mut err)
        }
        Command::Explain(arguments) if arguments.markdown => print(&mut out, &explain::markdown()),
        Command::Explain(arguments) => match arguments.what.as_deref().map(explain::find) {
            None => print(&mut out, &explain::overview()),
            Some(Ok(explained)) => print(&mut out, &explained.to_string()),
            Some(Err(unknown)) => {
                let _ = writeln!(err, "pss-guard: {unknown}");
                commands::FAILED
            }
        },
        Command::Policy(Policy::Check { file }) => {
            policy::check(&paths, file.as_deref(), today(), &mut out, &mut err)
        }
        Command::Policy(Policy::Show(arguments)) => {
            let subject = match &arguments.namespace {
                Some(name) => policy::Subject::Namespace(name),
                None => policy::Subject::Unmanaged,
            };
            policy::show(&paths, subject, &arguments.pod_annotation, &mut out, &mut err)
        }
        Command::Namespaces(Namespaces::Import) => {
            namespaces::import(&paths, &mut std::io::stdin().lock(), &mut out, &mut err)
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "pss-guard", &mut out);
            commands::OK
        }
        Command::Man => match clap_mangen::Man::new(Cli::command()).render(&mut out) {
            Ok(()) => commands::OK,
            Err(_) => commands::FAILED,
        },
    };
    // A reader that went away has seen enough.
    let _ = out.flush();
    code
}

/// Exceptions end by the calendar.
fn today() -> Date {
    Date::of(std::time::SystemTime::now())
}

fn print(out: &mut dyn Write, text: &str) -> u8 {
    match out.write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => commands::FAILED,
        _ => commands::OK,
    }
}
