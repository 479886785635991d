"""Fail fast and in one line when the Hugging Face hub cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import get_session

from clipvg.errors import one_line


def unreachable(repository: str) -> str | None:
    """Return why a repository is neither in the cache nor on a reachable hub; None if it may be.

    The client itself would try five times with growing pauses, for three quarters of a minute.
    """
    folder = repo_folder_name(repo_id=repository, repo_type="model")
    if (Path(constants.HF_HUB_CACHE) / folder / "snapshots").is_dir():
        return None
    if constants.HF_HUB_OFFLINE:
        return f"{repository} is not in the cache and HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:  # the client's transport errors have no public common base
        text = one_line(error, 100)
        return f"{repository} is not in the cache and {constants.ENDPOINT} is unreachable ({text})"
    return None


@contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[None]:
    """Silence loggers up to a level; callers raise failures as a one-line error instead."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
