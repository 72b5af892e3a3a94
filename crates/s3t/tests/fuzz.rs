//! The fuzz targets for a fixed number of inputs each, on a stable compiler; `S3T_SOAK=N` for more. `fuzz/` has them for libFuzzer.

use std::panic::catch_unwind;

use s3t_testkit::fuzz::{TARGETS, mutate};

#[test]
fn no_input_makes_a_reader_panic() {
    let rounds: u64 = std::env::var("S3T_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1500);
    for target in TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            (target.run)(seed);
            for round in 0..rounds {
                let input = mutate(seed, round);
                let shown = String::from_utf8_lossy(&input[..input.len().min(400)]).into_owned();
                let ran = catch_unwind(|| (target.run)(&input));
                assert!(ran.is_ok(), "{} seed {number} round {round}: {shown}", target.name);
            }
        }
    }
}
