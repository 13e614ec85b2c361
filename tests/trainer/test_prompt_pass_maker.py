"""Sampling and learning share one pass of the prompts: the same completions, the same update, and when they do not."""

from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from rlvid.config import load
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.prompt_pass import PromptPass
from rlvid.trainer.prompt_pass_maker import PromptPassMaker
from rlvid.trainer.rollout import Rollout
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl
from rlvid.video.views import Clip
from tests.helpers.policies import add_critic, policy_of
from tests.helpers.runs import train
from tests.helpers.sampling import encode_all, no_timer

STEPS = ["train.prompts_per_step=6", "train.max_steps=2", "train.save_steps=1", "train.learning_rate=1e-5"]
STEPS += ["eval.splits=[]"]
OUT_OF_MEMORY = "CUDA out of memory."


def run(out, monkeypatch, *settings, shared=True):
    """Train nano for two steps; return the metrics, completions and weights of step 1, and the number of passes.

    Passes of groups through the model are counted over both steps and by kind: for the loss, with and without prompts
    that were kept, and for scores. The tokens of step 2 may differ: AdamW divides rounding by its own size where a
    gradient is almost 0.
    """
    passes = Counter()
    forward, score = Rollout.forward, Rollout.score_no_grad

    def counted_forward(rollout, *args):
        passes["completions" if rollout.kept_prompts else "whole rows"] += len(rollout.groups)
        return forward(rollout, *args)

    def counted_score(rollout, *args):
        passes["scores"] += len(rollout.groups)
        return score(rollout, *args)

    with monkeypatch.context() as patches:
        patches.setattr(Rollout, "forward", counted_forward)
        patches.setattr(Rollout, "score_no_grad", counted_score)
        if not shared:
            patches.setattr(PromptPassMaker, "are_shared", False)
        folder = train(out, *STEPS, *settings)
    metrics = read_jsonl(folder / "metrics.jsonl")[0]
    completions = [group["completions"] for group in read_jsonl(folder / "samples/step-000001.jsonl")]
    weights = folder / "checkpoints/step-000001"
    name = "adapter_model.safetensors" if "train.lora_r=4" in settings else "model.safetensors"
    return metrics, completions, load_file(weights / name), passes


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("algorithm.beta=0.04",),
        ("train.max_tokens_per_forward=1700",),
        ("algorithm=rloo",),
        ("train.lora_r=4",),
    ],
    ids=["flat groups", "all groups", "several parts", "a pass before credit", "LoRA"],
)
def test_completions_metrics_and_weights_are_those_of_two_passes(kitchen, tmp_path, monkeypatch, settings):
    metrics, completions, weights, passes = run(tmp_path / "run", monkeypatch, *settings)
    expected, other_completions, other_weights, other_passes = run(
        tmp_path / "two", monkeypatch, *settings, shared=False
    )
    assert completions == other_completions, "with gradients, prefill gives the same bits"
    assert metrics == pytest.approx(expected, rel=2e-4, abs=2e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, other_weights[name], rtol=1e-4, atol=2e-6)
    assert passes["completions"] == other_passes["whole rows"] == 12, "six groups in each of two steps, each once"
    assert passes["scores"] == other_passes["scores"] and not passes["whole rows"]


def sharing_of(*overrides, critic="", stage=0):
    config = load("nano", overrides)
    policy = policy_of(config)
    if critic:
        add_critic(policy, critic, config)
    algorithm = config.algorithm.build("algorithms")
    return PromptPassMaker(algorithm, policy, config.train, OOMBackoff("tokens"), no_timer, stage)


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["algorithm=sft"], {}),
        (["algorithm=dapo"], {}),
        (["algorithm.num_iterations=2"], {}),
        (["algorithm.num_minibatches=2"], {}),
        (["algorithm=ppo", "algorithm.num_minibatches=1"], {"critic": "head"}),
        (["train.dtype=bfloat16"], {}),
        (["train.gradient_checkpointing=true"], {}),
        (["train.use_vllm=true"], {}),
        ([], {"stage": 2}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_prompts_are_not_shared(kitchen, prompts, overrides, options):
    sharing = sharing_of(*overrides, **options)
    assert not sharing.are_shared and sharing(encode_all(sharing.policy, prompts), range(7), {"": 8}) is None


def test_a_pass_has_to_fit_into_the_budget_and_shows_the_clip_itself(kitchen, prompts, monkeypatch):
    sharing = sharing_of("train.num_generations=4", "train.max_completion_length=10")
    inputs = encode_all(sharing.policy, prompts)
    tokens = 7 * max(len(prompt.input_ids) for prompt in inputs)
    assert sharing(inputs, range(7), {"": 4, "noise:0.5": 0}).tokens == tokens
    assert sharing(inputs, range(7), {"": 2, "noise:0.5": 2}) is None
    assert sharing([], range(0), {"": 4}) is None
    sharing.backoff.size = tokens + 40
    assert sharing(inputs, range(7), {"": 4}) is not None
    sharing.backoff.size -= 1
    assert sharing(inputs, range(7), {"": 4}) is None


def test_without_memory_for_activations_the_sampler_prefills(kitchen, prompts, monkeypatch):
    def fails(*args):
        raise RuntimeError(OUT_OF_MEMORY)

    monkeypatch.setattr(PromptPass, "of", fails)
    sharing = sharing_of()
    assert sharing(encode_all(sharing.policy, prompts), range(7), {"": 8}) is None
    assert sharing.backoff.failed and sharing.backoff.size > 10**9, "micro-batches stay as large as they were"


def test_where_memory_runs_out_in_the_backward_pass_of_the_prompts_they_go_through_the_model_again(
    kitchen, tmp_path, monkeypatch, capfd
):
    metrics, _, weights, passes = run(tmp_path / "run", monkeypatch)
    backward, failed = PromptPass.backward, []

    def fails_once(prompt_pass):
        if not failed:
            failed.append(True)
            raise RuntimeError(OUT_OF_MEMORY)
        backward(prompt_pass)

    monkeypatch.setattr(PromptPass, "backward", fails_once)
    other_metrics, _, other_weights, other_passes = run(tmp_path / "low", monkeypatch)
    error = capfd.readouterr().err
    assert "the prompts go through the model again" in error and "at a time" not in error, "the size stays the same"
    assert other_metrics == pytest.approx(metrics, rel=2e-4, abs=2e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, other_weights[name], rtol=1e-4, atol=2e-6)
    assert passes == {"completions": 12} and other_passes["whole rows"] > 0


def test_prompts_are_kept_only_if_two_thirds_of_the_groups_are_learnt_from(kitchen, tmp_path, monkeypatch):
    """All groups are flat, of which one is learnt from nevertheless; and one of six is flat."""
    for name, paid, expected in (
        ("few", "len(groups)", {"completions": 5, "whole rows": 1}),
        ("most", "1", {"completions": 6}),
    ):
        (tmp_path / f"{name}.py").write_text(
            f"def {name}(groups):\n"
            "    flat, equal = iter(range(99)), [[1.0] * len(group) for group in groups]\n"
            f"    return [row if next(flat) < {paid} else [float(i) for i in range(len(row))] for row in equal]\n"
        )
        rewards = f"rewards={{'{tmp_path}/{name}.py:{name}'=1.0}}", "rewards.accuracy=0", "rewards.format=0"
        settings = (*rewards, "train.max_steps=1")
        metrics, _, weights, passes = run(tmp_path / name, monkeypatch, *settings)
        expected_metrics, _, other, _ = run(tmp_path / f"{name}-two", monkeypatch, *settings, shared=False)
        assert passes == expected
        assert metrics == pytest.approx(expected_metrics, rel=2e-4, abs=2e-5)
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor, other[key], rtol=1e-4, atol=2e-6)


def test_a_forward_pass_that_began_at_kept_prompts_is_dropped_with_them(policy):
    inputs = policy.encode(Prompt("any", "", ("a", "b"), "A"), Clip())
    group = Group(Prompt("any", "", ("a", "b"), "A"), [Completion("", (5, 6)), Completion("", (7,))])
    prompt_pass = PromptPass.of(policy, [inputs], [0], no_timer)
    rollout = Rollout([0], [inputs], [group], [], (inputs, group), kept_prompts=[prompt_pass])
    length = len(inputs.input_ids)
    assert rollout.smallest_budget == rollout.largest_budget == length + 3
    rollout.kept_forward.append(rollout.forward(policy, 1.0))
    rollout.drop_kept()
    assert rollout.kept_prompts == rollout.kept_forward == []
    assert rollout.smallest_budget == length + 3
