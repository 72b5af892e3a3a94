//! The worker of the guide.
#![allow(clippy::exit, reason = "a worker whose owner is gone ends in the middle of a step")]

include!(concat!(env!("OUT_DIR"), "/worker.rs"));
