"""Print what a process has imported, and which backend its environment asks for."""

import sys


def optional() -> None:
    """Import modules that use optional packages; print which of these and of clipvg are loaded."""
    import clipvg.reliability.ray.parquet  # noqa: F401
    from clipvg.measures import MEASURES

    assert len(list(MEASURES.values())) > 9
    names = {"ray", "sklearn", "scipy.stats", "spacy", "clipvg.cli", "clipvg.measures"}
    print(*sorted(names & sys.modules.keys()))


def requested_backend() -> None:
    """Print the requested backend, after another one was requested for a while."""
    import numpy as np

    from clipvg.ops import backend, box_reliability_numpy
    from clipvg.ops._dispatch import requested

    box = np.array([[0.5, 0.5, 0.5, 0.5]])
    with backend("auto"):
        box_reliability_numpy(box, box)
    box_reliability_numpy(box, box)
    print(requested())
