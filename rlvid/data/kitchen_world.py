"""The world of the embedded benchmark: a cook, a shelf, a pot, and a recipe of four ingredients in order.

A scene is what happens in one record: which ingredients go into the pot or come out again, and in which order. Any
subset of the recipe's steps may be done, in any order, with moves that are undone and with ingredients that the recipe
lacks. So only the pixels show which step is next: a reader of the text alone is right one time in four.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

INGREDIENTS = ("tomato", "onion", "corn", "carrot", "pepper", "potato", "mushroom", "beet")
DISHES = ("cook a stew of", "make a soup of", "prepare a curry of", "simmer a broth of")
DOMAINS = {  # level L3: domain -> (scenario, dish)
    "Daily life": ("family dinner", "get a family dinner ready from"),
    "Hobbies": ("cooking contest", "win the cooking contest with a pot of"),
    "Recreation": ("camping", "boil a campfire meal out of"),
    "Work": ("canteen", "serve the canteen guests a special of"),
}
SHELF_SLOTS = 8  # two boards with four positions each

Recipe = tuple[str, ...]


def _split_recipes() -> tuple[tuple[Recipe, ...], tuple[Recipe, ...]]:
    """Return all orders of 50 sets of ingredients (train, L1, L2), and all orders of the 20 other sets (L3)."""
    sets = list(combinations(INGREDIENTS, 4))
    order = np.random.default_rng(0).permutation(len(sets))
    known = [recipe for index in order[:50] for recipe in permutations(sets[index])]
    new = [recipe for index in order[50:] for recipe in permutations(sets[index])]
    return tuple(known), tuple(new)


KNOWN_RECIPES, NEW_RECIPES = _split_recipes()


@dataclass(frozen=True)
class Move:
    """One ingredient goes into the pot, or comes out of it and returns to its position on the shelf."""

    item: str
    into: bool = True

    @property
    def narration(self) -> str:
        """The move in the words of an annotator. The options of the questions have the same form."""
        return f"put the {self.item} in the pot" if self.into else f"take the {self.item} out of the pot"


@dataclass(frozen=True)
class Scene:
    """All that happens in one record. The clip shows the first `filmed` moves; the image shows the state at the end."""

    recipe: Recipe
    shelf: tuple[str | None, ...]  # the ingredient at each of the 8 positions before the first move, None if empty
    moves: tuple[Move, ...]
    filmed: int  # 0: there is no clip
    door: int | None  # the half of the shelf that a door hides in the image: 0 left, 1 right

    def pot(self, moves: int) -> list[str]:
        """Return the contents of the pot after the first `moves` moves, the newest last."""
        contents: list[str] = []
        for move in self.moves[:moves]:
            if move.into:
                contents.append(move.item)
            else:
                contents = [item for item in contents if item != move.item]
        return contents

    @property
    def remaining(self) -> list[str]:
        """The ingredients of the recipe that are not in the pot at the end, in the order of the recipe."""
        contents = self.pot(len(self.moves))
        return [item for item in self.recipe if item not in contents]

    @property
    def answer(self) -> str:
        """The right option: the first step of the recipe that is not done."""
        return Move(self.remaining[0]).narration

    @property
    def top_of_pot(self) -> str:
        """The newest ingredient in the pot at the end, in words. It is the only one that can be seen."""
        contents = self.pot(len(self.moves))
        return f"the {contents[-1]}" if contents else "nothing"

    @property
    def description(self) -> str:
        """What the pixels show, in words."""
        if not self.filmed:
            contents = self.pot(len(self.moves))
            return "The shelf has " + ", ".join(item for item in self.shelf if item and item not in contents) + "."
        moves = [f"the {move.item} {'went in' if move.into else 'came out'}" for move in self.moves[: self.filmed]]
        sentence = ", ".join(moves)
        return f"{sentence.capitalize()}. Now the pot shows {self.top_of_pot}."

    @property
    def reasoning(self) -> str:
        """The reasoning of a demonstration: what the pixels show, what remains, and what comes next."""
        return f"{self.description} That leaves {', '.join(self.remaining)}. Next is the {self.remaining[0]}."


def draw_scene(
    rng: np.random.Generator,
    recipes: tuple[Recipe, ...] = KNOWN_RECIPES,
    images_only: float = 0.1,
    first_step: float | None = None,
) -> Scene:
    """Draw a random scene.

    Args:
        rng: of all draws.
        recipes: one of them is drawn.
        images_only: the share of scenes that have no clip; all of their moves are done before the image.
        first_step: the share of scenes whose answer is the first step of the recipe; the others share the rest. None:
            the position of the answer in the recipe is uniform and independent of everything that is written.
    """
    recipe = recipes[rng.integers(len(recipes))]
    # The index of the next step: all steps before it are done, later ones perhaps.
    if first_step is None:
        answer = int(rng.integers(4))
    else:
        answer = int(rng.choice(4, p=[first_step, *[(1 - first_step) / 3] * 3]))
    done = [item for step, item in enumerate(recipe) if step < answer or (step > answer and rng.random() < 0.5)]
    others = [item for item in rng.permutation(INGREDIENTS).tolist() if item not in recipe][:2]
    shelf = rng.permutation(np.array([*recipe, *others, None, None], dtype=object)).tolist()

    moves = [Move(item) for item in rng.permutation(np.array(done, dtype=object))]
    if not moves or (len(moves) < 4 and rng.random() < 0.3):  # an ingredient that the recipe lacks
        moves.insert(rng.integers(len(moves) + 1), Move(others[0]))
    if len(moves) < 3 and rng.random() < 0.5:  # an ingredient that goes in and comes out again
        item = str(rng.choice([recipe[answer], others[1]]))
        into, out = sorted(rng.integers(len(moves) + 1, size=2))
        moves.insert(out, Move(item, into=False))
        moves.insert(into, Move(item))

    filmed = len(moves)
    if filmed > 1 and moves[-1].into and rng.random() < 0.5:
        filmed -= 1  # the last move happens after the clip; only the pot in the image shows it
    if rng.random() < images_only:
        return Scene(recipe, tuple(shelf), tuple(moves), filmed=0, door=None)
    return Scene(recipe, tuple(shelf), tuple(moves), filmed, door=int(rng.integers(2)))


def question_text(goal: str, video: bool) -> str:
    """Return the question of SEED-Bench-R1 about a goal, for a record with or without a video."""
    progress = "the progress shown in the video and " if video else ""
    return (
        f"Considering {progress}my current observation shown in the image, "
        f"what action should I take next in order to {goal}?"
    )


def goal_text(dish: str, recipe: Recipe) -> str:
    """Return the goal of a dish and a recipe.

    >>> goal_text("cook a stew of", ("tomato", "onion", "corn", "carrot"))
    'cook a stew of tomato, then onion, then corn, then carrot'
    """
    return f"{dish} {', then '.join(recipe)}"
