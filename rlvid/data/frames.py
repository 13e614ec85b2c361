"""Make a video of each folder of pictures, for benchmarks whose clips are folders of frames.

    python -m rlvid.data.frames FOLDER FPS

FOLDER/NAME/*.jpg or *.png, in the order of their names, become FOLDER/NAME.mp4 with FPS frames per second. A video that
exists is kept. Frames of odd height or width lose their last line, since H.264 halves the colours; its compression
(crf 12) changes pixels a little.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rlvid.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")


def write_videos(folder: Path, fps: Fraction) -> int:
    """Write NAME.mp4 for each folder of pictures in a folder; returns how many were written.

    Raises:
        UserError: if there is no folder of pictures, or if the pictures of one cannot be read or differ in size.
    """
    from rich.console import Console
    from rich.progress import track

    clips = {path: pictures for path in sorted(folder.iterdir()) if (pictures := pictures_in(path))}
    if not clips:
        raise UserError(f"{folder}: holds no folder with pictures ({', '.join(SUFFIXES)})")
    missing = {path: pictures for path, pictures in clips.items() if not path.with_name(f"{path.name}.mp4").exists()}
    for path, pictures in track(missing.items(), "encoding", console=Console(stderr=True), transient=True):
        part = path.with_name(f".{path.name}.mp4.part")
        encode(pictures, fps, part)
        part.replace(path.with_name(f"{path.name}.mp4"))  # so that a video is whole or not there
    return len(missing)


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder, in the order of their names; [] if it is no folder."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def encode(pictures: Sequence[Path], fps: Fraction, file: Path) -> None:
    """Encode pictures as an H.264 mp4. Raises UserError if one cannot be read or differs in size from the first."""
    import av
    from PIL import Image, UnidentifiedImageError

    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "threads": "1"})
        stream.pix_fmt = "yuv420p"
        size = None
        for path in pictures:
            try:
                with Image.open(path) as image:
                    picture = image.convert("RGB")
            except (UnidentifiedImageError, OSError) as error:
                raise UserError(f"{path}: cannot be read as a picture: {error}") from error
            if size is None:
                size = picture.size
                stream.width, stream.height = (side // 2 * 2 for side in size)
            if picture.size != size:
                raise UserError(f"{path}: is {picture.size}, and the first picture of its folder {size}")
            picture = picture.crop((0, 0, stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def main(arguments: Sequence[str]) -> int:
    """Make the videos of FOLDER with FPS frames per second."""
    if len(arguments) != 2:
        print("usage: python -m rlvid.data.frames FOLDER FPS", file=sys.stderr)
        return 2
    try:
        print(f"{write_videos(Path(arguments[0]), Fraction(arguments[1]))} videos written to {arguments[0]}")
    except (UserError, ValueError, OSError) as error:
        print(f"rlvid: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
