"""Kinds of things by class name: those on the ground, supports, containers, things worn or held."""

from __future__ import annotations

# Detections with a score below this share of `min_score` are not even rivals of described ones.
RIVAL_SHARE = 0.7

PEOPLE = frozenset(
    """adult adults baby boy boys child children couple couples female females girl girls guy guys
    kid kids lady ladies male males man men pedestrian people person persons player players skater
    skier surfer swimmer woman women worker workers""".split()
)

ANIMALS = frozenset(
    "bear bird calf cat cow deer dog elephant giraffe goat horse lamb sheep zebra".split()
)

VEHICLES = frozenset(
    """airplane bicycle bike boat bus car motorbike motorcycle plane taxi train truck van
    vehicle""".split()
)

FURNITURE = frozenset(
    """bed bench cabinet chair couch desk refrigerator sofa stove stool toilet""".split()
) | {"dining table", "fire hydrant", "parking meter", "potted plant", "stop sign", "table"}

# They stand on the ground: if the boxes of two meet, the one that ends lower is in front.
ON_GROUND = PEOPLE | ANIMALS | VEHICLES | FURNITURE

_DISHES = frozenset(
    """book bottle bowl cake cup donut fork glass keyboard knife laptop mouse pizza plate sandwich
    scissors spoon vase""".split()
) | {"cell phone", "hot dog", "remote", "teddy bear", "wine glass"}
_FOOD = frozenset(
    "apple banana bread broccoli cake carrot donut fruit orange pizza sandwich vegetable".split()
) | {"hot dog"}
_PETS = frozenset({"cat", "dog"})

# Things, and what may lie on them: "cup on the table" but not "table on the cup".
SUPPORTS: dict[str, frozenset[str]] = {
    "bed": _PETS | PEOPLE | {"teddy bear", "laptop", "suitcase", "book", "pillow"},
    "bench": _PETS | PEOPLE | {"backpack", "handbag", "suitcase", "teddy bear", "bag"},
    "bicycle": PEOPLE,
    "bike": PEOPLE,
    "car": _PETS,
    "chair": _PETS | {"teddy bear", "backpack", "handbag", "bag"},
    "couch": _PETS | PEOPLE | {"teddy bear", "laptop", "pillow", "remote"},
    "desk": _DISHES | _FOOD | _PETS | {"tv", "keyboard", "lamp"},
    "dining table": _DISHES | _FOOD | _PETS,
    "elephant": PEOPLE,
    "horse": PEOPLE,
    "motorbike": PEOPLE,
    "motorcycle": PEOPLE,
    "plate": _FOOD | {"fork", "knife", "spoon"},
    "skateboard": PEOPLE | _PETS,
    "skis": PEOPLE,
    "snowboard": PEOPLE,
    "sofa": _PETS | PEOPLE | {"pillow"},
    "surfboard": PEOPLE | _PETS,
    "table": _DISHES | _FOOD | _PETS,
}

# Things, and what may be in them.
CONTAINERS: dict[str, frozenset[str]] = {
    "basket": _FOOD | _PETS | {"bottle"},
    "boat": PEOPLE | _PETS,
    "bowl": _FOOD | {"spoon"},
    "box": _FOOD | _PETS | {"teddy bear"},
    "oven": _FOOD,
    "refrigerator": _FOOD | {"bottle"},
    "sink": _PETS | {"bottle", "bowl", "cup", "plate", "spoon", "fork", "knife"},
    "suitcase": _PETS | {"teddy bear"},
    "vase": frozenset({"flower", "flowers", "plant", "potted plant"}),
}

# These usually belong to somebody, so they are not used as landmarks.
WORN_OR_HELD = frozenset(
    """backpack bag fork frisbee glove handbag hat knife racket shirt skateboard ski skis
    snowboard spoon surfboard tie umbrella""".split()
) | {"baseball bat", "baseball glove", "cell phone", "tennis racket", "sports ball", "remote"}

# Their size in the image mostly tells how near they are, so they are not called big or small.
NEVER_COMPARED = PEOPLE | VEHICLES


def group_of(name: str) -> str:
    """Return the group of things that compete for a name: people of all names are one group."""
    plain = name.lower()
    return "person" if plain in PEOPLE else plain
