"""The benchmarks: all implementations process the same tokens, in processes of their own, and are timed in turn."""

from dataclasses import replace

import pytest
from peft import get_peft_model
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerFast

from rlvid.bench import compare, throughput
from rlvid.bench.implementations import STEPS
from rlvid.bench.published_models import OTHER_FAMILIES
from rlvid.bench.trl_baseline import lora_config
from rlvid.bench.workload import (
    IMPLEMENTATIONS,
    MODEL_SIZES,
    MODELS,
    Workload,
    filler_question,
    model_config,
    write_random_model,
)
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.sampler import Sampler
from rlvid.registry import NANO_CHECKPOINT
from tests.helpers.runs import rlvid

# 81 visual tokens of the video and 81 of the image.
SMALL = Workload("tiny", num_generations=2, prompt_tokens=230, completion_tokens=4, frames=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "OUTPUT_FOLDER", tmp_path)
    return tmp_path


def assert_one_step(measured, tokens, has_phases=True):
    """The measurements are those of one step of so many tokens, whose phases are parts of it."""
    assert measured["tokens"] == tokens
    (turn,) = measured["turns"]
    phases = sum(seconds for phase, seconds in turn.items() if phase != "step")
    assert 0 < phases <= turn["step"] if has_phases else [*turn] == ["step"]
    assert measured["peak_gb"] > 0.3


def test_ours_and_trl_process_the_same_tokens_in_processes_of_their_own(folder):
    result = compare.compare_steps(SMALL, ["ours", "trl"], 1, folder / "out")
    assert [*result["implementations"]] == ["ours", "trl"]
    for name, measured in result["implementations"].items():
        assert_one_step(measured, 2 * (230 + 4), has_phases=name != "trl")
    table = compare.steps_table(result)
    assert table.row_count == 2 and next(table.columns[3].cells) == "1.00"
    assert compare.phases_table(result).row_count == 1
    assert all(float(cell) > 0 for cell in table.columns[6].cells) and next(table.columns[7].cells) == "1.00", "CPU"


def test_all_our_implementations_process_the_same_tokens(folder):
    model = write_random_model(SMALL.model, folder / "model")
    for name in {*STEPS} - {"views"}:
        step = STEPS[name](model, SMALL)
        assert step.step()["learn"] > 0 and step.tokens == 2 * (230 + 4), name


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_steps_of_other_families_process_the_same_tokens(folder, family):
    """Packed rows, and one call of `generate` for each completion, which is told the times where it must be."""
    workload = replace(SMALL, model=f"{family}_tiny")
    model = write_random_model(workload.model, folder / family)
    for name in ("ours", "reference"):
        step = STEPS[name](model, workload)
        assert step.policy.model.config.model_type == family
        assert step.step()["learn"] > 0 and step.tokens == 2 * (230 + 4)
    with pytest.raises(UserError, match=r"Qwen2-VL only.*leave trl out"):
        compare.compare_steps(workload, ["ours", "trl"], 1, folder / "out")


def test_every_model_has_a_config_and_an_unknown_one_is_named():
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    for name in MODELS:
        config = model_config(name, tokenizer)
        family = "qwen2_vl" if name in MODEL_SIZES else name.rpartition("_")[0]
        assert config.model_type == family
        assert config.video_token_id == tokenizer.convert_tokens_to_ids("<|video_pad|>")
    with pytest.raises(UserError, match=r"no benchmark model 'qwen3_vl_2m'.*qwen3_vl_20m"):
        model_config("qwen3_vl_2m", tokenizer)


def test_every_implementation_can_be_run():
    assert {*STEPS, "trl"} == {*IMPLEMENTATIONS}


def test_a_step_with_views_computes_what_its_workload_needs(folder):
    workload = replace(SMALL, needs=("view_logps:patches", "old_entropy"))
    step = STEPS["views"](write_random_model("20m", folder / "model"), workload)
    tensors, original = [], step.token_inputs
    step.token_inputs = lambda rollout: tensors.append(original(rollout)) or tensors[0]
    assert step.step()["reference"] > 0
    assert tensors[0].keys() == {"sampled_logps", "ref_logps", "view_logps:patches", "old_entropy"}
    assert (tensors[0]["view_logps:patches"] - tensors[0]["ref_logps"]).abs().max() > 1e-5, "the clip is altered"


def test_an_implementation_that_ends_is_named_with_the_last_line_of_its_log(folder):
    with pytest.raises(UserError, match=r"implementation 'ours' ended: .*no room for its visual tokens"):
        compare.compare_steps(Workload(prompt_tokens=100), ["ours"], 1, folder / "out")


def test_a_sweep_is_tabulated_and_drawn(folder, monkeypatch):
    monkeypatch.setattr(compare, "SWEEPS", {"num_generations": (2,), "completion_tokens": (3,)})
    of_images = replace(SMALL, frames=0)
    result = compare.run_sweep(of_images, 1, folder / "out")
    assert [*result] == ["num_generations", "completion_tokens"]
    assert_one_step(result["num_generations"][2], 2 * (230 + 4))
    assert_one_step(result["completion_tokens"][3], 2 * (230 + 3))
    assert compare.sweep_table(result).row_count == 2
    assert compare.draw_sweep(result, folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_batched_and_single_answers_have_the_same_length(folder, monkeypatch):
    sampled = []
    variants = throughput.answering_variants(SMALL, folder / "model", questions=2)
    original = Sampler.__call__
    monkeypatch.setattr(Sampler, "__call__", lambda *arguments: sampled.append(original(*arguments)))
    in_a_batch, one_by_one = variants.values()
    in_a_batch()
    one_by_one()
    (groups,) = sampled
    assert [len(completion.tokens) for group in groups for completion in group] == [4, 4]


def test_a_first_epoch_decodes_every_clip_and_a_second_epoch_none(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "CLIPS", 3)
    monkeypatch.setattr(throughput, "CLIP_SECONDS", 1)
    monkeypatch.setenv("RLVID_CACHE", str(tmp_path))  # decoding_variants changes it; monkeypatch restores it
    caches, original = [], throughput.FrameCache

    def recorded_cache(video):
        caches.append(original(video))
        return caches[0]

    monkeypatch.setattr(throughput, "FrameCache", recorded_cache)
    variants = throughput.decoding_variants(tmp_path)
    (cache,) = caches
    misses_before = cache.misses
    variants["ours, first epoch"]()
    assert cache.misses - misses_before == throughput.CLIPS
    variants["ours, second epoch"]()
    assert cache.misses - misses_before == throughput.CLIPS
    variants["decord"]()
    cache.close()


def test_the_warm_up_turn_is_not_counted():
    seconds = throughput.time_variants({"nothing": lambda: None}, 2)
    assert len(seconds["nothing"]) == 2
    assert throughput.variants_table({"a": [1.0, 2.0], "b": [2.0, 4.0]}, "clips", 3).row_count == 2


def test_a_filler_question_gives_a_prompt_its_length():
    assert filler_question(100, 230).count(" carrot") == 130
    with pytest.raises(UserError, match="no room"):
        filler_question(300, 230)


def test_trl_trains_the_adapter_that_ours_trains(folder):
    """With "all-linear" it would have adapted the vision tower, too, which ours keeps frozen."""
    path = write_random_model("tiny", folder / "tiny")
    theirs = get_peft_model(AutoModelForImageTextToText.from_pretrained(path), lora_config(replace(SMALL, lora_r=4)))
    ours = AutoModelForImageTextToText.from_pretrained(path)
    lora.add_adapter(ours, lora.POLICY, 4, 8, 0)
    names = [
        {n.removeprefix("base_model.model.") for n, p in m.named_parameters() if p.requires_grad}
        for m in (theirs, ours)
    ]
    assert names[0] == names[1] and len(names[0]) == 4 * 7 * 2
    assert lora_config(SMALL) is None


def test_a_model_that_was_not_written_to_its_end_is_not_taken_for_one(folder, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PreTrainedTokenizerFast, "save_pretrained", interrupt)
        write_random_model("tiny", folder / "tiny")
    assert [*folder.iterdir()] == []
    assert (write_random_model("tiny", folder / "tiny") / "tokenizer.json").is_file()


def interrupt(*arguments, **options):
    """What Ctrl-C does while the tokenizer is written, after the weights."""
    raise KeyboardInterrupt


def test_an_unknown_benchmark_is_refused():
    assert rlvid("bench", "steps").returncode == 2
