"""Takes Ketch's DeleteRequest and passes it on to an S3T server; answers with a DeleteResponse.

    S3T_URL=https://s3t.internal:8443 S3T_TOKEN=s3t_... KETCH_SECRET=... python forwarder.py

Ketch posts to this address with the header `Authorization: Bearer KETCH_SECRET`. The identity whose space is `account_id` is the
subject. Only the standard library is used.
"""

import hmac
import json
import os
import urllib.error
import urllib.request
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SERVER, TOKEN, SECRET = (os.environ[name] for name in ("S3T_URL", "S3T_TOKEN", "KETCH_SECRET"))
STATES = {"queued": "pending", "held": "pending", "accepted": "pending", "in-effect": "in_progress", "erased": "completed", "cancelled": "cancelled", "failed": "denied"}
MAX_BYTES = 1 << 20


def delete(request):
    """Passes a request on: the status and the body of the answer."""
    body = request["request"]
    subjects = [one["identityValue"] for one in body["identities"] if one["identitySpace"] == "account_id"]
    if not subjects:
        return 200, response(request, "completed", "no_match")
    due = body.get("dueTimestamp")
    deletion = {"request_id": "ketch-" + request["metadata"]["uid"], "subjects": subjects}
    if due:
        deletion["due"] = datetime.fromtimestamp(due, timezone.utc).isoformat()
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    call = urllib.request.Request(f"{SERVER}/deletions", json.dumps(deletion).encode(), headers, method="POST")
    with urllib.request.urlopen(call, timeout=30) as answer:
        return 200, response(request, STATES[json.load(answer)["phase"]], None)


def response(request, status, reason):
    answer = {"status": status}
    if reason:
        answer["reason"] = reason
    return {"apiVersion": "dsr/v1", "kind": "DeleteResponse", "metadata": request["metadata"], "response": answer}


class Forwarder(BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            status, answer = self.answer()
        except urllib.error.HTTPError as error:
            status, answer = 502, {"error": f"the server answered {error.code}"}
        except (KeyError, TypeError, ValueError):
            status, answer = 400, {"error": "not a DeleteRequest"}
        except OSError:
            status, answer = 502, {"error": "the server cannot be reached"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self):
        given = self.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {SECRET}".encode()):
            return 401, {"error": "unknown caller"}
        length = int(self.headers.get("content-length", 0))
        if not 0 < length <= MAX_BYTES:
            return 413, {"error": "empty or too large"}
        request = json.loads(self.rfile.read(length))
        if request.get("kind") != "DeleteRequest":
            return 400, {"error": "this address takes DeleteRequest"}
        return delete(request)

    def log_message(self, *_):
        """Addresses and requests stay out of the log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8099"))), Forwarder).serve_forever()
