//! The store from outside. The files are one program, because linking one takes seconds: `cargo test -p s3t-store --test all cells::` runs
//! the tests of `cells.rs`.

mod adding;
mod cells;
mod common;
mod elsewhere;
mod exports;
mod failures;
mod old_stores;
mod residue;
