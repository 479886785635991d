"""What a process has imported, and what its environment asks for."""

import sys


def optional() -> None:
    """Import what optional packages serve; print what is there of them and of the package."""
    import clipvg.reliability.ray.parquet  # noqa: F401
    from clipvg.measures import MEASURES

    assert len(list(MEASURES.values())) > 9
    names = {"ray", "sklearn", "scipy.stats", "spacy", "clipvg.cli", "clipvg.measures"}
    print(*sorted(names & sys.modules.keys()))


def requested_backend() -> None:
    """Print the backend that operators are asked for, after another was for a while."""
    import numpy as np

    from clipvg.ops import backend, box_reliability_numpy
    from clipvg.ops._dispatch import requested

    box = np.array([[0.5, 0.5, 0.5, 0.5]])
    with backend("auto"):
        box_reliability_numpy(box, box)
    box_reliability_numpy(box, box)
    print(requested())
