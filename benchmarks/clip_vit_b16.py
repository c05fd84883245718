"""CLIP with the ViT-B/16 vision tower, from a Hugging Face folder to both engines.

    python -m benchmarks.clip_vit_b16

Weights are random at the published configuration, so this measures parity and latency, not quality. Prints the
largest difference of both embeddings to Hugging Face on each engine, and the vision tower's latency at half its
tokens as a share of all of them, the two called in turn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

import sanderling
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import from_mapping
from sanderling.machine import describe
from sanderling.progress import ProgressLine
from sanderling.tables import table

ROUNDS = 60
TOKENS = 196


def save_model(folder: Path) -> CLIPModel:
    """Save and return a CLIP ViT-B/16 of the published configuration."""
    torch.manual_seed(0)
    config = CLIPConfig(vision_config={"patch_size": 16}, text_config={"eos_token_id": 49407})
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    return model


def parity(session: sanderling.Session, model: CLIPModel) -> float:
    """Return the largest difference of image and text embeddings to Hugging Face, all tokens kept."""
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((2, 3, 224, 224)).astype(np.float32)
    ids = rng.integers(1, 40_000, (2, 12))
    ids[:, -1] = 49407
    outputs = session.run({"image": pixels, "input_ids": ids}, plan=session.at({})).outputs
    with torch.inference_mode():
        expected = model(input_ids=torch.from_numpy(ids), pixel_values=torch.from_numpy(pixels))
    pairs = ((outputs["image_embeddings"], expected.image_embeds), (outputs["text_embeddings"], expected.text_embeds))
    return max(float(np.abs(ours - theirs.numpy()).max()) for ours, theirs in pairs)


def half_to_full(session: sanderling.Session, graph: str) -> tuple[float, float]:
    """Return median milliseconds of the vision tower at all tokens and at half of them, called in turn."""
    image = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    plans = (session.at({}), session.at({"tokens.image": TOKENS // 2}, {"vision": graph}))
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(-3, ROUNDS):
        for plan, times in zip(plans, spent, strict=True):
            milliseconds = session.run({"image": image}, plan=plan).receipt.components_ms["vision"]
            if number >= 0:
                times.append(milliseconds)
    return median(spent[0]), median(spent[1])


def main() -> None:
    """Compile, compare and time."""
    recipe = from_mapping(
        {"passes": [{"reduce": {"reducers": ["saliency", "merge"], "layers": [0, 3], "fractions": [0.5]}}]}
    )
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder) / "clip")
        path = compile_model(Path(folder) / "clip", Path(folder) / "clip.sand", recipe=recipe, progress=ProgressLine())
        print(f"bundle {path.stat().st_size / 1e6:.0f} MB on {describe()['cpu']}")
        rows = []
        for target in ("onnxruntime", "openvino"):
            session = sanderling.load(path, target=target)
            difference = parity(session, model)
            for graph in ("saliency@0", "merge@0", "saliency@3", "merge@3"):
                full, half = half_to_full(session, graph)
                rows.append([target, f"{difference:.1e}", graph, f"{full:.1f}", f"{half:.1f}", f"{half / full:.2f}"])
        print(table(["engine", "difference to Hugging Face", "graph", "all tokens ms", "half ms", "share"], rows))


if __name__ == "__main__":
    main()
