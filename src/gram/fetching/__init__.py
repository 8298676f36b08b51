"""Models that are fetched once and then lie on this machine: what there is, where it lies, how it comes.

Knows pip, the Hub, GGUF files and Hugging Face folders; knows nothing of how a model is asked.
"""

from __future__ import annotations

from gram.fetching.bring import Fetched, fetch, fetched_folder
from gram.fetching.catalogue import Entry, fetchable
from gram.fetching.place import Source, named_by_catalogue, other_copy

__all__ = [
    "Entry",
    "Fetched",
    "Source",
    "fetch",
    "fetchable",
    "fetched_folder",
    "named_by_catalogue",
    "other_copy",
]
