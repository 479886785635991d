"""The native JSONL, one image a line; Parquet of the same is read as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.native import observation_from_dict


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for number, line in file.lines():
        where = f"line {number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            file.fail(where, f"not JSON ({error.msg}); write one object a line")
        with file.at(where):
            yield Row(where, observation_from_dict(data))
