"""Logs of lmms-eval and VLMEvalKit as a study: both forms, paired by question, and errors that name the fix."""

import csv
import json

import pytest

from rlvid import api
from rlvid.__main__ import main
from rlvid.errors import UserError
from rlvid.study.log_formats import read_log
from rlvid.study.logs import read_logs
from rlvid.study.page.cases import case_data
from rlvid.study.stats import permutation_test

GOLD = "ABCD"


def new_form(i, letter, metric="videomme_perception_score"):
    """A line of lmms-eval 0.7: strings, no `doc`; the raw reply is in `resps` because tags were stripped."""
    gold = GOLD[i % 4]
    about = {"question_id": str(i), "category": "Knowledge" if i % 2 else "Sports", "videoID": f"v{i // 2}"}
    scores = {metric: about | {"pred_answer": letter, "answer": gold, "score": float(letter == gold)}}
    reply = {"resps": [f"<think>so</think>{letter}"], "filtered_resps": letter}
    return (
        {"doc_id": i, "target": gold, "doc_hash": f"h{i}", "input": f"question {i}", "token_counts": None}
        | reply
        | scores
    )


def old_form(i, letter):
    """A line of lmms-eval 0.3: lists of lists, `doc` and `arguments`."""
    gold = GOLD[i % 4]
    return {
        "doc_id": i,
        "doc": {"category": "Knowledge" if i % 2 else "Sports", "videoID": f"v{i // 2}"},
        "target": gold,
        "arguments": {"0": f"question {i}"},
        "resps": [[f"<think>so</think>{letter}"]],
        "filtered_resps": [letter],
        "acc": float(letter == gold),
    }


def write_samples(folder, lines, task="videomme"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"20261129_010203_samples_{task}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def answer(i, right):
    return GOLD[i % 4] if right else GOLD[(i + 1) % 4]


@pytest.fixture
def logs(tmp_path):
    """Two checkpoints on 40 questions about 20 videos, one in each form: 10 and 22 right answers, 4 right in both."""
    write_samples(tmp_path / "logs/a", [old_form(i, answer(i, i < 10)) for i in range(40)])
    write_samples(tmp_path / "logs/b", [new_form(i, answer(i, i >= 6 and i % 40 < 28)) for i in range(40)])
    return tmp_path / "logs"


def test_both_forms_are_paired_by_question_and_tested_exactly(logs, tmp_path, capsys):
    study = read_logs(logs)
    assert study.control == "a" and list(study.levels) == ["videomme"] and len(study.levels["videomme"]) == 40
    assert len(set(study.video_ids())) == 20
    row = study.arms["b"][0].answers["videomme"]["7"]
    assert row["completion"] == "<think>so</think>D" and row["gold"] == "D" and row["correct"] and row["domain"]
    assert row["question"] == study.arms["a"][0].answers["videomme"]["7"]["question"] == "question 7"

    page = tmp_path / "page.html"
    report = api.report(logs, html=page, json=tmp_path / "rows.json")
    [row] = report.comparisons
    assert row.difference.value == pytest.approx((22 - 10) / 40) and row.verdict == "one seed: these runs only"
    a, b = (study.column(arm, "videomme", "correct") for arm in "ab")
    assert row.p_these_runs == permutation_test(b, a, study.video_ids("videomme"))
    assert {row.domain for row in report.domains} == {"Knowledge", "Sports"}
    assert "question" in page.read_text() and "run folders" not in capsys.readouterr().out


def test_replies_are_read_side_by_side(logs, capsys):
    assert main(["compare", str(logs / "a"), str(logs / "b"), "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "a wrong, b right" in out and "<think>so</think>" in out and "1 of 24 shown" in out


def test_result_tables_of_vlmevalkit(tmp_path):
    header = "index\tvideo\tquestion\tA\tB\tanswer\tdomain\tprediction\tscore\n"
    for name, scores in {"base": (1, 0, 0, -1), "tuned": (1, 1, 1, 0)}.items():
        (tmp_path / name).mkdir()
        rows = [f"{i}\tv{i}\tq{i}\tcup\tpan\tB\tFilm\tI say B\t{score}\n" for i, score in enumerate(scores)]
        (tmp_path / name / f"{name}_Video-MME_8frame_score.tsv").write_text(header + "".join(rows))
    table = tmp_path / "tuned" / "tuned_Video-MME_8frame_score.tsv"
    with table.open(newline="") as file:
        records = list(csv.DictReader(file, delimiter="\t"))
    table.unlink()
    table.with_suffix(".json").write_text(json.dumps([row | {"score": int(row["score"])} for row in records]))
    study = read_logs(tmp_path)
    assert list(study.levels) == ["Video-MME_8frame"]
    assert [study.column(arm, "Video-MME_8frame", "correct").sum() for arm in ("base", "tuned")] == [1, 3]
    assert study.arms["base"][0].answers["Video-MME_8frame"]["3"]["options"] == ["cup", "pan"]


def refusal(folder, metric=""):
    with pytest.raises(UserError) as error:
        read_logs(folder, metric)
    return str(error.value)


def test_errors_say_what_differs_and_what_to_do(logs, tmp_path):
    write_samples(logs / "b", [new_form(i, "A") for i in range(30)])
    assert "a answered 40 questions and b 30, 30 of them the same; question 30 has one answer" in refusal(logs)
    write_samples(logs / "b", [new_form(i, "A") | {"target": "E"} for i in range(40)])
    assert "question 0 has the right answer 'A' for a and 'E' for b" in refusal(logs)
    write_samples(logs / "b", [new_form(i, "A") | {"other": 1.0} for i in range(40)])
    assert "several metrics: videomme_perception_score, other. Name one with --metric" in refusal(logs)
    assert "not every question has the metric 'othr'. Known: acc" in refusal(logs, "othr")
    write_samples(logs / "b", [{k: v for k, v in old_form(i, "A").items() if k != "acc"} for i in range(40)])
    assert "no metric: a key for its metric is missing, and there are doc_id, doc, target" in refusal(logs)
    write_samples(logs / "b", [old_form(i, "A") | {"acc": 0.8} for i in range(40)])
    assert "row 1: acc is 0.8: this report is of right answers" in refusal(logs)
    write_samples(logs / "b", [old_form(0, "A")] * 40)
    assert "row 2: question 0 stands here twice" in refusal(logs)
    write_samples(logs / "b", [old_form(0, "A")], task="mvbench")
    (logs / "b/20261129_010203_samples_videomme.jsonl").unlink()
    assert "no task was logged for all checkpoints: a: videomme; b: mvbench" in refusal(logs)
    write_samples(logs / "b", [old_form(0, "A")], task="mvbench")
    (logs / "b/2027_samples_mvbench.jsonl").write_text("{}\n")
    assert "are both of mvbench: move one of them away" in refusal(logs)
    with pytest.raises(UserError, match="logs of one checkpoint"):
        write_samples(tmp_path / "one/a", [old_form(0, "A")])
        read_logs(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m_score.csv", b"id,score\n1,1\n", "row 1 has no 'index': this is no log of a question"),
        ("m_score.csv", "index,score,question\n1,1,é\n".encode("latin-1"), "cannot be read as a table in UTF-8"),
        ("m_score.json", b'[{"index": 1, "score": 1}, {"score": 1}]', "row 2 has no 'index'"),
        ("samples_t.jsonl", b'{"acc": 1}\n', "row 1 has no 'doc_id'"),
        ("samples_t.jsonl", b"[1]\n", "row 1 has no 'doc_id'"),
        ("samples_t.jsonl", b'{"doc_id": 1, "acc": 1}\n{"doc_id": 2}\n', "not every question has the metric 'acc'"),
    ],
)
def test_a_file_that_is_no_log_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_log(tmp_path / name)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_was_saved_by_excel_is_read(tmp_path):
    (tmp_path / "m_score.csv").write_text("index,score\n7,1\n", encoding="utf-8-sig")
    assert read_log(tmp_path / "m_score.csv")["7"]["correct"] is True


def test_a_page_of_logs_says_why_it_has_no_clips(logs):
    assert (
        case_data(read_logs(logs))["index"]["clip_problem"] == "no clips: only a config.toml would name the benchmark"
    )
