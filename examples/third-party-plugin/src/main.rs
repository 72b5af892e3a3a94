//! The `s3t` command line with the plugins of this crate.

use std::process::ExitCode;

// Linking the crate registers its plugins.
use s3t_example_third_party_plugin as _;

fn main() -> ExitCode {
    s3t_cli::main()
}
