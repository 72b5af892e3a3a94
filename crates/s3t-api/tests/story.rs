//! A small store's life over requests and answers alone, without a command line.

use std::path::{Path, PathBuf};

use s3t_api::{
    AuditAnswer, DeleteAnswer, ErrorKind, EvalAnswer, ExportAnswer, PredictAnswer, RepairAnswer, Reply, RunAnswer,
    StatusAnswer, StoreCheckAnswer, TrainAnswer, VerifyAnswer,
};
use s3t_engine::Quiet;
use s3t_testkit::{jsonl, toy_records, write_workspace};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        write_workspace(folder.0.path()).unwrap();
        std::fs::write(folder.path("test.jsonl"), jsonl(&toy_records(20, 0, 7))).unwrap();
        folder
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// A request as it would come over a wire, for the folder's pipeline.
    fn request<R: DeserializeOwned>(&self, mut fields: Value) -> R {
        fields["pipeline"] = json!(self.path("pipeline.toml"));
        serde_json::from_value(fields).unwrap()
    }
}

/// Checks that an answer comes back from its JSON as it was, and gives the JSON.
#[track_caller]
fn there_and_back<A: Reply + PartialEq + std::fmt::Debug>(answer: &A) -> Value {
    let json = serde_json::to_value(answer).unwrap();
    assert!(json.is_object());
    let back: A = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(&back, answer);
    json
}

#[test]
fn a_store_lives_over_requests_and_answers() {
    let folder = Folder::new();
    let trained: TrainAnswer = s3t_api::train(&folder.request(json!({})), &Quiet).unwrap();
    assert_eq!(trained.training.report.trained, trained.training.report.planned);
    there_and_back(&trained);

    let status: StatusAnswer = s3t_api::status(&folder.request(json!({}))).unwrap();
    assert_eq!((status.status.records, status.status.subjects, status.shards.len()), (60, 20, 2));
    there_and_back(&status);

    let scored: EvalAnswer = s3t_api::evaluate(&folder.request(json!({}))).unwrap();
    assert_eq!(scored.evaluation.records, 20);
    there_and_back(&scored);

    let predicted: PredictAnswer = s3t_api::predict(&folder.request(json!({ "limit": 3 }))).unwrap();
    let json = there_and_back(&predicted);
    assert_eq!(json["predictions"].as_array().unwrap().len(), 3);

    let exported: ExportAnswer =
        s3t_api::export(&folder.request(json!({ "to": folder.path("exports/first") }))).unwrap();
    assert_eq!(exported.export.shards.len(), 2);
    there_and_back(&exported);

    let forget = json!({ "subjects": ["subject-2"], "request_id": "ticket-1", "receipt": folder.path("receipt.json") });
    let deleted: DeleteAnswer = s3t_api::delete(&folder.request(forget.clone())).unwrap();
    assert_eq!((deleted.deletion.epoch, deleted.failure()), (1, None));
    assert!(!deleted.deletion.erased_stages.is_empty() && deleted.deletion.erased_seconds.is_some());
    there_and_back(&deleted);
    assert!(s3t_api::delete(&folder.request(forget)).unwrap().deletion.repeated);

    let receipt = s3t_api::VerifyReceiptRequest {
        receipt: folder.path("receipt.json"),
        key: folder.path("store/ledger/key.pub").display().to_string(),
        records: Vec::new(),
        subjects: vec!["subject-2".into()],
    };
    there_and_back(&s3t_api::verify_receipt(&receipt).unwrap());
    let other = s3t_api::VerifyReceiptRequest { subjects: vec!["subject-3".into()], ..receipt };
    assert_eq!(s3t_api::verify_receipt(&other).unwrap_err().kind(), ErrorKind::DoesNotHold);
    there_and_back(
        &s3t_api::show_receipt(&s3t_api::ShowReceiptRequest { receipt: folder.path("receipt.json") }).unwrap(),
    );

    let repaired: RepairAnswer = s3t_api::repair(&folder.request(json!({})), &Quiet).unwrap();
    assert!(repaired.repair.report.build.is_some());
    there_and_back(&repaired);

    let verified: VerifyAnswer = s3t_api::verify(&folder.request(json!({ "scope": "all" })), &Quiet).unwrap();
    assert_eq!((verified.verification.passed, verified.failure()), (true, None));
    there_and_back(&verified);

    let audit =
        json!({ "receipts": [folder.path("receipt.json")], "absent_subjects": ["subject-2"], "scope": "serving" });
    let audited: AuditAnswer = s3t_api::audit(&folder.request(audit), &Quiet).unwrap();
    assert!(audited.audit.passed, "{audited:?}");
    there_and_back(&audited);

    let checked: StoreCheckAnswer = s3t_api::check_store(&folder.request(json!({ "repair": true }))).unwrap();
    assert!(checked.store.passed);
    there_and_back(&checked);
}

#[test]
fn a_run_tells_the_whole_story_in_one_answer() {
    let folder = Folder::new();
    let told: RunAnswer = s3t_api::run(&folder.request(json!({})), &Quiet).unwrap();
    assert!(told.verification.passed && told.baseline.is_some() && told.after.is_some());
    assert_eq!(told.deletion.as_ref().unwrap().epoch, 1);
    there_and_back(&told);
    let again: RunAnswer = s3t_api::run(&folder.request(json!({})), &Quiet).unwrap();
    assert_eq!((again.deletion, again.after), (None, None));

    let fresh = |start: &str| s3t_api::run(&folder.request(json!({ "start": start })), &Quiet);
    assert_eq!(fresh("fresh").unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(fresh("fresh-despite-deletions").unwrap().restarted_after, Some(1));
}

#[test]
fn failures_have_kinds_and_change_nothing() {
    let folder = Folder::new();
    let kind = |error: s3t_api::ApiError| error.kind();
    assert_eq!(s3t_api::status(&folder.request(json!({}))).map_err(kind).unwrap_err(), ErrorKind::Store);
    s3t_api::train(&folder.request(json!({})), &Quiet).unwrap();
    let delete = |fields: Value| s3t_api::delete(&folder.request(fields)).map_err(kind);
    assert_eq!(delete(json!({})).unwrap_err(), ErrorKind::Refused);
    assert_eq!(delete(json!({ "subjects": ["nobody"] })).unwrap_err(), ErrorKind::Unknown);
    // The file of a receipt is taken back if nothing was accepted, also without a store.
    let receipt = folder.path("receipt.json");
    let unknown = json!({ "subjects": ["nobody"], "receipt": receipt });
    assert_eq!(delete(unknown.clone()).unwrap_err(), ErrorKind::Unknown);
    assert!(!receipt.exists());
    let due = |fields: Value| s3t_api::repair(&folder.request(fields), &Quiet).map_err(kind);
    assert_eq!(due(json!({ "below_depth": 2.0 })).unwrap_err(), ErrorKind::Refused);
    assert_eq!(due(json!({ "minutes": 0.0 })).unwrap_err(), ErrorKind::Refused);
    assert_eq!(delete(json!({ "subjects": ["subject-1"], "request_id": "a" })).unwrap().deletion.epoch, 1);
    assert_eq!(delete(json!({ "subjects": ["subject-2"], "request_id": "a" })).unwrap_err(), ErrorKind::RequestIdTaken);
    std::fs::remove_dir_all(folder.path("store")).unwrap();
    assert_eq!(delete(unknown).unwrap_err(), ErrorKind::Store);
    assert!(!receipt.exists());
}
