from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from tests.helpers import TINY, randomize, tiny_gpt
from wikirl.models.backbone import from_hugging_face, from_hugging_face_config
from wikirl.models.gpt import GPT, GPTConfig

VARIANTS: list[dict[str, Any]] = [
    {"activation_function": "relu"},
    {"activation_function": "gelu_new", "n_head": 4},
    {"activation_function": "gelu", "n_head": 2, "n_inner": 20},
    {"activation_function": "gelu_pytorch_tanh", "layer_norm_epsilon": 1e-2},
    {"scale_attn_by_inverse_layer_idx": True, "n_head": 2, "n_layer": 3},
]


def their_config(**changes: Any) -> Any:
    dropouts = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)
    sizes = {"n_layer": 2, "n_head": 1, "n_embd": 16, "n_positions": 12, "vocab_size": 23}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    attention = {"attn_implementation": "eager"}
    return GPT2Config(**(sizes | dropouts | ends | attention | changes))


def ours_from(theirs: Any) -> GPT:
    gpt = GPT(from_hugging_face_config(theirs.config))
    gpt.load_state_dict(from_hugging_face(theirs.state_dict()))
    return gpt.eval()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def left_padded(*lengths: int, to: int) -> Tensor:
    return torch.arange(to) >= to - torch.tensor(lengths)[:, None]


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("padded", [False, True])
def test_hidden_states_are_those_of_hugging_face(variant: dict[str, Any], padded: bool) -> None:
    theirs: Any = GPT2Model(their_config(**variant))
    randomize(theirs.eval())
    theirs.wpe.weight.zero_()
    embeddings = normal(3, 9, 16)
    mask = left_padded(9, 5, 1, to=9) if padded else None
    expected = theirs(inputs_embeds=embeddings, attention_mask=None if mask is None else mask.long())
    found = ours_from(theirs)(embeddings, mask)
    real = slice(None) if mask is None else mask
    torch.testing.assert_close(found[real], expected.last_hidden_state[real], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_of_text_are_those_of_hugging_face(variant: dict[str, Any]) -> None:
    theirs: Any = GPT2LMHeadModel(their_config(**variant))
    randomize(theirs.eval())
    ids = torch.randint(23, (2, 12), generator=torch.Generator().manual_seed(0))
    ours = ours_from(theirs)
    assert ours.wte is not None
    logits = ours(ours.embed_tokens(ids)) @ ours.wte.weight.T
    torch.testing.assert_close(logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_variants_really_differ() -> None:
    def hidden(**changes: Any) -> Tensor:
        return torch.as_tensor(tiny_gpt(**changes)(normal(1, 6, 16)))

    base = hidden(activation="gelu_new")
    for changes in (
        {"activation": "relu"},
        {"activation": "gelu"},
        {"scale_by_inverse_layer": True},
        {"num_heads": 1},
    ):
        assert not torch.equal(hidden(**changes), base), changes


@given(st.integers(0, 9), st.integers(0, 100), st.booleans())
def test_a_token_changes_nothing_before_it(place: int, seed: int, masked: bool) -> None:
    gpt = tiny_gpt()
    one = normal(2, 10, 16, seed=seed)
    other = one.clone()
    other[:, place:] = normal(2, 10 - place, 16, seed=seed + 1)
    mask = torch.ones(2, 10, dtype=torch.bool) if masked else None
    with torch.no_grad():
        first, second = gpt(one, mask), gpt(other, mask)
    torch.testing.assert_close(first[:, :place], second[:, :place], rtol=1e-5, atol=1e-5)
    assert not torch.isclose(first[:, place:], second[:, place:]).all(dim=-1).any()


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.sampled_from([0.0, 1.0, 1e4]), st.integers(0, 100))
def test_left_padding_is_invisible(lengths: list[int], garbage: float, seed: int) -> None:
    gpt, mask = tiny_gpt(), left_padded(*lengths, to=7)
    embeddings = normal(len(lengths), 7, 16, seed=seed)
    padded = torch.where(mask[..., None], embeddings, garbage * normal(len(lengths), 7, 16, seed=seed + 1))
    with torch.no_grad():
        found = gpt(padded, mask)
        assert torch.isfinite(found).all()
        for row, length in enumerate(lengths):
            if length:
                alone = gpt(embeddings[row : row + 1, 7 - length :])
                torch.testing.assert_close(found[row, 7 - length :], alone[0], rtol=1e-4, atol=1e-5)


def test_padding_leaves_no_trace_in_gradients() -> None:
    gpt, mask = tiny_gpt(), left_padded(3, 1, to=5)
    embeddings = normal(2, 5, 16).requires_grad_()
    gpt(embeddings, mask)[mask].sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad[~mask] == 0).all()
    assert torch.isfinite(embeddings.grad).all()


@torch.no_grad()
def test_a_row_alone_is_the_row_in_a_batch() -> None:
    gpt, embeddings = tiny_gpt(), normal(4, 9, 16)
    together = gpt(embeddings)
    for row in range(4):
        torch.testing.assert_close(gpt(embeddings[row : row + 1])[0], together[row], rtol=1e-5, atol=1e-5)


def test_dropout_only_while_training() -> None:
    quiet: dict[str, Any] = {"embedding_dropout": 0.0, "attention_dropout": 0.0, "residual_dropout": 0.0}
    for name in quiet:
        gpt = tiny_gpt(**{**quiet, name: 0.5})
        embeddings = normal(1, 6, 16)
        assert torch.equal(gpt(embeddings), gpt(embeddings))
        gpt.train()
        assert not torch.equal(gpt(embeddings), gpt(embeddings)), name
    still = tiny_gpt(**quiet).train()
    assert torch.equal(still(embeddings), still(embeddings))


def test_initial_weights_have_the_spread_of_gpt2() -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(num_layers=2, hidden_size=64, inner_size=256, vocab_size=200))
    for name, value in gpt.named_parameters():
        if name.endswith("bias"):
            assert (value == 0).all(), name
        elif ".ln_" in f".{name}":
            assert (value == 1).all(), name
        else:
            expected = 0.02 / 2 if name.endswith("c_proj.weight") else 0.02
            assert value.std().item() == pytest.approx(expected, rel=0.05), name


@given(st.integers(1, 30))
def test_longer_position_tables_repeat_the_first_rows(num_positions: int) -> None:
    gpt = tiny_gpt()
    assert gpt.wpe is not None
    before = gpt.wpe.weight.detach().clone()
    gpt.extend_positions(num_positions)
    table = gpt.wpe.weight
    assert len(table) == gpt.config.num_positions == max(num_positions, 8)
    assert table.requires_grad
    for row in range(len(table)):
        assert torch.equal(table[row], before[row % 8])


def test_tables_can_be_dropped_or_missing() -> None:
    gpt = tiny_gpt()
    embeddings = normal(1, 4, 16)
    before = gpt(embeddings)
    gpt.drop_tables(words=True, positions=True)
    assert torch.equal(gpt(embeddings), before)
    assert not {name for name in gpt.state_dict() if name.startswith(("wte", "wpe"))}
    assert (gpt.config.vocab_size, gpt.config.num_positions) == (0, 0)
    assert GPT(gpt.config).state_dict().keys() == gpt.state_dict().keys()
    with pytest.raises(TypeError, match="no word or position table"):
        gpt.embed_tokens(torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(TypeError, match="no position table"):
        gpt.extend_positions(4)
    kept = tiny_gpt()
    kept.drop_tables(words=False, positions=False)
    assert kept.config == TINY
