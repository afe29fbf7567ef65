"""The words of the arithmetic world: settings, each with sentences for every event and worked steps.

A setting contains only text. `sentences` narrate the story (`{a}` an amount, `{b}` a number of groups, `{c}` their
size, `{n}` a number of shares or a factor, `{f}` a factor in words); `traps` narrate the same events in a way that is
easily misread; `worked` are the lines of a solution, each with one `{equation}`. `cast` draws the names and things that
fill the other places.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PEOPLE = (
    ("Mia", "She", "her"), ("Leo", "He", "his"), ("Ana", "She", "her"), ("Tom", "He", "his"),
    ("Sara", "She", "her"), ("Ben", "He", "his"), ("Nina", "She", "her"), ("Omar", "He", "his"),
    ("Lucy", "She", "her"), ("Ivan", "He", "his"), ("Emma", "She", "her"), ("Raj", "He", "his"),
    ("Julia", "She", "her"), ("Peter", "He", "his"), ("Grace", "She", "her"), ("Sam", "He", "his"),
)  # fmt: skip
THINGS = (
    ("apples", "bags"), ("pencils", "boxes"), ("stickers", "packs"), ("marbles", "jars"),
    ("cards", "packs"), ("shells", "buckets"), ("coins", "bags"), ("beads", "jars"),
    ("stamps", "sheets"), ("books", "boxes"), ("toys", "crates"), ("oranges", "crates"),
)  # fmt: skip
GOODS = (
    "shirts", "books", "toys", "tickets", "hats", "games", "cakes", "pens", "lamps", "cups",
)  # fmt: skip
PLACES = (
    ("bakery", "muffins", "trays"), ("farm", "eggs", "baskets"), ("shop", "candles", "boxes"),
    ("factory", "lamps", "crates"), ("garden", "roses", "rows"), ("kitchen", "cookies", "trays"),
)  # fmt: skip
CLUBS = (
    ("pages", "reads", "read"), ("miles", "walks", "walked"), ("laps", "swims", "swum"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of story: its sentences and traps, its worked lines, and which words it draws."""

    draws: str
    sentences: Mapping[str, Sequence[str]]
    traps: Mapping[str, Sequence[str]]
    worked: Mapping[str, Sequence[str]]

    def cast(self, rng: random.Random) -> dict[str, str]:
        """Draw the names and things of one problem."""
        (name, pronoun, own), (friend, _, _) = rng.sample(PEOPLE, 2)
        words = {"name": name, "they": pronoun, "own": own, "friend": friend}
        if self.draws == "things":
            words["things"], words["groups"] = rng.choice(THINGS)
        elif self.draws == "goods":
            words["goods"], words["wares"] = rng.sample(GOODS, 2)
        elif self.draws == "places":
            words["place"], words["things"], words["groups"] = rng.choice(PLACES)
        else:
            words["units"], words["does"], words["done"] = rng.choice(CLUBS)
        return words


_COLLECTION = Setting(
    draws="things",
    sentences={
        "start": ("{name} has {a} {things}.", "{name} collects {things} and has {a} of them."),
        "start_product": ("{name} has {b} {groups} with {c} {things} in each.",),
        "gain": ("{they} finds {a} more {things}.", "{friend} gives {name} {a} more {things}."),
        "lose": ("{they} loses {a} {things}.", "{they} gives {a} {things} to {friend}."),
        "gain_groups": ("{they} buys {b} {groups} of {c} {things} each.",),
        "lose_groups": ("{they} fills {b} {groups} with {c} {things} each and gives them away.",),
        "half": ("{they} gives half of {own} {things} to {friend}.",),
        "double": ("Then {name} doubles {own} collection.",),
        "triple": ("Then {name} triples {own} collection.",),
        "ask": ("How many {things} does {name} have now?",),
        "share": ("{they} shares the {things} equally among {n} friends. How many does each friend get?",),
        "together": ("{friend} has {f} as many {things}. How many do they have together?",),
        "difference": ("{friend} has {f} as many {things}. How many more does {friend} have?",),
    },
    traps={
        "gain": ("{they} takes back {a} {things} from {friend}.",),
        "lose": ("{they} returns {a} {things} to {friend}.",),
        "gain_groups": ("{b} {groups} come to {name}, {c} {things} in every one.",),
        "lose_groups": ("{friend} collects {b} {groups} from {name}, {c} {things} in every one.",),
        "half": ("{they} keeps only every second one.",),
        "double": ("Then {name} finds as many {things} again.",),
        "together": ("For each of them {friend} has {n}. How many do they have together?",),
        "difference": ("For each of them {friend} has {n}. How many more does {friend} have?",),
    },
    worked={
        "start_product": ("{name} starts with {equation} {things}.",),
        "gain": ("Now {name} has {equation} {things}.", "That makes {equation} {things}."),
        "lose": ("Then {equation} {things} are left.", "{name} keeps {equation} {things}."),
        "gain_groups_product": ("The {groups} hold {equation} {things}.",),
        "lose_groups_product": ("{name} gives away {equation} {things}.",),
        "half": ("Half of them is {equation} {things}.",),
        "times": ("The collection grows to {equation} {things}.",),
        "share": ("Each friend gets {equation} {things}.",),
        "other": ("{friend} has {equation} {things}.",),
        "together": ("Together they have {equation} {things}.",),
        "difference": ("{friend} has {equation} more {things}.",),
    },
)
_MONEY = Setting(
    draws="goods",
    sentences={
        "start": ("{name} has {a} dollars.", "{name} has saved {a} dollars."),
        "start_product": ("{name} works {b} hours and earns {c} dollars an hour.",),
        "gain": ("{friend} gives {name} {a} dollars.", "{they} finds {a} dollars in a drawer."),
        "lose": ("{they} spends {a} dollars on {goods}.", "{they} pays a bill of {a} dollars."),
        "gain_groups": ("{they} sells {b} {wares} for {c} dollars each.",),
        "lose_groups": ("{they} buys {b} {goods} for {c} dollars each.",),
        "half": ("{they} spends half of {own} money on a gift.",),
        "double": ("Then a prize doubles {own} money.",),
        "triple": ("Then a prize triples {own} money.",),
        "ask": ("How many dollars does {name} have now?",),
        "share": ("{they} splits the money equally among {n} children. How much does each child get?",),
        "together": ("{friend} has {f} as much money. How much do they have together?",),
        "difference": ("{friend} has {f} as much money. How much more does {friend} have?",),
    },
    traps={
        "gain": ("{friend} pays back {a} dollars to {name}.",),
        "lose": ("{they} pays back {a} dollars to {friend}.",),
        "gain_groups": ("{b} buyers of {wares} pay {c} dollars each.",),
        "lose_groups": ("{b} {goods} go on the bill, {c} dollars each.",),
        "half": ("Every second dollar goes to {friend}.",),
        "double": ("Then {friend} adds as much again.",),
        "together": ("For each dollar {friend} has {n}. How much do they have together?",),
        "difference": ("For each dollar {friend} has {n}. How much more does {friend} have?",),
    },
    worked={
        "start_product": ("{name} earns {equation} dollars.",),
        "gain": ("Now {name} has {equation} dollars.", "That makes {equation} dollars."),
        "lose": ("Then {equation} dollars are left.", "{name} keeps {equation} dollars."),
        "gain_groups_product": ("The {wares} bring {equation} dollars.",),
        "lose_groups_product": ("The {goods} cost {equation} dollars.",),
        "half": ("Half of it is {equation} dollars.",),
        "times": ("The money grows to {equation} dollars.",),
        "share": ("Each child gets {equation} dollars.",),
        "other": ("{friend} has {equation} dollars.",),
        "together": ("Together they have {equation} dollars.",),
        "difference": ("{friend} has {equation} more dollars.",),
    },
)
_STOCK = Setting(
    draws="places",
    sentences={
        "start": ("A {place} has {a} {things}.", "A {place} starts the day with {a} {things}."),
        "start_product": ("A {place} has {b} {groups} of {c} {things} each.",),
        "gain": ("It makes {a} more {things}.", "{name} brings {a} more {things}."),
        "lose": ("It sells {a} {things}.", "{name} finds that {a} {things} are bad."),
        "gain_groups": ("Then {b} {groups} with {c} {things} each arrive.",),
        "lose_groups": ("It sells {b} {groups} with {c} {things} each.",),
        "half": ("Half of the {things} are sold to {friend}.",),
        "double": ("By evening the number of {things} doubles.",),
        "triple": ("By evening the number of {things} triples.",),
        "ask": ("How many {things} are there now?",),
        "share": ("The {things} are packed equally into {n} {groups}. How many are in each?",),
        "together": ("The next {place} has {f} as many {things}. How many do both have together?",),
        "difference": ("The next {place} has {f} as many {things}. How many more does it have?",),
    },
    traps={
        "gain": ("{a} {things} come back from {friend}.",),
        "lose": ("{a} {things} go back to {friend}.",),
        "gain_groups": ("{b} {groups} are filled, {c} new {things} in each.",),
        "lose_groups": ("{b} {groups} leave the {place}, {c} {things} in each.",),
        "half": ("Every second one is taken by {friend}.",),
        "double": ("By evening there are as many again.",),
        "together": ("For each of them the next {place} has {n}. How many do both have together?",),
        "difference": ("For each of them the next {place} has {n}. How many more does it have?",),
    },
    worked={
        "start_product": ("The {place} starts with {equation} {things}.",),
        "gain": ("Now there are {equation} {things}.", "That makes {equation} {things}."),
        "lose": ("Then {equation} {things} are left.", "The {place} keeps {equation} {things}."),
        "gain_groups_product": ("The new {groups} bring {equation} {things}.",),
        "lose_groups_product": ("The sale takes {equation} {things}.",),
        "half": ("Half of them is {equation} {things}.",),
        "times": ("The number grows to {equation} {things}.",),
        "share": ("Each of them holds {equation} {things}.",),
        "other": ("The next {place} has {equation} {things}.",),
        "together": ("Together they have {equation} {things}.",),
        "difference": ("The next {place} has {equation} more {things}.",),
    },
)
_DIARY = Setting(
    draws="clubs",
    sentences={
        "start": ("{name} has {done} {a} {units} so far.", "{name} {does} {a} {units} on Monday."),
        "start_product": ("{name} {does} {c} {units} a day for {b} days.",),
        "gain": ("On the next day {name} {does} {a} more {units}.",),
        "lose": ("Then {a} {units} do not count and are taken off.",),
        "gain_groups": ("For {b} more days {name} {does} {c} {units} a day.",),
        "lose_groups": ("For {b} days {c} {units} a day do not count and are taken off.",),
        "half": ("Only half of the {units} count for the contest.",),
        "double": ("A bonus doubles the {units} that count.",),
        "triple": ("A bonus triples the {units} that count.",),
        "ask": ("How many {units} count for {name} now?",),
        "share": ("The {units} are shared equally by a team of {n}. How many does each member get?",),
        "together": ("{friend} has {f} as many {units}. How many do they have together?",),
        "difference": ("{friend} has {f} as many {units}. How many more does {friend} have?",),
    },
    traps={
        "gain": ("In the end {a} {units} count after all.",),
        "lose": ("In the end {a} {units} were counted twice.",),
        "gain_groups": ("{b} forgotten days are added, {c} {units} each.",),
        "lose_groups": ("{b} days are struck out, {c} {units} each.",),
        "half": ("Only every second one counts for the contest.",),
        "double": ("A bonus adds as many again.",),
        "together": ("For each of them {friend} has {n}. How many do they have together?",),
        "difference": ("For each of them {friend} has {n}. How many more does {friend} have?",),
    },
    worked={
        "start_product": ("{name} starts with {equation} {units}.",),
        "gain": ("Now {name} has {equation} {units}.", "That makes {equation} {units}."),
        "lose": ("Then {equation} {units} are left.", "{name} keeps {equation} {units}."),
        "gain_groups_product": ("The new days add {equation} {units}.",),
        "lose_groups_product": ("The days take off {equation} {units}.",),
        "half": ("Half of them is {equation} {units}.",),
        "times": ("The bonus makes it {equation} {units}.",),
        "share": ("Each member gets {equation} {units}.",),
        "other": ("{friend} has {equation} {units}.",),
        "together": ("Together they have {equation} {units}.",),
        "difference": ("{friend} has {equation} more {units}.",),
    },
)

SETTINGS: Mapping[str, Setting] = {
    "collection": _COLLECTION,
    "money": _MONEY,
    "stock": _STOCK,
    "diary": _DIARY,
}
