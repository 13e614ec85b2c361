"""What the Hugging Face hub publishes, by name: the licence shown first, the rest fetched resumably."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rlvid.errors import UserError
from rlvid.registry import module_file, suggest


@dataclass(frozen=True)
class Published:
    """A data set on the hub, whose it is, and what its archives become."""

    repository: str
    licence: str
    then: str

    @property
    def page(self) -> str:
        """Where it is described, and where access is asked for."""
        return f"https://huggingface.co/datasets/{self.repository}"


PUBLISHED = {
    "seed_bench_r1": Published(
        "TencentARC/SEED-Bench-R1",
        "annotations Apache-2.0; clips and pictures under EPIC-Kitchens' licence (CC BY-NC 4.0) and Ego4D's own",
        "unpack the archives until videos/SOURCE/NAME.mp4 and images/SOURCE/NAME.png are there",
    ),
    "longvideobench": Published(
        "longvideobench/LongVideoBench",
        "CC BY-NC-SA 4.0; access is asked for on its page, and HF_TOKEN holds your token",
        "cat videos.tar.part.* | tar x; tar xf subtitles.tar",
    ),
    "mvbench": Published(
        "OpenGVLab/MVBench",
        "annotations MIT; each source of clips has its own",
        "unpack video/*.zip there; mvbench*.toml say how two of its tasks are read",
    ),
    "tempcompass": Published(
        "lmms-lab/TempCompass",
        "none on its page: ask before you pass anything on",
        "unpack tempcompass_videos.zip; tempcompass.toml says how to make lines of its parquet",
    ),
    "mmvu": Published(
        "lmms-lab/MMVU",
        "none on its page: ask before you pass anything on",
        "unpack videos.zip; mmvu.toml says how to make lines of its parquet",
    ),
    "video_mme": Published(
        "lmms-lab/Video-MME",
        "academic research only, no commercial use; the clips are their owners'",
        "unpack videos_chunked_*.zip; video_mme.toml says how to make lines of its parquet",
    ),
}


def get(name: str, folder: Path, console: Console | None = None) -> None:
    """Fetch a data set into a folder; what is there already is not fetched again."""
    if name not in PUBLISHED:
        raise UserError(f"no data set {name!r}.{suggest(name, PUBLISHED)}")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError

    one, console = PUBLISHED[name], console or Console()
    console.print(f"{one.page}\nlicence: {one.licence}", highlight=False, soft_wrap=True)
    try:
        now = HfApi().dataset_info(one.repository).sha  # or an interrupted folder would be taken for the whole
        snapshot_download(one.repository, repo_type="dataset", revision=now, local_dir=folder)
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{one.repository} cannot be fetched: {reason}. The same command goes on where it stopped; by hand, where "
            f"there is a network: git lfs clone {one.page}, copy it to {folder}, and in it {one.then}. A gated data "
            "set needs your token: ask for access on its page, and set HF_TOKEN"
        ) from error
    for fields in (module_file("experiments").parent / "benchmarks").glob(f"{name}*.toml"):
        if not (folder / fields.name).exists():
            shutil.copy(fields, folder)
    console.print(f"fetched {folder}. Next: in it, {one.then}; then rlvid data check", highlight=False, soft_wrap=True)
