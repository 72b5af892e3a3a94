//! The engine on tiny models, in one program as each is linked with everything: `cargo test -p s3t-engine --test all ids::` runs the tests of one file.

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
mod watch;
mod world;
