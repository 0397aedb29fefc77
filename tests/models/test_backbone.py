import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, GPT2LMHeadModel, LlamaConfig

from tests.helpers import TINY, tiny_gpt
from wikirl.errors import BackboneError
from wikirl.kernels import Activation
from wikirl.models.backbone import (
    from_hugging_face_config,
    load_backbone,
    load_gpt,
    save_backbone,
    to_hugging_face_config,
    weights_fingerprint,
)
from wikirl.models.gpt import GPT


def refused(name: Path | str) -> str:
    with pytest.raises(BackboneError) as error:
        load_backbone(str(name))
    assert "\n" not in str(error.value)
    return str(error.value)


def same_weights(one: GPT, other: GPT) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("activation", Activation.__args__)  # type: ignore[attr-defined]
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, activation: Activation) -> None:
    dropouts: dict[str, Any] = {"embedding_dropout": 0.1, "attention_dropout": 0.2, "residual_dropout": 0.3}
    gpt = tiny_gpt(activation=activation, scale_by_inverse_layer=True, layer_norm_epsilon=1e-4, **dropouts)
    save_backbone(gpt, tmp_path / "model", end_token=3)
    loaded = load_gpt(str(tmp_path / "model"))
    assert same_weights(loaded, gpt)
    assert loaded.config == gpt.config
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]


def test_transformers_reads_it_without_a_missing_key(tmp_path: Path) -> None:
    gpt = tiny_gpt()
    save_backbone(gpt, tmp_path, end_token=3)
    read: Any = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    theirs, info = read
    assert {name: list(keys) for name, keys in info.items() if keys} == {}
    ids = torch.arange(8)[None]
    assert gpt.wte is not None
    with torch.no_grad():
        expected = gpt(gpt.embed_tokens(ids)) @ gpt.wte.weight.T
        torch.testing.assert_close(theirs.eval()(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert theirs.config.eos_token_id == theirs.config.bos_token_id == 3


def test_weights_can_be_stored_smaller(tmp_path: Path) -> None:
    gpt = tiny_gpt()
    save_backbone(gpt, tmp_path, end_token=0, dtype=torch.bfloat16)
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    loaded = load_backbone(str(tmp_path))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, gpt.state_dict()[name].bfloat16().float()), name


def test_configurations_translate_both_ways() -> None:
    for config in (TINY, tiny_gpt(inner_size=64, activation="relu").config):
        assert from_hugging_face_config(to_hugging_face_config(config, end_token=0)) == config


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    monkeypatch.chdir(tmp_path)
    assert "no folder" in refused(tmp_path / "nowhere")
    for name in ("nowhere", "no/where", "./nowhere", "~/nowhere", "no/where/at/all", "", "two words", "a//b"):
        assert repr(name) in refused(name)


def write_model(folder: Path) -> Path:
    save_backbone(tiny_gpt(), folder, end_token=0)
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (write_model(tmp_path) / "model.safetensors").unlink()
    assert "model.safetensors" in refused(tmp_path)
    (tmp_path / "config.json").unlink()
    refused(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", '"gpt2"', '{"model_type": "unheard-of"}'])
def test_a_config_of_something_else(tmp_path: Path, content: str) -> None:
    (write_model(tmp_path) / "config.json").write_text(content)
    assert str(tmp_path) in refused(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_embd": "wide"},
        {"n_embd": 20},
        {"n_head": 3},
        {"n_head": 0},
        {"n_layer": 3},
        {"vocab_size": 31},
        {"n_layer": None},
        {"activation_function": "silu"},
        {"scale_attn_weights": False},
    ],
)
def test_a_config_that_does_not_fit(tmp_path: Path, changes: dict[str, Any]) -> None:
    change_config(write_model(tmp_path), **changes)
    refused(tmp_path)


@pytest.mark.parametrize("config", [BertConfig(), LlamaConfig()])
def test_another_family_where_only_gpt_2_will_do(tmp_path: Path, config: Any) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=f"GPT-2 family; .* is of type '{config.model_type}'"):
        load_gpt(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_weights_cut_short(tmp_path: Path, keep: int) -> None:
    path = write_model(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert str(tmp_path) in refused(tmp_path)


@pytest.mark.parametrize("name", ["transformer.h.1.mlp.c_fc.weight", "transformer.wpe.weight", "transformer.ln_f.bias"])
def test_a_weight_that_is_missing_is_not_made_up(tmp_path: Path, name: str) -> None:
    change_weights(write_model(tmp_path), lambda tensors: tensors.pop(name))
    assert name.removeprefix("transformer.") in refused(tmp_path)


def test_dropout_rates_change_and_weights_do_not() -> None:
    gpt = tiny_gpt()
    other = gpt.with_dropout(embedding=0.1, attention=0.2, residual=0.3)
    config = other.config
    assert (config.embedding_dropout, config.attention_dropout, config.residual_dropout) == (0.1, 0.2, 0.3)
    assert same_weights(gpt, other)
    assert weights_fingerprint(other) == weights_fingerprint(gpt)


def test_the_fingerprint_follows_every_weight() -> None:
    gpt = tiny_gpt()
    before = weights_fingerprint(gpt)
    assert weights_fingerprint(tiny_gpt()) == before
    for parameter in gpt.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        assert weights_fingerprint(gpt) != before
        before = weights_fingerprint(gpt)
