//! Files that the readers take. The refusals are in the command line's table of bad inputs.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use s3t_core::{Limits, Message, Payload, PictureInput, Record, Role, Target, Task};
use s3t_data::{CsvSource, IdxSource, ImageFolderSource, JsonlSource, Labels, Source, Targets};

fn labels() -> Labels {
    Labels::new(vec!["bag".into(), "shirt".into()]).unwrap()
}

fn idx(images: &str, subjects: Option<&str>) -> Source {
    Source::Idx(IdxSource {
        images: images.into(),
        labels: "labels".into(),
        subjects: subjects.map(Into::into),
        id_prefix: "row-".into(),
    })
}

fn csv(text: Option<&str>, features: Option<&[&str]>) -> Source {
    Source::Csv(CsvSource {
        file: "data.csv".into(),
        label: "label".into(),
        id: None,
        subject: Some("who".into()),
        text: text.map(Into::into),
        text_pair: None,
        template: None,
        features: features.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
    })
}

fn jsonl() -> Source {
    Source::Jsonl(JsonlSource {
        file: "data.jsonl".into(),
        label: "label".into(),
        id: Some("id".into()),
        subject: Some("who".into()),
        text: None,
        text_pair: None,
        template: None,
        features: Some("x".into()),
        messages: None,
        packing: false,
    })
}

fn idx_bytes(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend_from_slice(data);
    bytes
}

fn write_gz(path: &Path, bytes: &[u8]) {
    let mut encoder = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
}

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

fn subjects(records: &[Record]) -> Vec<Option<&str>> {
    records.iter().map(|record| record.subject.as_ref().map(s3t_core::SubjectId::as_str)).collect()
}

#[test]
fn idx_with_colours_gzip_and_subjects() {
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..2 * 2 * 3 * 3).collect();
    write_gz(&folder.path().join("images.gz"), &idx_bytes(&[2, 2, 3, 3], &pixels));
    fs::write(folder.path().join("labels"), idx_bytes(&[2], &[1, 0])).unwrap();
    fs::write(folder.path().join("who.csv"), "\u{feff}id,subject\nrow-1,eve\n").unwrap();
    let records = idx("images.gz", Some("who.csv")).read(folder.path(), &Targets::classes(&labels())).unwrap();
    assert_eq!(ids(&records), ["row-0", "row-1"]);
    assert_eq!(subjects(&records), [None, Some("eve")]);
    assert_eq!((&records[0].target, &records[1].target, records[1].ordinal), (&Target::Class(1), &Target::Class(0), 1));
    let expected = Payload::Image { width: 3, height: 2, channels: 3, pixels: pixels[18..].to_vec() };
    assert_eq!(records[1].payload, expected);
}

#[test]
fn csv_with_quoted_lines_and_features() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("data.csv"),
        "who,label,t,a\n ann,bag,\"two\nlines, \"\"quoted\"\"\",1.5\n,shirt,x,-2\n",
    )
    .unwrap();
    let records = csv(Some("t"), None).read(folder.path(), &Targets::classes(&labels())).unwrap();
    assert_eq!(records[0].payload, Payload::Text("two\nlines, \"quoted\"".into()));
    assert_eq!(subjects(&records), [Some(" ann"), None]);
    assert_eq!(ids(&records), ["row-0", "row-1"]);
    let records = csv(None, Some(&["a"])).read(folder.path(), &Targets::classes(&labels())).unwrap();
    assert_eq!(records[1].payload, Payload::Features(vec![-2.0]));
    for source in [csv(None, None), csv(Some("t"), Some(&["a"]))] {
        let message = source.read(folder.path(), &Targets::classes(&labels())).unwrap_err().to_string();
        assert!(message.contains("exactly one of `text`, `template` and `features`"), "{message}");
    }
}

#[test]
fn the_line_of_a_message_counts_lines_inside_quotes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data.csv"), "who,label,t\n,bag,\"a\nb\nc\"\n,bug,x\n").unwrap();
    let message = csv(Some("t"), None).read(folder.path(), &Targets::classes(&labels())).unwrap_err().to_string();
    assert!(message.contains("line 5: unknown label `bug`; known: bag, shirt; did you mean `bag`?"), "{message}");
}

#[test]
fn jsonl_with_names_indices_and_numbers_as_ids() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"id\": 7, \"who\": null, \"label\": 1, \"x\": [1, 2.5]}\n\n{\"id\": \"b\", \"who\": 12, \"label\": \"bag\", \"x\": [0, 0]}\n";
    fs::write(folder.path().join("data.jsonl"), text).unwrap();
    let records = jsonl().read(folder.path(), &Targets::classes(&labels())).unwrap();
    assert_eq!(ids(&records), ["7", "b"]);
    assert_eq!(subjects(&records), [None, Some("12")]);
    assert_eq!((&records[0].target, &records[1].target), (&Target::Class(1), &Target::Class(0)));
    assert_eq!(records[0].payload, Payload::Features(vec![1.0, 2.5]));
}

#[test]
fn chats_are_read_with_their_turns() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        r#"{"id": "a", "who": "ann", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "tool_calls": null}]}"#,
        r#"{"id": "b", "who": null, "messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]}"#,
    ];
    fs::write(folder.path().join("data.jsonl"), lines.join("\n")).unwrap();
    let source: Source = serde_json::from_str(
        r#"{"type": "jsonl", "file": "data.jsonl", "id": "id", "subject": "who", "messages": "messages"}"#,
    )
    .unwrap();
    assert!(source.has_chats() && !jsonl().has_chats());
    let none = Labels::none();
    let targets = |limits| Targets { task: Task::CausalLm, labels: &none, limits };
    let records = source.read(folder.path(), &targets(Limits::default())).unwrap();
    let chat = [(Role::System, "Be kind."), (Role::User, "Hi"), (Role::Assistant, "Hello")];
    let chat = chat.map(|(role, text)| Message::new(role, text)).to_vec();
    assert_eq!((&records[0].payload, &records[0].target), (&Payload::Messages(chat), &Target::Turns));
    assert_eq!((ids(&records), subjects(&records)), (vec!["a", "b"], vec![Some("ann"), None]));
    // A question is any chat, and has no target.
    let question = r#"{"id": "q", "messages": [{"role": "user", "content": "Hi"}]}"#;
    fs::write(folder.path().join("questions.jsonl"), question).unwrap();
    let questions = s3t_data::read_questions(&folder.path().join("questions.jsonl"), None, &Limits::default()).unwrap();
    let hi = Payload::Messages(vec![Message::new(Role::User, "Hi")]);
    assert_eq!((&questions[0].payload, &questions[0].target), (&hi, &Target::None));
    // All messages of a chat together are one text.
    let long = serde_json::json!({ "id": "a", "who": null, "messages": [
        { "role": "user", "content": "x".repeat(700) }, { "role": "assistant", "content": "y".repeat(700) },
    ] });
    fs::write(folder.path().join("data.jsonl"), long.to_string()).unwrap();
    let small = Limits { text_kb: 1, ..Limits::default() };
    let message = source.read(folder.path(), &targets(small)).unwrap_err().to_string();
    assert!(message.contains("line 1: a text has 1400 bytes, but at most 1 KB are read"), "{message}");
}

#[test]
fn each_task_reads_its_own_target() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"label\": %, \"x\": \"a {b}\", \"y\": \"c\"}\n";
    let read = |task: &str, label: &str, text_of: (Option<&str>, Option<&str>)| {
        fs::write(folder.path().join("data.jsonl"), text.replace('%', label)).unwrap();
        let source = Source::Jsonl(JsonlSource {
            file: "data.jsonl".into(),
            label: "label".into(),
            id: None,
            subject: None,
            text: text_of.0.map(Into::into),
            text_pair: None,
            template: text_of.1.map(Into::into),
            features: None,
            messages: None,
            packing: false,
        });
        let (labels, none) = (labels(), Labels::none());
        let task = Task::from_name(task, 2).unwrap();
        let labels = if task.outputs() == 2 { &labels } else { &none };
        let read = source.read(folder.path(), &Targets { task, labels, limits: Limits::default() });
        read.map(|records| (records[0].target.clone(), records[0].payload.clone())).map_err(|error| error.to_string())
    };
    let (plain, template) = ((Some("x"), None), (None, Some("{{{x}}} and {y}")));
    let target = |task: &str, label: &str| read(task, label, plain).map(|(target, _)| target);
    assert_eq!(target("multi-label", "[\"shirt\", 0, 1]"), Ok(Target::Classes(vec![0, 1])));
    assert_eq!(target("multi-label", "\"shirt | bag\""), Ok(Target::Classes(vec![0, 1])));
    assert_eq!(target("multi-label", "\"\""), Ok(Target::Classes(vec![])));
    assert_eq!(target("regression", "-2.5"), Ok(Target::Value(-2.5)));
    assert_eq!(target("regression", "\" 1e3\""), Ok(Target::Value(1000.0)));
    let (target_text, payload) = read("causal-lm", "\"yes\"", template).unwrap();
    assert_eq!(target_text, Target::Text("yes".into()));
    assert_eq!(payload, Payload::Text("{a {b}} and c".into()));
    for (task, label, text, message) in [
        ("multi-label", "[\"hat\"]", plain, "unknown label `hat`"),
        ("multi-label", "3", plain, "not a list of labels"),
        ("regression", "\"NaN\"", plain, "not a finite number"),
        ("regression", "1e99", plain, "not a finite number"),
        ("causal-lm", "\"\"", plain, "is empty"),
        ("causal-lm", "\"a\"", (None, Some("{z}")), "unknown column `z`"),
        ("causal-lm", "\"a\"", (None, Some("{x")), "without its partner"),
        ("causal-lm", "\"a\"", (None, Some("x}")), "without its partner"),
        ("causal-lm", "\"a\"", (None, Some("x")), "names no column"),
        ("causal-lm", "\"a\"", (Some("x"), Some("{x}")), "exactly one of"),
    ] {
        let found = read(task, label, text).unwrap_err();
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn images_are_decoded_converted_and_resized() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    image::RgbImage::from_pixel(4, 2, image::Rgb([200, 100, 50])).save(folder.path().join("pictures/a.png")).unwrap();
    image::GrayImage::from_pixel(6, 6, image::Luma([90])).save(folder.path().join("pictures/b.bmp")).unwrap();
    fs::write(folder.path().join("list.csv"), "file,label,subject\na.png,bag,ann\nb.bmp,shirt,\n").unwrap();
    let source = |channels, resize| ImageFolderSource {
        root: "pictures".into(),
        manifest: "list.csv".into(),
        channels,
        resize,
        max_pixels: None,
        max_bytes: None,
    };
    let read = |source: ImageFolderSource, model: Option<&PictureInput>| {
        let read = Source::ImageFolder(source).read_for(folder.path(), &Targets::classes(&labels()), model);
        read.map_err(|error| error.to_string())
    };
    let sizes = |records: &[Record]| records.iter().map(|record| record.payload.describe()).collect::<Vec<_>>();
    let records = read(source(None, None), None).unwrap();
    assert_eq!(ids(&records), ["a.png", "b.bmp"]);
    assert_eq!(subjects(&records), [Some("ann"), None]);
    let pixels = [200, 100, 50].repeat(8);
    assert_eq!(records[0].payload, Payload::Image { width: 4, height: 2, channels: 3, pixels });
    let records = read(source(Some(1), Some([3, 3])), None).unwrap();
    assert_eq!(sizes(&records), ["3x3x1 image", "3x3x1 image"]);
    // Rec. 601, rounded to nearest.
    let Payload::Image { pixels, .. } = &records[0].payload else { unreachable!("records of pictures are images") };
    assert_eq!(pixels, &[124; 9]);

    // The model decides; what is said besides must agree.
    let model = PictureInput::resized(1, 5, 5);
    for (channels, resize) in [(None, None), (Some(1), None), (Some(1), Some([5, 5]))] {
        let records = read(source(channels, resize), Some(&model)).unwrap();
        assert_eq!(sizes(&records), ["5x5x1 image", "5x5x1 image"]);
    }
    for (source, message) in [
        (source(Some(3), None), "`channels` = 3, because the model takes 1; leave `channels` out"),
        (source(None, Some([5, 6])), "`resize` = [5, 6], because the model takes 5x5"),
        (source(Some(2), None), "`channels` = 2; use 1 or 3"),
        (source(None, Some([0, 5])), "with this `resize`"),
        (ImageFolderSource { max_pixels: Some(7), ..source(None, None) }, "its 4x2 are 8 pixels, but the limit is 7"),
        (ImageFolderSource { max_bytes: Some(60), ..source(None, None) }, "it has more than 60 bytes"),
        (ImageFolderSource { max_pixels: Some(0), ..source(None, None) }, "`max_pixels` = 0"),
        (ImageFolderSource { max_bytes: Some(0), ..source(None, None) }, "`max_bytes` = 0"),
    ] {
        let found = read(source, Some(&model)).unwrap_err();
        assert!(found.contains(message), "`{message}` is not in: {found}");
    }
}

#[test]
fn pictures_of_questions_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("questions");
    fs::create_dir(&inner).unwrap();
    for path in [folder.path().join("a.png"), inner.join("a.png")] {
        image::GrayImage::from_pixel(2, 2, image::Luma([90])).save(path).unwrap();
    }
    let read = |image: &str| {
        let line = serde_json::json!({ "image": image });
        fs::write(inner.join("q.jsonl"), format!("{line}\n")).unwrap();
        s3t_data::read_questions(&inner.join("q.jsonl"), None, &Limits::default()).map_err(|error| error.to_string())
    };
    assert_eq!(read("./a.png").unwrap().len(), 1);
    let absolute = folder.path().join("a.png").display().to_string();
    for outside in ["../a.png", absolute.as_str(), ""] {
        let problem = read(outside).unwrap_err();
        assert!(problem.contains("give a file below the folder of this file") || outside.is_empty(), "{problem}");
    }
}

proptest! {
    #[test]
    fn idx_files_read_back_what_was_written(count in 1u32..5, height in 1u32..5, width in 1u32..5, seed: u8) {
        let folder = tempfile::tempdir().unwrap();
        let size = (height * width) as usize;
        let pixels: Vec<u8> = (0..count as usize * size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        fs::write(folder.path().join("images"), idx_bytes(&[count, height, width], &pixels)).unwrap();
        fs::write(folder.path().join("labels"), idx_bytes(&[count], &vec![1; count as usize])).unwrap();
        let records = idx("images", None).read(folder.path(), &Targets::classes(&labels())).unwrap();
        prop_assert_eq!(records.len(), count as usize);
        for (record, expected) in records.iter().zip(pixels.chunks(size)) {
            let same = matches!(&record.payload, Payload::Image { pixels, .. } if pixels == expected);
            prop_assert!(same);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, header in 0usize..4, text in "[\\[\\]{}\":,a-z0-9\\n\r\u{feff} -]{0,60}") {
        let folder = tempfile::tempdir().unwrap();
        let starts: [&[u8]; 4] = [&[], &[0, 0, 8, 3], &[0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0, 0, 8, 1]];
        fs::write(folder.path().join("images"), [starts[header], &bytes].concat()).unwrap();
        fs::write(folder.path().join("labels"), &bytes).unwrap();
        let _ = idx("images", Some("data.csv")).read(folder.path(), &Targets::classes(&labels()));
        for content in [bytes.as_slice(), text.as_bytes()] {
            fs::write(folder.path().join("data.csv"), content).unwrap();
            fs::write(folder.path().join("data.jsonl"), content).unwrap();
            let _ = csv(Some("t"), None).read(folder.path(), &Targets::classes(&labels()));
            let _ = jsonl().read(folder.path(), &Targets::classes(&labels()));
        }
    }
}

#[test]
fn windows_line_ends_and_open_quotes_are_told_by_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        fs::write(folder.path().join("data.csv"), text).unwrap();
        csv(Some("text"), None).read(folder.path(), &Targets::classes(&labels()))
    };
    for ending in ["\n", "\r\n"] {
        let text = ["label,who,text", "bag,a,\"one, two\"", "hat,b,x"].join(ending);
        let message = read(&text).unwrap_err().to_string();
        assert!(message.contains("data.csv` line 3:"), "{message}");
        let short = ["label,who,text", "bag,a,x", "bag"].join(ending);
        let message = read(&short).unwrap_err().to_string();
        assert!(message.contains("data.csv` line 3: has 1 fields"), "{message}");
    }
    let message = read("label,who,text\nbag,a,x\nbag,b,\"open\nbag,c,x\n").unwrap_err().to_string();
    assert!(message.contains("line 3: opens a quote that is never closed"), "{message}");
    let fine = read("label,who,text\nbag,a,\"two \"\"quotes\"\", a\nbreak\"\nbag,b,5\" wide\n").unwrap();
    assert_eq!(fine.len(), 2);
    assert!(matches!(&fine[0].payload, Payload::Text(text) if text == "two \"quotes\", a\nbreak"));
}

#[test]
fn ids_are_read_as_they_are_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    for end in ["\n", "\r\n"] {
        let text = [" id,who,label,t".to_owned(), "x,a ,bag,1".into(), "y, b,bag,2".into(), "z,\u{feff}c,bag,3".into()];
        fs::write(folder.path().join("data.csv"), format!("\u{feff}{}{end}", text.join(end))).unwrap();
        let records = csv(Some("t"), None).read(folder.path(), &Targets::classes(&labels())).unwrap();
        assert_eq!(subjects(&records), [Some("a "), Some(" b"), Some("\u{feff}c")]);
        let row =
            |id: &str, who: &str| format!("{{\"id\": \"{id}\", \"who\": \"{who}\", \"label\": \"bag\", \"x\": [1]}}");
        let text = [row("a ", "a "), row("\\ufeffb", " b"), row("c\u{a0}", "")].join(end);
        fs::write(folder.path().join("data.jsonl"), format!("\u{feff}{text}{end}")).unwrap();
        let records = jsonl().read(folder.path(), &Targets::classes(&labels())).unwrap();
        assert_eq!(ids(&records), ["a ", "\u{feff}b", "c\u{a0}"]);
        assert_eq!(subjects(&records), [Some("a "), Some(" b"), None]);
        fs::write(folder.path().join("list"), format!("\u{feff}a {end}{end} b{end}\u{feff}c")).unwrap();
        let list = s3t_data::read_id_list(&folder.path().join("list"), s3t_core::RecordId::new).unwrap();
        assert_eq!(list.iter().map(s3t_core::RecordId::as_str).collect::<Vec<_>>(), ["a ", " b", "\u{feff}c"]);
        fs::write(folder.path().join("prior.csv"), format!("subject,probability{end}a ,0.5{end} b,0{end}")).unwrap();
        let prior =
            s3t_data::read_probabilities(&folder.path().join("prior.csv"), &s3t_core::Limits::default()).unwrap();
        assert_eq!(prior.iter().map(|(subject, _)| subject.as_str()).collect::<Vec<_>>(), ["a ", " b"]);
    }
}

#[test]
fn a_table_and_json_lines_of_one_data_set_have_the_same_classes() {
    let folder = tempfile::tempdir().unwrap();
    let names: [&[&str]; 5] = [&["1", "0"], &["1", "2", "3"], &["10", "-1", "0"], &["true", "false"], &["0", "1", "2"]];
    for names in names {
        let labels = Labels::new(names.iter().map(|name| (*name).to_owned()).collect()).unwrap();
        let rows = |row: &dyn Fn(&str) -> String| names.iter().map(|name| row(name)).collect::<Vec<_>>().join("\n");
        fs::write(folder.path().join("data.csv"), format!("who,label,t\n{}", rows(&|name| format!(",{name},x"))))
            .unwrap();
        let json = rows(&|name| format!("{{\"id\": \"{name}\", \"who\": null, \"label\": {name}, \"x\": [1]}}"));
        fs::write(folder.path().join("data.jsonl"), json).unwrap();
        let classes = |source: Source| -> Vec<Target> {
            let records = source.read(folder.path(), &Targets::classes(&labels)).unwrap();
            records.into_iter().map(|record| record.target).collect()
        };
        assert_eq!(classes(csv(Some("t"), None)), classes(jsonl()), "{names:?}");
    }
}
