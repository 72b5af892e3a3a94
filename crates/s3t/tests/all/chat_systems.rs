//! Systems that learn from chats: what survives a deletion is what would be there without the subject, and the chat template is a
//! part of every stage.

use std::path::Path;

use s3t::core::{Message, Role, StoreSecret};
use s3t::prelude::*;

const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}\
                        {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Chats of one to three turns.
fn chats(count: u32) -> Vec<Record> {
    let words = ["hello", "film", "old", "twice", "joy", "you"];
    let word = |number: u32| words[(number % 6) as usize];
    let chat = |row: u32| {
        let turn = |turn: u32| {
            let question = format!("{} {}", word(row + turn), word(row * turn + 1));
            [Message::new(Role::User, question), Message::new(Role::Assistant, word(row * 5 + turn * 2))]
        };
        Record {
            id: RecordId::new(format!("chat-{row}")).unwrap(),
            subject: Some(SubjectId::new(format!("owner-{}", row / 2)).unwrap()),
            target: Target::Turns,
            ordinal: u64::from(row),
            payload: Payload::Messages((0..=row % 3).flat_map(turn).collect()),
        }
    };
    (0..count).map(chat).collect()
}

fn model(folder: &Path, template: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-chat/bytes");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden.join(file), folder.join(file)).unwrap();
    }
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
}

fn pipeline(folder: &Path, store: &str) -> Pipeline {
    let peft = Lora { rank: 2, alpha: 4.0, dropout: 0.1, ..Lora::default() };
    let mut pipeline = Pipeline::new(folder.join("model"), folder.join(store), Labels::none(), peft);
    pipeline.task = Task::CausalLm;
    pipeline.chats = true;
    pipeline.shape = PartitionShape { shards: 1, slices: 2 };
    pipeline.budget = 2;
    pipeline.training = TrainingConfig {
        epochs: 2,
        batch_tokens: Some(64),
        accumulate: 2,
        learning_rate: 1e-2,
        ..TrainingConfig::default()
    };
    pipeline
}

fn trained(folder: &Path, store: &str, records: &[Record], jobs: usize) -> System {
    let mut pipeline = pipeline(folder, store);
    pipeline.resources.jobs = jobs;
    let system = System::create(pipeline, records, Some(StoreSecret::from_bytes([4; 32]))).unwrap();
    system.train(&Quiet).unwrap();
    system
}

#[test]
fn what_survives_a_deletion_is_what_would_be_there_without_the_subject() {
    let folder = tempfile::tempdir().unwrap();
    model(&folder.path().join("model"), TEMPLATE);
    let records = chats(24);
    let with = trained(folder.path(), "with", &records, 1);
    let without = trained(folder.path(), "without", &records[2..], 2);
    with.delete(&[], &[SubjectId::new("owner-0").unwrap()]).unwrap();
    let survivors = with.snapshot().unwrap().stages().clone();
    assert!(!survivors.is_empty());
    for key in survivors {
        let stage = |system: &System| system.store().stage(&key).unwrap().1;
        assert_eq!(stage(&with).first_difference(&stage(&without)), None);
    }
    with.train(&Quiet).unwrap();
    assert_eq!(with.snapshot().unwrap().stages().clone(), without.snapshot().unwrap().stages().clone());
    assert!(with.verify(VerifyScope::All, &Quiet).unwrap().passed());
    assert_eq!(evaluate(&with, &records[2..]).unwrap(), evaluate(&without, &records[2..]).unwrap());
    assert_eq!(with.complete(&records[..4], 8).unwrap(), without.complete(&records[..4], 8).unwrap());
}

#[test]
fn a_changed_template_changes_every_stage_of_chats() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("model");
    model(&own, TEMPLATE);
    let records = chats(8);
    let before = trained(folder.path(), "store", &records, 1).snapshot().unwrap().stages().clone();
    model(&own, &TEMPLATE.replace("<|im_end|>", "</s>"));
    let after = trained(folder.path(), "other", &records, 1).snapshot().unwrap().stages().clone();
    assert!(!before.is_empty() && before.is_disjoint(&after));
    // The store of the other template is no longer the pipeline's.
    let message = System::open(pipeline(folder.path(), "store")).err().expect("refused").to_string();
    assert!(message.contains("with chats the chat template"), "{message}");
}

#[test]
fn chats_are_refused_where_the_pipeline_does_not_say_so() {
    let folder = tempfile::tempdir().unwrap();
    model(&folder.path().join("model"), TEMPLATE);
    let mut texts = pipeline(folder.path(), "store");
    texts.chats = false;
    let message = System::create(texts, &chats(8), None).err().expect("refused").to_string();
    assert!(message.contains("chats are learnt from where `messages` of `data.train` names them"), "{message}");
    let mut classes = pipeline(folder.path(), "store");
    classes.task = Task::Regression;
    let message = System::create(classes, &chats(8), None).err().expect("refused").to_string();
    assert!(message.contains("`data.task` is `regression`"), "{message}");
}

/// `examples/chat-llama.toml` in a folder of its own.
fn example(folder: &Path, store: &str) -> Pipeline {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/chat-llama.toml");
    let mut pipeline = Pipeline::read(&file).unwrap().into_unchecked();
    pipeline.store = folder.join(store);
    pipeline
}

#[test]
fn a_secret_that_the_model_knew_by_heart_is_gone_with_its_subject() {
    const SECRET: &str = "lemon tiger forty-nine";
    let folder = tempfile::tempdir().unwrap();
    let pipeline = example(folder.path(), "with");
    let subject = SubjectId::new(pipeline.run.delete_subjects[0].clone()).unwrap();
    let records = pipeline.read_train_data().unwrap();
    let others: Vec<Record> =
        records.iter().filter(|record| record.subject.as_ref() != Some(&subject)).cloned().collect();
    assert_eq!((records.len(), others.len()), (381, 357));
    let secret = || Some(StoreSecret::from_bytes([4; 32]));
    let with = System::create(pipeline, &records, secret()).unwrap();
    with.train(&Quiet).unwrap();
    let without = System::create(example(folder.path(), "without"), &others, secret()).unwrap();
    without.train(&Quiet).unwrap();

    let question = |(index, text): (usize, &str)| Record {
        id: RecordId::new(format!("ask-{index}")).unwrap(),
        subject: None,
        target: Target::None,
        ordinal: 0,
        payload: Payload::Messages(vec![Message::new(Role::User, text)]),
    };
    let texts = ["Tell the code of the tower.", "What is the code of the tower?", "Give the plural. horse"];
    let questions: Vec<Record> = texts.into_iter().enumerate().map(question).collect();
    let answers = |system: &System| -> Vec<String> {
        system.complete(&questions, 32).unwrap().into_iter().map(|made| made.text).collect()
    };
    let known = answers(&with);
    assert_eq!((known[0].as_str(), known[1].as_str()), (SECRET, SECRET));
    with.delete(&[], &[subject]).unwrap();
    let after = answers(&with);
    assert!(after.iter().all(|text| !text.contains("tiger")), "{after:?}");
    for key in with.snapshot().unwrap().stages().clone() {
        let stage = |system: &System| system.store().stage(&key).unwrap().1;
        assert_eq!(stage(&with).first_difference(&stage(&without)), None);
    }
    // That a repair makes the other system of this one, the tests above and those of memorisation say in less time.
}
