"""English word lists, and plurals.

Closed word classes are complete, open ones cover the words of captions. Plurals and singulars
follow rules, with the exceptions that occur in captions.
"""

from __future__ import annotations

from functools import lru_cache

DETERMINERS = frozenset(
    "a an the this that these those each every another some any no 's '".split()
)

BOUNDARIES = frozenset(
    """
    aboard about above across after against along alongside amid among around as at atop away
    before behind below beneath beside besides between beyond by despite down during except facing
    for from in inside into like near nearby next of off on onto opposite out outside over past
    per
    since than through throughout to toward towards under underneath until up upon via with within
    without w w/ w/o
    and but or nor if when where while because so though not who whom whose which what that there
    here n just only also too very almost really well sorry
    am is are was were be been has have had do does did done can could will would shall should may
    might must get gets got
    wear wears wore worn hold holds held carry carries ride rides sit sits sat stand stands stood
    lie lies lay laid look looks eat eats play plays hang hangs hung run runs walk walks jump
    jumps
    catch catches throw throws hit hits swing swings lean leans face faces cut cuts use uses see
    seen show shows shown make makes made take takes took taken contain contains cover covers
    touch
    touches point points read reads drive drives fly flies pull pulls push pushes go goes come
    comes
    put puts pick picks give gives keep keeps turn turns reach reaches smile smiles watch watches
    talk talks
    """.split()
) - {"face", "faces", "swing", "swings", "point", "points", "watch", "watches", "fly", "flies"}
# Those removed are more common as nouns than as verbs.

PRONOUNS = frozenset(
    """
    he she it they him her them his its their theirs hers me my mine i you your we us our himself
    herself itself themselves
    """.split()
)

# Words for where something is, not for a thing.
PLACES = frozenset(
    """
    left right top bottom middle center centre corner corners side sides front back rear end ends
    edge edges background foreground distance picture pic photo photograph image screen frame pane
    row column line area part half quarter way view camera lower upper far close closer closest
    leftmost rightmost topmost bottommost lft rt mid direction position spot place order
    """.split()
)

# Words that say how much, or which kind, of what follows "of".
MEASURES = frozenset(
    """
    piece pieces slice slices pair pairs bunch bunches group groups lot lots kind kinds type types
    sort sorts set sets stack stacks pile piles row rows couple number bit most all both one part
    parts portion half rest top
    """.split()
)

ADJECTIVES = frozenset(
    """
    red green blue yellow purple orange white black brown gray grey pink tan beige gold golden
    silver violet maroon navy teal turquoise blond blonde blondish brunette cream khaki
    multicolored
    colorful dark light bright pale
    big bigger biggest medium small smaller smallest large larger largest little tiny huge giant
    tall taller
    short shorter long longer wide thin thick fat skinny slim high low full empty whole half half-
    eaten
    old older young younger new adult male female bald asian african american
    first second third fourth fifth sixth seventh last one two three four five six seven eight
    nine
    ten 1st 2nd 3rd other same single double only both all many several few more most less least
    main near nearer nearest front furthest farthest
    plain striped dotted spotted checkered checked plaid floral flowered solid shiny
    wooden metal plastic leather stone brick wood furry fluffy fuzzy hairy curly bare barefoot
    open closed shut visible partial partially blurry clear dirty clean wet dry hot cold fresh
    ripe
    round rectangular triangular circular oval flat straight curved
    asleep awake alone happy sad angry upside sideways
    """.split()
)

# Nouns that their ending or another list would mark as something else.
NOUNS = frozenset(
    """
    thing things something anything nothing everything building buildings ceiling clothing ring
    rings
    king painting paintings string strings wing wings railing awning wedding frosting icing
    stuffing
    dressing earring earrings sling spring being sibling duckling drawing ending lightning
    paneling
    siding topping filling bedding evening morning pudding
    bed beds shed sled seed weed breed bobsled moped biped
    forest vest chest nest guest crest harvest interest request
    family lily belly jelly fly butterfly bully ally trolley
    fish dish radish dress glass circle square
    """.split()
)


_PLURALS = {
    "calf": "calves",
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "hoof": "hooves",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "shelf": "shelves",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}
_SINGULARS = {plural: singular for singular, plural in _PLURALS.items()} | {
    "buses": "bus",
    "cookies": "cookie",
    "movies": "movie",
    "quizzes": "quiz",
    "scarves": "scarf",
    "selfies": "selfie",
    "veggies": "veggie",
    "wives": "wife",
    "shoes": "shoe",
    "ties": "tie",
}
_ALIKE = frozenset(
    """clothes deer fish glasses jeans news pajamas pants scissors series sheep shorts skis
    sunglasses sweatpants tights trousers""".split()
)
_SILENT = ("hour", "honest")
_SOUNDS_LIKE_Y = ("uni", "use", "euro", "one")
_SINGULAR_ENDINGS = ("ss", "us", "is", "'s")


def article(phrase: str) -> str:
    """Return the article of a phrase, "a" or "an"."""
    phrase = phrase.lower()
    an = phrase[0] in "aeiou" and not phrase.startswith(_SOUNDS_LIKE_Y)
    return "an" if an or phrase.startswith(_SILENT) else "a"


def make_plural(name: str) -> str:
    """Return the plural of a name, which may have several words.

    Example:
        >>> make_plural("wine glass"), make_plural("person")
        ('wine glasses', 'people')
    """
    *before, last = name.split()
    return " ".join([*before, _plural_of(last)])


@lru_cache(maxsize=2**16)
def make_singular(word: str) -> str:
    """Return the singular of a word; a word that is not plural is unchanged.

    Example:
        >>> [make_singular(word) for word in ("dogs", "berries", "children", "bus", "skis")]
        ['dog', 'berry', 'child', 'bus', 'skis']
    """
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word.endswith("men") and len(word) > 5:
        return f"{word[:-3]}man"
    if word in _ALIKE or not word.endswith("s") or word.endswith(_SINGULAR_ENDINGS):
        return word
    if len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith(("atoes", "oeses")):
        return word[:-2]
    return word[:-1]


@lru_cache(maxsize=2**16)
def is_plural(word: str) -> bool:
    """Return whether a word is a plural, as far as rules can tell."""
    return (
        word in _SINGULARS
        or (word in _ALIKE - {"deer", "fish", "news", "sheep"})
        or (make_singular(word) != word)
    )


def _plural_of(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word in _ALIKE:
        return word
    if word.endswith("man") and word not in ("german", "human", "roman"):
        return f"{word[:-3]}men"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
