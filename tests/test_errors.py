import pytest

from clipvg.errors import InputError, MissingExtraError, near_matches


def test_error_from_a_worker_is_one_line():
    text = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback ...\n  File x\n"
    assert str(InputError(text + "clipvg.errors.InputError: a.jpg: no such file\n")) == (
        "a.jpg: no such file"
    )


def test_a_long_value_of_a_file_leaves_the_remedy_in_sight():
    message = str(InputError(f"a.pth: image {'x' * 10**6!r} is of no kind; leave it out"))
    assert len(message) < 2100
    assert message.startswith("a.pth: image 'xxx")
    assert message.endswith("xxx' is of no kind; leave it out")


def test_missing_extra_names_the_command():
    error = MissingExtraError.for_extra("ONNX export", "onnx")
    assert isinstance(error, ImportError)
    assert "pip install 'clipvg[onnx]'" in str(error)


@pytest.mark.parametrize(
    ("name", "choices", "expected"),
    [
        ("expresion", ["image", "expression"], "did you mean 'expression'?"),
        ("zzz", ["image", "box"], "choose from image, box"),
        ("zzz", [], "there are none"),
    ],
)
def test_near_matches(name, choices, expected):
    assert near_matches(name, choices) == expected
