//! The laws: pairs of lives that must end alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Capability, Case, Description, Guarantee, Kept, LawsError, Record, Script, Step};

/// A law of deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Before a deletion the forgotten records do change answers; without this nothing else says much.
    Power,
    /// Two trainings with one seed on the same records end alike.
    Determinism,
    /// Answering changes nothing.
    Asking,
    /// After a deletion nothing depends on the content of the forgotten records.
    NonInterference,
    /// After a deletion, and after what was put off is finished, the system is as if the records had never been there.
    NeverThere,
    /// The order of deletions, and whether they come in one request, changes nothing.
    Order,
    /// Forgetting again changes nothing.
    Repeats,
    /// Forgetting a record that never was there changes nothing.
    Unknown,
    /// Stopping and launching again changes nothing, before and after a deletion.
    Restart,
    /// A deletion stands when the process is killed as soon as it was answered.
    Kill,
    /// After the deletion of all records nothing depends on any.
    DeletionOfAll,
    /// No file holds the content of a forgotten record.
    DiskContent,
    /// No file holds the id of a forgotten record, or its subject when no other record has it.
    DiskNames,
    /// No file from before a deletion that depends on the forgotten records is still there.
    DiskState,
}

impl Law {
    /// Every law, in the order in which they are checked.
    pub const ALL: [Self; 14] = [
        Self::Power,
        Self::Determinism,
        Self::Asking,
        Self::NonInterference,
        Self::NeverThere,
        Self::Order,
        Self::Repeats,
        Self::Unknown,
        Self::Restart,
        Self::Kill,
        Self::DeletionOfAll,
        Self::DiskContent,
        Self::DiskNames,
        Self::DiskState,
    ];

    /// The name, as in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Determinism => "determinism",
            Self::Asking => "asking",
            Self::NonInterference => "non-interference",
            Self::NeverThere => "never-there",
            Self::Order => "order",
            Self::Repeats => "repeats",
            Self::Unknown => "unknown",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::DeletionOfAll => "deletion-of-all",
            Self::DiskContent => "disk-content",
            Self::DiskNames => "disk-names",
            Self::DiskState => "disk-state",
        }
    }

    /// The law in a sentence.
    pub fn statement(self) -> &'static str {
        match self {
            Self::Power => "before a deletion, another content of the records to forget changes answers",
            Self::Determinism => "two trainings with one seed on the same records end alike",
            Self::Asking => "answering changes nothing",
            Self::NonInterference => "after a deletion nothing depends on the content of the forgotten records",
            Self::NeverThere => "after a deletion the system is as if the records had never been there",
            Self::Order => "the order and the grouping of deletions change nothing",
            Self::Repeats => "forgetting a record again changes nothing",
            Self::Unknown => "forgetting a record that never was there changes nothing",
            Self::Restart => "stopping and launching again changes nothing",
            Self::Kill => "an answered deletion stands when the process is killed",
            Self::DeletionOfAll => "after the deletion of all records nothing depends on any",
            Self::DiskContent => "no file holds the content of a forgotten record",
            Self::DiskNames => "no file holds the id or the subject of a forgotten record",
            Self::DiskState => "no file from before the deletion that depends on the records is left",
        }
    }

    /// The pairs of lives that must end alike ([`Law::Power`]: must not), or the reason why the law cannot be tested.
    ///
    /// # Errors
    ///
    /// The reason, as a text for the report.
    pub fn pairs(self, case: &Case, description: &Description) -> Result<Vec<Pair>, String> {
        let lives = Lives { case, settles: description.supports.contains(&Capability::Settle) };
        let exact = description.guarantee == Guarantee::Bits;
        if matches!(self, Self::Restart | Self::Kill) && !description.supports.contains(&Capability::Restart) {
            return Err("the system does not support `restart`".into());
        }
        match self {
            Self::Determinism | Self::DiskState if !exact => Err("the system does not promise equal bits".into()),
            Self::DiskNames if description.keeps.contains(&Kept::Names) => {
                Err("the system states that it keeps the names of forgotten records".into())
            }
            Self::Determinism => Ok(vec![Pair::new("once", lives.trained(), "again", lives.trained())]),
            Self::Power => Ok(lives.power()),
            Self::Asking => {
                Ok(vec![Pair::new("asked before", lives.then(&[Step::Ask]), "not asked before", lives.trained())])
            }
            Self::NonInterference => Ok(lives.non_interference()),
            Self::NeverThere => Ok(lives.never_there()),
            Self::Order => Ok(lives.order()),
            Self::Repeats => Ok(lives.repeats()),
            Self::Unknown => Ok(lives.unknown()),
            Self::Restart => Ok(lives.restart()),
            Self::Kill => Ok(lives.kill()),
            Self::DeletionOfAll => Ok(lives.deletion_of_all()),
            Self::DiskContent | Self::DiskNames | Self::DiskState => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Law {
    type Err = LawsError;

    fn from_str(name: &str) -> Result<Self, LawsError> {
        Self::ALL.into_iter().find(|law| law.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            LawsError::InvalidSetting {
                setting: "--only",
                problem: format!("knows no law `{name}`; there are {names}"),
            }
        })
    }
}

/// Two lives that must end alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The first life in words.
    pub left_name: String,
    /// The first life.
    pub left: Script,
    /// The second life in words.
    pub right_name: String,
    /// The second life.
    pub right: Script,
}

impl Pair {
    fn new(left_name: &str, left: Script, right_name: &str, right: Script) -> Self {
        Self { left_name: left_name.into(), left, right_name: right_name.into(), right }
    }
}

/// Builds the lives of a case.
struct Lives<'a> {
    case: &'a Case,
    settles: bool,
}

impl Lives<'_> {
    fn life(records: Vec<Record>, steps: &[Step]) -> Script {
        Script(std::iter::once(Step::Train(records)).chain(steps.iter().cloned()).collect())
    }

    fn trained(&self) -> Script {
        self.then(&[])
    }

    fn then(&self, steps: &[Step]) -> Script {
        Self::life(self.case.records.clone(), steps)
    }

    fn forget(&self, rows: &[usize]) -> Step {
        Step::Forget(self.case.ids(rows))
    }

    /// The rows of one record, and of all records that are forgotten.
    fn groups(&self) -> [(&'static str, &[usize]); 2] {
        [("one record", &self.case.forgotten[..1]), ("several records", &self.case.forgotten)]
    }

    fn power(&self) -> Vec<Pair> {
        let rows = &self.case.forgotten;
        let other = Self::life(self.case.replaced(rows), &[]);
        vec![Pair::new("trained", self.trained(), "trained on other contents of them", other)]
    }

    fn non_interference(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (group, rows) in self.groups() {
            let other = self.case.replaced(rows);
            let mut add = |steps: &[Step], when: &str| {
                pairs.push(Pair::new(
                    &format!("{group} forgotten{when}"),
                    self.then(steps),
                    &format!("{group} of other content forgotten{when}"),
                    Self::life(other.clone(), steps),
                ));
            };
            add(&[self.forget(rows)], "");
            if self.settles {
                add(&[self.forget(rows), Step::Settle], ", then settled");
            }
        }
        pairs
    }

    fn never_there(&self) -> Vec<Pair> {
        let pair = |(group, rows): (&str, &[usize])| {
            let never = Self::life(self.case.without(rows), &[Step::Settle]);
            let gone = self.then(&[self.forget(rows), Step::Settle]);
            Pair::new(&format!("{group} forgotten"), gone, "never there", never)
        };
        self.groups().map(pair).into()
    }

    fn order(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let mut add = |settle: bool| {
            let each = |row: &usize| {
                let settle = settle.then_some(Step::Settle);
                std::iter::once(self.forget(&[*row])).chain(settle).collect::<Vec<_>>()
            };
            let forwards: Vec<Step> = self.case.forgotten.iter().flat_map(each).collect();
            let backwards: Vec<Step> = self.case.forgotten.iter().rev().flat_map(each).collect();
            let mut together = vec![self.forget(&self.case.forgotten)];
            together.extend(settle.then_some(Step::Settle));
            let how = if settle { ", each settled" } else { "" };
            let first = format!("forgotten one by one{how}");
            pairs.push(Pair::new(&first, self.then(&forwards), "the other way round", self.then(&backwards)));
            pairs.push(Pair::new(&first, self.then(&forwards), "together", self.then(&together)));
        };
        add(false);
        if self.settles {
            add(true);
        }
        pairs
    }

    fn repeats(&self) -> Vec<Pair> {
        let once = self.forget(&self.case.forgotten[..1]);
        let twice = self.then(&[once.clone(), once.clone()]);
        vec![Pair::new("forgotten twice", twice, "forgotten once", self.then(&[once]))]
    }

    fn unknown(&self) -> Vec<Pair> {
        let stranger = Step::Forget(vec![format!("never-{}", self.case.records[0].id)]);
        vec![Pair::new("a stranger forgotten", self.then(&[stranger]), "nobody forgotten", self.trained())]
    }

    fn restart(&self) -> Vec<Pair> {
        let forget = self.forget(&self.case.forgotten[..1]);
        let around = self.then(&[Step::Restart, forget.clone(), Step::Restart]);
        vec![
            Pair::new("trained, restarted", self.then(&[Step::Restart]), "trained", self.trained()),
            Pair::new("restarted, forgotten, restarted", around, "forgotten", self.then(&[forget])),
        ]
    }

    fn kill(&self) -> Vec<Pair> {
        let forget = self.forget(&self.case.forgotten[..1]);
        let killed = self.then(&[forget.clone(), Step::Kill]);
        vec![Pair::new("forgotten, killed, launched again", killed, "forgotten", self.then(&[forget]))]
    }

    fn deletion_of_all(&self) -> Vec<Pair> {
        let rows: Vec<usize> = (0..self.case.records.len()).collect();
        let steps = [self.forget(&rows)];
        let other = Self::life(self.case.replaced(&rows), &steps);
        vec![Pair::new("all forgotten", self.then(&steps), "all of other contents forgotten", other)]
    }
}
