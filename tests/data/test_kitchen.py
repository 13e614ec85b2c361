"""Tests of the embedded benchmark: answers follow from scenes, texts give nothing away, files are reproducible."""

import json
import re
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from rlvid.answer import format_question
from rlvid.data import kitchen, kitchen_view, kitchen_world
from rlvid.errors import UserError

COUNTS = {"train": 60, "L1": 40, "L2": 40, "L3": 40, "dev": 40}
ANNOTATIONS = {level: f"annotations/validation_{level}.jsonl" for level in ("L1", "L2", "L3", "dev")} | {
    "train": "annotations/training_6k.jsonl",
    "train_cot": "annotations/training_with_cot_6k.jsonl",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A small benchmark."""
    folder = tmp_path_factory.mktemp("kitchen") / "data"
    kitchen.write(folder, seed=3, counts=COUNTS)
    return folder


@pytest.fixture(scope="module")
def records(root) -> dict[str, list[dict]]:
    """Its records by split, "train_cot" included."""
    return {
        split: [json.loads(line) for line in (root / file).read_text().splitlines()]
        for split, file in ANNOTATIONS.items()
    }


@pytest.fixture(scope="module")
def questions(records) -> list[dict]:
    """The records of all levels, without the demonstrations."""
    return [record for level in COUNTS for record in records[level]]


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def recipe_of(record: dict) -> tuple[str, ...]:
    """Return the four ingredients that the goal of a record names, in order."""
    items = re.findall("|".join(kitchen_world.INGREDIENTS), record["task_goal"])
    assert len(set(items)) == 4
    return tuple(items)


def test_the_files_depend_on_the_seed_alone(root, tmp_path):
    kitchen.write(tmp_path / "same", seed=3, counts=COUNTS)
    kitchen.write(tmp_path / "other", seed=4, counts=dict.fromkeys(COUNTS, 2))
    assert files_of(root) == files_of(tmp_path / "same")
    first_record, other_record = (
        (folder / ANNOTATIONS["train"]).read_text().partition("\n")[0] for folder in (root, tmp_path / "other")
    )
    assert first_record != other_record


def test_a_folder_with_files_is_never_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder"):
        kitchen.write(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_the_cached_benchmark_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(kitchen, "COUNTS", dict.fromkeys(COUNTS, 2))
    folder = tmp_path / "cache" / "kitchen"

    def modification_times():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}

    kitchen.write_once(folder, kitchen.write)
    before = modification_times()
    kitchen.write_once(folder, kitchen.write)
    assert modification_times() == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kitchen"], "no temporary folder is left"


def test_records_have_the_published_fields(records, questions):
    for level, count in COUNTS.items():
        assert len(records[level]) == count
        for record in records[level]:
            assert record["video_source"] == ("EpicKitchens" if level in ("train", "L1", "dev") else "Ego4D")
            starts = [step["start_frame"] for step in record["task_progress_metadata"]]
            assert record["current_observation_frame"] > max(starts, default=0)
            assert (level == "train") == ("choice_a" not in record) == ("negative_answers" in record)
            if level != "train":
                assert record[f"choice_{record['golden_choice_idx'].lower()}"] == record["answer"]
            if level == "L3":
                assert isinstance(record["sample_id"], str)
    domains = Counter(record["domain"] for record in records["L3"])
    assert domains == dict.fromkeys(kitchen_world.DOMAINS, 10)
    assert len({record["sample_id"] for record in questions}) == len(questions)


def test_answers_follow_from_the_narrations(questions):
    """The narrations give the contents of the pot; the answer is the first step of the recipe that is missing in it."""
    for record in questions:
        if not record["task_progress_metadata"]:
            continue
        pot: set[str] = set()
        for step in sorted(record["task_progress_metadata"], key=lambda step: step["start_frame"]):
            item = step["narration_text"].split()[2]
            assert (item in pot) == step["narration_text"].startswith("take")
            pot ^= {item}
        missing = [item for item in recipe_of(record) if item not in pot]
        assert record["answer"] == f"put the {missing[0]} in the pot"


def test_the_options_are_the_steps_of_the_recipe(questions):
    """Any other option could be excluded without the video."""
    for record in questions:
        if "choice_a" in record:
            options = [record[f"choice_{letter}"] for letter in "abcd"]
        else:
            options = [*record["negative_answers"], record["answer"]]
        assert sorted(options) == sorted(f"put the {item} in the pot" for item in recipe_of(record))


def test_questions_have_the_papers_wording():
    goal = kitchen_world.goal_text("cook a stew of", ("tomato", "onion", "corn", "carrot"))
    assert kitchen_world.question_text(goal, video=True) == (
        "Considering the progress shown in the video and my current observation shown in the image, what action should "
        "I take next in order to cook a stew of tomato, then onion, then corn, then carrot?"
    )
    without_video = kitchen_world.question_text(goal, video=False)
    assert without_video.startswith("Considering my current observation shown in the image,")


def test_levels_share_kitchens_and_recipes_as_documented(records):
    kitchens = {level: {record["video_id"].partition("_")[0] for record in records[level]} for level in COUNTS}
    recipes = {level: {recipe_of(record) for record in records[level]} for level in COUNTS}
    assert kitchens["train"] | kitchens["L1"] | kitchens["dev"] <= {kitchen.name for kitchen in kitchen_view.SEEN}
    assert kitchens["L2"] | kitchens["L3"] <= {kitchen.name for kitchen in kitchen_view.UNSEEN}
    assert recipes["train"] | recipes["L1"] | recipes["L2"] | recipes["dev"] <= set(kitchen_world.KNOWN_RECIPES)
    assert recipes["L3"] <= set(kitchen_world.NEW_RECIPES)


def test_dev_has_other_recordings_of_the_training_kitchens(root, records):
    """Settings are chosen on dev: nothing of it is trained on, and nothing of it is in a test level."""
    kitchens = {level: {r["video_id"].rpartition("_")[0] for r in records[level]} for level in ("train", "dev")}
    assert kitchens["dev"] <= kitchens["train"]
    images = {
        level: {(root / f"images/{r['video_source']}/{r['current_observation_basename']}").read_bytes() for r in rows}
        for level, rows in records.items()
        if level != "train_cot"
    }
    ids = {level: {r["sample_id"] for r in rows} for level, rows in records.items()}
    for other in ("train", "L1", "L2", "L3"):
        assert not images["dev"] & images[other] and not ids["dev"] & ids[other]


def test_unseen_kitchens_and_new_recipes_differ_from_the_known_ones():
    known = {frozenset(recipe) for recipe in kitchen_world.KNOWN_RECIPES}
    new = {frozenset(recipe) for recipe in kitchen_world.NEW_RECIPES}
    assert not known & new, "a new recipe is a new set of ingredients, not only a new order"
    seen = {kitchen.background.tobytes() for kitchen in kitchen_view.SEEN}
    assert not seen & {kitchen.background.tobytes() for kitchen in kitchen_view.UNSEEN}


def test_clips_and_images_can_be_read_and_differ(root, questions):
    clips = []
    for record in questions:
        image = Image.open(root / "images" / record["video_source"] / record["current_observation_basename"])
        assert image.format == "PNG" and image.size == (56, 56)
        path = root / "videos" / record["video_source"] / record["video_basename"]
        assert path.exists() == bool(record["task_progress_metadata"])
        if path.exists():
            with av.open(path) as container:
                assert container.streams.video[0].average_rate == 2
                frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert len(frames) == 8 and frames[0].shape == (56, 56, 3)
            clips.append(path.read_bytes())
    assert len(set(clips)) == len(clips)
    assert 0 < len(questions) - len(clips) < 40, "about one record in ten has no clip"


def test_the_video_codec_keeps_the_drawing(tmp_path):
    sample = kitchen.draw_sample(np.random.default_rng(0), "train", 0)
    kitchen.encode_mp4(sample.clip, tmp_path / "clip.mp4")
    with av.open(tmp_path / "clip.mp4") as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.abs(decoded.astype(int) - sample.clip).mean() < 8


def test_demonstrations_are_of_the_training_samples(root, records):
    for record, demonstration in zip(records["train"], records["train_cot"], strict=True):
        assert demonstration["sample_id"] == record["sample_id"]
        [message] = demonstration["prompt"]
        *media, text = message["content"]
        kinds = ["video", "image"] if record["task_progress_metadata"] else ["image"]
        assert [part["type"] for part in media] == kinds
        assert all((root / part[part["type"]]).is_file() for part in media)
        letter = re.fullmatch(r"<think>[^<]+</think><answer>([ABCD])</answer>", demonstration["response"])[1]
        options = re.findall(r"^[A-D]\. (.+)$", text["text"], re.MULTILINE)
        assert text["text"] == format_question(record["question"], options)
        assert options["ABCD".index(letter)] == record["answer"]


def test_the_door_hides_half_of_the_shelf_and_the_pot_shows_the_newest_ingredient():
    scene = kitchen_world.Scene(
        ("tomato", "onion", "corn", "beet"),
        ("tomato", "onion", None, "beet", "corn", "carrot", None, "pepper"),
        (kitchen_world.Move("onion"), kitchen_world.Move("tomato")),
        filmed=1,
        door=1,
    )
    image = kitchen_view.render_observation(scene, kitchen_view.SEEN[0], np.random.default_rng(0)).astype(float)
    assert image[:28, 28:].std(axis=(0, 1)).max() < 8, "the door has one colour"
    red, green, blue = image[kitchen_view.POT]
    assert red > 200 and green < 60 and blue < 60, "the tomato is on top of the pot"
    assert scene.description == "The onion went in. Now the pot shows the tomato."
    assert scene.answer == "put the corn in the pot"


def test_a_model_of_the_text_alone_stays_at_chance():
    """A logistic model of everything written, fitted on 3,000 records, is at chance on 3,000 others."""
    rng = np.random.default_rng(0)
    pairs = [(kitchen_world.draw_scene(rng), str(rng.choice(kitchen_world.DISHES))) for _ in range(6000)]
    features, correct = zip(*(text_features(scene, dish, rng) for scene, dish in pairs), strict=True)
    x, y = np.stack(features), np.array(correct)
    weights = fit_conditional_logit(x[:3000], y[:3000])
    is_right = (x @ weights).argmax(1) == y
    held_out = int(is_right[3000:].sum())
    low, high = binomtest(held_out, 3000).proportion_ci(0.999)
    assert low < 0.25 < high, f"text alone reaches {held_out / 3000:.3f}"
    assert is_right[:3000].mean() > 0.26, "the model does fit its training records"


def text_features(scene: kitchen_world.Scene, dish: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return (4, F) features of the options, positions, words and their pairs, and the index of the right option."""
    options = rng.permutation(scene.recipe).tolist()
    rows = []
    for index, item in enumerate(options):
        indicators = (
            np.eye(4)[index],
            np.eye(4)[scene.recipe.index(item)],
            np.eye(8)[kitchen_world.INGREDIENTS.index(item)],
            np.eye(4)[kitchen_world.DISHES.index(dish)],
            np.eye(2)[int(scene.filmed > 0)],
        )
        single = np.concatenate(indicators)
        pairs = np.outer(single, single)[np.triu_indices(len(single), 1)]
        rows.append(np.concatenate([single, pairs]))
    return np.stack(rows), options.index(scene.answer.split()[2])


def fit_conditional_logit(x: np.ndarray, y: np.ndarray, steps: int = 200) -> np.ndarray:
    """Fit weights (F,) to features (N, 4, F) and right options (N,) by gradient descent."""
    weights = np.zeros(x.shape[-1])
    for _ in range(steps):
        probabilities = np.exp(x @ weights)
        probabilities /= probabilities.sum(1, keepdims=True)
        weights += 0.5 * np.einsum("nof,no->f", x, np.eye(4)[y] - probabilities) / len(x)
    return weights


def test_both_the_clip_and_the_image_are_needed():
    """In many records a move happens after the clip; in some the order of the frames decides."""
    rng = np.random.default_rng(1)
    scenes = [scene for scene in (kitchen_world.draw_scene(rng) for _ in range(2000)) if scene.filmed]

    def remaining_after_clip(scene):
        return [item for item in scene.recipe if item not in scene.pot(scene.filmed)]

    assert 0.1 < np.mean([scene.remaining != remaining_after_clip(scene) for scene in scenes]) < 0.9
    with_removal = [scene for scene in scenes if any(not move.into for move in scene.moves[: scene.filmed])]
    assert len(with_removal) > 100
