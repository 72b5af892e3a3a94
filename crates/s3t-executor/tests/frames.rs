//! Frames: a job arrives as it was sent, or not at all.

mod common;

use std::collections::BTreeSet;

use common::{job, settings, trained};
use proptest::prelude::*;
use s3t_executor::{Answer, ExecutorError, Kept, Request, SentJob, Step, read_frame, write_frame};

fn job_frame() -> Vec<u8> {
    let job = job(&["one", "two"]);
    let request = Request::Job { number: 7, key: job.key(), threads: 2, job: SentJob::new(&job, &BTreeSet::new()) };
    write_frame(&request).unwrap().to_vec()
}

#[test]
fn a_job_arrives_as_it_was_sent() {
    let sent = job(&["one", "two"]);
    let mut bytes = job_frame();
    bytes.extend(write_frame(&Request::Threads(4)).unwrap().iter());
    let mut stream = bytes.as_slice();
    let Some(Request::Job { number: 7, key, threads: 2, job }) = read_frame(&mut stream).unwrap() else {
        panic!("a job was sent");
    };
    let job = job.whole(&Kept::default()).unwrap();
    assert_eq!((job.key(), key), (sent.key(), sent.key()), "every number of the lineage has its bits");
    // NaN is not equal to itself, so texts are compared.
    assert_eq!(format!("{:?}", job.ancestors), format!("{:?}", sent.ancestors));
    let bits =
        |job: &s3t_executor::StageJob| job.ancestors[&9]["a"].values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&job), bits(&sent));
    assert_eq!(job.records, sent.records);
    assert_eq!(read_frame::<Request<'_>>(&mut stream).unwrap(), Some(Request::Threads(4)));
    assert_eq!(read_frame::<Request<'_>>(&mut stream).unwrap(), None, "the stream ends between two frames");
}

#[test]
fn answers_and_settings_arrive_as_they_were_sent() {
    let hello = Request::Hello(settings());
    assert_eq!(read_frame(&mut write_frame(&hello).unwrap().as_slice()).unwrap(), Some(hello));
    let step = Step { done: 1, steps: 9, records: 4, loss: f32::MAX };
    for answer in [Answer::Step(3, step), Answer::Trained(3, trained(&job(&["one"]), 9)), Answer::Forgot(u64::MAX)] {
        assert_eq!(read_frame(&mut write_frame(&answer).unwrap().as_slice()).unwrap(), Some(answer));
    }
}

#[test]
fn a_frame_that_was_cut_is_refused_wherever_it_was_cut() {
    let frame = job_frame();
    for length in 1..frame.len() {
        let error = read_frame::<Request<'_>>(&mut &frame[..length]).unwrap_err();
        assert!(matches!(error, ExecutorError::Damaged(_)), "{length}: {error}");
    }
}

#[test]
fn a_frame_of_another_version_is_refused_by_its_number() {
    // A whole frame of a later version, header check included.
    let mut frame = write_frame(&Answer::Alive).unwrap().to_vec();
    frame[4] += 1;
    let check = s3t_core::digest::DigestBuilder::new("frame header").bytes(&frame[..14]).finish();
    frame[14..22].copy_from_slice(&check.as_bytes()[..8]);
    let error = read_frame::<Answer>(&mut frame.as_slice()).unwrap_err();
    assert_eq!(error, ExecutorError::OtherVersion { found: 5, expected: 4 });
}

#[test]
fn a_path_that_is_no_text_is_refused() {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let mut settings = settings();
        settings.base.folder = std::ffi::OsString::from_vec(vec![0xff]).into();
        assert!(matches!(write_frame(&Request::Hello(settings)), Err(ExecutorError::Damaged(_))));
    }
}

proptest! {
    #[test]
    fn no_changed_bit_gets_through(bit in 0..8_u8, place in any::<proptest::sample::Index>()) {
        let mut frame = job_frame();
        let place = place.index(frame.len());
        frame[place] ^= 1 << bit;
        prop_assert!(read_frame::<Request<'_>>(&mut frame.as_slice()).is_err());
    }

    #[test]
    fn bytes_from_elsewhere_are_refused(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        prop_assert!(read_frame::<Answer>(&mut bytes.as_slice()).is_err());
    }
}
