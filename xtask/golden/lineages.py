"""Stage keys from lineages, by the steps that the documentation of `s3t_core::lineage` lists, without any code of the project.

    python3 xtask/golden/lineages.py             prints the golden file
    python3 xtask/golden/lineages.py FILE        prints the keys of the lineages in a file (a list, or one)

Needs the standard library only: BLAKE3 is written out below, from its specification.
"""

import json
import math
import struct
import sys
from decimal import Decimal

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = 32, 64
WORD = 0xFFFFFFFF


def compress(value, block, counter, length, flags):
    state = list(value) + list(IV[:4]) + [counter & WORD, counter >> 32, length, flags]

    def mix(a, b, c, d, x, y):
        for add, turn_d, turn_b in ((x, 16, 12), (y, 8, 7)):
            state[a] = (state[a] + state[b] + add) & WORD
            state[d] = turn(state[d] ^ state[a], turn_d)
            state[c] = (state[c] + state[d]) & WORD
            state[b] = turn(state[b] ^ state[c], turn_b)

    def turn(word, by):
        return ((word >> by) | (word << (32 - by))) & WORD

    for step in range(7):
        for column in range(4):
            mix(column, column + 4, column + 8, column + 12, block[2 * column], block[2 * column + 1])
        for diagonal in range(4):
            mix(
                diagonal,
                4 + (diagonal + 1) % 4,
                8 + (diagonal + 2) % 4,
                12 + (diagonal + 3) % 4,
                block[8 + 2 * diagonal],
                block[9 + 2 * diagonal],
            )
        block = [block[place] for place in PERMUTATION]
    return [state[place] ^ state[place + 8] for place in range(8)]


def words(data):
    return list(struct.unpack("<16I", data.ljust(64, b"\0")))


def tree(data, key, flags):
    """The arguments of the last compression of a subtree."""
    chunks = [data[at : at + 1024] for at in range(0, len(data), 1024)] or [b""]
    nodes = []
    for counter, chunk in enumerate(chunks):
        value = key
        blocks = [chunk[at : at + 64] for at in range(0, len(chunk), 64)] or [b""]
        for at, block in enumerate(blocks):
            of_block = flags | (CHUNK_START if at == 0 else 0) | (CHUNK_END if at == len(blocks) - 1 else 0)
            last = (value, words(block), counter, len(block), of_block)
            if at < len(blocks) - 1:
                value = compress(*last)
        nodes.append(last)

    def join(nodes):
        if len(nodes) == 1:
            return nodes[0]
        left = 1 << ((len(nodes) - 1).bit_length() - 1)
        halves = compress(*join(nodes[:left])) + compress(*join(nodes[left:]))
        return (key, halves, 0, 64, flags | PARENT)

    return join(nodes)


def finish(data, key, flags):
    value, block, counter, length, of_node = tree(data, key, flags)
    return compress(value, block, 0 if of_node & PARENT else counter, length, of_node | ROOT)


def derive(context, fields):
    key = finish(f"s3t 2026 {context}".encode(), IV, DERIVE_KEY_CONTEXT)
    data = b"".join(struct.pack("<Q", len(field)) + field for field in fields)
    return struct.pack("<8I", *finish(data, tuple(key), DERIVE_KEY_MATERIAL))


def number(value):
    if isinstance(value, int):
        return str(value)
    # Python gives the fewest digits too; they are put into another form here.
    digits, _, exponent = f"{Decimal(repr(abs(value))):e}".partition("e")
    digits, exponent = digits.replace(".", "").rstrip("0") or "0", int(exponent or 0) if value else 0
    sign = "-" if math.copysign(1, value) < 0 else ""
    if not -5 <= exponent <= 15:
        return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{exponent:+}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return f"{sign}{digits[: exponent + 1].ljust(exponent + 1, '0')}.{digits[exponent + 1 :] or '0'}"


def canonical(value):
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: item[0].encode())
        return "{" + ",".join(canonical(key) + ":" + canonical(item) for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    return json.dumps(value, ensure_ascii=False)


def key_of(lineage):
    key = derive("recipe", [canonical(lineage["recipe"]).encode()])
    for piece, group in zip(lineage["slices"], lineage["groups"]):
        bounds = [struct.pack("<Q", group[side]) for side in ("start", "end")]
        key = derive("stage", [key, bytes.fromhex(piece), *bounds])
    return key


def cases():
    environment = {
        "backend": "flex",
        "library": "burn 0.22.1, kernels 2",
        "architecture": "x86_64",
        "instructions": ["avx2", "fma"],
        "precision": "f32",
        "probe": "5d" * 32,
    }
    numbers = [0.0, -0.0, 1.0, 16.0, 0.5, 0.001, 1e-4, 1e-5, 2.5e-5, 1e-8, 1.5e-300, 5e-324, 123456.789, 1e15, 1e16]
    numbers += [1.5e16, 1e21, 1e22, 1.7976931348623157e308, 0.1, 1 / 3, 9007199254740993.0, 123456789012345680.0]
    lora = {"type": "lora", "rank": 16, "alpha": 32.0, "dropout": 0.05, "targets": ["query", "value"]}
    names = {"name": 'é "quoted" \\ \n\t\r\b\f\u0001\u001f\u007f\u2028 \U0001f600', "b": None, "a": True, "\uffff": 1, "\U00010000": 2}
    for method, training, classes, depth in [
        (lora, {"epochs": 5, "learning_rate": 0.001, "epsilon": 1e-8, "seed": 18446744073709551615}, 10, 1),
        ({"type": "odd", "numbers": numbers, "integers": [0, -1, -9223372036854775808, 9007199254740993]}, {}, 2, 3),
        ({"type": "odd", "texts": names, "empty": [{}, [], ""]}, {"weight_decay": 0.0, "long": "x" * 5000}, 3, 2),
    ]:
        recipe = {
            "format": 2,
            "base": "ab" * 32,
            "peft": method,
            "training": training,
            "task": {"type": "classification", "classes": classes},
            "environment": environment,
        }
        groups = [{"start": 10 - 2 * step, "end": 12 - 2 * step} for step in range(depth)]
        slices = [derive("test", [struct.pack("<Q", step)]).hex() for step in range(depth)]
        yield {"recipe": recipe, "groups": groups, "slices": slices}


def main():
    if len(sys.argv) > 1:
        with open(sys.argv[1], encoding="utf-8") as file:
            given = json.load(file)
        for lineage in given if isinstance(given, list) else [given]:
            print(key_of(lineage).hex())
        return
    golden = []
    for lineage in cases():
        key = key_of(lineage)
        golden.append({"key": key.hex(), "seed": derive("stage seed", [key]).hex(), "lineage": lineage})
    print(json.dumps(golden, indent=1))


if __name__ == "__main__":
    main()
