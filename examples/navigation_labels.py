"""Turn navigation instructions into expressions, in a program that does not import clipvg.

Instructions mention landmarks and a goal: "Walk past the red chair and wait next to the wooden
table with the lamp." If the goal's box is known, the words for the goal are an expression for it:
"wooden table with the lamp". This program writes such expressions as observations, from which
clipvg makes labels as from any other source:

    python examples/navigation_labels.py instructions.jsonl observations.jsonl
    clipvg generate --observations observations.jsonl --images images/ --sources navigation \\
        --out navigation.parquet

A line of instructions.jsonl: {"image", "width", "height", "instruction", "goal": [x1, y1, x2, y2]}.
"""

import json
import re
import sys
from pathlib import Path

STOPS = re.compile(
    r"\b(?:stop|wait|stand|end|halt)\b(?: (?:right|just|up))*"
    r" (?P<where>next to|in front of|beside|near|at|by|behind) (?:the|a|an) (?P<thing>[^.,;]+)"
)
ENDINGS = re.compile(r"\s+(?:and|then|before|after|until|when|so)\b.*")


def find_goal(instruction):
    """Return the words for the goal at which an instruction ends, or None if it names none."""
    stops = list(STOPS.finditer(instruction.lower()))
    return ENDINGS.sub("", stops[-1]["thing"]).strip() or None if stops else None


def observe(instructions):
    """Return an observation per image, with a candidate per instruction that names its goal."""
    images = {}
    for each in instructions:
        seen = images.setdefault(
            each["image"],
            {"image": each["image"], "width": each["width"], "height": each["height"],
             "candidates": []},
        )  # fmt: skip
        if thing := find_goal(each["instruction"]):
            seen["candidates"].append(
                {"source": "navigation", "rule": "goal", "expression": thing, "box": each["goal"]}
            )
    return list(images.values())


def main(source, target):
    instructions = [json.loads(line) for line in Path(source).read_text().splitlines()]
    lines = [json.dumps(image) for image in observe(instructions)]
    Path(target).write_text("\n".join(lines) + "\n")
    return len(lines)


if __name__ == "__main__":
    print(main(*sys.argv[1:3]), "images")
