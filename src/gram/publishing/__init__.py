"""A model's folder for other people and programs: its card, the Hub, GGUF files.

Knows folders, ``gram.json`` and the results of ``gram eval``; asks no model.
"""

from __future__ import annotations
