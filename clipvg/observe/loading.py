"""Load models of Hugging Face transformers from the hub or a folder, with one-line errors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from huggingface_hub.utils import enable_progress_bars

from clipvg.errors import InputError, MissingExtraError, one_line
from clipvg.model.hub import quiet, unreachable
from clipvg.observe.options import Precision

if TYPE_CHECKING:
    import torch

Kind = Literal["detector", "open_detector", "writer"]


class _Part(NamedTuple):
    """Names in transformers of a kind of model."""

    model: str  # its Auto class
    table: str  # table of the model types of that class
    processor: str  # Auto class of its processor
    noun: str
    examples: str


_PARTS: dict[Kind, _Part] = {
    "detector": _Part(
        "AutoModelForObjectDetection",
        "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
        "AutoImageProcessor",
        "object detector",
        "DETR, RT-DETR or D-FINE",
    ),
    "open_detector": _Part(
        "AutoModelForZeroShotObjectDetection",
        "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES",
        "AutoProcessor",
        "open-vocabulary detector",
        "Grounding DINO, OWLv2 or OmDet-Turbo",
    ),
    "writer": _Part(
        "AutoModelForImageTextToText",
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        "AutoProcessor",
        "model that writes about images",
        "BLIP, GIT, Florence-2 or a vision-language model",
    ),
}


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A transformers model in evaluation mode, with its processor.

    Attributes:
        name: hub name or folder, as asked for.
        model: a `transformers.PreTrainedModel`.
        processor: its processor, or its image processor if it takes no text.
        identity: identity of its weights: the hub's commit, or the folder's files.
    """

    name: str
    model: Any
    processor: Any
    identity: str

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    def inputs(self, prepared: Any) -> Any:
        """Return processor outputs on the model's device and in its precision."""
        return prepared.to(self.device).to(self.model.dtype)  # integers stay integers


def load_pretrained(
    name: str, kind: Kind, *, device: str | torch.device = "cpu", precision: Precision = "auto"
) -> Pretrained:
    """Load a transformers model; code that comes with its repository is never run.

    Args:
        name: a hub name, ``org/model``, or a folder that `save_pretrained` wrote or a download.
        kind: expected kind of the model.
        device: where to put it.
        precision: "auto" is fp32, but bf16 for models that write text, if they are not on a CPU.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: the model does not exist, cannot be reached, is of another kind, or damaged.
    """
    transformers = import_transformers()
    part = _PARTS[kind]
    place = _find(name)
    with _calm(transformers), _told(f"model {name!r}"):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        _check_type(config.model_type, name, kind)
        model, info = getattr(transformers, part.model).from_pretrained(
            place,
            config=config,
            dtype=_dtype(precision, kind, str(device)),
            trust_remote_code=False,
            output_loading_info=True,
        )
        processor = getattr(transformers, part.processor).from_pretrained(
            place, trust_remote_code=False
        )
    if missing := sorted(info["missing_keys"]):
        warnings.warn(
            f"model {name!r} holds no weights for {len(missing)} tensors of a {part.noun}, such as "
            f"{missing[0]!r}: they are drawn at random. Was it trained for another task?",
            stacklevel=2,
        )
    return Pretrained(name, model.to(device).eval(), processor, _identity(place, config))


def import_transformers() -> ModuleType:
    """Return the transformers package; raise MissingExtraError if it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError.for_extra("a model of Hugging Face", "observe") from error
    return transformers


def _find(name: str) -> str:
    """Return an existing folder, or a hub name that can be reached."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(
                f"model {name!r}: no config.json in this folder; name one that save_pretrained "
                "wrote, or a download of a hub repository"
            )
        return str(folder)
    if folder.is_absolute() or name.count("/") > 1 or name.startswith((".", "~")):
        raise InputError(f"model {name!r}: no such folder")
    try:
        why = unreachable(name)
    except ValueError as error:  # not a repository name
        raise InputError(
            f"model {name!r}: neither a folder nor a hub name ({one_line(error, 80)})"
        ) from None
    if why is not None:
        raise InputError(
            f"model {name!r}: {why}; where there is a network, download it with 'hf download "
            f"{name} --local-dir FOLDER', and name the FOLDER here"
        )
    return name


def _check_type(model_type: str, name: str, kind: Kind) -> None:
    """Refuse a model of another kind, and say which kind it is."""
    from transformers.models.auto import modeling_auto

    part = _PARTS[kind]
    is_of = [each for each in _PARTS.values() if model_type in getattr(modeling_auto, each.table)]
    if part in is_of:
        return
    hint = f"it is another kind, {is_of[0].noun}" if is_of else f"{model_type!r} is something else"
    raise InputError(
        f"model {name!r} is not a {part.noun} of transformers: {hint}; name one such as "
        f"{part.examples}"
    )


def _dtype(precision: Precision, kind: Kind, device: str) -> torch.dtype:
    import torch

    if precision == "auto":  # bf16 moves the edges of a box by pixels
        precision = "bf16" if kind == "writer" and not device.startswith("cpu") else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _identity(place: str, config: Any) -> str:
    """Return the identity of weights: the commit, or configuration, file names, sizes and times."""
    if commit := getattr(config, "_commit_hash", None):
        return f"{place}@{commit}"
    files = [path for path in sorted(Path(place).iterdir()) if path.is_file()]
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return json.dumps([config.to_dict(), facts], sort_keys=True, default=str)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn whatever transformers raises into a one-line InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:  # e.g. of a processor: the message names the package
        raise InputError(f"{what}: needs another package ({one_line(error, 200)})") from error
    except Exception as error:  # the hub, safetensors, tokenizers and torch each raise their own
        why = one_line(error, 300)
        if isinstance(error, UnpicklingError):  # torch would explain how to run its code
            why = "its pickled weights hold more than tensors; find a model with safetensors"
        raise InputError(f"{what} cannot be loaded: {why}") from error


@contextmanager
def _calm(transformers: ModuleType) -> Iterator[None]:
    """Silence progress bars and reports of transformers, but keep the hub's download bars."""
    settings = transformers.utils.logging
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was_shown = settings.is_progress_bar_enabled()
        settings.disable_progress_bar()
        enable_progress_bars()
        try:
            yield
        finally:
            if was_shown:
                settings.enable_progress_bar()
