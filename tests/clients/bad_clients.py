"""Clients that are slow, huge, broken, forged or nosy: each has its answer, memory stays bounded, and the log names nobody.

    bad_clients.py PROGRAM [IDLE_CONNECTIONS]
"""

import base64
import gzip
import io
import json
import resource
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
import zlib

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from datetime import datetime, timedelta, timezone

from world import ROLES, Server, features

READ_SECONDS = 2.0
MEMORY_KB = 400_000
problems = []


def check(name, holds, found=""):
    print(f"{'ok' if holds else 'FAILED'} {name}{'' if holds else f': {found}'}", flush=True)
    if not holds:
        problems.append(name)


def connect(server, timeout=READ_SECONDS + 8):
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout)


def answer(stream, limit=65536):
    """What comes until the other side closes or falls silent; `None` in place of the end if it stays open."""
    text = b""
    try:
        while len(text) < limit:
            more = stream.recv(65536)
            if not more:
                return text
            text += more
            if b"\r\n\r\n" in text:
                head, _, body = text.partition(b"\r\n\r\n")
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:") and len(body) >= int(line.split(b":")[1]):
                        return text
    except TimeoutError:
        return text
    except ConnectionError:
        return text
    return text


def status(text):
    return int(text.split(b" ")[1]) if text.startswith(b"HTTP/") else None


def raw(server, data, shut=False):
    with connect(server) as stream:
        try:
            stream.sendall(data)
            if shut:
                stream.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        return answer(stream)


def head(server, method, path, *lines, role="all"):
    token = f"authorization: Bearer {server.tokens[role]}"
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", token, *lines, "", ""]).encode()


QUESTION = json.dumps({"inputs": {"features": features()}}).encode()


def is_served(server, seconds=2.0):
    start = time.monotonic()
    try:
        asked = requests.post(f"{server.url}/predict", headers=server.headers("ask"), data=QUESTION, timeout=30)
        return asked.status_code == 200 and time.monotonic() - start < seconds, (asked.status_code, time.monotonic() - start)
    except requests.RequestException as error:
        return False, error


def slow(server):
    drip = [connect(server) for _ in range(50)]
    start = time.monotonic()
    for stream in drip:
        stream.setblocking(False)
        stream.send(b"POST /predict HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
    alive = set(drip)
    served = is_served(server)
    while alive and time.monotonic() - start < READ_SECONDS + 5:
        time.sleep(0.1)
        for stream in list(alive):
            try:
                stream.send(b"a")
                if select.select([stream], [], [], 0)[0] and stream.recv(4096) == b"":
                    alive.discard(stream)
            except OSError:
                alive.discard(stream)
    check("slow heads are closed after the time for a head", not alive and time.monotonic() - start < READ_SECONDS + 2, f"{len(alive)} open after {time.monotonic() - start:.1f} s")
    check("others are served meanwhile", *served)
    for stream in drip:
        stream.close()
    start = time.monotonic()
    text = raw(server, head(server, "POST", "/predict", "content-type: application/json", "content-length: 1000") + b'{"inputs"')
    check("a body that stops is refused with 400 after the time for a body", status(text) == 400 and time.monotonic() - start < READ_SECONDS + 2, (text[:200], time.monotonic() - start))
    stream = connect(server)
    stream.sendall(head(server, "POST", "/predict", "content-type: application/json", "transfer-encoding: chunked"))
    start, text = time.monotonic(), b""
    stream.settimeout(0.3)
    while not text and time.monotonic() - start < READ_SECONDS + 5:
        try:
            stream.sendall(b"1\r\na\r\n")
            text = stream.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            break
    check("a body that drips is refused with 400 after the time for a body", status(text) == 400, (text[:200], time.monotonic() - start))
    stream.close()


def half_closed(server):
    request = head(server, "POST", "/predict", "content-type: application/json", f"content-length: {len(QUESTION)}") + QUESTION
    text = raw(server, request, shut=True)
    check("a caller that closes its half after the request has an answer, or the connection's end", status(text) in (200, None), text[:200])
    print(f"   half-closed: {status(text)}")
    text = raw(server, head(server, "POST", "/predict", "content-length: 1000") + b"{", shut=True)
    check("a body that ends early has 400 or the connection's end", status(text) in (400, None), text[:200])
    for _ in range(200):
        stream = connect(server)
        stream.sendall(request)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        stream.close()
    check("others are served after 200 that reset", *is_served(server, 5))


def huge(server):
    before = server.memory()
    cases = [
        ("a head of 1 MB", head(server, "GET", "/deletions", "x-large: " + "a" * 1_000_000), {431, None}),
        ("200 headers", head(server, "GET", "/deletions", *[f"x-{number}: 1" for number in range(200)]), {431}),
        ("a path of 70 kB", head(server, "GET", "/" + "a" * 70_000), {414, 431}),
        ("a path of 60 kB", head(server, "GET", "/" + "a" * 60_000), {404, 414, 431}),
        ("a length of 10 GB", head(server, "POST", "/predict", "content-length: 10000000000"), {413}),
        ("a length beyond 64 bits", head(server, "POST", "/predict", "content-length: 99999999999999999999999"), {400}),
        ("two lengths", head(server, "POST", "/predict", "content-length: 5", "content-length: 6") + b"aaaaaa", {400}),
        ("a length and chunks", head(server, "POST", "/predict", "content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\n", {400}),
        ("a negative length", head(server, "POST", "/predict", "content-length: -5"), {400}),
        ("chunks of no size", head(server, "POST", "/predict", "transfer-encoding: chunked") + b"zz\r\n", {400}),
        ("chunks of 3 MB", head(server, "POST", "/predict", "transfer-encoding: chunked") + b"100000\r\n" + b"a" * (1 << 20) + b"\r\n100000\r\n" + b"a" * (1 << 20) + b"\r\n100000\r\n" + b"a" * (1 << 20) + b"\r\n0\r\n\r\n", {413}),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, {400, None}),
        ("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505, None}),
        ("a line feed in a header", head(server, "GET", "/deletions", "x-a: b\x00c"), {400}),
    ]
    for name, data, wanted in cases:
        text = raw(server, data)
        check(f"{name}: {sorted(map(str, wanted))}", status(text) in wanted, text[:200])
    threads = [threading.Thread(target=lambda: raw(server, head(server, "POST", "/predict", f"content-length: {2 << 20}") + b"[" * (2 << 20))) for _ in range(64)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    check(f"memory after 64 bodies of 2 MB at once: {before} kB before, {server.memory()} kB now", server.memory() < MEMORY_KB)


def broken(server):
    post = lambda data, **headers: requests.post(f"{server.url}/predict", headers=server.headers("ask", **{k.replace("_", "-"): v for k, v in headers.items()}), data=data, timeout=30)
    json_type = {"content_type": "application/json"}
    for name, data in [
        ("no JSON", b"{"), ("a byte that is no UTF-8", b'{"inputs": {"text": "\xff"}}'), ("half a surrogate", b'{"inputs": {"text": "\\ud800"}}'),
        ("100,000 lists in each other", b'{"inputs":' + b"[" * 100_000), ("NaN", b'{"inputs": {"features": [NaN]}}'), ("an empty body", b""),
        ("UTF-16", '{"inputs": 1}'.encode("utf-16")), ("a key twice", b'{"inputs": 1, "inputs": 2}'), ("an unknown key", b'{"inputs": {"features": [1]}, "x": 1}'),
        ("nothing asked", b'{"inputs": []}'), ("null", b"null"), ("a number too large", b'{"inputs": {"features": [1e999]}}'),
    ]:
        made = post(data, **json_type)
        check(f"{name}: 400 or 422 with words", made.status_code in (400, 422) and set(made.json()) == {"error", "error_type"}, (made.status_code, made.text[:200]))
    many = {"inputs": [{"features": features()}] * 33}
    made = post(json.dumps(many), **json_type)
    check("33 inputs: 413", made.status_code == 413, made.text[:200])
    bomb = gzip.compress(b" " * (200 << 20), 9)
    before = server.memory()
    for encoding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        made = post(bomb, content_encoding=encoding, **json_type)
        check(f"200 MB in {len(bomb)} bytes as {encoding}: 415", made.status_code == 415, made.text[:200])
    check("an XML body: 415", post(b"<a/>", content_type="application/xml").status_code == 415)

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = 30_000
    lines = zlib.compress(b"\0" * (side * (side + 1)), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side.to_bytes(4, "big") * 2 + b"\x08\0\0\0\0") + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    made = post(png, content_type="image/png")
    check(f"a picture of 30,000 x 30,000 in {len(png)} bytes: 4xx", made.status_code in (413, 422, 400), made.text[:200])
    made = post(json.dumps({"inputs": {"image": base64.b64encode(png).decode()}}), **json_type)
    check("the same in base64: 4xx", made.status_code in (413, 422, 400), made.text[:200])
    check(f"memory after the bombs: {before} kB before, {server.memory()} kB now", server.memory() < MEMORY_KB)
    for data, what in [(b"\x89PNG\r\n\x1a\n", "the beginning of a PNG"), (b"\xff\xd8\xff\xe0", "the beginning of a JPEG"), (b"GIF89a", "a GIF")]:
        made = post(data, content_type="image/png")
        check(f"{what}: 4xx", made.status_code in (400, 415, 422), made.text[:200])


def nosy(server):
    """Wrong roles, guessed tokens, other people's requests, pages from elsewhere."""
    routes = [
        ("POST", "/predict", {"ask"}), ("POST", "/v2/models/vit-mnist/infer", {"ask"}), ("POST", "/deletions", {"delete"}),
        ("GET", "/deletions", {"delete", "audit", "operate"}), ("GET", "/deletions/x/receipt", {"audit", "operate"}),
        ("DELETE", "/deletions/x", {"delete"}), ("POST", "/deletions/x/release", {"operate"}), ("POST", "/audits", {"audit", "operate"}),
        ("GET", "/audits/x", {"audit", "operate"}), ("GET", "/repair", {"audit", "operate"}), ("POST", "/repair/pause", {"operate"}),
        ("POST", "/repair/run", {"operate"}), ("POST", "/v2/requests", {"delete"}), ("GET", "/v2/requests/x", {"delete"}),
    ]
    wrong = []
    for method, path, may in routes:
        for role in server.tokens:
            code = requests.request(method, server.url + path, headers=server.headers(role, **{"content-type": "application/json"}), data=b"{").status_code
            if (code == 403) == bool(may & set(ROLES[role])):
                wrong.append((method, path, role, code))
        code = requests.request(method, server.url + path).status_code
        if code != 401:
            wrong.append((method, path, "no token", code))
    check("each role has its routes and no other", not wrong, wrong)
    requests.post(f"{server.url}/repair/resume", headers=server.headers())
    for header in ["Bearer", "Bearer ", "Basic YTpi", "bearer x", "Bearer s3t_", "Bearer s3t_" + "a" * 200, "Bearer s3t_000000000000_aaaa", "Bearer \xff"]:
        code = requests.get(f"{server.url}/deletions", headers={"authorization": header.encode("latin-1")}).status_code
        check(f"the header `{header[:24]}`: 401", code == 401, code)
    known = server.tokens["operate"].rsplit("_", 1)[0] if server.tokens["operate"].count("_") == 2 else "_".join(server.tokens["operate"].split("_")[:2])
    start = time.monotonic()
    codes = [requests.get(f"{server.url}/deletions", headers={"authorization": f"Bearer {known}_{guess:043}"}).status_code for guess in range(300)]
    seconds = time.monotonic() - start
    check("guesses at a token: 401, and 429 beyond 5 a second", set(codes) == {401, 429} and codes.count(401) <= 5 * (seconds + 2), (codes.count(401), codes.count(429), seconds))
    check("its owner is let in meanwhile", requests.get(f"{server.url}/deletions", headers=server.headers("all")).status_code == 200)
    made = requests.post(f"{server.url}/deletions", headers=server.headers("delete"), json={"request_id": "mine", "subjects": ["nobody-at-all"]})
    check("an unknown name is not told apart for `delete`", made.status_code == 201 and "records" not in made.json(), made.text)
    other = server.token("other", ["delete"])
    time.sleep(3)
    auth = {"authorization": f"Bearer {other}"}
    codes = [requests.get(f"{server.url}/deletions/mine", headers=auth).status_code, requests.delete(f"{server.url}/deletions/mine", headers=auth).status_code,
             requests.post(f"{server.url}/deletions", headers=auth, json={"request_id": "mine", "subjects": ["nobody-at-all"]}).status_code]
    check("another token's request is not seen, cancelled or repeated", codes == [404, 404, 409], codes)
    session = requests.Session()
    session.post(f"{server.url}/ui/sign-in", data={"token": server.tokens["operate"]})
    check("somebody signed in sees the page", "What answers" in session.get(f"{server.url}/ui").text)
    for origin in ("https://elsewhere.example", "null", f"http://127.0.0.1:{server.port + 1}"):
        made = session.post(f"{server.url}/ui/repair", data="wish=pause", headers={"origin": origin}, allow_redirects=False)
        check(f"a form from {origin[:26]} does nothing", made.headers.get("location") == "/ui/sign-in", (made.status_code, made.headers))
    check("a cookie is no token for the rest", session.get(f"{server.url}/deletions").status_code == 401)
    session.cookies.set("s3t-session", "A" * 43, path="/ui")
    check("a guessed cookie is none", "What answers" not in requests.get(f"{server.url}/ui", cookies={"s3t-session": "A" * 43}).text)
    for path in ["/ledger/tile/../../catalogue.db", "/ledger/tile/entries/%2e%2e/%2e%2e/catalogue.db", "/ledger/tile/0/000%00", "/ui/receipts/..%2f..%2fx", "//", "/%", "/ui/audits/%ff"]:
        text = raw(server, head(server, "GET", path))
        check(f"{path}: 400 or 404", status(text) in (400, 404, 308, 303), text[:150])


def forged(server):
    """OpenDSR: forged, replayed and misdirected requests."""
    def make(**more):
        return {"regulation": "gdpr", "subject_request_id": str(uuid.uuid4()), "subject_request_type": "erasure", "submitted_time": "2026-11-01T00:00:00Z", "api_version": "2.0",
                "subject_identities": [{"identity_type": "controller_customer_id", "identity_value": "owner-0150", "identity_format": "raw"}], **more}

    post = lambda body, role="delete": requests.post(f"{server.url}/v2/requests", headers=server.headers(role), json=body)
    check("without a token: 401", requests.post(f"{server.url}/v2/requests", json=make()).status_code == 401)
    for name, body in [
        ("an id in capitals", make(subject_request_id=str(uuid.uuid4()).upper())), ("an id of version 1", make(subject_request_id=str(uuid.uuid1()))),
        ("access", make(subject_request_type="access")), ("portability", make(subject_request_type="portability")), ("an e-mail address", make(subject_identities=[{"identity_type": "email", "identity_value": "a@b.example", "identity_format": "raw"}])),
        ("no identities", make(subject_identities=[])), ("a callback to another host", make(status_callback_urls=["https://elsewhere.example/x"])),
        ("a callback without TLS", make(status_callback_urls=["http://127.0.0.1:9/x"])), ("a callback with another host behind @", make(status_callback_urls=["https://127.0.0.1:9@elsewhere.example/"])),
        ("a callback with a name before @", make(status_callback_urls=["https://user@127.0.0.1:9/"])),
        ("a callback to the cloud's own address", make(status_callback_urls=["https://169.254.169.254/latest"])), ("six callbacks", make(status_callback_urls=["https://127.0.0.1:9/"] * 6)),
        ("a time that is none", make(submitted_time="yesterday")), ("version 9", make(api_version="9.0")),
    ]:
        made = post(body)
        holds = made.status_code == 400 and "owner-0150" not in made.text and "a@b.example" not in made.text
        check(f"{name}: 400 that names nobody", holds, (made.status_code, made.text[:300]))
    body = make()
    first = post(body)
    check("a request: 201", first.status_code == 201, first.text)
    key = x509.load_pem_x509_certificate(requests.get(f"{server.url}/v2/certificate.pem").content).public_key()
    try:
        key.verify(base64.b64decode(first.headers["x-opendsr-signature"]), first.content, padding.PKCS1v15(), hashes.SHA256())
        check("its signature verifies", True)
    except Exception as error:
        check("its signature verifies", False, repr(error))
    try:
        key.verify(base64.b64decode(first.headers["x-opendsr-signature"]), first.content + b" ", padding.PKCS1v15(), hashes.SHA256())
        check("a changed body does not", False)
    except Exception:
        check("a changed body does not", True)
    again = post(body)
    check("replayed: the same request, done once", again.status_code == 201 and again.json()["received_time"] == first.json()["received_time"], again.text)
    changed = post({**body, "subject_identities": [{"identity_type": "controller_customer_id", "identity_value": "owner-0151", "identity_format": "raw"}]})
    check("replayed with another person: 409 that names nobody", changed.status_code == 409 and "owner-015" not in changed.text, changed.text)
    stolen = post(body, role="all")
    check("replayed by another token", stolen.status_code in (201, 409), stolen.text)
    late = requests.delete(f"{server.url}/v2/requests/{body['subject_request_id']}", headers=server.headers("delete"))
    check("cancelled too late: 409", late.status_code == 409, late.text)
    check("another token's state: 404", requests.get(f"{server.url}/v2/requests/{body['subject_request_id']}", headers=server.headers("all")).status_code == 404)
    unknown = make(subject_identities=[{"identity_type": "controller_customer_id", "identity_value": "nobody-at-all", "identity_format": "raw"}])
    made = post(unknown)
    time.sleep(2)
    states = [requests.get(f"{server.url}/v2/requests/{one['subject_request_id']}", headers=server.headers("delete")).json() for one in (body, unknown)]
    for state in states:
        for name in ("subject_request_id", "expected_completion_time"):
            state.pop(name, None)
    check("a person who is not there looks the same", made.status_code == 201 and states[0] == states[1], states)


def many_idle(server, number):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(number, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, number + 200)), hard))
    before, idle, refused = server.memory(), [], 0
    start = time.monotonic()
    for _ in range(number):
        stream = socket.socket()
        stream.setblocking(False)
        try:
            stream.connect(("127.0.0.1", server.port))
        except BlockingIOError:
            pass
        except OSError:
            refused += 1
        idle.append(stream)
    time.sleep(0.5)
    poll = select.poll()
    [poll.register(stream, select.POLLOUT) for stream in idle]
    connected = sum(1 for _, event in poll.poll(0) if event & select.POLLOUT and not event & (select.POLLERR | select.POLLHUP))
    opened = len(__import__("os").listdir(f"/proc/{server.process.pid}/fd"))
    served = is_served(server, 4 * READ_SECONDS * number / 1024 + 10)
    check(f"{number} idle connections ({connected} established by the kernel, {refused} refused, {opened} files open in the server) opened in {time.monotonic() - start:.1f} s; then a question is answered: {served[1]}", *served)
    check(f"memory with them: {before} kB before, {server.memory()} kB now", server.memory() < MEMORY_KB)
    for stream in idle:
        stream.close()
    time.sleep(1)
    check("served at once when they are gone", *is_served(server, 2))


def opendsr_section(folder):
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dsr.example.com")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(30)).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return '\n[server.opendsr]\ndomain = "dsr.example.com"\ncertificate = "cert.pem"\nkey = "key.pem"\ncallback_hosts = ["127.0.0.1:9"]\n'


def main():
    import tempfile
    from pathlib import Path
    folder = Path(tempfile.mkdtemp(prefix="s3t-bad-"))
    idle = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    with Server(sys.argv[1], folder=folder, section="", options=["--read-seconds", str(READ_SECONDS), "--repair"], tokens=True, opendsr=opendsr_section) as server:
        for part in (slow, half_closed, huge, broken, nosy, forged):
            print(f"-- {part.__name__}")
            part(server)
        print("-- idle")
        many_idle(server, idle)
        check("the server lives", server.process.poll() is None)
        check("it stops in order", server.stop() == 0, server.process.returncode)
        logged = server.logged()
        found = [name for name in ("owner-01", "nobody-at-all", "a@b.example", "elsewhere.example", "mine", *server.tokens.values(), "127.0.0.1:9/", "panicked") if name in logged]
        check("the log holds no subject, request id, address, token or panic", not found, found)
    print(f"{len(problems)} problems: {problems}" if problems else "all as documented")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
