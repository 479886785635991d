"""box_reliability under the tools of torch: opcheck, torch.compile, export; and on a GPU."""

from __future__ import annotations

import pytest
import torch

from clipvg.ops import backend, box_reliability, load_operators

OPERATOR = "box_reliability"


def boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["box_reliability", "box_reliability_reference"])
@pytest.mark.parametrize("with_group", [False, True])
@pytest.mark.parametrize("labels", [0, 7])
def test_opcheck(name: str, with_group: bool, labels: int, device: str) -> None:
    load_operators()
    group = torch.arange(labels, device=device) % 3 if with_group else None
    pair = boxes(2, labels).to(device), boxes(labels, seed=1).to(device)
    arguments = (*pair, group, 3, 10, "cxcywh", 1e-16)
    torch.library.opcheck(getattr(torch.ops.clipvg, name).default, arguments)


def test_compiles_into_one_graph(each_backend: str) -> None:
    def total(pred: torch.Tensor, target: torch.Tensor, group: torch.Tensor) -> tuple:
        iou, hist = box_reliability(pred.sigmoid(), target, group=group, num_groups=2, bins=16)
        return iou * 2, hist

    arguments = boxes(2, 33), boxes(33, seed=1), torch.arange(33) % 2
    expected = total(*arguments)
    actual = torch.compile(total, fullgraph=True, backend="aot_eager")(*arguments)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_compiled_with_a_batch_size_of_any_value() -> None:
    compiled = torch.compile(box_reliability, fullgraph=True, dynamic=True, backend="aot_eager")
    for labels in (5, 8, 13):
        pred, target = boxes(2, labels), boxes(labels, seed=1)
        assert torch.equal(compiled(pred, target)[1], box_reliability(pred, target)[1])


def test_exports() -> None:
    class Score(torch.nn.Module):
        def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return box_reliability(pred, target)[0]

    arguments = boxes(2, 9), boxes(9, seed=1)
    labels = torch.export.Dim("labels", min=2)
    program = torch.export.export(Score(), arguments, dynamic_shapes=({1: labels}, {0: labels}))
    other = boxes(2, 21), boxes(21, seed=1)
    assert torch.equal(program.module()(*other), box_reliability(*other)[0])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_cuda_equals_cpu(dtype: torch.dtype) -> None:
    for labels in (0, 1, 129, 100_003):
        for bins in (10, 1000, 20_000):
            check_on_gpu(dtype, bins, labels)


def check_on_gpu(dtype: torch.dtype, bins: int, labels: int) -> None:
    pred, target = boxes(3, labels).to(dtype), boxes(labels, seed=1).to(dtype)
    group = torch.arange(labels) % 4
    with backend("reference"):
        expected = box_reliability(pred, target, group=group, num_groups=4, bins=bins)
    arguments = [tensor.cuda() for tensor in (pred, target)]
    for name in ("reference", "auto"):
        with backend(name):
            actual = box_reliability(*arguments, group=group.cuda(), num_groups=4, bins=bins)
        assert torch.equal(actual[0].cpu(), expected[0])
        assert torch.equal(actual[1].cpu(), expected[1])


@pytest.mark.gpu
def test_cuda_native_reads_a_misaligned_slice_on_a_side_stream() -> None:
    flat = torch.cat([torch.zeros(1), boxes(500).flatten()]).cuda()
    target = flat[1:].view(-1, 4)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), backend("native"):
        iou, _ = box_reliability(target.clone(), target)
    stream.synchronize()
    assert torch.equal(iou.cpu(), box_reliability(target.cpu(), target.cpu())[0])
