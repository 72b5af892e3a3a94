"""Choosing sequences by matching and simulating request streams, in Python beside `s3t`.

    benches/peer/sequences.sh

The Python side does what the published description and its reference implementation do: the score of every prefix is
computed from its start, scipy solves the assignment, a request draws a slice and cuts the lists of its shard. Both
sides run in turn; times are taken inside the processes, so starting them does not count.
"""
import json
import random
import statistics
import subprocess
import sys
import time

import numpy as np
from scipy.optimize import linear_sum_assignment

S3T = sys.argv[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5


def score(prefix, prior, t):
    total, hit = 0.0, 0.0
    for i, s in enumerate(prefix, start=1):
        hit += prior[s]
        total += i * (1.0 - hit) ** t
    return total


def bms(prior, t=100):
    slices = len(prior)
    sequences = [[s] for s in range(slices)]
    for _ in range(slices - 1):
        weights = np.full((slices, slices), -1e9)
        for row, sequence in enumerate(sequences):
            for s in range(slices):
                if s not in sequence:
                    weights[row, s] = score(sequence + [s], prior, t)
        _, columns = linear_sum_assignment(weights, maximize=True)
        sequences = [sequence + [int(s)] for sequence, s in zip(sequences, columns)]
    return sorted(sequences, key=lambda sequence: score(sequence, prior, t), reverse=True)


def stream(shards, slices, budget, rng):
    order = list(range(slices))
    live = [[order[b:] + order[:b] for b in range(budget)] for _ in range(shards)]
    requests = 0
    while any(live):
        requests += 1
        shard, s = divmod(rng.randrange(shards * slices), slices)
        cut = []
        for sequence in live[shard]:
            if s in sequence:
                sequence = sequence[: sequence.index(s)]
            if sequence:
                cut.append(sequence)
        live[shard] = cut
    return requests


def ours(*args):
    run = subprocess.run([S3T, *args, "--json"], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def report(name, python, rust, unit, scale):
    python, rust = statistics.median(python), statistics.median(rust)
    print(f"{name:42} {python * scale:12.4g} {rust * scale:12.4g} {unit:4} {python / rust:8.0f}x", flush=True)


print(f"{'':42} {'Python':>12} {'s3t':>12} {'':4} {'ratio':>9}")
generator = np.random.default_rng(0)
for slices in (8, 16, 32, 64):
    weights = generator.dirichlet(np.ones(slices)) * 0.999
    prior = [round(float(weight), 9) for weight in weights]
    text = ",".join(f"{weight:.9f}" for weight in prior)
    python, rust = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = bms(prior)
        python.append(time.perf_counter() - start)
        answer = ours("compare-sequences", "--shards", "1", "--slices", str(slices), "--budget", str(slices),
                      "--prior", text, "--strategies", "bms", "--trials", "1")["strategies"][0]
        rust.append(answer["seconds"])
        total = sum(score(sequence, prior, 100) for sequence in found)
        # Ties may be broken otherwise, which changes what is matched after them.
        assert abs(answer["score"] - total) <= 0.02 * total, (answer["score"], total)
    report(f"bms, L = B = {slices}", python, rust, "ms", 1e3)

for budget in (1, 3, 6):
    python, rust = [], []
    rng = random.Random(budget)
    for _ in range(ROUNDS):
        count = 2000
        start = time.perf_counter()
        mean = statistics.mean(stream(5, 6, budget, rng) for _ in range(count))
        python.append((time.perf_counter() - start) / count)
        answer = ours("simulate", "--shards", "5", "--slices", "6", "--budget", str(budget), "--trials", "100000")
        rust.append(answer["seconds"] / 100_000)
        assert abs(mean - answer["mean_deletions"]) < 6, (mean, answer["mean_deletions"])
    report(f"one stream, m = 5, L = 6, B = {budget} (100,000)", python, rust, "us", 1e6)

seconds = [ours("advise", "--records", "1000000")["seconds"] for _ in range(ROUNDS)]
print(f"{'planner, 1 million records, ViT-Base':42} {'':12} {statistics.median(seconds) * 1e3:12.4g} ms")
large = ["advise", "--records", "1000000", "--goal", "depth", "--after", "200", "--blocks", "80", "--hidden", "8192",
         "--intermediate", "28672", "--tokens", "512", "--max-shards", "1000"]
seconds = [ours(*large)["seconds"] for _ in range(2)]
print(f"{'planner, depth, 80 blocks, 1,000 shards':42} {'':12} {statistics.median(seconds) * 1e3:12.4g} ms")
