"""Decoders of Hugging Face as backbones: every property for every architecture, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertModel,
    CLIPConfig,
    Gemma3Config,
    T5Config,
    ViTConfig,
)

from tests.helpers import OBSERVATION_SIZE, random_batch, tiny_gpt, tiny_policy, tiny_transformer
from tests.models.decoders import ARCHITECTURES, VOCABULARY, write_decoder
from wikirl.errors import BackboneError, BundleError, ConfigError
from wikirl.kernels import draw_dropout_from
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.backbone import load_backbone, load_gpt, weights_fingerprint
from wikirl.models.bundle import load_policy, save_policy
from wikirl.models.sequence_model import Backbone
from wikirl.models.stacking import stack
from wikirl.training.losses import action_loss, masked_action_mse


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of one architecture."""
    return write_decoder(tmp_path_factory.mktemp("decoder"), request.param)


@pytest.fixture
def backbone(folder: str) -> Backbone:
    return load_backbone(folder).eval()


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder to be damaged."""
    return Path(write_decoder(tmp_path / "llama", "llama"))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def left_padded(*lengths: int, to: int) -> Tensor:
    return torch.arange(to) >= to - torch.tensor(lengths)[:, None]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def shapes(backbone: Backbone) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in backbone.state_dict().items()}


def names(backbone: Backbone, parameters: list[torch.nn.Parameter]) -> set[str]:
    chosen = {id(parameter) for parameter in parameters}
    return {name for name, parameter in backbone.named_parameters() if id(parameter) in chosen}


@torch.no_grad()
def test_text_runs_as_in_hugging_face(folder: str, backbone: Backbone) -> None:
    theirs: Any = AutoModel.from_pretrained(folder).eval()
    ids = torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(backbone(backbone.embed_tokens(ids)), theirs(ids).last_hidden_state)
    assert backbone.word_table is not None
    assert backbone.word_table.shape == (VOCABULARY, backbone.hidden_size)
    assert all(value.dtype == torch.float32 for value in backbone.state_dict().values())


@torch.no_grad()
def test_a_token_changes_nothing_before_it(backbone: Backbone) -> None:
    one, other = normal(2, 7, backbone.hidden_size), normal(2, 7, backbone.hidden_size, seed=1)
    for mask in (None, torch.ones(2, 7, dtype=torch.bool)):
        first = backbone(one, mask)
        for place in range(7):
            second = backbone(torch.cat([one[:, :place], other[:, place:]], dim=1), mask)
            close(second[:, :place], first[:, :place])
            assert not torch.isclose(first[:, place:], second[:, place:]).all(dim=-1).any()


@torch.no_grad()
@pytest.mark.parametrize("garbage", [0.0, 1e4])
def test_left_padding_is_invisible(backbone: Backbone, garbage: float) -> None:
    lengths, width = (7, 5, 1, 0), backbone.hidden_size
    embeddings, mask = normal(4, 7, width), left_padded(*lengths, to=7)
    found = backbone(torch.where(mask[..., None], embeddings, garbage * normal(4, 7, width, seed=1)), mask)
    assert torch.isfinite(found).all()
    for row, length in enumerate(lengths[:3]):
        close(found[row, 7 - length :], backbone(embeddings[row : row + 1, 7 - length :])[0])


def test_padding_leaves_no_trace_in_gradients(backbone: Backbone) -> None:
    embeddings, mask = normal(2, 5, backbone.hidden_size).requires_grad_(), left_padded(3, 1, to=5)
    backbone(embeddings, mask)[mask].square().sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad[~mask] == 0).all()
    assert torch.isfinite(embeddings.grad).all()
    assert (embeddings.grad[mask] != 0).any(dim=-1).all()


@torch.no_grad()
def test_a_row_alone_is_the_row_in_a_batch(backbone: Backbone) -> None:
    embeddings = normal(4, 9, backbone.hidden_size)
    together = backbone(embeddings)
    for row in range(4):
        close(backbone(embeddings[row : row + 1])[0], together[row])


@torch.no_grad()
@pytest.mark.parametrize("read", [slice(1, None, 3), slice(-2, -1), slice(-1, None)])
def test_some_positions_are_read(backbone: Backbone, read: slice) -> None:
    embeddings = normal(3, 9, backbone.hidden_size)
    for mask in (None, left_padded(9, 6, 3, to=9)):
        close(backbone(embeddings, mask, read), backbone(embeddings, mask)[:, read])


def test_every_parameter_learns_once_the_words_are_dropped(backbone: Backbone) -> None:
    before = sum(parameter.numel() for parameter in backbone.parameters())
    embeddings = normal(2, 6, backbone.hidden_size)
    expected = backbone(embeddings)
    backbone.drop_tables(words=True, positions=True)
    assert torch.equal(backbone(embeddings), expected)
    assert before - sum(parameter.numel() for parameter in backbone.parameters()) == VOCABULARY * backbone.hidden_size
    assert backbone.word_table is None
    with pytest.raises(TypeError, match="no word table"):
        backbone.embed_tokens(torch.zeros(1, 2, dtype=torch.long))
    backbone(embeddings).square().sum().backward()
    idle = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
    assert not idle
    assert "embed" not in {part for name in backbone.state_dict() for part in name.split(".")}


def test_there_are_no_positions_to_share(backbone: Backbone) -> None:
    assert backbone.position_table is None
    with pytest.raises(TypeError, match="no position table"):
        backbone.extend_positions(4)
    with pytest.raises(ConfigError, match="none"):
        tiny_transformer(backbone, share_positions=True)


@torch.no_grad()
def test_dropout_draws_from_its_own_generator_alone(backbone: Backbone) -> None:
    embeddings = normal(2, 6, backbone.hidden_size)
    dropping = backbone.with_dropout(embedding=0.1, attention=0.5, residual=0.5)
    assert weights_fingerprint(dropping) == weights_fingerprint(backbone)
    close(dropping.eval()(embeddings), backbone(embeddings))
    generator = torch.Generator().manual_seed(3)
    draw_dropout_from(dropping.train(), [generator])
    common = torch.get_rng_state()
    start = generator.get_state()
    first, second = dropping(embeddings), dropping(embeddings)
    assert torch.equal(torch.get_rng_state(), common)
    assert not torch.equal(first, second)
    torch.manual_seed(5)  # whatever the global generator does in between
    generator.set_state(start)
    assert torch.equal(dropping(embeddings), first)
    assert torch.equal(dropping(embeddings), second)
    still = dropping.with_dropout(embedding=0.0, attention=0.0, residual=0.0).train()
    assert torch.equal(still(embeddings), still(embeddings))


@pytest.mark.parametrize(
    ("architecture", "rates"),
    [
        ("gpt_neox", {"attention_dropout": 0.2, "hidden_dropout": 0.3, "classifier_dropout": 0.0}),
        ("opt", {"attention_dropout": 0.2, "dropout": 0.3, "layerdrop": 0.0}),
        ("llama", {"attention_dropout": 0.2}),
    ],
)
def test_the_rates_that_a_model_knows(tmp_path: Path, architecture: str, rates: dict[str, float]) -> None:
    backbone = load_backbone(write_decoder(tmp_path, architecture))
    description = backbone.with_dropout(embedding=0.1, attention=0.2, residual=0.3).to_json()
    assert {name: value for name, value in description["hugging_face"].items() if "drop" in name} == rates
    assert description["embedding_dropout"] == 0.1


def test_scratch_has_the_same_shapes_and_the_seeds_weights(backbone: Backbone) -> None:
    def drawn(seed: int) -> Backbone:
        torch.manual_seed(seed)
        return backbone.fresh()

    one, again, other = drawn(0), drawn(0), drawn(1)
    assert shapes(one) == shapes(again) == shapes(other) == shapes(backbone)
    assert len({weights_fingerprint(some) for some in (one, again, other, backbone)}) == 3
    assert weights_fingerprint(one) == weights_fingerprint(again)
    matrices = [name for name, value in one.named_parameters() if value.ndim == 2 and "A_log" not in name]
    assert all(not torch.equal(one.get_parameter(name), backbone.get_parameter(name)) for name in matrices)


def test_frozen_parameters_do_not_move(backbone: Backbone) -> None:
    in_blocks = names(backbone, list(backbone.blocks.parameters()))
    everything = names(backbone, list(backbone.parameters()))
    rest = names(backbone, backbone.all_but_norms())
    assert in_blocks
    assert all(".0." in name or ".1." in name for name in in_blocks)
    assert all("norm" in name or "ln_" in name for name in everything - rest)
    assert not any("layernorm" in name or "layer_norm" in name for name in rest)
    backbone.drop_tables(words=True, positions=True)
    for what, frozen in (("blocks", in_blocks), ("all_but_norms_and_projections", rest)):
        model = tiny_transformer(backbone)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        model.freeze(what)  # type: ignore[arg-type]
        before = {name: value.clone() for name, value in model.named_parameters()}
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        batch = random_batch()
        masked_action_mse(model(batch).actions, batch.actions, batch.mask).backward()
        optimizer.step()
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert {name for name in before if name.startswith("backbone.")} - moved == {
            f"backbone.{name}" for name in frozen if f"backbone.{name}" in before
        }


def play(policy: DecisionTransformerPolicy) -> list[bytes]:
    observations = normal(5, 2, OBSERVATION_SIZE).numpy()
    rewards = normal(5, 2).numpy()
    policy.reset(2, seed=0)
    return [policy.act(observations[t], rewards[t]).tobytes() for t in range(5)]


@pytest.mark.parametrize("words", [False, True])
def test_a_bundle_acts_the_same_to_the_bit(tmp_path: Path, backbone: Backbone, words: bool) -> None:
    backbone = backbone.with_dropout(embedding=0.25, attention=0.25, residual=0.125).eval()
    backbone.drop_tables(words=not words, positions=True)
    policy = tiny_policy(gpt=backbone)
    save_policy(policy, tmp_path / "policy", {})
    loaded = load_policy(tmp_path / "policy")
    assert play(loaded) == play(policy) == play(pickle.loads(pickle.dumps(policy)))
    assert loaded.model.backbone.to_json() == backbone.to_json()
    assert shapes(loaded.model.backbone) == shapes(backbone)
    assert "tmp" not in (tmp_path / "policy" / "config.json").read_text()


def test_choices_are_made_by_any_decoder(tmp_path: Path, backbone: Backbone) -> None:
    backbone.drop_tables(words=True, positions=True)
    policy = tiny_policy(gpt=backbone, action_selection="sampled")
    save_policy(policy, tmp_path / "policy", {})
    assert play(load_policy(tmp_path / "policy")) == play(policy)
    batch = random_batch((4, 2), choices=True)
    action_loss(policy.model(batch).actions, batch.actions, batch.mask).backward()
    trained = [value.grad for value in policy.model.own_parameters() if value.grad is not None]
    assert len(trained) == len(policy.model.own_parameters())
    assert all(gradient.abs().sum() > 0 for gradient in trained)


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "unheard-of"}, {"model_type": "bert"}, {"hidden_size": 8}, {"num_attention_heads": "two"}],
)
def test_a_bundle_of_something_else(tmp_path: Path, llama: Path, changes: dict[str, Any]) -> None:
    save_policy(tiny_policy(gpt=load_backbone(str(llama))), tmp_path / "policy", {})
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    config["backbone"]["hugging_face"].update(changes)
    (tmp_path / "policy" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError) as error:
        load_policy(tmp_path / "policy")
    assert "\n" not in str(error.value)


def test_what_only_gpt_2_does(llama: Path) -> None:
    policy = tiny_policy(gpt=load_backbone(str(llama)))
    with pytest.raises(ConfigError, match=r"GPT-2 family for cached acting.*--cached"):
        policy.cached = True
    with pytest.raises(ConfigError, match=r"GPT-2 family, to stack them"):
        stack([policy.model, policy.model])
    with pytest.raises(BackboneError, match=r"GPT-2 family; .* 'llama'"):
        load_gpt(str(llama))


def test_gpt_is_such_a_backbone_too() -> None:
    gpt = tiny_gpt()
    assert gpt.hidden_size == 16
    assert gpt.max_length is None
    assert gpt.blocks is gpt.h
    assert gpt.wte is not None
    assert gpt.word_table is gpt.wte.weight
    torch.manual_seed(0)
    assert shapes(gpt.fresh()) == shapes(gpt)
    assert names(gpt, gpt.all_but_norms()) == {name for name, _ in gpt.named_parameters() if ".ln_" not in f".{name}"}


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(name: Path | str) -> str:
    with pytest.raises(BackboneError) as error:
        load_backbone(str(name))
    assert "\n" not in str(error.value)
    assert str(name) in str(error.value)
    return str(error.value)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("config", [T5Config(), BartConfig(), ViTConfig(), CLIPConfig()])
def test_no_decoder_of_text(tmp_path: Path, config: Any) -> None:
    config.save_pretrained(tmp_path)
    message = refused(tmp_path)
    assert "expected a causal decoder of text" in message
    assert f"of type {config.model_type!r}" in message


def test_more_than_text(tmp_path: Path) -> None:
    Gemma3Config().save_pretrained(tmp_path)
    assert "takes more than text" in refused(tmp_path)


def test_an_encoder_is_found_out_by_what_it_does(tmp_path: Path) -> None:
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(tmp_path)
    assert "later tokens change what comes out at earlier ones" in refused(tmp_path)


def test_quantized_weights_and_foreign_code(llama: Path) -> None:
    change_config(llama, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "quantized" in refused(llama)
    code = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"}
    change_config(llama, **code)
    (llama / "evil.py").write_text("raise SystemExit('this ran')")
    refused(llama)


def test_a_config_does_not_choose_the_attention(llama: Path) -> None:
    """It could name a kernel on the hub."""
    change_config(llama, _attn_implementation="somebody/kernel")
    assert "kernel" not in json.dumps(load_backbone(str(llama)).to_json())


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "wide"},
        {"hidden_size": 20},
        {"num_attention_heads": 0},
        {"num_attention_heads": None},
        {"num_hidden_layers": 3},
        {"vocab_size": 31},
        {"hidden_act": "nonsense"},
        {"rope_parameters": {"rope_type": "nonsense"}},
    ],
)
def test_a_config_that_does_not_fit(llama: Path, changes: dict[str, Any]) -> None:
    change_config(llama, **changes)
    refused(llama)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_weights_cut_short(llama: Path, keep: int) -> None:
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(llama)
    path.unlink()
    refused(llama)


def test_a_weight_that_is_missing_is_not_made_up(folder: str, tmp_path: Path) -> None:
    tensors = load_file(Path(folder) / "model.safetensors")
    mine = [name for name in tensors if not name.startswith(("lm_head", "embed_out"))]
    (tmp_path / "config.json").write_text((Path(folder) / "config.json").read_text())
    for missing in (mine[0], mine[len(mine) // 2], mine[-1]):
        kept = {name: value for name, value in tensors.items() if name != missing}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        assert missing.split(".", 1)[1] in refused(tmp_path)


def test_the_head_is_not_needed(llama: Path) -> None:
    before = weights_fingerprint(load_backbone(str(llama)))
    change_weights(llama, lambda tensors: tensors.pop("lm_head.weight"))
    assert weights_fingerprint(load_backbone(str(llama))) == before


def test_a_decoder_without_blocks(llama: Path) -> None:
    change_config(llama, num_hidden_layers=0)
    assert "one list of blocks" in refused(llama)


def test_a_decoder_stored_without_its_encoder(tmp_path: Path) -> None:
    """Bart's decoder alone is causal, but its folder says encoder-decoder."""
    sizes: Any = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24}
    BartForCausalLM(BartConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(tmp_path)
    refused(tmp_path)
