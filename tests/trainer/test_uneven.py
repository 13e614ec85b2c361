"""Processes with unequal work stay in step: one has no pixels, or no readable clip."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from rlvid.data.seed_bench_r1 import load
from rlvid.registry import NANO_CHECKPOINT
from rlvid.utils.files import read_jsonl
from tests.helpers.processes import Child, finish, several


@pytest.fixture(scope="module")
def benchmark(kitchen, tmp_path_factory):
    """Eight questions: those of one process have no pixels, of the other's one is without and one has a bad clip.

    So before the first step, the processes check prompts of one kind and of two.
    """
    root = tmp_path_factory.mktemp("uneven")
    rows = []
    for number, prompt in enumerate([p for p in load(kitchen, "train") if p.video][:8]):
        clip = None if number % 2 or number == 6 else f"{number}.mp4"
        if clip:
            shutil.copy(prompt.video, root / clip)
        options = dict(zip("ABCD", prompt.options, strict=True))
        rows.append({"q": prompt.question, "o": options, "a": prompt.answer, "clip": clip, "level": "train"})
    (root / "4.mp4").write_bytes(b"no film")
    (root / "q.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, rows[0] | {"level": "L1"}]))
    (root / "uneven.toml").write_text(
        'layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\n'
        'video = "{clip}"\nlevel = "level"\n'
    )
    return root / "uneven.toml"


FACTS = """
from dataclasses import replace
from algorithms.grpo import GRPO

class Facts(GRPO):
    needs = frozenset({"ref_logps", "old_logps", "old_entropy", "view_logps:blank", "view_logps:shuffled",
                       "tag_mask:think"})

    def credit(self, step):
        batch = super().credit(step)
        changes = [(batch.old_logps - batch.view_logps[view]).abs() for view in ("blank", "shuffled")]
        factors = 1 + sum(changes) + batch.old_entropy + batch.tag_masks["think"]
        return replace(batch, advantages=batch.advantages * factors)
"""


def settings(benchmark):
    """Two prompts a step, one per process, so that the unreadable clip leaves one process without work.

    The algorithm reads everything that there is to read about tokens. The learning rate is small, so that no token is
    sampled differently: AdamW divides rounding by its own size where a gradient is almost 0.
    """
    (benchmark.parent / "facts.py").write_text(FACTS)
    return (
        f"data={benchmark}", "train.prompts_per_step=2", "train.max_steps=4", "train.num_generations=4",
        "train.learning_rate=1e-6", "video.on_bad_video=skip", "train.ddp_timeout=60",
        f"algorithm={benchmark.parent}/facts.py", "algorithm.beta=0.04",
    )  # fmt: skip


def change(run):
    """Return by how much a run of four steps has changed all weights, (parameters,)."""
    before, after = (
        load_file(path / "model.safetensors") for path in (NANO_CHECKPOINT, run / "checkpoints/step-000004")
    )
    return torch.cat([(after[name] - before[name].float()).flatten() for name in before])


@pytest.mark.parametrize("zero", [0, 3], ids=["ddp", "zero3"])
def test_two_processes_with_unequal_work_learn_what_one_learns(benchmark, tmp_path, monkeypatch, zero):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    one, two = tmp_path / "one", tmp_path / "two"
    finish(Child(one, *settings(benchmark)))
    finish(*several(two, *settings(benchmark), zero=zero))
    single, double = (read_jsonl(out / "metrics.jsonl") for out in (one, two))
    asked = [len(read_jsonl(path)) for path in sorted((two / "samples").glob("*.jsonl"))]
    assert sorted(asked) == [1, 2, 2, 2], "the clip that is no film is skipped, in one process"
    for mine, other in zip(double, single, strict=True):
        assert mine == pytest.approx(other, rel=2e-3, abs=2e-4)
    assert torch.cosine_similarity(change(two), change(one), dim=0) > 0.999
    assert double[-1]["data/decode_failures"] == 1
    assert not (tmp_path / "extensions").exists(), "DeepSpeed compiled a kernel"


def test_two_processes_compare_the_completions_of_unequally_many_groups(kitchen, tmp_path):
    """Three prompts, each a micro-batch of its own: one process has two of them, the other one and a dummy group."""
    settings = ("algorithm=dpo", "train.prompts_per_step=3", "train.max_tokens_per_forward=1", "train.max_steps=1")
    one, two = tmp_path / "one", tmp_path / "two"
    finish(Child(one, *settings), *several(two, *settings))
    [single], [double] = (read_jsonl(out / "metrics.jsonl") for out in (one, two))
    assert single["grad_norm"] > 0 and double == pytest.approx(single, rel=2e-3, abs=2e-4)
