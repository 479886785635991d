"""Measures by name, by import path and from spec texts, and the table in the documentation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import make_model

from clipvg.errors import InputError
from clipvg.grounders import GROUNDERS
from clipvg.labels import LabelTable
from clipvg.measures import MEASURES, refuse_measures
from clipvg.measures.specs import (
    MeasureSpec,
    asks_models,
    build_measures,
    parse_measure,
    with_option,
)
from clipvg.reliability import Context, Measurer, Scores

REQUIRES = {"images", "history", "scores", "reference"}


class Mine:
    """A user's measure."""

    requires: frozenset[str] = frozenset()

    def __init__(self, level: float = 0.5) -> None:
        self.name, self.level = "mine", level

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        return Scores(np.full(len(labels), self.level, dtype=np.float32))


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> str:
    """Import path of `Mine`."""
    monkeypatch.setitem(sys.modules, "own_measures", sys.modules[__name__])
    return "own_measures:Mine"


def test_the_documentation_names_every_measure(repository: Path) -> None:
    text = (repository / "docs" / "measures.md").read_text(encoding="utf-8")
    missing = [name for name in MEASURES if f"`{name}`" not in text]
    assert not missing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("knn", MeasureSpec("knn", "knn", {})),
        ("near=knn,k=5", MeasureSpec("near", "knn", {"k": 5})),
        (
            "attention_mass,adjust=true,layers=all",
            MeasureSpec("attention_mass", "attention_mass", {"adjust": True, "layers": "all"}),
        ),
        (
            "cascade,of=a+b,low=0.1",
            MeasureSpec("cascade", "cascade", {"of": ["a", "b"], "low": 0.1}),
        ),
        ("vote,weights=1+2.5", MeasureSpec("vote", "vote", {"weights": [1, 2.5]})),
        ("likelihood,scale=1e+1", MeasureSpec("likelihood", "likelihood", {"scale": 10.0})),
        ("noise_level,of=none", MeasureSpec("noise_level", "noise_level", {"of": None})),
        ("my.pack:Own.Kind", MeasureSpec("kind", "my.pack:Own.Kind", {})),
    ],
)
def test_texts(text: str, expected: MeasureSpec) -> None:
    assert parse_measure(text) == expected


def test_models_are_given_by_name() -> None:
    models = {"a": make_model(1), "b": make_model(2), "c": make_model(3)}
    built = build_measures(
        ["likelihood", "l2=likelihood,model=b", "agreement", "two=agreement,models=a+c"], models
    )
    assert list(built) == ["likelihood", "l2", "agreement", "two"]
    assert built["likelihood"].model is models["a"]
    assert built["l2"].model is models["b"]
    assert built["l2"].name == "l2"
    assert built["agreement"].models == tuple(models.values())
    assert built["two"].models == (models["a"], models["c"])


def test_measures_know_what_they_were_trained_on() -> None:
    models = {"a": make_model(trained_on=["x"]), "b": make_model(trained_on=["x", "y"])}
    built = build_measures(["likelihood", "agreement"], models)
    assert built["likelihood"].trained_on == ("x",)
    assert built["agreement"].trained_on == ("x", "y")


def test_a_measure_of_ones_own(mine: str) -> None:
    (name,) = built = build_measures([f"{mine},level=0.25"])
    assert name == "mine"
    assert isinstance(built[name], Measurer)
    assert built[name].level == 0.25


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["kn"], "no measure 'kn': did you mean 'knn'"),
        (["knn,kk=3"], "'knn' has no option 'kk': did you mean 'k'"),
        (["knn,k=zero"], "k is 'zero', expected int"),
        (["knn,k=2.5"], "k is 2.5, expected int"),
        (
            ["knn,seed=a,max_reference=1"],
            "max_reference is 1, expected at least 2; seed is 'a', expected int",
        ),
        (["knn,k"], "'k' is not option=value"),
        (["knn,k=1,k=2"], "has the option 'k' twice"),
        (["=knn"], r"is not \[COLUMN=\]METHOD"),
        (["ambiguity", "ambiguity"], "two measurers are called 'ambiguity'"),
        (["a=ambiguity"], "two measurers are called 'a'"),
        (["knn,model=c"], "asks model 'c': choose from a"),
        (["likelihood,model=a+a"], "asks one model, not 2"),
        (["cascade"], "'cascade' needs of; write cascade,of=..."),
        (["verifier"], "'verifier' needs path"),
        (["nowhere:Thing"], "cannot be imported .*expected package.module:Class"),
        (["json:Thing"], "cannot be imported"),
        (["json:dumps,obj=1"], "is not a measure class; expected one with name"),
        (["json:__name__"], "is not a measure class"),
        (["subprocess:Popen,args=touch+marker"], "is not a measure class"),
        (["agreement"], "was given 1; give at least 2"),
    ],
)
def test_bad_texts(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_measures(texts, {"a": make_model()})


def test_a_model_is_asked_for() -> None:
    with pytest.raises(InputError, match="there is none; name a measurer"):
        build_measures(["likelihood"])


def test_every_measure_can_be_made_by_its_name(tmp_path: Path) -> None:
    models: dict[str, Any] = {"a": make_model(1, dropout=0.1), "b": make_model(2)}
    (tmp_path / "a.csv").write_text("row,answer\n0,yes\n")
    more = {"verifier": f",path={tmp_path / 'a.csv'}", "cascade": ",of=a+b"}
    for name in {*MEASURES} - {*GROUNDERS}:  # grounders load a model
        (measurer,) = build_measures([f"x={name}{more.get(name, '')}"], models).values()
        assert measurer.requires <= REQUIRES
        assert measurer.name == "x"


def test_who_asks_models_of_the_call_and_who_has_one_of_its_own() -> None:
    asking = {name: asks_models(parse_measure(name)) for name in ("likelihood", "agreement")}
    own = {name: asks_models(parse_measure(name)) for name in ("verifier", "detector", "hygiene")}
    assert all(asking.values())
    assert not any(own.values())


def test_an_option_that_is_not_given_is_added_where_there_is_one() -> None:
    for text, expected in [
        ("verifier,path=a", {"path": "a", "device": "cpu"}),
        ("verifier,path=a,device=cuda", {"path": "a", "device": "cuda"}),
        ("hygiene", {}),
    ]:
        assert with_option(parse_measure(text), "device", "cpu").options == expected


@pytest.mark.parametrize(
    "text", ["subprocess:Popen,args=touch+x", "near=os:system", "a=antigravity:Any,k=1"]
)
def test_a_file_names_no_code(text: str) -> None:
    refuse_measures(["knn,k=5", "both=vote,of=a+b"], "recipe.yaml")
    with pytest.raises(InputError, match=r"^recipe\.yaml: measure '.*' is code"):
        refuse_measures(["knn", text], "recipe.yaml")
