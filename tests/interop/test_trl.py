"""Our rewards in TRL's real trainer, and TRL's in our loop."""

import json
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.rewards import think_format_reward

from rlvid.errors import UserError
from rlvid.interop.trl import from_trl, reward_func
from rlvid.registry import NANO_CHECKPOINT, build
from rlvid.trainer.metrics import step_metrics
from rlvid.trainer.records import GroupRecord
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl
from tests.helpers.runs import TINY, train

OPTIONS = ["open tap", "close tap"]


def test_ours_as_trl_calls_it():
    accuracy = reward_func("accuracy")
    assert accuracy.__name__ == "accuracy"
    rows = {"options": [OPTIONS] * 3, "answer": ["B", "B", "A"]}
    texts = ["<answer>B</answer>", "<answer>A</answer>", "<answer>A</answer>"]
    assert accuracy(["q", "q", "r"], texts, **rows, completion_ids=[[1], [2], [3]]) == [1.0, 0.0, 1.0]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in texts]
    prompts = [[{"role": "user", "content": "q"}]] * 3
    for said in (messages, parts):
        assert accuracy(prompts=prompts, completions=said, trainer_state=None, **rows) == [1.0, 0.0, 1.0]
    assert accuracy(["q"], ["<answer>B</answer>"]) == [None], "without options it does not apply"


def test_a_reward_of_whole_groups_sees_the_completions_of_one_prompt_together(tmp_path, monkeypatch):
    (tmp_path / "rank.py").write_text("def rank(groups):\n    return [[len(g)] * len(g) for g in groups]\n")
    monkeypatch.chdir(tmp_path)
    assert reward_func("./rank.py:rank")(["q", "q", "r", "q"], ["a", "b", "c", "d"]) == [2, 2, 1, 1]


def test_evidence_is_refused_where_there_is_none():
    with pytest.raises(UserError, match="reward 'consistency_reanswer' needs reanswer, which TRL does not provide"):
        reward_func("consistency_reanswer")


def test_trl_trains_on_ours(tmp_path):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    rows = [{"prompt": f"Next {i}?", "options": OPTIONS, "answer": "AB"[i % 2]} for i in range(8)]
    settings = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=2, per_device_train_batch_size=4,
        num_generations=4, max_completion_length=8, report_to=[], logging_steps=1, gradient_checkpointing=False,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    rewards = [reward_func("accuracy"), reward_func("format", partial=True)]
    trainer = GRPOTrainer(
        LlamaForCausalLM(config), rewards, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert {"rewards/accuracy/mean", "rewards/format/mean"} <= log.keys() and log["rewards/accuracy/mean"] == 0.0


def groups():
    prompt = Prompt("q", "What next?", tuple(OPTIONS), "B", level="L1")
    return [Group(prompt, [Completion("<think>x</think>\n<answer>B</answer>", (1, 2)), Completion("no", (3,))])]


def test_trls_sync_async_and_none(capsys):
    seen = {}

    def plain(prompts, completions, completion_ids, solution, log_extra, log_metric, **columns):
        seen.update(columns, ids=completion_ids, prompts=prompts, solution=solution)
        log_extra("length", [len(c[0]["content"]) for c in completions])
        log_metric("seen", 7.0)
        return [None, 1]

    async def later(completions, **columns):
        return [0.5] * len(completions)

    made = groups()
    assert from_trl(plain)(made) == [[None, 1.0]]
    assert seen["ids"] == [[1, 2], [3]] and seen["solution"] == ["B", "B"] and seen["level"] == ["L1", "L1"]
    assert "A. open tap" in seen["prompts"][0][0]["content"]
    assert made[0].evidence == {"log/length": [35, 2], "metric/seen": 7.0}
    made[0].columns["plain"] = [None, 1.0]
    assert step_metrics([GroupRecord.of(0, made[0], [0.0, 1.0])])["seen"] == 7.0
    assert from_trl(later)(made) == [[0.5, 0.5]]
    with pytest.raises(UserError, match="returned 1 values for 2 completions"):
        from_trl(lambda **columns: [1.0])(made)


def test_ours_trains_on_trls(kitchen, tmp_path):
    name = "rlvid.interop.trl:think_format_reward"
    out = train(tmp_path / "run", *TINY, f'rewards."{name}"=0.2', "train.max_steps=2", "eval.splits=[]")
    row = json.loads((out / "samples/step-000001.jsonl").read_text().splitlines()[0])
    messages = [[{"role": "assistant", "content": text}] for text in row["completions"]]
    assert row["columns"][name] == think_format_reward(messages) and 1.0 in row["columns"][name]
    assert f"rewards/{name}/mean" in read_jsonl(out / "metrics.jsonl")[1]


def test_what_trl_makes_with_fields_is_made_with_them(kitchen, tmp_path):
    where = "rlvid.interop.trl:get_"
    [group] = groups()
    group.completions = [
        replace(c, tokens=tokens) for c, tokens in zip(group, [(1, 2, 1, 2, 1), (1,) * 9], strict=True)
    ]
    ours, theirs = (
        build("rewards", "repetition", n=2),
        build("rewards", f"{where}repetition_penalty_reward", ngram_size=2),
    )
    assert theirs([group]) == ours([group]) == [[-0.5, pytest.approx(-7 / 8)]]
    fields = {"max_completion_len": 10, "soft_punish_cache": 2}
    assert build("rewards", f"{where}soft_overlong_punishment", **fields)([group]) == [[0.0, -0.5]]
    with pytest.raises(UserError, match="missing 2 required positional arguments: 'max_completion_len' and 'soft_p"):
        train(tmp_path / "run", *TINY, f'rewards."{where}soft_overlong_punishment"=0.2')
    with pytest.raises(UserError, match="has no field 'ngrams'"):
        build("rewards", f"{where}repetition_penalty_reward", ngrams=2)
    name = f"{where}cosine_scaled_reward"
    out = train(tmp_path / "run", *TINY, f'rewards."{name}".max_len=100', "eval.splits=[]")
    assert all(
        value is None or -1 <= value <= 1
        for row in read_jsonl(out / "samples/step-000001.jsonl")
        for value in row["columns"][name]
    )


def test_columns_of_other_kinds_of_data_are_read(kitchen):
    row = {"span": [[2, 5]], "box": [None], "duration": [10.0]}
    assert reward_func("grounding_tiou")(["q"], ["<answer>2 to 5</answer>"], **row) == [1.0]
    assert reward_func("grounding_tiou")(["q"], ["<answer>0 to 10</answer>"], **row) == [0.0]
    assert reward_func("grounding_box_iou")(["q"], ["<answer>[0, 0, 4, 4]</answer>"], **row) == [None]
    assert reward_func("grounding_box_iou")(["q"], ["<answer>[0, 0, 4, 4]</answer>"], box=[[0, 0, 4, 4]]) == [1.0]
    told = reward_func("grounding_narrations")(["q"], ["<think>She took milk.</think>"], narrations=[["take milk"]])
    assert told == [1.0]


def test_what_trl_does_not_have_is_refused(tmp_path):
    with pytest.raises(UserError, match="think_formatt_reward"):
        train(tmp_path, *TINY, 'rewards."rlvid.interop.trl:think_formatt_reward"=0.2')
