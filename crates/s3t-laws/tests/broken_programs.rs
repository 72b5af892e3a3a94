//! Programs that die, hang or talk nonsense are named as such, with their last words. Needs `python3`.

use std::time::Duration;

use s3t_laws::{Law, Program, Settings, Verdict, check};

/// The start of a system that answers `hello`.
const HELLO: &str = r#"
import json, sys, time
def hello(**fields):
    request = json.loads(sys.stdin.readline())
    print(json.dumps({"id": request["id"], "ok": True, "protocol": 1, "name": "n", "guarantee": "bits", **fields}), flush=True)
def serve(answer):
    for line in sys.stdin:
        request = json.loads(line)
        response = {"id": request["id"], "ok": True}
        response.update(answer(request) or {})
        print(json.dumps(response), flush=True)
        if request["op"] == "stop":
            sys.exit()
"#;

fn program(source: &str, seconds: u64) -> Program {
    Program::new(["python3", "-c", &format!("{HELLO}\n{source}")], Duration::from_secs(seconds)).unwrap()
}

/// The error of a check of a program.
fn error(source: &str) -> String {
    check(&program(source, 60), &Settings::default()).unwrap_err().to_string()
}

fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let program = Program::new(["no-such-program-anywhere"], Duration::from_secs(1)).unwrap();
    let error = check(&program, &Settings::default()).unwrap_err().to_string();
    assert_says(&error, &["cannot start `no-such-program-anywhere`", "after `--`"]);
}

#[test]
fn a_death_is_reported_with_its_last_words() {
    assert_says(
        &error("raise ValueError('no model')"),
        &["ended during `hello`", "exit status: 1", "ValueError: no model"],
    );
    let error = error("hello()\nserve(lambda request: request['op'] == 'train' and sys.exit('out of memory'))");
    assert_says(&error, &["ended during `train`", "out of memory"]);
}

#[test]
fn a_program_that_hangs_is_killed() {
    let hung = check(&program("time.sleep(3600)", 1), &Settings::default()).unwrap_err().to_string();
    assert_says(&hung, &["did not answer `hello` within 1 s", "--time-limit"]);
}

#[test]
fn a_program_that_reads_nothing_does_not_stop_the_tester() {
    // More records than a pipe holds; the reader of the first line only never reads them.
    let settings = Settings { records: 4000, rounds: 1, ..Settings::default() };
    let source = "hello()\nif json.loads(sys.stdin.readline())['op'] == 'stop':\n    print(json.dumps({'id': 2, 'ok': True}), flush=True)\nelse:\n    sys.exit('stopped reading')";
    let error = check(&program(source, 60), &settings).unwrap_err().to_string();
    assert_says(&error, &["ended during `train`", "stopped reading"]);
}

#[test]
fn nonsense_is_shown_with_what_is_expected() {
    assert_says(&error("print('Epoch 1 of 3', flush=True)\ntime.sleep(60)"), &["`Epoch 1 of 3`", "standard error"]);
    assert_says(
        &error("print('{\"id\": 9, \"ok\": true}', flush=True)\ntime.sleep(60)"),
        &["its `id` is 9, expected 1"],
    );
    assert_says(&error("hello(protocol=2)\nserve(lambda request: None)"), &["speaks protocol 2", "speaks 1 only"]);
    assert_says(
        &error("hello(guarantee='magic')\nserve(lambda request: None)"),
        &["unknown variant `magic`", "`bits`"],
    );
    assert_says(&error("sys.stdout.buffer.write(b'\\xff\\n')\nsys.stdout.flush()\ntime.sleep(60)"), &["not UTF-8"]);
    assert_says(&error("sys.stdout.write('{')"), &["does not end with a line feed"]);
}

#[test]
fn answers_that_cannot_be_compared_are_refused() {
    let answering = |answers: &str| {
        error(&format!(
            "hello()\nserve(lambda request: {{'answers': {answers}}} if request['op'] == 'answer' else None)"
        ))
    };
    assert_says(&answering("[[1.0]]"), &["1 answers to", "questions"]);
    assert_says(&answering("[[float('nan')] for _ in request['questions']]"), &["answer", "not one of protocol 1"]);
    assert_says(&answering("[['a'] for _ in request['questions']]"), &["invalid type", "expected f64"]);
    let failing = "hello()\nserve(lambda request: {'ok': False, 'kind': 'failed', 'error': 'no memory'} if request['op'] == 'train' else None)";
    assert_says(&error(failing), &["refused `train`: no memory"]);
}

#[test]
fn a_failure_in_one_law_is_a_verdict_and_no_end() {
    let source = "hello()\nserve(lambda request: sys.exit('crash') if request['op'] == 'forget' else {'answers': [[1.0] for _ in request['questions']]} if request['op'] == 'answer' else None)";
    let report = check(&program(source, 60), &Settings { rounds: 1, ..Settings::default() }).unwrap();
    assert!(!report.passed());
    assert!(matches!(report.verdict(Law::Power), Some(Verdict::Powerless { .. })), "{report}");
    assert!(matches!(report.verdict(Law::Asking), Some(Verdict::Held)), "{report}");
    let Some(Verdict::Failed { error, .. }) = report.verdict(Law::NonInterference) else { panic!("{report}") };
    assert_says(error, &["ended during `forget`", "crash"]);
}

#[test]
fn settings_that_cannot_be_used_are_refused_by_name() {
    let error = |settings: Settings| {
        check(&program("hello()\nserve(lambda request: None)", 60), &settings).unwrap_err().to_string()
    };
    assert_says(&error(Settings { rounds: 0, ..Settings::default() }), &["`--rounds` must be at least 1"]);
    assert_says(&error(Settings { runs: 1, ..Settings::default() }), &["`--runs` must be at least 5"]);
    assert_says(&error(Settings { error_rate: 0.0, ..Settings::default() }), &["`--error-rate` must be above 0"]);
    assert_says(&error(Settings { records: 3, ..Settings::default() }), &["`--records` must leave at least 6"]);
    assert_says(
        &error(Settings { forget: Some(1), ..Settings::default() }),
        &["`--forget` must be from 2 to 47, not 1"],
    );
    assert_says(&"forgetting".parse::<Law>().unwrap_err().to_string(), &["no law `forgetting`", "non-interference"]);
}
