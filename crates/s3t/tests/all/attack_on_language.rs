//! An audit by attack of a language model that has learnt its records by heart: found before the deletion, equal to the oracle after it.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t::eval::attack::{AttackSettings, Named, attack};
use s3t::eval::report::LowFpr;
use s3t::prelude::*;

/// People with codes that are drawn: nothing can be learnt of them but by heart.
fn lines(people: std::ops::Range<u32>) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(people.start));
    let mut letters = || (0..4).map(|_| char::from(rng.random_range(b'a'..=b'j'))).collect::<String>();
    let line = |person: u32| {
        let (prompt, code) = (format!("The code of {} is", letters()), format!(" {}", letters()));
        let fields = serde_json::json!({
            "id": format!("code-{person}"), "who": format!("person-{}", person / 2), "prompt": prompt, "code": code
        });
        format!("{fields}\n")
    };
    people.map(line).collect()
}

fn pipeline(folder: &Path) -> Pipeline {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    let targets = ["query", "key", "value", "output", "gate", "up", "down"].map(str::to_owned).to_vec();
    let peft = Lora { rank: 8, alpha: 16.0, targets, ..Lora::default() };
    let mut pipeline = Pipeline::new(model, folder.join("store"), Labels::none(), peft);
    pipeline.task = Task::CausalLm;
    pipeline.shape = PartitionShape { shards: 2, slices: 2 };
    pipeline.budget = 2;
    pipeline.training = TrainingConfig { epochs: 60, batch_size: 8, learning_rate: 1e-2, ..TrainingConfig::default() };
    pipeline.resources.jobs = 2;
    let source = |name: &str| {
        let source = serde_json::json!({
            "type": "jsonl", "file": folder.join(name), "label": "code", "id": "id", "subject": "who", "text": "prompt"
        });
        Some(serde_json::from_value(source).unwrap())
    };
    (pipeline.train_data, pipeline.test_data) = (source("train.jsonl"), source("test.jsonl"));
    pipeline
}

#[test]
fn codes_learnt_by_heart_are_found_until_they_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train.jsonl"), lines(0..48)).unwrap();
    std::fs::write(folder.path().join("test.jsonl"), lines(1000..1200)).unwrap();
    let settings = AttackSettings { members: 24, non_members: 150, population: 20, ..AttackSettings::default() };
    let open = || pipeline(folder.path()).check();
    let audit = attack(&open, None, &Named::default(), &settings, &Quiet).unwrap();

    let titles: Vec<String> = audit.attacks.iter().map(|report| report.attack.title()).collect();
    for title in ["loss ratio", "EZ-MIA", "Min-K %"] {
        assert!(titles.iter().any(|found| found.contains(title)), "{title}: {titles:?}");
    }
    assert!(audit.has_power(), "{}", audit.first_line);
    assert!(audit.passed() && audit.oracle.equal() && audit.oracle.stages > 0, "{:?}", audit.oracle);
    for report in &audit.attacks {
        let comparison = report.comparison.unwrap();
        assert!(comparison.equal, "{report}");
        assert_eq!((comparison.priv_leak, comparison.forget_quality.p_value), (Some(0.0), 1.0), "{report}");
        // What stages that are kept would say is told from the oracle.
        let [kept] = &report.planted[..] else { panic!("{report}") };
        assert!(!kept.equals_oracle, "{report}");
    }
    let strongest = &audit.attacks[0];
    let LowFpr::Measured(before) = &strongest.before.low_fpr[0] else { panic!("{strongest}") };
    assert!(before.interval.low >= 5.0 * before.fpr, "{strongest}");
    let kept = &strongest.planted[0];
    assert!(kept.power.found && kept.detection > 0.95, "{} {strongest}", kept.detection);
}
