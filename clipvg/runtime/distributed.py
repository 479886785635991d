"""Run in one process or in several under `torchrun`: ranks, devices and communication."""

import atexit
import inspect
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clipvg.errors import InputError
from clipvg.runtime import gpu
from clipvg.runtime.files import Json

Item = TypeVar("Item")
Device = str | torch.device | None  # None is a CUDA GPU where there is one, else the CPU


@dataclass(frozen=True)
class World:
    """Place of this process among all: `rank` of `size`, `local_rank` on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0


def join(device: torch.device | None = None) -> World:
    """Join the processes that `torchrun` started, once; a single process is a world of one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        cuda = device is not None and device.type == "cuda"
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        atexit.register(_leave)
    if not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def choose_device(device: Device) -> torch.device:
    """Return a device that exists; for None the GPU of the process's local rank, or the CPU."""
    if device is None and not torch.cuda.is_available():
        return torch.device("cpu")
    if device is None:
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(own)
        return own
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(len(gpu.facts().gpus)))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        name = str(device)
        reason = gpu.why_no_gpu() if name.startswith("cuda") else None
        raise InputError(
            f"device={name!r} is not available here{f': {reason}' if reason else ''}; "
            f"choose from {', '.join(here)}."
        ) from error
    return chosen


def broadcast(tensors: Iterable[Tensor], world: World) -> None:
    """Give every process the values of the first one, in place."""
    if world.size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def all_reduce(tensor: Tensor, world: World, op: str = "sum") -> Tensor:
    """Reduce a tensor over all processes in place, to the sum or the maximum."""
    if world.size > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MAX if op == "max" else dist.ReduceOp.SUM)
    return tensor


def gather_objects(item: Item, world: World) -> list[Item]:
    """Return every process's item, in rank order."""
    if world.size == 1:
        return [item]
    items = [item] * world.size
    dist.all_gather_object(items, item)
    return items


def together(
    action: Callable[[], Item],
    world: World,
    *,
    failing: Callable[[], object] | None = None,
) -> list[Item]:
    """Run an action on every process and return all results; a failure of one is raised on all.

    `failing` is called on a process where the action fails, before it waits for the others.
    """
    if world.size == 1:
        return [action()]
    result: Item | None = None
    failure: Exception | None = None
    try:
        result = action()
    except Exception as error:  # the others wait for the exchange
        failure = error
        if failing is not None:
            failing()
    told = None if failure is None else (isinstance(failure, InputError), str(failure))
    exchanged = gather_objects((result, told), world)
    if failure is not None:
        raise failure
    for rank, (_, other) in enumerate(exchanged):
        if other is not None:
            is_input, message = other
            if is_input:
                raise InputError(message)
            raise RuntimeError(f"process {rank} of {world.size} failed: {message}")
    # No process failed, so that each has a result.
    return [result for result, _ in exchanged]  # type: ignore[misc]


def barrier(world: World) -> None:
    """Wait for every process."""
    if world.size > 1:
        dist.barrier()


def data_parallel(module: nn.Module, world: World) -> nn.Module:
    """Wrap a module to average its gradients over all processes; in a world of one return it as is.

    Nothing but gradients is sent: neither frozen parameters nor buffers.
    """
    if world.size == 1:
        return module
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: Json = {buffers: False, "init_sync": False, "gradient_as_bucket_view": True}
    return DistributedDataParallel(module, **options)


def exchange(module: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """Return a context for a backward pass that exchanges gradients, unless a later pass does."""
    if isinstance(module, DistributedDataParallel) and not now:
        return module.no_sync()
    return nullcontext()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
