"""What runs on GPUs that are not here: the facts from torch and the driver are simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from clipvg.cli.info import COMMAND
from clipvg.errors import InputError
from clipvg.ops import _dispatch, _native, backend, backends, load_operators
from clipvg.ops._native import CudaCode
from clipvg.ops._table import OPERATORS
from clipvg.rescoring.config import EngineConfig
from clipvg.runtime import gpu
from clipvg.runtime.distributed import choose_device

BUILT = CudaCode(13000, ("compute_90", "sm_80", "sm_90"))
Simulate = Callable[..., None]


def forget() -> None:
    for cached in (_dispatch._native_reason, _dispatch.why_no_triton):
        cached.cache_clear()


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulate]:
    """Return a function that gives this process GPUs of some compute capabilities, for dispatch."""
    load_operators()

    def here(
        *capabilities: tuple[int, int], driver: int = 13000, code: CudaCode = BUILT,
        triton: bool = True, cuda: str | None = "13.0", hip: str | None = None,
    ) -> None:  # fmt: skip
        gpus = tuple(gpu.Gpu(f"GPU {a}{b}", (a, b), 16.0) for a, b in capabilities)
        monkeypatch.setattr(gpu, "facts", lambda: gpu.Facts(gpus, cuda, hip, driver))
        monkeypatch.setattr(_native, "cuda_code", lambda: code)
        monkeypatch.setattr(_native, "_why_not_built", lambda part: None)
        monkeypatch.setattr(_native, "has_kernel", lambda operator, device: True)
        monkeypatch.setattr(_dispatch, "find_spec", lambda name: triton or None)
        monkeypatch.setenv("CC", "gcc")
        forget()

    yield here
    monkeypatch.undo()
    forget()


def state(operator: str, name: str) -> tuple[bool, str]:
    """Return whether an implementation is chosen on a GPU, and the reason."""
    rows = (row for row in backends() if (row["operator"], row["device"]) == (operator, "cuda"))
    row = next(row for row in rows if row["backend"] == name)
    return row["chosen"], row["reason"] or ""


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_built_code_runs_on_its_own_and_by_ptx_on_newer_gpus(
    simulate: Simulate, capability: tuple[int, int]
) -> None:
    simulate(capability)
    assert state("box_reliability", "native") == (True, "one pass over the boxes")
    assert _dispatch.why_no_triton() is None


def test_an_older_gpu_falls_back_with_the_reason(simulate: Simulate) -> None:
    simulate((7, 5))
    assert _dispatch.choose("box_reliability", "cuda") == "reference"
    chosen, why = state("box_reliability", "reference")
    assert chosen
    assert why.startswith("native cannot run: clipvg/_ops is built for compute_90, sm_80, sm_90, ")
    assert why.endswith("and GPU 75 is of 7.5; reinstall with TORCH_CUDA_ARCH_LIST=7.5")
    with backend("native"), pytest.raises(InputError, match=r"_ARCH_LIST=7\.5; use 'ref"):
        _dispatch.choose("box_reliability", "cuda")
    why = "GPU 75 has compute capability 7.5, and Triton needs 8.0"
    assert state("packed_attention", "triton") == (False, why)
    assert state("packed_attention", "native")[0]  # PyTorch's own kernels
    simulate((7, 5), code=CudaCode(13000, ("sm_75",)))
    assert state("box_reliability", "native")[0]


def test_all_gpus_must_run_what_is_chosen(simulate: Simulate) -> None:
    simulate((9, 0), (7, 5))
    assert _dispatch.choose("box_reliability", "cuda") == "reference"


@pytest.mark.parametrize(
    ("targets", "capability", "reason"),
    [
        (("sm_90",), (12, 0), "is built for sm_90, and GPU is of 12.0"),
        (("sm_90a",), (9, 0), None),
        (("compute_90a", "sm_90a"), (10, 0), "is of 10.0"),
        (("sm_86",), (8, 0), "is of 8.0"),
        (("compute_100",), (9, 0), "is of 9.0"),
        (("sm_120",), (12, 1), None),
    ],
)
def test_what_machine_code_runs_on(
    targets: tuple[str, ...], capability: tuple[int, int], reason: str | None
) -> None:
    found = _native.why_not_for(CudaCode(13000, targets), gpu.Gpu("GPU", capability, 1), 13000)
    assert found is None if reason is None else reason in (found or "")


def test_ptx_needs_a_driver_as_new_as_the_compiler(simulate: Simulate) -> None:
    code = CudaCode(13020, BUILT.targets)
    simulate((12, 0), driver=13000, code=code)
    expected = "the driver runs CUDA 13.0, not 13.2; update the driver, or reinstall with"
    assert expected in state("box_reliability", "native")[1]
    simulate((9, 0), driver=13000, code=code)  # machine code needs no such driver
    assert state("box_reliability", "native")[0]


def test_a_driver_that_is_too_old_is_the_reason_everywhere(simulate: Simulate) -> None:
    simulate(driver=12040)
    reason = "the NVIDIA driver runs CUDA 12.4 and this PyTorch needs 13.0; update the driver"
    assert reason in (gpu.why_no_gpu() or "")
    for operator, name in (("box_reliability", "native"), ("packed_attention", "triton")):
        chosen, why = state(operator, name)
        assert not chosen
        assert reason in why
    with pytest.raises(InputError, match=f"not available here: {reason}"):
        choose_device("cuda")


def test_builds_of_torch_without_a_gpu(simulate: Simulate) -> None:
    simulate(cuda=None)
    assert gpu.why_no_gpu() == "this PyTorch is built without CUDA"
    simulate(driver=0)
    assert gpu.why_no_gpu() == "no CUDA device"
    simulate((9, 4), cuda=None, hip="6.4")
    assert gpu.why_no_gpu() is None
    assert _dispatch.why_no_triton() is None


def test_on_other_devices_operators_fall_back_one_by_one() -> None:
    found = {name: _dispatch.choose(name, "mps") for name in OPERATORS}
    assert found.pop("packed_attention") == "native"  # composed of PyTorch's own kernels
    assert set(found.values()) == {"reference"}


@pytest.mark.parametrize("missing", ["triton", "compiler", "device"])
def test_why_no_triton(simulate: Simulate, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(*([] if missing == "device" else [(9, 0)]), triton=missing != "triton")
    monkeypatch.setenv("CC", "" if missing == "compiler" else "gcc")
    monkeypatch.setattr(_dispatch.shutil, "which", lambda name: None)
    expected = {"triton": "not installed", "compiler": "C compiler", "device": "no CUDA device"}
    assert expected[missing] in (_dispatch.why_no_triton() or "")
    assert _dispatch.choose("packed_attention", "cuda") == "native"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((9, 0), "bf16")])
def test_emulated_bfloat16_is_not_taken(
    simulate: Simulate, capability: tuple[int, int], precision: str
) -> None:
    import torch

    simulate(capability)
    assert EngineConfig().resolved_precision(torch.device("cuda")) == precision


def test_info_says_what_was_built_what_is_there_and_what_is_chosen(simulate: Simulate) -> None:
    from argparse import Namespace

    simulate((7, 5))
    found = COMMAND.run(Namespace(backbones=False, checkpoint=None))
    text = COMMAND.describe(found)
    assert "built for compute_90, sm_80, sm_90 (CUDA 13.0)" in " ".join(text.split())
    assert "GPU 75, compute capability 7.5, 16.0 GiB" in text
    assert "native cannot run: clipvg/_ops is built for" in text


def test_the_library_says_what_it_was_built_for() -> None:
    load_operators()
    code = _native.cuda_code()
    if code is None:
        pytest.skip("clipvg/_ops has no CUDA code here")
    assert code.toolkit >= 12000
    assert all(_native._target(target)[0] in ("sm", "compute") for target in code.targets)
