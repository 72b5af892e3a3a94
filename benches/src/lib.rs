//! Benchmarks, run by `cargo bench -p s3t-benches`.
