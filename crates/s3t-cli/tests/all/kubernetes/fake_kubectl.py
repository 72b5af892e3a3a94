#!/usr/bin/env python3
"""A stand-in for `kubectl` and the cluster behind it, for tests where there is no Kubernetes: NOT Kubernetes.

It takes the calls that the executor makes, keeps objects in the folder FAKE_CLUSTER, and runs each Pod as a process of this machine, without
its image. Like the Job controller it replaces Pods that fail, up to `backoffLimit`, and heeds `podFailurePolicy`; it looks at its Pods when it is
called. With the calls in a file `hangs` in the folder it hangs after it has done what it was asked for; `fake evict POD` disturbs a Pod.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

folder = Path(os.environ["FAKE_CLUSTER"])
objects = folder / "objects"


def path(kind, name):
    return objects / kind / f"{name}.json"


def read(kind):
    return [json.loads(file.read_text()) for file in sorted((objects / kind).glob("*.json"))]


def write(item):
    file = path(item["kind"], item["metadata"]["name"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(item))


def pods_of(job):
    return [pod for pod in read("Pod") if pod["metadata"]["labels"]["s3t-job"] == job["metadata"]["name"]]


def running(pod):
    return pod["status"]["phase"] == "Running"


def end(pod):
    try:
        os.killpg(pod["fake"]["process"], signal.SIGKILL)
    except ProcessLookupError:
        pass


def start(job, index):
    """Starts a Pod: its command with its variables, and what it says in a log."""
    template = job["spec"]["template"]
    name = f"{job['metadata']['name']}-{index}-{secrets.token_hex(3)[:5]}"
    container = template["spec"]["containers"][0]
    variables = {"PATH": os.environ["PATH"], "FAKE_CLUSTER": str(folder), "JOB_COMPLETION_INDEX": str(index)}
    for variable in container["env"]:
        source = variable["valueFrom"]
        if "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            variables[variable["name"]] = name
        else:
            secret = json.loads(path("Secret", source["secretKeyRef"]["name"]).read_text())
            variables[variable["name"]] = secret["stringData"][source["secretKeyRef"]["key"]]
    arguments = container["command"] + container["args"]
    for variable, value in variables.items():
        arguments = [argument.replace(f"$({variable})", value) for argument in arguments]
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    with open(logs / f"{name}.log", "ab") as log:
        note = ["sh", "-c", '"$@"; echo $? > "$0.new" && mv "$0.new" "$0"', str(logs / f"{name}.end"), *arguments]
        process = subprocess.Popen(note, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    write({"kind": "Pod", "metadata": metadata, "spec": {}, "status": {"phase": "Running"}, "fake": {"process": process.pid, "index": index}})


def look():
    """The work of the kubelet and the Job controller."""
    for pod in filter(running, read("Pod")):
        file = folder / "logs" / f"{pod['metadata']['name']}.end"
        if file.exists():
            code = int(file.read_text())
            reason = "Completed" if code == 0 else "Error"
            pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
            pod["status"]["containerStatuses"] = [{"name": "worker", "state": {"terminated": {"reason": reason, "exitCode": code}}}]
            if (folder / f"evicted-{pod['metadata']['name']}").exists():
                pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
            write(pod)
    for job in read("Job"):
        status = job.setdefault("status", {})
        if "conditions" in status:
            continue
        pods = pods_of(job)
        done = {pod["fake"]["index"] for pod in pods if pod["status"]["phase"] == "Succeeded"}
        status["succeeded"] = len(done)
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed" and "conditions" not in pod["status"]]
        codes = [pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for pod in failed]
        rules = job["spec"]["podFailurePolicy"]["rules"]
        fatal = {code for rule in rules if rule["action"] == "FailJob" for code in rule["onExitCodes"]["values"]}
        reason = None
        if fatal.intersection(codes):
            reason, message = "PodFailurePolicy", "a container failed with an exit code of the policy"
        elif len(failed) > job["spec"]["backoffLimit"]:
            reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if reason:
            status["conditions"] = [{"type": "Failed", "status": "True", "reason": reason, "message": message}]
            for pod in filter(running, pods):
                end(pod)
        elif len(done) == job["spec"]["completions"]:
            status["conditions"] = [{"type": "Complete", "status": "True", "reason": "", "message": ""}]
        else:
            there = done | {pod["fake"]["index"] for pod in pods if running(pod)}
            for index in range(job["spec"]["completions"]):
                if index not in there:
                    start(job, index)
        write(job)


def option(name):
    return next((argument.split("=", 1)[1] for argument in sys.argv if argument.startswith(f"--{name}=")), None)


def selected(kind):
    words = [sys.argv[i + 1] for i, word in enumerate(sys.argv[:-1]) if word in ("--selector", "-l")]
    label, value = words[0].split("=")
    return [item for item in read(kind) if item["metadata"]["labels"].get(label) == value]


folder.mkdir(exist_ok=True)
with open(folder / "lock", "w") as lock, open(folder / "calls", "a") as calls:
    fcntl.flock(lock, fcntl.LOCK_EX)
    calls.write(" ".join(sys.argv[1:]) + "\n")
    if option("context") == "nowhere":
        sys.exit('error: context "nowhere" does not exist')
    match sys.argv[1:3]:
        case ["apply", _]:
            file = option("filename") or sys.argv[sys.argv.index("-f") + 1]
            text = sys.stdin.read() if file == "-" else Path(file).read_text()
            for document in text.split("\n---\n")[1:]:
                item = json.loads(document)
                if not path(item["kind"], item["metadata"]["name"]).exists():
                    write(item)
            look()
        case ["get", "jobs,pods"]:
            look()
            print(json.dumps({"kind": "List", "items": selected("Job") + selected("Pod")}))
        case ["delete", kinds]:
            for item in selected("Pod"):
                end(item)
                path("Pod", item["metadata"]["name"]).unlink()
            for kind in ["Job", "Secret"]:
                assert kind.lower() + "s" in kinds
                for item in selected(kind):
                    path(kind, item["metadata"]["name"]).unlink()
        case ["logs", pod]:
            print((folder / "logs" / f"{pod}.log").read_text(), end="")
        case ["fake", "evict"]:
            (folder / f"evicted-{sys.argv[3]}").touch()
            end(json.loads(path("Pod", sys.argv[3]).read_text()))
            # The process of the exit code went with it.
            (folder / "logs" / f"{sys.argv[3]}.end").write_text("137\n")
        case ["fake", "stop"]:
            for pod in filter(running, read("Pod")):
                end(pod)
            shutil.rmtree(objects, ignore_errors=True)
        case words:
            sys.exit(f"error: the stand-in knows no {words}")
hangs = folder / "hangs"
if hangs.exists() and sys.argv[1] in hangs.read_text().split():
    time.sleep(600)
