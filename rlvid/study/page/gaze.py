"""What `rlvid attend` kept in the runs' folders, for the page's viewer."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from rlvid.study.study import Study


def gathered(study: Study) -> dict[str, Any]:
    """`looks`: each question's attention.json, its frames inside; nothing where nobody attended."""
    folders = dict.fromkeys(result.folder for result in study.runs)
    paths = [path for folder in folders for path in sorted((folder / "attention").glob("**/attention.json"))]
    looks = [_look(path) for path in paths]
    return {"looks": looks} if looks else {}


def uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _look(path: Path) -> dict[str, Any]:
    about = json.loads(path.read_text())
    return about | {"frames": [uri((path.parent / name).read_bytes(), "image/png") for name in about["frames"]]}
