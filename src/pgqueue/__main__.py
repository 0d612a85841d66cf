"""`python -m pgqueue` is the command `pgqueue`."""

import sys

from pgqueue.cli import main

if __name__ == "__main__":
    sys.exit(main())
