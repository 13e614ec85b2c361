"""Convert the parquet files of a published data set to JSON lines, its images to files beside them.

    python -m rlvid.data.convert VSI-Bench/test-00000-of-00001.parquet VSI-Bench/test.jsonl

An image in a record, {bytes, path} as `datasets` stores it, becomes the path of a file: images/COLUMN/NUMBER.png; one
without bytes keeps its path. A list of images becomes a list of paths.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from rlvid.errors import UserError
from rlvid.utils.files import write_text

PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")  # Pillow's pixel formats that PNG has; not CMYK


def convert(files: Sequence[Path], out: Path) -> int:
    """Write the records of parquet files as JSON lines, in order; return their number.

    Args:
        files: parquet files of one split.
        out: the file to write; images go to images/ beside it.

    Raises:
        UserError: if a file cannot be read, or holds bytes that are no image.
    """
    lines = [
        json.dumps({key: _to_json(value, out.parent, Path(key) / str(number)) for key, value in row.items()})
        for number, row in enumerate(_rows(files), start=1)
    ]
    write_text(out, "".join(f"{line}\n" for line in lines))
    return len(lines)


def _rows(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    for file in files:
        try:
            batches = parquet.ParquetFile(file).iter_batches(64)
            for batch in batches:
                yield from batch.to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{file}: cannot be read as parquet: {error}") from error


def _to_json(value: Any, root: Path, name: Path) -> Any:
    """Return a value as JSON has it; an image is written under `root` and becomes its path there."""
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:  # without bytes, the path of a file as it is
        return value["path"] if value["bytes"] is None else _save_image(value["bytes"], root, name)
    if isinstance(value, list):
        return [_to_json(item, root, name.with_name(f"{name.name}-{i}")) for i, item in enumerate(value)]
    if isinstance(value, bytes):
        return _save_image(value, root, name)
    return value


def _save_image(data: bytes, root: Path, name: Path) -> str:
    """Write an image as PNG, upright as its EXIF data says, and return its path."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path("images") / name.with_suffix(".png")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with Image.open(BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            (upright if upright.mode in PNG_MODES else upright.convert("RGB")).save(root / path)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"record {name.name}: {name.parent}: bytes that are no image: {error}") from error
    return str(path)


def main(arguments: Sequence[str]) -> int:
    """Convert FILE.parquet .. to OUT.jsonl."""
    if len(arguments) < 2 or not arguments[-1].endswith(".jsonl"):
        print("usage: python -m rlvid.data.convert FILE.parquet .. OUT.jsonl", file=sys.stderr)
        return 2
    *files, out = map(Path, arguments)
    try:
        print(f"{convert(files, out)} records in {out}")
    except UserError as error:
        print(f"rlvid: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
