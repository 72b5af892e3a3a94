//! Ids that cannot be told apart, files that are named twice, labels that may be names or indices.

use super::{Case, IMAGES, Workspace, csv, folder, idx, line, planned, trained};

fn labels(w: &Workspace, task: &str, names: &str) {
    w.edit("pipeline.toml", "labels = [\"class-0\", \"class-1\", \"class-2\"]", &format!("{task}labels = {names}"));
}

fn label(w: &Workspace, value: &str) {
    line(w, 1, &format!("{{\"id\": \"a\", \"subject\": null, \"label\": {value}, \"x\": [1]}}"));
}

fn pictures(w: &Workspace, manifest: &str) {
    folder(w, manifest);
    std::fs::create_dir(w.path("images/cat")).unwrap();
    w.write("images/cat/0.png", s3t_testkit::grey_png(4, 4, &[7; 16]));
    w.write("outside.png", s3t_testkit::grey_png(4, 4, &[7; 16]));
}

#[cfg(unix)]
fn link(w: &Workspace, target: &str, name: &str) {
    std::os::unix::fs::symlink(target, w.path(name)).unwrap();
}

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        planned("Ids", "record id that looks like another", |w| line(w, 5, r#"{"id": "record-0\u200b", "subject": null, "label": 0, "x": [1]}"#),
            "`train.jsonl` line 5: record id `record-0\\u{200b}` cannot be told apart from `record-0` in line 1: they differ only in blanks, invisible characters or Unicode normal forms; write one id in one way, and let different ids look different"),
        planned("Ids", "subject with a blank behind its id", |w| line(w, 5, r#"{"id": "a", "subject": "subject-1 ", "label": 0, "x": [1]}"#),
            "`train.jsonl` line 5: subject id `subject-1\\u{20}` cannot be told apart from `subject-1` in line 2: "),
        planned("Ids", "subject in two Unicode normal forms", |w| { line(w, 1, r#"{"id": "a", "subject": "José", "label": 0, "x": [1]}"#); line(w, 2, "{\"id\": \"b\", \"subject\": \"Jose\u{301}\", \"label\": 0, \"x\": [1]}"); },
            "`train.jsonl` line 2: subject id `Jose\\u{301}` cannot be told apart from `Jos\\u{e9}` in line 1: "),
        planned("Ids", "ids of a table that look the same", |w| { csv(w); w.edit("train.csv", "r2,", "\u{a0}r1,"); },
            "`train.csv` line 3: record id `\\u{a0}r1` cannot be told apart from `r1` in line 2: "),
        planned("Ids", "subject of blanks", |w| line(w, 5, r#"{"id": "a", "subject": " ", "label": 0, "x": [1]}"#),
            "`train.jsonl` line 5: subject id `\\u{20}` shows nothing, only blanks or invisible characters; give an id that can be read"),
        planned("Ids", "subjects of IDX images that look the same", |w| { idx(w, &[IMAGES, &[1, 2, 3, 4]].concat(), &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1]); w.edit("pipeline.toml", "labels = \"labels.idx\"", "labels = \"labels.idx\"\nsubjects = \"who.csv\""); w.write("who.csv", "id,subject\nrow-0,ann\nrow-1,ann \n"); },
            "`who.csv` line 3: subject id `ann\\u{20}` cannot be told apart from `ann` in line 2: "),
        planned("Ids", "prior with a subject in two spellings", |w| { w.edit("pipeline.toml", "budget = 2", "budget = 2\nprior = \"prior.csv\""); w.write("prior.csv", "subject,probability\nsubject-1,0.5\nsubject-1 ,0.2\n"); },
            "pipeline.toml line 31: `prior.csv` line 3: subject id `subject-1\\u{20}` cannot be told apart from `subject-1` in line 2: "),
        planned("Ids", "prior with a subject in another spelling than the data's", |w| { w.edit("pipeline.toml", "budget = 2", "budget = 2\nprior = \"prior.csv\""); w.write("prior.csv", "subject,probability\nsubject-1\u{200b},0.5\n"); },
            "pipeline.toml line 31: `sequences.prior`: subject id `subject-1\\u{200b}` cannot be told apart from `subject-1` of the records: "),
        planned("Ids", "one image file under two names", |w| pictures(w, "file,label\ncat/0.png,class-0\n./cat/0.png,class-1\n"),
            "`list.csv` line 3: `./cat/0.png` is the file `cat/0.png` of line 2; one file is one record"),
        planned("Ids", "one image file under two names and ids", |w| pictures(w, "file,label,id\ncat/../cat/0.png,class-0,a\ncat//0.png,class-1,b\n"),
            "`list.csv` line 3: `cat//0.png` is the file `cat/../cat/0.png` of line 2; one file is one record"),
        planned("Ids", "image file by a path of its own", |w| pictures(w, "file,label\n/etc/passwd,class-0\n"),
            "`list.csv` line 2: `/etc/passwd` is not a file below the image folder"),
        planned("Ids", "image folder that is not there", |w| { pictures(w, "file,label\ncat/0.png,class-0\n"); w.edit("pipeline.toml", "root = \"images\"", "root = \"pictures\""); },
            "cannot read `pictures`: No such file or directory (os error 2)"),
        Case { part: "Ids", situation: "`delete` of another spelling", spoil: trained, args: &["delete", "pipeline.toml", "--subject", "subject-1 "], code: 3,
            message: "unknown subject `subject-1\\u{20}`; nothing was deleted. There is `subject-1`, which differs from it only in blanks, invisible characters or Unicode normal forms: name it so if it is meant" },
        Case { part: "Ids", situation: "another spelling in a list", spoil: |w| { trained(w); w.write("ids.txt", "\u{feff}record-0\r\n record-1\r\n"); }, args: &["delete", "pipeline.toml", "--records-from", "ids.txt"], code: 3,
            message: "unknown record `\\u{20}record-1`; nothing was deleted. There is `record-1`, which differs from it only in blanks" },
        Case { part: "Ids", situation: "line of a list that is no id", spoil: |w| { trained(w); w.write("ids.txt", "record-0\na\tb\n"); }, args: &["delete", "pipeline.toml", "--records-from", "ids.txt"], code: 2,
            message: "`ids.txt` line 2: invalid record id \"a\\tb\": it holds a control character" },
        Case { part: "Ids", situation: "list that is not UTF-8", spoil: |w| { trained(w); w.write("ids.txt", b"record-0\n\xff\n"); }, args: &["delete", "pipeline.toml", "--records-from", "ids.txt"], code: 2,
            message: "`ids.txt` line 2: is not valid UTF-8; save the file as UTF-8" },
        Case { part: "Ids", situation: "another spelling in `run.delete_subjects`", spoil: |w| w.edit("pipeline.toml", "[\"subject-1\"]", "[\"subject-1\\u00a0\"]"), args: &["plan", "pipeline.toml"], code: 2,
            message: "`run.delete_subjects` names the subject `subject-1\\u{a0}`, which is not in the training data; `subject-1` is, which looks the same" },
        Case { part: "Ids", situation: "another spelling in `run.delete_subjects` of a trained store", spoil: |w| { trained(w); w.edit("pipeline.toml", "[\"subject-1\"]", "[\"subject-1\\u00a0\"]"); }, args: &["run", "pipeline.toml"], code: 3,
            message: "unknown subject `subject-1\\u{a0}`; nothing was deleted. There is `subject-1`, " },
        Case { part: "Ids", situation: "receipt for another spelling", spoil: |w| { trained(w); w.json(&["delete", "pipeline.toml", "--subject", "subject-1", "--receipt", "receipt.json"]); }, args: &["receipt", "verify", "receipt.json", "--key", "store/ledger/key.pub", "--subject", "subject-1 "], code: 5,
            message: "the request does not name the subject `subject-1\\u{20}`, but `subject-1`, which differs from it only in blanks" },
        Case { part: "Ids", situation: "recorded stream with two spellings", spoil: |w| w.write("trace.csv", "subject\nann\nbob\nann \n"), args: &["simulate", "--shards", "5", "--slices", "2", "--stream", "trace", "--trace", "trace.csv"], code: 2,
            message: "trace.csv:4: subject id `ann\\u{20}` cannot be told apart from `ann` in line 2: " },

        planned("Labels", "number where some class names are numbers", |w| { labels(w, "", r#"["1", "other"]"#); label(w, "1"); },
            "`train.jsonl` line 1: `label` is the number 1, which may be a name or an index, as some class names are numbers; write the name as a text (the class of that name: write \"1\", or the class of that index: write \"other\")"),
        planned("Labels", "number that is no class name where all are numbers", |w| { labels(w, "", r#"["1", "2", "3"]"#); label(w, "0"); },
            "`train.jsonl` line 1: unknown label 0; known: 1, 2, 3; the class names are numbers, so that a number is a name and not an index"),
        planned("Labels", "number in another form than the class name", |w| { labels(w, "", r#"["0", "1"]"#); label(w, "1.0"); },
            "`train.jsonl` line 1: unknown label 1.0; known: 0, 1"),
        planned("Labels", "index that is not whole", |w| label(w, "1.0"), "`train.jsonl` line 1: label 1.0 is not a class index; the indices are 0 to 2"),
        planned("Labels", "truth value that no class is named by", |w| label(w, "true"), "`train.jsonl` line 1: `label` is true, not a label; write the name of a class as a text"),
        planned("Labels", "missing label", |w| label(w, "null"), "`train.jsonl` line 1: `label` is null, not a label; write the name of a class as a text"),
        planned("Labels", "list with 0 or 1 for each class", |w| { labels(w, "task = \"multi-label\"\n", r#"["a", "b", "c"]"#); label(w, "[0, 1, 1]"); },
            "`train.jsonl` line 1: `label` is [0,1,1], which may be 0 or 1 for each class or a list of labels; write the names of the record's classes as texts"),
        planned("Labels", "label in a list that may be a name or an index", |w| { labels(w, "task = \"multi-label\"\n", r#"["1", "other"]"#); label(w, "[\"other\", 1]"); },
            "`train.jsonl` line 1: `label` is the number 1, which may be a name or an index"),
        planned("Labels", "index of an IDX file that is the name of another class", |w| { labels(w, "", r#"["1", "0"]"#); idx(w, &[IMAGES, &[1, 2, 3, 4]].concat(), &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1]); },
            "`labels.idx`: label 0 is the class `1` by its index, but another class, of index 1, is named `0`; put the class names in the order of the indices, or give them names that are not numbers"),
    ];
    #[cfg(unix)]
    {
        cases.push(planned("Ids", "link that leads out of the image folder", |w| { pictures(w, "file,label\ncat/1.png,class-0\n"); link(w, "../../outside.png", "images/cat/1.png"); },
            "`list.csv` line 2: `cat/1.png` is not a file below the image folder: it leads to `"));
        cases.push(planned("Ids", "link to an image file that is named too", |w| { pictures(w, "file,label\ncat/0.png,class-0\nlink.png,class-0\n"); link(w, "cat/0.png", "images/link.png"); },
            "`list.csv` line 3: `link.png` is the file `cat/0.png` of line 2; one file is one record"));
    }
    cases
}
