"""Training by two workers that join over TLS beside training in one process with two jobs: the 18 stages of the quickstart.

    python cluster.py S3T [--rounds N] [--workers N] [--epochs N] [--limit RATIO] [--json]

S3T is our program (`target/release/s3t`). The two ways are run in turn, each into a new store; the whole command is timed, from its start to
its end, so the workers' start and their loading of the model are in it. Workers are started, one core each, when the invitation is there.
Prints the median seconds of each way and their ratio; with `--limit` it fails above that ratio.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def pipeline(args, folder, executor):
    with open(f"{ROOT}/examples/quickstart.toml") as file:
        text = file.read()
    text = text.replace('"../data', f'"{ROOT}/data').replace('"../stores/quickstart"', f'"{folder}/store"')
    if args.epochs:
        text = text.replace("epochs = 5", f"epochs = {args.epochs}")
    assert "[run]" in text and f"{folder}/store" in text
    text = text.replace("[run]", f"[resources]\njobs = {args.workers}\n\n{executor}[run]")
    path = f"{folder}/pipeline.toml"
    with open(path, "w") as file:
        file.write(text)
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train(args, is_elsewhere):
    """Seconds of the command, those that it says training took, and processor seconds of all processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(prefix="s3t-cluster-") as folder:
        executor, invitation, port = "", f"{folder}/invitation", free_port()
        if is_elsewhere:
            executor = (f'[executor]\ntype = "network"\nworkers = {args.workers}\nlisten = "127.0.0.1:{port}"\n'
                        f'invitation = "{invitation}"\n\n')
        path = pipeline(args, folder, executor)
        start = time.perf_counter()
        owner = subprocess.Popen([args.s3t, "train", path, "--json"], stdout=subprocess.PIPE,
                                 stderr=open(f"{folder}/said", "w"))
        workers = []
        while is_elsewhere and not workers and owner.poll() is None:
            if os.path.exists(invitation) and os.path.getsize(invitation):
                command = [args.s3t, "worker", "--connect", f"127.0.0.1:{port}", "--invitation", invitation, "--cores", "1"]
                workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(args.workers)]
            time.sleep(0.002)
        answer = json.loads(owner.communicate()[0])
        seconds = time.perf_counter() - start
        for worker in workers:
            worker.wait()
        if owner.returncode:
            sys.exit(open(f"{folder}/said").read())
        report = answer["training"]["report"]
        assert report["trained"] == report["planned"] == 18, report
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, answer["training"]["seconds"], processor


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("s3t")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--limit", type=float)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.s3t = os.path.abspath(args.s3t)
    found = {False: [], True: []}
    for _ in range(args.rounds):
        for is_elsewhere in (False, True):
            found[is_elsewhere].append(train(args, is_elsewhere))
    median = {way: [statistics.median(run[at] for run in runs) for at in range(3)] for way, runs in found.items()}
    ratio, ratio_of_training, ratio_of_processors = (median[True][at] / median[False][at] for at in range(3))
    if args.json:
        print(json.dumps({"in_process": found[False], "workers": found[True], "ratio": ratio, "training": ratio_of_training,
                          "processor": ratio_of_processors}))
    else:
        for way, name in ((False, f"in one process, {args.workers} jobs"), (True, f"{args.workers} workers over TLS")):
            runs = ", ".join(f"{run[0]:.2f}" for run in found[way])
            print(f"{name}: {median[way][0]:.2f} s, of which training {median[way][1]:.2f} s; processor {median[way][2]:.2f} s ({runs})")
        print(f"ratio {ratio:.3f}, of training {ratio_of_training:.3f}, of processor time {ratio_of_processors:.3f}")
    if args.limit and ratio > args.limit:
        sys.exit(f"above {args.limit}")


main()
