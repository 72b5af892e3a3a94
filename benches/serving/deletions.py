"""Deletions while callers ask without pause: no answer that began after a deletion was confirmed comes from a stage that it cut.

    deletions.py PROGRAM [--deletions 1000] [--callers 16] [--shards 12] [--slices 3] [--json]

A store of 1,500 records of Fashion-MNIST in small shards is trained for it, so that repair keeps up. Repair goes on behind; the server
holds a deletion while a shard has too little left (`--min-budget`), so that some shard can always answer. The time to effect is the
caller's: from the request's first byte to the answer's last. Needs nothing but Python's standard library.
"""

import argparse
import http.client
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "clients"))
import make_store
from world import Server, features


def ask(port, token, callers, stop, results):
    """Callers in threads of a process of its own; each answer as (start, end, status, epoch, stages)."""
    body = json.dumps({"inputs": {"features": features()}})
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    answers, lock = [], threading.Lock()

    def work():
        own = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not stop.is_set():
            start = time.monotonic()
            try:
                connection.request("POST", "/predict", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                stages = answer.headers.get("x-s3t-stages", "")
                own.append((start, time.monotonic(), answer.status, int(answer.headers.get("x-s3t-epoch", -1)), stages if answer.status == 200 else text.decode()))
            except (OSError, http.client.HTTPException) as error:
                own.append((start, time.monotonic(), 0, -1, repr(error)))
                connection.close()
        with lock:
            answers.extend(own)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    results.put(answers)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--deletions", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--min-budget", type=int, default=1)
    parser.add_argument("--limit", type=float, default=1800, help="seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="s3t-deletions-"))
    make_store.make(options.program, folder, options.records, options.shards, options.slices, options.slices)
    with Server(options.program, folder=folder, options=["--repair", "--min-budget", str(options.min_budget)]) as server:
        stop, results = multiprocessing.Event(), multiprocessing.Queue()
        halves = [options.callers // 2, options.callers - options.callers // 2]
        callers = [multiprocessing.Process(target=ask, args=(server.port, server.tokens["ask"], half, stop, results)) for half in halves if half]
        [process.start() for process in callers]
        time.sleep(2)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = server.headers("all", **{"content-type": "application/json"})

        def call(method, path, body=None):
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

        confirmed, to_effect, held, begin = {}, [], 0, time.monotonic()
        for number in range(options.deletions):
            # Spread over the shards and slices, each record once.
            record = f"row-{number * 7919 % options.records}"
            start = time.monotonic()
            status, made = call("POST", "/deletions", {"request_id": f"deletion-{number}", "records": [record]})
            assert status in (201, 202), (status, made)
            if status == 201:
                to_effect.append(time.monotonic() - start)
            else:
                held += 1
                while call("GET", f"/deletions/deletion-{number}")[1]["phase"] in ("held", "queued"):
                    time.sleep(0.02)
                    if time.monotonic() - begin > options.limit:
                        break
            confirmed[f"deletion-{number}"] = time.monotonic()
            if time.monotonic() - begin > options.limit:
                break
        seconds = time.monotonic() - begin
        time.sleep(1)
        stop.set()
        answers = [answer for _ in callers for answer in results.get()]
        [process.join() for process in callers]
        death = {}
        for request, moment in confirmed.items():
            status, receipt = call("GET", f"/deletions/{request}/receipt")
            if status == 200:
                for key in receipt["effect"]["cut"]:
                    death[key] = min(moment, death.get(key, moment))
        stale = [(start - death[key], epoch) for start, _, status, epoch, stages in answers if status == 200 for key in (part.split("=")[1] for part in stages.split(",")) if key in death and start >= death[key]]
        later = sum(1 for start, _, status, _, stages in answers if status == 200 and any(death.get(part.split("=")[1], start) > start for part in stages.split(",")))
        failed = [answer for answer in answers if answer[2] != 200]
        times = [end - start for start, end, status, *_ in answers if status == 200]
    report = {
        "deletions": len(confirmed), "of_them_held_first": held, "seconds": round(seconds, 1), "stages_cut": len(death),
        "answers": len(answers), "answers_per_second": round(len(answers) / (seconds + 3), 1), "answers_from_stages_that_were_cut_later": later,
        "answers_from_dead_stages": len(stale), "answers_failed": len(failed),
        "to_effect_ms": {"p50": round(1000 * statistics.median(to_effect), 2), "p99": round(1000 * percentile(to_effect, 0.99), 2), "max": round(1000 * max(to_effect), 2)},
        "answer_ms": {"p50": round(1000 * statistics.median(times), 1), "p99": round(1000 * percentile(times, 0.99), 1)},
    }
    print(json.dumps(report, indent=None if options.json else 2))
    for answer in failed[:5]:
        print(f"FAILED {answer}", file=sys.stderr)
    sys.exit(1 if stale or failed or len(confirmed) < options.deletions else 0)


if __name__ == "__main__":
    main()
