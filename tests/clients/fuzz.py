"""Mutated requests: good ones with bytes, values, headers, paths and methods changed. No answer is a failure of the server.

    fuzz.py PROGRAM [REQUESTS] [SEED] [texts]

With `texts` the requests are for texts of a language model. Each request has an answer of a documented status, or ends its connection; the server lives on and logs no panic.
"""

import collections
import http.client
import json
import random
import socket
import sys
import tempfile
import time
import uuid
from pathlib import Path

import make_texts
from bad_clients import opendsr_section
from world import Server, features

# 503: every shard is dead, or the store is in use. 504: the answer took longer than the deadline.
DOCUMENTED = {200, 201, 202, 204, 303, 307, 308, 400, 401, 403, 404, 405, 409, 412, 413, 414, 415, 422, 429, 431, 503, 504}
VALUES = [None, True, False, 0, -1, 1e308, 2**63, 2**64, -(2**63), 0.1, "", "a", "\0", "\ud7ff\U0010ffff", "../..", "a" * 5000, [], {}, [[]], [{}], [None], "9" * 400, "1970-01-01T00:00:00Z", "-9999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"]
HEADERS = ["x-s3t-min-epoch: 1", "x-s3t-min-epoch: -1", "x-s3t-min-epoch: 99999999999999999999", "content-type: text/plain", "content-type: image/png", "content-type: application/json; charset=utf-16", "content-type: \xff", "accept: nothing/*", "content-encoding: gzip",
           "expect: 100-continue", "expect: x", "origin: null", "origin: http://elsewhere.example", "cookie: s3t-session=\xff; =;;", "authorization: Bearer x", "inference-header-content-length: 3", "range: bytes=9-", "transfer-encoding: chunked", "content-length: 3", "connection: close", "upgrade: websocket", "traceparent: 00-0-0-0", "host: other", "x: " + "y" * 9000]


def good(random):
    """Requests that are right, with names of things that are there now and then."""
    name = random.choice(["ticket-1", "ticket-2", "ticket-%d" % random.randrange(50), str(uuid.UUID(int=random.getrandbits(128), version=4))])
    question = {"inputs": random.choice([{"features": features(random.randrange(9))}, [{"features": features()}] * 2, {"image": "iVBORw0KGgo="}]), "raw_scores": True}
    infer = {"id": "1", "inputs": [{"name": "features", "shape": [1, 784], "datatype": "FP32", "data": features()}], "outputs": [{"name": "scores"}]}
    deletion = {"request_id": name, "records": ["row-%d" % random.randrange(4000)], "subjects": [], "due": random.choice([None, "2026-12-01T00:00:00Z"])}
    dsr = {"regulation": "gdpr", "subject_request_id": str(uuid.uuid4()), "subject_request_type": "erasure", "submitted_time": "2026-11-01T00:00:00Z", "subject_identities": [{"identity_type": "controller_customer_id", "identity_value": "owner-%04d" % random.randrange(4000), "identity_format": "raw"}],
           "status_callback_urls": ["https://127.0.0.1:9/x"], "extensions": {}}
    confirmation = {"follower": "%032x" % random.randrange(3), "version": random.choice(["", "0.1.x"]), "epoch": random.randrange(9), "erased": 0, "leaving": random.random() < 0.5}
    audit = {"scope": "lineages", "checkpoints": [], "receipts": [], "absent_records": ["row-1"]}
    return random.choice([
        ("POST", "/predict", question), ("POST", "/predict", question), ("POST", "/v2/models/vit-mnist/infer", infer), ("POST", "/v2/models/vit-mnist/infer", infer), ("POST", "/deletions", deletion), ("POST", "/deletions", deletion),
        ("GET", f"/deletions/{name}", None), ("DELETE", f"/deletions/{name}", None), ("GET", f"/deletions/{name}/receipt", None), ("POST", f"/deletions/{name}/release", None), ("GET", "/deletions?search=t&before=9", None),
        ("POST", "/v2/requests", dsr), ("GET", f"/v2/requests/{name}", None), ("DELETE", f"/v2/requests/{name}", None), ("GET", "/v2/discovery", None), ("POST", "/opengdpr_requests", dsr), ("POST", "/audits", audit), ("GET", "/audits/x", None),
        ("GET", "/ledger/checkpoint", None), ("GET", "/ledger/tile/0/000.p/1", None), ("GET", "/ledger/tile/entries/000.p/3", None), ("GET", "/metrics", None), ("GET", "/readyz", None), ("GET", "/v2/models/vit-mnist", None), ("GET", "/repair", None), ("POST", "/repair/pause", None), ("POST", "/repair/resume", None),
        ("GET", "/replica/state?after=x&wait_ms=1", None), ("GET", "/replica/stages/%064x?follower=%032x" % (random.randrange(9), random.randrange(3)), None), ("POST", "/replica/confirm", confirmation),
        ("GET", "/ui", None), ("GET", "/ui?search=%27&before=3", None), ("POST", "/ui/sign-in", b"token=x"), ("POST", "/ui/repair", b"wish=pause"), ("POST", "/ui/ask", b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\n1,2\r\n--b--\r\n'),
    ])


def good_texts(random):
    """Requests for texts that are right."""
    choosing = {"max_tokens": random.choice([1, 3, 20]), "temperature": random.choice([0, 0.7, 1]), "top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": -0.5, "logit_bias": {"5": 1.5}, "seed": random.randrange(9), "stop": random.choice(["x", ["a", "one"]]), "stop_token_ids": [7], "ignore_eos": True, "stream": random.random() < 0.4}
    if choosing["stream"]:
        choosing["stream_options"] = {"include_usage": True}
    completion = {"model": "llama-tiny", "prompt": random.choice(["The word one", ["a", "b"], [5, 6], [[5], [6, 7]]]), "echo": True, "logprobs": 2, **choosing}
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one?"}, {"role": "assistant", "content": "o"}, {"role": "user", "content": "two?"}], "logprobs": True, "top_logprobs": 2, **choosing}
    deletion = {"request_id": "ticket-%d" % random.randrange(40), "subjects": ["owner-%04d" % random.randrange(200)], "records": []}
    return random.choice([("POST", "/v1/completions", completion)] * 4 + [("POST", "/v1/chat/completions", chat)] * 4 + [("GET", "/v1/models", None), ("GET", "/v1/models/llama-tiny", None), ("POST", "/predict", {"inputs": "one"}), ("POST", "/deletions", deletion), ("GET", "/metrics", None)])


def changed_value(random, value, depth=0):
    """A part of a JSON value replaced, left out, doubled or renamed."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        action = random.random()
        if action < 0.1:
            return {name: of for name, of in value.items() if name != key}
        if action < 0.2:
            return {**value, random.choice(["x", "", key + "s"]): random.choice(VALUES)}
        return {**value, key: changed_value(random, value[key], depth + 1)}
    if isinstance(value, list) and value and random.random() < 0.7:
        index = random.randrange(len(value))
        action = random.random()
        if action < 0.2:
            return value[:index] + value[index + 1 :]
        if action < 0.3:
            return value * random.choice([2, 40])
        return value[:index] + [changed_value(random, value[index], depth + 1)] + value[index + 1 :]
    return random.choice(VALUES)


def changed_bytes(random, data):
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        at = random.randrange(len(data) + 1)
        action = random.random()
        if action < 0.4 and at < len(data):
            data[at] = random.randrange(256)
        elif action < 0.6:
            del data[at : at + random.choice([1, 4, 100])]
        elif action < 0.8:
            data[at:at] = bytes(random.randrange(256) for _ in range(random.choice([1, 4])))
        else:
            data[at:at] = data[: random.choice([1, 10, 100])]
    return bytes(data)


def request(random, token, source):
    method, path, body = source(random)
    lines = ["host: localhost", f"authorization: Bearer {token}"]
    kind = random.random()
    if isinstance(body, bytes):
        data = body
        lines.append("content-type: " + ("multipart/form-data; boundary=b" if path == "/ui/ask" else "application/x-www-form-urlencoded"))
    elif body is None:
        data = b""
    else:
        for _ in range(random.choice([0, 1, 1, 2, 3])):
            body = changed_value(random, body)
        try:
            data = json.dumps(body, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
        except ValueError:
            data = b"null"
        lines.append("content-type: application/json")
    if kind < 0.3:
        data = changed_bytes(random, data)
    if kind > 0.8:
        lines += random.sample(HEADERS, random.choice([1, 2, 3]))
    if 0.3 < kind < 0.4:
        path = changed_bytes(random, path.encode()).replace(b" ", b"%20").decode("latin-1")
    if 0.4 < kind < 0.45:
        method = random.choice(["GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "OPTIONS", "TRACE", "X", ""])
    if data or random.random() < 0.5:
        lines.append(f"content-length: {len(data)}")
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1", "replace")
    if 0.45 < kind < 0.5:
        head = changed_bytes(random, head)
    return method, head + data


def main():
    program, number, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000, int(sys.argv[3]) if len(sys.argv) > 3 else 1
    source, statuses, odd = random.Random(seed), collections.Counter(), []
    requests, options = good, {"opendsr": opendsr_section, "records": 4000 if number > 20000 else 600}
    if sys.argv[4:] == ["texts"]:
        requests, options = good_texts, {"folder": Path(tempfile.mkdtemp(prefix="s3t-fuzz-"))}
        make_texts.make(program, options["folder"])
    with Server(program, options=["--repair", "--read-seconds", "0.5", "--batch-minutes", "1", "--lease-seconds", "0.5"], **options) as server:
        token, stream, start = server.tokens["fuzz"], None, time.monotonic()
        for index in range(number):
            method, data = request(source, token, requests)
            if stream is None:
                stream = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            try:
                stream.sendall(data)
                response = http.client.HTTPResponse(stream, method=method)
                response.begin()
                while response.status == 100:
                    response.begin()
                # The page's events have no end; those of texts do, and the connection goes on behind it.
                endless = response.headers.get("content-type", "").startswith("text/event-stream") and requests is good
                body = b"" if endless else response.read()
                statuses[response.status] += 1
                if response.status not in DOCUMENTED:
                    odd.append((response.status, body[:200], data[:600]))
                if response.status in (400, 408, 413, 431) or response.will_close or endless:
                    stream.close()
                    stream = None
            except TimeoutError:
                odd.append(("no answer in 20 s", b"", data[:600]))
                stream.close()
                stream = None
            except (OSError, http.client.HTTPException, ValueError) as error:
                statuses[type(error).__name__] += 1
                stream.close()
                stream = None
            if server.process.poll() is not None:
                odd.append(("the server is gone", b"", data[:600]))
                break
        seconds = time.monotonic() - start
        print(f"{number} requests in {seconds:.0f} s, seed {seed}: {dict(statuses.most_common())}; memory {server.memory()} kB")
        stopped = server.stop()
        logged = server.logged()
        for line in logged.splitlines():
            if "panicked" in line:
                odd.append(("panic", line.encode(), b""))
    for status, body, data in odd[:20]:
        print(f"FAILED {status}: {body!r}\n   {data!r}")
    print(f"{len(odd)} failures; ended with {stopped}")
    sys.exit(1 if odd or stopped != 0 else 0)


if __name__ == "__main__":
    main()
