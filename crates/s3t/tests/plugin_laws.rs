//! Every plugin that the facade links obeys the laws of its kind, with its defaults. A plugin's own tests have its other settings.

use s3t::core::registry::{check_names, plugins};
use s3t::core::{PluginInfo, PluginKind};
use serde_json::{Value, json};

/// The table of each linked plugin of a kind: its name, and defaults for the rest. Sizes are 2 where they would be more: the model of
/// the laws is tiny.
fn tables(kind: PluginKind) -> Vec<Value> {
    let table = |plugin: &&PluginInfo| {
        let mut table = json!({ "type": plugin.name() });
        for field in plugin.fields().iter().filter(|field| field.default.as_u64() > Some(2)) {
            table[&field.name] = json!(2);
        }
        table
    };
    let tables: Vec<Value> = plugins().iter().filter(|plugin| plugin.kind() == kind).map(table).collect();
    assert!(!tables.is_empty(), "no {kind} is linked");
    tables
}

#[test]
fn every_peft_method_obeys_the_laws() {
    tables(PluginKind::PeftMethod).iter().for_each(s3t_testkit::check_peft_method);
}

#[test]
fn every_sequence_strategy_obeys_the_laws() {
    for table in tables(PluginKind::SequenceStrategy) {
        s3t_testkit::check_sequence_strategy(&table, false, false);
    }
    // The strategy of s3t-core that promises diverse sequences and any budget.
    s3t_testkit::check_sequence_strategy(&json!({"type": "cyclic"}), true, true);
}

#[test]
fn every_choice_of_members_obeys_the_laws() {
    tables(PluginKind::Members).iter().for_each(s3t_testkit::check_members);
    s3t_testkit::check_members(&json!({"type": "all-live", "slack": 0}));
    s3t_testkit::check_members(&json!({"type": "all-live", "slack": 1}));
}

#[test]
fn every_aggregator_obeys_the_laws() {
    tables(PluginKind::Aggregator).iter().for_each(s3t_testkit::check_aggregator);
}

#[test]
fn every_partitioner_obeys_the_laws() {
    for table in tables(PluginKind::Partitioner) {
        s3t_testkit::check_partitioner(&table);
    }
}

#[test]
fn no_two_plugins_share_a_name() {
    assert_eq!(check_names(), Ok(()));
}

/// The same stages, trained on the older CPU backend, answer the same within 1e-4. The backend is part of a stage's lineage
/// and so of its seed; here both train for one lineage, which only a replaced trainer can do.
#[test]
fn ndarray_answers_as_flex_does() {
    use std::sync::Arc;

    use s3t::backends::DeviceSpec;
    use s3t::core::{Digest, NumericEnvironment, StoreSecret};
    use s3t::executor::{ExecutorError, StageJob, StageProgress, TrainedStage, Trainer};
    use s3t::models::LoadOptions;
    use s3t::prelude::*;
    use s3t::train::StageTrainer;
    use s3t_testkit::Planted;

    /// A trainer that says that it computes with another arithmetic than it does.
    struct Claims {
        trainer: StageTrainer,
        claimed: NumericEnvironment,
    }

    impl Trainer for Claims {
        fn environment(&self) -> NumericEnvironment {
            self.claimed.clone()
        }

        fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
            Ok(TrainedStage { environment: self.claimed.clone(), ..self.trainer.train(job, progress)? })
        }

        fn forget(&self, records: &[Digest]) {
            self.trainer.forget(records);
        }

        fn forget_all(&self) {
            self.trainer.forget_all();
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    s3t_testkit::write_tiny_model(&model, 4).unwrap();
    let answers = |trained_on: &str| {
        let mut pipeline = s3t_testkit::tiny_pipeline(&model, &folder.path().join(trained_on));
        pipeline.training.seed = 1;
        let records = s3t_testkit::toy_records(40, 0, 1);
        let device: DeviceSpec = trained_on.parse().unwrap();
        let folder = model.clone();
        pipeline.executor = Planted::trainer(move |honest| {
            let backbone = s3t::models::load(&folder, LoadOptions::default(), &device.open().unwrap()).unwrap();
            let trainer = StageTrainer::new(backbone, device, 1 << 20).unwrap();
            Arc::new(Claims { trainer, claimed: honest.environment() })
        });
        let system = System::create(pipeline, &records, Some(StoreSecret::from_bytes([1; 32]))).unwrap();
        system.train(&Quiet).unwrap();
        system.predict(&s3t_testkit::toy_records(30, 0, 2)).unwrap()
    };
    let (flex, ndarray) = (answers("flex"), answers("ndarray"));
    assert_eq!(flex.len(), 30);
    for (flex, ndarray) in flex.iter().zip(ndarray) {
        for (one, other) in flex.scores.iter().zip(ndarray.scores) {
            assert!((one - other).abs() < 1e-4, "{}: {one} and {other}", flex.id);
        }
    }
}
