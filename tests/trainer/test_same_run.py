"""Which settings may differ on resuming, and that an evaluation is of the weights that are there now."""

import json
import re
from pathlib import Path

import pytest
from accelerate import Accelerator

from rlvid.api.evaluated import refuse_untrained
from rlvid.config import Config, config_keys, load
from rlvid.errors import UserError
from rlvid.trainer.counters import Counters
from rlvid.trainer.run_folder import RunFolder
from rlvid.trainer.same_run import weights_fingerprint
from rlvid.trainer.timer import StepTimer
from rlvid.types import Prompt
from rlvid.utils.files import append_jsonl, read_json, read_jsonl, write_checksums
from rlvid.video.read import BadVideo

ROOT = Path(__file__).parents[2]


def claim(path, *overrides, resume=True):
    """Claim a run's folder as a launch with these settings does, write a step, and leave it."""
    folder = RunFolder(path, load("nano", overrides), Accelerator(), StepTimer())
    with folder:
        folder.claim(resume)
        append_jsonl(path / "metrics.jsonl", {"step": 1})
    return folder


def test_settings_without_effect_may_differ_on_resuming(tmp_path):
    first = claim(tmp_path, resume=False)
    again = claim(
        tmp_path, "train.reward_timeout=5", "judge.concurrency=2", "train.save_steps=7", 'judge.url="http://b:1/v1"'
    )
    assert again.id == first.id == read_json(tmp_path / "status.json")["id"], "it stays the same run"
    assert (tmp_path / "config.toml").read_text() == first.toml
    with pytest.raises(UserError, match=r"train\.learning_rate is 0\.5, there"):
        claim(tmp_path, "train.reward_timeout=5", "train.learning_rate=0.5")
    with pytest.raises(UserError, match="max_tokens_per_forward"):
        claim(tmp_path, "train.max_tokens_per_forward=64")


def test_a_run_with_the_id_of_an_earlier_version_is_resumed(tmp_path):
    """Before 2026-12-01 the keys that change no result were in the id, with the values of config.toml."""
    first = load("nano", ["train.save_steps=30", "train.reward_timeout=5"])
    status = {"id": first.exact_id, "state": "interrupted", "step": 1}
    (tmp_path / "status.json").write_text(json.dumps(status))
    (tmp_path / "config.toml").write_text(first.to_toml())
    append_jsonl(tmp_path / "metrics.jsonl", {"step": 1})
    assert claim(tmp_path, "train.save_steps=7").id == first.exact_id != load("nano", ["train.save_steps=7"]).id
    assert read_json(tmp_path / "status.json")["id"] == first.exact_id, "it keeps its id, which grid.json names"
    with pytest.raises(UserError, match=r"\(train\.top_p is 0\.5, there 1\.0\)") as error:
        claim(tmp_path, "train.save_steps=7", "train.top_p=0.5")
    assert "save_steps" not in str(error.value)


def test_the_settings_that_may_differ_are_documented():
    neutral = {key.name for key in config_keys(Config()) if key.neutral}
    assert {"train.save_steps", "judge.url", "judge.timeout", "video.cache_dir", "report_to"} <= neutral
    text = " ".join((ROOT / "rlvid" / "README.md").read_text().split())
    start = text.index("keys that change no result")
    listed = text[start : text.index(".", text.index("report_to", start) + 10)]
    assert {name.rpartition(".")[2] for name in neutral} == {*re.findall(r"`(?:[a-z]+\.)?(\w+)`", listed)}


@pytest.mark.parametrize("has_checksums", [False, True])
def test_an_evaluation_of_weights_that_have_changed_is_not_taken_for_that_of_the_new_ones(
    tmp_path, monkeypatch, has_checksums
):
    monkeypatch.setattr("rlvid.trainer.same_run.HASHED_BYTES", 0)  # as of large files
    model, settings = tmp_path / "model", (f"model={tmp_path}/model", "train.max_steps=0")
    model.mkdir()

    def save(content):
        (model / "model.safetensors").write_bytes(content)
        if has_checksums:
            write_checksums(model)

    save(b"old")
    claim(tmp_path / "run", *settings)
    claim(tmp_path / "run", *settings)
    save(b"new")
    with pytest.raises(UserError, match=r"model whose weights have changed since: .* with --out"):
        claim(tmp_path / "run", *settings)
    (tmp_path / "run/weights.json").unlink()
    claim(tmp_path / "run", *settings)  # of an earlier version, which recorded none
    assert not (tmp_path / "run/weights.json").exists()


def test_small_files_of_weights_are_told_by_their_content(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"old")
    before = weights_fingerprint(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"old")
    assert weights_fingerprint(str(tmp_path)) == before != ""
    assert weights_fingerprint("Qwen/Qwen2-VL-2B-Instruct") == ""


def test_a_run_without_a_checkpoint_is_not_evaluated_as_its_start_model(tmp_path):
    (tmp_path / "config.toml").write_text(load("nano").to_toml())
    with pytest.raises(UserError, match=r"is a run without a checkpoint: .* its start model is nano"):
        refuse_untrained(tmp_path)
    (tmp_path / "checkpoints/step-000001").mkdir(parents=True)
    refuse_untrained(tmp_path)
    refuse_untrained("nano")


def test_clips_that_cannot_be_read_count_once_for_each_level_and_are_rewound(tmp_path):
    folder = RunFolder(tmp_path, load("nano", ["video.on_bad_video=skip"]), Accelerator(), StepTimer())
    counters = Counters()
    skip = folder.on_bad_clip(counters)
    for level in ("train", "train", "L1"):
        skip(Prompt("7", "?", level=level), BadVideo("film.mp4", "7", "no film"))
    assert counters.update(drawn=3)["data/decode_failures"] == 2
    resumed = Counters()
    resumed.load_state_dict(json.loads(json.dumps(counters.state_dict())))
    folder.on_bad_clip(resumed)(Prompt("8", "?", level="train"), BadVideo("film.mp4", "8", "no film"))
    assert len(read_jsonl(tmp_path / "skipped.jsonl")) == 3
    folder.rewind(0, counters.skipped)
    assert [(row["level"], row["id"]) for row in read_jsonl(tmp_path / "skipped.jsonl")] == [
        ("train", "7"),
        ("L1", "7"),
    ]


def test_what_one_process_could_not_read_counts_in_all(monkeypatch):
    counters = Counters(skipped={"train/1": "bad"})
    monkeypatch.setattr("rlvid.trainer.counters.gather_object", lambda mine: [*mine, {"train/1": "bad", "L1/1": "bad"}])
    assert counters.update(drawn=1)["data/decode_failures"] == 2 == len(counters.skipped)
