"""The task for lmms-eval: rlvid's questions, frames and parser, alone and through lmms-eval's own loader."""

import importlib.util
import json
import os
import shutil

import numpy as np
import pytest
import yaml

from rlvid import api
from rlvid.config import VideoConfig, load
from rlvid.data.benchmark import load_level
from rlvid.errors import UserError
from rlvid.interop.lmms_eval import frame_settings, write_task
from rlvid.video.cache import FrameCache
from rlvid.video.resize import target_size


@pytest.fixture(scope="module")
def task(kitchen, tmp_path_factory):
    """The folder of the embedded benchmark's task, by the settings of "nano"."""
    folder = tmp_path_factory.mktemp("task") / "kitchen"
    assert api.export_lmms_eval_task(folder, "nano", splits=["L1", "L3"]) == ["kitchen_l1", "kitchen_l3"]
    return folder


def documents(task, level="L1"):
    return [json.loads(line) for line in (task / f"{level}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def utils(task):
    """The functions of the task, imported from its folder as lmms-eval does."""
    spec = importlib.util.spec_from_file_location("utils", task / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_question_has_rlvids_words_frames_and_image(task, utils):
    prompts, docs = load_level("kitchen", "L1"), documents(task)
    assert [utils.doc_to_text(doc) for doc in docs] == [prompt.text for prompt in prompts]
    assert [utils.doc_to_target(doc) for doc in docs] == [prompt.answer for prompt in prompts]
    frames = FrameCache(load("nano", ()).video)
    for prompt, doc in list(zip(prompts, docs, strict=True))[:8]:
        [message] = utils.doc_to_messages(doc)
        shown = {part["type"]: part.get("url") for part in message["content"]}
        clip = frames(prompt)
        assert ("video" in shown) == (clip.video is not None)
        if clip.video is not None:
            assert np.array_equal(np.stack([np.asarray(frame) for frame in shown["video"]]), clip.video)
        if clip.image is not None:
            assert np.array_equal(np.asarray(shown["image"]), clip.image)
        assert [part["type"] for part in message["content"]][-1] == "text"
    frames.close()


def test_replies_are_read_as_rlvid_reads_them(task, utils):
    doc = documents(task)[0]
    right, wrong = doc["answer"], next(letter for letter in "ABCD" if letter != doc["answer"])
    text = doc["options"]["ABCD".index(right)]
    replies = {f"<answer>{right}</answer>": 1, f"<think>x</think><answer>{text}</answer>": 1}
    replies |= {f"<answer>{wrong}</answer>": 0, right: 0, f"<answer>{right} or {wrong}</answer>": 0}
    scores = [utils.process_results(doc, [reply])["accuracy"] for reply in replies]
    assert [score["score"] for score in scores] == [*replies.values()]
    assert utils.mean_score(scores) == 0.4


def test_frames_of_long_films_and_of_parts_are_chosen_alike(utils, task):
    from rlvid.video.read import frame_indices

    video = load("nano", ()).video
    for total in (1, 2, 3, 9, 24, 100, 1000):
        for native_fps in (0, 8.0, 29.97):
            assert utils.frame_indices(total, native_fps) == frame_indices(total, native_fps, video)


def test_what_cannot_be_a_task_is_refused(task, tmp_path):
    with pytest.raises(UserError, match="exists: give another folder"):
        api.export_lmms_eval_task(task, "nano")
    with pytest.raises(UserError, match="needs a run, or a benchmark"):
        api.export_lmms_eval_task(tmp_path / "new")


def test_decoding_is_that_of_evaluations(kitchen, tmp_path):
    prompts = {"L1": load_level("kitchen/small", "L1")[:1]}
    changes = ["eval.max_completion_length=33", "eval.temperature=0.5", "eval.top_p=0.9"]
    write_task(tmp_path / "task", "k", prompts, load("nano", changes))
    lines = (tmp_path / "task/k_l1.yaml").read_text().splitlines()
    assert {"  max_new_tokens: 33", "  temperature: 0.5", "  top_p: 0.9", "  do_sample: true"} <= {*lines}
    with pytest.raises(UserError, match=r"protocol 'rlvid', and the run's eval\.protocol is 'video_r1'"):
        write_task(tmp_path / "other", "k", prompts, load("nano", ["eval.protocol=video_r1"]))
    two = {"Daily life": prompts["L1"], "daily-life": prompts["L1"]}
    with pytest.raises(UserError, match="'Daily life' and 'daily-life' would both be the task k_daily_life"):
        write_task(tmp_path / "other", "k", two, load("nano", ()))
    write_task(tmp_path / "slash", "k", {"Art/Design": prompts["L1"]}, load("nano", ()))
    assert (tmp_path / "slash/Art_Design.jsonl").is_file() and (tmp_path / "slash/k_art_design.yaml").is_file()


def test_the_yaml_holds_any_path_and_number_and_stops_no_reply_at_a_blank_line(kitchen, tmp_path):
    prompts = {"L1": load_level("kitchen/small", "L1")[:1]}
    folder = tmp_path / "厨房 é 😀"
    write_task(folder, "k", prompts, load("nano", ["eval.temperature=0.00001", "eval.top_p=0.9"]))
    text = (folder / "k_l1.yaml").read_text().replace("!function", "")
    table = yaml.safe_load(text)
    assert table["dataset_kwargs"]["data_files"]["test"] == str(folder / "L1.jsonl")
    sampling = {"max_new_tokens": 64, "temperature": 0.00001, "top_p": 0.9, "do_sample": True}
    assert table["generation_kwargs"] == {"until": ["<|im_end|>"]} | sampling


def test_a_task_of_the_working_folder_has_its_name(kitchen, tmp_path, monkeypatch):
    shutil.copytree(kitchen, tmp_path / "My Kitchen", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "My Kitchen")
    assert api.export_lmms_eval_task(tmp_path / "task", "nano", data=".", splits="L1") == ["my_kitchen_l1"]
    assert (tmp_path / "task" / "my_kitchen.yaml").is_file()


def test_frames_without_a_fixed_size_have_rlvids(utils, monkeypatch):
    video = VideoConfig(resized_height=None, resized_width=None, min_pixels=100352, max_pixels=200704)
    monkeypatch.setattr(utils, "settings", lambda: frame_settings(video, 28))
    for height, width in ((1080, 1920), (48, 64), (360, 640), (700, 300)):
        assert utils.free_size(width, height)[::-1] == target_size(height, width, video)
    assert utils.free_size(1920, 1080) == (588, 336)  # 1920 and 1080 pixels by 3.214: 21.3 and 12.0 tokens


def test_lmms_eval_loads_it_and_scores_a_reply(task):
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    from lmms_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager(include_path=str(task), include_defaults=False)
    [group] = get_task_dict(["kitchen"], manager, task_type="chat").values()
    assert sorted(group) == ["kitchen_l1", "kitchen_l3"]
    loaded = group["kitchen_l1"]
    docs = documents(task)
    assert len(loaded.test_docs()) == len(docs)
    doc = loaded.test_docs()[3]
    assert loaded.doc_to_text(doc) == docs[3]["prompt"] and loaded.doc_to_target(doc) == docs[3]["answer"]
    assert [part["type"] for part in loaded.doc_to_messages(doc)[0]["content"]][-1] == "text"
    [result] = loaded.process_results(doc, [f"<answer>{doc['answer']}</answer>"]).values()
    assert loaded.aggregation()["accuracy"]([result]) == 1.0
