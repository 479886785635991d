from __future__ import annotations

import pytest

from clipvg.pseudo.entities import kind_of


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("man in a red shirt", "relation"),
        ("guy on the left with hat", "relation"),
        ("far left", "position"),
        ("second dog from the right", "position"),
        ("top right corner pizza", "position"),
        ("biggest dog", "attribute"),
        ("woman white", "attribute"),
        ("the stop sign", "name"),
        ("", "name"),
    ],
)
def test_what_an_expression_goes_by(expression: str, kind: str) -> None:
    assert kind_of(expression) == kind
