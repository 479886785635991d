"""Loading Hugging Face models: what is refused, and with which message."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from support.pretrained import save

from clipvg.errors import InputError, MissingExtraError
from clipvg.observe.loading import import_transformers, load_pretrained

HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None


@pytest.mark.skipif(HAS_TRANSFORMERS, reason="transformers is installed")
def test_without_the_extra_the_command_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'clipvg\[observe\]'"):
        import_transformers()


@pytest.mark.transformers
class TestRefused:
    def test_a_folder_without_a_model(self, tmp_path) -> None:
        with pytest.raises(InputError, match=r"no config\.json in this folder"):
            load_pretrained(str(tmp_path), "detector")

    @pytest.mark.parametrize("name", ["/no/such/model", "./model", "a/b/c"])
    def test_a_folder_that_is_not_there(self, name: str) -> None:
        with pytest.raises(InputError, match="no such folder"):
            load_pretrained(name, "detector")

    def test_a_hub_out_of_reach_says_how_to_do_without(self, monkeypatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(InputError, match="hf download org/model --local-dir FOLDER") as error:
            load_pretrained("org/model", "detector")
        assert "\n" not in str(error.value)

    def test_what_is_neither_is_said(self) -> None:
        with pytest.raises(InputError, match="neither a folder nor a hub name"):
            load_pretrained("no such model", "detector")

    def test_a_damaged_configuration(self, tmp_path) -> None:
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(InputError, match="cannot be loaded"):
            load_pretrained(str(tmp_path), "detector")

    def test_a_model_of_another_kind(self, tmp_path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "owlv2"}')
        with pytest.raises(InputError, match="another kind, open-vocabulary detector"):
            load_pretrained(str(tmp_path), "detector")
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(InputError, match="'bert' is something else; name one such as DETR"):
            load_pretrained(str(tmp_path), "detector")

    def test_code_of_a_repository_is_not_run(self, tmp_path) -> None:
        (tmp_path / "config.json").write_text(
            '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}'
        )
        (tmp_path / "own.py").write_text("raise SystemExit('it was run')")
        with pytest.raises(InputError, match="cannot be loaded"):
            load_pretrained(str(tmp_path), "detector")

    def test_pickled_weights_run_no_code(self, tmp_path) -> None:
        save("detr", tmp_path)
        (tmp_path / "model.safetensors").unlink()

        class Exit:
            def __reduce__(self):
                return exec, ("raise SystemExit('it was run')",)

        torch.save({"weight": Exit()}, tmp_path / "pytorch_model.bin")
        with pytest.raises(InputError, match="hold more than tensors"):
            load_pretrained(str(tmp_path), "detector")
