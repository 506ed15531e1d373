"""`python -m profi` is `profi paint`."""

import sys

from profi.cli.paint import main

sys.exit(main())
