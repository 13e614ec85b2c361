"""A copy of the embedded model that uses the published M-RoPE positions."""

import json
import shutil

from rlvid.policy.mrope import TRANSFORMERS_POSITIONS
from rlvid.registry import NANO_CHECKPOINT


def model_with_published_positions(folder):
    """Write a copy of nano whose config does not name the positions of transformers; returns its folder."""
    copy = shutil.copytree(NANO_CHECKPOINT, folder / "published")
    config = json.loads((copy / "config.json").read_text())
    remaining = {key: value for key, value in config.items() if key not in TRANSFORMERS_POSITIONS}
    (copy / "config.json").write_text(json.dumps(remaining))
    return copy
