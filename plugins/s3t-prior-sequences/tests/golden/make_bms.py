"""Writes bms.json: bipartite-matching sequence selection with scipy's assignment solver.

    pip install numpy scipy && python make_bms.py

Follows the description of the algorithm (S3T, section 3.3, algorithm 2). Two prefixes over the same
slices always tie from there on, so a case goes up to its first tie. With t = 1 every matching has the same total.
"""
import json
import pathlib

import numpy as np
from scipy.optimize import linear_sum_assignment


def score(prefix, prior, t, kind):
    total, hit = 0.0, 0.0
    for i, s in enumerate(prefix, start=1):
        hit += prior[s]
        total += (i if kind == "weighted" else 1) * max(0.0, 1.0 - hit) ** t
    return total


def solve(weights):
    rows, cols = linear_sum_assignment(weights, maximize=True)
    return cols, weights[rows, cols].sum()


def bms(prior, t, kind):
    """The prefixes after the last step before a tie, and the total score of the step that ties (or the last)."""
    L = len(prior)
    seqs = [[s] for s in range(L)]
    while True:
        weights = np.full((L, L), -1e6)
        for a, seq in enumerate(seqs):
            for s in range(L):
                if s not in seq:
                    weights[a, s] = score(seq + [s], prior, t, kind)
        cols, total = solve(weights)
        tied = False
        for a, s in enumerate(cols):
            without = weights.copy()
            without[a, s] = -1e6
            tied |= solve(without)[1] > total * (1 - 1e-9)
        if tied or len(seqs[0]) == L - 1:
            return seqs, total
        seqs = [seq + [int(s)] for seq, s in zip(seqs, cols)]


rng = np.random.default_rng(0)
cases = []
for prior in [[0.4, 0.3, 0.2, 0.1]] + [list(rng.dirichlet(np.full(L, 3.0))) for L in (5, 6, 8, 12, 16)]:
    for t, kind in [(2, "weighted"), (3, "weighted"), (3, "depth"), (8, "depth"), (20, "weighted")]:
        prefixes, total = bms(prior, t, kind)
        cases.append({"prior": prior, "t": t, "score": kind, "prefixes": prefixes, "next_total": total})
lines = ",\n".join(json.dumps(case) for case in cases)
pathlib.Path(__file__).with_name("bms.json").write_text(f"[\n{lines}\n]\n")
