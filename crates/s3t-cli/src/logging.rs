//! Diagnostics for whoever runs the program: spans and events of the libraries, by level and target.
//!
//! They hold epochs, keys of stages and numbers, and nothing personal; a test looks through a whole log.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::ValueEnum as _;
use tracing::Level;
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

impl LogArgs {
    /// The same options for a process that this one starts in its own folder.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let Some(filter) = &self.log else { return Vec::new() };
        let format = self.log_format.to_possible_value().map(|format| format.get_name().to_owned());
        let options =
            [("--log-file", self.log_file.clone().map(OsString::from)), ("--log-format", format.map(OsString::from))];
        let given = options.into_iter().filter_map(|(option, value)| Some([option.into(), value?])).flatten();
        [OsString::from("--log"), filter.into()].into_iter().chain(given).collect()
    }
}

// Without comments of their own, which would make every command's help twice as long.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// A layer of diagnostics.
type Layered = Box<dyn Layer<Registry> + Send + Sync>;

/// Diagnostics that are being written, until this is dropped.
pub(crate) struct Diagnostics {
    #[cfg(feature = "otel")]
    _telemetry: Option<crate::telemetry::Telemetry>,
}

/// Starts writing diagnostics, if they are asked for. A server writes its own to standard error, a JSON object a line, unless others
/// are asked for.
pub(crate) fn start(args: &LogArgs, is_server: bool) -> Result<Diagnostics, Failure> {
    let mut layers: Vec<Layered> = asked_for(args)?.into_iter().collect();
    if layers.is_empty() && is_server {
        layers.push(layer(Targets::new().with_default(LevelFilter::INFO), LogFormat::Json, io::stderr));
    }
    #[cfg(feature = "otel")]
    let telemetry = crate::telemetry::layer()?.map(|(layer, telemetry)| {
        layers.push(layer);
        telemetry
    });
    if !layers.is_empty() {
        // A program that has set up its own diagnostics keeps them.
        let _ = tracing_subscriber::registry().with(layers).try_init();
    }
    #[cfg(not(feature = "otel"))]
    if is_server && std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        tracing::warn!("OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without the feature `otel`");
    }
    Ok(Diagnostics {
        #[cfg(feature = "otel")]
        _telemetry: telemetry,
    })
}

/// The log of the options.
fn asked_for(args: &LogArgs) -> Result<Option<Layered>, Failure> {
    let Some(filter) = &args.log else { return Ok(None) };
    // A word without a level would count as a crate of which everything is logged.
    let is_level = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    let parsed = filter.parse::<Targets>().ok().filter(|_| filter.split(',').all(is_level));
    let filter = parsed.ok_or_else(|| {
        let help = "give error, warn, info, debug or trace, or levels by crate as in `warn,s3t_train=trace`";
        Failure::new(REFUSED, format!("`--log {filter}` is no level and no filter; {help}"))
    })?;
    match &args.log_file {
        None => Ok(Some(layer(filter, args.log_format, io::stderr))),
        Some(path) => {
            if let Some(folder) = s3t::store::Place::around(path) {
                let (path, folder) = (path.display(), folder.display());
                let problem =
                    format!("the log `{path}` would be in `{folder}`, where nothing but a store's own files may be");
                return Err(Failure::new(REFUSED, format!("{problem}; put it elsewhere")));
            }
            let failed =
                |error: io::Error| Failure::new(FAILED, format!("cannot write the log `{}`: {error}", path.display()));
            if !is_log(path).map_err(failed)? {
                let problem = format!("`{}` is there and is no log, so nothing is appended to it", path.display());
                return Err(Failure::new(REFUSED, format!("{problem}; name another file for `--log-file`")));
            }
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
            Ok(Some(layer(filter, args.log_format, Mutex::new(file))))
        }
    }
}

/// `true` for a file of diagnostics, an empty one, none, and what is no file, as a terminal: only another file has something to lose.
fn is_log(path: &Path) -> io::Result<bool> {
    if !path.metadata().is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(true);
    }
    let mut start = Vec::new();
    File::open(path)?.take(100).read_to_end(&mut start)?;
    let start = String::from_utf8_lossy(&start);
    // The time, and in text the level after it.
    let level = start.split_whitespace().nth(1).unwrap_or_default();
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    Ok(start.starts_with("{\"timestamp\":\"") || levels.iter().any(|known| known.as_str() == level))
}

fn layer<W>(filter: Targets, format: LogFormat, writer: W) -> Layered
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    // The end of a span comes with its time.
    let layer = fmt::layer().with_ansi(false).with_span_events(FmtSpan::CLOSE).with_writer(writer);
    match format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
    }
}
