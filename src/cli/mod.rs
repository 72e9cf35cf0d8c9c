//! The command line: arguments, commands, exit codes.
//!
//! Talk goes to stderr, data to stdout. Exit codes: 0 done, 1 a stage failed, 2 recipe or usage, 130 interrupted. The work
//! is done in the other rooms.

mod annotate;
mod annotations;
mod archive;
mod bench;
mod compare;
mod data;
mod devices;
mod estimate;
mod exec_stage;
mod gc;
mod generate;
mod grid;
mod inspect;
mod interrupt;
mod label;
mod manifest;
mod output;
mod plan;
mod power;
mod queue;
mod report;
mod rooms;
mod run;
mod runs;
mod score;
mod stored;
mod watch;
mod winrate;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::store::{Sharing, Store};
use output::Failure;

/// Declarative experiments in fine-grained RLHF: one recipe in, one report out.
#[derive(Parser)]
#[command(name = "runner", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a recipe; what is already in the store is not run again
    Run(run::RunArgs),
    /// Say what `run` would do, and why
    Plan(plan::PlanArgs),
    /// Check a recipe without touching the store
    Check(plan::CheckArgs),
    /// Explain a recipe key: type, default, meaning
    Explain(plan::ExplainArgs),
    /// Write the report of a run, or of several beside each other
    Report(report::ReportArgs),
    /// Do one stage of a submitted run, as launchers have it done
    ExecStage(exec_stage::ExecStageArgs),
    /// Take a run that was handed to a queue out of it
    Cancel(queue::CancelArgs),
    /// List the runs of the store, the last active first
    Ls(runs::LsArgs),
    /// Show what a run or a result is and where it comes from
    Show(inspect::ShowArgs),
    /// Follow a run that is at work, here or elsewhere
    Watch(watch::WatchArgs),
    /// Say what differs between two runs or recipes, and which stages they share
    Diff(compare::DiffArgs),
    /// Compare what came of runs, or of the points of a sweep
    Compare(compare::CompareArgs),
    /// Say how many prompts and seeds it takes to see a difference
    Power(power::PowerArgs),
    /// Give a run a name, or list the names
    Tag(runs::TagArgs),
    /// Remove from the store what nobody needs; says first what that is
    Gc(gc::GcArgs),
    /// Write a run with its results to one file, or a model to a folder
    Export(archive::ExportArgs),
    /// Take such a file into a store
    Import(archive::ImportArgs),
    /// Look at a dataset before a recipe names it
    Data(data::DataArgs),
    /// Serve the page on which people edit responses
    Annotate(annotate::AnnotateArgs),
    /// What people edited: statistics, agreement, other formats
    Annotations(annotations::AnnotationsArgs),
    /// Align texts or token ids and label what an edit changed
    Label(label::LabelArgs),
    /// Let a trained policy answer prompts
    Generate(generate::GenerateArgs),
    /// Say what a model thinks of given texts, token by token
    Score(score::ScoreArgs),
    /// Compute AlpacaEval's win rates from files of annotations
    Winrate(winrate::WinrateArgs),
    /// List what this binary and this machine can compute on, tested
    Devices(devices::DevicesArgs),
    /// Measure tokens per second on fixed work
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The recipe, for every command that takes one.
#[derive(Args)]
struct RecipeArgs {
    /// The recipe's TOML file
    recipe: PathBuf,
    /// Override a key, as in `--set ppo.steps=80`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// The store, for every command that looks into it.
#[derive(Args, Clone)]
struct StoreArgs {
    /// Where results are kept [default: `$RUNNER_STORE`, else `.runner`]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

impl StoreArgs {
    fn open(&self) -> Result<Store, Failure> {
        let from_environment = || std::env::var_os("RUNNER_STORE").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let root = self.store.clone().or_else(from_environment).unwrap_or_else(|| PathBuf::from(".runner"));
        let store = Store::open(root).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(match patience()? {
            Some(patience) => store.sharing(Sharing::by_beats_alone(patience)),
            None => store,
        })
    }
}

/// For a store whose file locks cannot be believed: after how long a silence a claim is dead.
fn patience() -> Result<Option<Duration>, Failure> {
    let Ok(text) = std::env::var("RUNNER_CLAIM_PATIENCE") else { return Ok(None) };
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|seconds| !seconds.is_zero()).ok_or_else(|| {
        Failure::usage(format!("expected a number of seconds above 0 in `RUNNER_CLAIM_PATIENCE`, found `{text}`"))
    })?;
    Ok(Some(seconds))
}

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; a reader that has gone away is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match listen().and_then(|()| dispatch(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Check(args) => plan::check(&args),
        Command::Explain(args) => plan::explain(&args),
        Command::Report(args) => report::report(&args),
        Command::ExecStage(args) => exec_stage::exec_stage(&args),
        Command::Cancel(args) => queue::cancel(&args),
        Command::Ls(args) => runs::ls(&args),
        Command::Show(args) => inspect::show(&args),
        Command::Watch(args) => watch::watch(&args),
        Command::Diff(args) => compare::diff(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Power(args) => power::power(&args),
        Command::Tag(args) => runs::tag(&args),
        Command::Gc(args) => gc::gc(&args),
        Command::Export(args) => archive::export(&args),
        Command::Import(args) => archive::import(&args),
        Command::Data(args) => data::data(&args),
        Command::Annotate(args) => annotate::annotate(&args),
        Command::Annotations(args) => annotations::annotations(&args),
        Command::Label(args) => label::label(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Score(args) => score::score(&args),
        Command::Winrate(args) => winrate::winrate(&args),
        Command::Devices(args) => devices::devices(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "runner", &mut script);
            output::data(&String::from_utf8_lossy(&script))
        }
    }
}

/// Sends diagnostics to stderr, as `RUNNER_LOG` says.
fn listen() -> Result<(), Failure> {
    let directives = std::env::var("RUNNER_LOG").unwrap_or_default();
    let directives = if directives.is_empty() { "warn" } else { &directives };
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| Failure::usage(format!("cannot read the filter `{directives}` in `RUNNER_LOG`: {error}")))?;
    // A second call in one process keeps the first subscriber, which is as good.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
