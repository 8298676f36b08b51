"""Who may import whom: the plan that ``test_architecture`` holds and ``docs/architecture.py`` draws.

To cross a wall, change the table in the same commit and say why. Then draw the picture again:
``python docs/architecture.py``.
"""

from __future__ import annotations

# The ground floor: nouns and tools that know nothing of what the rooms above do with them.
GROUND = {"types", "messages", "turns", "errors", "bounds", "paths", "files", "statistics", "asking"}
GROUND |= {"tokens", "progress", "config_file", "flags", "journal", "locks", "claims", "workers", "version"}
GROUND |= {"described", "extras", "usage", "wire"}
PARTS = {"data", "rendering", "engine", "objectives", "modeling", "training", "scoring", "ranking"}
PARTS |= {"fetching", "decisions", "evaluation", "adaptation", "report", "serving", "bulk", "rl", "plots"}
PARTS |= {"bench", "publishing", "doctor"}

# Who may import whom, by the first name under ``gram``; the root package itself is "gram". Every part may
# also import the GROUND. Parts that do not exist yet have their room reserved.
MAY_IMPORT: dict[str, set[str]] = {
    "types": {"messages", "errors", "bounds", "usage"},
    "usage": set(),
    "wire": {"bounds", "errors"},
    "messages": {"errors", "turns"},
    "turns": set(),
    "version": set(),
    "tokens": {"types"},
    "errors": set(),
    "paths": {"errors"},
    "extras": {"errors"},
    "files": {"errors", "paths"},
    "journal": {"errors", "files", "paths"},
    "locks": {"errors"},
    "claims": {"errors", "files", "locks", "paths"},
    "statistics": {"types"},
    "bounds": {"errors"},
    "asking": {"errors", "bounds"},
    "workers": {"errors", "types"},
    "progress": set(),
    "config_file": {"errors", "paths"},
    "described": {"bounds", "config_file"},
    "flags": {"bounds", "config_file", "described", "errors", "paths"},
    "data": GROUND,
    "rendering": GROUND,
    "engine": GROUND,
    "objectives": GROUND | {"rendering", "engine"},
    "fetching": GROUND,
    "modeling": GROUND | {"engine", "rendering", "fetching"},
    "training": GROUND | {"data", "rendering", "engine", "objectives", "modeling"},
    "decisions": GROUND | {"rendering", "engine", "modeling"},
    "scoring": GROUND | {"data", "rendering", "engine", "modeling", "ranking", "decisions", "serving"},
    "ranking": GROUND,
    "evaluation": GROUND | {"data"},
    "adaptation": GROUND
    | {"data", "rendering", "objectives", "modeling", "training", "scoring", "evaluation"},
    "serving": GROUND | {"ranking", "rl", "decisions"},
    "bulk": GROUND | {"data"},
    "publishing": GROUND | {"data", "modeling", "decisions"},
    "rl": GROUND | {"ranking", "modeling"},
    "plots": GROUND,
    "report": GROUND | {"data", "evaluation", "plots"},
    "bench": GROUND
    | {"data", "rendering", "engine", "objectives", "modeling", "scoring", "training", "plots"},
    "doctor": GROUND | {"data", "rendering", "engine", "modeling", "scoring"},
    "gram": GROUND | {"ranking", "scoring", "decisions", "serving"},
    "demo": GROUND | PARTS | {"gram"},
    "cli": GROUND | PARTS | {"gram", "demo"},
    "__main__": {"cli"},
}
