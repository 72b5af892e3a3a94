//! A replica, and the system whose stages it answers with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use s3t_core::aggregate::StageRouted;
use s3t_core::{Record, RecordId, SliceId, StageKey};
use s3t_engine::{
    EngineError, Quiet, Replica, ReplicaShard, ReplicaState, ServesModels, StageContent, System, VerifyScope,
};
use s3t_models::Precision;
use s3t_store::DeletionRequest;
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};
use serde_json::json;
use tempfile::TempDir;

const RECORDS: u64 = 30;

/// A change of a state, and the problem that it makes.
type Case<'a> = (&'a dyn Fn(&mut ReplicaState), &'a str);

struct World {
    folder: TempDir,
    leader: System,
    replica: Replica,
    known: BTreeMap<StageKey, StageContent>,
}

impl World {
    fn new(members: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (model, store) = (folder.path().join("model"), folder.path().join("store"));
        write_tiny_model(&model, 4).unwrap();
        let pipeline = |store: &Path| {
            let mut pipeline = tiny_pipeline(&model, store);
            pipeline.serving.members = serde_json::from_value(json!({ "type": members })).unwrap();
            pipeline
        };
        let leader = System::create(pipeline(&store), &toy_records(RECORDS, 0, 1), None).unwrap();
        leader.train(&Quiet).unwrap();
        let replica = Replica::open(pipeline(&folder.path().join("none"))).unwrap();
        Self { folder, leader, replica, known: BTreeMap::new() }
    }

    fn state(&mut self) -> ReplicaState {
        self.leader.replica_state(&mut self.known).unwrap()
    }

    fn delete(&self, record: u64) {
        let records = vec![RecordId::new(format!("record-{record}")).unwrap()];
        self.leader.fulfil(&DeletionRequest { id: None, records, subjects: vec![] }).unwrap();
    }

    /// Adds missing stages, up to a number of them.
    fn add(&self, most: usize) {
        for _ in 0..most {
            let Some((key, bytes)) = self.replica.missing().first().copied() else { return };
            let content = self.leader.store().stage_content(&key).unwrap();
            assert_eq!(content.len() as u64, bytes);
            assert!(self.replica.add(&key, &content).unwrap());
            assert!(!self.replica.add(&key, &content).unwrap(), "a second time it is not wanted");
        }
    }
}

/// Adds a sequence.
fn turn(shard: &mut ReplicaShard, keys: [StageKey; 2]) {
    shard.sequences.push(keys.to_vec());
    shard.slices.push(vec![SliceId(0), SliceId(1)]);
}

fn questions() -> Vec<Record> {
    toy_records(5, 0, 9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However many stages have arrived, answers use live stages of the newest state; with all of them they are the leader's.
    #[test]
    fn a_replica_answers_with_live_stages_and_as_its_leader_when_it_has_them_all(
        steps in proptest::collection::vec((0..RECORDS, 0..6_usize, any::<bool>()), 1..5),
        members in prop_oneof![Just("deepest"), Just("all-live"), Just("covering")],
    ) {
        let mut world = World::new(members);
        let has_none = matches!(world.replica.answer(&questions()), Err(EngineError::CatchingUp { held: 0, .. }));
        prop_assert!(has_none);
        let mut deleted = BTreeSet::new();
        let mut has_caught_up = false;
        for (record, most, repair) in steps {
            if deleted.insert(record) {
                world.delete(record);
            }
            if repair {
                world.leader.train(&Quiet).unwrap();
            }
            let state = world.state();
            world.replica.apply(state.clone()).unwrap();
            prop_assert_eq!(world.replica.epoch(), state.epoch);
            world.add(most);
            has_caught_up |= world.replica.status().has_caught_up;
            match world.replica.answer(&questions()) {
                Ok(answer) => {
                    prop_assert!(has_caught_up);
                    prop_assert_eq!(answer.epoch, state.epoch);
                    for key in answer.stages.iter().filter_map(|serves| serves.stage) {
                        prop_assert!(state.stages.contains_key(&key));
                    }
                }
                Err(EngineError::CatchingUp { held, wanted }) => prop_assert!(held < wanted && !has_caught_up),
                Err(EngineError::NothingServes) => {}
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
            world.add(usize::MAX);
            has_caught_up = true;
            match (world.replica.answer(&questions()), world.leader.answer(&questions())) {
                (Ok(own), Ok(theirs)) => prop_assert_eq!(own, theirs),
                (Err(EngineError::NothingServes), Err(EngineError::NothingServes)) => {}
                (own, theirs) => return Err(TestCaseError::fail(format!("{own:?} and {theirs:?}"))),
            }
            let (status, snapshot) = (world.replica.status(), world.leader.snapshot().unwrap());
            let availability = snapshot.availability();
            for (shard, (depth, worst)) in (0..).map(s3t_core::ShardId).zip(status.shards) {
                prop_assert_eq!(depth, availability.serving(shard).map_or(0, |serving| serving.depth));
                prop_assert_eq!(worst, availability.adversarial_budget(shard));
            }
            prop_assert_eq!((status.held, status.planned), (status.wanted, snapshot.plan().stages().len()));
        }
        world.replica.clear();
        prop_assert!(world.replica.answer(&questions()).is_err() && !world.replica.has_state());
    }
}

#[test]
fn a_stage_that_a_deletion_cut_while_it_was_on_its_way_is_not_kept() {
    let mut world = World::new("deepest");
    let state = world.state();
    world.replica.apply(state.clone()).unwrap();
    world.add(usize::MAX);
    let contents: Vec<(StageKey, Vec<u8>)> =
        state.stages.keys().map(|key| (*key, world.leader.store().stage_content(key).unwrap())).collect();
    world.delete(3);
    let after = world.state();
    assert!(after.stages.len() < state.stages.len());
    world.replica.apply(after.clone()).unwrap();
    for (key, content) in &contents {
        assert!(!world.replica.wants(key) && !world.replica.add(key, content).unwrap());
    }
    assert_eq!(world.replica.status().held, after.stages.len());
}

#[test]
fn states_and_stages_that_do_not_fit_are_refused_by_name_and_change_nothing() {
    let mut world = World::new("deepest");
    let state = world.state();
    let refused = |change: &dyn Fn(&mut ReplicaState)| {
        let mut other = state.clone();
        change(&mut other);
        world.replica.apply(other).unwrap_err().to_string()
    };
    let first = state.shards[0].sequences[0].clone();
    let cases: [Case<'_>; 12] = [
        (&|state| state.format = 9, "its format is 9"),
        (&|state| state.model.labels.swap(0, 1), "`data.labels` of the leader"),
        (&|state| state.model.task = s3t_core::Task::Regression, "`data.task` of the leader"),
        (&|state| state.model.members = json!({ "type": "all-live" }), "`serving.members` of the leader"),
        (&|state| state.model.aggregator = json!({ "type": "vote" }), "`serving.aggregator` of the leader"),
        (&|state| state.stages.retain(|key, _| *key != first[0]), "does not say how long"),
        (&|state| turn(&mut state.shards[0], [first[1], first[0]]), "follows different stages"),
        (&|state| state.shards[1].slices[0].clear(), "shard 1 does not have a slice for each stage"),
        (&|state| state.shards.clear(), "it has 0 shards"),
        (&|state| state.shards[0] = ReplicaShard::default(), "is in no sequence of it"),
        (&|state| state.model.shape.slices += 1, "`partition.shards` and `partition.slices` of the leader"),
        (&|state| state.stages.values_mut().for_each(|stage| stage.bytes = 1 << 40), "one of this model has at most"),
    ];
    for (change, problem) in cases {
        let message = refused(change);
        assert!(message.contains(problem), "{message}");
        assert!(!world.replica.has_state());
    }
    world.replica.apply(state.clone()).unwrap();
    assert!(refused(&|state| state.ledger.push('x')).contains("it is of another store"));
    let content = world.leader.store().stage_content(&first[0]).unwrap();
    for at in [0, 9, content.len() / 2, content.len() - 1] {
        let mut other = content.clone();
        other[at] ^= 0x20;
        let message = world.replica.add(&first[0], &other).unwrap_err().to_string();
        assert!(message.contains(&first[0].to_string()) && message.contains("do not match the digest"), "{message}");
    }
    assert!(!world.replica.add(&first[1], &content).unwrap_or(false), "before its parent, or with other bytes");

    // A leader that names a stage by another's key, with the digest of its bytes, is found out by the lineage.
    let mut lying = state.clone();
    let (one, two) = (first[0], state.shards[1].sequences[0][0]);
    let (content_one, content_two) = (lying.stages[&one], lying.stages[&two]);
    lying.stages.extend([(one, content_two), (two, content_one)]);
    world.replica.apply(lying).unwrap();
    let message = world.replica.add(&two, &content).unwrap_err().to_string();
    assert!(message.contains("its lineage makes another key"), "{message}");

    // So is one that puts stages in another order.
    let mut lying = state.clone();
    lying.shards[0].sequences = vec![first.iter().rev().copied().collect()];
    lying.shards[0].slices.truncate(1);
    lying
        .stages
        .retain(|key, _| first.contains(key) || state.shards[1].sequences.iter().flatten().any(|other| other == key));
    world.replica.apply(lying).unwrap();
    let last = *first.last().unwrap();
    let content = world.leader.store().stage_content(&last).unwrap();
    let message = world.replica.add(&last, &content).unwrap_err().to_string();
    assert!(message.contains("its lineage has other stages before it than the state"), "{message}");

    world.replica.apply(state.clone()).unwrap();
    world.add(usize::MAX);
    world.delete(1);
    let newer = world.state();
    world.replica.apply(newer.clone()).unwrap();
    let message = world.replica.apply(state).unwrap_err().to_string();
    assert!(message.contains("its epoch is 0, and it was 1 before"), "{message}");
    assert_eq!(world.replica.epoch(), newer.epoch);
    // Also after everything was forgotten.
    world.replica.clear();
    let mut older = newer;
    older.epoch = s3t_ledger::Epoch(0);
    assert!(world.replica.apply(older).is_err());

    let other = world.folder.path().join("other");
    write_tiny_model(&other, 5).unwrap();
    let replica = Replica::open(tiny_pipeline(&other, &world.folder.path().join("none"))).unwrap();
    let state = world.state();
    assert!(replica.apply(state).unwrap_err().to_string().contains("the base model (weights, tokenizer"));
}

/// Scores of each record.
fn scores(predictions: &[s3t_engine::Prediction]) -> Vec<f32> {
    predictions.iter().flat_map(|prediction| prediction.scores.clone()).collect()
}

#[test]
fn answers_in_bfloat16_change_no_stage_and_a_follower_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_tiny_model(&model, 4).unwrap();
    let pipeline = |store: &str, precision: Option<Precision>| {
        let mut pipeline = tiny_pipeline(&model, &folder.path().join(store));
        pipeline.serving.precision = precision;
        pipeline
    };
    let system = System::create(pipeline("store", None), &toy_records(RECORDS, 0, 1), None).unwrap();
    system.train(&Quiet).unwrap();
    let (stages, single) = (system.snapshot().unwrap().stages().clone(), system.predict(&questions()).unwrap());
    drop(system);
    let leader = System::open(pipeline("store", Some(Precision::Bf16))).unwrap();
    assert_eq!(*leader.snapshot().unwrap().stages(), stages);
    let apart = scores(&single).into_iter().zip(scores(&leader.predict(&questions()).unwrap()));
    let apart = apart.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    assert!(apart > 0.0 && apart < 0.1, "scores are {apart} apart");
    let records = vec![RecordId::new("record-3").unwrap()];
    leader.fulfil(&DeletionRequest { id: None, records, subjects: vec![] }).unwrap();
    leader.train(&Quiet).unwrap();
    assert!(leader.verify(VerifyScope::All, &Quiet).unwrap().passed());
    let state = leader.replica_state(&mut BTreeMap::new()).unwrap();
    let follower = Replica::open(pipeline("none", Some(Precision::Bf16))).unwrap();
    follower.apply(state.clone()).unwrap();
    while let Some((key, _)) = follower.missing().first() {
        follower.add(key, &leader.store().stage_content(key).unwrap()).unwrap();
    }
    assert_eq!(follower.answer(&questions()).unwrap(), leader.answer(&questions()).unwrap());
    let message = Replica::open(pipeline("none", None)).unwrap().apply(state).unwrap_err().to_string();
    assert!(message.contains("`serving.precision` of the leader is \"bf16\", and here it is \"f32\""), "{message}");
}

#[test]
fn a_follower_routes_as_its_leader_and_refuses_stages_without_centroids() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_tiny_model(&model, 4).unwrap();
    let pipeline = |store: &str, has_centroids: bool| {
        let mut pipeline = tiny_pipeline(&model, &folder.path().join(store));
        pipeline.training.centroid = has_centroids;
        if has_centroids {
            pipeline.serving.aggregator = Box::new(StageRouted::default());
        }
        pipeline
    };
    let with_stages = |leader: &System| {
        let follower = Replica::open(pipeline("none", true)).unwrap();
        // What a leader that is not routed would not say.
        let mut state = leader.replica_state(&mut BTreeMap::new()).unwrap();
        state.model.aggregator = serde_json::to_value(&follower.pipeline().serving.aggregator).unwrap();
        follower.apply(state).unwrap();
        while let Some((key, _)) = follower.missing().first() {
            follower.add(key, &leader.store().stage_content(key).unwrap())?;
        }
        Ok::<Replica, EngineError>(follower)
    };
    for (store, has_centroids) in [("routed", true), ("unrouted", false)] {
        let leader = System::create(pipeline(store, has_centroids), &toy_records(RECORDS, 0, 1), None).unwrap();
        leader.train(&Quiet).unwrap();
        match with_stages(&leader) {
            Ok(follower) => {
                assert!(has_centroids);
                assert_eq!(follower.answer(&questions()).unwrap(), leader.answer(&questions()).unwrap());
            }
            Err(error) => {
                assert!(!has_centroids && error.to_string().contains("no centroid of its records"), "{error}");
            }
        }
    }
}

#[test]
fn a_stage_is_forgotten_once_no_answer_has_it_and_one_that_lives_keeps_nobody_waiting() {
    let mut world = World::new("deepest");
    let state = world.state();
    world.replica.apply(state).unwrap();
    world.add(usize::MAX);
    // An answer under way, while a deletion takes stages away.
    let before = world.replica.serving().unwrap();
    world.delete(4);
    let state = world.state();
    world.replica.apply(state).unwrap();
    assert!(!world.replica.has_forgotten());
    drop(before);
    assert!(world.replica.has_forgotten());
    // The same, while deeper stages take members' places.
    world.add(usize::MAX);
    let before = world.replica.serving().unwrap();
    world.leader.train(&Quiet).unwrap();
    let state = world.state();
    world.replica.apply(state).unwrap();
    world.add(usize::MAX);
    let after = world.replica.serving().unwrap();
    assert_ne!(before.stages, after.stages);
    assert!(world.replica.has_forgotten(), "what was replaced is alive");
}
