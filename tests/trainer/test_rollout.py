"""Rollouts: further rounds replace flat groups, truncated completions are left out, tensors keep their rows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlvid.data.benchmark import load_level
from rlvid.data.prompts import prompts_of_step
from rlvid.data.seed_bench_r1 import load
from rlvid.distributed import shard_prompts
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.trainer.credit import assign_credit
from rlvid.trainer.rollout import Rollout, dummy_group, minibatches, pad_rows
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl
from tests.helpers import toy
from tests.helpers.runs import stop_after, train

TEXTS = ("<think>a</think><answer>A</answer>", "<think>b</think><answer>B</answer>")


def rollout_of(*rows, first=0):
    """A rollout whose groups have these totals; a prompt's model inputs are a string with its number."""
    indices = list(range(first, first + len(rows)))
    groups = [Group(Prompt(f"s{i}", "?", ("x", "y"), "A"), [Completion(t, (1, 2), (-0.5, -i)) for t in TEXTS])
              for i in indices]  # fmt: skip
    for group, row in zip(groups, rows, strict=True):
        group.columns["accuracy"] = list(row)
    return Rollout.gather(
        indices, [f"e{i}" for i in indices], groups, [list(row) for row in rows], ("dummy", groups[0])
    )


FLAT, MIXED = (1.0, 1.0), (1.0, 0.0)


def test_flat_groups_are_replaced_by_informative_ones():
    rollout = rollout_of(FLAT, MIXED, FLAT)
    assert [r.id for r in rollout.informative] == ["s1"]
    fuller = rollout.merge(rollout_of(FLAT, MIXED, first=3), 3)
    assert [r.id for r in fuller.records] == ["s0", "s1", "s4"]  # the first flat group fills the last place
    assert fuller.inputs == ("e0", "e1", "e4") and fuller.group_indices == [0, 1, 2]
    assert [g.prompt.id for g in fuller.groups] == ["s0", "s1", "s4"]
    full = fuller.merge(rollout_of(MIXED, MIXED, first=5), 3)
    assert [r.id for r in full.records] == ["s1", "s4", "s5"] and len(full.informative) == 3


def test_a_step_holds_everything_in_the_order_of_its_records():
    rollout = rollout_of(MIXED, FLAT)
    token_inputs = {"sampled_logps": torch.arange(8.0).reshape(4, 2)}
    step = rollout.to_step(7, {"accuracy": 1.0}, token_inputs, {"kept": 1})
    assert step.ids == ["s0", "s1"] and step.labels == ["A", "A"] and step.number == 7 and step.memory == {"kept": 1}
    assert step.answers == [("A", "B"), ("A", "B")] and step.finished.all()
    assert step.columns["accuracy"].tolist() == [[1, 0], [1, 1]]
    assert step.batch.mask.shape == (4, 2) and torch.equal(step.batch.sampled_logps, token_inputs["sampled_logps"])


def test_a_reward_that_does_not_apply_is_nan():
    rollout = rollout_of((1.0, 0.0))
    rollout.records[0].columns["accuracy"][1] = None
    step = rollout.to_step(1, {"accuracy": 2.0}, {}, {})
    assert step.columns["accuracy"][0, 1].isnan()
    assert build("algorithms", "reinforce").rewards(step).tolist() == [[2.0, 0.0]]


def test_scores_before_a_gate_are_passed_on_unless_noise_is_in_them():
    rollout = rollout_of(MIXED, FLAT)
    for record, row in zip(rollout.records, ([0.2, None], [0.4, 0.6]), strict=True):
        record.columns["consistency"] = [0.0, 0.0]
        record.evidence["agreement/consistency"] = row
    mix = {"accuracy": 1.0, "consistency": 0.3}
    [[name, scores]] = rollout.to_step(1, mix, {}, {}, "accuracy").agreements.items()
    assert name == "consistency" and scores.nan_to_num(-1).tolist() == [[0.2, -1], [0.4, 0.6]]
    assert not rollout.to_step(1, mix, {}, {}, "consistency").agreements
    assert not rollout.to_step(1, {"accuracy": 1.0}, {}, {}).agreements


@pytest.mark.parametrize("name", ["grpo", "dpo", "ipo", "cdpo", "rdpo", "dr_dpo"])
def test_a_dummy_group_has_no_weight(policy, prompts, name):
    """In each loss, and as large as the step's groups: losses of preferences compare the completions of a group."""
    algorithm, dummy_input = build("algorithms", name), dummy_group(policy, prompts[0])
    rollout = replace(rollout_of(MIXED, FLAT), dummy_group=dummy_input)
    token_inputs = {"sampled_logps": torch.zeros(4, 2), "ref_logps": torch.zeros(4, 2)}
    step = rollout.to_step(1, {"accuracy": 1.0}, token_inputs, {})
    rollout = rollout.with_batch(assign_credit(algorithm, step), torch.device("cpu"))
    for mine in (rollout, rollout.select([])):  # a process with fewer groups than another, and one without any
        dummy = mine.dummy()
        assert dummy.inputs == [dummy_input[0]] and dummy.batch.mask.shape == (2, 2)
        assert not dummy.batch.mask.any() and not dummy.batch.weights.any()
        output = policy(dummy.inputs, dummy.groups, 1.0)
        batch = dummy.batch.with_outputs(output.logps.shape[1], output.entropy, output.values)
        losses, _ = algorithm.loss(output.logps, batch)
        assert losses.shape == batch.mask.shape and (losses * batch.weights).sum() == 0
    assert (rollout.select([1]).batch.weights > 0).all() and rollout.select([1]).inputs == ["e1"]


def test_truncated_completions_are_not_learnt_from():
    filtering = build("algorithms", "dapo", mask_truncated_completions=True)
    step = toy.make_step(torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.ones(2, 3))
    batch = assign_credit(filtering, replace(step, finished=torch.tensor([[True, False]])))
    assert batch.weights.tolist() == [[pytest.approx(1 / 3)] * 3, [0, 0, 0]]
    assert batch.advantages[0, 0] > 0  # it still counts in its group's mean
    nothing = assign_credit(filtering, replace(step, finished=torch.zeros(1, 2, dtype=torch.bool)))
    assert not nothing.weights.any() and nothing.weights.isfinite().all()


def test_padding_keeps_rows():
    assert pad_rows([torch.ones(1, 2), 2 * torch.ones(2, 1)]).tolist() == [[1, 1], [2, 0], [2, 0]]
    assert pad_rows([]).shape == (0, 0)


def test_dynamic_sampling_draws_more_prompts_and_resumes_exactly(kitchen, tmp_path):
    changes = [
        "algorithm=dapo",
        "train.num_generations=2",
        "train.max_steps=3",
        "train.save_steps=1",
        "eval.splits=['L1']",
    ]
    plain = read_jsonl(train(tmp_path / "plain", *changes, "algorithm.max_num_gen_batches=1") / "metrics.jsonl")
    more = train(tmp_path / "more", *changes, "algorithm.max_num_gen_batches=20")
    rows = read_jsonl(more / "metrics.jsonl")
    assert plain[-1]["num_prompts"] == 12 < rows[-1]["num_prompts"]
    assert plain[0]["frac_reward_zero_std"] > 0 and all(row["frac_reward_zero_std"] == 0 for row in rows)
    samples = [read_jsonl(path) for path in sorted((more / "samples").iterdir())]
    kept = sum(sum(row["lengths"]) for step in samples for row in step)
    assert rows[-1]["num_completion_tokens"] > kept, "those of replaced groups count, too"
    assert all(len(step) == 4 and len({row["id"] for row in step}) == 4 for step in samples)
    first = [row["id"] for row in read_jsonl(tmp_path / "plain/samples/step-000001.jsonl")]
    assert {row["id"] for row in samples[0]} & set(first)  # informative groups of the first round are kept
    stop_after(more, 1)
    train(more, *changes, "algorithm.max_num_gen_batches=20", resume=True)
    assert read_jsonl(more / "metrics.jsonl") == rows


@pytest.fixture
def five_clips(kitchen, tmp_path):
    """A benchmark of five questions, each with a clip of its own."""
    rows = []
    for number, prompt in enumerate([p for p in load(kitchen, "train") if p.video][:5]):
        shutil.copy(prompt.video, tmp_path / f"{number}.mp4")
        options = dict(zip("ABCD", prompt.options, strict=True))
        rows.append({"q": prompt.question, "o": options, "a": prompt.answer, "clip": f"{number}.mp4", "level": "train"})
    held_out = rows[0] | {"clip": None, "level": "L1"}
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, held_out]))
    (tmp_path / "five.toml").write_text(
        'layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\n'
        'video = "{clip}"\nlevel = "level"\n'
    )
    return tmp_path / "five.toml"


def test_unreadable_clips_in_a_further_round_leave_the_step_as_it_is(five_clips, tmp_path):
    """Replies of one token are all wrong, so every group is flat, and the fifth prompt is drawn for further ones."""
    settings = [f"data={five_clips}", "train.max_steps=1", "train.max_completion_length=1", "algorithm=dapo"]
    settings += ["algorithm.max_num_gen_batches=2", "video.on_bad_video=skip", "train.num_generations=2"]
    training = load_level(str(five_clips), "train", 0)
    planned = [prompt.video for prompt in prompts_of_step(training, 1, 4, seed=0)]
    [replacement] = [prompt.video for prompt in training if prompt.video not in planned]
    Path(replacement).write_bytes(b"no film")
    out = train(tmp_path / "run", *settings)
    [row] = read_jsonl(out / "metrics.jsonl")
    assert row["num_prompts"] == 5 and row["frac_reward_zero_std"] == 1 and row["data/decode_failures"] == 1
    assert row["num_completion_tokens"] == 4 * 2
    assert len(read_jsonl(out / "samples/step-000001.jsonl")) == 4
    for path in planned:
        Path(path).write_bytes(b"no film")
    with pytest.raises(UserError, match=r"^step 1: none of its clips can be read: repair or remove .*skipped\.jsonl"):
        train(tmp_path / "none", *settings)


@pytest.mark.parametrize(
    "groups, count, sizes", [(9, 4, [3, 2, 2, 2]), (8, 4, [2] * 4), (5, 2, [3, 2]), (5, 1, [5]), (2, 4, [1, 1])]
)
def test_minibatches_are_equal_in_size_up_to_one(groups, count, sizes):
    parts = minibatches(range(groups), groups, count)
    assert [len(part) for part in parts] == sizes
    assert [i for part in parts for i in part] == list(range(groups))
    mine = [1, 2, 4]  # one of two processes has these groups of five
    assert minibatches(mine, 5, 2) == [[0, 1], [2]]


def test_no_optimizer_step_is_without_groups():
    """Nine prompts in four minibatches: each has the weight of one, so that their mean loss is not diluted."""
    algorithm = build("algorithms", "dapo", num_minibatches=4)
    step = toy.make_step(torch.rand(9, 2, dtype=torch.float64), torch.ones(18, 3))
    weights = assign_credit(algorithm, step).weights  # (18, 3)
    parts = minibatches(range(9), 9, algorithm.num_minibatches)
    totals = [weights.view(9, 2, 3)[part].sum().item() for part in parts]
    assert totals == pytest.approx([1, 1, 1, 1])


@given(st.lists(st.integers(1, 2000), max_size=40), st.integers(1, 8))
def test_processes_share_all_prompts_once_and_about_equally_many_tokens(sizes, count):
    hands = [shard_prompts(sizes, count, rank) for rank in range(count)]
    assert sorted(place for hand in hands for place in hand) == list(range(len(sizes)))
    for start in range(0, len(sizes), count):  # of each row one, so that no minibatch lacks a process
        assert all(sum(start <= place < start + count for place in hand) <= 1 for hand in hands)
    loads = [sum(sizes[place] for place in hand) for hand in hands]
    assert not sizes or max(loads) - min(loads) <= 2 * max(sizes)
    assert hands == [sorted(hand) for hand in hands]


def test_unequal_prompts_are_balanced_better_than_in_turn():
    sizes = [900, 90] * 12
    assert {sum(sizes[i] for i in shard_prompts(sizes, 2, rank)) for rank in (0, 1)} == {6 * 990}
    assert shard_prompts(sizes, 1, 0) == list(range(24))
