"""A copy of the embedded model that uses the published M-RoPE positions."""

import json
import shutil

from rlvid.nano.model import BASE
from rlvid.policy.mrope import TRANSFORMERS_POSITIONS


def published(folder):
    """nano as a model that was trained with the published positions."""
    shutil.copytree(BASE, folder / "published")
    config = json.loads((BASE / "config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in TRANSFORMERS_POSITIONS}
    (folder / "published/config.json").write_text(json.dumps(kept))
    return folder / "published"
