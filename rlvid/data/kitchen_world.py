"""The embedded benchmark's world: a cook, a shelf, a pot, and a recipe of four ingredients in order.

What has been done is any subset of the steps, in any order, with distractors and second thoughts: so nothing but the
pixels tells which step is next, and whoever reads only the text is right one time in four.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

INGREDIENTS = ("tomato", "onion", "corn", "carrot", "pepper", "potato", "mushroom", "beet")
DISHES = ("cook a stew of", "make a soup of", "prepare a curry of", "simmer a broth of")
DOMAINS = {  # level L3: domain -> (scenario, goal)
    "Daily life": ("family dinner", "get a family dinner ready from"),
    "Hobbies": ("cooking contest", "win the cooking contest with a pot of"),
    "Recreation": ("camping", "boil a campfire meal out of"),
    "Work": ("canteen", "serve the canteen guests a special of"),
}
SLOTS = 8  # two boards of four places each
PLACES = ("seen", "unseen")

Recipe = tuple[str, ...]


def _recipes() -> tuple[tuple[Recipe, ...], tuple[Recipe, ...]]:
    """Every order of 50 ingredient sets for training, L1 and L2; every order of the 20 other sets for L3."""
    sets = list(combinations(INGREDIENTS, 4))
    order = np.random.default_rng(0).permutation(len(sets))
    known, new = ([r for i in part for r in permutations(sets[i])] for part in (order[:50], order[50:]))
    return tuple(known), tuple(new)


KNOWN_RECIPES, NEW_RECIPES = _recipes()


@dataclass(frozen=True)
class Move:
    """One ingredient goes into the pot, or comes out of it and back to its place on the shelf."""

    item: str
    into: bool = True

    @property
    def narration(self) -> str:
        """As an annotator writes it; the answers to the questions have the same form."""
        return f"put the {self.item} in the pot" if self.into else f"take the {self.item} out of the pot"


@dataclass(frozen=True)
class Scene:
    """All that happens in one record. The first `filmed` moves are in the clip; the observation shows the end."""

    recipe: Recipe
    shelf: tuple[str | None, ...]  # what stands at each of the 8 places at first
    moves: tuple[Move, ...]
    filmed: int  # 0: there is no clip
    door: int | None  # the half (0 left, 1 right) of the shelf that a door hides in the observation

    def pot(self, moves: int) -> list[str]:
        """What is in the pot after so many moves, the newest last."""
        inside: list[str] = []
        for move in self.moves[:moves]:
            inside = [*inside, move.item] if move.into else [i for i in inside if i != move.item]
        return inside

    @property
    def left(self) -> list[str]:
        """The recipe's ingredients that are not in the pot in the end, in the recipe's order."""
        inside = self.pot(len(self.moves))
        return [item for item in self.recipe if item not in inside]

    @property
    def answer(self) -> str:
        """The next action: the first step of the recipe that is not done."""
        return Move(self.left[0]).narration

    @property
    def newest(self) -> str:
        """What the pot shows in the end."""
        inside = self.pot(len(self.moves))
        return f"the {inside[-1]}" if inside else "nothing"

    @property
    def seen(self) -> str:
        """What the pixels show, in words."""
        inside = self.pot(len(self.moves))
        if not self.filmed:
            return "The shelf has " + ", ".join(i for i in self.shelf if i and i not in inside) + "."
        events = ", ".join(f"the {m.item} {'went in' if m.into else 'came out'}" for m in self.moves[: self.filmed])
        return f"T{events[1:]}. Now the pot shows {self.newest}."

    @property
    def reasoning(self) -> str:
        """What was seen, what is left, what comes next."""
        return f"{self.seen} That leaves {', '.join(self.left)}. Next is the {self.left[0]}."


def scene(rng: np.random.Generator, recipes: tuple[Recipe, ...] = KNOWN_RECIPES, images_only: float = 0.1) -> Scene:
    """A random record. The place of the answer in the recipe is uniform and independent of all that is written."""
    recipe = recipes[rng.integers(len(recipes))]
    place = int(rng.integers(4))
    done = [item for i, item in enumerate(recipe) if i < place or (i > place and rng.random() < 0.5)]
    others = [item for item in rng.permutation(INGREDIENTS).tolist() if item not in recipe][:2]
    shelf = rng.permutation(np.array([*recipe, *others, None, None], dtype=object)).tolist()

    moves = [Move(item) for item in rng.permutation(np.array(done, dtype=object))]
    if not moves or (len(moves) < 4 and rng.random() < 0.3):
        moves.insert(rng.integers(len(moves) + 1), Move(others[0]))
    if len(moves) < 3 and rng.random() < 0.5:  # a second thought: one goes in and comes out again
        item = str(rng.choice([recipe[place], others[1]]))
        into, out = sorted(rng.integers(len(moves) + 1, size=2))
        moves.insert(out, Move(item, into=False))
        moves.insert(into, Move(item))

    filmed = len(moves)
    if filmed > 1 and moves[-1].into and rng.random() < 0.5:
        filmed -= 1  # the last move happens after the clip: the pot in the observation shows it
    if rng.random() < images_only:
        return Scene(recipe, tuple(shelf), tuple(moves), 0, None)
    return Scene(recipe, tuple(shelf), tuple(moves), filmed, int(rng.integers(2)))


def question(goal: str, video: bool) -> str:
    """SEED-Bench-R1's question, with and without a progress video."""
    progress = "the progress shown in the video and " if video else ""
    return (
        f"Considering {progress}my current observation shown in the image, "
        f"what action should I take next in order to {goal}?"
    )


def goal(start: str, recipe: Recipe) -> str:
    """`cook a stew of` and a recipe -> cook a stew of tomato, then onion, then corn, then carrot."""
    return f"{start} {', then '.join(recipe)}"
