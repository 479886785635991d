"""Run `clipvg` with small shards, so a few images fill many: python -m support.shards WORDS…"""

import sys

from clipvg.cli import main
from clipvg.rescoring import plan


def score(words: list[str]) -> int:
    """Run the command; return its exit code."""
    plan.IMAGES_PER_SHARD = 4
    return main(words)


if __name__ == "__main__":
    sys.exit(score(sys.argv[1:]))
