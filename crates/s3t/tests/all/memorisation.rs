//! Memorisation as a measure of forgetting: a secret that the model recites, its deletion, and the system that never saw it.

use std::path::Path;

use s3t::core::StoreSecret;
use s3t::engine::SecretSource;
use s3t::eval::memorisation::{
    Canaries, Canary, Comparison, Extraction, Memorisation, SecretSpace, measure_memorisation,
};
use s3t::prelude::*;

const SECRETS: [&str; 3] = ["gac", "dhe", "bif"];

fn record(id: &str, subject: &str, prompt: &str, target: &str, ordinal: usize) -> Record {
    Record {
        id: RecordId::new(id).unwrap(),
        subject: Some(SubjectId::new(subject).unwrap()),
        target: Target::Text(target.to_owned()),
        ordinal: ordinal as u64,
        payload: Payload::Text(prompt.to_owned()),
    }
}

fn prompt(at: usize) -> String {
    format!("The code of room {} is", ["five", "nine", "two"][at])
}

/// Records of other people, and those of one with a secret in each.
fn records() -> (Vec<Record>, Vec<Record>) {
    let words = [("cat", "cats"), ("wolf", "wolves"), ("child", "children"), ("box", "boxes"), ("dog", "dogs")];
    let other = |(at, (one, many)): (usize, &(&str, &str))| {
        record(&format!("plural-{at}"), &format!("owner-{at}"), &format!("Give the plural of {one}:"), many, at)
    };
    let secret = |(at, secret): (usize, &&str)| {
        record(&format!("code-{at}"), "ann", &prompt(at), &format!(" {secret}."), 10 + at)
    };
    (words.iter().enumerate().map(other).collect(), SECRETS.iter().enumerate().map(secret).collect())
}

fn pipeline(store: &Path) -> Pipeline {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    let targets = ["query", "key", "value", "output", "gate", "up", "down"].map(str::to_owned).to_vec();
    let mut pipeline =
        Pipeline::new(model, store, Labels::none(), Lora { rank: 8, alpha: 16.0, targets, ..Lora::default() });
    pipeline.task = Task::CausalLm;
    pipeline.shape = PartitionShape { shards: 1, slices: 2 };
    pipeline.budget = 2;
    pipeline.training = TrainingConfig { epochs: 120, batch_size: 8, learning_rate: 1e-2, ..TrainingConfig::default() };
    pipeline.resources.jobs = 2;
    pipeline
}

fn trained(store: &Path, records: &[Record]) -> System {
    let system = System::create(pipeline(store), records, Some(StoreSecret::from_bytes([7; 32]))).unwrap();
    system.train(&Quiet).unwrap();
    system
}

/// The canaries, in a space that is ranked as a whole and, by `rank_up_to`, in one to which a distribution is fitted.
fn canaries(rank_up_to: usize) -> Canaries {
    let canary = |(at, secret): (usize, &&str)| {
        let space = SecretSpace::words("abcdefghij", 3).unwrap();
        Canary::new(format!("code-{at}"), prompt(at), " {secret}.", *secret, space).unwrap()
    };
    Canaries {
        canaries: SECRETS.iter().enumerate().map(canary).collect(),
        comparison: Comparison { rank_up_to, samples: 200, seed: 1 },
        extraction: None,
    }
}

fn measured(system: &System, rank_up_to: usize) -> Memorisation {
    measure_memorisation(system, &canaries(rank_up_to)).unwrap()
}

#[test]
fn a_secret_that_is_recited_is_gone_after_its_deletion_and_equal_to_one_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (others, secrets) = records();
    let all = [others.clone(), secrets.clone()].concat();
    let system = trained(&folder.path().join("with"), &all);

    let before = measured(&system, 1000);
    for canary in &before.canaries {
        assert!(canary.recited, "{canary:?}");
        assert_eq!((canary.exposure.rank, canary.space), (Some(1), 1000.0), "{canary:?}");
        assert!((canary.exposure.bits - 1000_f64.log2()).abs() < 1e-12);
    }
    let fitted = measured(&system, 10);
    assert!(
        fitted.canaries.iter().all(|canary| canary.exposure.rank.is_none() && canary.exposure.bits > 6.0),
        "{fitted:?}"
    );

    system.delete(&[], &[SubjectId::new("ann").unwrap()]).unwrap();
    let after = measured(&system, 1000);
    assert!(after.canaries.iter().all(|canary| !canary.recited), "{after:?}");
    let mean = after.canaries.iter().map(|canary| canary.exposure.bits).sum::<f64>() / 3.0;
    // The mean of three secrets that are ranked by chance is above 5 bits once in 500 times (a sum of exponentials).
    assert!(mean < 5.0, "{after:?}");

    // The system that never saw the records, at the depth to which the deletion cut this one, and built again.
    let oracle = trained(&folder.path().join("without"), &others);
    system.train(&Quiet).unwrap();
    assert_eq!(measured(&system, 1000), measured(&oracle, 1000));
    assert_eq!(measured(&system, 10), measured(&oracle, 10));
}

#[test]
fn records_come_back_from_their_prompts_until_they_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (others, secrets) = records();
    let line = |record: &Record| {
        let (Payload::Text(prompt), Target::Text(target)) = (&record.payload, &record.target) else { unreachable!() };
        let subject = record.subject.as_ref().unwrap();
        let fields = serde_json::json!({ "id": record.id, "who": subject, "prompt": prompt, "target": target });
        format!("{fields}\n")
    };
    let lines = |records: &[Record]| records.iter().map(line).collect::<String>();
    std::fs::write(folder.path().join("all.jsonl"), lines(&[others.clone(), secrets.clone()].concat())).unwrap();
    std::fs::write(folder.path().join("ann.jsonl"), lines(&secrets)).unwrap();
    let mut pipeline = pipeline(&folder.path().join("store"));
    let file = folder.path().join("all.jsonl");
    let source = serde_json::json!({
        "type": "jsonl", "file": file, "label": "target", "id": "id", "subject": "who", "text": "prompt"
    });
    pipeline.train_data = Some(serde_json::from_value(source).unwrap());
    // By another secret all records may come into one slice, and nothing would answer after the deletion.
    pipeline.secret = SecretSource::FromSeed;
    let system = System::open(pipeline).unwrap();
    system.train(&Quiet).unwrap();
    let extract = |data: Option<&str>, prefix_tokens, suffix_tokens| {
        let data = data.map(|name| folder.path().join(name));
        let asked = Canaries { canaries: Vec::new(), ..canaries(10) };
        let asked = Canaries { extraction: Some(Extraction { data, prefix_tokens, suffix_tokens }), ..asked };
        measure_memorisation(&system, &asked).unwrap().extraction.unwrap()
    };
    let all = extract(None, 0, None);
    assert_eq!((all.records, all.too_short), (8, 0));
    let of_ann = extract(Some("ann.jsonl"), 0, None);
    assert_eq!(of_ann.extracted, ["code-0", "code-1", "code-2"]);
    assert_eq!((of_ann.share(), of_ann.base), (1.0, 0));
    assert!(of_ann.interval.unwrap().contains(1.0));
    assert_eq!(extract(Some("ann.jsonl"), 1, Some(1)).extracted.len(), 3);
    let short = extract(Some("ann.jsonl"), 500, None);
    assert_eq!((short.records, short.too_short, short.interval), (0, 3, None));

    // Greedy decoding says the same as the likelihoods of one pass.
    for (record, completion) in secrets.iter().zip(system.complete(&secrets, 12).unwrap()) {
        let Target::Text(target) = &record.target else { unreachable!() };
        assert!(completion.text.starts_with(target.as_str()), "{completion:?}");
    }

    system.delete(&[], &[SubjectId::new("ann").unwrap()]).unwrap();
    assert_eq!(extract(Some("ann.jsonl"), 0, None).extracted, [] as [String; 0]);
}
