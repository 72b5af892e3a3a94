"""A server on a store of its own, with tokens and a log, for tests."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import make_store

ROLES = {"ask": ["ask"], "delete": ["delete"], "audit": ["audit"], "operate": ["operate"], "all": ["ask", "delete", "audit", "operate"], "fuzz": ["ask", "delete", "audit", "operate", "follow"]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server. `options` are those of `s3t serve`; `section` is appended to the pipeline file, and what
    `opendsr` returns for the folder."""

    def __init__(self, program, options=(), section="", records=600, folder=None, tokens=True, opendsr=None):
        self.program = str(Path(program).resolve())
        self.folder = Path(folder or tempfile.mkdtemp(prefix="s3t-clients-"))
        self.pipeline = self.folder / "pipeline.toml"
        if not self.pipeline.exists():
            make_store.make(self.program, self.folder, records)
        if opendsr:
            section += opendsr(self.folder)
        if section:
            self.pipeline.write_text(self.pipeline.read_text() + section)
        self.options = list(options)
        self.tokens = {}
        if tokens:
            self.tokens = {name: self.token(name, roles) for name, roles in ROLES.items()}
        self.log = self.folder / "log"
        self.start()

    def s3t(self, *arguments, check=True):
        return subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, check=check)

    def token(self, name, roles, *more):
        """Makes a token; its secret is on standard output, alone on its line."""
        roles = [part for role in roles for part in ("--role", role)]
        printed = self.s3t("token", "create", self.pipeline, "--name", name, *roles, *more).stdout
        return next(word for word in printed.split() if word.startswith("s3t_"))

    def start(self, wait=30):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = ["serve", str(self.pipeline), "--address", f"127.0.0.1:{self.port}", "--stop-delay-seconds", "0"]
        arguments += ["--log-file", str(self.log), "--log", "info", *self.options]
        self.errors = open(self.folder / "errors", "ab")
        begin = time.monotonic()
        self.process = subprocess.Popen([self.program, *arguments], stdout=subprocess.DEVNULL, stderr=self.errors)
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=1):
                    break
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() - begin > wait:
                raise SystemExit(f"the server did not start: {(self.folder / 'errors').read_text()}")
            time.sleep(0.02)
        self.ready_seconds = time.monotonic() - begin

    def memory(self):
        """The resident memory in kB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.returncode

    def headers(self, role="all", **more):
        return {"authorization": f"Bearer {self.tokens[role]}", **more}

    def logged(self):
        """All that was logged."""
        texts = [path.read_text(errors="replace") for path in (self.log, self.folder / "errors") if path.exists()]
        return "\n".join(texts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.errors.close()


def features(seed=0):
    """A picture of clothing as numbers."""
    return [(seed * 31 + index * 37) % 255 for index in range(784)]


def program_of(arguments):
    if len(arguments) < 2 or not os.access(arguments[1], os.X_OK):
        raise SystemExit(f"usage: {Path(arguments[0]).name} PROGRAM")
    return arguments[1]
