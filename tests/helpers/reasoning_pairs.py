"""Pairs of reasoning and answer, labelled by whether the answer follows from the reasoning.

There are two sets: generated from the embedded kitchen, and handwritten prose about real kitchens. Half of the
questions, by a hash of their id, is for tuning; results are reported on the other half.
"""

from dataclasses import dataclass
from pathlib import Path

from rlvid.answer import LETTERS
from rlvid.data.seed_bench_r1 import load
from rlvid.types import Completion, Prompt
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class Pair:
    """A thought and an answer to a question; `consistent` if the thought leads to the answer."""

    prompt: Prompt
    thought: str
    answer: str
    consistent: bool

    @property
    def is_tuning(self) -> bool:
        """Whether it belongs to the half for tuning."""
        return uniform_hash("half", self.prompt.id) < 0.5

    @property
    def completion(self) -> Completion:
        """The pair in the form of a policy's reply."""
        return Completion(f"<think>{self.thought}</think><answer>{self.answer}</answer>")


def generated_pairs(kitchen: Path, questions: int = 300) -> list[Pair]:
    """Return two pairs for each of the first demonstrations of the embedded benchmark.

    In about half of them, by hash, the last word of the thought is replaced by a random ingredient, so that a
    consistent pair may be wrong and an inconsistent one may be right.
    """
    pairs = []
    for prompt in load(kitchen, "train_cot")[:questions]:
        thought = Completion(prompt.demonstration or "").thought or ""
        concluded = LETTERS.index(prompt.answer or "A")
        if uniform_hash("turn", prompt.id) < 0.5:
            concluded = (concluded + int(uniform_hash("wrong", prompt.id) * 6)) % 4
        ingredient = prompt.options[concluded].split()[2]
        start, _, _ = thought.rpartition(" Next is the ")
        pairs += _consistent_and_inconsistent(prompt, f"{start} Next is the {ingredient}.", concluded)
    return pairs


def handwritten_pairs() -> list[Pair]:
    """Return eight pairs for each of sixteen kitchens: four conclusions with the answer they lead to and with another.

    Every other thought, by hash, rules out another option before it concludes.
    """
    pairs = []
    for block in KITCHENS.strip().split("\n\n"):
        situation, *lines = block.strip().split("\n")
        options, conclusions = zip(*(line.split(": ", 1) for line in lines), strict=True)
        name = options[0]
        prompt = Prompt(name, "What action should I take next?", options)
        for index, conclusion in enumerate(conclusions):
            other = options[(index + 1 + int(3 * uniform_hash("aside", name, index))) % 4]
            aside = ASIDES[int(len(ASIDES) * uniform_hash("turn", name, index))].format(other)
            thought = " ".join(part for part in (situation, aside, conclusion) if part)
            pairs += _consistent_and_inconsistent(prompt, thought, index)
    return pairs


def split_halves(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return the half for tuning and the half to report."""
    return [pair for pair in pairs if pair.is_tuning], [pair for pair in pairs if not pair.is_tuning]


def _consistent_and_inconsistent(prompt: Prompt, thought: str, concluded: int) -> list[Pair]:
    """Return a thought with the answer that it leads to, and with one of the other three."""
    other = (concluded + 1 + int(3 * uniform_hash("other", prompt.id, thought))) % 4
    return [Pair(prompt, thought, LETTERS[i], i == concluded) for i in (concluded, other)]


ASIDES = ("", "", "", "One might {}, but not yet.", "It is too early to {}.", "Later I may {}.")

# One block per kitchen: the situation, then four lines "option: a conclusion in other words that leads to it".
KITCHENS = """
Water boils in the pan and salt has been added.
pour pasta into pan: The spaghetti has to go into the boiling water now.
drain pasta: Everything is soft enough, so the hot water should be tipped off through the colander.
grate cheese: What is still missing on the plate is some parmesan in fine shreds.
stir sauce: The tomatoes are about to stick to the bottom and need a turn with the spoon.

The woman rinsed a plate and stood it on the rack.
close tap: Nothing is left to rinse, so the water should stop running.
dry hands: Her fingers are dripping, and the towel hangs beside her.
pick up sponge: The next dish is greasy, so the thing to scrub it with comes first.
empty sink: Pulling the plug lets the dirty water out.

Milk was taken out of the fridge and a kettle switched on.
put teabag in cup: The mug stands there empty, so the tea itself goes in.
pour milk: The brew is dark and wants something white from the carton.
close fridge: Its door still stands open and the cold gets out.
take spoon: To stir the drink, some cutlery is needed from the drawer.

An onion was peeled and laid on the board.
cut onion: It should be chopped into small pieces with the knife.
wash knife: The blade is dirty and belongs under the water first.
throw peel in bin: The brown skin lies about and ought to go into the rubbish.
heat oil: The frying pan has to get hot with some fat in it.

Eggs were cracked into a bowl.
whisk eggs: Yolks and whites have to be beaten together until they foam.
add flour: Some white powder from the bag thickens the mixture now.
throw shells away: The broken shells on the counter should go to the compost.
grease tin: A bit of butter rubbed around the mould keeps the cake from sticking.

The dough was kneaded and left to rise under a cloth.
roll out dough: It has doubled, so it should be made flat with the pin.
preheat oven: The stove needs to reach two hundred degrees before anything is baked.
dust table with flour: A thin white layer on the worktop will stop it from sticking.
wash bowl: The mixing dish is crusted and goes into the sink to be cleaned.

A chicken breast was sliced and seasoned.
fry chicken: The strips of meat belong in the hot pan now.
wash hands: After raw poultry, soap and water come before anything else is touched.
open window: The room is full of smoke and needs fresh air.
boil rice: The grains take twenty minutes in water and should be started.

Lettuce was washed and dried.
tear lettuce: The leaves should be ripped into bite-sized bits.
slice cucumber: Thin green rounds are what the bowl still lacks.
mix dressing: Vinegar, oil and mustard have to be shaken together.
set table: Plates and forks should be laid out for everyone.

Coffee beans were weighed on a scale.
grind beans: They must be turned to powder in the mill.
fold filter: The paper cone has to be creased and set in its holder.
heat water: The liquid should come almost to the boil.
warm cup: The mug is cold and should be swirled with something hot first.

The pan was scraped empty onto a plate.
soak pan: What is burnt to the bottom loosens if it stands full of water for a while.
turn off hob: The flame is still on under nothing and must be put out.
serve food: The dish should be carried to the guests while it is hot.
cover leftovers: What remains should get a lid and go into the cold.

Carrots lie on the counter beside a peeler.
peel carrots: Their skin has to come off first.
wash carrots: There is earth on the vegetables, so they go under running water.
grate carrots: They should be rubbed into fine orange shreds.
take out chopping board: There is nothing to cut on yet, so a surface comes out of the cupboard.

A loaf was taken from the bread bin.
slice bread: A few pieces are to be cut off with the toothed knife.
toast bread: The pieces go into the slot until they are brown.
spread butter: Something yellow and soft should be put on with a knife.
return loaf: The rest belongs back where it was kept.

The dishwasher has finished and its door is open.
take out plates: The clean dishes should be lifted from the rack.
put cups on shelf: The mugs belong up there, in their place.
wipe cutlery: Forks and knives are still wet and should be rubbed with a cloth.
close dishwasher: The machine's front has to be pushed shut.

Potatoes were boiled until soft.
mash potatoes: They should be crushed to a smooth mass.
drain potatoes: First the cooking water has to be poured away.
add butter: Some fat melts into them and makes them rich.
chop parsley: Green herbs in small bits are to be scattered on top.

Groceries stand in bags on the floor.
put milk in fridge: The carton must get cold soon.
fold bags: The empty carriers can be made flat and kept.
fill fruit bowl: Apples and bananas are to be laid out on the table.
store tins in cupboard: The canned beans have their place behind the door.

Batter rests in a jug and a pan is hot.
pour batter: A ladle of the mixture goes in to make the first pancake.
flip pancake: Its underside is brown, so it has to be turned over.
grease pan: A knob of butter should melt there before anything else.
squeeze lemon: The juice of the yellow fruit is to be sprinkled over.
"""
