"""`python -m rlwatch`: the command line."""

from __future__ import annotations

import sys

from rlwatch.cli import main

sys.exit(main())
