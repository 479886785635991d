"""Output files for parts of a table, also on file systems that a URI names."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipvg.reliability.ray.parts import open_output


@pytest.mark.parametrize("is_uri", [False, True])
def test_a_file_that_fails_halfway_does_not_appear(tmp_path: Path, is_uri: bool) -> None:
    folder = tmp_path.as_uri() if is_uri else str(tmp_path)

    def fail_halfway() -> None:
        with open_output(folder, "part.parquet") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert not [*tmp_path.iterdir()]
    with open_output(folder, "part.parquet") as file:
        file.write(b"whole")
    assert (tmp_path / "part.parquet").read_bytes() == b"whole"
