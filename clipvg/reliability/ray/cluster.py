"""Connect to the Ray cluster that scoring runs on, with little logging, and leave it as it was."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated

from clipvg.errors import InputError, MissingExtraError
from clipvg.runtime.fields import ABOVE_ZERO, check_fields

# Output of actors would mix with the lines of this process, or with its JSON.
_TALK = {"logging_level": logging.WARNING, "log_to_driver": False}
_LEVELS = {
    "ray.data": logging.WARNING,
    "ray.data._internal.progress": logging.ERROR,
    # Failures are raised, so they need not be logged as well.
    "ray.data._internal.execution.streaming_executor_state": logging.CRITICAL,
    "ray.data.exceptions": logging.CRITICAL,
    "ray._private.authentication.authentication_token_setup": logging.ERROR,
}
_INPUT_ERROR = re.compile(r"^clipvg\.errors\.InputError: (.+)$", re.MULTILINE)
_AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class RayOptions:
    """How scoring runs on a Ray cluster.

    Attributes:
        actors: how many engines score at a time.
        num_cpus: CPUs of each actor, also its number of threads; None is 1, or less if the actors
            would take more than half of the cluster, since reading and writing need CPUs too.
        num_gpus: GPUs of each actor; None is 1 if the cluster has as many as actors, else 0.
        labels_per_task: labels that an actor takes at a time when labels come from Parquet.
        progress: show a progress bar.
    """

    actors: Annotated[int, (1, 10**5)] = 2
    num_cpus: Annotated[float | None, (ABOVE_ZERO, 10**4)] = None
    num_gpus: Annotated[float | None, (0, 10**3)] = None
    labels_per_task: Annotated[int, (1, 10**9)] = 8192
    progress: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "options of Ray")


def import_ray() -> ModuleType:
    """Return the module ``ray`` with ``ray.data``; if missing, the error names the extra."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError.for_extra("scoring on a Ray cluster", "ray") from None
    return ray


@contextmanager
def connected() -> Iterator[ModuleType]:
    """Yield Ray as already initialised, connected to ``RAY_ADDRESS``, or on a cluster of its own.

    A cluster of its own runs on this machine and ends with the block.

    Raises:
        InputError: this is one of several processes of `torchrun`.
        MissingExtraError: Ray is not installed.
    """
    ray = import_ray()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("torchrun and Ray both divide the work; use one of them.")
    with ExitStack() as ending:
        ending.enter_context(_quiet())
        if not ray.is_initialized():
            if "RAY_ADDRESS" in os.environ:
                ray.init(**_TALK)
            else:
                _choose_token()
                ray.init("local", include_dashboard=False, **_TALK)
            ending.callback(ray.shutdown)
        yield ray


@contextmanager
def plain_errors() -> Iterator[None]:
    """Restore an actor's `InputError` from its traceback, which is all that Ray keeps of it."""
    try:
        yield
    except Exception as error:
        if found := _INPUT_ERROR.findall(str(error)):
            raise InputError(found[-1]) from None
        raise


def _choose_token() -> None:
    """Give clusters that we start a token of this process; Ray would write its own to the home."""
    if not any(name in os.environ for name in _AUTHENTICATION):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Ray Data logs when nothing is wrong."""
    before = {name: logging.getLogger(name).level for name in _LEVELS}
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
