"""What a process has imported."""

import sys


def optional() -> None:
    """Import what optional packages serve; print what is there of them and of the package."""
    import clipvg.reliability.ray.parquet  # noqa: F401
    from clipvg.measures import MEASURES

    assert len(list(MEASURES.values())) > 9
    names = {"ray", "sklearn", "scipy.stats", "spacy", "clipvg.cli", "clipvg.measures"}
    print(*sorted(names & sys.modules.keys()))
