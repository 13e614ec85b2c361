"""The data of the page's attention viewer: what `rlvid attention` saved in the run folders."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from rlvid.study.study import Study


def attention_data(study: Study) -> dict[str, Any]:
    """Return {"attention": [the content of each attention.json, with its frames]}, or {} if there is none."""
    folders = dict.fromkeys(run.folder for run in study.runs)
    paths = [path for folder in folders for path in sorted((folder / "attention").glob("**/attention.json"))]
    return {"attention": [_read_with_frames(path) for path in paths]} if paths else {}


def data_uri(content: bytes, media_type: str) -> str:
    """Return a URI that contains the bytes.

    >>> data_uri(b"hello", "text/plain")
    'data:text/plain;base64,aGVsbG8='
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _read_with_frames(path: Path) -> dict[str, Any]:
    """Read an attention.json, with the names of its frames replaced by their data URIs."""
    content = json.loads(path.read_text())
    content["frames"] = [data_uri((path.parent / name).read_bytes(), "image/png") for name in content["frames"]]
    return content
