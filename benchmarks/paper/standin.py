"""``python -m benchmarks.paper.standin FOLDER``: a CLIP of random weights, to take the path of a real one where there is none.

The vision tower is ViT-B/32's in kind (224 pixels, patches of 32, 512 numbers out) and a sixteenth of it in width squared: 6 layers of width 192.
Its embeddings are those of a random network: they tell images apart, and mean nothing.
"""

import argparse
import json
from pathlib import Path

import torch


def standin(
    folder: Path, *, size: int = 224, patch: int = 32, width: int = 192, layers: int = 6, out: int = 512
) -> Path:
    """Write a folder as ``transformers`` would: the network, and how pixels are prepared."""
    import transformers

    part = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
    }
    config = transformers.CLIPConfig(
        text_config={**part, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**part, "image_size": size, "patch_size": patch},
        projection_dim=out,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    # CLIP's own.
    pixels = {
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def main() -> None:
    """Write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.standin", description=__doc__)
    parser.add_argument("folder", type=Path)
    standin(parser.parse_args().folder)


if __name__ == "__main__":
    main()
