"""rlvid/README.md has a row for every metric that a run writes."""

import re

from rlvid.utils.files import read_jsonl
from tests.helpers.runs import SMALL, TINY, train
from tests.helpers.sources import ROOT

SECTION = (ROOT / "rlvid/README.md").read_text().partition("### Metrics")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (`.*?) \|", SECTION, re.M)
NAMES = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row)]


def matches(name, metric):
    """Whether a name of the table is this metric; NAME, LEVEL and VIEW stand for a reward, a level and a view."""
    return bool(re.fullmatch(re.sub(r"NAME|LEVEL|VIEW", lambda _: r"[\w:.]+", re.escape(name)), metric))


def test_every_metric_of_a_run_is_documented_and_every_document_is_of_a_metric(tmp_path, kitchen):
    seen = set()
    for number, overrides in enumerate(
        (
            ["algorithm.beta=0.04", 'eval.views=["shuffled"]', "noise.kind=symmetric", "noise.rate=0.5"],
            ["algorithm=ppo", "rewards.length=0.1"],
            ["algorithm=dpo"],
            ["algorithm=noisy_grpo", "algorithm.importance_sampling_mode=token_truncate"],
        )
    ):
        run = train(tmp_path / str(number), *SMALL, *TINY, "train.prompts_per_step=8", *overrides)
        seen |= set(read_jsonl(run / "metrics.jsonl")[-1])
    assert not [metric for metric in sorted(seen) if not any(matches(name, metric) for name in NAMES)]
    elsewhere = {
        "labels/changed",
        "labels/precision",
        "labels/recall",
        "noise/changed",
        "credit/selected",
        "credit/dependence",
        "credit/perception",
        "eval/LEVEL/gate/NAME",
    }  # algorithms, rewards and noise of their own
    never = {name for name in NAMES if not any(matches(name, metric) for metric in seen)}
    assert never <= elsewhere
