//! Simulated systems against the exact mathematics.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use s3t_core::budget::depth::DepthLaw;
use s3t_core::budget::lifetime::{FirstSlices, Lifetime, Requests};
use s3t_core::sequence::{Cyclic, rotations};
use s3t_core::{
    PartitionShape, PerShard, Prior, Sequence, SequenceRequest, SequenceStrategy, ShardId, SliceAddress, SliceId,
};
use s3t_simulation::{Simulation, Stream, Trace};

fn cyclic(slices: u32, budget: usize) -> Vec<Sequence> {
    let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &Prior::Uniform, seed: 0 };
    Cyclic {}.sequences(&request).unwrap()
}

fn simulation(shards: u32, slices: u32, budget: usize, stream: Stream) -> Simulation {
    Simulation {
        shape: PartitionShape { shards, slices },
        sequences: PerShard::alike(cyclic(slices, budget)),
        stream,
        records: None,
        trials: 400,
        seed: 1,
        max_requests: u64::MAX,
    }
}

/// True if a simulated mean is within three standard errors of the exact one. One in 370 right ones is not; such a one is
/// simulated again with 16 times the trials and other numbers, so that one in 370^2 right ones fails, and a mean that is off
/// fails with four times the precision.
fn agrees(simulation: &Simulation, exact: f64, of: impl Fn(&Simulation) -> (f64, f64)) -> Result<(), String> {
    let mut found = (0.0, 0.0);
    for (trials, seed) in [(simulation.trials, simulation.seed), (16 * simulation.trials, !simulation.seed)] {
        found = of(&Simulation { trials, seed, ..simulation.clone() });
        if (found.0 - exact).abs() <= 3.0 * found.1 + 1e-9 * exact {
            return Ok(());
        }
    }
    Err(format!("simulated {} +- {}, exact {exact}: {simulation:?}", found.0, found.1))
}

#[derive(Debug, Clone)]
struct Configuration {
    shards: u32,
    slices: u32,
    sequences: Vec<Sequence>,
    prior: Option<Vec<f64>>,
    records_per_slice: Option<u64>,
    seed: u64,
}

fn configuration() -> impl Strategy<Value = Configuration> {
    (1u32..7, 1u32..9).prop_flat_map(|(shards, slices)| {
        let order = Just((0..slices).map(SliceId).collect::<Vec<_>>()).prop_shuffle();
        let sequences =
            order.prop_flat_map(move |order| (1..=slices as usize).prop_map(move |budget| rotations(&order, budget)));
        let weights = proptest::collection::vec(0.1f64..1.0, slices as usize).prop_map(|weights| {
            let total: f64 = weights.iter().sum();
            weights.iter().map(|weight| 0.95 * weight / total).collect::<Vec<f64>>()
        });
        let kind = prop_oneof![
            2 => Just((None, None)),
            2 => weights.prop_map(|weights| (Some(weights), None)),
            1 => (2u64..40).prop_map(|records| (None, Some(records))),
        ];
        (sequences, kind, any::<u64>()).prop_map(move |(sequences, (prior, records_per_slice), seed)| Configuration {
            shards,
            slices,
            sequences,
            prior,
            records_per_slice,
            seed,
        })
    })
}

/// Lifetimes, all and first, against the closed form and the integrals, on 250 configurations.
#[test]
fn simulated_and_exact_deletion_rates_agree() {
    let config = Config { cases: 250, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
        .run(&configuration(), |configuration| {
            let Configuration { shards, slices, sequences, prior, records_per_slice, seed } = configuration;
            let total = u64::from(shards * slices);
            let (rates, requests) = match (&prior, records_per_slice) {
                (Some(prior), _) => (prior.iter().map(|hit| hit / f64::from(shards)).collect(), Requests::Independent),
                (None, Some(records)) => (vec![records as f64; slices as usize], Requests::Finite(records * total)),
                (None, None) => (vec![1.0 / total as f64; slices as usize], Requests::Independent),
            };
            let exact = Lifetime::of(&[FirstSlices::of(shards.into(), &sequences, &rates)], requests);
            let simulation = Simulation {
                shape: PartitionShape { shards, slices },
                sequences: PerShard::alike(sequences),
                stream: prior.map_or(Stream::Uniform, Stream::Prior),
                records: records_per_slice.map(|records| PerShard::alike(vec![records; slices as usize])),
                trials: 300,
                seed,
                max_requests: u64::MAX,
            };
            let all = |simulation: &Simulation| {
                let found = simulation.lifetimes().unwrap().all_dead;
                (found.mean, found.standard_error)
            };
            let first = |simulation: &Simulation| {
                let found = simulation.lifetimes().unwrap().first_dead;
                (found.mean, found.standard_error)
            };
            agrees(&simulation, exact.all_dead, all).map_err(TestCaseError::fail)?;
            agrees(&simulation, exact.first_dead, first).map_err(TestCaseError::fail)
        })
        .unwrap();
}

#[test]
fn numbers_stay_right_at_size() {
    let large = Simulation { trials: 8, ..simulation(10_000, 64, 64, Stream::Uniform) };
    let exact = s3t_core::budget::lifetime::deletion_rate(10_000, 64, 64);
    agrees(&large, exact, |simulation| {
        let found = simulation.lifetimes().unwrap().all_dead;
        (found.mean, found.standard_error)
    })
    .unwrap();
}

#[test]
fn simulated_depths_agree_with_the_exact_law() {
    let prior = vec![0.4, 0.1, 0.1, 0.2, 0.1];
    let of_prior = prior.iter().map(|hit| hit / 3.0).collect();
    for (stream, hits) in [(Stream::Uniform, vec![1.0 / 15.0; 5]), (Stream::Prior(prior), of_prior)] {
        let simulation = simulation(3, 5, 4, stream);
        let law = DepthLaw::new(&cyclic(5, 4), &hits).unwrap();
        for requests in [0, 1, 5, 12, 40] {
            agrees(&simulation, law.expected_depth(requests), |simulation| {
                let point = &simulation.curve(&[requests]).unwrap()[0];
                (point.depth, point.standard_error)
            })
            .unwrap();
        }
        let whole = simulation.curve(&[0, 3, 9]).unwrap();
        assert_eq!((whole[0].depth, whole[0].alive), (5.0, 1.0));
        assert!(whole[1].depth > whole[2].depth && whole[2].band[0] <= whole[2].depth);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for stream in [Stream::Uniform, Stream::Prior(vec![0.3, 0.3, 0.2]), Stream::Bursty { mean_burst: 3.0 }] {
        let simulation = simulation(4, 3, 2, stream);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (simulation.lifetimes().unwrap(), simulation.curve(&[2, 7, 20]).unwrap()))
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(4));
        let other = Simulation { seed: 2, ..simulation.clone() };
        assert_ne!(one.0, other.lifetimes().unwrap());
    }
}

#[test]
fn finite_slices_of_unequal_sizes_agree_with_the_integral() {
    let sizes = vec![vec![3, 9, 5], vec![12, 2, 7]];
    let sequences = cyclic(3, 2);
    let first_slices: Vec<FirstSlices> = sizes
        .iter()
        .map(|sizes| FirstSlices::of(1, &sequences, &sizes.iter().map(|size| *size as f64).collect::<Vec<_>>()))
        .collect();
    let exact = Lifetime::of(&first_slices, Requests::Finite(38));
    let simulation =
        Simulation { records: Some(PerShard::each(sizes).unwrap()), ..simulation(2, 3, 2, Stream::Uniform) };
    agrees(&simulation, exact.all_dead, |simulation| {
        let found = simulation.lifetimes().unwrap().all_dead;
        (found.mean, found.standard_error)
    })
    .unwrap();
}

#[test]
fn endless_subjects_end() {
    let scattered = simulation(2, 2, 2, Stream::Subjects { mean_records: 1e18, scattered: true });
    assert_eq!(scattered.lifetimes().unwrap().all_dead.mean, 1.0);
    assert_eq!(scattered.curve(&[0, 1, 5]).unwrap()[1].depth, 0.0);
}

#[test]
fn an_adversary_needs_one_request_for_each_first_slice() {
    let lives = simulation(7, 5, 3, Stream::Adversarial).lifetimes().unwrap();
    assert_eq!((lives.all_dead.mean, lives.first_dead.mean, lives.trials), (21.0, 3.0, 1));
    // The shard with the fewest first slices goes first.
    let unequal = Simulation {
        sequences: PerShard::each(vec![cyclic(4, 4), cyclic(4, 1)]).unwrap(),
        ..simulation(2, 4, 1, Stream::Adversarial)
    };
    assert_eq!(unequal.lifetimes().unwrap().first_dead.mean, 1.0);
}

#[test]
fn bursts_in_one_slice_last_longer_and_scattered_subjects_shorter() {
    let mean = |stream| simulation(3, 4, 4, stream).lifetimes().unwrap().all_dead.mean;
    let uniform = mean(Stream::Uniform);
    let bursty = mean(Stream::Bursty { mean_burst: 5.0 });
    // Five requests do the work of one, less the rest of the last burst.
    assert!(bursty > 4.0 * uniform && bursty < 5.5 * uniform, "{bursty} {uniform}");
    let together = mean(Stream::Subjects { mean_records: 4.0, scattered: false });
    let scattered = mean(Stream::Subjects { mean_records: 4.0, scattered: true });
    assert_eq!(together, uniform, "a subject in one slice is one hit");
    assert!(scattered < 0.35 * together, "{scattered} {together}");
}

#[test]
fn a_trace_hits_what_it_names_and_survivors_are_told() {
    let addresses = [(0, 0), (0, 2), (1, 1), (0, 1)].map(|(shard, slice)| SliceAddress::new(shard, slice)).to_vec();
    let recorded = simulation(2, 3, 3, Stream::Trace(Trace::Addresses(addresses)));
    let lives = recorded.lifetimes().unwrap();
    assert_eq!((lives.survived, lives.all_dead.mean, lives.first_dead.mean), (1, 4.0, 4.0));
    // After slices 0 and 2 of shard 0 the sequence 1 2 0 keeps one stage; after slice 1 of shard 1, 2 0 1 keeps two.
    let depths: Vec<f64> = recorded.curve(&[0, 2, 3, 4, 9]).unwrap().iter().map(|point| point.depth).collect();
    assert_eq!(depths, [3.0, 2.0, 1.5, 1.0, 1.0]);

    // The same subject again and again hits one slice.
    let one = simulation(1, 2, 2, Stream::Trace(Trace::Ids(vec![0; 50]))).lifetimes().unwrap();
    assert_eq!((one.survived, one.trials), (400, 400));
    let many = simulation(1, 2, 2, Stream::Trace(Trace::Ids((0..50).collect()))).lifetimes().unwrap();
    assert_eq!(many.survived, 0);
    let outside = simulation(1, 2, 2, Stream::Trace(Trace::Addresses(vec![SliceAddress::new(1, 0)])));
    assert!(outside.lifetimes().unwrap_err().to_string().contains("outside 1 shards"));
}

#[test]
fn systems_that_cannot_die_are_given_up() {
    let mut immortal = simulation(2, 2, 2, Stream::Prior(vec![1.0, 0.0]));
    immortal.max_requests = 500;
    let lives = immortal.lifetimes().unwrap();
    assert_eq!((lives.survived, lives.all_dead.max), (400, 500.0));
}

#[test]
fn impossible_simulations_are_refused() {
    #[track_caller]
    fn check(change: impl Fn(&mut Simulation), word: &str) {
        let mut simulation = simulation(2, 3, 2, Stream::Uniform);
        change(&mut simulation);
        let message = simulation.lifetimes().unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    check(|simulation| simulation.trials = 0, "trials");
    check(|simulation| simulation.shape.shards = 0, "shards");
    check(|simulation| simulation.shape.slices = 4, "order of 4 slices");
    check(|simulation| simulation.sequences = PerShard::each(vec![cyclic(3, 1); 5]).unwrap(), "for 5 shards");
    check(|simulation| simulation.sequences = PerShard::alike(Vec::new()), "at least 1");
    check(|simulation| simulation.records = Some(PerShard::alike(vec![0; 3])), "records");
    check(|simulation| simulation.records = Some(PerShard::alike(vec![5; 2])), "not given for 2 x 3 slices");
    check(|simulation| simulation.trials = usize::MAX, "trials");
    check(|simulation| simulation.stream = Stream::Prior(vec![0.5, 0.6, 0.0]), "sums");
    check(|simulation| simulation.stream = Stream::Bursty { mean_burst: 0.5 }, "mean_burst");
    check(
        |simulation| simulation.stream = Stream::Subjects { mean_records: f64::NAN, scattered: true },
        "mean_records",
    );
}

#[test]
fn traces_are_read_or_refused_with_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = folder.path().join("trace.csv");
        std::fs::write(&path, text).unwrap();
        Trace::read(&path, |_, _, _| Ok(())).map_err(|error| error.to_string())
    };
    assert_eq!(read("subject,day\nann,1\nbob,1\nann,2\n"), Ok(Trace::Ids(vec![0, 1, 0])));
    assert_eq!(read("shard,slice\n0,2\n"), Ok(Trace::Addresses(vec![SliceAddress::new(0, 2)])));
    for (text, word) in [
        ("who\nann\n", "`subject`"),
        ("shard,slice\n0,2\n1,x\n", "trace.csv:3: `x`"),
        ("record\n\"\"\n", "empty"),
        ("record\n", "no request"),
        ("shard,slice\n0\n", "trace.csv:2"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(word), "{message}");
    }
}
