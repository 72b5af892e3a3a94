//! The engine on tiny models. The files are one program, because linking one takes seconds: `cargo test -p s3t-engine --test all ids::` runs
//! the tests of `ids.rs`.

mod activations;
mod audit;
mod beside;
mod erasure;
mod executors;
mod ids;
mod joined;
mod non_interference;
mod pipelines;
mod replica;
mod routing;
mod watch;
mod world;
