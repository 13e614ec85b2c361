"""Protocols as objects: published wordings, settings that reach a config, TOML files, and what a run records."""

from dataclasses import replace

import pytest

from rlvid.answer import format_question
from rlvid.config import load
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.protocols import DEFAULT, PROTOCOLS, load_protocol, record, recorded_protocol
from rlvid.trainer.evaluation import result_row
from rlvid.types import Completion, Group, Prompt

QUESTION, OPTIONS = "What next? {options}", ("open tap", "wash pan")
CUSTOM = """
text = "mine"
extraction = "lenient"
denominator = "answered"
[prompt]
multiple_choice = "{question}\\n{options}\\nAnswer with a letter."
[eval]
temperature = 0.5
[video]
max_frames = 8
resized_height = ""
resized_width = ""
"""


@pytest.fixture
def custom(tmp_path):
    """The TOML file of a protocol."""
    (tmp_path / "mine.toml").write_text(CUSTOM)
    return str(tmp_path / "mine.toml")


def test_the_default_is_what_it_was_before_there_were_protocols():
    assert (
        DEFAULT.format(QUESTION, OPTIONS) == format_question(QUESTION, OPTIONS) == Prompt("q", QUESTION, OPTIONS).text
    )
    assert not DEFAULT.settings and DEFAULT.extraction == "strict" and load("nano").eval.protocol == "rlvid"
    assert PROTOCOLS["seed_bench_r1"].format(QUESTION, OPTIONS) == format_question(QUESTION, OPTIONS)


def test_wordings_of_published_code():
    """Built here as the published scripts build them: concatenated strings."""
    ponder = (
        "{Question}\nPlease think about this question as if you were a human pondering deeply. "
        "Engage in an internal dialogue using expressions such as 'let me think', 'wait', 'Hmm', 'oh, I see', 'let's "
        "break it down', etc, or other natural language thought expressions "
        "It's encouraged to include self-reflection or verification in the reasoning process. "
        "Provide your detailed reasoning between the <think> and </think> tags, and then give your final answer "
        "between the <answer> and </answer> tags."
    )
    letter = (
        " Please provide only the single option letter (e.g., A, B, C, D, etc.) within the <answer> </answer> tags."
    )
    number = " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags."
    question = QUESTION + "Options:\n" + "".join(f"{a}. {o}\n" for a, o in zip("AB", OPTIONS, strict=True))
    for name in ("video_r1", "grpo_care"):
        assert PROTOCOLS[name].format(QUESTION, OPTIONS) == ponder.replace("{Question}", question) + letter
        assert PROTOCOLS[name].format("How far?", (), "regression") == ponder.replace("{Question}", "How far?") + number
    assert PROTOCOLS["lmms_eval/mvbench"].format("Q?", OPTIONS) == (
        "Question:Q?\nOption:\n(A) open tap\n(B) wash pan\nOnly give the best option.\n"
    )
    with pytest.raises(UserError, match="protocol 'lmms_eval/mvbench' has no wording for regression questions"):
        PROTOCOLS["lmms_eval/mvbench"].format("How far?", (), "regression")


def test_a_protocols_settings_are_defaults_that_keys_beside_it_override(custom):
    config = load("nano", ["video.max_frames=32", "eval.protocol=video_r1"])
    assert (config.video.max_frames, config.video.resized_height, config.video.max_pixels) == (32, None, 256 * 28 * 28)
    assert (config.eval.temperature, config.eval.top_p, config.eval.max_completion_length) == (0.1, 0.001, 1024)
    assert config.train == load("nano").train, "training keeps its own settings"
    care = load("nano", ["eval.protocol=grpo_care"]).video
    assert (care.max_frames, care.min_pixels, care.max_pixels) == (16, 100352, 105369)
    assert load("nano", [f"eval.protocol={custom}"]).eval.temperature == 0.5


def test_a_saved_config_is_read_back_as_it_was(tmp_path, custom):
    for overrides in (["eval.protocol=grpo_care", "eval.top_p=1.0"], [f"eval.protocol={custom}"]):
        config = load("nano", overrides)
        (tmp_path / "config.toml").write_text(config.to_toml())
        saved = load(tmp_path / "config.toml")
        assert (saved.id, saved.eval, saved.video) == (config.id, config.eval, config.video)
    assert load("nano", ["eval.protocol=rlvid"]).id == load("nano").id != load("nano", ["eval.protocol=video_r1"]).id
    assert load("nano", ["eval.max_completion_length=9"]).id != load("nano").id
    before = config.id
    (tmp_path / "mine.toml").write_text(CUSTOM.replace("lenient", "strict"))
    assert load("nano", overrides).id != before, "another content is another run"


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_protocol_is_read_back_from_its_record(name, tmp_path):
    assert recorded_protocol(tmp_path) == DEFAULT
    (tmp_path / "protocol.toml").write_text(record(PROTOCOLS[name]))
    assert recorded_protocol(tmp_path) == PROTOCOLS[name]
    assert PROTOCOLS[name].source and PROTOCOLS[name].text
    path = str(tmp_path / "protocol.toml")
    assert load_protocol(path) == replace(PROTOCOLS[name], name=path), "a run's record is also a file for eval.protocol"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extraction = 'best'", "extraction must be one of strict, lenient"),
        ("denominator = 'some'", "denominator must be one of all"),
        ("mra = '>'", "mra must be one of <, <="),
        ("extracton = 'strict'", "unknown key 'extracton'. Did you mean 'extraction'"),
        ("[prompt]\nmultiple_choice = 'Which?'", "prompt.multiple_choice must hold {question}"),
        ("[prompt]\nmultiple_choice = '{question}'", "prompt.multiple_choice must hold {options}"),
        ("option = '{letter}'\n[prompt]\nfree_form = '{question}'", "option must hold {option}"),
        ("prompt = '{question} {options}'", "prompt must be a table"),
        ("[prompt]\nessay = '{question}'", "prompt.essay: no such kind of question"),
        ("[prompt]\nfree_form = 3", "free_form must be a text, not 3"),
        ("eval = 3", r"[eval] must hold settings of that section"),
        ("text =", "cannot be read as the TOML file of a protocol"),
    ],
)
def test_the_error_about_a_protocols_file_is_one_line(tmp_path, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UserError) as error:
        load_protocol(str(tmp_path / "p.toml"))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_settings_of_a_protocol_are_checked_as_a_configs_are(tmp_path):
    (tmp_path / "p.toml").write_text("[eval]\ntemprature = 1.0")
    with pytest.raises(UserError, match="unknown key 'temprature'"):
        load("nano", [f"eval.protocol={tmp_path / 'p.toml'}"])
    with pytest.raises(UserError, match=r"no protocol 'video_r2'. Did you mean 'video_r1'\?"):
        load("nano", ["eval.protocol=video_r2"])


def test_an_answer_is_read_and_counted_as_the_protocol_says(custom):
    def row(reply, protocol, **fields):
        prompt = Prompt("q", QUESTION, **{"options": OPTIONS, "answer": "B"} | fields, protocol=load_protocol(protocol))
        group = Group(prompt, [Completion(reply)])
        return result_row(group)

    reply = "<answer>B.</answer>"
    assert [row(reply, name)["correct"] for name in ("rlvid", "video_r1", custom)] == [True, False, True]
    assert "excluded" not in row("", "rlvid") and row("", custom)["excluded"] == 1
    number = {"options": (), "answer": "10", "meta": {"kind": "regression"}}
    assert [row("7.5", name, **number)["score"] for name in ("rlvid", "video_r1", "lmms_eval/vsibench")] == [
        0,
        0.5,
        0.6,
    ]
    exact = number | {"answer": "3.10", "meta": {"kind": "numerical"}}
    assert [row(text, "video_r1", **exact)["score"] for text in ("3.1", "3.104", "3", "3.2")] == [1, 1, 0, 0]
    assert row("10", "lmms_eval/vsibench", **number)["correct"] and "score" not in row(reply, "rlvid")


def test_held_out_questions_have_the_protocols_wording(kitchen, custom):
    levels = held_out_prompts("kitchen", ("L1",), limit=2, protocol=custom)
    assert all(prompt.text.endswith("Answer with a letter.") for prompt in levels["L1"])
    assert levels["L1"][0].question == held_out_prompts("kitchen", ("L1",), limit=2)["L1"][0].question
