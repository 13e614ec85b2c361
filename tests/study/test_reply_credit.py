"""`rlvid replies --credit`: the credit of kinds of replies, by hand-made samples and by a toy policy that learns."""

import pytest
import torch

from rlvid import api
from rlvid.__main__ import main
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.study.reply_credit import build_algorithms, credit_shares, read_credit
from rlvid.study.reply_kinds import parse_kinds
from rlvid.utils.files import write_jsonl
from tests.helpers import toy

HABIT, LOOK = "It begins with corn.", "Corn went in."
KIND = ["habit=begins with"]


def group(replies, totals):
    columns = {"accuracy": totals}
    return {"completions": replies, "answers": [None] * 4, "clean": None, "columns": columns, "totals": totals}


@pytest.fixture
def run(tmp_path):
    """A run in whose two groups the habit wins often, and a look wins once."""
    (tmp_path / "config.toml").write_text("[rewards.accuracy]\nweight = 1.0\n")
    rows = [
        group([HABIT, HABIT, HABIT, LOOK], [1.0, 1.0, 0.0, 0.0]),
        group([HABIT, HABIT, HABIT, LOOK], [0.0, 0.0, 0.0, 1.0]),
    ]
    write_jsonl(tmp_path / "samples/step-000001.jsonl", rows)
    return tmp_path


def test_credit_of_a_kind_equals_hand_computed_values(run):
    rows = read_credit(run, parse_kinds(KIND), build_algorithms(["dr_grpo", "max_rl"]))
    credit = {(row.algorithm, row.kind): row.shares for row in rows}
    # dr_grpo: A = .5 .5 -.5 -.5 and -.25 -.25 -.25 .75, whose mean size is .4375. The habit's deviations from its share
    # of 3/4 are .25 .25 .25 -.75, so its credit is (.125 + .125 - .125 + .375) / 4 = .125, and -.75 / 4 = -.1875.
    assert credit["dr_grpo", "habit"] == pytest.approx((0.125 / 0.4375, -0.1875 / 0.4375))
    assert credit["dr_grpo", "other"] == pytest.approx((-0.125 / 0.4375, 0.1875 / 0.4375)), "what the habit loses"
    # max_rl divides by the means 1/2 and 1/4: 1 1 -1 -1 and -1 -1 -1 3, of mean size 1.25.
    assert credit["max_rl", "habit"] == pytest.approx((0.25 / 1.25, -0.75 / 1.25))


def test_credit_says_which_kind_becomes_likelier_in_an_update():
    """Half of the questions pay words 0 to 2, the "habit", in 4 of 8 samples; the other half word 4 in 1 of 8."""
    tokens = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]] * 8)[..., None]  # (questions, samples, 1)
    rewards = torch.zeros(8, 8, dtype=torch.float64)
    rewards[:4, :4] = 1.0
    rewards[4:, 7] = 1.0
    is_habit = tokens[..., 0] < 3

    def change(name):
        algorithm, policy = build("algorithms", name, beta=0.0), toy.ToyPolicy(length=1)
        batch = toy.make_batch(algorithm, rewards, torch.ones(64, 1))
        before = policy.logits.softmax(-1)[:, 0, :3].sum(-1).mean().item()
        loss = -(batch.advantages * policy(tokens) * batch.weights).sum()
        loss.backward()
        with torch.no_grad():
            policy.logits -= 0.1 * policy.logits.grad
        return policy.logits.softmax(-1)[:, 0, :3].sum(-1).mean().item() - before

    for name in ("dr_grpo", "grpo", "pass_at_k"):
        share = sum(credit_shares(build("algorithms", name).advantages(rewards), is_habit))
        assert (share > 0) == (change(name) > 0), name
    assert change("dr_grpo") > 0 > change("pass_at_k"), "credit for rare successes points the other way"


def test_the_printed_table(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    assert main(["replies", str(run), "--kind", *KIND, "--credit", "dr_grpo", "pass_at_k:k=2"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "all 1 step, 2 groups, % of all credit for habit for other" in lines
    assert any(line.startswith("dr_grpo -7.1 ±70.0 +7.1") for line in lines)
    assert api.replies(run, KIND, "grpo")[0].credit[0].algorithm == "grpo"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s_grpo", "--credit s_grpo: the credit of 's_grpo' does not follow from total rewards alone"),
        ("sft", "--credit sft: the credit of 'sft' does not follow"),
        ("pass_at_k:q=2", "algorithm 'pass_at_k' has no field 'q'"),
        ("pass_at_k:k", "override 'k' is not an assignment"),
        ("gropo", "no algorithm 'gropo'"),
    ],
)
def test_algorithms_that_cannot_be_compared(name, message):
    with pytest.raises(UserError, match=message):
        build_algorithms([name])
