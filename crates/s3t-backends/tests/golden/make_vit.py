"""Makes the golden ViT files: small random models written by `transformers`, with their outputs.

    python -m venv venv && venv/bin/pip install torch transformers && venv/bin/python make_vit.py

Made with torch 2.15.0 and transformers 5.24.0.
"""

import json
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification, ViTModel

HERE = Path(__file__).parent


def make(name, model_class, channels, qkv_bias, image_size, patch_size, **extra):
    torch.manual_seed(7)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24, image_size=image_size,
        patch_size=patch_size, num_channels=channels, qkv_bias=qkv_bias, hidden_act="gelu", **extra,
    )
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    pixels = torch.randint(0, 256, (2, channels, image_size, image_size))
    values = (pixels / 255.0 - 0.5) / 0.5
    with torch.no_grad():
        out = model(pixel_values=values, output_hidden_states=True)
        vit = getattr(model, "vit", model)
        last = vit.layernorm(out.hidden_states[-1]) if model_class is ViTForImageClassification else out.last_hidden_state
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    golden = {
        # Rows from the top, channels interleaved, as in an image file.
        "pixels": pixels.permute(0, 2, 3, 1).reshape(2, -1).tolist(),
        "hidden": [state.reshape(-1).tolist() for state in out.hidden_states],
        "pooled": last[:, 0].reshape(-1).tolist(),
        "logits": out.logits.reshape(-1).tolist() if hasattr(out, "logits") else None,
    }
    (folder / "golden.json").write_text(json.dumps(golden))


make("vit-model", ViTModel, channels=3, qkv_bias=True, image_size=8, patch_size=4)
make("vit-classifier", ViTForImageClassification, channels=1, qkv_bias=False, image_size=6, patch_size=2, num_labels=3)
