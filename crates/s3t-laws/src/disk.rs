//! The folder of a system after it has stopped: its files, and traces of forgotten records in them.
//!
//! Traces are looked for as plain bytes: names, texts of 6 bytes or more, numbers as decimal text and as 32-bit and 64-bit floats of either
//! byte order. A compressed or encrypted copy is not seen that way;
//! [`Law::DiskState`](crate::Law) sees it where equal runs write equal files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{LawsError, Record};

/// The shortest text that is looked for, in bytes.
const MIN_TEXT: usize = 6;

/// The shortest name that is looked for and is no number, in bytes.
const MIN_NAME: usize = 4;

/// Decimal texts of numbers that must be found in one file before they count: a single one may be there by chance.
const MIN_DECIMALS: usize = 2;

/// A file under the folder of a system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenFile {
    /// The path from the folder.
    pub path: String,
    /// The BLAKE3 digest of its bytes, in hexadecimal digits.
    pub digest: String,
    /// The number of its bytes.
    pub bytes: u64,
}

/// A trace of a forgotten record in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trace {
    /// The path from the folder.
    pub file: String,
    /// The id of the forgotten record.
    pub record: String,
    /// `true` for its id or subject, `false` for its content.
    pub name: bool,
    /// The text or number that was found.
    pub found: String,
}

/// The traces that forgotten records could leave, without those that records which stay leave too.
#[derive(Debug, Default)]
pub struct Needles(Vec<RecordNeedles>);

#[derive(Debug)]
struct RecordNeedles {
    record: String,
    names: BTreeSet<String>,
    texts: BTreeSet<String>,
    decimals: BTreeSet<String>,
    binaries: BTreeSet<(Vec<u8>, String)>,
}

impl Needles {
    /// The needles of forgotten records.
    pub fn new(forgotten: &[Record], staying: &[Record]) -> Self {
        let staying = RecordNeedles::union(staying);
        let needles = forgotten.iter().map(|record| {
            let mut needles = RecordNeedles::of(record);
            needles.names.retain(|name| !staying.names.contains(name));
            needles.texts.retain(|text| !staying.texts.contains(text));
            needles.decimals.retain(|text| !staying.decimals.contains(text));
            needles.binaries.retain(|binary| !staying.binaries.contains(binary));
            needles
        });
        Self(needles.collect())
    }

    /// The first record without anything to look for but its names.
    pub(crate) fn without_content(&self) -> Option<String> {
        let has_content = |needles: &RecordNeedles| {
            !needles.texts.is_empty() || !needles.binaries.is_empty() || needles.decimals.len() >= MIN_DECIMALS
        };
        self.0.iter().find(|needles| !has_content(needles)).map(|needles| needles.record.clone())
    }

    /// The first record without a name to look for.
    pub(crate) fn without_name(&self) -> Option<String> {
        self.0.iter().find(|needles| needles.names.is_empty()).map(|needles| needles.record.clone())
    }

    fn search(&self, path: &str, bytes: &[u8], traces: &mut BTreeSet<Trace>) {
        for needles in &self.0 {
            let mut seen = |name: bool, found: &str| {
                let (file, record) = (path.to_owned(), needles.record.clone());
                traces.insert(Trace { file, record, name, found: found.to_owned() });
            };
            let within = |text: &&String| whole(bytes, text.as_bytes(), u8::is_ascii_alphanumeric);
            needles
                .names
                .iter()
                .filter(|name| within(name) || whole(path.as_bytes(), name.as_bytes(), u8::is_ascii_alphanumeric))
                .for_each(|name| seen(true, name));
            needles.texts.iter().filter(within).for_each(|text| seen(false, text));
            let binaries = needles.binaries.iter().filter(|(binary, _)| memmem::find(bytes, binary).is_some());
            binaries.for_each(|(_, shown)| seen(false, shown));
            let decimals: Vec<&String> =
                needles.decimals.iter().filter(|text| whole(bytes, text.as_bytes(), u8::is_ascii_digit)).collect();
            if decimals.len() >= MIN_DECIMALS {
                decimals.iter().for_each(|text| seen(false, text));
            }
        }
    }
}

impl RecordNeedles {
    fn of(record: &Record) -> Self {
        let names = std::iter::once(record.id.clone()).chain(record.subject.clone()).filter(|name| is_telling(name));
        let names = names.collect();
        let record_id = record.id.clone();
        let mut needles = Self {
            record: record_id,
            names,
            texts: BTreeSet::new(),
            decimals: BTreeSet::new(),
            binaries: BTreeSet::new(),
        };
        record.content.values().for_each(|value| needles.add(value));
        needles
    }

    fn union(records: &[Record]) -> Self {
        let mut all = Self {
            record: String::new(),
            names: BTreeSet::new(),
            texts: BTreeSet::new(),
            decimals: BTreeSet::new(),
            binaries: BTreeSet::new(),
        };
        for needles in records.iter().map(Self::of) {
            all.names.extend(needles.names);
            all.texts.extend(needles.texts);
            all.decimals.extend(needles.decimals);
            all.binaries.extend(needles.binaries);
        }
        all
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() >= MIN_TEXT => {
                // As it is, and as JSON has it, with and without escapes for what is not ASCII.
                let escaped = Value::from(text.as_str()).to_string();
                let escaped = escaped[1..escaped.len() - 1].to_owned();
                self.texts.extend([text.clone(), in_ascii(&escaped), escaped]);
            }
            Value::Number(number) if number.is_f64() => self.add_number(number.as_f64().unwrap_or_default()),
            Value::Array(values) => {
                values.iter().for_each(|value| self.add(value));
                let numbers: Vec<f64> =
                    values.iter().filter_map(Value::as_f64).filter(|number| telling(*number)).collect();
                for pair in numbers.windows(2) {
                    let shown = format!("{}, {} as 32-bit floats", pair[0], pair[1]);
                    let [first, second] = [pair[0] as f32, pair[1] as f32];
                    self.binaries.insert(([first.to_le_bytes(), second.to_le_bytes()].concat(), shown.clone()));
                    self.binaries.insert(([first.to_be_bytes(), second.to_be_bytes()].concat(), shown));
                }
            }
            Value::Object(fields) => fields.values().for_each(|value| self.add(value)),
            _ => {}
        }
    }

    fn add_number(&mut self, number: f64) {
        if telling(number) {
            self.decimals.insert(number.abs().to_string());
            let shown = format!("{number} as a 64-bit float");
            self.binaries.insert((number.to_le_bytes().to_vec(), shown.clone()));
            self.binaries.insert((number.to_be_bytes().to_vec(), shown));
        }
    }
}

/// `true` for a name that is not in a file by chance: the number of a row is.
fn is_telling(name: &str) -> bool {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    name.len() >= if is_number { MIN_TEXT } else { MIN_NAME }
}

/// A text with `\u` escapes, as `json.dumps` of Python writes it.
fn in_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let units = &mut [0; 2];
            character.encode_utf16(units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        }
    }
    escaped
}

/// `true` for a number with so many digits that it is not in a file by chance.
fn telling(number: f64) -> bool {
    number.abs().to_string().bytes().filter(u8::is_ascii_digit).count() >= MIN_TEXT
}

/// `true` if the needle occurs, and not as a part of a longer word or number.
fn whole(bytes: &[u8], needle: &[u8], inner: fn(&u8) -> bool) -> bool {
    let outside = |byte: Option<&u8>| byte.is_none_or(|byte| !inner(byte));
    memmem::find_iter(bytes, needle).any(|at| {
        outside(at.checked_sub(1).and_then(|before| bytes.get(before))) && outside(bytes.get(at + needle.len()))
    })
}

/// The files under a folder, and the traces of forgotten records in them. Links are not followed.
pub fn look(folder: &Path, needles: &Needles) -> Result<(Vec<SeenFile>, Vec<Trace>), LawsError> {
    let mut files = Vec::new();
    let mut traces = BTreeSet::new();
    look_into(folder, folder, needles, &mut files, &mut traces)?;
    files.sort();
    Ok((files, traces.into_iter().collect()))
}

fn look_into(
    root: &Path,
    folder: &Path,
    needles: &Needles,
    files: &mut Vec<SeenFile>,
    traces: &mut BTreeSet<Trace>,
) -> Result<(), LawsError> {
    let failed = |error| LawsError::File { action: "read", path: folder.into(), error };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if kind.is_dir() {
            needles.search(&shown, &[], traces);
            look_into(root, &path, needles, files, traces)?;
        } else if kind.is_file() {
            let bytes =
                fs::read(&path).map_err(|error| LawsError::File { action: "read", path: path.clone(), error })?;
            needles.search(&shown, &bytes, traces);
            let digest = blake3::hash(&bytes).to_hex().to_string();
            files.push(SeenFile { path: shown, digest, bytes: bytes.len() as u64 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &str) -> Record {
        serde_json::from_str(line).unwrap()
    }

    /// The traces that one file with some bytes has of a record, while another record stays.
    fn traces(name: &str, bytes: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        let gone = record(
            r#"{"id":"user-12","subject":"both","features":[0.482913,-1.204519,3.0],"text":"a secret","label":1}"#,
        );
        let stays = record(r#"{"id":"user-1","subject":"both","features":[0.482914,0.5],"text":"common text"}"#);
        let needles = Needles::new(&[gone], &[stays]);
        look(folder.path(), &needles).unwrap().1.into_iter().map(|trace| trace.found).collect()
    }

    #[test]
    fn names_and_contents_are_found_in_each_spelling() {
        assert_eq!(traces("log", b"forgot user-12 today"), ["user-12"]);
        assert_eq!(traces("of-user-12.bin", b""), ["user-12"]);
        assert_eq!(traces("log", b"{\"text\": \"a secret\"}"), ["a secret"]);
        assert_eq!(traces("log", b"[0.482913, -1.204519]"), ["0.482913", "1.204519"]);
        let pair: Vec<u8> = [0.482_913_f32, -1.204_519].into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(traces("weights", &pair), ["0.482913, -1.204519 as 32-bit floats"]);
        assert_eq!(traces("weights", &0.482_913_f64.to_be_bytes()), ["0.482913 as a 64-bit float"]);
    }

    #[test]
    fn names_and_contents_of_others_are_no_traces() {
        let quiet: [&[u8]; 5] =
            [b"user-123 user-1 both", b"0.4829134 and 11.204519", b"0.482913 alone", b"common text", b"3.0 1"];
        for bytes in quiet {
            assert_eq!(traces("file", bytes), Vec::<String>::new(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn texts_are_found_as_json_writes_them_and_what_cannot_be_looked_for_is_named() {
        let record = |id: &str, content: serde_json::Value| Record {
            id: id.into(),
            subject: None,
            content: content.as_object().unwrap().clone(),
        };
        let text = "\u{c9}mile says \"hello\"";
        let needles = Needles::new(&[record("record-1", serde_json::json!({ "text": text }))], &[]);
        for written in [text, "\u{c9}mile says \\\"hello\\\"", "\\u00c9mile says \\\"hello\\\""] {
            let mut traces = BTreeSet::new();
            needles.search("file", format!("{{\"text\": \"{written}\"}}").as_bytes(), &mut traces);
            assert_eq!(traces.len(), 1, "{written}");
        }
        assert_eq!((needles.without_content(), needles.without_name()), (None, None));
        let numbers = Needles::new(&[record("7", serde_json::json!({ "pixels": [12, 200, 7], "label": 1 }))], &[]);
        assert_eq!((numbers.without_content(), numbers.without_name()), (Some("7".into()), Some("7".into())));
    }
}
