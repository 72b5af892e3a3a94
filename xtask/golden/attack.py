"""Makes the golden file of s3t-attack: attacks and measures computed with numpy and scipy, by the definitions and not by our formulas.

    python attack.py FOLDER

Areas are counted over pairs, rates over thresholds, variances by numpy, intervals and tests by scipy. Needs the packages of requirements.txt.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from scipy import integrate, optimize, special, stats

rng = np.random.default_rng(20260118)


def listed(value):
    """Numbers for JSON; inputs are rounded where they are made, so that both sides read the same."""
    if isinstance(value, dict):
        return {key: listed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [listed(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return listed(value.tolist())
    if isinstance(value, (np.floating, np.integer, np.bool_)):
        return value.item()
    return value


def normal(*shape, mean=0.0, deviation=1.0):
    return np.round(rng.normal(mean, deviation, shape), 6)


def signal():
    logits = [normal(classes, deviation=4) for classes in (2, 3, 5, 10) for _ in range(5)] + [np.array([50.0, -3.0, 0.25])]
    cases = []
    for row in logits:
        label = int(rng.integers(len(row)))
        log_p = special.log_softmax(row)[label]
        others = np.delete(row, label)
        scaled = row[label] - special.logsumexp(others)
        cases.append({"logits": row, "label": label, "log_probability": log_p, "scaled_logit": scaled})
    return cases


def lira():
    target = normal(30, mean=2, deviation=3)
    inside = [normal(int(rng.integers(2, 9)), mean=3, deviation=1.5) for _ in target]
    outside = [normal(int(rng.integers(2, 9)), mean=1, deviation=2) for _ in target]
    prior = 2.5

    def deviations(shadows, kind):
        residuals = np.concatenate([row - row.mean() for row in shadows])
        freedom = sum(len(row) - 1 for row in shadows)
        pooled = residuals @ residuals / freedom
        if kind == "per-example":
            return [np.std(row, ddof=1) for row in shadows]
        if kind == "pooled":
            return [np.sqrt(pooled) for _ in shadows]
        own = [np.var(row, ddof=1) for row in shadows]
        return [np.sqrt((prior * pooled + (len(row) - 1) * var) / (prior + len(row) - 1)) for row, var in zip(shadows, own)]

    result = {"target": target, "inside": inside, "outside": outside, "prior": prior}
    for kind in ("per-example", "pooled", "shrunk"):
        d_in, d_out = deviations(inside, kind), deviations(outside, kind)
        means = [(np.mean(i), np.mean(o)) for i, o in zip(inside, outside)]
        result[kind] = {
            "online": [stats.norm.logpdf(x, mi, di) - stats.norm.logpdf(x, mo, do)
                       for x, (mi, mo), di, do in zip(target, means, d_in, d_out)],
            "probability": [stats.norm.cdf(x, mo, do) for x, (_, mo), do in zip(target, means, d_out)],
            "deviations": [(x - mo) / do for x, (_, mo), do in zip(target, means, d_out)],
        }

    def predictive(row, deviation):
        """The next value of a normal distribution whose variance is inverse gamma and whose mean is uniform before the row is seen."""
        freedom = prior + len(row) - 1
        found = stats.t(freedom, np.mean(row), deviation * np.sqrt(1 + 1 / len(row)))
        variance = stats.invgamma(freedom / 2, scale=freedom * deviation**2 / 2)
        mixed = integrate.quad(lambda v: stats.norm.pdf(1.5, np.mean(row), np.sqrt(v * (1 + 1 / len(row)))) * variance.pdf(v), 0, np.inf)
        assert abs(mixed[0] - found.pdf(1.5)) < 1e-7, (mixed, found.pdf(1.5))
        return found

    fit_in, fit_out = ([predictive(*pair) for pair in zip(rows, deviations(rows, "shrunk"))] for rows in (inside, outside))
    result["predictive"] = {
        "online": [i.logpdf(x) - o.logpdf(x) for x, i, o in zip(target, fit_in, fit_out)],
        "probability": [o.cdf(x) for x, o in zip(target, fit_out)],
        "deviations": [-stats.norm.ppf(o.sf(x)) if x > o.mean() else stats.norm.ppf(o.cdf(x)) for x, o in zip(target, fit_out)],
    }
    return result


def probabilities(*shape, shift=0.0):
    return np.round(special.expit(rng.normal(shift, 1.5, shape)), 6).clip(1e-6, 1.0)


def rmia():
    x, x_refs = probabilities(40, shift=1), probabilities(40, 4)
    z, z_refs = probabilities(150), probabilities(150, 4)
    x[3], x_refs[3] = z[7], z_refs[7]  # The same record in both: a tie at gamma = 1.
    is_member = rng.random(40) < 0.5

    def score(marginal, gamma):
        x_ratio, z_ratio = x / marginal(x_refs), z / marginal(z_refs)
        return np.array([sum(1 for other in z_ratio if ratio / other > gamma) / len(z) for ratio in x_ratio])

    def offline(a):
        return lambda refs: ((1 + a) * refs.mean(axis=1) + (1 - a)) / 2

    scores = [{"marginal": "online", "a": 0.0, "gamma": gamma, "scores": score(lambda refs: refs.mean(axis=1), gamma)}
              for gamma in (1.0, 2.0)]
    grid = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
    scores += [{"marginal": "offline", "a": a, "gamma": gamma, "scores": score(offline(a), gamma)}
               for a in (0.0, 0.3, 1.0) for gamma in (1.0, 1.5)]
    areas = [area(score(offline(a), 1.0)[is_member], score(offline(a), 1.0)[~is_member]) for a in grid]
    return {"target": x, "references": x_refs, "population": z, "population_references": z_refs, "scores": scores,
            "is_member": is_member, "grid": grid, "best_a": grid[int(np.argmax(areas))]}


def language():
    cases = []
    for tokens in (1, 4, 9, 50):
        target = np.minimum(normal(tokens, mean=-2, deviation=1.5), -0.000001)
        base = np.minimum(normal(tokens, mean=-2.5, deviation=1.5), -0.000001)
        means, deviations = normal(tokens, mean=-4), np.abs(normal(tokens, mean=2)) + 0.1
        errors = rng.random(tokens) < 0.6

        def smallest(values, share):
            return np.sort(values)[:max(1, int(len(values) * share))].mean()

        def zone(shift):
            moved = shift[errors]
            up, down = moved[moved > 0].sum(), -moved[moved < 0].sum()
            return up / (up + down) if up + down > 0 else 0.5

        cases.append({
            "target": target, "base": base, "means": means, "deviations": deviations, "errors": errors,
            "loss_ratio": (-base).mean() / (-target).mean(), "loss_difference": (-base).mean() - (-target).mean(),
            "min_k": smallest(target, 0.2), "min_k_plus_plus": smallest((target - means) / deviations, 0.2),
            "zone_probability": zone(np.exp(target) - np.exp(base)), "zone_log_probability": zone(target - base),
        })
    return cases


def area(members, others):
    return np.mean([[1.0 if m > o else 0.5 if m == o else 0.0 for o in others] for m in members])


def delong(members, others, confidence):
    kernel = np.array([[1.0 if m > o else 0.5 if m == o else 0.0 for o in others] for m in members])
    auc = kernel.mean()
    variance = np.var(kernel.mean(axis=1), ddof=1) / len(members) + np.var(kernel.mean(axis=0), ddof=1) / len(others)
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    return special.expit(special.logit(auc) - half), special.expit(special.logit(auc) + half)


def tpr(members, others, rate):
    thresholds = np.concatenate([members, others, [np.inf]])
    good = [np.mean(members >= t) for t in thresholds if np.mean(others >= t) <= rate + 1e-12]
    return max(good)


def roc():
    cases = []
    for count, other, digits in ((12, 9, 6), (60, 40, 6), (150, 200, 1), (90, 1000, 2), (300, 100, 0)):
        members = np.round(rng.normal(0.8, 1, count), digits)
        others = np.round(rng.normal(0, 1, other), digits)
        case = {"members": members, "others": others, "auc": area(members, others), "confidence": 0.95}
        case["low"], case["high"] = delong(members, others, 0.95)
        case["rates"] = []
        for rate in (0.3, 0.1, 0.01, 0.001):
            if other * rate >= 1 - 1e-9:
                found = tpr(members, others, rate)
                interval = stats.binomtest(round(found * count), count).proportion_ci(0.95, "exact")
                above = int(other * rate + 1e-9)
                fresh = stats.binomtest(above, other).proportion_ci(0.95, "exact")
                case["rates"].append({"fpr": rate, "tpr": found, "low": interval.low, "high": interval.high,
                                      "fpr_low": fresh.low, "fpr_high": fresh.high})
        cases.append(case)
    return cases


def clopper_pearson():
    cases = []
    for trials in (1, 2, 10, 37, 200, 5000, 100000):
        for successes in sorted({0, 1, trials // 7, trials // 2, trials - 1, trials}):
            for confidence in (0.5, 0.95, 0.999):
                interval = stats.binomtest(successes, trials).proportion_ci(confidence, "exact")
                cases.append([successes, trials, confidence, interval.low, interval.high])
    return cases


def kolmogorov_smirnov():
    cases = []
    for first, second, shift, digits in ((5, 5, 0, 6), (8, 13, 1, 6), (40, 40, 0.5, 6), (60, 25, 0, 1), (100, 150, 0.6, 6),
                                         (300, 300, 0.1, 2)):
        one, other = np.round(rng.normal(0, 1, first), digits), np.round(rng.normal(shift, 1, second), digits)
        result = stats.ks_2samp(one, other, method="exact")
        cases.append({"first": one, "second": other, "statistic": result.statistic, "p_value": result.pvalue})
    return cases


def one_run(records, guesses, right, epsilon, delta):
    """The probability of the main theorem of arXiv 2305.08846: the tail, and the steepest mean of the masses below it."""
    q = special.expit(epsilon)
    tail = stats.binom.sf(right - 1, guesses, q)
    masses = [stats.binom.pmf(right - i, guesses, q) for i in range(1, right + 1)]
    slope = max((np.sum(masses[:i]) / i for i in range(1, right + 1)), default=0.0)
    return min(1.0, tail + 2 * records * delta * slope)


def epsilon():
    cases = []
    for records, guesses, right in ((1000, 100, 50), (1000, 100, 80), (1000, 100, 100), (500, 500, 300), (2000, 50, 49), (10, 10, 9)):
        for delta in (0.0, 1e-5):
            for confidence in (0.9, 0.95, 0.99):
                def excess(value):
                    return one_run(records, guesses, right, value, delta) - (1 - confidence)
                bound = 0.0 if excess(0.0) > 0 else optimize.brentq(excess, 0, 40, xtol=1e-14, rtol=1e-14)
                at = 0.75
                cases.append({"records": records, "guesses": guesses, "right": right, "delta": delta, "confidence": confidence,
                              "bound": bound, "epsilon": at, "p_value": one_run(records, guesses, right, at, delta)})
    return cases


def blind():
    members, others = normal(21, 4, mean=0.3), normal(16, 4)
    members[:, 3], others[:, 3] = 1.0, 1.0  # A feature without spread weighs nothing.
    fit_m, fit_o = members[::2], others[::2]
    weights = (fit_m.mean(axis=0) - fit_o.mean(axis=0)) / np.where((v := np.vstack([fit_m, fit_o]).var(axis=0)) > 0, v, np.inf)
    return {"members": members, "others": others, "member_scores": members[1::2] @ weights, "other_scores": others[1::2] @ weights}


def memorisation():
    ranked = []
    for size in (1, 5, 40):
        others = np.round(normal(size, mean=30, deviation=4), 1)
        for secret in (others.min(), others.min() - 1, float(np.median(others)), others.max() + 1):
            space = np.append(others, secret)
            # The definition: the place in the sorted list, the last of equal ones.
            rank = int(np.searchsorted(np.sort(space), secret, side="right"))
            ranked.append({"secret": secret, "others": others, "rank": rank, "bits": np.log2(len(space)) - np.log2(rank)})
    fitted = []
    for location, scale, shape in ((30.0, 5.0, -3.0), (100.0, 12.0, 2.0), (8.0, 0.5, 0.8), (50.0, 3.0, -1.5)):
        sample = np.round(stats.skewnorm.rvs(shape, location, scale, size=400, random_state=rng), 6)
        a, at, width = stats.skewnorm.fit(sample)
        # The fit of scipy ends early: go on from where it is.
        best = optimize.minimize(lambda p: -stats.skewnorm.logpdf(sample, p[0], p[1], np.exp(p[2])).sum(), [a, at, np.log(width)],
                                 method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20000})
        a, at, width = best.x[0], best.x[1], np.exp(best.x[2])
        secrets = [float(value) for value in np.round(sample.mean() + np.array([-6, -3, -1, 0, 1, 3]) * sample.std(), 3)]
        cases = []
        for secret in secrets:
            # By quadrature of the density, so that small probabilities keep their digits.
            z = (secret - at) / width
            log_density = lambda u: np.log(2) + stats.norm.logpdf(z - u) + stats.norm.logcdf(a * (z - u))
            top = max(log_density(u) for u in np.linspace(0, 40, 40001))
            area = sum(integrate.quad(lambda u: np.exp(log_density(u) - top), low, high, epsabs=0, epsrel=1e-12)[0]
                       for low, high in itertools.pairwise([0, 0.01, 0.05, 0.2, 0.5, 1, 2, 4, 8, 16, 40]))
            cases.append({"secret": secret, "log_below": top + np.log(area), "bits": -(top + np.log(area)) / np.log(2),
                          "cdf": stats.skewnorm.cdf(secret, a, at, width)})
        fitted.append({"sample": sample, "fit": [at, width, a], "secrets": cases})
    return {"ranked": ranked, "fitted": fitted}


def logits():
    """Scores from the logits of a model and of reference models: from the definitions, one record after the other."""
    own = np.random.default_rng(20261126)
    draw = lambda *shape: np.round(own.normal(0, 3, shape), 5)
    examples, population, models, classes = 24, 12, 6, 5
    labels = own.integers(classes, size=examples + population)
    target, references = draw(len(labels), classes), draw(models, len(labels), classes)
    inside = own.random((models, len(labels))) < 0.5
    inside[:, examples:] = False
    inside[0, :examples], inside[1, :examples] = True, False
    inside[2, :examples], inside[3, :examples] = True, False

    def share(row, label):
        return np.exp(row[label]) / np.exp(row).sum()

    def scaled(row, label):
        p = share(row, label)
        return np.log(p / (1 - p))

    def of(models_of, value, at):
        return np.array([value(references[m][at], labels[at]) for m in range(models) if inside[m][at] == models_of])

    def deviation(models_of):
        lists = [of(models_of, scaled, at) for at in range(examples)]
        return np.sqrt(sum(((row - row.mean()) ** 2).sum() for row in lists) / sum(len(row) - 1 for row in lists))

    phi = [scaled(target[at], labels[at]) for at in range(examples)]
    s_in, s_out = deviation(True), deviation(False)
    offline = [stats.norm.cdf(phi[at], of(False, scaled, at).mean(), s_out) for at in range(examples)]
    online = [stats.norm.logpdf(phi[at], of(True, scaled, at).mean(), s_in)
              - stats.norm.logpdf(phi[at], of(False, scaled, at).mean(), s_out) for at in range(examples)]

    def ratio(at, a):
        mean = of(False, share, at).mean()
        return share(target[at], labels[at]) / (((1 + a) * mean + (1 - a)) / 2)

    a, gamma = 0.4, 1.0
    dominated = [np.mean([ratio(at, a) / ratio(z, a) > gamma for z in range(examples, len(labels))]) for at in range(examples)]
    return {"examples": examples, "labels": labels, "target": target, "references": references, "inside": inside,
            "lira_offline": offline, "lira_online": online, "a": a, "gamma": gamma, "rmia": dominated}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = {"signal": signal(), "lira": lira(), "rmia": rmia(), "language": language(), "roc": roc(),
            "clopper_pearson": clopper_pearson(), "kolmogorov_smirnov": kolmogorov_smirnov(), "epsilon": epsilon(), "blind": blind(),
            "memorisation": memorisation(), "logits": logits()}
    for name, value in made.items():
        (folder / f"{name}.json").write_text(json.dumps(listed(value)) + "\n")


if __name__ == "__main__":
    main()
