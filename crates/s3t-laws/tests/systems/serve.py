"""The protocol of s3t-laws (PROTOCOL.md) for a system in Python: serve(System, name="...")."""

import json
import sys


class Refused(Exception):
    """A refusal with a kind: `unknown-record` or `unavailable`."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


def serve(system_class, name, guarantee="bits", supports=("restart", "dump"), keeps=()):
    system = None
    for line in sys.stdin:
        request = json.loads(line)
        response = {"id": request["id"], "ok": True}
        try:
            op = request["op"]
            if op == "hello":
                system = system_class(request["folder"], request["seed"], request["resume"])
                response.update(protocol=1, name=name, guarantee=guarantee, supports=list(supports), keeps=list(keeps))
            elif op == "train":
                system.train(request["records"])
            elif op == "forget":
                system.forget(request["ids"])
            elif op == "settle":
                system.settle()
            elif op == "answer":
                response["answers"] = system.answer(request["questions"])
            elif op == "dump":
                response["state"] = system.dump()
            elif op == "stop" and hasattr(system, "close"):
                system.close()
        except Refused as refusal:
            response = {"id": request["id"], "ok": False, "kind": refusal.kind, "error": str(refusal)}
        print(json.dumps(response), flush=True)
        if request["op"] == "stop":
            return
