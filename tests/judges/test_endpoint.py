"""Tests of the judge with a real server: order, cache, retries, failures, costs, and the secrecy of the API key."""

import re
import time
from contextlib import nullcontext

import pytest

from rlvid import api
from rlvid.config import JudgeConfig, load
from rlvid.errors import UserError
from rlvid.judges.endpoint import CHECK_PROMPT, CHECK_TOKENS, Judge
from rlvid.utils.files import read_jsonl
from rlvid.utils.timeout import time_limit
from tests.helpers.judge_server import JudgeServer
from tests.helpers.processes import Child
from tests.helpers.runs import TINY, train

KEY = "sk-very-secret-123"

POLITENESS_REWARD = """
class Polite:
    needs = frozenset({"judge"})

    def __call__(self, groups):
        replies = [group.evidence["judge"]([f"Is this polite? {c.text}" for c in group]) for group in groups]
        return [[float(reply == "YES") for reply in row] for row in replies]
"""


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """A function that starts a server and returns it with a judge that uses it."""
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    servers = []

    def start(reply, **settings):
        server = JudgeServer(reply)
        servers.append(server)
        defaults = {"model": "m", "timeout": 1.0, "retries": 2, "cache_dir": str(tmp_path / "cache")}
        return server, Judge(JudgeConfig(url=server.url, **(defaults | settings)))

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files_with_the_key(folder, more_than=5):
    """Return the files under a folder that contain the API key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > more_than, "there must be something to search"
    return [path for path in files if KEY.encode() in path.read_bytes()]


def test_replies_come_in_order_once_per_prompt_in_parallel_and_are_cached(serve):
    server, judge = serve(lambda prompt, attempt: (time.sleep(0.05), prompt.upper())[1], concurrency=8)
    prompts = [f"q{i % 20}" for i in range(40)]
    assert judge(prompts) == [prompt.upper() for prompt in prompts]
    assert len(server.requests) == 20 and 4 < server.max_in_flight <= 8
    assert server.requests[0]["temperature"] == 0.0 and server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert judge(["q3", "new"]) == ["Q3", "NEW"] and len(server.requests) == 21
    costs = judge.costs()
    assert (costs["judge/calls"], costs["judge/cached"], costs["judge/failures"]) == (21, 1, 0)
    assert costs["judge/prompt_tokens"] == 210 and costs["judge/completion_tokens"] == 42
    _, other_judge = serve(lambda prompt, attempt: "other", model="m2")
    assert other_judge(["q3"]) == ["other"], "replies of another model are not reused"


def test_costs_are_in_dollars_per_million_tokens(serve):
    _, judge = serve(lambda prompt, attempt: "A", input_price=3.0, output_price=15.0)
    judge([f"q{i}" for i in range(5)])
    assert judge.costs()["judge/dollars"] == pytest.approx(5 * (10 * 3.0 + 2 * 15.0) / 1e6)


def test_failed_calls_are_repeated_after_the_pause_that_the_server_sets(serve):
    """Without the header the pauses would be at most 0.5 s and at least 0.75 s."""

    def reply(prompt, attempt):
        return {1: (429, {"Retry-After": "0.7"}), 2: (500, {"Retry-After": "0.1"})}.get(attempt, "A")

    server, judge = serve(reply)
    assert judge(["q"]) == ["A"] and len(server.requests) == 3
    first, second, third = server.times
    assert second - first > 0.65 and third - second < 0.7
    assert judge.costs()["judge/failures"] == 0


def test_a_failed_call_is_none_is_counted_and_is_not_cached(serve):
    faults = {"broken": b"{not json", "empty": "", "slow": 1.5, "down": (500, {}), "odd": b'{"choices": []}'}
    server, judge = serve(lambda prompt, attempt: faults.get(prompt, "A"), retries=1, timeout=0.5)
    assert judge(["fine", *faults]) == ["A", *[None] * 5]
    assert judge.costs()["judge/failures"] == 5
    count = len(server.requests)
    assert judge(["down"]) == [None] and len(server.requests) > count


def test_an_endpoint_that_never_works_is_an_error_of_one_line_without_the_key(serve, tmp_path):
    _, judge = serve(lambda prompt, attempt: (401, {}), retries=0)
    with pytest.raises(UserError, match="every call failed: AuthenticationError") as error:
        judge(["a", "b"])
    assert KEY not in str(error.value) and "***" in str(error.value)
    url = "http://127.0.0.1:9/v1"
    without_server = Judge(JudgeConfig(url=url, model="m", retries=0, cache_dir=str(tmp_path)))
    with pytest.raises(UserError, match=re.escape(f"judge 'm' at {url}: every call failed: APIConnectionError")):
        without_server(["a"])
    with pytest.raises(UserError, match=r"judge\.url="):
        Judge(JudgeConfig())


def test_the_check_before_a_run_is_one_request_that_is_neither_cached_nor_counted(serve):
    server, judge = serve(lambda prompt, attempt: "OK", max_tokens=512)
    judge.check()
    [body] = server.requests
    assert (body["model"], body["messages"][0]["content"], body["max_tokens"]) == ("m", CHECK_PROMPT, CHECK_TOKENS)
    assert set(judge.counts.values()) == {0} and judge.cache.get(CHECK_PROMPT) is None


@pytest.mark.parametrize("reply", ["", (500, {}), (404, {}), b'{"choices": []}', 1.0], ids=str)
def test_an_empty_reply_passes_the_check_and_an_error_does_not(serve, reply):
    """A model may spend its few tokens on thinking; a server that is loading may answer the second attempt."""
    _, judge = serve(lambda prompt, attempt: reply, timeout=0.3)
    with nullcontext() if reply == "" else pytest.raises(UserError, match=r"does not answer: .*Error.*\. Start its"):
        judge.check()
    _, loading = serve(lambda prompt, attempt: (503, {"Retry-After": "0.1"}) if attempt == 1 else "OK")
    loading.check()


def test_half_a_character_in_a_reply_is_replaced_and_a_blank_reply_is_a_failure(serve):
    _, judge = serve(lambda prompt, attempt: {"half": "YES \ud83d", "whole": "YES 😀", "blank": " \n"}[prompt])
    expected = ["YES \ufffd", "YES 😀", None]
    assert judge(["half", "whole", "blank"]) == expected == judge(["half", "whole", "blank"])
    assert judge.costs()["judge/failures"] == 2 and judge.costs()["judge/cached"] == 2


def test_an_empty_reply_beside_cached_ones_does_not_end_a_resumed_run(serve):
    _, judge = serve(lambda prompt, attempt: "" if prompt == "odd" else "A", retries=0)
    assert judge(["q", "odd"]) == ["A", None]
    resumed = Judge(judge.config)
    assert resumed(["q", "odd"]) == ["A", None] and resumed.costs()["judge/failures"] == 1
    with pytest.raises(UserError, match="every call failed: an empty reply"):
        Judge(judge.config)(["odd"])


def test_a_cache_that_breaks_during_a_run_is_an_error_of_one_line(serve):
    _, judge = serve(lambda prompt, attempt: "A")
    judge(["q"])
    judge.cache.path.write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"judge cache .*judge\.sqlite: file is not a database; set judge\.cache_dir"):
        judge(["q"])
    with pytest.raises(UserError, match=r"judge cache .*judge\.sqlite: file is not a database; set judge\.cache_dir"):
        Judge(judge.config)


def test_a_reply_that_contains_the_key_is_masked(serve):
    _, judge = serve(lambda prompt, attempt: f"You sent {KEY}.")
    assert judge(["a"]) == ["You sent ***."] == judge(["a"])
    assert KEY.encode() not in judge.cache.path.read_bytes()


def test_a_password_in_the_address_is_an_error_that_does_not_repeat_it():
    with pytest.raises(UserError, match=r"judge\.url must not hold a password") as error:
        load("nano", [f"judge.url=http://me:{KEY}@localhost:8000/v1"])
    assert KEY not in str(error.value)


def test_an_interruption_does_not_wait_for_the_judge(serve):
    """After it no further request is sent, neither a new one nor a retry."""
    server, judge = serve(lambda prompt, attempt: 3.0, timeout=0.5, retries=50, concurrency=2)
    start = time.monotonic()
    with pytest.raises(UserError, match="enough"), time_limit(0.3, "enough"):
        judge([f"q{i}" for i in range(20)])
    assert time.monotonic() - start < 1.5 and len(server.requests) <= 2
    time.sleep(1.5)  # the calls that were running have timed out, and their pauses before a retry are over
    assert len(server.requests) <= 2


def test_a_run_stores_what_the_judge_replied_but_not_the_key(kitchen, tmp_path, serve):
    server, _ = serve(lambda prompt, attempt: "A")
    overrides = ["rewards.consistency_judge=0.5", f"judge.url={server.url}", "judge.model=m", "eval.splits=[]"]
    run = train(tmp_path / "run", *TINY, *overrides, f"judge.cache_dir={tmp_path / 'cache'}")
    row = read_jsonl(run / "samples/step-000001.jsonl")[0]
    assert row["columns"]["consistency_judge"]
    assert any(call["replied"] == "A" for call in row["evidence"]["consistency_judge"])
    assert "judge" not in row["evidence"], "replies are stored once"
    timing = read_jsonl(run / "timing.jsonl")[0]
    assert timing["judge/calls"] > 0 and timing["judge/failures"] == 0
    assert not files_with_the_key(tmp_path)


def test_the_judge_calls_of_a_custom_reward_are_stored_and_timed(kitchen, tmp_path, serve):
    """The judge is slow, and its seconds count as the judge's, not as the reward's."""
    server, _ = serve(lambda prompt, attempt: (time.sleep(0.3), "YES")[1])
    (tmp_path / "polite.py").write_text(POLITENESS_REWARD)
    reward = f'rewards."{tmp_path}/polite.py:Polite"=0.5'
    overrides = [reward, f"judge.url={server.url}", "judge.model=m", f"judge.cache_dir={tmp_path}", "eval.splits=[]"]
    run = train(tmp_path / "run", *TINY, *overrides)
    rows = read_jsonl(run / "samples/step-000001.jsonl")
    for row in rows:
        prompts = [f"Is this polite? {text}" for text in row["completions"]]
        assert row["evidence"]["judge"] == [{"asked": prompt, "replied": "YES"} for prompt in prompts]
    timing = read_jsonl(run / "timing.jsonl")[0]
    assert timing["timing_s/judge"] > 0.3 * len(rows) > timing["timing_s/reward"]


def test_a_finished_run_can_be_scored_by_a_judge_that_it_was_not_trained_with(kitchen, tmp_path, serve, capsys):
    """The command in rewards/README.md."""
    server, _ = serve(lambda prompt, attempt: "A")
    run = train(tmp_path / "run", *TINY, "train.max_steps=0", "eval.limit=4")
    overrides = [f"eval.completions={run}/eval", "eval.rewards.consistency_judge.gated=false", "judge.model=m"]
    overrides += ["eval.rewards.grounding_narrations=1", f"judge.url={server.url}", f"judge.cache_dir={tmp_path}"]
    api.evaluate(run, overrides=overrides, out=tmp_path / "audit")
    rows = [row for row in read_jsonl(tmp_path / "audit/eval/L1.jsonl") if row["answer"]]
    judged = [row["evidence"]["agreement/consistency_judge"][0] for row in rows]
    assert judged == [float(row["answer"] == "A") for row in rows] and len(judged) > 1
    printed = capsys.readouterr().out
    assert "coherent, by consistency_judge" in printed and "facts narrated, not stated" in printed


@pytest.mark.parametrize("reply", [(401, {}), f"It is {KEY}."], ids=["refused", "quoted"])
def test_a_judge_that_repeats_the_key_does_not_bring_it_into_a_file_or_log(kitchen, tmp_path, serve, reply):
    """A run in a process of its own, with its output in a file beside its folder."""
    server, _ = serve(lambda prompt, attempt: reply)
    overrides = ["rewards.consistency_judge=0.5", f"judge.url={server.url}", "judge.model=m", "judge.retries=0"]
    overrides += ["train.max_steps=1", f"judge.cache_dir={tmp_path}"]
    code, output = Child(tmp_path / "run", *overrides, JUDGE_API_KEY=KEY).end()
    is_refused = isinstance(reply, tuple)
    assert code == (2 if is_refused else 0), output
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert not files_with_the_key(tmp_path, more_than=0 if is_refused else 5), "a refused run has only its log"
    if is_refused:
        assert "does not answer: AuthenticationError" in output and "Bearer ***" in output and "Traceback" not in output
