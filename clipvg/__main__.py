"""`python -m clipvg` is the command line."""

import sys

from clipvg.cli import main

if __name__ == "__main__":
    sys.exit(main())
