"""``python -m gram``: the same as the command ``gram``."""

from __future__ import annotations

import sys

from gram.cli.main import main

sys.exit(main())
