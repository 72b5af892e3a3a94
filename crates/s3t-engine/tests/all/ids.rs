//! The law of ids: a deletion takes exactly the records of the ids that it names, and ids that a person cannot tell apart are never in
//! one store.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::world::{Case, World, honest};
use proptest::prelude::*;
use s3t_core::{Payload, Record, RecordId, SubjectId, Target};
use s3t_data::{CsvSource, JsonlSource, Source, read_id_list};
use s3t_engine::{AuditRequest, EngineError, Pipeline, Quiet, System, VerifyScope};
use s3t_store::{DeletionRequest, StoreError};
use s3t_testkit::{FEATURES, copy_folder, tiny_pipeline, write_tiny_model};

/// Names of people and records with a number in them, and ways to write each that look the same. The first way is the name itself.
const NAMES: [&[&str]; 5] = [
    &["user-#", "user-# ", " user-#", "user-#\u{200b}", "\u{feff}user-#", "user-#\u{a0}", "user\u{ad}-#"],
    &["Jos\u{e9} #", "Jose\u{301} #", "Jose\u{301} # ", "Jos\u{e9}\u{fe0f} #"],
    &["Ann Lee-#", "Ann  Lee-#", "Ann\u{a0}Lee-#", "\u{3000}Ann Lee-#"],
    &["#", "\u{2060}#", "#\u{3164}"],
    &["page-# ", "page-#", "page-#\u{202f}"],
];

/// A name with a number, in one of its spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    name: usize,
    number: usize,
    spelling: usize,
}

impl Id {
    fn text(self) -> String {
        let spellings = NAMES[self.name];
        spellings[self.spelling % spellings.len()].replace('#', &self.number.to_string())
    }

    fn spelt(self, by: usize) -> Self {
        Self { spelling: self.spelling + by, ..self }
    }

    /// True if both name one thing, in whatever spelling.
    fn is(self, other: Self) -> bool {
        (self.name, self.number) == (other.name, other.number)
    }
}

/// Mostly the first spelling, so that many sets have no two spellings of one name.
fn id() -> impl Strategy<Value = Id> {
    (0..NAMES.len(), 0..3_usize, prop_oneof![12 => Just(0_usize), 1 => 1..7_usize])
        .prop_map(|(name, number, spelling)| Id { name, number, spelling })
}

fn is_confusable(ids: &[Id]) -> bool {
    ids.iter().any(|one| ids.iter().any(|other| one.is(*other) && one.text() != other.text()))
}

#[derive(Debug, Clone)]
struct Row {
    id: Id,
    subject: Option<Id>,
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Trial {
    rows: Vec<Row>,
    table: bool,
    mark: bool,
    windows: bool,
    encrypt: bool,
    blank_lines: bool,
    /// The deletion: the place of a row, whether its subject is meant, and by how many spellings it is written otherwise.
    named: Vec<(prop::sample::Index, bool, usize)>,
}

fn trial() -> impl Strategy<Value = Trial> {
    let row = (id(), prop::option::of(id())).prop_map(|(id, subject)| Row { id, subject });
    let other = prop_oneof![6 => Just(0_usize), 1 => 1..7_usize];
    let named = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), other), 1..4);
    let flags = any::<(bool, bool, bool, bool, bool)>();
    (prop::collection::vec(row, 1..9), named, flags).prop_map(
        |(mut rows, named, (table, mark, windows, encrypt, blank_lines))| {
            // An id that occurs twice is refused for that; here one of both stays.
            let mut seen = BTreeSet::new();
            rows.retain(|row| seen.insert(row.id.text()));
            Trial { rows, table, mark, windows, encrypt, blank_lines, named }
        },
    )
}

fn json_line(row: &Row) -> String {
    let x = vec![1.0; FEATURES];
    let subject = row.subject.map(Id::text);
    serde_json::json!({ "id": row.id.text(), "subject": subject, "label": "class-0", "x": x }).to_string()
}

fn csv_line(row: &Row) -> String {
    let x = vec!["1"; FEATURES].join(",");
    format!("{},{},class-0,{x}", row.id.text(), row.subject.map_or_else(String::new, Id::text))
}

/// Writes the rows as a user's file, and gives how it is read.
fn write_data(trial: &Trial, folder: &Path) -> Source {
    let names: Vec<String> = (0..FEATURES).map(|feature| format!("x{feature}")).collect();
    let mut lines: Vec<String> = Vec::new();
    if trial.table {
        lines.push(format!("id,subject,label,{}", names.join(",")));
    }
    lines.extend(trial.rows.iter().map(if trial.table { csv_line } else { json_line }));
    write_lines(&folder.join("data"), &lines, trial.mark, trial.windows);
    let (id, subject, label) = (Some("id".to_owned()), Some("subject".to_owned()), "label".to_owned());
    let (file, text, template) = ("data".into(), None, None);
    if trial.table {
        Source::Csv(CsvSource { file, label, id, subject, text, text_pair: None, template, features: Some(names) })
    } else {
        Source::Jsonl(JsonlSource {
            file,
            label,
            id,
            subject,
            text,
            text_pair: None,
            template,
            features: Some("x".into()),
            messages: None,
            packing: false,
        })
    }
}

fn write_lines(path: &Path, lines: &[String], mark: bool, windows: bool) {
    let end = if windows { "\r\n" } else { "\n" };
    let mark = if mark { "\u{feff}" } else { "" };
    fs::write(path, format!("{mark}{}{end}", lines.join(end))).unwrap();
}

fn records(trial: &Trial) -> Vec<Record> {
    let record = |(ordinal, row): (usize, &Row)| Record {
        id: RecordId::new(row.id.text()).unwrap(),
        subject: row.subject.map(|subject| SubjectId::new(subject.text()).unwrap()),
        target: Target::Class(0),
        ordinal: ordinal as u64,
        payload: Payload::Features(vec![1.0; FEATURES]),
    };
    trial.rows.iter().enumerate().map(record).collect()
}

fn pipeline(folder: &Path, encrypt: bool) -> Pipeline {
    let mut pipeline = tiny_pipeline(&folder.join("model"), &folder.join("store"));
    (pipeline.shape, pipeline.budget) = (s3t_core::PartitionShape { shards: 2, slices: 2 }, 2);
    pipeline.encrypt = encrypt;
    pipeline
}

fn ids_in(system: &System) -> BTreeSet<String> {
    let store = system.store();
    let of_slice = |address| store.records(address).unwrap().into_iter().map(|(_, record)| record.id.to_string());
    store.settings().shape.addresses().flat_map(of_slice).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_deletion_takes_exactly_the_records_of_the_named_ids(trial in trial()) {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(&folder.path().join("model"), 2).unwrap();
        let source = write_data(&trial, folder.path());
        let make = || pipeline(folder.path(), trial.encrypt);
        let records = records(&trial);

        // A set with two spellings is refused, by the reader and by the library, and nothing is written.
        let ids: Vec<Id> = trial.rows.iter().map(|row| row.id).collect();
        let subjects: Vec<Id> = trial.rows.iter().filter_map(|row| row.subject).collect();
        let confusable = is_confusable(&ids) || is_confusable(&subjects);
        let read = source.read(folder.path(), &make().targets());
        let made = System::create(make(), &records, None);
        if confusable {
            let message = read.unwrap_err().to_string();
            prop_assert!(message.contains("cannot be told apart from") && message.matches("line").count() >= 2, "{}", message);
            let message = made.map(drop).unwrap_err().to_string();
            prop_assert!(message.contains("cannot be told apart from"), "{}", message);
            let left: BTreeSet<String> =
                fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            prop_assert_eq!(left, BTreeSet::from(["data".to_owned(), "model".to_owned()]));
            return Ok(());
        }
        prop_assert_eq!(&read.unwrap(), &records);
        let system = made.unwrap();

        // What the lists name, as text.
        let (mut named_records, mut named_subjects, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for (at, of_subject, by) in &trial.named {
            let row = &trial.rows[at.index(trial.rows.len())];
            if let Some(subject) = row.subject.filter(|_| *of_subject) {
                named_subjects.push(subject.spelt(*by).text());
                asked.push(subject);
            } else {
                named_records.push(row.id.spelt(*by).text());
            }
        }
        let list = |names: &[String], file: &str| {
            let mut lines = names.to_vec();
            if trial.blank_lines {
                lines.insert(0, String::new());
                lines.push(String::new());
            }
            // A byte order mark at the start of a file is the file's: a first name that begins with the character needs one before it.
            let mark = trial.mark || lines.first().is_some_and(|name| name.starts_with('\u{feff}'));
            write_lines(&folder.path().join(file), &lines, mark, trial.windows);
            folder.path().join(file)
        };
        let request = DeletionRequest {
            id: None,
            records: read_id_list(&list(&named_records, "records.txt"), RecordId::new).unwrap(),
            subjects: read_id_list(&list(&named_subjects, "subjects.txt"), SubjectId::new).unwrap(),
        };
        prop_assert_eq!(request.records.iter().map(ToString::to_string).collect::<Vec<_>>(), named_records.clone());

        // The model: names are compared byte for byte.
        let all: BTreeSet<String> = records.iter().map(|record| record.id.to_string()).collect();
        let is_there = |name: &String, of: fn(&Record) -> Option<String>| records.iter().any(|record| of(record).as_ref() == Some(name));
        let of_record = |record: &Record| Some(record.id.to_string());
        let of_subject = |record: &Record| record.subject.as_ref().map(ToString::to_string);
        let known = named_records.iter().all(|name| is_there(name, of_record))
            && named_subjects.iter().all(|name| is_there(name, of_subject));
        let deleted = system.fulfil(&request);
        if !known {
            // Every unknown name here is another spelling of one that is there.
            let error = deleted.unwrap_err();
            prop_assert!(matches!(error, EngineError::Store(StoreError::OtherSpelling { .. })), "{}", error);
            prop_assert_eq!(system.snapshot().unwrap().epoch().0, 0);
            prop_assert_eq!(ids_in(&system), all);
            return Ok(());
        }
        let left: BTreeSet<String> = records
            .iter()
            .filter(|record| !named_records.contains(&record.id.to_string()))
            .filter(|record| !of_subject(record).is_some_and(|subject| named_subjects.contains(&subject)))
            .map(|record| record.id.to_string())
            .collect();
        let deletion = deleted.unwrap();
        prop_assert_eq!(deletion.records.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), &all - &left);
        prop_assert!(deletion.other_spellings.is_empty());
        prop_assert_eq!(ids_in(&system), left.clone());
        // The audit says so, for these spellings and for all others.
        for by in 0..7 {
            let absent_subjects = asked.iter().map(|id| SubjectId::new(id.spelt(by).text()).unwrap()).collect();
            let request = AuditRequest { absent_subjects, scope: VerifyScope::Lineages, ..AuditRequest::default() };
            prop_assert!(system.audit(&request, &Quiet).unwrap().passed());
        }
    }
}

/// The fixture is a store from before ids that look the same were refused: no program makes one any more.
fn old_records() -> Vec<Record> {
    let record = |(number, (id, subject)): (usize, &(&str, &str))| Record {
        id: RecordId::new(*id).unwrap(),
        subject: Some(SubjectId::new(*subject).unwrap()),
        target: Target::Class(0),
        ordinal: number as u64,
        payload: Payload::Features(vec![number as f32; FEATURES]),
    };
    let ids = [
        ("r0", "user-17"),
        ("r1", "user-17 "),
        ("r2", "user-17\u{200b}"),
        ("r3", "Jos\u{e9}"),
        ("r4", "Jose\u{301}"),
        ("r5", "ann"),
        ("r5\u{a0}", "bob"),
        ("r6", "cleo"),
    ];
    ids.iter().enumerate().map(record).collect()
}

fn old_case() -> Case {
    Case { shards: 1, slices: 2, budget: 2, ..Case::cyclic() }
}

fn old_world() -> World {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spellings");
    // `WRITE_FIXTURE=1` wrote it, with a program of that time.
    if std::env::var_os("WRITE_FIXTURE").is_some() && !fixture.exists() {
        let world = World::new(&old_case(), &old_records(), &honest);
        fs::create_dir_all(&fixture).unwrap();
        for part in ["store", "store.keys"] {
            copy_folder(&world.folder().join(part), &fixture.join(part)).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 2).unwrap();
    for part in ["store", "store.keys"] {
        copy_folder(&fixture.join(part), &folder.path().join(part)).unwrap();
    }
    // Version control keeps no empty folder.
    fs::create_dir_all(folder.path().join("store/stages")).unwrap();
    World::open(folder, &old_case())
}

fn problems(system: &System, absent: &str) -> Vec<String> {
    let absent_subjects = vec![SubjectId::new(absent).unwrap()];
    let request = AuditRequest { absent_subjects, scope: VerifyScope::Lineages, ..AuditRequest::default() };
    system.audit(&request, &Quiet).unwrap().checks.into_iter().flat_map(|check| check.problems).collect()
}

#[test]
fn a_deletion_from_an_older_store_says_which_other_spellings_are_left() {
    let world = old_world();
    let system = &world.system;
    assert!(!system.store().ids_are_distinct().unwrap());
    let found = problems(system, "dora");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("record ids `r5`, `r5\\u{a0}` differ only in blanks"), "{found:?}");
    assert!(found[1].contains("subject ids `Jose\\u{301}`, `Jos\\u{e9}` differ"), "{found:?}");
    assert!(found[2].contains("subject ids `user-17`, `user-17\\u{20}`, `user-17\\u{200b}` differ"), "{found:?}");

    let delete = |subject: &str| system.delete(&[], &[SubjectId::new(subject).unwrap()]).unwrap();
    let deletion = delete("user-17");
    assert_eq!(deletion.records.iter().map(RecordId::as_str).collect::<Vec<_>>(), ["r0"]);
    let left = &deletion.other_spellings;
    assert_eq!((left.len(), left[0].kind, &*left[0].named), (1, "subject", "user-17"));
    assert_eq!(left[0].left, ["user-17 ", "user-17\u{200b}"]);
    // The audit does not pass for the one that is gone either.
    let found = problems(system, "user-17");
    assert!(
        found.iter().any(|problem| problem.contains("record `r1` is in")
            && problem.contains("its subject `user-17\\u{20}` differs from `user-17`, which must be gone")),
        "{found:?}"
    );

    assert_eq!(delete("user-17 ").other_spellings[0].left, ["user-17\u{200b}"]);
    assert!(delete("user-17\u{200b}").other_spellings.is_empty());
    assert_eq!(delete("Jose\u{301}").other_spellings[0].left, ["Jos\u{e9}"]);
    let deletion = system.delete(&[RecordId::new("r5").unwrap()], &[]).unwrap();
    assert_eq!((deletion.other_spellings[0].kind, &*deletion.other_spellings[0].left[0]), ("record", "r5\u{a0}"));
    // No two are left that look the same: it need not be looked through again.
    assert!(system.store().ids_are_distinct().unwrap());
    assert!(delete("Jos\u{e9}").other_spellings.is_empty());
    assert_eq!(problems(system, "Jose\u{301}"), [""; 0]);
}

#[test]
fn an_audit_finds_another_spelling_by_a_receipt() {
    let world = old_world();
    let receipt = world.system.delete(&[], &[SubjectId::new("user-17").unwrap()]).unwrap().receipt;
    assert!(receipt.opening.is_some());
    let request = AuditRequest { receipts: vec![receipt], scope: VerifyScope::Lineages, ..AuditRequest::default() };
    let report = world.system.audit(&request, &Quiet).unwrap();
    let found: Vec<String> = report.checks.into_iter().flat_map(|check| check.problems).collect();
    assert!(
        found.iter().any(|problem| problem.contains("its subject `user-17\\u{20}` differs from `user-17`")),
        "{found:?}"
    );
}

#[test]
fn a_store_of_today_is_distinct_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 2).unwrap();
    let pipeline = || pipeline(folder.path(), true);
    let error = System::create(pipeline(), &old_records(), None).map(drop).unwrap_err().to_string();
    assert!(error.contains("subject id `user-17\\u{20}` cannot be told apart from `user-17`"), "{error}");
    assert!(!folder.path().join("store").exists() && !folder.path().join("store.keys").exists());
    let system = System::create(pipeline(), &old_records()[..1], None).unwrap();
    assert!(system.store().ids_are_distinct().unwrap());
}
