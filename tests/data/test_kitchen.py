"""The embedded benchmark: right by its own logic, honest by text, the same bytes each time."""

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

SMALL = {"train": 60, "L1": 40, "L2": 40, "L3": 40}
ANNOTATIONS = {level: f"annotations/validation_{level}.jsonl" for level in ("L1", "L2", "L3")} | {
    "train": "annotations/training_6k.jsonl",
    "train_cot": "annotations/training_with_cot_6k.jsonl",
}


def read(root: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (root / ANNOTATIONS[split]).read_text().splitlines()]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kitchen") / "data"
    kitchen.write(folder, seed=3, counts=SMALL)
    return folder


def test_bytes_are_a_function_of_the_seed(root, tmp_path):
    kitchen.write(tmp_path / "same", seed=3, counts=SMALL)
    kitchen.write(tmp_path / "other", seed=4, counts=SMALL)
    trees = [
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()}
        for r in (root, tmp_path / "same", tmp_path / "other")
    ]
    assert trees[0] == trees[1]
    assert trees[0][Path(ANNOTATIONS["train"])] != trees[2][Path(ANNOTATIONS["train"])]


def test_a_folder_with_files_is_never_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder"):
        kitchen.write(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_ensure_writes_once(root, tmp_path, monkeypatch):
    monkeypatch.setattr(kitchen, "COUNTS", dict.fromkeys(SMALL, 2))
    kitchen.ensure(tmp_path / "cache" / "kitchen", kitchen.write)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}
    kitchen.ensure(tmp_path / "cache" / "kitchen", kitchen.write)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["kitchen"]


def test_published_fields(root):
    for split, count in SMALL.items():
        records = read(root, split)
        assert len(records) == count
        for r in records:
            assert r["video_source"] == ("EpicKitchens" if split in ("train", "L1") else "Ego4D")
            assert r["current_observation_frame"] > max(
                (m["start_frame"] for m in r["task_progress_metadata"]), default=0
            )
            assert (split == "train") == ("choice_a" not in r) == ("negative_answers" in r)
            if split != "train":
                assert r[f"choice_{r['golden_choice_idx'].lower()}"] == r["answer"]
            if split == "L3":
                assert isinstance(r["sample_id"], str)
    assert Counter(r["domain"] for r in read(root, "L3")) == dict.fromkeys(kitchen_world.DOMAINS, 10)
    ids = [r["sample_id"] for split in SMALL for r in read(root, split)]
    assert len(set(ids)) == len(ids)


def test_answers_follow_from_the_narrations(root):
    """Fold the narrations into the pot's contents; the answer is the first step of the recipe that is missing."""
    for r in (r for split in SMALL for r in read(root, split) if r["task_progress_metadata"]):
        pot = set()
        for move in sorted(r["task_progress_metadata"], key=lambda m: m["start_frame"]):
            item = move["narration_text"].split()[2]
            assert (item in pot) == move["narration_text"].startswith("take")
            pot ^= {item}
        missing = [item for item in recipe(r) if item not in pot]
        assert r["answer"] == f"put the {missing[0]} in the pot"


def recipe(record: dict) -> tuple[str, ...]:
    found = re.findall("|".join(kitchen_world.INGREDIENTS), record["task_goal"])
    assert len(set(found)) == 4
    return tuple(found)


def test_the_options_are_the_steps_of_the_recipe(root):
    """Whatever else stood among them would give the answer away."""
    for r in (r for split in SMALL for r in read(root, split)):
        options = choices(r) if "choice_a" in r else [*r["negative_answers"], r["answer"]]
        assert sorted(options) == sorted(f"put the {item} in the pot" for item in recipe(r))


def choices(record: dict) -> list[str]:
    return [record[f"choice_{letter}"] for letter in "abcd"]


def test_questions_read_like_the_papers():
    goal = kitchen_world.goal("cook a stew of", ("tomato", "onion", "corn", "carrot"))
    assert kitchen_world.question(goal, video=True) == (
        "Considering the progress shown in the video and my current observation shown in the image, what action should "
        "I take next in order to cook a stew of tomato, then onion, then corn, then carrot?"
    )
    assert kitchen_world.question(goal, video=False).startswith(
        "Considering my current observation shown in the image,"
    )


def test_levels_share_what_they_should(root):
    def kitchens(split):
        return {r["video_id"].partition("_")[0] for r in read(root, split)}

    def recipes(split):
        return {recipe(r) for r in read(root, split)}

    assert kitchens("train") | kitchens("L1") <= {k.name for k in kitchen_view.SEEN}
    assert kitchens("L2") | kitchens("L3") <= {k.name for k in kitchen_view.UNSEEN}
    assert recipes("train") | recipes("L1") | recipes("L2") <= set(kitchen_world.KNOWN_RECIPES)
    assert recipes("L3") <= set(kitchen_world.NEW_RECIPES)
    known, new = ({frozenset(r) for r in rs} for rs in (kitchen_world.KNOWN_RECIPES, kitchen_world.NEW_RECIPES))
    assert not known & new, "an unseen recipe is an unseen set of ingredients, not only an unseen order"
    assert not {k.background.tobytes() for k in kitchen_view.SEEN} & {
        k.background.tobytes() for k in kitchen_view.UNSEEN
    }


def test_clips_and_images_are_real(root):
    clips = []
    for r in (r for split in SMALL for r in read(root, split)):
        image = Image.open(root / "images" / r["video_source"] / r["current_observation_basename"])
        assert image.format == "PNG" and image.size == (56, 56)
        path = root / "videos" / r["video_source"] / r["video_basename"]
        assert path.exists() == bool(r["task_progress_metadata"])
        if path.exists():
            with av.open(path) as container:
                assert container.streams.video[0].average_rate == 2
                frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            assert len(frames) == 8 and frames[0].shape == (56, 56, 3)
            clips.append(path.read_bytes())
    assert len(set(clips)) == len(clips)
    assert 0 < sum(SMALL.values()) - len(clips) < 40, "about one record in ten has no clip"


def test_encoding_keeps_what_is_drawn(tmp_path):
    s = kitchen.sample(np.random.default_rng(0), "train", 0)
    kitchen.encode(s.clip, tmp_path / "clip.mp4")
    with av.open(tmp_path / "clip.mp4") as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert np.abs(decoded.astype(int) - s.clip).mean() < 8


def test_demonstrations_are_the_training_samples(root):
    for record, demo in zip(read(root, "train"), read(root, "train_cot"), strict=True):
        assert demo["sample_id"] == record["sample_id"]
        (message,) = demo["prompt"]
        *media, text = message["content"]
        assert [m["type"] for m in media] == ["video", "image"] if record["task_progress_metadata"] else ["image"]
        assert all((root / m[m["type"]]).is_file() for m in media)
        letter = re.fullmatch(r"<think>[^<]+</think><answer>([ABCD])</answer>", demo["response"])[1]
        options = re.findall(r"^[A-D]\. (.+)$", text["text"], re.MULTILINE)
        assert text["text"] == format_question(record["question"], options)
        assert options["ABCD".index(letter)] == record["answer"]


def test_the_door_hides_half_of_the_shelf_and_the_pot_shows_the_newest():
    s = kitchen_world.Scene(
        ("tomato", "onion", "corn", "beet"),
        ("tomato", "onion", None, "beet", "corn", "carrot", None, "pepper"),
        (kitchen_world.Move("onion"), kitchen_world.Move("tomato")),
        filmed=1,
        door=1,
    )
    image = kitchen_view.observation(s, kitchen_view.SEEN[0], np.random.default_rng(0)).astype(float)
    assert image[:28, 28:].std(axis=(0, 1)).max() < 8, "one flat door"
    red, green, blue = image[kitchen_view.POT]
    assert red > 200 and green < 60 and blue < 60, "the tomato floats in the pot"
    assert s.seen == "The onion went in. Now the pot shows the tomato."
    assert s.answer == "put the corn in the pot"


def test_text_alone_is_worth_nothing():
    """A logistic model on all that is written, fitted on 3,000 records, is at chance on 3,000 others."""
    rng = np.random.default_rng(0)
    records = [(kitchen_world.scene(rng), str(rng.choice(kitchen_world.DISHES))) for _ in range(6000)]
    features, right = zip(*(written(scene, dish, rng) for scene, dish in records), strict=True)
    x, y = np.stack(features), np.array(right)
    weights = fit(x[:3000], y[:3000])
    hits = int(((x[3000:] @ weights).argmax(1) == y[3000:]).sum())
    low, high = binomtest(hits, 3000).proportion_ci(0.999)
    assert low < 0.25 < high, f"text alone reaches {hits / 3000:.3f}"
    trained = ((x[:3000] @ weights).argmax(1) == y[:3000]).mean()
    assert trained > 0.26, "the learner does learn, if only by heart"


def written(scene: kitchen_world.Scene, dish: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """(4, F) features of each option, as positions, words and their pairs; and the index of the right option."""
    options = rng.permutation(scene.recipe).tolist()
    rows = []
    for letter, item in enumerate(options):
        parts = (
            np.eye(4)[letter],
            np.eye(4)[scene.recipe.index(item)],
            np.eye(8)[kitchen_world.INGREDIENTS.index(item)],
            np.eye(4)[kitchen_world.DISHES.index(dish)],
            np.eye(2)[int(scene.filmed > 0)],
        )
        words = np.concatenate(parts)
        rows.append(np.concatenate([words, np.outer(words, words)[np.triu_indices(len(words), 1)]]))
    return np.stack(rows), options.index(scene.answer.split()[2])


def fit(x: np.ndarray, y: np.ndarray, steps: int = 200) -> np.ndarray:
    """(N, 4, F), (N,) -> (F,): the conditional logit by gradient descent."""
    weights = np.zeros(x.shape[-1])
    for _ in range(steps):
        p = np.exp(x @ weights)
        p /= p.sum(1, keepdims=True)
        weights += 0.5 * np.einsum("nof,no->f", x, np.eye(4)[y] - p) / len(x)
    return weights


def test_each_medium_matters():
    """Without the clip, or without the image, what is shown fits more than one answer in many records."""
    rng = np.random.default_rng(1)
    scenes = [s for s in (kitchen_world.scene(rng) for _ in range(2000)) if s.filmed]
    assert 0.1 < np.mean([s.left != left_after_clip(s) for s in scenes]) < 0.9
    returned = [s for s in scenes if any(not m.into for m in s.is_ema[: s.filmed])]
    assert len(returned) > 100, "in some clips the order of the frames decides"


def left_after_clip(scene: kitchen_world.Scene) -> list[str]:
    return [item for item in scene.recipe if item not in scene.pot(scene.filmed)]
