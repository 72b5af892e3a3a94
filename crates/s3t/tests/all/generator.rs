//! Texts that are continued while deletions go on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use s3t::core::{StageKey, StoreSecret};
use s3t::engine::{
    CheckedPipeline, EngineError, FinishReason, Finished, Generator, Listener, OnDeletion, ServedModels, ServesModels,
};
use s3t::generate::{NewToken, Prompt, Sampling};
use s3t::models::Backbone;
use s3t::prelude::*;

enum News {
    Token(NewToken),
    End(Finished),
}

struct Ear {
    news: Sender<News>,
    is_there: Arc<AtomicBool>,
}

impl Listener for Ear {
    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::SeqCst)
    }

    fn token(&mut self, token: NewToken) {
        let _ = self.news.send(News::Token(token));
    }

    fn end(&mut self, finished: Finished) {
        let _ = self.news.send(News::End(finished));
    }
}

fn ear() -> (Box<Ear>, Receiver<News>, Arc<AtomicBool>) {
    let (news, heard) = channel();
    let is_there = Arc::new(AtomicBool::new(true));
    (Box::new(Ear { news, is_there: Arc::clone(&is_there) }), heard, is_there)
}

/// The tokens and the end of a text.
fn all(heard: &Receiver<News>) -> (Vec<u32>, Finished) {
    let mut ids = Vec::new();
    loop {
        match heard.recv().unwrap() {
            News::Token(token) => ids.push(token.id),
            News::End(finished) => return (ids, finished),
        }
    }
}

fn prompt(max_tokens: usize) -> Prompt {
    Prompt { ids: vec![1, 40, 41, 42], sampling: Sampling { max_tokens, ignore_eos: true, ..Sampling::default() } }
}

/// A system whose every token waits until it is let go.
struct Held {
    system: System,
    gate: Mutex<Receiver<()>>,
}

impl ServesModels for Held {
    fn serving(&self) -> Result<ServedModels, EngineError> {
        let _ = self.gate.lock().unwrap().recv();
        self.system.serving()
    }

    fn is_live(&self, stage: &StageKey) -> Result<bool, EngineError> {
        self.system.is_live(stage)
    }

    fn pipeline(&self) -> &CheckedPipeline {
        self.system.pipeline()
    }

    fn backbone(&self) -> &Arc<Backbone> {
        self.system.backbone()
    }
}

fn records() -> Vec<Record> {
    let record = |row: u32| Record {
        id: RecordId::new(format!("record-{row}")).unwrap(),
        subject: None,
        target: Target::Text(["one", "three", "old", "e"][row as usize % 4].to_owned()),
        ordinal: u64::from(row),
        payload: Payload::Text(format!("With which letter does the word {row} begin?")),
    };
    (0..24).map(record).collect()
}

/// Two shards of two slices: with each record's deletion a shard answers with other stages.
fn pipeline(folder: &Path, on_deletion: OnDeletion) -> Pipeline {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    let peft = Lora { rank: 2, alpha: 64.0, ..Lora::default() };
    let mut pipeline = Pipeline::new(model, folder.join("store"), Labels::none(), peft);
    pipeline.task = Task::CausalLm;
    pipeline.shape = PartitionShape { shards: 2, slices: 2 };
    pipeline.budget = 2;
    pipeline.training = TrainingConfig { epochs: 2, batch_size: 4, learning_rate: 5e-2, ..TrainingConfig::default() };
    pipeline.serving.generation.on_deletion = on_deletion;
    pipeline
}

fn trained(pipeline: Pipeline) -> System {
    let system = System::create(pipeline, &records(), Some(StoreSecret::from_bytes([4; 32]))).unwrap();
    system.train(&Quiet).unwrap();
    system
}

fn system(folder: &Path, on_deletion: OnDeletion) -> System {
    trained(pipeline(folder, on_deletion))
}

fn run(on_deletion: OnDeletion) {
    let folder = tempfile::tempdir().unwrap();
    let system = system(folder.path(), on_deletion);
    let (go, gate) = channel();
    let source = Arc::new(Held { system, gate: Mutex::new(gate) });
    go.send(()).unwrap();
    let generator = Arc::new(Generator::new(Arc::clone(&source) as Arc<dyn ServesModels>).unwrap());
    let whole = source.system.generate(vec![prompt(30)]).unwrap().remove(0);
    let whole: Vec<u32> = whole.iter().map(|token| token.id).collect();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| generator.run());
        let (first, heard, _) = ear();
        generator.submit(prompt(30), first).unwrap();
        (0..5).for_each(|_| go.send(()).unwrap());
        let begun: Vec<u32> = heard
            .iter()
            .take(5)
            .map(|news| match news {
                News::Token(token) => token.id,
                News::End(finished) => panic!("{finished:?}"),
            })
            .collect();
        assert_eq!(begun, whole[..5]);
        source.system.delete(&[records()[3].id.clone()], &[]).unwrap();
        let epoch = source.system.snapshot().unwrap().epoch();
        // From here on nothing waits.
        drop(go);
        let (second, heard_second, _) = ear();
        generator.submit(prompt(30), second).unwrap();
        let (rest, end) = all(&heard);
        let (of_second, end_of_second) = all(&heard_second);
        // A text that begins after the deletion is that of a system that answers now.
        let now: Vec<u32> = source.system.generate(vec![prompt(30)]).unwrap().remove(0).iter().map(|t| t.id).collect();
        assert_eq!(of_second, now);
        assert_ne!(now, whole, "a deletion that changes nothing shows nothing");
        assert_eq!(
            (end_of_second.began, end_of_second.epoch, end_of_second.reason),
            (epoch, epoch, FinishReason::Length)
        );
        assert!(end.began < epoch);
        match on_deletion {
            OnDeletion::Stop => {
                assert_eq!((end.reason, rest.len()), (FinishReason::Deletion, 0));
            }
            OnDeletion::Continue => {
                assert_eq!((end.reason, end.epoch, rest.len()), (FinishReason::Length, epoch, 25));
                // The rest is what the models alive make of the text so far.
                let mut ids = prompt(0).ids;
                ids.extend(&begun);
                let expected = Prompt { ids, ..prompt(25) };
                let expected = source.system.generate(vec![expected]).unwrap().remove(0);
                assert_eq!(rest, expected.iter().map(|token| token.id).collect::<Vec<_>>());
            }
        }
        generator.close();
        thread.join().unwrap();
    });
    let figures = generator.figures();
    assert_eq!((figures.running, figures.waiting, figures.reserved_bytes), (0, 0, 0));
}

#[test]
fn a_deletion_ends_the_texts_of_dead_stages() {
    run(OnDeletion::Stop);
}

#[test]
fn a_text_goes_on_with_what_lives() {
    run(OnDeletion::Continue);
}

#[test]
fn a_text_that_waits_for_its_turn_and_is_given_up_leaves_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(folder.path(), OnDeletion::Stop);
    pipeline.serving.generation.max_texts = 1;
    let (go, gate) = channel();
    let source = Arc::new(Held { system: trained(pipeline), gate: Mutex::new(gate) });
    go.send(()).unwrap();
    let generator = Generator::new(Arc::clone(&source) as Arc<dyn ServesModels>).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| generator.run());
        let (first, heard, _) = ear();
        generator.submit(prompt(30), first).unwrap();
        go.send(()).unwrap();
        assert!(matches!(heard.recv().unwrap(), News::Token(_)));
        let (second, heard_second, is_there) = ear();
        generator.submit(prompt(30), second).unwrap();
        is_there.store(false, Ordering::SeqCst);
        go.send(()).unwrap();
        // The first has 28 tokens to go, and each waits for the gate.
        let (ids, end) = all(&heard_second);
        assert_eq!((ids.len(), end.reason), (0, FinishReason::Cancelled));
        drop(go);
        let (rest, end) = all(&heard);
        assert_eq!((rest.len(), end.reason), (29, FinishReason::Length));
        generator.close();
        thread.join().unwrap();
    });
}

#[test]
fn many_texts_come_and_go_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(system(folder.path(), OnDeletion::Continue));
    let generator = Arc::new(Generator::new(Arc::clone(&system) as Arc<dyn ServesModels>).unwrap());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| generator.run());
        let mut texts = Vec::new();
        for index in 0..200u32 {
            let (ear, heard, is_there) = ear();
            let mut prompt = prompt(1 + index as usize % 40);
            prompt.ids.push(3 + index % 400);
            generator.submit(prompt, ear).unwrap();
            if index % 3 == 0 {
                // The client hangs up.
                let at_once = index % 2 == 0;
                is_there.store(!at_once, Ordering::SeqCst);
                texts.push((index, heard, Some(is_there)));
            } else {
                texts.push((index, heard, None));
            }
            if index % 50 == 49 {
                system.delete(&[records()[index as usize / 50].id.clone()], &[]).unwrap();
            }
        }
        for (index, heard, is_there) in texts {
            if let Some(is_there) = is_there {
                is_there.store(false, Ordering::SeqCst);
                let (_, end) = all(&heard);
                assert!(matches!(end.reason, FinishReason::Cancelled | FinishReason::Length), "{:?}", end.reason);
            } else {
                let (ids, end) = all(&heard);
                assert_eq!((ids.len(), end.reason), (1 + index as usize % 40, FinishReason::Length));
                assert!(end.began <= end.epoch);
            }
        }
        generator.close();
        thread.join().unwrap();
    });
    let figures = generator.figures();
    assert_eq!((figures.running, figures.waiting, figures.reserved_bytes, figures.held_bytes), (0, 0, 0, 0));
}
