"""Texts for the memory benchmarks: made by a seeded generator from word lists with topics, or the lines of a file.

Sentences of one topic share its words, those of one story within a topic share more of them, so that neighbours mean something
and are not all equally near.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

TOPICS: dict[str, tuple[str, str, str]] = {
    "delivery": (
        "parcel courier depot invoice address van signature warehouse pallet customs label box driver route doorstep",
        "delayed lost delivered returned scanned weighed repacked forwarded misrouted insured",
        "damaged heavy fragile express late missing tracked oversized refrigerated registered",
    ),
    "kitchen": (
        "soup oven pan flour butter recipe knife garlic onion dough sauce spoon plate salt pepper",
        "roasted boiled chopped whisked simmered burnt seasoned kneaded glazed tasted",
        "spicy sweet sour crisp tender bitter creamy salty fresh stale",
    ),
    "garden": (
        "rose fence soil tomato hedge shovel seed lawn beetle pond compost apple branch root petal",
        "planted watered pruned harvested weeded mulched trimmed sprouted wilted bloomed",
        "shady muddy ripe thorny wild dry fertile green frosty overgrown",
    ),
    "computing": (
        "server database cache queue index thread kernel socket packet cluster replica log token certificate disk",
        "crashed restarted deployed patched scaled migrated profiled throttled compiled rolled",
        "slow idle encrypted distributed stale concurrent redundant asynchronous corrupt idempotent",
    ),
    "medicine": (
        "patient nurse ward vaccine fever dose clinic bandage allergy pulse surgery symptom infection therapy pharmacy",
        "examined prescribed recovered diagnosed bandaged monitored discharged injected sterilised referred",
        "chronic acute mild contagious feverish dizzy swollen painful numb healthy",
    ),
    "music": (
        "violin choir melody drum concert chord stage tempo orchestra singer rehearsal score piano audience microphone",
        "played composed rehearsed recorded conducted applauded tuned improvised performed transposed",
        "loud gentle baroque rhythmic acoustic dissonant slow solemn lively muffled",
    ),
    "football": (
        "striker goalkeeper referee penalty league stadium midfield trainer corner whistle offside scarf captain keeper bench",
        "scored tackled passed substituted booked saved dribbled equalised defended cheered",
        "injured offensive lucky muddy decisive disputed unbeaten defensive nervous tired",
    ),
    "finance": (
        "loan interest bond dividend budget tax ledger auditor mortgage pension share deposit creditor balance fund",
        "invested borrowed audited refunded transferred taxed sold hedged amortised overdrawn",
        "risky fixed annual net gross insolvent liquid taxable overdue profitable",
    ),
    "weather": (
        "storm cloud breeze frost lightning rainfall thermometer fog hail drought forecast horizon puddle snow gust",
        "rained froze cleared thundered flooded melted drizzled warmed snowed forecast",
        "humid icy stormy mild sunny windy gloomy freezing misty tropical",
    ),
    "travel": (
        "ticket station luggage passport hotel ferry platform suitcase border map tunnel hostel compartment visa harbour",
        "booked boarded cancelled delayed unpacked arrived departed rerouted reserved upgraded",
        "crowded remote scenic exhausting cheap overnight foreign coastal direct crooked",
    ),
    "law": (
        "judge contract witness clause verdict appeal lawyer statute plaintiff courtroom jury testimony tenant licence",
        "sued testified appealed ruled signed dismissed amended ratified convicted acquitted",
        "binding void liable guilty confidential lawful disputed unanimous negligent sealed",
    ),
    "space": (
        "rocket orbit telescope crater satellite comet astronaut module antenna nebula probe gravity eclipse lander solar",
        "launched docked orbited observed drifted decoded transmitted landed ignited mapped",
        "lunar distant frozen luminous magnetic unmanned elliptic interstellar faint massive",
    ),
}
_PEOPLE = [
    "Ada",
    "Boris",
    "Clara",
    "Deniz",
    "Emil",
    "Farah",
    "Goran",
    "Hana",
    "Igor",
    "Jonas",
    "Keiko",
    "Lena",
    "Marek",
    "Nadia",
    "Omar",
    "Petra",
    "Quinn",
    "Rosa",
    "Sven",
    "Tara",
]
_PLACES = [
    "Antwerp",
    "Bergen",
    "Cusco",
    "Dakar",
    "Essen",
    "Fukuoka",
    "Galway",
    "Hobart",
    "Izmir",
    "Jaipur",
    "Kyiv",
    "Lisbon",
    "Malmo",
    "Nairobi",
    "Oslo",
    "Porto",
]
_WHEN = [
    "on Monday",
    "last week",
    "at midnight",
    "before noon",
    "in spring",
    "two days ago",
    "again",
    "for the third time",
]
_FORMS = [
    "{who} says the {adj} {noun} was {verb} in {place} {when}.",
    "The {noun} and the {noun2} were {verb} {when}, and {who} found them {adj}.",
    "{who} asked why the {noun} in {place} is so {adj} since it was {verb}.",
    "A {adj} {noun} was {verb} {when}; {who} wants to know about the {noun2}.",
    "In {place} the {adj} {noun2} has been {verb}, {who} noted, but not the {noun}.",
    "{who} from {place} reports: {noun} {verb}, {noun2} {adj}.",
]
_STORIES = 40
"""Of each topic: a few of its words that belong together."""


def make_texts(count: int, seed: int = 1) -> list[str]:
    """Different sentences, in no order."""
    draw = random.Random(seed)
    lists = {name: tuple(words.split() for words in parts) for name, parts in TOPICS.items()}
    stories = [
        (
            draw.sample(nouns, 4),
            draw.sample(verbs, 3),
            draw.sample(adjectives, 3),
            draw.choice(_PEOPLE),
            draw.choice(_PLACES),
        )
        for nouns, verbs, adjectives in lists.values()
        for _ in range(_STORIES)
    ]
    texts: dict[str, None] = {}
    while len(texts) < count:
        nouns, verbs, adjectives, who, place = draw.choice(stories)
        noun, noun2 = draw.sample(nouns, 2)
        texts[
            draw.choice(_FORMS).format(
                noun=noun,
                noun2=noun2,
                verb=draw.choice(verbs),
                adj=draw.choice(adjectives),
                who=who if draw.random() < 0.6 else draw.choice(_PEOPLE),
                place=place if draw.random() < 0.6 else draw.choice(_PLACES),
                when=draw.choice(_WHEN),
            )
            + (f" Case {draw.randrange(10_000)}." if draw.random() < 0.5 else "")
        ] = None
    return list(texts)


def make_queries(count: int, seed: int = 2) -> list[str]:
    """Short texts about the same topics, none of which is among the sentences."""
    draw = random.Random(seed)
    lists = [tuple(words.split() for words in parts) for parts in TOPICS.values()]
    found: list[str] = []
    for _ in range(count):
        nouns, verbs, adjectives = draw.choice(lists)
        found.append(f"{draw.choice(adjectives)} {draw.choice(nouns)} {draw.choice(verbs)} {draw.choice(_PLACES)}")
    return found


def read_corpus(path: Path, count: int) -> list[str]:
    """The first `count` different lines with text."""
    texts: dict[str, None] = {}
    for line in _lines(path):
        texts[line] = None
        if len(texts) == count:
            break
    return list(texts)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if text := line.strip():
                yield text
