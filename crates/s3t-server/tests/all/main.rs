//! The service over HTTP, in one program as each is linked with everything: `cargo test -p s3t-server --test all follow::` runs the tests of one file.

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
