"""What commands do not show: the chatter of the libraries below."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Silence transformers' advice and its own progress bars: ours says what a person needs to see."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
