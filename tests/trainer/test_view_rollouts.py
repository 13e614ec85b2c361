"""Rollouts under altered views that are learnt from: what is sampled, what the loss reads, what a run reports."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rlvid.algorithm import Algorithm
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy.batching import row_lengths
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.sampler import Sampler
from rlvid.registry import build
from rlvid.trainer.metrics import view_metrics
from rlvid.trainer.rollout import Rollout, dummy_group
from rlvid.trainer.token_inputs import TokenInputs, view_inputs
from rlvid.trainer.view_rollouts import ViewSampler, check_sampling_views, loss_inputs
from rlvid.types import Group
from rlvid.utils.files import read_jsonl
from tests.helpers.general_models import write_general_model
from tests.helpers.policies import load_policy
from tests.helpers.processes import Child, finish, several
from tests.helpers.runs import train

VIEWS = {"": 2, "noise:800": 3, "patches:0.9": 1}
TRAIN = load("nano", ["train.num_generations=6", "train.max_completion_length=24"]).train
TINY = ["train.prompts_per_step=4", "train.num_generations=4", "train.max_completion_length=32", "train.max_steps=2"]
TINY += ["eval.splits=['L1']", "eval.limit=1", "eval.transfer=[]", "train.lr_scheduler_type=constant"]


def untouched(prompt, clip):
    return clip


def sampler_of(policy, settings=TRAIN):
    def timer(phase):
        return nullcontext()

    return ViewSampler(Sampler(policy, settings, timer), policy, settings, timer, untouched)


@pytest.fixture(scope="module")
def sampled(policy, prompts):
    """Three prompts, the last without a video; their inputs, and groups sampled under the clip and two views."""
    chosen = [*prompts[:2], prompts[5]]
    inputs = [policy.encode(prompt) for prompt in chosen]
    return chosen, inputs, *sampler_of(policy)(chosen, inputs, "7|3", VIEWS)


def rollout_of(policy, groups, inputs):
    totals = [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]] * len(groups)
    for group in groups:
        group.columns["accuracy"] = totals[0]
    return Rollout.gather(range(len(groups)), inputs, groups, totals, dummy_group(policy, groups[0].prompt))


def test_completions_are_those_of_a_sampler_that_is_given_the_view(policy, sampled):
    prompts, inputs, groups, _ = sampled
    assert [[c.view for c in group] for group in groups] == [[""] * 2 + ["noise:800"] * 3 + ["patches:0.9"]] * 3
    plain = Sampler(policy, TRAIN, lambda phase: nullcontext())(prompts, inputs, "7|3")
    for group, other in zip(groups, plain, strict=True):
        assert [c.tokens for c in group.completions[:2]] == [c.tokens for c in other.completions[:2]], (
            "as without views"
        )
    noisy, _ = view_inputs(policy, prompts, "noise:800", untouched, "7|3|noise:800")
    three = Sampler(policy, replace(TRAIN, num_generations=3), lambda phase: nullcontext())
    expected = three(prompts, noisy, "7|3|noise:800")
    for group, other in zip(groups, expected, strict=True):
        assert [c.tokens for c in group.completions[2:5]] == [c.tokens for c in other]
        assert group.completions[2].logps == pytest.approx(other.completions[0].logps, abs=1e-5)


def test_without_a_view_nothing_is_different_and_the_next_step_has_other_noise(policy, prompts, sampled):
    chosen, inputs, _, with_views = sampled
    groups, same = sampler_of(policy)(chosen, inputs, "7|3", Algorithm().sampling_views(3, 9, 6))
    assert same == inputs and all(c.view == "" for group in groups for c in group)
    _, again = sampler_of(policy)(chosen, inputs, "7|3", {"noise:800": 6})
    _, later = sampler_of(policy)(chosen, inputs, "7|4", {"noise:800": 6})
    pixels = [[one.views[-1][0].pixel_values for one in group] for group in (again, later)]
    assert pixels[0][0].equal(with_views[0].views[1][0].pixel_values) and not pixels[0][0].equal(pixels[1][0])
    assert sampler_of(policy)([], [], "7|3", VIEWS) == ([], [])


@pytest.mark.parametrize("budget", [1, 10**6])
def test_each_completion_is_scored_under_its_own_view(policy, sampled, budget):
    """The trainer's log-probs are the sampler's if the loss reads what was seen, and are not if it reads the clip."""
    _, _, groups, inputs = sampled
    backoff = OOMBackoff("tokens", budget)
    for pixels, is_on_policy in (("sampled", True), ("clean", False)):
        rollout = rollout_of(policy, groups, loss_inputs(SimpleNamespace(loss_pixels=pixels), inputs))
        made = TokenInputs(frozenset({"old_logps"}), policy, None, 1.0, backoff)(rollout)
        difference = (made["old_logps"] - made["sampled_logps"]).abs().view(3, 6, -1)
        assert difference[:, :2].max() < 1e-4
        assert (difference[:, 2:].max() < 1e-4) == is_on_policy


def test_the_gradient_is_that_of_separate_groups(policy, sampled):
    _, _, groups, inputs = sampled

    def gradient(prompts, parts):
        policy.zero_grad()
        (policy(prompts, parts).logps.sum(-1) * torch.arange(1.0, 19)).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    separate = [
        (part, Group(group.prompt, group.completions[start:end]))
        for group, one in zip(groups, inputs, strict=True)
        for (part, _), (start, end) in zip(one.views, ((0, 2), (2, 5), (5, 6)), strict=True)
    ]
    together, apart = gradient(inputs, groups), gradient(*zip(*separate, strict=True))
    assert torch.allclose(together, apart, atol=1e-4 * apart.abs().max())
    policy.zero_grad()


def test_a_group_of_several_views_counts_as_that_many_rows(policy, sampled):
    _, inputs, groups, with_views = sampled
    tokens = [[c.tokens for c in group] for group in groups]
    [plain], [several_rows] = row_lengths(inputs[:1], tokens[:1]), row_lengths(with_views[:1], tokens[:1])
    lengths = [len(t) for t in tokens[0]]
    assert plain == len(inputs[0].input_ids) + sum(lengths)
    longest = max(sum(lengths[:2]), sum(lengths[2:5]), lengths[5])
    assert several_rows == 3 * (len(inputs[0].input_ids) + longest)


def test_a_step_says_which_completions_are_off_policy(policy, sampled):
    _, _, groups, inputs = sampled
    for pixels in ("clean", "sampled"):
        rollout = rollout_of(policy, groups, inputs)
        made = TokenInputs(frozenset(), policy, None, 1.0, OOMBackoff("tokens", 10**6))(rollout)
        step = rollout.to_step(1, {"accuracy": 1.0}, made, {}, loss_pixels=pixels)
        assert [list(row) for row in step.views] == [[c.view for c in group] for group in groups]
        if pixels == "sampled":
            assert step.batch.off_view is None
        else:
            altered = torch.tensor([c.view != "" for group in groups for c in group]).float()
            assert step.batch.off_view.equal(step.batch.mask * altered[:, None])
    plain = [Group(g.prompt, [replace(c, view="") for c in g]) for g in groups]
    step = rollout_of(policy, plain, inputs).to_step(1, {"accuracy": 1.0}, made, {})
    assert not step.views and step.batch.off_view is None


def test_the_reference_reads_the_pixels_of_the_loss_whatever_a_reward_read(policy, sampled):
    """Evidence is under the clip: it is not reused where the loss reads the views."""
    _, _, groups, inputs = sampled
    groups = [replace(g, evidence={"ref_logps": [(9.0,) * len(c.tokens) for c in g]}) for g in groups]
    reference = SimpleNamespace(forward=policy.forward)
    for pixels, reuses in (("clean", True), ("sampled", False)):
        rollout = rollout_of(policy, groups, loss_inputs(SimpleNamespace(loss_pixels=pixels), inputs))
        needs = TokenInputs(frozenset({"ref_logps"}), policy, reference, 1.0, OOMBackoff("tokens", 10**6))
        assert (needs(rollout)["ref_logps"].max() == 9) == reuses


def test_features_of_pixels_that_are_seen_once_are_not_stored(prompts, tmp_path):
    frozen = load_policy("train.freeze_vision_tower=true", f"video.cache_dir={tmp_path}")
    prompt, folder = prompts[0], frozen.vision_cache.store.folder
    inputs = [frozen.encode(prompt)]
    frozen.vision_cache.features(inputs)
    files = len([*folder.rglob("*")])
    groups, views = sampler_of(frozen)([prompt], inputs, "stored?", VIEWS)
    output = frozen(views, groups)
    assert output.logps.isfinite().all() and len([*folder.rglob("*")]) == files


@pytest.mark.parametrize(
    ("name", "fields", "generations", "message"),
    [
        ("strive", {"variants": ["", "shuffled:0.5"]}, 8, "at step 1: view 'shuffled:0.5': only .* take a strength"),
        ("strive", {}, 3, "at step 1: train.num_generations = 3 is too small for 4 views"),
        ("strive", {"normalize": "variant"}, 7, 'normalize = "variant" compares two or more completions'),
        ("strive", {"variants": ["", "noize"]}, 8, "no view 'noize'"),
        ("noisy_rollout", {"noisy_share": 0.1}, 8, "noisy_share = 0.1 of train.num_generations = 8 is less than one"),
        ("noisy_grpo", {}, 3, "at step 1: train.num_generations = 3 is too small for 4 views"),
    ],
)
def test_views_that_cannot_be_sampled_are_refused_before_the_first_step(name, fields, generations, message):
    with pytest.raises(UserError, match=message):
        check_sampling_views(build("algorithms", name, **fields), replace(TRAIN, num_generations=generations))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"sampling_views": lambda *_: {"": 2, "blank": 3}}, "are not of 6 completions"),
        ({"sampling_views": lambda *_: {"": 7, "blank": -1}}, "are not of 6 completions"),
        ({"completion_source": "data", "sampling_views": lambda *_: {"blank": 6}}, "data set cannot be sampled"),
        ({"loss_pixels": "noisy"}, 'loss_pixels must be "clean" or "sampled"'),
        ({"sampling_views": lambda *_: None}, "object is not iterable"),
    ],
)
def test_an_algorithm_of_ones_own_that_names_no_views_is_refused(attributes, message):
    mine = type("Mine", (Algorithm,), attributes)
    with pytest.raises(UserError, match=f"algorithm Mine at step 1: .*{message}"):
        check_sampling_views(mine(), TRAIN)


def record_of(views, totals):
    return SimpleNamespace(views=views, totals=totals)


def test_metrics_split_the_rewards_by_view():
    """Group 1: view means 1 and .25 of 2 each, mean .625; group 2: view means .5 and .5. Between: 4 * .375^2."""
    views = ("", "", "crop:0.8", "crop:0.6")
    records = [record_of(views[:2] + ("crop:0.8",) * 2, (1.0, 1.0, 0.5, 0.0)), record_of(views, (1.0, 0.0, 0.5, 0.5))]
    metrics = view_metrics(records)
    assert metrics["views/completions"] == 4 and metrics["views/strength"] == pytest.approx(0.75)
    assert metrics["views/reward"] == pytest.approx(1.5 / 4) and metrics["views/reward_clean"] == pytest.approx(3 / 4)
    within = 2 * 0.25**2 + 2 * 0.5**2
    between = 4 * 0.375**2
    assert metrics["views/variance_between"] == pytest.approx(between / (between + within))
    assert view_metrics([record_of((), (1.0, 0.0))]) == {}
    assert "views/variance_between" not in view_metrics([record_of(views, (1.0,) * 4)]), "all earned the same"


def test_a_run_counts_them_and_says_how_far_the_log_probs_are_apart(kitchen, tmp_path):
    settings = [*TINY, "train.max_steps=1", "algorithm=noisy_grpo", "algorithm.importance_sampling_mode=token_truncate"]
    row = read_jsonl(train(tmp_path / "clean", *settings) / "metrics.jsonl")[0]
    assert row["views/completions"] == 12 and row["views/strength"] == pytest.approx(600)
    rewards = 0.25 * row["views/reward_clean"] + 0.75 * row["views/reward"]
    assert rewards == pytest.approx(row["reward"])
    assert row["sampling/view_logp_difference/mean"] > 1e-2 > row["sampling/sampling_logp_difference/max"]
    assert 0 < row["sampling/importance_sampling_ratio/min"] < 1 < row["sampling/importance_sampling_ratio/max"] <= 2
    samples = read_jsonl(tmp_path / "clean/samples/step-000001.jsonl")
    assert all(row["views"] == ["", "noise:300", "noise:600", "noise:900"] for row in samples)
    on_policy = [*TINY, "train.max_steps=1", "algorithm=noisy_grpo", "algorithm.loss_pixels=sampled"]
    row = read_jsonl(train(tmp_path / "sampled", *on_policy) / "metrics.jsonl")[0]
    assert row["views/completions"] == 12 and row["sampling/sampling_logp_difference/max"] < 1e-3
    assert "sampling/view_logp_difference/mean" not in row


@pytest.mark.parametrize(
    "settings",
    [
        ["algorithm=noisy_rollout", "algorithm.importance_sampling_mode=sequence_truncate", "algorithm.beta=0.01"],
        ["algorithm=noisy_grpo", "algorithm.loss_pixels=sampled", "algorithm.num_minibatches=2"],
    ],
    ids=["clean", "sampled"],
)
def test_two_processes_learn_what_one_learns(kitchen, tmp_path, settings):
    one, two = tmp_path / "one", tmp_path / "two"
    finish(Child(one, *TINY, *settings))
    finish(*several(two, *TINY, *settings))
    single, double = (read_jsonl(out / "metrics.jsonl") for out in (one, two))
    assert len(single) == 2 and [row.keys() for row in single] == [row.keys() for row in double]
    for mine, other in zip(double, single, strict=True):
        assert mine == pytest.approx(other, rel=2e-3, abs=2e-4)


def test_a_model_on_the_general_path_learns_from_its_own_views(kitchen, tmp_path):
    folder = write_general_model("gemma3", tmp_path / "gemma3")
    settings = [f"model={folder}", *TINY, "train.max_steps=1", "train.prompts_per_step=2"]
    settings += ["algorithm=noisy_rollout", "algorithm.loss_pixels=sampled", "algorithm.midpoint=1.5"]
    (row,) = read_jsonl(train(tmp_path / "run", *settings) / "metrics.jsonl")
    assert row["views/completions"] == 4 and row["views/strength"] == 499
    assert row["sampling/sampling_logp_difference/max"] < 3e-4 and row["grad_norm"] > 0
