//! Scripts: the life of a system, step by step, up to what can be observed of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use crate::disk::{Needles, look};
use crate::{Answers, Content, Forgotten, Home, Launcher, LawsError, Record, SeenFile, Trace, UnlearningSystem};

/// A step in the life of a system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Step {
    /// Train on records.
    Train(Vec<Record>),
    /// Forget records, all in one request. A refusal as unknown is allowed, an error is not.
    Forget(Vec<String>),
    /// Finish what was put off.
    Settle,
    /// Answer the questions, and drop the answers.
    Ask,
    /// Stop, and launch again on the same folder.
    Restart,
    /// Kill, and launch again on the same folder.
    Kill,
}

/// The steps of a life; the answers after the last one are observed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Script(pub Vec<Step>);

/// A system as it is seen at the end of its script.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Its answers to the questions.
    pub answers: Answers,
    /// Its state, if it gives one.
    pub state: Option<Value>,
    /// Its files after it has stopped.
    pub files: Vec<SeenFile>,
    /// Traces of forgotten records in these files.
    pub traces: Vec<Trace>,
}

/// Runs scripts on fresh systems, each in a folder of its own that is removed afterwards.
pub struct Runner<'a> {
    launcher: &'a dyn Launcher,
    questions: &'a [Content],
    needles: Needles,
    seen: RefCell<BTreeMap<(String, u64), Rc<Observation>>>,
}

impl<'a> Runner<'a> {
    /// A runner for systems of one launcher.
    pub fn new(launcher: &'a dyn Launcher, questions: &'a [Content], needles: Needles) -> Self {
        Self { launcher, questions, needles, seen: RefCell::default() }
    }

    /// The observation at the end of a script, from an earlier run of the same script and seed if there is one.
    pub fn observe(&self, script: &Script, seed: u64) -> Result<Rc<Observation>, LawsError> {
        let name = serde_json::to_string(script).map(|text| blake3::hash(text.as_bytes()).to_hex().to_string());
        let key = (name.map_err(|error| LawsError::Refused { op: "script".into(), message: error.to_string() })?, seed);
        if let Some(observation) = self.seen.borrow().get(&key) {
            return Ok(Rc::clone(observation));
        }
        let observation = Rc::new(self.observe_anew(script, seed)?);
        self.seen.borrow_mut().insert(key, Rc::clone(&observation));
        Ok(observation)
    }

    /// The observation at the end of a new run of a script.
    pub fn observe_anew(&self, script: &Script, seed: u64) -> Result<Observation, LawsError> {
        let folder = tempfile::tempdir().map_err(|error| LawsError::File {
            action: "make",
            path: std::env::temp_dir(),
            error,
        })?;
        let home = Home { folder: folder.path().to_owned(), seed, resume: false };
        let mut system = self.launcher.launch(&home)?;
        for step in &script.0 {
            system = self.take(step, system, &home)?;
        }
        let answers = self.answers(system.as_mut())?;
        let state = system.dump()?;
        system.stop()?;
        let (files, traces) = look(folder.path(), &self.needles)?;
        Ok(Observation { answers, state, files, traces })
    }

    fn take(
        &self,
        step: &Step,
        mut system: Box<dyn UnlearningSystem>,
        home: &Home,
    ) -> Result<Box<dyn UnlearningSystem>, LawsError> {
        match step {
            Step::Train(records) => system.train(records)?,
            Step::Forget(ids) => match system.forget(ids)? {
                Forgotten::Done | Forgotten::Unknown => {}
            },
            Step::Settle => system.settle()?,
            Step::Ask => drop(self.answers(system.as_mut())?),
            Step::Restart => {
                system.stop()?;
                return self.launcher.launch(&Home { resume: true, ..home.clone() });
            }
            Step::Kill => {
                system.kill();
                return self.launcher.launch(&Home { resume: true, ..home.clone() });
            }
        }
        Ok(system)
    }

    /// The answers, checked in the same way for systems in this process and outside.
    fn answers(&self, system: &mut dyn UnlearningSystem) -> Result<Answers, LawsError> {
        let answers = system.answer(self.questions)?;
        if let Answers::Given(given) = &answers {
            let message = if given.len() != self.questions.len() {
                format!("{} answers came to {} questions", given.len(), self.questions.len())
            } else if !given.iter().flatten().all(|number| number.is_finite()) {
                "an answer holds a number that is not finite".into()
            } else {
                return Ok(answers);
            };
            return Err(LawsError::Refused { op: "answer".into(), message });
        }
        Ok(answers)
    }
}
