"""`clipvg` with small shards, so that a few pictures are many: score_process.py WORDS…"""

import sys

from clipvg.cli import main
from clipvg.rescoring import plan

if __name__ == "__main__":
    plan.IMAGES_PER_SHARD = 4
    sys.exit(main())
