//! Diagnostics for whoever runs the program: spans and events of the libraries, by level and target.
//!
//! They hold epochs, keys of stages and numbers, and nothing personal; a test looks through a whole log.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::exit::{FAILED, Failure, REFUSED};

/// The options of the log, which every command has.
#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// Write diagnostics: a level (error, warn, info, debug, trace), or levels by crate as in `warn,s3t_train=trace`.
    #[arg(long, global = true, value_name = "LEVEL|FILTER")]
    log: Option<String>,
    /// Append the diagnostics to this file instead of writing them to standard error.
    #[arg(long, global = true, requires = "log", value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// The form of the diagnostics: lines for people, or a JSON object a line.
    #[arg(long, global = true, requires = "log", value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

// Without comments of their own, which would make every command's help twice as long.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Starts writing diagnostics, if they are asked for.
pub(crate) fn start(args: &LogArgs) -> Result<(), Failure> {
    let Some(filter) = &args.log else { return Ok(()) };
    // A word without a level would count as a crate of which everything is logged.
    let is_level = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    let parsed = filter.parse::<Targets>().ok().filter(|_| filter.split(',').all(is_level));
    let filter = parsed.ok_or_else(|| {
        let help = "give error, warn, info, debug or trace, or levels by crate as in `warn,s3t_train=trace`";
        Failure::new(REFUSED, format!("`--log {filter}` is no level and no filter; {help}"))
    })?;
    match &args.log_file {
        None => install(filter, args.log_format, io::stderr),
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file = opened
                .map_err(|error| Failure::new(FAILED, format!("cannot write the log `{}`: {error}", path.display())))?;
            install(filter, args.log_format, Mutex::new(file));
        }
    }
    Ok(())
}

fn install<W>(filter: Targets, format: LogFormat, writer: W)
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    // The end of a span comes with its time.
    let layer = fmt::layer().with_ansi(false).with_span_events(FmtSpan::CLOSE).with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
    };
    // A program that has set up its own diagnostics keeps them.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}
