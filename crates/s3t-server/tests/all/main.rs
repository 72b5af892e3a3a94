//! The service over HTTP. The files are one program, because linking one takes seconds: `cargo test -p s3t-server --test all follow::` runs
//! the tests of `follow.rs`.

mod access;
mod answers;
mod authority;
mod between;
mod controller;
mod deletions;
mod follow;
mod hostile;
mod life;
mod opendsr;
mod page;
mod proofs;
mod repair;
mod witness;
mod world;
