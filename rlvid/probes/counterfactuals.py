"""Video counterfactuals: the same replies are judged as if the clip had been another one. A grounded reward moves.

blank, shuffled, reversed   views of the clip (rlvid/video/views.py); of narrations: none, shuffled, reversed
other                       the clip of another question, of the same kitchen where there is one
twin                        the embedded kitchen only: the same recipe and kitchen, drawn again until another option is
                            right. Question and options stay, so a reply that was right describes the wrong clip

Clips are exchanged before evidence is made, and narrations with them. Completions, gold answers and their columns stay:
what moves is what the reward reads of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from rlvid.probes.evidence import AlterClip
from rlvid.probes.result import Block
from rlvid.probes.statistics import flat, sign_p_value
from rlvid.probes.subject import Subject
from rlvid.probes.verdicts import Checks, block, skipped
from rlvid.types import Group, Prompt

if TYPE_CHECKING:
    from rlvid.data.kitchen import Sample
    from rlvid.video.views import Clip

VIEWS = ("blank", "shuffled", "reversed")
CLAIMS = ("narrations", "view:", "view_logps:", "visual_attention")  # evidence of rewards about the video
MAX_GROUPS = 24
NO_FALL = 0.02  # of the range: right replies that fall by less do not pay for the wrong clip
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """The groups under another clip: their prompts name its files and narrations, or `alter` changes what is read."""

    groups: Sequence[Group]
    alter: AlterClip | None = None


def measure_counterfactuals(subject: Subject, groups: Sequence[Group], scale: float, kitchen: bool) -> Numbers:
    """Return for each condition the mean of right and of wrong replies, and how far they move from the true clip.

    Args:
        subject: the reward.
        groups: groups whose prompts have a video or narrations.
        scale: the range of the reward, in which moves are counted.
        kitchen: whether the prompts are of the embedded kitchen, whose clips can be drawn again.
    """
    chosen = [group for group in groups if group.prompt.video or group.prompt.narrations][:MAX_GROUPS]
    if not chosen:
        return {}
    right = flat([[float(c.answer == group.prompt.answer) for c in group] for group in chosen])
    true_values = np.nan_to_num(flat(subject.score(chosen)))
    conditions: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        media = Path(folder) if subject.evidence.needs_policy else None
        for name, condition in _conditions(chosen, kitchen, media).items():
            values = np.nan_to_num(flat(subject.score(condition.groups, condition.alter)))
            falls = true_values - values  # positive: the reply earns less under the other clip
            fall = float(falls[right == 1].mean() / scale) if scale and (right == 1).any() else 0.0
            conditions[name] = _means(values, right) | {
                "moved": float((abs(falls) > 1e-6).mean()),
                "size": float(abs(falls).mean() / scale) if scale else 0.0,
                "fall_right": fall,
                "p_rise": sign_p_value(-falls[right == 1]),
            }
    return {"groups": len(chosen), "true": _means(true_values, right), "conditions": conditions}


def judge_counterfactuals(numbers: Numbers, needs: frozenset[str], checks: Checks) -> Block:
    """Return the block: with another clip the reward must move, and right replies must not gain.

    A reward that reads no view, no narrations and no attention does not claim to be about the video: it is not judged.
    """
    if not numbers:
        return skipped("video", "no reply has a video or narrations")
    conditions = numbers["conditions"]
    name = "twin" if "twin" in conditions else "other"
    other = conditions[name]
    what = "the twin clip (another option is right)" if name == "twin" else "the clip of another question"
    if not any(need.startswith(CLAIMS) for need in needs):
        text = f"not judged, it is not about the video: {what} moves values by {other['size']:.1%} of the range"
        return replace(skipped("video", text), numbers=numbers)
    text = f"it does not react to the video: {what} moves values by {other['size']:.1%} of the range"
    findings = checks.at_least("video.min_move", other["size"], text)
    rise = -other["fall_right"] if other["p_rise"] < 0.01 else 0.0
    text = f"right replies gain {-other['fall_right']:.0%} of the range with {what}"
    findings += checks.at_most("video.max_wrong_way", rise, text)
    return block("video", numbers, findings, _in_words(numbers, what, other))


def _in_words(numbers: Numbers, what: str, other: Numbers) -> str:
    """Say what right replies earn with another clip, and if it is no less, that values move all the same."""
    if other["right"] is None:
        return f"{what} moves values by {other['size']:.0%} of the range; no reply is right"
    words = f"with {what}, right replies earn {other['right']:.2f} instead of {numbers['true']['right']:.2f}"
    if other["fall_right"] > NO_FALL:
        return words
    return f"{words}: not less, though values move by {other['size']:.0%} of the range"


def _conditions(groups: Sequence[Group], kitchen: bool, media: Path | None) -> dict[str, Condition]:
    """Return the conditions by name. `media` is a folder for the files of twins, None if nobody looks at them."""
    conditions = {
        view: Condition([_under(group, narrations=_view_of(group.prompt, view)) for group in groups], _view(view))
        for view in VIEWS
    }
    pairs = zip(groups, _others(groups), strict=True)
    conditions["other"] = Condition(
        [_under(g, narrations=other.narrations, video=other.video, image=other.image) for g, other in pairs]
    )
    if kitchen:
        conditions["twin"] = Condition([_twin_of(group, media) for group in groups])
    return conditions


def _twin_of(group: Group, media: Path | None) -> Group:
    """Return a group whose prompt shows the twin; its files are written where somebody looks at them."""
    from PIL import Image

    from rlvid.data.kitchen import encode_mp4

    twin, prompt = draw_twin(group.prompt), group.prompt
    moves = tuple(move.narration for move in twin.scene.moves) if twin.scene.filmed else ()
    if media is None:
        return _under(group, narrations=moves)
    video, image = (media / f"{prompt.level}-{prompt.id}.{kind}" for kind in ("mp4", "png"))
    Image.fromarray(twin.observation).save(image)
    if twin.clip is not None:
        encode_mp4(twin.clip, video)
    return _under(group, narrations=moves, video=str(video) if twin.clip is not None else None, image=str(image))


def draw_twin(prompt: Prompt) -> Sample:
    """Return the record of a prompt of the embedded kitchen, drawn again with another right option.

    Recipe, kitchen, dish and options are the same, and there is a clip where the prompt has one.
    """
    from rlvid.data import kitchen, kitchen_view, kitchen_world

    levels = list(kitchen.COUNTS)
    number = int(prompt.id.rpartition("_")[2]) if prompt.level == "L3" else int(prompt.id) % 10_000
    seed = [0, levels.index(prompt.level), number]
    sample = kitchen.draw_sample(np.random.default_rng(seed), prompt.level, number)
    rng = np.random.default_rng([*seed, 1])
    filmed = bool(sample.scene.filmed)
    while True:
        scene = kitchen_world.draw_scene(rng, (sample.scene.recipe,), images_only=0.0 if filmed else 1.0)
        if scene.answer != sample.scene.answer:
            break
    clip = kitchen_view.render_clip(scene, sample.kitchen, rng) if filmed else None
    return replace(
        sample, scene=scene, clip=clip, observation=kitchen_view.render_observation(scene, sample.kitchen, rng)
    )


def _under(group: Group, **changes: Any) -> Group:
    """Return a group with a changed prompt and the same completions."""
    return Group(replace(group.prompt, **changes), group.completions)


def _view_of(prompt: Prompt, view: str) -> tuple[str, ...]:
    """Return a prompt's narrations under a view of its clip."""
    rows = prompt.narrations
    if view == "blank":
        return ()
    if view == "reversed":
        return rows[::-1]
    return (*rows[1::2], *rows[::2])  # odd ones first: another order of two or more


def _view(view: str) -> Callable[[Prompt, Clip], Clip]:
    def alter(prompt: Prompt, clip: Clip) -> Clip:
        from rlvid.video.views import apply_view

        return apply_view(view, clip, prompt.id)

    return alter


def _others(groups: Sequence[Group]) -> list[Prompt]:
    """Return for each group the prompt of another one, of the same kitchen where there is one."""
    others = []
    for i, group in enumerate(groups):
        filmed, kitchen = bool(group.prompt.video), _kitchen_of(group.prompt)
        candidates = [one.prompt for one in (*groups[i + 1 :], *groups[:i]) if bool(one.prompt.video) == filmed]
        same = [prompt for prompt in candidates if kitchen and _kitchen_of(prompt) == kitchen]
        others.append((same or candidates or [group.prompt])[0])
    return others


def _kitchen_of(prompt: Prompt) -> str:
    """Return the place of a recording: "P12" of the video "P12_10000", as in EPIC-Kitchens; "" if it is unknown."""
    return str(prompt.meta.get("video_id", "")).partition("_")[0]


def _means(values: np.ndarray, right: np.ndarray) -> dict[str, float | None]:
    return {
        "right": float(values[right == 1].mean()) if (right == 1).any() else None,
        "wrong": float(values[right == 0].mean()) if (right == 0).any() else None,
    }
