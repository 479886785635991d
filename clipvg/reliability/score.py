"""Score the reliability of every label by every measurer: `score_labels`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, GroundingMeasurer, Measurer, OnError, Scores
from clipvg.reliability.names import NamedCheckpoint, check_names, parse_measurer

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.model.tokenizer import Tokenizer
    from clipvg.rescoring import EngineConfig
    from clipvg.rescoring.shards import Runner
    from clipvg.rescoring.store import ScoreStore

    AnyMeasurer = GroundingModel | Measurer | NamedCheckpoint | str | Path

_NEVER_READ = "truth"


def score_labels(
    labels: LabelTable,
    measurers: Mapping[str, AnyMeasurer] | Iterable[str],
    *,
    engine: EngineConfig | None = None,
    on_error: OnError = "null",
    store: str | Path | ScoreStore | None = None,
    progress: bool = False,
    runner: Runner | None = None,
) -> ScoreMatrix:
    """Score every label with every measurer.

    Grounding models are scored together in one pass that encodes each distinct image once per
    image tower and each distinct expression once per text tower; other measurers follow, those of
    `clipvg.measures` that look at images in one pass of their own. Under
    `torchrun` all processes must call: they share out the images, and each gets all scores.

    Args:
        labels: N labels with an image root. ``truth`` is never read.
        measurers: name -> a grounding model, anything with the `Measurer` protocol, or the path of
            a checkpoint; or texts ``[NAME[@SOURCE]=]PATH``.
        engine: how grounding models run: batch, precision, threads.
        on_error: "null" leaves labels whose image cannot be read unscored, with the reason;
            "raise" stops at the first.
        store: folder that keeps the scores of grounding models shard by shard, so that they are not
            computed again, and those of a killed call are not lost. None keeps nothing.
        progress: show a progress bar.
        runner: where grounding models run; None is this process. `score_with_ray` passes actors.

    Returns:
        The score matrix, one row per measurer in the given order, labels in input order.

    Raises:
        InputError: two measurers with the same name, a checkpoint that cannot be read, a prediction
            that is not finite, an unreadable image with ``on_error="raise"``, or a store that
            another process is using.
    """
    if on_error not in get_args(OnError):
        raise InputError(f"on_error is {on_error!r}; choose 'null' or 'raise'.")
    from clipvg.reliability.image_measure import measure_together
    from clipvg.training.usable import refuse_long

    named = resolve_measurers(measurers)
    labels = labels.drop_columns(_NEVER_READ)
    refuse_long(labels, tokenizers_of(named))
    context = Context(engine=engine, on_error=on_error, progress=progress)
    found = _grounding_scores(labels, named, context, store, runner)
    sources = labels.encoded_sources()
    origin = {n: tuple(getattr(m, "trained_on", ())) for n, m in named.items()}
    if found:
        context = replace(context, scores=ScoreMatrix.of(found, sources, origin))
    found |= measure_together({n: m for n, m in named.items() if n not in found}, labels, context)
    return ScoreMatrix.of({name: found[name] for name in named}, sources, origin)


def tokenizers_of(measurers: Mapping[str, Measurer]) -> list[Tokenizer]:
    """Return the tokenizers of those measurers that have grounding models."""
    from clipvg.reliability.image_measure import ImageMeasure

    found: list[Tokenizer] = []
    for measurer in measurers.values():
        if isinstance(measurer, GroundingMeasurer):
            found.append(measurer.model.tokenizer)
        elif isinstance(measurer, ImageMeasure):
            found += measurer.tokenizers
    return found


def resolve_measurers(measurers: Mapping[str, AnyMeasurer] | Iterable[str]) -> dict[str, Measurer]:
    """Return the measurers that `score_labels` takes, by name, with checkpoints loaded."""
    return {name: _measurer(name, value) for name, value in name_measurers(measurers).items()}


def name_measurers(
    measurers: Mapping[str, AnyMeasurer] | Iterable[str],
) -> Mapping[str, AnyMeasurer]:
    """Return measurers by name, without loading checkpoints."""
    if isinstance(measurers, str | Path):
        measurers = [str(measurers)]
    if not isinstance(measurers, Mapping):
        specs = [parse_measurer(str(text)) for text in measurers]
        check_names(spec.name for spec in specs)
        measurers = {spec.name: spec for spec in specs}
    if not measurers:
        raise InputError("no measurer given; pass a checkpoint or a model, {'name': model}.")
    return measurers


def _measurer(name: str, value: object) -> Measurer:
    from clipvg.model import GroundingModel, load

    trained_on = None
    if isinstance(value, NamedCheckpoint):
        trained_on = value.trained_on
        value = value.path
    if isinstance(value, str | Path):
        value = load(value)
    if isinstance(value, GroundingModel):
        return GroundingMeasurer(value, name, trained_on=trained_on)
    if not isinstance(value, Measurer):
        raise InputError(
            f"measurer {name!r} is a {type(value).__name__}; expected a grounding model, a "
            "checkpoint path or an object with name, requires and measure()."
        )
    return value


def _grounding_scores(
    labels: LabelTable,
    named: Mapping[str, Measurer],
    context: Context,
    store: str | Path | ScoreStore | None,
    runner: Runner | None,
) -> dict[str, Scores]:
    models = {
        name: measurer.model
        for name, measurer in named.items()
        if isinstance(measurer, GroundingMeasurer) and measurer.similarity is None
    }
    if not models:
        return {}
    from clipvg.rescoring.shards import score_models
    from clipvg.rescoring.store import open_store

    with ExitStack() as stack:
        if isinstance(store, str | Path):
            device = next(iter(models.values())).device
            store = stack.enter_context(open_store(store, device))
        rows, reasons = score_models(
            labels,
            models,
            context.engine,
            on_error=context.on_error,
            progress=context.progress,
            store=store,
            runner=runner,
        )
    return {name: Scores(row, reasons) for name, row in zip(models, rows, strict=True)}
