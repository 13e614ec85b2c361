"""The benchmarks: contestants carry the same tokens through whole steps, in processes of their own."""

from dataclasses import replace

import pytest

from rlvid.bench import compare, throughput
from rlvid.bench.workload import Shape, question
from rlvid.errors import UserError
from tests.helpers.runs import rlvid

SMALL = Shape(generations=2, prompt=230, completion=4, frames=2)  # 81 visual tokens of the video, 81 of the image


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "HOME", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("shape", "names"),
    [(SMALL, compare.NAMES), (replace(SMALL, frames=0), ("ours", "reference"))],
    ids=["video", "image"],
)
def test_all_contestants_carry_the_same_tokens(home, shape, names):
    result = compare.step(shape, names, 1, home / "out")
    contestants = result["contestants"]
    assert {name: one["tokens"] for name, one in contestants.items()} == dict.fromkeys(names, 2 * (230 + 4))
    for one in contestants.values():
        (turn,) = one["turns"]
        assert 0 < sum(seconds for phase, seconds in turn.items() if phase != "step") <= turn["step"] or len(turn) == 1
        assert one["peak_gb"] > 0.3
    table = compare.table(result)
    assert table.row_count == len(names) and next(table.columns[3].cells) == "1.00"


def test_a_contestant_that_ends_is_named_with_its_last_words(home):
    with pytest.raises(UserError, match=r"contestant 'ours' ended: .*no room for its \d+ visual tokens"):
        compare.step(Shape(prompt=100), ["ours"], 1, home / "out")


def test_a_sweep_is_drawn(home, monkeypatch):
    monkeypatch.setattr(compare, "SWEEPS", {"generations": (2,), "completion": (3,)})
    found = compare.sweep(SMALL, 1, home / "out")
    assert [*found] == ["generations", "completion"] and compare.swept(found).row_count == 2
    assert compare.draw(found, home / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_answering_in_a_batch_is_answering_one_by_one(home, monkeypatch):
    """The race is between two ways to the same replies."""
    said = {}
    ways = throughput.answering(SMALL, home / "model", questions=2)
    from rlvid.policy.sampler import Sampler

    real = Sampler.__call__
    monkeypatch.setattr(Sampler, "__call__", lambda *a: said.setdefault("ours", real(*a)))
    ours, reference = ways.values()
    ours(), reference()
    assert [len(c.tokens) for group in said["ours"] for c in group] == [4, 4]


def test_a_first_epoch_decodes_all_and_a_second_one_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RLVID_CACHE", str(tmp_path))  # so that it is put back
    made, real = [], throughput.FrameCache
    monkeypatch.setattr(throughput, "FrameCache", lambda video: made.append(real(video)) or made[0])
    ways = throughput.decoding(tmp_path)
    (frames,) = made
    before = frames.misses
    ways["ours, first epoch"]()
    assert frames.misses - before == throughput.CLIPS
    ways["ours, second epoch"]()
    assert frames.misses - before == throughput.CLIPS
    ways["decord"]()
    seconds = throughput.race({"nothing": lambda: None}, 2)
    assert len(seconds["nothing"]) == 2, "the turn that warms up is not counted"
    frames.close()


def test_a_prompt_is_as_long_as_asked():
    assert question(100, 230).count(" carrot") == 130
    with pytest.raises(UserError, match="no room"):
        question(300, 230)


def test_a_benchmark_that_is_none_is_refused():
    assert rlvid("bench", "steps").returncode == 2
