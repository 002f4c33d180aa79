"""`python -m bayesal`: the command line."""

import sys

from bayesal.cli import main

if __name__ == "__main__":
    sys.exit(main())
