//! The protocol between an owner and a worker, with workers that do what they must not.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Counting, STEPS, StopAfter, by_hand, digest, environment, honest, job, settings, trained};
use s3t_executor::{
    Answer, ExecutorError, Failure, Link, Request, SentJob, Silent, StageJob, StageProgress, TrainedStage, Trainer,
    read_frame, write_frame,
};

#[test]
fn a_worker_trains_one_job_after_the_other() {
    let trainer = Arc::new(Counting::default());
    let mut link = honest(Arc::clone(&trainer));
    assert_eq!(link.environment(), &environment());
    for slices in [&["one"] as &[&str], &["one", "two"], &["three"]] {
        let (job, progress) = (job(slices), StopAfter::new(usize::MAX));
        assert_eq!(link.train(&job, &progress).unwrap(), trained(&job, STEPS));
        let done: Vec<usize> = progress.steps.into_inner().unwrap().iter().map(|step| step.done).collect();
        assert_eq!(done, (1..=STEPS).collect::<Vec<_>>());
    }
    assert_eq!(trainer.threads.lock().unwrap().iter().copied().collect::<Vec<_>>(), [3]);
}

#[test]
fn a_failure_of_training_comes_with_its_message_and_the_worker_goes_on() {
    let mut link = honest(Arc::default());
    let bad = job(&["bad"]);
    let error = link.train(&bad, &Silent).unwrap_err();
    let message = format!("stage {}: the loss is NaN in step 3", bad.key());
    assert_eq!(error, ExecutorError::Training { key: bad.key(), message });
    assert!(!error.is_of_the_worker() && link.is_fit());
    let good = job(&["good"]);
    assert_eq!(link.train(&good, &Silent).unwrap(), trained(&good, STEPS));
}

#[test]
fn a_job_of_another_base_model_is_refused() {
    let mut link = honest(Arc::default());
    let mut other = job(&["one"]);
    other.lineage.recipe.base = digest("another base");
    let error = link.train(&other, &Silent).unwrap_err();
    assert!(matches!(&error, ExecutorError::Refused { problem, .. } if problem.contains("base model")), "{error}");
    assert!(!error.is_of_the_worker());
}

#[test]
fn a_cancelled_job_ends_and_the_worker_takes_the_next() {
    let mut link = honest(Arc::default());
    let endless = job(&["endless"]);
    assert_eq!(link.train(&endless, &StopAfter::new(3)), Err(ExecutorError::Cancelled(endless.key())));
    assert!(link.is_fit());
    let next = job(&["next"]);
    assert_eq!(link.train(&next, &Silent).unwrap(), trained(&next, STEPS));
}

#[test]
fn a_result_that_comes_after_the_cancellation_is_dropped_also_when_it_comes_twice() {
    let mut link = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        let (first, cancelled) = hand.job();
        hand.say(&Answer::Step(first, s3t_executor::Step { done: 1, steps: 2, records: 1, loss: 0.0 }));
        assert_eq!(hand.next(), Some(Request::Cancel(first)));
        hand.say(&Answer::Trained(first, trained(&cancelled, 1)));
        let (second, job) = hand.job();
        hand.say(&Answer::Trained(first, trained(&cancelled, 1)));
        hand.say(&Answer::Trained(second, trained(&job, 2)));
        while hand.next().is_some() {}
    })
    .unwrap();
    let (first, second) = (job(&["one"]), job(&["two"]));
    assert_eq!(link.train(&first, &StopAfter::new(1)), Err(ExecutorError::Cancelled(first.key())));
    assert!(link.is_fit());
    assert_eq!(link.train(&second, &Silent).unwrap(), trained(&second, 2));
}

#[test]
fn a_worker_that_does_not_hear_a_cancellation_is_not_fit_any_more() {
    let mut link = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        let (number, _) = hand.job();
        hand.say(&Answer::Step(number, s3t_executor::Step { done: 1, steps: 2, records: 1, loss: 0.0 }));
        while hand.next().is_some() {}
    })
    .unwrap();
    let job = job(&["one"]);
    assert_eq!(link.train(&job, &StopAfter::new(1)), Err(ExecutorError::Cancelled(job.key())));
    assert!(!link.is_fit());
}

#[test]
fn tensors_of_another_stage_are_refused_by_its_name() {
    let other = job(&["two"]);
    let answered = trained(&other, 1);
    let mut link = by_hand(move |mut hand| {
        hand.say(&Answer::Ready(environment()));
        let (number, _) = hand.job();
        hand.say(&Answer::Trained(number, answered));
        while hand.next().is_some() {}
    })
    .unwrap();
    let asked = job(&["one"]);
    let error = link.train(&asked, &Silent).unwrap_err();
    let expected = ExecutorError::WrongAnswer { worker: "worker 1".into(), asked: asked.key(), answered: other.key() };
    assert_eq!(error, expected);
    assert!(!link.is_fit() && !error.is_of_the_worker());
}

#[test]
fn an_answer_for_a_job_that_was_never_given_ends_the_link() {
    let mut link = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        let (number, job) = hand.job();
        hand.say(&Answer::Trained(number + 1, trained(&job, 1)));
        while hand.next().is_some() {}
    })
    .unwrap();
    assert!(matches!(link.train(&job(&["one"]), &Silent), Err(ExecutorError::Damaged(_))));
    assert!(!link.is_fit());
}

#[test]
fn a_worker_that_dies_or_sends_a_damaged_frame_is_told_from_a_failure_of_training() {
    let mut dying = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        hand.job();
    })
    .unwrap();
    let error = dying.train(&job(&["one"]), &Silent).unwrap_err();
    assert!(matches!(error, ExecutorError::WorkerDied { .. }) && error.is_of_the_worker(), "{error}");

    let mut damaging = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        let (number, job) = hand.job();
        let mut frame = write_frame(&Answer::Trained(number, trained(&job, 1))).unwrap();
        let place = frame.len() / 2;
        frame[place] ^= 4;
        hand.output.write_all(&frame).unwrap();
        while hand.next().is_some() {}
    })
    .unwrap();
    let error = damaging.train(&job(&["one"]), &Silent).unwrap_err();
    assert!(matches!(error, ExecutorError::Damaged(_)) && error.is_of_the_worker(), "{error}");
}

#[test]
fn a_damaged_job_is_told_by_the_worker_that_got_it() {
    let (worker_in, mut owner_out) = std::io::pipe().unwrap();
    let (mut owner_in, worker_out) = std::io::pipe().unwrap();
    let load = |_: &_| Ok(Arc::new(Counting::default()) as _);
    let worker = std::thread::spawn(move || s3t_executor::work(worker_in, worker_out, None, load, |_| {}));
    owner_out.write_all(&write_frame(&Request::Hello(settings())).unwrap()).unwrap();
    let mut frame = write_frame(&Request::Threads(2)).unwrap();
    let end = frame.len() - 1;
    frame[end] ^= 1;
    owner_out.write_all(&frame).unwrap();
    let mut answers = Vec::new();
    while let Some(answer) = s3t_executor::read_frame::<Answer>(&mut owner_in).unwrap() {
        let is_last = matches!(answer, Answer::Damaged(_));
        answers.push(answer);
        if is_last {
            break;
        }
    }
    assert!(answers.iter().any(|answer| matches!(answer, Answer::Damaged(_))), "{answers:?}");
    assert!(matches!(worker.join().unwrap(), Err(ExecutorError::Damaged(_))));
}

#[test]
fn a_worker_that_cannot_start_says_why() {
    let (worker_in, owner_out) = std::io::pipe().unwrap();
    let (owner_in, worker_out) = std::io::pipe().unwrap();
    let other = ExecutorError::OtherModel { expected: digest("base"), found: digest("another") };
    std::thread::spawn(move || s3t_executor::work(worker_in, worker_out, None, |_| Err(other), |_| {}));
    let opened = Link::open("worker 1", owner_in, owner_out, &settings(), Duration::from_secs(60));
    let message = opened.err().unwrap().to_string();
    assert!(message.starts_with("worker 1 cannot be started: the base model is "), "{message}");
}

#[test]
fn a_worker_forgets_while_it_trains_and_a_gone_one_remembers_nothing() {
    let trainer = Arc::new(Counting::default());
    let mut link = honest(Arc::clone(&trainer));
    let handle = link.handle();
    let endless = job(&["endless"]);
    let digests = [digest("a"), digest("b")];
    std::thread::scope(|scope| {
        let training = scope.spawn(|| link.train(&endless, &StopAfter::new(200)));
        assert!(handle.forget(Some(&digests), Duration::from_secs(60)));
        assert!(handle.forget(None, Duration::from_secs(60)));
        assert!(training.join().unwrap().is_err());
    });
    assert_eq!(*trainer.forgotten.lock().unwrap(), digests);
    assert_eq!(trainer.forgotten_all.load(std::sync::atomic::Ordering::Relaxed), 1);

    let gone = by_hand(|mut hand| hand.say(&Answer::Ready(environment()))).unwrap();
    assert!(gone.handle().forget(None, Duration::from_secs(60)));
    let deaf = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        while hand.next().is_some() {}
    })
    .unwrap();
    assert!(!deaf.handle().forget(None, Duration::from_millis(1)));
}

#[test]
fn a_refusal_of_the_worker_is_passed_on() {
    let mut link = by_hand(|mut hand| {
        hand.say(&Answer::Ready(environment()));
        let (number, _) = hand.job();
        hand.say(&Answer::Failed(number, Failure::Refused("no room".into())));
        while hand.next().is_some() {}
    })
    .unwrap();
    let error = link.train(&job(&["one"]), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "worker 1 refused the job: no room");
}

/// Counts what is written.
struct Counted(std::io::PipeWriter, Arc<AtomicUsize>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.fetch_add(written, Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Notes the jobs that come.
#[derive(Default)]
struct Noting(Mutex<Vec<StageJob>>);

impl Trainer for Noting {
    fn environment(&self) -> s3t_core::NumericEnvironment {
        environment()
    }

    fn train(&self, job: &StageJob, _progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        self.0.lock().unwrap().push(job.clone());
        Ok(trained(job, 1))
    }

    fn forget(&self, _records: &[s3t_core::Digest]) {}

    fn forget_all(&self) {}
}

#[test]
fn records_travel_once_until_they_are_forgotten_or_another_job_does_without_them() {
    let (worker_in, owner_out) = std::io::pipe().unwrap();
    let (owner_in, worker_out) = std::io::pipe().unwrap();
    let (trainer, sent) = (Arc::new(Noting::default()), Arc::new(AtomicUsize::new(0)));
    let noting = Arc::clone(&trainer);
    std::thread::spawn(move || s3t_executor::work(worker_in, worker_out, None, |_| Ok(noting as _), |_| {}));
    let counted = Counted(owner_out, Arc::clone(&sent));
    let mut link = Link::open("worker 1", owner_in, counted, &settings(), Duration::from_secs(60)).unwrap();
    let mut first = job(&["one"]);
    let long = s3t_core::Record {
        payload: s3t_core::Payload::Text("long ".repeat(20_000)),
        ..(*first.records[0].record).clone()
    };
    first.records[0].record = Arc::new(long);
    let second = StageJob { records: first.records.clone(), ..job(&["one", "two"]) };
    let mut other = job(&["three"]);
    other.records.remove(0);
    let digest_of_long = first.records[0].digest;
    let handle = link.handle();
    let mut bytes = |job: &StageJob| {
        let before = sent.load(Ordering::SeqCst);
        link.train(job, &Silent).unwrap();
        assert_eq!(trainer.0.lock().unwrap().last().unwrap().records, job.records);
        sent.load(Ordering::SeqCst) - before
    };
    assert!(bytes(&first) > 100_000);
    assert!(bytes(&second) < 10_000);
    assert!(bytes(&first) < 10_000);
    // It is sent again where it was forgotten: by itself, with all, and by a job that does without it.
    assert!(handle.forget(Some(&[digest_of_long]), Duration::from_secs(60)));
    assert!(bytes(&second) > 100_000);
    assert!(bytes(&second) < 10_000);
    assert!(handle.forget(None, Duration::from_secs(60)));
    assert!(bytes(&second) > 100_000);
    assert!(bytes(&other) < 10_000);
    assert!(bytes(&second) > 100_000);
}

#[test]
fn a_job_with_a_record_that_was_not_sent_is_refused() {
    let (worker_in, mut owner_out) = std::io::pipe().unwrap();
    let (mut owner_in, worker_out) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        s3t_executor::work(worker_in, worker_out, None, |_| Ok(Arc::new(Noting::default()) as _), |_| {})
    });
    let job = job(&["one"]);
    let all = job.records.iter().map(|record| record.digest).collect();
    for request in [
        Request::Hello(settings()),
        Request::Job { number: 1, key: job.key(), threads: 1, job: SentJob::new(&job, &all) },
    ] {
        owner_out.write_all(&write_frame(&request).unwrap()).unwrap();
    }
    let failed = std::iter::from_fn(|| read_frame::<Answer>(&mut owner_in).unwrap())
        .find_map(|answer| if let Answer::Failed(1, failure) = answer { Some(failure) } else { None });
    let Some(Failure::Refused(problem)) = failed else { panic!("{failed:?}") };
    assert!(problem.contains("which was not sent"), "{problem}");
}
