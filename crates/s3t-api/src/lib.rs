//! The service layer: typed requests and answers, and a function for each request.
//!
//! A request is plain data, read from a command line, an HTTP body or a Python dictionary; an answer is the JSON object that `s3t
//! --json` prints. A failed request gives an [`ApiError`], whose [`ErrorKind`] becomes an exit code here and an HTTP status there.
//! Each module has one command: its request, its answer, and the function between them.

mod error;
mod plugins;

pub use error::{ApiError, ErrorKind};
pub use plugins::{Plugin, PluginField, PluginsAnswer, plugins};
