"""Silences the messages of libraries that commands do not show."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Silence transformers' advice and progress bars; commands have messages and bars of their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
