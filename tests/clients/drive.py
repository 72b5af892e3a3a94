"""Drives a server with clients that others wrote; stops at the first thing that is not as the documents say.

    drive.py PROGRAM TLOG_CLIENT [FUZZ_EXAMPLES]
"""

import base64
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy
import requests
import tritonclient.http as triton
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from world import Server, features

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def said(name):
    print(f"ok {name}", flush=True)


def picture():
    file = io.BytesIO()
    Image.new("L", (28, 28), 90).save(file, "PNG")
    return file.getvalue()


def with_curl(server):
    """The commands of docs/guide/serving.md."""

    def curl(*arguments, role="all"):
        token = ["-H", f"authorization: Bearer {server.tokens[role]}"]
        ran = subprocess.run(["curl", "-fsS", *token, *arguments], capture_output=True, timeout=30)
        assert ran.returncode == 0, (arguments, ran.stderr)
        return ran.stdout

    json_type = ["-H", "content-type: application/json"]
    asked = json.loads(curl(*json_type, "-d", json.dumps({"inputs": {"features": features()}}), f"{server.url}/predict", role="ask"))
    assert len(asked) == 10 and asked[0]["score"] >= asked[1]["score"], asked
    file = server.folder / "shoe.png"
    file.write_bytes(picture())
    asked = json.loads(curl("-H", "content-type: image/png", "--data-binary", f"@{file}", f"{server.url}/predict", role="ask"))
    assert len(asked) == 10
    made = json.loads(curl(*json_type, "-d", '{"request_id": "curl-1", "subjects": ["owner-0017"]}', f"{server.url}/deletions", role="delete"))
    assert made["phase"] in ("in-effect", "erased") and "epoch" not in made, made
    receipt, key = server.folder / "curl.json", server.folder / "key.pub"
    receipt.write_bytes(curl(f"{server.url}/deletions/curl-1/receipt", role="audit"))
    key.write_bytes(curl(f"{server.url}/ledger/key.pub"))
    verified = server.s3t("receipt", "verify", receipt, "--key", key, check=False)
    assert verified.returncode == 0, verified.stderr
    said("curl: answer, picture, deletion, receipt")


def with_requests(server):
    session = requests.Session()
    session.headers.update(server.headers())
    ask = lambda **more: session.post(f"{server.url}/predict", json={"inputs": [{"features": features(seed)} for seed in range(4)]}, **more)
    first = ask()
    assert first.status_code == 200 and len(first.json()) == 4, first.text
    before = int(first.headers["x-s3t-epoch"])
    made = session.post(f"{server.url}/deletions", json={"request_id": "requests/1", "subjects": ["owner-0042"], "records": ["row-500"]})
    assert made.status_code == 201, made.text
    epoch = made.json()["epoch"]
    assert epoch == before + 1 and made.headers["location"] == "/deletions/requests%2F1", made.headers
    after = ask(headers={"x-s3t-min-epoch": str(epoch)})
    assert after.status_code == 200 and int(after.headers["x-s3t-epoch"]) >= epoch
    assert ask(headers={"x-s3t-min-epoch": str(epoch + 1)}).status_code == 412
    state_url = server.url + made.headers["location"]
    deadline = time.monotonic() + 20
    while session.get(state_url).json()["phase"] != "erased":
        assert time.monotonic() < deadline, "the deletion is not erased after 20 s"
        time.sleep(0.05)
    receipt = session.get(f"{state_url}/receipt").json()
    served = {part.split("=")[1] for part in after.headers["x-s3t-stages"].split(",")}
    assert not served & set(receipt["effect"]["cut"]), "an answer has a stage that was cut"
    file, key = server.folder / "requests.json", server.folder / "key.pub"
    file.write_text(json.dumps(receipt))
    key.write_text(session.get(f"{server.url}/ledger/key.pub").text)
    verified = server.s3t("receipt", "verify", file, "--key", key, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    receipt["effect"]["records"] = receipt["effect"].get("records", 0) + 1
    file.write_text(json.dumps(receipt))
    assert server.s3t("receipt", "verify", file, "--key", key, check=False).returncode != 0, "a changed receipt is taken"
    again = session.post(f"{server.url}/deletions", json={"request_id": "requests/1", "subjects": ["owner-0042"], "records": ["row-500"]})
    assert again.status_code == 201 and again.json()["epoch"] == epoch, again.text
    other = session.post(f"{server.url}/deletions", json={"request_id": "requests/1", "subjects": ["owner-0043"]})
    assert other.status_code == 409, other.text
    for role, path, method in [("ask", "/deletions", "GET"), ("delete", "/predict", "POST"), ("delete", "/deletions/curl-1/receipt", "GET"), ("audit", "/repair/run", "POST")]:
        refused = requests.request(method, server.url + path, headers=server.headers(role), json={})
        assert refused.status_code == 403 and set(refused.json()) == {"error", "error_type"}, (role, path, refused.text)
    assert requests.get(f"{server.url}/deletions").status_code == 401
    said("requests: answers, deletion, effect, receipt, refusals")


def with_generated(server):
    """A client that openapi-python-client generates."""
    document = server.folder / "openapi.json"
    document.write_text(requests.get(f"{server.url}/openapi.json").text)
    ids = re.findall(r'"operationId": ?"([^"]+)"', document.read_text())
    assert len(ids) == len(set(ids)), f"ids of operations are used twice: {sorted(name for name in ids if ids.count(name) > 1)}"
    target = server.folder / "generated"
    ran = subprocess.run(
        [BIN / "openapi-python-client", "generate", "--path", document, "--output-path", target, "--meta", "none", "--overwrite"],
        capture_output=True, text=True, env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(server.folder)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    warnings = [line for line in ran.stdout.splitlines() if "WARNING" in line]
    print("   generator:", "; ".join(warnings) or "no warnings")
    sys.path.insert(0, str(server.folder))
    from generated import AuthenticatedClient
    from generated.api.answers import predict
    from generated.api.deletions import create_deletion, get_deletion
    from generated.models import DeletionRequest, PredictRequest, PredictRequestInputs

    client = AuthenticatedClient(base_url=server.url, token=server.tokens["all"])
    inputs = PredictRequestInputs.from_dict({"features": features()})
    answer = predict.sync_detailed(client=client, body=PredictRequest(inputs=inputs))
    assert answer.status_code == 200 and answer.parsed[0].label, answer.content
    made = create_deletion.sync_detailed(client=client, body=DeletionRequest(request_id="generated-1", subjects=["owner-0050"]))
    assert made.status_code == 201 and made.parsed.request_id == "generated-1", made.content
    state = get_deletion.sync(client=client, request_id="generated-1")
    assert state.phase.value in ("in-effect", "erased"), state
    said("a client generated from the OpenAPI document: answer, deletion, state")


def with_triton(server):
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    token = server.headers("ask")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("vit-mnist")
    assert client.get_server_metadata()["name"] == "s3t"
    metadata = client.get_model_metadata("vit-mnist")
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["scores", "label"], metadata
    numbers = triton.InferInput("features", [2, 784], "FP32")
    numbers.set_data_from_numpy(numpy.array([features(1), features(2)], dtype=numpy.float32), binary_data=False)
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("scores", "label")]
    result = client.infer("vit-mnist", [numbers], outputs=wanted, headers=token, request_id="seven")
    assert result.as_numpy("scores").shape == (2, 10) and result.get_response()["id"] == "seven", result.get_response()
    assert result.get_response()["parameters"]["stages"], result.get_response()
    pictures = triton.InferInput("image", [1], "BYTES")
    pictures.set_data_from_numpy(numpy.array([base64.b64encode(picture())], dtype=object), binary_data=False)
    result = client.infer("vit-mnist", [pictures], outputs=wanted, headers=token)
    assert result.as_numpy("label").shape == (1,), result.get_response()
    numbers.set_data_from_numpy(numpy.array([features(1), features(2)], dtype=numpy.float32), binary_data=True)
    try:
        client.infer("vit-mnist", [numbers], headers=token)
        raise AssertionError("tensors in binary were taken")
    except triton.InferenceServerException as error:
        assert "binary" in str(error), error
    said("tritonclient: health, metadata, numbers, pictures, binary refused in words")


def with_prometheus(server):
    text = requests.get(f"{server.url}/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name in ["s3t_epoch", "s3t_shard_depth", "s3t_stages", "s3t_deletions", "s3t_deletion_seconds", "s3t_deletions_left_at_worst",
                 "s3t_answers_in_flight", "s3t_callbacks_waiting", "s3t_http_request_seconds", "s3t_queued_records", "s3t_overloaded"]:
        assert name in families, f"{name} is not in {sorted(families)}"
    for name, family in families.items():
        assert family.documentation and family.type != "unknown", name
        if family.type == "histogram":
            least = min(float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels)
            assert "seconds" not in name or least <= 0.0005, (name, least)
            for labels in {json.dumps({k: v for k, v in s.labels.items() if k != "le"}) for s in family.samples}:
                of = [s for s in family.samples if {k: v for k, v in s.labels.items() if k != "le"} == json.loads(labels)]
                buckets = [s.value for s in of if s.name.endswith("_bucket")]
                assert buckets == sorted(buckets) and buckets[-1] == next(s.value for s in of if s.name.endswith("_count")), name
    said(f"prometheus_client: {len(families)} families")


def with_tlog(server, client):
    earlier = server.folder / "earlier"
    earlier.write_text(requests.get(f"{server.url}/ledger/checkpoint").text)
    made = requests.post(f"{server.url}/deletions", headers=server.headers(), json={"request_id": "tlog-1", "records": ["row-3"]})
    assert made.status_code == 201, made.text
    deadline = time.monotonic() + 20
    while requests.get(f"{server.url}/ledger/checkpoint").text == earlier.read_text():
        assert time.monotonic() < deadline, "the checkpoint does not change"
        time.sleep(0.05)
    ran = subprocess.run([client, server.url, earlier], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    said(f"Go's client of transparency logs: {'; '.join(ran.stdout.split(chr(10)))}".rstrip("; "))


def with_schemathesis(server, examples):
    ran = subprocess.run(
        [BIN / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run", f"{server.url}/openapi.json",
         "-H", f"Authorization: Bearer {server.tokens['all']}", "-n", str(examples), "--phases", "coverage,fuzzing", "--no-shrink", "--seed", "1"],
        capture_output=True, text=True, cwd=server.folder,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    said(f"schemathesis: {re.search('([0-9]+) generated.*', ran.stdout).group(0)}")


def main():
    program, tlog = sys.argv[1:3]
    examples = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    # Repair goes on behind, so that deletions do not use the small store up.
    with Server(program, options=["--repair"]) as server:
        assert server.ready_seconds < 2, f"{server.ready_seconds:.1f} s until the first answer"
        with_curl(server)
        with_requests(server)
        with_generated(server)
        with_triton(server)
        with_prometheus(server)
        with_tlog(server, tlog)
        with_schemathesis(server, examples)
        assert server.process.poll() is None, "the server is gone"
        assert server.stop() == 0, "the server did not stop in order"
        logged = server.logged()
        assert "panicked" not in logged, "a panic is in the log"
        found = [name for name in ("owner-00", "row-50", *server.tokens.values()) if name in logged]
        assert not found, f"the log holds {found}"
    said("stopped in order; no panic, record, subject or token in the log")


if __name__ == "__main__":
    main()
