"""Token ids and masks of the reference, and what the default preset does instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clipvg.data.preset import get_preset
from clipvg.errors import InputError
from clipvg.model import Tokenizer

LONG = " ".join(["circle"] * 80)


@pytest.fixture(scope="module")
def cases(mini: Path) -> list[dict[str, Any]]:
    return json.loads((mini / "tokens.json").read_text(encoding="utf-8"))["cases"]


def test_ids_and_masks_are_equal(cases: list[dict[str, Any]]) -> None:
    ids, mask = Tokenizer(get_preset("published"))([case["phrase"] for case in cases])
    assert ids.shape == mask.shape == (len(cases), 77)
    for row, real, case in zip(ids, mask, cases, strict=True):
        n = case["n"]
        assert row[:n].tolist() == case["ids"], case["phrase"]
        assert real[:n].int().tolist() == case["mask"], case["phrase"]
        assert not row[n:].any()
        assert not real[n:].any()


def test_default_mask_keeps_tokens_with_id_zero(cases: list[dict[str, Any]]) -> None:
    plain = [case for case in cases if "<|" not in case["phrase"]]
    phrases = [case["phrase"] for case in plain]
    ids, mask = Tokenizer(get_preset("default"))(phrases)
    assert torch.equal(ids, Tokenizer(get_preset("published"))(phrases)[0])
    assert mask.sum(dim=1).tolist() == [case["n"] for case in plain]


@pytest.mark.parametrize("name", ["<|endoftext|>", "<end_of_text>", "<start_of_text>"])
def test_default_takes_names_of_special_tokens_for_text(name: str) -> None:
    ids, mask = Tokenizer(get_preset("default"))([f"the {name} sign"])
    real = ids[0][mask[0]].tolist()
    assert [i for i in real if i >= 49406] == [49406, 49407]


def test_published_refuses_more_than_77_tokens() -> None:
    tokenizer = Tokenizer(get_preset("published"))
    fits = " ".join(["circle"] * 75)
    assert tokenizer([fits])[1].sum() == 77
    with pytest.raises(InputError, match=r"1 of 2 expressions .* number 1 with 82") as error:
        tokenizer(["circle", LONG])
    assert "\n" not in str(error.value)


def test_default_truncates_with_the_end_token_and_warns() -> None:
    with pytest.warns(UserWarning, match="1 of 1 expressions have more than 77 tokens"):
        ids, mask = Tokenizer(get_preset("default"))([LONG])
    assert mask.all()
    assert ids[0, [0, 76]].tolist() == [49406, 49407]


def test_a_published_prefix_pushes_the_end_out() -> None:
    tokenizer = Tokenizer(get_preset("published"), prefix="published")
    ids, _ = tokenizer(["a dog"])
    assert ids[0, :9].tolist() == [49406, 3797, 4341, 851, 17436, 531, 49406, 320, 1929]
    ids, mask = tokenizer([" ".join(["circle"] * 75)])
    assert mask.all()
    assert 49407 not in ids


def test_a_default_prefix_leaves_room_for_the_end() -> None:
    tokenizer = Tokenizer(get_preset("default"), prefix="published")
    with pytest.warns(UserWarning, match="more than 71 tokens"):
        ids, _ = tokenizer([LONG])
    assert ids[0, -1] == 49407


def test_a_prompt_surrounds_the_expression() -> None:
    prompted = Tokenizer(get_preset("default"), prompt="the region of {} here")
    plain = Tokenizer(get_preset("default"))
    assert torch.equal(prompted(["A DOG"])[0], plain(["the region of a dog here"])[0])


def test_an_expression_that_is_no_text_is_named() -> None:
    with pytest.raises(InputError, match="3, a int"):
        Tokenizer(get_preset("default"))(["dog", 3])


def test_no_expressions_give_empty_tensors() -> None:
    ids, mask = Tokenizer(get_preset("default"))([])
    assert ids.shape == mask.shape == (0, 77)
