//! Texts that are continued with what is remembered are those that are continued without.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_core::aggregate::{MeanLogits, MeanProbabilities, argmax};
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_core::{Aggregator, MemberInfo, Payload, Record, RecordId, ShardId, Target};
use s3t_generate::{Batch, BatchLimits, EndReason, EventKind, GenerateError, Lanes, NewToken, Prompt, Sampling};
use s3t_llama as _;
use s3t_models::{Backbone, Device, Input, LoadOptions, load};
use s3t_peft::PeftMethod;
use s3t_peft::tensors::{stage_on_device, to_host};
use s3t_train::StageModel;

static BACKBONE: LazyLock<Arc<Backbone>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    load(&folder, LoadOptions::default(), &Device::flex()).unwrap()
});

static LORA: LazyLock<Vec<Arc<StageModel>>> = LazyLock::new(|| models(&lora(), &[1, 0, 4, 2]));

fn lora() -> s3t_lora::Lora {
    let targets = ["query", "key", "value", "output", "gate", "up", "down"].map(String::from).to_vec();
    s3t_lora::Lora { rank: 4, alpha: 8.0, dropout: 0.0, targets }
}

/// Models with random adapters, the lowest in these blocks.
fn models(method: &dyn PeftMethod, starts: &[usize]) -> Vec<Arc<StageModel>> {
    let device = Device::flex();
    let model = |(seed, start): (u64, &usize)| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = StageTensors::default();
        let blocks = (*start..BACKBONE.blocks()).collect();
        for block in *start..BACKBONE.blocks() {
            for spec in method.parameters(&BACKBONE.block_shape()) {
                let values = (0..spec.len()).map(|_| random.random_range(-0.1..0.1)).collect();
                let tensor = HostTensor { shape: spec.shape, values };
                tensors.blocks.entry(block).or_default().insert(spec.name, tensor);
            }
        }
        Arc::new(StageModel::of_blocks(&BACKBONE, method, &blocks, 0, &stage_on_device(&tensors, &device)).unwrap())
    };
    (0..).zip(starts).map(model).collect()
}

fn lanes(models: &[Arc<StageModel>]) -> Lanes {
    let place = MemberInfo::new(ShardId(0), 1);
    let models = models.iter().map(|model| (place, Arc::clone(model))).collect();
    Lanes::new(Arc::clone(&BACKBONE), models).unwrap()
}

fn batch(models: &[Arc<StageModel>], limits: BatchLimits) -> Batch {
    Batch::new(lanes(models), limits)
}

const ROOM: BatchLimits = BatchLimits { texts: 64, cache_bytes: 100_000_000 };

/// A prompt of random tokens.
fn prompt(random: &mut ChaCha8Rng, length: usize) -> Vec<u32> {
    (0..length).map(|_| random.random_range(3..448)).collect()
}

fn greedy(max_tokens: usize) -> Sampling {
    Sampling { max_tokens, ignore_eos: true, ..Sampling::default() }
}

/// The tokens of a text, and its end.
type MadeText = (Vec<NewToken>, Option<EndReason>);

/// The tokens that follow prompts that join a batch after so many steps, each with its end.
fn made(batch: &mut Batch, aggregator: &dyn Aggregator, prompts: &[(usize, Prompt)]) -> Vec<MadeText> {
    let mut results: Vec<MadeText> = vec![Default::default(); prompts.len()];
    let mut numbers: BTreeMap<u64, usize> = BTreeMap::new();
    let mut left: Vec<usize> = (0..prompts.len()).collect();
    for step in 0.. {
        left.retain(|place| {
            let (from, prompt) = &prompts[*place];
            let number = if *from <= step { batch.add(prompt.clone()).unwrap().ok() } else { None };
            numbers.extend(number.map(|number| (number, *place)));
            number.is_none()
        });
        if left.is_empty() && batch.texts().is_empty() {
            return results;
        }
        for event in batch.step(aggregator).unwrap() {
            let result = &mut results[numbers[&event.text]];
            match event.kind {
                EventKind::Prompt(tokens) => result.0.extend(tokens),
                EventKind::Token(token) => result.0.push(token),
                EventKind::End(reason, rest, _) => {
                    result.1 = Some(reason);
                    if let (Some(last), false) = (result.0.last_mut(), rest.is_empty()) {
                        last.text.push_str(&rest);
                    }
                }
                EventKind::Failed(error, _) => panic!("{error}"),
            }
        }
    }
    unreachable!("the steps do not end")
}

/// The logits behind each token of a text, by running the whole text through each model.
fn whole(models: &[Arc<StageModel>], ids: &[u32], aggregator: &dyn Aggregator) -> Vec<Vec<f32>> {
    let record = Record {
        id: RecordId::new("text").unwrap(),
        subject: None,
        target: Target::None,
        ordinal: 0,
        payload: Payload::Text("a".into()),
    };
    let mut input: Input<'_> = BACKBONE.prepare(&record).unwrap();
    input.ids = ids.to_vec();
    (input.tokens, input.padded, input.length) = (ids.len(), ids.len(), ids.len());
    let rows: Vec<usize> = (0..ids.len()).collect();
    let of_model = |model: &Arc<StageModel>| {
        let hidden = model.first_input(&BACKBONE, &[&input]);
        let logits = to_host(model.next_token_logits(&BACKBONE, hidden, &rows));
        logits.chunks(logits.len() / ids.len()).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let of_models: Vec<Vec<Vec<f32>>> = models.iter().map(of_model).collect();
    let combined = |row: usize| aggregator.combine(&of_models.iter().map(|rows| &*rows[row]).collect::<Vec<_>>());
    (0..ids.len()).map(combined).collect()
}

/// Checks that each made token has the largest score behind the tokens before it.
fn check_greedy(models: &[Arc<StageModel>], prompt: &[u32], made: &[NewToken], aggregator: &dyn Aggregator) {
    let ids: Vec<u32> = prompt.iter().copied().chain(made.iter().map(|token| token.id)).collect();
    let logits = whole(models, &ids, aggregator);
    for (place, token) in made.iter().enumerate() {
        let behind = &logits[prompt.len() + place - 1];
        assert_eq!(argmax(behind) as u32, token.id, "token {place} behind {} tokens", prompt.len());
    }
}

#[test]
fn the_tokens_of_a_thousand_prompts_are_those_of_whole_passes() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let models = &LORA[..2];
    let prompts: Vec<(usize, Prompt)> = (0..1000)
        .map(|index| {
            let length = 1 + index % 60;
            (0, Prompt { ids: prompt(&mut random, length), sampling: greedy(8) })
        })
        .collect();
    let results = made(&mut batch(models, ROOM), &MeanLogits {}, &prompts);
    for ((_, prompt), (made, end)) in prompts.iter().zip(&results) {
        assert_eq!((made.len(), *end), (8, Some(EndReason::Length)));
        check_greedy(models, &prompt.ids, made, &MeanLogits {});
    }
}

#[test]
fn every_method_and_depth_continues_as_whole_passes_do() {
    let prefix = s3t_prefix::Prefix { length: 5 };
    let prompts = s3t_prefix::Prompt { length: 3 };
    let (ia3, bottleneck) = (s3t_ia3::Ia3::default(), s3t_bottleneck::Bottleneck::default());
    let methods: [&dyn PeftMethod; 5] = [&lora(), &ia3, &bottleneck, &prefix, &prompts];
    for (index, method) in methods.into_iter().enumerate() {
        for starts in [vec![0], vec![3, 1], vec![4, 2], vec![4], vec![1, 1, 0]] {
            let models = models(method, &starts);
            let mut random = ChaCha8Rng::seed_from_u64(index as u64);
            let prompts: Vec<(usize, Prompt)> = [1, 15, 16, 17, 33]
                .map(|length| (length % 3, Prompt { ids: prompt(&mut random, length), sampling: greedy(20) }))
                .to_vec();
            let results = made(&mut batch(&models, ROOM), &MeanProbabilities::default(), &prompts);
            for ((_, prompt), (made, _)) in prompts.iter().zip(&results) {
                assert_eq!(made.len(), 20);
                check_greedy(&models, &prompt.ids, made, &MeanProbabilities::default());
            }
        }
    }
}

#[test]
fn scores_of_a_prompt_are_those_of_a_whole_pass() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let ids = prompt(&mut random, 50);
    let sampling = Sampling { prompt_logprobs: true, logprobs: Some(3), ..greedy(1) };
    let prompts = [(0, Prompt { ids: ids.clone(), sampling })];
    let (tokens, _) = made(&mut batch(&LORA, ROOM), &MeanLogits {}, &prompts).remove(0);
    assert_eq!(tokens.iter().take(50).map(|token| token.id).collect::<Vec<_>>(), ids);
    assert_eq!((tokens.len(), tokens[0].logprob, tokens[0].top.len()), (51, None, 0));
    let logits = whole(&LORA, &ids, &MeanLogits {});
    for (token, logits) in tokens[1..].iter().zip(&logits) {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
        let expected = f64::from(logits[token.id as usize] - top) - sum.ln();
        assert!((f64::from(token.logprob.unwrap()) - expected).abs() < 1e-4, "{token:?} {expected}");
        assert_eq!((token.top.len(), token.top[0].id), (3, argmax(logits) as u32));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_text_does_not_depend_on_those_beside_it(
        lengths in prop::collection::vec((1..90usize, 0..6usize, 1..25usize), 1..9),
        seed: u64, shared in 0..50usize, pages in 1..4usize,
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let beginning = prompt(&mut random, shared);
        let prompts: Vec<(usize, Prompt)> = lengths
            .iter()
            .enumerate()
            .map(|(index, (length, from, max_tokens))| {
                let own = prompt(&mut random, *length);
                let ids = if index % 2 == 0 { beginning.iter().copied().chain(own).take(100).collect() } else { own };
                let sampling = Sampling {
                    max_tokens: *max_tokens,
                    temperature: 0.5 * (index % 3) as f32,
                    top_p: 0.9,
                    seed: index as u64,
                    logprobs: Some(2),
                    ..Sampling::default()
                };
                (*from, Prompt { ids, sampling })
            })
            .collect();
        // Room for few texts at a time, so that pages are given up and used again.
        let page = 16 * lanes(&LORA).token_bytes();
        let limits = BatchLimits { texts: 4, cache_bytes: page * 8 * pages };
        let mut together = batch(&LORA, limits);
        let results = made(&mut together, &MeanLogits {}, &prompts);
        for ((_, prompt), result) in prompts.iter().zip(&results) {
            let alone = made(&mut batch(&LORA, ROOM), &MeanLogits {}, &[(0, prompt.clone())]);
            // Tokens, texts and the bits of the scores.
            prop_assert_eq!(&alone[0], result);
        }
        let [reserved, held, max] = together.memory();
        prop_assert!(reserved == 0 && held <= max && max <= limits.cache_bytes);
        prop_assert!(together.texts().is_empty());
    }
}

#[test]
fn what_other_models_have_begun_goes_on_as_if_these_had_begun_it() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let ids = prompt(&mut random, 40);
    let mut before = batch(&LORA[..2], ROOM);
    let number = before.add(Prompt { ids: ids.clone(), sampling: greedy(12) }).unwrap().unwrap();
    let mut first = Vec::new();
    for _ in 0..5 {
        first.extend(before.step(&MeanLogits {}).unwrap().into_iter().filter_map(|event| match event.kind {
            EventKind::Token(token) => Some(token.id),
            _ => None,
        }));
    }
    assert_eq!(first.len(), 5);
    let mut after = batch(&LORA[2..], ROOM);
    after.adopt(before.remove(number).unwrap()).unwrap();
    assert_eq!(before.memory()[0], 0);
    let mut rest = Vec::new();
    while !after.texts().is_empty() {
        rest.extend(after.step(&MeanLogits {}).unwrap().into_iter().filter_map(|event| match event.kind {
            EventKind::Token(token) => Some(token.id),
            _ => None,
        }));
    }
    let so_far = ids.into_iter().chain(first).collect();
    let (expected, _) =
        made(&mut batch(&LORA[2..], ROOM), &MeanLogits {}, &[(0, Prompt { ids: so_far, sampling: greedy(7) })])
            .remove(0);
    assert_eq!(rest, expected.iter().map(|token| token.id).collect::<Vec<_>>());
}

#[test]
fn prompts_that_cannot_be_continued_are_refused_by_name() {
    let page = 16 * lanes(&LORA).token_bytes();
    let batch = batch(&LORA, BatchLimits { texts: 4, cache_bytes: 2 * page });
    let refused = |ids: Vec<u32>, sampling: Sampling| batch.check(&Prompt { ids, sampling }).unwrap_err().to_string();
    assert!(refused(vec![], greedy(4)).contains("no token"));
    assert!(refused(vec![5; 128], greedy(4)).contains("prompts of 1 to 127"));
    assert!(refused(vec![500], greedy(4)).contains("the token 500; the model knows 0 to 447"));
    assert!(refused(vec![5], greedy(40)).contains("keys and values"));
    assert!(refused(vec![5], Sampling { temperature: f32::NAN, ..greedy(4) }).contains("`temperature` is NaN"));
    assert!(
        batch
            .check(&Prompt { ids: vec![5; 128], sampling: greedy(0) })
            .is_err_and(|error| matches!(error, GenerateError::NeverFits { .. }))
    );
    assert_eq!(batch.check(&Prompt { ids: vec![5; 30], sampling: greedy(2) }).unwrap(), 32);
}

#[test]
fn the_text_of_a_special_token_stops_where_the_token_would_follow() {
    let begin = 1;
    let asked = |stop: &str| {
        let stop = vec![stop.to_owned()];
        let logit_bias = BTreeMap::from([(begin, 100.0)]);
        let sampling = Sampling { stop, logit_bias, ..greedy(3) };
        let prompts = [(0, Prompt { ids: vec![5, 6, 7], sampling })];
        let (tokens, end) = made(&mut batch(&LORA, ROOM), &MeanLogits {}, &prompts).remove(0);
        (tokens.iter().map(|token| token.id).collect::<Vec<_>>(), end)
    };
    assert_eq!(asked("<s>"), (vec![], Some(EndReason::Stop)));
    // Not special: it would have to be in the text, where special tokens leave nothing.
    assert_eq!(asked("s>"), (vec![begin; 3], Some(EndReason::Length)));
}

/// Takes texts that have the scores of their prompts told from one set of models to another after so many steps.
fn adopted(steps: usize) -> (Vec<MadeText>, Vec<Prompt>, Vec<Vec<u32>>) {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let sampling = Sampling { prompt_logprobs: true, logprobs: Some(1), ..greedy(8) };
    // More rows than go through the models in one step, so that a prompt is cut.
    let prompts: Vec<Prompt> =
        (0..3).map(|_| Prompt { ids: prompt(&mut random, 100), sampling: sampling.clone() }).collect();
    let (mut dead, mut alive) = (batch(&LORA[..2], ROOM), batch(&LORA[2..], ROOM));
    let numbers: Vec<u64> = prompts.iter().map(|prompt| dead.add(prompt.clone()).unwrap().unwrap()).collect();
    let mut told: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for _ in 0..steps {
        for event in dead.step(&MeanLogits {}).unwrap() {
            if let EventKind::Token(token) = event.kind {
                told.entry(event.text).or_default().push(token.id);
            }
        }
    }
    let mut results: Vec<MadeText> = vec![Default::default(); prompts.len()];
    let taken: Vec<_> = numbers.iter().map(|number| dead.remove(*number).unwrap()).collect();
    let places: BTreeMap<u64, usize> =
        taken.into_iter().enumerate().map(|(place, text)| (alive.adopt(text).unwrap(), place)).collect();
    while !alive.texts().is_empty() {
        for event in alive.step(&MeanLogits {}).unwrap() {
            let result = &mut results[places[&event.text]];
            match event.kind {
                EventKind::Prompt(tokens) => result.0.extend(tokens),
                EventKind::Token(token) => result.0.push(token),
                EventKind::End(reason, ..) => result.1 = Some(reason),
                EventKind::Failed(error, _) => panic!("{error}"),
            }
        }
    }
    let begun = numbers.iter().map(|number| told.remove(number).unwrap_or_default()).collect();
    (results, prompts, begun)
}

#[test]
fn a_text_that_other_models_go_on_with_has_no_score_of_those_before() {
    let alone = |prompt: Prompt| {
        let (tokens, end) = made(&mut batch(&LORA[2..], ROOM), &MeanLogits {}, &[(0, prompt)]).remove(0);
        (tokens.into_iter().map(|token| (token.id, token.logprob)).collect::<Vec<_>>(), end)
    };
    for steps in [1, 2, 4] {
        let (results, prompts, begun) = adopted(steps);
        assert_eq!(begun.iter().any(Vec::is_empty), steps == 1, "a prompt is cut in the first of {steps} steps");
        for ((result, prompt), begun) in results.into_iter().zip(prompts).zip(begun) {
            let found = (result.0.into_iter().map(|token| (token.id, token.logprob)).collect::<Vec<_>>(), result.1);
            let expected = if begun.is_empty() {
                // Nothing was told yet: all of it is of the models alive, once.
                alone(prompt)
            } else {
                // The rest is what they make of the text so far.
                let sampling =
                    Sampling { max_tokens: 8 - begun.len(), prompt_logprobs: false, ..prompt.sampling.clone() };
                alone(Prompt { ids: [prompt.ids, begun].concat(), sampling })
            };
            assert_eq!(found, expected, "{steps} steps");
        }
    }
}
