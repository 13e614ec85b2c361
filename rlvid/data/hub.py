"""Download the data sets that the Hugging Face hub publishes, by name. The licence is printed first."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rlvid.errors import UserError
from rlvid.registry import module_file, suggest


@dataclass(frozen=True)
class HubDataset:
    """A data set on the hub, its licence, and what to do with its files after the download."""

    repository: str
    licence: str
    next_step: str
    size: str = ""  # of what is downloaded, where it is known

    @property
    def page(self) -> str:
        """The address of its page. Access to a gated data set is requested there."""
        return f"https://huggingface.co/datasets/{self.repository}"


DATASETS = {
    "seed_bench_r1": HubDataset(
        "TencentARC/SEED-Bench-R1",
        "annotations Apache-2.0; videos and images under the licences of EPIC-Kitchens (CC BY-NC 4.0) and Ego4D",
        "unpack the archives so that videos/SOURCE/NAME.mp4 and images/SOURCE/NAME.png exist",
    ),
    "longvideobench": HubDataset(
        "longvideobench/LongVideoBench",
        "CC BY-NC-SA 4.0; request access on its page and set HF_TOKEN to your token",
        "cat videos.tar.part.* | tar x; tar xf subtitles.tar",
    ),
    "mvbench": HubDataset(
        "OpenGVLab/MVBench",
        "annotations MIT; each source of the videos has a licence of its own",
        "unpack video/*.zip; mvbench.toml reads 14 of its 20 tasks, mvbench_seconds.toml 4 and mvbench_frames.toml one",
    ),
    "tempcompass": HubDataset(
        "lmms-lab/TempCompass",
        "CC BY-NC 4.0, says its repository llyx97/TempCompass",
        "unpack tempcompass_videos.zip; each tempcompass*.toml explains how to convert its parquet file to lines",
    ),
    "video_mme_v2": HubDataset(
        "MME-Benchmarks/Video-MME-v2",
        "MIT on its page",
        "unpack videos/*.zip; video_mme_v2.toml explains how to convert its parquet file to lines",
    ),
    "mmvu": HubDataset(
        "lmms-lab/MMVU",
        "none on its page: ask the owners before you share anything",
        "unpack videos.zip; mmvu.toml explains how to convert its parquet file to lines",
        "videos.zip 0.9 GB",
    ),
    "video_r1_eval": HubDataset(
        "Video-R1/Video-R1-eval",
        "read its page; it holds questions alone, whose videos come from the six benchmarks",
        "put the videos where the field path of its records says; video_r1_eval*.toml read its files",
    ),
    "vsi_bench": HubDataset(
        "nyu-visionx/VSI-Bench",
        "Apache-2.0 on its page; its videos come from ScanNet, ScanNet++ and ARKitScenes, with licences of their own",
        "unpack scannet.zip, scannetpp.zip and arkitscenes.zip; vsi_bench.toml explains how to convert its parquet",
        "5.7 GB",
    ),
    "video_mmmu": HubDataset(
        "lmms-lab/VideoMMMU",
        "none on its page: ask the owners before you share anything",
        "unpack its videos, so that Art/ID.mp4, Science/ID.mp4 and so on exist; video_mmmu*.toml explain how to "
        "convert its three parquet files to lines",
    ),
    "video_holmes": HubDataset(
        "TencentARC/Video-Holmes",
        "Apache-2.0, for academic purposes only; the videos belong to their owners",
        "unpack videos.zip, so that videos_cropped/ID.mp4 exist",
    ),
    "egoplan": HubDataset(
        "EgoLife-v1/EgoPlan",
        "none on its page: ask the owners before you share anything; videos of EPIC-Kitchens and Ego4D under theirs",
        "unpack the videos, so that ID.mp4 exist; egoplan.toml explains how to convert its parquet file to lines",
    ),
    "egoplan2": HubDataset(
        "nv-njb/egoplan-bench2",
        "read its page; the videos come from Ego4D",
        "see egoplan2.toml, which explains how to convert its parquet files to lines",
    ),
    "video_mme": HubDataset(
        "lmms-lab/Video-MME",
        "academic research only, no commercial use; the videos belong to their owners",
        "unpack videos_chunked_*.zip; video_mme.toml explains how to convert its parquet file to lines",
    ),
}


def download(name: str, folder: Path, console: Console | None = None) -> None:
    """Download a data set to a folder, and copy the TOML files that describe it. Existing files are kept.

    Raises:
        UserError: if the name is unknown, or if the hub cannot be reached or refuses access.
    """
    if name not in DATASETS:
        raise UserError(f"no data set {name!r}.{suggest(name, DATASETS)}")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError

    dataset, console = DATASETS[name], console or Console()
    size = f"\nsize: {dataset.size}" if dataset.size else ""
    console.print(f"{dataset.page}\nlicence: {dataset.licence}{size}", highlight=False, soft_wrap=True)
    try:
        # The revision is looked up first: without network, `snapshot_download` alone would accept an incomplete folder.
        revision = HfApi().dataset_info(dataset.repository).sha
        snapshot_download(dataset.repository, repo_type="dataset", revision=revision, local_dir=folder)
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{dataset.repository} cannot be downloaded: {reason}. Run the same command again to resume. Without "
            f"network here: on another machine run git lfs clone {dataset.page}, copy it to {folder}, and in it "
            f"{dataset.next_step}. For a gated data set: request access on its page, then set HF_TOKEN to your token"
        ) from error
    for field_map in field_maps(name):
        if not (folder / field_map.name).exists():
            shutil.copy(field_map, folder)
    console.print(
        f"downloaded {folder}. Next: in it, {dataset.next_step}; then run rlvid data check {folder}",
        highlight=False,
        soft_wrap=True,
    )


def field_maps(name: str) -> list[Path]:
    """Return the TOML files that describe a data set: those that begin with its name and with no longer one.

    >>> [file.name for file in field_maps("egoplan")]
    ['egoplan.toml']
    """
    files = (module_file("experiments").parent / "benchmarks").glob(f"{name}*.toml")
    longer = tuple(other for other in DATASETS if other.startswith(name) and other != name)
    return sorted(file for file in files if not (longer and file.name.startswith(longer)))
