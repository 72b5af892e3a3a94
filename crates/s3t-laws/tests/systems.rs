//! The laws on systems in Python: honest ones pass, and each leak is caught by a law of its own. Needs `python3`.

use std::process::{Command, Output};
use std::time::Duration;

use s3t_laws::{Law, Program, Report, Settings, Verdict, check};

fn program(system: &str) -> Program {
    let path = format!("{}/tests/systems/{system}.py", env!("CARGO_MANIFEST_DIR"));
    // `-B`: no byte code is written beside the sources.
    Program::new(["python3", "-B", &path], Duration::from_secs(120)).unwrap()
}

fn report(system: &str, settings: &Settings) -> Report {
    check(&program(system), settings).unwrap_or_else(|error| panic!("{system}: {error}"))
}

fn only(laws: &[Law]) -> Settings {
    Settings { rounds: 1, records: 36, only: laws.to_vec(), ..Settings::default() }
}

/// The leak is caught by the law, and keeps the other laws.
fn caught(system: &str, law: Law, kept: &[Law]) {
    let report = report(system, &only(&[&[Law::Power, Law::Determinism, law], kept].concat()));
    assert_eq!(report.broken(), [law], "{report}");
    assert!(!report.passed());
    for kept in kept {
        assert_eq!(report.verdict(*kept), Some(&Verdict::Held), "{report}");
    }
}

#[test]
fn sisa_keeps_every_law() {
    let report = report("sisa", &Settings { rounds: 1, ..Settings::default() });
    assert!(report.passed(), "{report}");
    assert!(report.laws.iter().all(|law| law.verdict == Verdict::Held), "every law can be tested:\n{report}");
}

#[test]
fn means_over_all_data_that_stay_are_caught() {
    caught("leaky_normalisation", Law::NonInterference, &[Law::Order, Law::Kill]);
}

#[test]
fn training_on_from_a_checkpoint_that_saw_the_record_is_caught() {
    caught("leaky_checkpoint", Law::NonInterference, &[Law::Kill]);
}

#[test]
fn files_from_before_the_deletion_are_caught() {
    let settings = only(&[Law::NonInterference, Law::NeverThere, Law::DiskContent, Law::DiskNames, Law::DiskState]);
    let report = report("leaky_backup", &settings);
    assert_eq!(report.broken(), [Law::DiskContent, Law::DiskNames, Law::DiskState], "{report}");
}

#[test]
fn a_deletion_that_a_crash_takes_back_is_caught() {
    caught("leaky_late_write", Law::Kill, &[Law::NonInterference, Law::Restart, Law::DiskContent]);
}

#[test]
fn a_counter_of_deletions_is_caught() {
    caught("leaky_counter", Law::Order, &[Law::NonInterference]);
}

#[test]
fn a_seed_from_the_number_of_records_is_caught() {
    caught("leaky_record_count", Law::NeverThere, &[Law::NonInterference, Law::Order]);
}

/// Few comparisons and many forgotten records, so that few runs are enough.
fn statistical(laws: &[Law]) -> Settings {
    Settings { runs: 10, records: 36, forget: Some(9), only: laws.to_vec(), ..Settings::default() }
}

#[test]
fn a_system_that_is_exact_in_distribution_passes_and_gradient_ascent_is_caught() {
    let honest = report("random_sisa", &statistical(&[Law::Power, Law::NonInterference, Law::Kill]));
    assert!(honest.passed(), "{honest}");
    assert_eq!((honest.runs, honest.error_rate), (Some(10), Some(0.01)));
    let leaky = report("leaky_ascent", &statistical(&[Law::Power, Law::NonInterference]));
    assert_eq!(leaky.broken(), [Law::NonInterference], "{leaky}");
}

#[test]
fn a_check_that_could_show_nothing_is_refused_or_does_not_pass() {
    let refused = |settings: Settings| check(&program("random_sisa"), &settings).unwrap_err().to_string();
    // Of 252 ways to share out ten runs, the two that are fully apart have a p-value of 0.0079.
    let few = refused(Settings { runs: 5, ..statistical(&[Law::NonInterference]) });
    assert!(few.contains("--runs") && few.contains("use at least 6"), "{few}");
    let rare = refused(Settings { error_rate: 1e-6, ..statistical(&[Law::NonInterference]) });
    assert!(rare.contains("--error-rate"), "{rare}");
    let powerless = report("sisa", &only(&[Law::Power]));
    assert!(!powerless.passed() && powerless.broken().is_empty(), "nothing was tested: {powerless}");
}

#[test]
fn a_system_without_seeds_is_told_that_it_does_not_keep_bits() {
    assert_eq!(report("unseeded", &only(&[Law::Power, Law::Determinism])).broken(), [Law::Determinism]);
}

/// The block of Python in the guide, in a file of its own.
#[test]
fn the_system_of_the_guide_passes() {
    let guide = format!("{}/../../docs/guide/laws-for-any-system.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(guide).unwrap();
    let source = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(source.lines().count() <= 30, "the guide promises 30 lines");
    let program = Program::new(["python3", "-c", source], Duration::from_secs(120)).unwrap();
    let report = check(&program, &Settings { rounds: 1, ..Settings::default() }).unwrap();
    assert!(report.passed(), "{report}");
    let shown = report.to_string();
    assert!(text.contains(shown.lines().last().unwrap()), "the guide shows another result than {shown}");
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_s3t-laws")).args(arguments).output().unwrap()
}

fn check_by_program(system: &str, more: &[&str]) -> Output {
    let path = format!("{}/tests/systems/{system}.py", env!("CARGO_MANIFEST_DIR"));
    run(&[&["check", "--rounds", "1"], more, &["--", "python3", "-B", &path]].concat())
}

#[test]
fn the_program_reports_for_people_and_for_machines() {
    let passed = check_by_program("sisa", &["--json", "--only", "power,non-interference,disk-content"]);
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    let report: Report = serde_json::from_slice(&passed.stdout).unwrap();
    assert_eq!((report.system.name.as_str(), report.passed, report.laws.len()), ("sisa", true, 3));

    let broken = check_by_program("leaky_normalisation", &["--only", "power,non-interference"]);
    assert_eq!(broken.status.code(), Some(5), "{broken:?}");
    let text = String::from_utf8(broken.stdout).unwrap();
    assert!(text.contains("non-interference  BROKEN"), "{text}");
    assert!(text.contains("one record forgotten <> one record of other content forgotten: "), "{text}");
    assert!(text.contains("again: --seed 1 --rounds 1 --only non-interference"), "{text}");
    assert!(text.ends_with("NOT PASSED: 1 laws held, 1 broken, 0 failed, 0 not tested\n"), "{text}");
}

#[test]
fn records_of_your_own_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: Vec<String>| {
        let path = folder.path().join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path.display().to_string()
    };
    let features =
        |row: usize| format!("[{}]", (0..8).map(|place| format!("0.{row}{place}713")).collect::<Vec<_>>().join(","));
    let record = |row| format!(r#"{{"id":"mine-{row}","features":{},"label":{}}}"#, features(row), row % 3);
    let data = write("data.jsonl", (10..40).map(record).collect());
    let questions =
        write("questions.jsonl", (10..20).map(|row| format!(r#"{{"features":{}}}"#, features(row))).collect());
    let ran = check_by_program("sisa", &["--json", "--data", &data, "--questions", &questions]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let report: Report = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(report.records, 20, "a third of 30 is held back");

    let one_content = (0..30).map(|row| format!(r#"{{"id":"mine-{row}","label":0}}"#)).collect();
    let alike = write("alike.jsonl", one_content);
    let ran = check_by_program("sisa", &["--data", &alike, "--questions", &questions]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(String::from_utf8(ran.stderr).unwrap().contains("no held-back one differs from `mine-0`"));
}
