//! Methods of unlearning beside their authors' descriptions: gradients computed by hand, and exact methods that give what training without
//! the records gives, bit for bit.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use s3t_core::registry::plugins;
use s3t_core::{PluginKind, Record, Task};
use s3t_engine::{Pipeline, Quiet, System};
use s3t_eval::compare::{CompareSettings, compare};
use s3t_eval::methods::{
    AdamW, Adapter, FastNtk, FineTuning, FullRetraining, Goal, Guarantee, Influence, NegGradPlus, RandomLabels, S3t,
    Scrub, Sisa, TaskVector, Term, Tuner, UnlearningMethod, hessian_product, ntk_move, solve, with_bench,
};
use s3t_lora::Lora;
use s3t_models::Input;
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;
use s3t_testkit::{CLASSES, toy_records, write_workspace};
use s3t_train::TrainingConfig;
use tempfile::TempDir;

struct World {
    _folder: TempDir,
    tuner: Tuner,
    hidden: usize,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    write_workspace(folder.path()).unwrap();
    let system = System::open(Pipeline::read(&folder.path().join("pipeline.toml")).unwrap()).unwrap();
    let backbone = Arc::clone(system.backbone());
    let hidden = backbone.hidden();
    let method = Box::new(Lora { rank: 2, ..Lora::default() });
    let tuner = Tuner::new(backbone, system.device().clone(), method, CLASSES, 1).unwrap();
    World { _folder: folder, tuner, hidden }
}

impl World {
    /// The frozen features of records, which the head sees while the adapters have not learnt anything.
    fn features(&self, inputs: &[&Input<'_>]) -> Vec<Vec<f64>> {
        let backbone = self.tuner.backbone();
        let tokens = inputs.iter().map(|input| input.padded).max().unwrap();
        let hidden = backbone.run_to_pool(backbone.embed(inputs, tokens), 0..backbone.blocks(), &Adapters::none());
        let values = to_host(backbone.pool(hidden));
        values.chunks(self.hidden).map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect()
    }

    /// The logits by hand: weights row by row, then the bias.
    fn logits(&self, values: &[f32], features: &[f64]) -> Vec<f64> {
        let head: Vec<f64> = values[self.tuner.head()].iter().map(|value| f64::from(*value)).collect();
        let (weights, bias) = head.split_at(CLASSES * self.hidden);
        let row = |class: usize| &weights[class * self.hidden..(class + 1) * self.hidden];
        let product = |class: usize| row(class).iter().zip(features).map(|(weight, x)| weight * x).sum::<f64>();
        (0..CLASSES).map(|class| product(class) + bias[class]).collect()
    }

    /// The gradient of the head, given that of each record's logits.
    fn of_head(&self, features: &[Vec<f64>], slopes: &[Vec<f64>]) -> Vec<f64> {
        let sum = |class: usize, x: &dyn Fn(&[f64]) -> f64| {
            features.iter().zip(slopes).map(|(features, slope)| slope[class] * x(features)).sum::<f64>()
        };
        let weights = (0..CLASSES).flat_map(|class| (0..self.hidden).map(move |at| (class, at)));
        let weights = weights.map(|(class, at)| sum(class, &|features| features[at]));
        let bias = (0..CLASSES).map(|class| sum(class, &|_| 1.0));
        weights.chain(bias).collect()
    }

    #[track_caller]
    fn check(&self, values: &[f32], terms: &[Term<'_>], by_hand: &[f64]) {
        let (_, gradient) = self.tuner.gradient(values, terms).unwrap();
        let head = &gradient[self.tuner.head()];
        assert_eq!(head.len(), by_hand.len());
        let largest = by_hand.iter().fold(0.0_f64, |largest, slope| largest.max(slope.abs()));
        assert!(largest > 1e-3, "the gradient by hand says nothing");
        for (found, by_hand) in head.iter().zip(by_hand) {
            assert!((f64::from(*found) - by_hand).abs() < 1e-5 * (1.0 + largest), "{found} is not {by_hand}");
        }
    }
}

fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit / temperature).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// The slope of the mean cross-entropy along each record's logits, weighted.
fn cross_entropy(logits: &[Vec<f64>], classes: &[u32], weight: f64) -> Vec<Vec<f64>> {
    let slope = |(logits, class): (&Vec<f64>, &u32)| {
        let is = |at: usize| if at == *class as usize { 1.0 } else { 0.0 };
        let shares = softmax(logits, 1.0);
        shares.iter().enumerate().map(|(at, share)| weight * (share - is(at)) / classes.len() as f64).collect()
    };
    logits.iter().zip(classes).map(slope).collect()
}

/// The slope of the mean of T^2 KL(teacher || student) at temperature T along each record's logits, weighted: T (q - p) / n.
fn divergence(logits: &[Vec<f64>], teacher: &[Vec<f64>], temperature: f64, weight: f64) -> Vec<Vec<f64>> {
    let rows = logits.len() as f64;
    let slope = |(logits, teacher): (&Vec<f64>, &Vec<f64>)| {
        let pairs = softmax(logits, temperature).into_iter().zip(softmax(teacher, temperature));
        pairs.map(|(q, p)| weight * temperature * (q - p) / rows).collect()
    };
    logits.iter().zip(teacher).map(slope).collect()
}

fn classes_of(records: &[Record]) -> Vec<u32> {
    records.iter().map(|record| record.target.class().unwrap()).collect()
}

fn added(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one + other).collect()
}

#[test]
fn neg_grad_plus_goes_down_on_what_is_left_and_up_on_what_is_forgotten() {
    let world = world();
    let (left, gone) = (toy_records(5, 0, 1), toy_records(3, 0, 2));
    let values = world.tuner.initial(7);
    let (of_left, of_gone) = (world.tuner.prepare(&left).unwrap(), world.tuner.prepare(&gone).unwrap());
    let (of_left, of_gone): (Vec<&Input<'_>>, Vec<&Input<'_>>) = (of_left.iter().collect(), of_gone.iter().collect());
    let by_hand = |inputs: &[&Input<'_>], records: &[Record], weight: f64| {
        let features = world.features(inputs);
        let logits: Vec<Vec<f64>> = features.iter().map(|features| world.logits(&values, features)).collect();
        world.of_head(&features, &cross_entropy(&logits, &classes_of(records), weight))
    };
    let method = NegGradPlus { beta: 0.8, ..NegGradPlus::default() };
    let expected = added(&by_hand(&of_left, &left, 0.8), &by_hand(&of_gone, &gone, -0.2));
    world.check(&values, &method.terms(of_left, of_gone), &expected);
}

#[test]
fn scrub_leaves_its_teacher_on_what_is_forgotten_and_stays_with_it_on_what_is_left() {
    let world = world();
    let records = toy_records(6, 0, 3);
    let (values, teacher) = (world.tuner.initial(7), world.tuner.initial(8));
    let inputs = world.tuner.prepare(&records).unwrap();
    let old = world.tuner.logits(&teacher, &inputs).unwrap();
    let inputs: Vec<&Input<'_>> = inputs.iter().collect();
    let features = world.features(&inputs);
    let of =
        |values: &[f32]| -> Vec<Vec<f64>> { features.iter().map(|features| world.logits(values, features)).collect() };
    let (now, before) = (of(&values), of(&teacher));
    for (one, other) in before.iter().flatten().zip(old.iter().flatten()) {
        assert!((one - f64::from(*other)).abs() < 1e-5);
    }
    let method = Scrub { alpha: 0.3, gamma: 0.9, temperature: 4.0, ..Scrub::default() };
    let away = world.of_head(&features, &divergence(&now, &before, 4.0, -1.0));
    world.check(&values, &method.away(inputs.clone(), old.clone()), &away);
    let near = world.of_head(&features, &divergence(&now, &before, 4.0, 0.3));
    let learnt = world.of_head(&features, &cross_entropy(&now, &classes_of(&records), 0.9));
    world.check(&values, &method.near(inputs, old), &added(&near, &learnt));
}

#[test]
fn random_labels_are_wrong_and_uniform() {
    let world = world();
    let records = toy_records(3000, 0, 4);
    let inputs = world.tuner.prepare(&records).unwrap();
    let inputs: Vec<&Input<'_>> = inputs.iter().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let wrong = RandomLabels::wrong(&inputs, CLASSES, &mut rng);
    let mut counts = [[0_u32; CLASSES]; CLASSES];
    for (record, wrong) in records.iter().zip(wrong) {
        counts[record.target.class().unwrap() as usize][wrong as usize] += 1;
    }
    for (own, counts) in counts.iter().enumerate() {
        for (class, count) in counts.iter().enumerate() {
            // 1000 records of each class, 500 expected for each of the two others; 5 deviations are 79.
            assert!(if class == own { *count == 0 } else { count.abs_diff(500) < 79 }, "{counts:?}");
        }
    }
}

#[test]
fn a_step_of_adamw_is_that_of_its_authors() {
    let config =
        TrainingConfig { weight_decay: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, ..TrainingConfig::default() };
    let mut state = AdamW::new(2);
    let mut values = vec![1.0_f32, -2.0];
    state.step(&mut values, &[0.5, -0.25], &config, 0.01);
    // After one step both corrected moments are the gradient and its square: the step is the sign, and the decay 0.001.
    assert!((values[0] - (1.0 - 0.001 - 0.01)).abs() < 1e-6 && (values[1] - (-2.0 + 0.002 + 0.01)).abs() < 1e-6);
    state.step(&mut values, &[0.1, -0.25], &config, 0.01);
    let (first, second) = ((0.9 * 0.05 + 0.01) / 0.19, (0.99 * 0.0025 + 0.0001) / 0.0199_f64);
    let expected = 0.989 - 0.001 * 0.989 - 0.01 * first / second.sqrt();
    assert!((f64::from(values[0]) - expected).abs() < 1e-6, "{} is not {expected}", values[0]);
}

#[test]
fn a_task_vector_is_taken_the_other_way() {
    let method = TaskVector { scale: 2.0, ..TaskVector::default() };
    assert_eq!(method.subtracted(&[1.0, 2.0], &[1.5, 1.0]), [0.0, 4.0]);
}

#[test]
fn influence_is_the_step_of_its_formula_on_a_quadratic_loss() {
    // Losses (t - x)' A (t - x) / 2: the Hessian is A, the best t is the mean of the x, the gradient of a record A (t - x).
    let a = [[2.0, 0.5], [0.5, 1.0]];
    let times = |v: &[f64]| vec![a[0][0] * v[0] + a[0][1] * v[1], a[1][0] * v[0] + a[1][1] * v[1]];
    let points = [[1.0, 0.0], [3.0, 1.0], [-2.0, 4.0], [0.0, -1.0]];
    let mean = [0.5, 1.0];
    let gradient = times(&[mean[0] - points[2][0], mean[1] - points[2][1]]);
    let wanted: Vec<f64> = gradient.iter().map(|slope| slope / 4.0).collect();
    let step = solve(&wanted, 0.0, 4, |v| Ok(times(v))).unwrap();
    // A^-1 A (t - x) / n
    assert!((step[0] - 2.5 / 4.0).abs() < 1e-12 && (step[1] + 3.0 / 4.0).abs() < 1e-12, "{step:?}");
}

#[test]
fn a_product_with_the_hessian_is_that_of_softmax_regression_by_hand() {
    let world = world();
    let records = toy_records(7, 0, 5);
    let values = world.tuner.initial(7);
    let inputs = world.tuner.prepare(&records).unwrap();
    let inputs: Vec<&Input<'_>> = inputs.iter().collect();
    let features = world.features(&inputs);
    let mut direction = vec![0.0; values.len()];
    for (at, of) in world.tuner.head().enumerate() {
        direction[of] = ((at * 7) % 5) as f64 - 1.5;
    }
    let along: Vec<f32> = direction.iter().map(|of| *of as f32).collect();
    // With shares p, and logits that move by d: the slopes p - y of a record move by p (d - p d).
    let slopes: Vec<Vec<f64>> = features
        .iter()
        .map(|features| {
            let (shares, moves) = (softmax(&world.logits(&values, features), 1.0), world.logits(&along, features));
            let mean: f64 = shares.iter().zip(&moves).map(|(share, by)| share * by).sum();
            shares.iter().zip(&moves).map(|(share, by)| share * (by - mean) / records.len() as f64).collect()
        })
        .collect();
    let by_hand = world.of_head(&features, &slopes);
    let terms = [Term { goal: Goal::classes(&inputs), batch: inputs, weight: 1.0 }];
    let product = hessian_product(&values, &direction, |at| Ok(world.tuner.gradient(at, &terms)?.1)).unwrap();
    let largest = by_hand.iter().fold(0.0_f64, |largest, of| largest.max(of.abs()));
    assert!(largest > 0.05, "the product by hand says nothing");
    for (found, by_hand) in product[world.tuner.head()].iter().zip(&by_hand) {
        assert!((found - by_hand).abs() < 1e-3 * largest, "{found} is not {by_hand}");
    }
}

#[test]
fn influence_moves_away_from_the_forgotten_records() {
    on_bench(|bench, records| {
        let gone = &records[..4];
        let loss = |answers: &[Vec<f32>]| -> f64 {
            let of = |(logits, record): (&Vec<f32>, &Record)| {
                let logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
                -softmax(&logits, 1.0)[record.target.class().unwrap() as usize].ln()
            };
            answers.iter().zip(gone).map(of).sum()
        };
        let influence = Influence::default();
        let mut model = influence.train(bench, records, 3).unwrap();
        let before = loss(&model.answer(gone).unwrap());
        model.forget(gone).unwrap();
        let after = loss(&model.answer(gone).unwrap());
        assert!(after > before, "the loss of what is forgotten goes from {before} to {after}");
    });
}

#[test]
fn fine_tuning_takes_the_steps_of_training_on_what_is_left() {
    on_bench(|bench, records| {
        // What is left is one batch.
        let size = bench.training().batch_size;
        let (left, gone) = records.split_at(size);
        assert!(left.len() == size && !gone.is_empty());
        let method = FineTuning { epochs: 1, rate: 0.5 };
        let mut model = method.train(bench, records, 3).unwrap();
        let by_hand = |bench: &s3t_eval::methods::Bench<'_>, adapter: &mut Adapter<'_>, _: &[Record]| {
            let (tuner, config) = (bench.tuner(), bench.training());
            let inputs = tuner.prepare(left)?;
            let batch: Vec<&Input<'_>> = inputs.iter().collect();
            let terms = [Term { goal: Goal::classes(&batch), batch, weight: 1.0 }];
            let (_, gradient) = tuner.gradient(&adapter.values, &terms)?;
            let rate = 0.5 * config.learning_rate_at(0, 1);
            assert!(rate > 0.0, "the step says nothing");
            AdamW::new(adapter.values.len()).step(&mut adapter.values, &gradient, config, rate);
            Ok(())
        };
        let mut expected = Adapter::train(bench, records, 3, by_hand).unwrap();
        let questions = toy_records(20, 0, 9);
        let before = bits(&model.answer(&questions).unwrap());
        model.forget(gone).unwrap();
        expected.forget(gone).unwrap();
        let (found, expected) = (model.answer(&questions).unwrap(), expected.answer(&questions).unwrap());
        assert_ne!(before, bits(&found));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    });
}

#[test]
fn fast_ntk_is_training_again_for_a_linear_model() {
    // Outputs X w, trained by ridge regression from 0: w = (X'X + d)^-1 X'y, in two numbers by hand.
    let rows = [[1.0f32, 2.0], [0.5, -1.0], [3.0, 0.0], [-1.0, 1.5], [2.0, 2.0]];
    let wanted = [1.0, 0.0, 2.0, -1.0, 0.5];
    let mean = rows.iter().flatten().map(|x| f64::from(x * x)).sum::<f64>() / rows.len() as f64;
    let damping = 0.1;
    let ridge = |count: usize| {
        let (mut a, mut b) = ([[damping * mean, 0.0], [0.0, damping * mean]], [0.0; 2]);
        for (row, y) in rows[..count].iter().zip(wanted) {
            let x = row.map(f64::from);
            for (i, a) in a.iter_mut().enumerate() {
                a.iter_mut().zip(x).for_each(|(a, of)| *a += x[i] * of);
                b[i] += x[i] * y;
            }
        }
        let determinant = a[0][0] * a[1][1] - a[0][1] * a[1][0];
        [(a[1][1] * b[0] - a[0][1] * b[1]) / determinant, (a[0][0] * b[1] - a[1][0] * b[0]) / determinant]
    };
    let slopes: Vec<Vec<f32>> = rows.iter().map(|row| row.to_vec()).collect();
    let rests: Vec<f64> = wanted.iter().map(|wanted| -wanted).collect();
    let moved = ntk_move(&slopes, &rests, 3, damping, 20).unwrap();
    for ((all, left), moved) in ridge(5).into_iter().zip(ridge(3)).zip(moved) {
        assert!((all + moved - left).abs() < 1e-9, "{all} moves by {moved}, not to {left}");
    }
}

/// Calls `work` with a bench on toy records.
fn on_bench<T>(work: impl FnOnce(&s3t_eval::methods::Bench<'_>, &[Record]) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    write_workspace(folder.path()).unwrap();
    let file = folder.path().join("pipeline.toml");
    let records = Pipeline::read(&file).unwrap().read_train_data().unwrap();
    with_bench(&|| Pipeline::read(&file), &records, &Quiet, |bench| work(bench, &records)).unwrap()
}

fn bits(answers: &[Vec<f32>]) -> Vec<u32> {
    answers.iter().flatten().map(|score| score.to_bits()).collect()
}

#[test]
fn exact_methods_give_what_training_without_the_records_gives() {
    let exact: [&dyn UnlearningMethod; 3] = [&FullRetraining {}, &Sisa {}, &S3t::default()];
    on_bench(|bench, records| {
        let questions = toy_records(20, 0, 9);
        let (gone, left): (Vec<Record>, Vec<Record>) =
            records.iter().cloned().partition(|record| ["record-4", "record-7"].contains(&record.id.as_str()));
        assert_eq!(gone.len(), 2);
        for method in exact {
            assert_eq!(method.guarantee(), Guarantee::EqualBits);
            let mut model = method.train(bench, records, 3).unwrap();
            let before = bits(&model.answer(&questions).unwrap());
            model.forget(&gone).unwrap();
            let after = bits(&model.answer(&questions).unwrap());
            let never = bits(&method.train(bench, &left, 3).unwrap().answer(&questions).unwrap());
            assert!(before != after && after == never, "{method:?}");
        }
    });
}

#[test]
fn approximate_methods_change_the_model_and_promise_nothing() {
    let methods: [&dyn UnlearningMethod; 7] = [
        &FineTuning::default(),
        &NegGradPlus::default(),
        &RandomLabels::default(),
        &Scrub::default(),
        &TaskVector::default(),
        &Influence::default(),
        &FastNtk::default(),
    ];
    on_bench(|bench, records| {
        let questions = toy_records(20, 0, 9);
        let gone = &records[..4];
        let mut seen = Vec::new();
        for method in methods {
            assert_eq!(method.guarantee(), Guarantee::Nothing);
            let forget = || {
                let mut model = method.train(bench, records, 3).unwrap();
                let before = bits(&model.answer(&questions).unwrap());
                model.forget(gone).unwrap();
                (before, bits(&model.answer(&questions).unwrap()))
            };
            let ((before, after), again) = (forget(), forget());
            assert_ne!(before, after, "{method:?}");
            assert_eq!((&before, &after), (&again.0, &again.1), "{method:?} is not a function of its seed");
            seen.push(after);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), methods.len(), "two methods do the same");
    });
}

#[test]
fn a_comparison_has_every_linked_method_and_the_same_figures_for_the_same_seeds() {
    let folder = tempfile::tempdir().unwrap();
    write_workspace(folder.path()).unwrap();
    let file = folder.path().join("pipeline.toml");
    let settings = CompareSettings { forget: 6, ..CompareSettings::default() };
    let comparison = compare(&|| Pipeline::read(&file), &settings, &Quiet).unwrap();
    let names: Vec<&str> = comparison.methods.iter().map(|of| of.method.as_str()).collect();
    let linked = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::UnlearningMethod);
    assert_eq!(names, linked.map(|plugin| plugin.name()).collect::<Vec<_>>());
    assert!(names.len() >= 9, "three exact methods and six approximate ones: {names:?}");
    assert_eq!((comparison.seeds, comparison.forgotten, comparison.held_out), (3, 6, 30));
    let s3t = comparison.methods.iter().find(|of| of.method == "s3t").unwrap();
    assert!(s3t.off_seconds.is_some_and(|off| off.mean < s3t.forget_seconds.mean));
    for of in &comparison.methods {
        assert!((0.0..=1.0).contains(&of.auc.mean) && (0.0..=1.0).contains(&of.accuracy.mean), "{of:?}");
        assert!(of.tpr.is_none(), "30 held-out records are too few for a rate of 1 %");
    }
    assert_eq!(CompareSettings { seeds: 2, ..settings.clone() }.problem().unwrap().0, "seeds");
    let unknown = CompareSettings { methods: vec![serde_json::json!({ "type": "scrubb" })], ..settings };
    assert!(unknown.problem().unwrap().1.contains("did you mean `scrub`"), "{unknown:?}");
    assert!(matches!(Pipeline::read(&file).unwrap().task, Task::Classification { .. }));
}
