"""A judge without an endpoint, or one that does not answer, is refused before a run."""

import json
import sys
import time

import pytest

from rlvid import api
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.trainer.evidence import open_judge
from tests.helpers.runs import TINY, train

DOWN = ["judge.url=http://127.0.0.1:9/v1", "judge.model=some"]  # nothing listens at this port


def test_a_config_with_a_judge_needs_an_endpoint():
    for mix in ("rewards.consistency_judge=0.1", "eval.rewards.consistency_judge=1"):
        with pytest.raises(UserError, match=r"a reward needs \"judge\": .* judge\.url="):
            api.check_config("nano", [mix])
    api.check_config("nano", ["rewards.consistency_judge=0.1", *DOWN])


@pytest.fixture
def no_policy(monkeypatch):
    """Ends the test if a policy is loaded."""
    monkeypatch.setattr(Policy, "load", lambda *settings: pytest.fail("a policy was loaded"))


@pytest.mark.parametrize("mix", ["rewards.consistency_judge=0.1", "eval.rewards.consistency_judge=1"])
def test_a_judge_that_is_down_ends_a_run_within_seconds_before_anything_is_written(kitchen, tmp_path, no_policy, mix):
    start = time.monotonic()
    with pytest.raises(UserError, match=r"'some' at http://127.*/v1 does not answer: APIConnectionError.*Start its"):
        train(tmp_path / "run", *TINY, mix, *DOWN, f"judge.cache_dir={tmp_path}/cache")
    assert time.monotonic() - start < 10 and not (tmp_path / "run").exists()


def test_a_run_with_a_judge_without_the_openai_package_is_refused(kitchen, tmp_path, no_policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"needs the openai package: pip install -e '\.\[judge\]'"):
        train(tmp_path / "run", *TINY, "rewards.consistency_judge=0.1", *DOWN, f"judge.cache_dir={tmp_path}/cache")


def test_a_run_that_is_done_or_scores_saved_replies_needs_no_answer(kitchen, tmp_path):
    settings = ["eval.rewards.consistency_judge=1", *DOWN, f"judge.cache_dir={tmp_path}/cache"]
    config = api.check_config("nano", settings)
    assert open_judge(api.check_config("nano", [*settings, "eval.completions=x"]), tmp_path, True)
    assert open_judge(config, tmp_path, False), "only the main process sends a request"
    (tmp_path / "status.json").write_text(json.dumps({"state": "done"}))
    assert open_judge(config, tmp_path, True)
