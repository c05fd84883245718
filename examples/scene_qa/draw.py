"""Draws a scene into a picture file and prints what is in it.

python -m examples.scene_qa.draw scene.png --seed 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from examples.scene_qa.scenes import draw_scene


def main() -> None:
    """Read the options and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    scene = draw_scene(np.random.default_rng(options.seed))
    Image.fromarray(scene.image).save(options.path)
    for thing in scene.things:
        print(f"{thing.size} {thing.colour} {thing.shape} at {thing.x:.0f}, {thing.y:.0f}")


if __name__ == "__main__":
    main()
