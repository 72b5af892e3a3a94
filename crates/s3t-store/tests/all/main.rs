//! The store from outside, in one program as each is linked with everything: `cargo test -p s3t-store --test all cells::` runs the tests of one file.

mod adding;
mod cells;
mod common;
mod elsewhere;
mod exports;
mod failures;
mod old_stores;
mod residue;
