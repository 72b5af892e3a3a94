//! Running the laws.

use crate::disk::Needles;
use crate::report::{Comparison, first_difference};
use crate::script::Runner;
use crate::{
    Answers, Case, Description, Guarantee, Home, Launcher, Law, LawReport, LawsError, Observation, Pair, Record,
    Report, Script, Settings, Step, TwoSample, Verdict, energy_test,
};

/// Checks the laws on the systems of a launcher.
///
/// # Errors
///
/// [`LawsError`] if a setting cannot be used, or if the system cannot even be launched, trained and asked. Later failures of
/// the system are verdicts in the report.
pub fn check(launcher: &dyn Launcher, settings: &Settings) -> Result<Report, LawsError> {
    check_with(launcher, settings, &mut |_, _| {})
}

/// Checks the laws, and tells each law and round before it starts.
///
/// # Errors
///
/// As [`check`].
pub fn check_with(
    launcher: &dyn Launcher,
    settings: &Settings,
    progress: &mut dyn FnMut(Law, u32),
) -> Result<Report, LawsError> {
    settings.checked()?;
    let description = describe(launcher, settings)?;
    let rounds = if description.guarantee == Guarantee::Bits { settings.rounds } else { 1 };
    let mut laws: Vec<LawReport> = settings.laws().into_iter().map(LawReport::new).collect();
    for round in 0..rounds {
        let case = settings.case(description.guarantee, round)?;
        let forgotten: Vec<Record> = case.forgotten.iter().map(|&row| case.records[row].clone()).collect();
        let needles = Needles::new(&forgotten, &case.without(&case.forgotten));
        let [no_content, no_name] = [needles.without_content(), needles.without_name()];
        let runner = Runner::new(launcher, &case.questions, needles);
        let seed = settings.seed.wrapping_add(u64::from(round));
        let checker =
            Checker { settings, description: &description, case: &case, runner: &runner, seed, no_content, no_name };
        if description.guarantee == Guarantee::Distribution {
            checker.check_runs()?;
        }
        // A system that cannot be trained and asked has no laws to keep.
        runner.observe(&Script(vec![Step::Train(case.records.clone())]), checker.first_seed())?;
        for law in laws.iter_mut().filter(|law| !law.verdict.is_final()) {
            progress(law.law, round);
            law.rounds += 1;
            checker.check(law);
            if let Verdict::Broken { seed: found, .. } | Verdict::Failed { seed: found, .. } = &mut law.verdict {
                *found = seed;
            }
        }
    }
    let records = settings.case(description.guarantee, 0)?.records.len();
    Ok(Report::new(description, settings, rounds, records, laws))
}

/// The description of the system, under the promise that it is held to.
fn describe(launcher: &dyn Launcher, settings: &Settings) -> Result<Description, LawsError> {
    let folder =
        tempfile::tempdir().map_err(|error| LawsError::File { action: "make", path: std::env::temp_dir(), error })?;
    let system = launcher.launch(&Home { folder: folder.path().to_owned(), seed: settings.seed, resume: false })?;
    let mut description = system.description().clone();
    system.stop()?;
    description.guarantee = settings.guarantee.unwrap_or(description.guarantee);
    Ok(description)
}

const NO_FILES: &str = "the system leaves no file in its folder";

struct Checker<'a> {
    settings: &'a Settings,
    description: &'a Description,
    case: &'a Case,
    runner: &'a Runner<'a>,
    seed: u64,
    /// A forgotten record with nothing in it that could be looked for.
    no_content: Option<String>,
    /// A forgotten record whose names are too short to look for.
    no_name: Option<String>,
}

/// The most permutations of a test of two samples.
const MOST_PERMUTATIONS: u32 = 200_000;

impl Checker<'_> {
    fn check(&self, report: &mut LawReport) {
        let pairs = match report.law.pairs(self.case, self.description) {
            Ok(pairs) => pairs,
            Err(reason) => {
                report.verdict = Verdict::NotTested { reason };
                return;
            }
        };
        let checked = match report.law {
            Law::DiskContent | Law::DiskNames => self.traces(report),
            Law::DiskState => self.stale_files(report),
            _ => pairs.iter().try_for_each(|pair| self.compare(pair, report)),
        };
        if let Err(error) = checked {
            report.verdict = Verdict::Failed { error: error.to_string(), seed: self.seed };
        }
    }

    fn compare(&self, pair: &Pair, report: &mut LawReport) -> Result<(), LawsError> {
        if report.verdict.is_final() {
            return Ok(());
        }
        report.comparisons += 1;
        let (difference, test) = match self.description.guarantee {
            Guarantee::Bits => (self.difference(pair, report.law)?, None),
            Guarantee::Distribution => self.tested(pair)?,
        };
        let alike = difference.is_none();
        if report.law == Law::Power {
            // One round in which answers change shows that the laws can see something.
            if !alike {
                report.verdict = Verdict::Held;
            } else if report.verdict != Verdict::Held {
                let counterexample = "the answers do not change: the laws would see no leak".into();
                report.verdict = Verdict::Powerless { counterexample };
            }
        } else if let Some(difference) = difference {
            let counterexample = format!("{} <> {}: {difference}", pair.left_name, pair.right_name);
            report.verdict = Verdict::Broken { counterexample, seed: self.seed };
        } else {
            report.verdict = Verdict::Held;
        }
        if let Some(test) = test {
            let (left, right) = (pair.left_name.clone(), pair.right_name.clone());
            report.tests.push(Comparison { left, right, test });
        }
        Ok(())
    }

    /// The difference of two lives with one seed.
    fn difference(&self, pair: &Pair, law: Law) -> Result<Option<String>, LawsError> {
        let left = self.runner.observe(&pair.left, self.seed)?;
        if law == Law::Determinism {
            return Ok(first_difference(&left, &self.runner.observe_anew(&pair.right, self.seed)?));
        }
        let right = self.runner.observe(&pair.right, self.seed)?;
        Ok(if law == Law::Power && left.answers == right.answers { None } else { first_difference(&left, &right) })
    }

    /// The difference of two samples of lives, each with a seed of its own.
    fn tested(&self, pair: &Pair) -> Result<(Option<String>, Option<TwoSample>), LawsError> {
        let (left, right) = (self.sample(&pair.left)?, self.sample(&pair.right)?);
        let rate = self.comparison_rate();
        let permutations = ((20.0 / rate).ceil() as u32).clamp(999, MOST_PERMUTATIONS);
        let test = energy_test(&left, &right, permutations, self.seed);
        let words = || {
            format!(
                "answers of {} and {} runs differ, energy distance {:.3}, p = {:.2e}, below {rate:.2e}",
                left.len(),
                right.len(),
                test.distance,
                test.p_value
            )
        };
        Ok(((test.p_value <= rate).then(words), Some(test)))
    }

    /// Refuses so few runs that no test could reject: the smallest p-value is that of two samples that are fully apart.
    fn check_runs(&self) -> Result<(), LawsError> {
        let rate = self.comparison_rate();
        let smallest = 1.0 / f64::from(MOST_PERMUTATIONS + 1);
        if smallest > rate {
            let problem =
                format!("leaves {rate:.1e} for a comparison, and no p-value is below {smallest:.1e}; use a larger one");
            return Err(LawsError::InvalidSetting { setting: "--error-rate", problem });
        }
        let ways = |runs: usize| (1..=runs).fold(1.0, |ways, of| ways * (runs + of) as f64 / of as f64);
        let can_reject = |runs: usize| 2.0 / ways(runs) <= rate;
        if can_reject(self.settings.runs) {
            return Ok(());
        }
        // The ways grow like 4^runs, and the rate is at least 1 in the permutations.
        let needed = (self.settings.runs..=64).find(|runs| can_reject(*runs)).unwrap_or(64);
        let problem = format!(
            "is {}, and no test of so few runs has a p-value below {rate:.1e}, its share of the error rate; use at least {needed}",
            self.settings.runs
        );
        Err(LawsError::InvalidSetting { setting: "--runs", problem })
    }

    /// The error rate of one comparison: Bonferroni's share of the whole.
    fn comparison_rate(&self) -> f64 {
        let pairs = self.settings.laws().into_iter().filter_map(|law| law.pairs(self.case, self.description).ok());
        self.settings.error_rate / pairs.map(|pairs| pairs.len()).sum::<usize>().max(1) as f64
    }

    fn sample(&self, script: &Script) -> Result<Vec<Vec<f64>>, LawsError> {
        let observed = (0..self.settings.runs).map(|run| self.runner.observe(script, self.run_seed(script, run)));
        observed.map(|observation| observation.map(|observation| point(&observation))).collect()
    }

    /// Another seed for each run of each script; below 2^53, so that every language can read it.
    fn run_seed(&self, script: &Script, run: usize) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&(run as u64).to_le_bytes());
        hasher.update(format!("{script:?}").as_bytes());
        let first: [u8; 8] = std::array::from_fn(|index| hasher.finalize().as_bytes()[index]);
        u64::from_le_bytes(first) >> 11
    }

    /// A seed with which the script that only trains is needed anyway.
    fn first_seed(&self) -> u64 {
        match self.description.guarantee {
            Guarantee::Bits => self.seed,
            Guarantee::Distribution => self.run_seed(&Script(vec![Step::Train(self.case.records.clone())]), 0),
        }
    }

    fn after_deletion(&self) -> Script {
        let forget = Step::Forget(self.case.ids(&self.case.forgotten));
        Script(vec![Step::Train(self.case.records.clone()), forget])
    }

    fn traces(&self, report: &mut LawReport) -> Result<(), LawsError> {
        let observation = self.runner.observe(&self.after_deletion(), self.seed)?;
        if observation.files.is_empty() {
            report.verdict = Verdict::NotTested { reason: NO_FILES.into() };
            return Ok(());
        }
        report.comparisons += 1;
        let mut traces = observation.traces.iter().filter(|trace| trace.name == (report.law == Law::DiskNames));
        let unseen = if report.law == Law::DiskNames { &self.no_name } else { &self.no_content };
        report.verdict = match (traces.next(), unseen) {
            (None, Some(record)) => Verdict::NotTested {
                reason: format!(
                    "record `{record}` has nothing that is long enough to be told from other bytes by chance"
                ),
            },
            (None, None) => Verdict::Held,
            (Some(trace), _) => {
                let more = traces.count();
                let counterexample =
                    format!("`{}` of record `{}` is in {} ({more} more traces)", trace.found, trace.record, trace.file);
                Verdict::Broken { counterexample, seed: self.seed }
            }
        };
        Ok(())
    }

    fn stale_files(&self, report: &mut LawReport) -> Result<(), LawsError> {
        let trained = Script(vec![Step::Train(self.case.records.clone())]);
        let replaced = Script(vec![Step::Train(self.case.replaced(&self.case.forgotten))]);
        let before = self.runner.observe(&trained, self.seed)?;
        let again = self.runner.observe_anew(&trained, self.seed)?;
        let other = self.runner.observe(&replaced, self.seed)?;
        let after = self.runner.observe(&self.after_deletion(), self.seed)?;
        let holds =
            |observation: &Observation, digest: &str| observation.files.iter().any(|file| file.digest == digest);
        let depends = |digest: &str| holds(&before, digest) && holds(&again, digest) && !holds(&other, digest);
        if !before.files.iter().any(|file| depends(&file.digest)) {
            let reason = if before.files.is_empty() {
                NO_FILES
            } else {
                "no file depends on the forgotten records in a way that equal runs repeat"
            };
            report.verdict = Verdict::NotTested { reason: reason.into() };
            return Ok(());
        }
        report.comparisons += 1;
        report.verdict = match after.files.iter().find(|file| depends(&file.digest)) {
            None => Verdict::Held,
            Some(file) => {
                let counterexample =
                    format!("{} is as it was before the deletion, and depends on the forgotten records", file.path);
                Verdict::Broken { counterexample, seed: self.seed }
            }
        };
        Ok(())
    }
}

/// The answers of a run as one point; the first coordinate says that there are any.
fn point(observation: &Observation) -> Vec<f64> {
    match &observation.answers {
        Answers::Unavailable => vec![0.0],
        Answers::Given(answers) => std::iter::once(1.0).chain(answers.iter().flatten().copied()).collect(),
    }
}
