"""Entry point of `python -m clipvg`, the command line."""

import sys

from clipvg.cli import main

if __name__ == "__main__":
    sys.exit(main())
