"""rlvid's rewards in TRL's real trainer, and TRL's rewards in rlvid's loop."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.rewards import think_format_reward

from rlvid.errors import UserError
from rlvid.interop.trl import REQUIRED_COLUMNS, from_trl, reward_func
from rlvid.registry import NANO_CHECKPOINT, available, build
from rlvid.reward import evidence_needs, required_columns
from rlvid.trainer.metrics import step_metrics
from rlvid.trainer.records import GroupRecord
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl
from tests.helpers.runs import TINY, train

OPTIONS = ["open tap", "close tap"]


def test_a_reward_takes_texts_and_messages_as_trl_passes_them():
    accuracy = reward_func("accuracy")
    assert accuracy.__name__ == "accuracy"
    columns = {"options": [OPTIONS] * 3, "answer": ["B", "B", "A"]}
    texts = ["<answer>B</answer>", "<answer>A</answer>", "<answer>A</answer>"]
    assert accuracy(["q", "q", "r"], texts, **columns, completion_ids=[[1], [2], [3]]) == [1.0, 0.0, 1.0]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    message_parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in texts]
    prompts = [[{"role": "user", "content": "q"}]] * 3
    for completions in (messages, message_parts):
        assert accuracy(prompts=prompts, completions=completions, trainer_state=None, **columns) == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("column", ["answer", "solution"])
def test_an_answer_may_be_a_letter_or_the_text_of_an_option(column):
    answers = ["B", "close tap", "Close tap.", "(B) close tap", "<answer>B</answer>"]
    completions = ["<answer>B</answer>"] * len(answers)
    columns = {"options": [OPTIONS] * len(answers), column: answers}
    prompts = [f"q{i}" for i in range(len(answers))]
    assert reward_func("accuracy")(prompts, completions, **columns) == [1.0] * len(answers)


@pytest.mark.parametrize("answer", ["C", "take milk", 1, "open tap or close tap"])
def test_an_answer_that_is_no_option_is_refused(answer):
    columns = {"options": [OPTIONS] * 2, "answer": ["A", answer]}
    with pytest.raises(UserError, match=r"row 1: .* names none of the options 'open tap', 'close tap', or two of them"):
        reward_func("accuracy")(["q", "r"], ["<answer>A</answer>"] * 2, **columns)


def test_options_that_are_not_a_list_are_refused():
    columns = {"options": ["A. open tap B. close tap"], "answer": ["A"]}
    with pytest.raises(UserError, match="row 0: options must be a list of texts, not a str"):
        reward_func("accuracy")(["q"], ["<answer>A</answer>"], **columns)
    with pytest.raises(UserError, match="row 0: narrations must be a list of texts, not a str"):
        reward_func("grounding_moves")(["q"], ["A"], narrations=["open tap"])


def test_options_may_be_numbers():
    replies = ["<answer>B</answer>", "<answer>20</answer>", "<answer>10</answer>"]
    columns = {"options": [[10, 20]] * 3, "answer": ["20"] * 3}
    assert reward_func("accuracy")(["How many?"] * 3, replies, **columns) == [1.0, 1.0, 0.0]


def test_messages_of_a_saved_data_set_have_none_where_a_part_has_no_text():
    rows = [{"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Next?"}]}]}] * 2
    saved = Dataset.from_list(rows)["prompt"]
    assert saved[0][0]["content"][0]["text"] is None
    replies = [[{"role": "assistant", "content": "<answer>A</answer>"}], [{"role": "assistant", "content": None}]]
    columns = {"options": [OPTIONS] * 2, "answer": ["A"] * 2}
    assert reward_func("accuracy")(list(saved), replies, **columns) == [1.0, 0.0]


def test_a_missing_column_is_refused_with_the_names_of_those_that_exist():
    completion = ["<answer>B</answer>"]
    with pytest.raises(
        UserError, match=r"'accuracy' needs the column options \(lists of texts\).*has: prompt, solution, g"
    ):
        reward_func("accuracy")(["q"], completion, solution=["B"], gold=["B"], completion_ids=[[1]], trainer_state=None)
    with pytest.raises(
        UserError, match=r"needs the column answer or solution \(letters or texts of.*has: prompt, opti"
    ):
        reward_func("accuracy")(["q"], completion, options=[OPTIONS])
    with pytest.raises(UserError, match=r"'grounding_tiou' needs the column span"):
        reward_func("grounding_tiou")(["q"], completion)


def test_the_required_columns_of_every_reward_are_known():
    """A reward that TRL can use either requires a column, or gives a number without any."""
    for name in available("rewards"):
        try:
            reward = build("rewards", name)
        except UserError:  # options without a default
            continue
        needs_evidence = evidence_needs(reward) - {"narrations"}
        if not needs_evidence and not REQUIRED_COLUMNS.keys() & {name, *required_columns(reward)}:
            values = reward_func(name)(["q"] * 2, ["<think>a</think><answer>B</answer>"] * 2)
            assert None not in values, f"{name} reads a column that REQUIRED_COLUMNS lacks"


def test_a_reward_that_applies_to_nothing_warns_once(tmp_path, monkeypatch):
    (tmp_path / "hint.py").write_text("def hint(groups):\n    return [[None] * len(g) for g in groups]\n")
    monkeypatch.chdir(tmp_path)
    hint = reward_func("./hint.py:hint")
    with pytest.warns(UserWarning, match=r"applies to none of the first 2 completions.*has: prompt, solution"):
        assert hint(["q", "r"], ["a", "b"], solution=["x", "y"]) == [None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hint(["q", "r"], ["a", "b"], solution=["x", "y"])


def test_consecutive_completions_of_one_prompt_form_a_group(tmp_path, monkeypatch):
    (tmp_path / "size.py").write_text("def size(groups):\n    return [[len(g)] * len(g) for g in groups]\n")
    monkeypatch.chdir(tmp_path)
    assert reward_func("./size.py:size")(["q", "q", "r", "q"], ["a", "b", "c", "d"]) == [2, 2, 1, 1]
    videos = {"video": ["v1", "v1", "v1", "v2"]}
    assert reward_func("./size.py:size")(["q"] * 4, ["a", "b", "c", "d"], **videos) == [3, 3, 3, 1]


def test_a_reward_that_needs_evidence_is_refused():
    with pytest.raises(UserError, match="reward 'consistency_reanswer' needs reanswer, which TRL does not provide"):
        reward_func("consistency_reanswer")


def test_trl_trains_on_rewards_of_rlvid(tmp_path):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    rows = [{"prompt": f"Next {i}?", "options": OPTIONS, "answer": "AB"[i % 2]} for i in range(8)]
    settings = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        report_to=[],
        logging_steps=1,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    rewards = [reward_func("accuracy"), reward_func("format", partial=True)]
    trainer = GRPOTrainer(
        LlamaForCausalLM(config), rewards, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert {"rewards/accuracy/mean", "rewards/format/mean"} <= log.keys() and log["rewards/accuracy/mean"] == 0.0


def one_group():
    prompt = Prompt("q", "What next?", tuple(OPTIONS), "B", level="L1")
    return Group(prompt, [Completion("<think>x</think>\n<answer>B</answer>", (1, 2)), Completion("no", (3,))])


def test_trl_rewards_may_log_be_async_and_return_none():
    received = {}

    def plain(prompts, completions, completion_ids, solution, log_extra, log_metric, **columns):
        received.update(columns, ids=completion_ids, prompts=prompts, solution=solution)
        log_extra("length", [len(completion[0]["content"]) for completion in completions])
        log_metric("seen", 7.0)
        return [None, 1]

    async def asynchronous(completions, **columns):
        return [0.5] * len(completions)

    group = one_group()
    assert from_trl(plain)([group]) == [[None, 1.0]]
    assert received["ids"] == [[1, 2], [3]]
    assert received["solution"] == ["B", "B"] and received["level"] == ["L1", "L1"]
    assert "A. open tap" in received["prompts"][0][0]["content"]
    assert group.evidence == {"log/length": [35, 2], "metric/seen": 7.0}
    group.columns["plain"] = [None, 1.0]
    assert step_metrics([GroupRecord.of(0, group, [0.0, 1.0])])["seen"] == 7.0
    assert from_trl(asynchronous)([group]) == [[0.5, 0.5]]
    with pytest.raises(UserError, match="returned 1 values for 2 completions"):
        from_trl(lambda **columns: [1.0])([group])


def test_rlvid_trains_on_a_reward_of_trl(kitchen, tmp_path):
    name = "rlvid.interop.trl:think_format_reward"
    out = train(tmp_path / "run", *TINY, f'rewards."{name}"=0.2', "train.max_steps=2", "eval.splits=[]")
    row = json.loads((out / "samples/step-000001.jsonl").read_text().splitlines()[0])
    messages = [[{"role": "assistant", "content": text}] for text in row["completions"]]
    assert row["columns"][name] == think_format_reward(messages) and 1.0 in row["columns"][name]
    assert f"rewards/{name}/mean" in read_jsonl(out / "metrics.jsonl")[1]


def test_a_factory_of_trl_takes_its_parameters_from_the_config(kitchen, tmp_path):
    prefix = "rlvid.interop.trl:get_"
    group = one_group()
    token_ids = [(1, 2, 1, 2, 1), (1,) * 9]
    group.completions = [replace(c, tokens=tokens) for c, tokens in zip(group, token_ids, strict=True)]
    ours = build("rewards", "repetition", n=2)
    theirs = build("rewards", f"{prefix}repetition_penalty_reward", ngram_size=2)
    assert theirs([group]) == ours([group]) == [[-0.5, pytest.approx(-7 / 8)]]
    options = {"max_completion_len": 10, "soft_punish_cache": 2}
    assert build("rewards", f"{prefix}soft_overlong_punishment", **options)([group]) == [[0.0, -0.5]]
    with pytest.raises(UserError, match="missing 2 required positional arguments: 'max_completion_len' and 'soft_p"):
        train(tmp_path / "run", *TINY, f'rewards."{prefix}soft_overlong_punishment"=0.2')
    with pytest.raises(UserError, match="has no field 'ngrams'"):
        build("rewards", f"{prefix}repetition_penalty_reward", ngrams=2)
    name = f"{prefix}cosine_scaled_reward"
    out = train(tmp_path / "run", *TINY, f'rewards."{name}"={{weight=1, max_len=100}}', "eval.splits=[]")
    rows = read_jsonl(out / "samples/step-000001.jsonl")
    values = [value for row in rows for value in row["columns"][name]]
    assert all(value is None or -1 <= value <= 1 for value in values)


@pytest.mark.filterwarnings("ignore:reward 'grounding_box_iou' applies to none")
def test_spans_boxes_and_narrations_are_read_from_columns(kitchen):
    columns = {"span": [[2, 5]], "box": [None], "duration": [10.0]}
    assert reward_func("grounding_tiou")(["q"], ["<answer>2 to 5</answer>"], **columns) == [1.0]
    assert reward_func("grounding_tiou")(["q"], ["<answer>0 to 10</answer>"], **columns) == [0.0]
    box_iou = reward_func("grounding_box_iou")
    assert box_iou(["q"], ["<answer>[0, 0, 4, 4]</answer>"], **columns) == [None], "the row has no box"
    assert box_iou(["q"], ["<answer>[0, 0, 4, 4]</answer>"], box=[[0, 0, 4, 4]]) == [1.0]
    completions = ["<think>She took milk.</think>"]
    assert reward_func("grounding_narrations")(["q"], completions, narrations=[["take milk"]]) == [1.0]


def test_an_unknown_function_of_trl_is_refused(tmp_path):
    with pytest.raises(UserError, match="think_formatt_reward"):
        train(tmp_path, *TINY, 'rewards."rlvid.interop.trl:think_formatt_reward"=0.2')
