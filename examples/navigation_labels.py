"""Expressions from navigation instructions, for a program that need not know clipvg.

Instructions name what one walks past and where one stops: "Walk past the red chair and wait next to
the wooden table with the lamp." With the box of the thing where one stops, its name there is an
expression: "wooden table with the lamp". This writes such expressions into observations, and clipvg
makes labels of them like of any other source:

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
    """The words for the thing where an instruction ends, None where it names none."""
    stops = list(STOPS.finditer(instruction.lower()))
    return ENDINGS.sub("", stops[-1]["thing"]).strip() or None if stops else None


def observe(instructions):
    """Observations with one candidate for each instruction that names its goal, by image."""
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
