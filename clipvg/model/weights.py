"""Read weights from files (bare, wrapped, prefixed, TorchScript) without executing anything.

`torch.save`, data-parallel and compiled modules and training frameworks each prefix the names of
tensors. A tensor that every model has, the anchor, shows where the model begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from clipvg.errors import InputError, one_line
from clipvg.runtime.gate import check_file, reading
from clipvg.runtime.unpickle import StoredTensor, read_pickle

CLIP_ANCHOR = "visual.conv1.weight"  # of every CLIP ViT
_OPENAI_SIZES = {"input_resolution", "context_length", "vocab_size"}
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def read_file(path: str | Path) -> dict[Any, Any]:
    """Return the contents of a weight file: nested dictionaries of tensors and plain values.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    path = check_file(path)
    with reading(path, "weights of a model"):
        if path.suffix == ".safetensors":
            return load_file(path)
        content = read_pickle(path, "tensors and plain values", _tensor)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}. Expected a dictionary.")
    return content


def find_state(content: Mapping[Any, Any], anchor: str, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of one model in a file by name, without wrappers and prefixes.

    They are those that share the prefix of the anchor, the name of a tensor that every such model
    has. Of two models the first is taken; without the anchor the result is empty.

    Raises:
        InputError: two tensors have one name, or one holds a number that is not finite.
    """
    state: dict[str, Tensor] = {}
    prefix = None
    named = [(_bare(names), tensor) for names, tensor in _tensors(content)]
    for name, _ in named:
        if name == anchor or name.endswith("." + anchor):
            prefix = name.removesuffix(anchor)
            break
    if prefix is None:
        return {}
    for name, tensor in named:
        if name.startswith(prefix):
            if name.removeprefix(prefix) in state:
                raise InputError(f"{path}: holds tensor {name!r} twice, with and without a wrapper")
            state[name.removeprefix(prefix)] = tensor
    check_finite(state, path)
    return state


def check_finite(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise InputError if weights are NaN or infinite, naming the first tensor."""
    bad = [name for name, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        count = int((~state[bad[0]].isfinite()).sum())
        raise InputError(
            f"{path}: tensor {bad[0]!r} holds {count:,} numbers that are not finite, as "
            f"{len(bad)} tensors do; the training that wrote it has diverged. Use an earlier "
            "checkpoint"
        )


def is_openai(state: dict[str, Tensor]) -> bool:
    """Whether weights are as OpenAI published them: with its three size entries or mixed precision.

    open_clip's own files have neither: they are float32 throughout.
    """
    halves = [
        t.dtype == torch.float16 for t in (state[CLIP_ANCHOR], state["visual.ln_post.weight"])
    ]
    return state.keys() >= _OPENAI_SIZES or halves == [True, False]


class Undrawn(TorchFunctionMode):
    """Mode in which modules are built without random weights, since a file will replace them all.

    The weights are uninitialised memory. Drawing them would take longer than reading the file, and
    would advance the random generator.
    """

    _IN_PLACE: tuple[object, ...] = (
        *(Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_),
        *(nn.init.kaiming_uniform_, nn.init.kaiming_normal_),
    )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function, unless it draws random numbers."""
        kwargs = kwargs or {}
        if func in self._IN_PLACE:
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def as_open_clip(state: dict[str, Tensor], clip: nn.Module) -> dict[str, Tensor]:
    """Return weights with the names and sizes of the towers, as float32."""
    state = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    state = {name: tensor for name, tensor in state.items() if name not in _OPENAI_SIZES}
    if not hasattr(clip, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(clip.state_dict()["logit_scale"].shape)
    resize_pos_embed(state, clip)
    resize_text_pos_embed(state, clip)
    return state


def copy_weights(
    module: nn.Module, state: dict[str, Tensor], what: str, *, strict: bool = True
) -> None:
    """Load weights into a module; `what` begins the error message if they do not fit."""
    try:
        module.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise InputError(f"{what}: {one_line(error, 300)}.") from error


def _tensors(
    content: Mapping[Any, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield (*above, str(key)), value
        elif isinstance(value, dict):
            yield from _tensors(value, (*above, str(key)))


def _bare(names: tuple[str, ...]) -> str:
    return ".".join(part for part in ".".join(names).split(".") if part not in _WRAPPERS)


def _tensor(stored: StoredTensor) -> Tensor:
    dtype = getattr(torch, stored.dtype)
    flat = (
        torch.frombuffer(stored.data, dtype=dtype) if stored.data else torch.empty(0, dtype=dtype)
    )
    return flat.as_strided(stored.shape, stored.stride, stored.offset)
