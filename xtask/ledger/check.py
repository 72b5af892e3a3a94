"""Checks the ledger of a store without any of this project's code: signature, Merkle root, tiles and entries.

    python check.py STORE/ledger [KEY]

KEY is the public key as the auditor has it; otherwise the ledger's own `key.pub` is taken. Follows C2SP signed-note,
tlog-checkpoint and tlog-tiles, and RFC 6962 for the tree. Needs the package `cryptography`. Exits with 1 if anything is wrong.
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def root(leaves):
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()


def tile_path(kind, number, width):
    parts = [f"{number % 1000:03}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03}")
    return f"tile/{kind}/" + "/".join(parts) + ("" if width == 256 else f".p/{width}")


def main():
    folder = pathlib.Path(sys.argv[1])
    line = sys.argv[2] if len(sys.argv) > 2 else (folder / "key.pub").read_text().strip()
    name, key_hash, encoded = line.split("+", 2)
    key = base64.b64decode(encoded)
    assert key[0] == 1 and hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_hash, "the key is malformed"

    text, signatures = (folder / "checkpoint").read_text().split("\n\n", 1)
    text += "\n"
    origin, size, head = text.split("\n")[:3]
    size = int(size)
    assert origin == name, "the checkpoint is of another log"
    dash, signer, signature = signatures.strip().split(" ")
    signature = base64.b64decode(signature)
    assert (dash, signer, signature[:4].hex()) == ("\u2014", name, key_hash), "the checkpoint is signed by somebody else"
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())

    entries, hashes = [], []
    for first in range(0, size, 256):
        width = min(256, size - first)
        bundle = (folder / tile_path("entries", first // 256, width)).read_bytes()
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2:2 + length])
            bundle = bundle[2 + length:]
        tile = (folder / tile_path("0", first // 256, width)).read_bytes()
        hashes += [tile[at:at + 32] for at in range(0, len(tile), 32)]
    assert len(entries) == size, f"{len(entries)} entries, but {size} were signed"
    assert hashes == [leaf(entry) for entry in entries], "a tile does not hold the hashes of its entries"
    assert root(hashes) == base64.b64decode(head), "the entries are not those that were signed"

    counts = {}
    for entry in entries:
        event = json.loads(entry)["event"]
        counts[event] = counts.get(event, 0) + 1
    print(f"{origin}: {size} entries, signed and whole: " + ", ".join(f"{n} {event}" for event, n in counts.items()))


if __name__ == "__main__":
    try:
        main()
    except AssertionError as problem:
        sys.exit(f"not sound: {problem}")
