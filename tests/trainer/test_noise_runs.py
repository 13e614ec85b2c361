"""Every family of noise in a real run: it trains, its rates are reported, and evaluation data stays clean."""

import pytest

from rlvid.errors import UserError
from rlvid.study.noise_response import verifier_rates
from rlvid.study.runs import Run
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.runs import TINY, train


@pytest.fixture(scope="module")
def clean(kitchen, tmp_path_factory):
    return train(tmp_path_factory.mktemp("noise") / "clean", *TINY)


@pytest.mark.parametrize(
    "noise",
    [
        ["kind=confusable", "rate=0.9"],
        ["kind=unproducible", "rate=1.0"],
        ["kind=verifier", "false_positives=1.0"],
        ["kind=gaussian", "sigma=0.5"],
        ["kind=frames", "rate=1.0", "how=drop", "severity=5"],
        ["kind=wrong_clip", "rate=1.0"],
    ],
    ids=lambda noise: noise[0],
)
def test_runs_under_noise_train_and_evaluate_on_clean_data(clean, tmp_path, noise):
    out = train(tmp_path, *TINY, *(f"noise.{part}" for part in noise))
    before, after = (read_jsonl(folder / "samples/step-000001.jsonl") for folder in (clean, out))
    assert [row["id"] for row in before] == [row["id"] for row in after] and before != after
    assert abs(read_jsonl(out / "metrics.jsonl")[0]["loss"]) < float("inf")
    questions = [[(row["id"], row["gold"]) for row in read_jsonl(folder / "eval/L1.jsonl")] for folder in (clean, out)]
    assert questions[0] == questions[1]


def test_unproducible_labels_give_no_reward(kitchen, tmp_path):
    out = train(tmp_path, *TINY, "noise.kind=unproducible", "noise.rate=1.0")
    [row] = read_jsonl(out / "metrics.jsonl")
    assert row["rewards/accuracy/mean"] == 0 and "clean_accuracy" in row
    assert {r["answer"]["noisy"] for r in read_jsonl(out / "noise_manifest.jsonl")} == {"E"}


def test_a_verifier_that_accepts_everything_shows_in_the_metrics(kitchen, tmp_path):
    noise = ["noise.kind=verifier", "noise.false_positives=1.0"]
    [row] = read_jsonl(train(tmp_path, *TINY, *noise) / "metrics.jsonl")
    assert row["rewards/accuracy/mean"] == 1.0
    assert (row.get("noise/youden_j"), row.get("noise/false_positive_rate")) in ((0.0, 1.0), (None, None))


def test_noise_on_another_reward_reports_no_youden_j_of_accuracy(kitchen, tmp_path):
    noise = ["noise.kind=judge_confusion", "noise.column=format", "noise.rate=0.8", "rewards.format=0.2"]
    out = train(tmp_path, *TINY, *noise)
    [row] = read_jsonl(out / "metrics.jsonl")
    assert 0.5 < row["noise/changed"] <= 1 and "noise/youden_j" not in row
    told = read_json(out / "noise.json")
    assert (told["reward"], told["rate"], told["youden_j"]) == ("format", None, pytest.approx(0))
    assert verifier_rates(Run("a", 0, out, "")) == {"youden_j": pytest.approx(0)}


def test_the_oracle_trains_on_clean_samples_only(kitchen, tmp_path):
    out = train(tmp_path, *TINY, "noise.kind=symmetric", "noise.rate=0.8", "noise.drop=true")
    dropped = {row["id"] for row in read_jsonl(out / "noise_manifest.jsonl") if row["dropped"]}
    assert len(dropped) > 80
    assert not dropped & {row["id"] for row in read_jsonl(out / "samples/step-000001.jsonl")}


def test_noise_on_a_reward_that_is_not_in_the_mix_is_an_error(kitchen, tmp_path):
    with pytest.raises(UserError, match=r"noise\.column: no reward 'judge' in the mix"):
        train(tmp_path, *TINY, "noise.kind=gaussian", "noise.sigma=0.1", "noise.column=judge")
