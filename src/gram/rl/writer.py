"""The old place of ``gram.modeling.writer``, which documents of earlier versions name."""

from __future__ import annotations

from gram.modeling.writer import Writer

__all__ = ["Writer"]
