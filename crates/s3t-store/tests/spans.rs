//! The spans that the store gives to a subscriber of `tracing`: epochs and stage keys, and nothing that names anybody or anything of the user's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use s3t_core::RecordId;
use s3t_store::{DeletionRequest, Place, Store};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[allow(dead_code, reason = "this program uses a part of it")]
#[path = "all/common/mod.rs"]
mod common;

/// The fields of each span, by the span's name.
type Seen = Arc<Mutex<BTreeMap<&'static str, Vec<(&'static str, String)>>>>;

/// Writes everything down.
struct Everything {
    seen: Seen,
    names: Mutex<Vec<&'static str>>,
}

struct Fields<'a>(&'a mut Vec<(&'static str, String)>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut names = self.names.lock().unwrap();
        names.push(span.metadata().name());
        span.record(&mut Fields(self.seen.lock().unwrap().entry(span.metadata().name()).or_default()));
        Id::from_u64(names.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let name = self.names.lock().unwrap()[span.into_u64() as usize - 1];
        values.record(&mut Fields(self.seen.lock().unwrap().entry(name).or_default()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(self.seen.lock().unwrap().entry("event").or_default()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn spans_hold_epochs_and_stage_keys_only() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("store"));
    let seen = Seen::default();
    let subscriber = Everything { seen: Arc::clone(&seen), names: Mutex::default() };
    tracing::subscriber::with_default(subscriber, || {
        drop(common::create(&place).unwrap());
        let store = Store::open(&place).unwrap();
        common::train(&store, usize::MAX).unwrap();
        let record = store.records(s3t_core::SliceAddress::new(0, 0)).unwrap()[0].1.id.clone();
        let request = DeletionRequest { id: Some("ticket".into()), records: vec![record], subjects: Vec::new() };
        store.accept(&request).unwrap();
        store.snapshot().unwrap();
        store.erase().unwrap();
        let unknown = DeletionRequest { records: vec![RecordId::new("nobody").unwrap()], ..request };
        store.accept(&unknown).unwrap_err();
    });
    let seen = seen.lock().unwrap();
    let names: Vec<&str> = seen.keys().copied().collect();
    assert_eq!(names, ["store_accept", "store_effect", "store_erase", "store_open", "store_stage"]);
    for (span, fields) in seen.iter() {
        for (field, value) in fields {
            let is_sound = match *field {
                "epoch" => ["0", "1"].contains(&value.as_str()),
                "slices" => value.parse::<u64>().is_ok(),
                "read_only" => ["true", "false"].contains(&value.as_str()),
                "stage" => value.parse::<s3t_core::StageKey>().is_ok(),
                _ => false,
            };
            assert!(is_sound, "{span}: {field} = {value}");
        }
    }
    assert!(seen["store_accept"].contains(&("epoch", "1".into())));
}
