"""``python -m crumb``: the command line where only the interpreter is known, as for torchrun."""

import sys

from crumb.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
