"""The part of Kubernetes' published JSON schema that `plugins/s3t-kubernetes` is tested with: a Job and a Secret, as an API server checks
them, with unknown fields refused.

    pip download --no-deps kubernetes-validate==1.37.0
    python3 xtask/golden/kubernetes_schema.py kubernetes_validate-1.37.0-py3-none-any.whl

The package (Apache-2.0, https://github.com/willthames/kubernetes-validate) has the schemas that are made from the OpenAPI document of each
version of Kubernetes (Apache-2.0, https://github.com/kubernetes/kubernetes, api/openapi-spec/swagger.json). Descriptions are left out.
"""

import json
import sys
import zipfile
from pathlib import Path

ROOTS = {"Job": "io.k8s.api.batch.v1.Job", "Secret": "io.k8s.api.core.v1.Secret"}
FOLDER = Path(__file__).resolve().parents[2] / "plugins/s3t-kubernetes/tests/schemas"


def stripped(value, is_schema=True):
    """A schema without its words. A property may be called `description`."""
    if isinstance(value, list):
        return [stripped(item) for item in value]
    if not isinstance(value, dict):
        return value
    words = ("description", "x-kubernetes-", "$schema")
    kept = {key: item for key, item in value.items() if not (is_schema and key.startswith(words))}
    if isinstance(kept.get("$ref"), str):
        kept["$ref"] = "#/definitions/" + kept["$ref"].rsplit("/", 1)[1]
    return {key: stripped(item, is_schema=key != "properties" or not is_schema) for key, item in kept.items()}


def names(value):
    """The definitions that a schema refers to."""
    if isinstance(value, list):
        return set().union(*map(names, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"].rsplit("/", 1)[1]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(names, value.values()))


with zipfile.ZipFile(sys.argv[1]) as wheel:
    for version in ["1.27.0", "1.37.0"]:
        path = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/_definitions.json"
        document = json.loads(wheel.read(path))
        definitions = document.get("$defs") or document["definitions"]
        kept, waiting = {}, set(ROOTS.values())
        while waiting:
            name = waiting.pop()
            kept[name] = stripped(definitions[name])
            waiting |= names(kept[name]) - kept.keys()
        schema = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$comment": f"Kubernetes {version}, Apache-2.0; made by xtask/golden/kubernetes_schema.py",
            "definitions": dict(sorted(kept.items())),
        }
        text = json.dumps(schema, separators=(",", ":"), sort_keys=True).replace(r"\/", "/")
        file = FOLDER / f"kubernetes-{version}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        print(file.relative_to(FOLDER.parents[3]), len(text), "bytes", len(kept), "definitions")
