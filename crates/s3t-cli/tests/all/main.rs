//! The command line, run as its users run it. The files are one program, because linking one takes seconds: `cargo test -p s3t-cli --test all slurm::` runs
//! the tests of `slurm.rs`.

#[cfg(unix)]
mod afresh;
mod attack;
mod by_hand;
mod commands;
#[cfg(unix)]
mod detached;
#[cfg(unix)]
mod executors;
mod golden;
mod ids;
mod json;
#[cfg(unix)]
mod kills;
#[cfg(target_os = "linux")]
mod kubernetes;
mod laws;
mod logging;
#[cfg(unix)]
mod network;
#[cfg(unix)]
mod objects;
#[cfg(unix)]
mod outsiders;
mod owner;
mod planning;
#[cfg(unix)]
mod processes;
#[cfg(target_os = "linux")]
mod ray;
#[cfg(unix)]
mod server_kills;
#[cfg(unix)]
mod serving;
#[cfg(target_os = "linux")]
mod slurm;
#[cfg(target_os = "linux")]
mod ssh;
mod texts;
mod texts_world;
mod workspace;
