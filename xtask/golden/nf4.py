"""The values of weights in 4 bits as `bitsandbytes` has them, with the weights.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt
    venv/bin/python xtask/golden/nf4.py [FOLDER]

Writes `nf4.bin`: 24 rows (outputs) of 192 weights in single precision, then as many values that `bitsandbytes` makes of them in bfloat16,
widened to single precision; little endian.
"""

import pathlib
import sys

import bitsandbytes.functional as bnb
import torch

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "crates/s3t-kernels/tests/golden")
folder.mkdir(parents=True, exist_ok=True)
generator = torch.Generator().manual_seed(0)
weights = torch.randn(24, 192, generator=generator) * torch.logspace(-6, 3, 24).unsqueeze(1)
# Blocks of zeros, of one value, of values at and beside the middle of two levels, and with an outlier.
weights[3, 64:128] = 0
weights[4, :64] = 0.25
code = bnb.get_4bit_type("nf4", device="cpu")
middles = (code[1:] + code[:-1]) / 2
edges = torch.cat([middles, torch.nextafter(middles, torch.tensor(2.0)), torch.nextafter(middles, torch.tensor(-2.0)), code])
weights[5, :61] = edges
weights[5, 61:64] = 0.5
weights[6, 70] = 50
quantised, state = bnb.quantize_4bit(weights.contiguous(), blocksize=64, quant_type="nf4", compress_statistics=False)
state.dtype = torch.bfloat16
values = bnb.dequantize_4bit(quantised, state).float()
assert values.shape == weights.shape and values.dtype == torch.float32
(folder / "nf4.bin").write_bytes(weights.numpy().astype("<f4").tobytes() + values.numpy().astype("<f4").tobytes())
