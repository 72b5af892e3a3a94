//! Every law can fail: for each there is a system in this process with one fault, and the law finds it for every seed. A system without
//! faults keeps all laws.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use s3t_laws::{
    Answers, Capability, Content, Description, Forgotten, Guarantee, Home, Launcher, Law, LawsError, Record, Report,
    Settings, UnlearningSystem, Verdict, check,
};
use serde::{Deserialize, Serialize};

/// A mean of each class, and what a fault adds to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    records: Vec<Record>,
    /// Added to every answer.
    extra: f64,
    /// Deletions that removed something.
    deletions: u64,
}

struct Means {
    description: Description,
    folder: PathBuf,
    fault: Option<Law>,
    state: State,
    gone: BTreeSet<String>,
    last: Vec<f64>,
}

struct Start(Option<Law>);

/// Differs between all systems of this process.
static LAUNCHES: AtomicU64 = AtomicU64::new(0);

impl Launcher for Start {
    fn launch(&self, home: &Home) -> Result<Box<dyn UnlearningSystem>, LawsError> {
        let description = Description::new("means", Guarantee::Bits).with(Capability::Restart);
        let file = home.folder.join("state.json");
        let state =
            if home.resume { serde_json::from_slice(&fs::read(file).unwrap()).unwrap() } else { State::default() };
        let (folder, fault) = (home.folder.clone(), self.0);
        Ok(Box::new(Means { description, folder, fault, state, gone: BTreeSet::new(), last: Vec::new() }))
    }
}

/// The first feature of a record.
fn first(record: &Record) -> f64 {
    record.content["features"][0].as_f64().unwrap()
}

impl Means {
    fn write(&self) {
        fs::write(self.folder.join("state.json"), serde_json::to_vec(&self.state).unwrap()).unwrap();
    }

    fn append(&self, name: &str, line: &str) {
        let file = self.folder.join(name);
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(file, format!("{before}{line}\n")).unwrap();
    }

    fn means(&self) -> Vec<f64> {
        let mean = |class: u64| {
            let of_class = self.state.records.iter().filter(|record| record.content["label"] == class);
            let firsts: Vec<f64> = of_class.map(first).collect();
            if firsts.is_empty() { 0.0 } else { firsts.iter().sum::<f64>() / firsts.len() as f64 }
        };
        (0..3).map(mean).collect()
    }
}

impl UnlearningSystem for Means {
    fn description(&self) -> &Description {
        &self.description
    }

    fn train(&mut self, records: &[Record]) -> Result<(), LawsError> {
        self.state.records = records.to_vec();
        self.state.extra = match self.fault {
            Some(Law::Determinism) => LAUNCHES.fetch_add(1, Ordering::Relaxed) as f64,
            Some(Law::NonInterference) => records.iter().map(first).sum(),
            Some(Law::NeverThere) => records.len() as f64,
            _ => 0.0,
        };
        if self.fault == Some(Law::DiskState) {
            // Weights, which hold no record as it was.
            fs::write(self.folder.join("first.bin"), format!("{:?}", self.means())).unwrap();
        }
        self.write();
        Ok(())
    }

    fn forget(&mut self, ids: &[String]) -> Result<Forgotten, LawsError> {
        let known = |id: &String| self.state.records.iter().any(|record| record.id == *id);
        let unknown: Vec<&String> = ids.iter().filter(|id| !known(id)).collect();
        let again = unknown.iter().any(|id| self.gone.contains(*id));
        let stranger = unknown.iter().any(|id| !self.gone.contains(*id));
        if self.fault == Some(Law::Repeats) && again || self.fault == Some(Law::Unknown) && stranger {
            self.state.extra += 1.0;
        }
        self.last = self.means();
        let (gone, left): (Vec<Record>, Vec<Record>) =
            self.state.records.drain(..).partition(|record| ids.contains(&record.id));
        self.state.records = left;
        self.state.deletions += u64::from(!gone.is_empty());
        if self.fault == Some(Law::Order) {
            self.state.extra = self.state.deletions.saturating_sub(1) as f64;
        }
        for record in &gone {
            match self.fault {
                Some(Law::DiskContent) => self.append("log", &serde_json::to_string(&record.content).unwrap()),
                Some(Law::DiskNames) => self.append("log", &format!("forgot {}", record.id)),
                _ => {}
            }
            self.gone.insert(record.id.clone());
        }
        if self.fault != Some(Law::Kill) {
            self.write();
        }
        Ok(if unknown.is_empty() { Forgotten::Done } else { Forgotten::Unknown })
    }

    fn answer(&mut self, questions: &[Content]) -> Result<Answers, LawsError> {
        let mut means = self.means();
        if self.state.records.is_empty() {
            if self.fault != Some(Law::DeletionOfAll) {
                return Ok(Answers::Unavailable);
            }
            means.clone_from(&self.last);
        }
        if self.fault == Some(Law::Asking) {
            self.state.extra += 1.0;
        }
        let score = |question: &Content| {
            let feature = question["features"][0].as_f64().unwrap();
            means
                .iter()
                .map(|mean| if self.fault == Some(Law::Power) { 0.5 } else { feature * mean + self.state.extra })
                .collect()
        };
        Ok(Answers::Given(questions.iter().map(score).collect()))
    }

    fn stop(mut self: Box<Self>) -> Result<(), LawsError> {
        if self.fault == Some(Law::Restart) {
            self.state.extra += 1.0;
        }
        self.write();
        Ok(())
    }
}

fn report(fault: Option<Law>, records: usize, forget: usize, seed: u64) -> Report {
    check(&Start(fault), &Settings { rounds: 1, records, forget: Some(forget), seed, ..Settings::default() }).unwrap()
}

/// The laws that a fault breaks: itself, and those that cannot hold without it.
fn broken_by(fault: Law) -> Vec<Law> {
    match fault {
        Law::Power => vec![],
        // A constant of all records is there after their deletion too.
        Law::NonInterference => vec![Law::NonInterference, Law::NeverThere],
        other => vec![other],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn a_system_without_faults_keeps_all_laws(records in 9_usize..40, forget in 2_usize..6, seed in any::<u32>()) {
        let report = report(None, records, forget, u64::from(seed));
        prop_assert!(report.passed(), "{report}");
        prop_assert!(report.laws.iter().all(|law| law.verdict == Verdict::Held), "{report}");
    }

    #[test]
    fn every_fault_breaks_its_law_and_no_other(records in 9_usize..40, forget in 2_usize..6, seed in any::<u32>()) {
        for fault in Law::ALL {
            let report = report(Some(fault), records, forget, u64::from(seed));
            prop_assert!(!report.passed(), "{fault}: {report}");
            match fault {
                Law::Determinism => prop_assert!(report.broken().contains(&fault), "{fault}: {report}"),
                Law::Power => {
                    let powerless = matches!(report.verdict(fault), Some(Verdict::Powerless { .. }));
                    prop_assert!(powerless && report.broken().is_empty(), "{fault}: {report}");
                }
                _ => prop_assert_eq!(report.broken(), broken_by(fault), "{}: {}", fault, report),
            }
        }
    }
}
