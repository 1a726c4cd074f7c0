"""Relations between words, and other facts than where a city is.

Common knowledge written down here. Each relation has one template, which leads to the object
without an article, and its objects are each other's distractors.
"""

import random

from truncated_weights.bridge.tasks.example import (
    Encode,
    Example,
    Task,
    TaskError,
    only_single_tokens,
)

NUM_DISTRACTORS = 5

# Pairs are subject=object; underscores stand for spaces inside a name.
_TABLE: dict[str, tuple[str, str]] = {
    "capital": (
        "The capital of {} is",
        """Spain=Madrid France=Paris Germany=Berlin Italy=Rome Portugal=Lisbon England=London
        Ireland=Dublin Belgium=Brussels Austria=Vienna Denmark=Copenhagen Sweden=Stockholm
        Norway=Oslo Finland=Helsinki Poland=Warsaw Hungary=Budapest Greece=Athens Russia=Moscow
        Egypt=Cairo Iraq=Baghdad Iran=Tehran Syria=Damascus Lebanon=Beirut Afghanistan=Kabul
        Japan=Tokyo China=Beijing Thailand=Bangkok Cuba=Havana Peru=Lima Canada=Ottawa
        Kenya=Nairobi Scotland=Edinburgh""",
    ),
    "language": (
        "In {} most people speak",
        """Spain=Spanish Mexico=Spanish Argentina=Spanish Peru=Spanish Colombia=Spanish
        France=French Germany=German Austria=German Italy=Italian Portugal=Portuguese
        Brazil=Portuguese Denmark=Danish Sweden=Swedish Norway=Norwegian Finland=Finnish
        Poland=Polish Hungary=Hungarian Greece=Greek Russia=Russian Turkey=Turkish Egypt=Arabic
        Iraq=Arabic Syria=Arabic Japan=Japanese China=Chinese Korea=Korean Vietnam=Vietnamese
        Thailand=Thai Australia=English England=English Netherlands=Dutch""",
    ),
    "continent": (
        "{} is a country in",
        """Spain=Europe France=Europe Germany=Europe Italy=Europe Poland=Europe Sweden=Europe
        Norway=Europe Greece=Europe Austria=Europe Portugal=Europe Kenya=Africa Nigeria=Africa
        Ghana=Africa Ethiopia=Africa Morocco=Africa Senegal=Africa Uganda=Africa Tunisia=Africa
        Japan=Asia China=Asia India=Asia Vietnam=Asia Thailand=Asia Nepal=Asia Mongolia=Asia
        Pakistan=Asia""",
    ),
    "antonym": (
        "The opposite of {} is",
        """hot=cold big=small tall=short fast=slow light=dark rich=poor hard=soft old=young
        wet=dry strong=weak early=late open=closed full=empty high=low happy=sad loud=quiet
        clean=dirty cheap=expensive near=far left=right up=down front=back true=false day=night
        love=hate war=peace winter=summer north=south east=west black=white first=last
        good=bad wide=narrow deep=shallow inside=outside buy=sell""",
    ),
    "past_tense": (
        "Today they {}, and yesterday they",
        """go=went see=saw eat=ate run=ran write=wrote speak=spoke take=took give=gave come=came
        know=knew think=thought buy=bought bring=brought teach=taught sing=sang drink=drank
        swim=swam drive=drove break=broke fall=fell grow=grew find=found leave=left lose=lost
        meet=met sell=sold sleep=slept stand=stood win=won begin=began build=built choose=chose
        fight=fought fly=flew forget=forgot""",
    ),
    "plural": (
        "Here is one {}, and there are two",
        """cat=cats dog=dogs house=houses tree=trees car=cars man=men woman=women child=children
        foot=feet tooth=teeth mouse=mice city=cities story=stories leaf=leaves wife=wives
        life=lives book=books river=rivers star=stars wolf=wolves box=boxes church=churches
        country=countries baby=babies""",
    ),
    "successor": (
        "After {} comes",
        """Monday=Tuesday Tuesday=Wednesday Wednesday=Thursday Thursday=Friday Friday=Saturday
        Saturday=Sunday Sunday=Monday January=February February=March March=April April=May
        May=June June=July July=August August=September September=October October=November
        November=December December=January one=two two=three three=four four=five five=six
        six=seven seven=eight eight=nine nine=ten""",
    ),
    "colour": (
        "The usual colour of {} is",
        """grass=green snow=white blood=red coal=black lemons=yellow bananas=yellow tomatoes=red
        strawberries=red milk=white spinach=green cucumbers=green chocolate=brown carrots=orange
        pumpkins=orange sapphires=blue emeralds=green rubies=red ravens=black swans=white
        elephants=grey""",
    ),
    "material_from": (
        "People get {} from",
        """wool=sheep milk=cows eggs=chickens honey=bees silk=worms wine=grapes bread=flour
        paper=wood cider=apples bacon=pigs raisins=grapes leather=cows flour=wheat rubber=trees
        feathers=birds""",
    ),
    "home": (
        "For the {}, home is called",
        """bee=hive bird=nest dog=kennel horse=stable lion=den spider=web cow=barn pig=sty
        rabbit=burrow king=palace monk=monastery soldier=barracks nun=convent""",
    ),
}
RELATIONS = tuple(_TABLE)


def load(
    encode: Encode, *, relation: str | None = None, count: int | None = None, seed: int = 0
) -> Task:
    """The prompts of one relation, or of all (relation None), in random order.

    Objects that are not one token are dropped and reported. Raises TaskError for an unknown
    relation.
    """
    if relation is not None and relation not in _TABLE:
        raise TaskError(f"relation {relation!r}: known are {' '.join(RELATIONS)}")
    rng = random.Random(f"relations/{seed}")
    examples = []
    for name in RELATIONS if relation is None else (relation,):
        template, table = _TABLE[name]
        pairs = [tuple(pair.replace("_", " ").split("=")) for pair in table.split()]
        objects = list(dict.fromkeys(thing for _, thing in pairs))
        for subject, thing in pairs:
            wrong = [other for other in objects if other != thing]
            chosen = rng.sample(wrong, min(NUM_DISTRACTORS, len(wrong)))
            examples.append(
                Example(
                    template.format(subject),
                    f" {thing}",
                    tuple(f" {other}" for other in chosen),
                    group=name,
                )
            )
    rng.shuffle(examples)
    task = only_single_tokens(examples, encode, name=relation or "relations")
    return Task(task.name, task.examples[:count], task.dropped)
