import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from wikirl.training.losses import (
    action_loss,
    alignment_anneal,
    alignment_paper,
    alignment_released,
    masked_action_mse,
    masked_choice_accuracy,
    masked_choice_loss,
    next_token_loss,
)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


MASK = torch.tensor([[False, True, True], [True, True, True], [False, False, True]])


def test_masked_action_mse_is_a_mean_over_real_coordinates() -> None:
    predicted, actions = normal(3, 3, 2), normal(3, 3, 2, seed=1)
    errors = [
        (float(predicted[b, k, a]) - float(actions[b, k, a])) ** 2
        for b in range(3)
        for k in range(3)
        for a in range(2)
        if MASK[b, k]
    ]
    assert masked_action_mse(predicted, actions, MASK).item() == pytest.approx(sum(errors) / 12)


def test_padding_does_not_reach_the_action_loss() -> None:
    predicted, actions = normal(3, 3, 2).requires_grad_(), normal(3, 3, 2, seed=1)
    loss = masked_action_mse(predicted, actions, MASK)
    worse = torch.where(MASK[..., None], actions, torch.nan)
    assert masked_action_mse(predicted, worse, MASK) == loss
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert (gradient[~MASK] == 0).all()
    assert (gradient[MASK] != 0).all()


CHOICES = torch.tensor([[0, 3, 1], [2, 2, 0], [3, 1, 1]])


def test_masked_choice_loss_is_minus_the_mean_log_probability_of_real_steps() -> None:
    logits = normal(3, 3, 4) * 5
    nats = []
    for b, k in MASK.nonzero().tolist():
        weights = [math.exp(float(value)) for value in logits[b, k]]
        nats.append(-math.log(weights[int(CHOICES[b, k])] / sum(weights)))
    assert masked_choice_loss(logits, CHOICES, MASK).item() == pytest.approx(sum(nats) / 6)


def test_padding_does_not_reach_the_choice_loss() -> None:
    logits = normal(3, 3, 4).requires_grad_()
    loss = masked_choice_loss(logits, CHOICES, MASK)
    worse = torch.where(MASK, CHOICES, 1)
    assert masked_choice_loss(logits * torch.where(MASK, 1.0, 1e6)[..., None], worse, MASK) == loss
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~MASK] == 0).all()
    assert (gradient[MASK] != 0).all()


def test_masked_choice_accuracy_is_the_share_of_likeliest_choices() -> None:
    logits = normal(3, 3, 4)
    right = [int(logits[b, k].argmax()) == int(CHOICES[b, k]) for b, k in MASK.nonzero().tolist()]
    assert masked_choice_accuracy(logits, CHOICES, MASK).item() == pytest.approx(sum(right) / 6)
    perfect = functional.one_hot(CHOICES, 4).double() * 9
    assert masked_choice_accuracy(perfect, CHOICES, MASK) == 1
    assert masked_choice_accuracy(-perfect, CHOICES, MASK) == 0


def test_losses_of_stacked_runs_are_those_of_each() -> None:
    logits, vectors = normal(2, 3, 3, 4), normal(2, 3, 3, 4, seed=1)
    choices, mask = torch.stack([CHOICES, CHOICES.flip(0)]), torch.stack([MASK, MASK.flip(1)])
    for actions, alone in ((choices, masked_choice_loss), (vectors, masked_action_mse)):
        each = torch.stack([alone(logits[run], actions[run], mask[run]) for run in range(2)])
        torch.testing.assert_close(action_loss(logits, actions, mask), each)


def slow_alignment_paper(tokens: Tensor, centres: Tensor, mask: Tensor) -> Tensor:
    best = []
    for b, k in mask.nonzero().tolist():
        token = tokens[b, k]
        cosines = [token @ centre / (token.norm() * centre.norm()) for centre in centres]
        best.append(torch.stack(cosines).max())
    return -torch.stack(best).sum() / len(best)


def literal_alignment_released(tokens: Tensor, centres: Tensor, normalize: bool) -> Tensor:
    """The released code's einsum, all four dimensions of it."""
    if normalize:
        tokens = tokens / tokens.norm(dim=-1, keepdim=True)
        centres = centres / centres.norm(dim=-1, keepdim=True)
    return -torch.einsum("iaj,bj->iabj", tokens, centres).max(dim=2).values.mean()


@pytest.mark.parametrize("seed", range(5))
def test_alignment_paper_is_minus_the_mean_best_cosine(seed: int) -> None:
    tokens, centres = normal(3, 3, 5, seed=seed).requires_grad_(), normal(7, 5, seed=seed + 50)
    loss, expected = alignment_paper(tokens, centres, MASK), slow_alignment_paper(tokens, centres, MASK)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, tokens), torch.autograd.grad(expected, tokens), atol=1e-12, rtol=1e-9
    )
    assert -1 <= loss.item() <= 1


def test_alignment_paper_ignores_padding_and_lengths() -> None:
    tokens, centres = normal(3, 3, 5), normal(7, 5, seed=1)
    loss = alignment_paper(tokens, centres, MASK)
    torch.testing.assert_close(alignment_paper(tokens * 7, centres * 3, MASK), loss)
    assert alignment_paper(tokens.masked_fill(~MASK[..., None], torch.nan), centres, MASK) == loss
    assert alignment_paper(centres[None, :3] * 2, centres, MASK[:1]).item() == pytest.approx(-1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_alignment_released_is_the_literal_einsum(seed: int, normalize: bool) -> None:
    tokens, centres = normal(3, 4, 5, seed=seed).requires_grad_(), normal(7, 5, seed=seed + 50)
    centres[:, 0] = centres[:, 0].abs()  # one coordinate in which no centre is negative
    loss = alignment_released(tokens, centres, normalize=normalize)
    expected = literal_alignment_released(tokens, centres, normalize)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, tokens), torch.autograd.grad(expected, tokens))


@given(st.integers(0, 30_000), st.sampled_from([20, 5_000, 15_000]))
def test_annealing_falls_symmetrically_from_one_to_zero(step: int, anneal_steps: int) -> None:
    assert alignment_anneal(anneal_steps // 2, anneal_steps) == 0.5
    here, mirrored = alignment_anneal(step, anneal_steps), alignment_anneal(anneal_steps - step, anneal_steps)
    assert here + mirrored == pytest.approx(1)
    assert alignment_anneal(step + 1, anneal_steps) <= here
    assert here == pytest.approx(torch.sigmoid(torch.tensor(5 - 10 * step / anneal_steps).double()).item())


def test_annealing_at_its_ends() -> None:
    assert alignment_anneal(0, 100) == pytest.approx(1 / (1 + math.exp(-5)))
    assert alignment_anneal(100, 100) == pytest.approx(1 / (1 + math.exp(5)))
    assert alignment_anneal(10**9, 20) < 1e-300


def plain(hidden: Tensor, words: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy((hidden @ words.T).flatten(0, 1), targets.flatten())


def language(dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    targets = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(seed))
    hidden, words = normal(3, 7, 4, seed=seed, dtype=dtype), normal(11, 4, seed=seed + 1, dtype=dtype)
    return hidden.requires_grad_(), words.requires_grad_(), targets


# The head's sums are kept in float32 whatever comes in.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 2e-6), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("chunk", [1, 4, 21, 256])
def test_next_token_loss_is_cross_entropy(dtype: torch.dtype, tolerance: float, chunk: int) -> None:
    hidden, words, targets = language(dtype)
    loss = next_token_loss(hidden, words, targets, chunk)
    gradients = torch.autograd.grad(3.0 * loss, (hidden, words))
    exact = [value.detach().double().requires_grad_() for value in (hidden, words)]
    expected = plain(exact[0], exact[1], targets)
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for gradient, right, value in zip(
        gradients, torch.autograd.grad(3.0 * expected, exact), (hidden, words), strict=True
    ):
        assert gradient.dtype == value.dtype
        torch.testing.assert_close(gradient.double(), right, rtol=tolerance, atol=tolerance)


def test_next_token_loss_mixes_bfloat16_states_with_float32_words() -> None:
    hidden, words, targets = language(torch.float32)
    low = hidden.detach().bfloat16().requires_grad_()
    loss = next_token_loss(low, words, targets, chunk=5)
    expected = plain(hidden, words, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=3e-2)
    found, right = torch.autograd.grad(loss, words)[0], torch.autograd.grad(expected, words)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, right, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("chunk", [1, 4, 21, 256])
def test_without_gradients_it_is_the_same_number(chunk: int) -> None:
    hidden, words, targets = language(torch.float32)
    with torch.no_grad():
        loss = next_token_loss(hidden, words, targets, chunk)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(next_token_loss(hidden, words, targets).item(), rel=1e-6)


def test_gradients_pass_a_numerical_check_through_a_network() -> None:
    """The hand-written backward composes with autograd: a layer before it, the word table used twice."""
    hidden, words, targets = language(torch.float32)
    layer = torch.nn.Linear(4, 4)

    def gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, [words, *layer.parameters()])

    states = layer(hidden.detach() + words[targets])
    ours = gradients(next_token_loss(states, words, targets, chunk=6))
    torch.testing.assert_close(ours, gradients(plain(layer(hidden.detach() + words[targets]), words, targets)))


def test_what_is_frozen_gets_no_gradient() -> None:
    hidden, words, targets = language(torch.float32)
    for frozen in (hidden.detach(), words.detach()):
        one, other = (frozen, words) if frozen.shape == hidden.shape else (hidden, frozen)
        torch.autograd.backward(next_token_loss(one, other, targets))
        assert frozen.grad is None
    assert hidden.grad is not None
    assert words.grad is not None


def test_confident_mistakes_keep_their_size_and_gradient() -> None:
    hidden = torch.tensor([[[70.0]]], requires_grad=True)
    words, targets = torch.tensor([[1.0], [0.0]]), torch.tensor([[1]])
    loss = next_token_loss(hidden, words, targets)
    assert loss.item() == pytest.approx(70)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert gradient.item() == pytest.approx(1)
    with torch.no_grad():
        assert next_token_loss(hidden * 3, words, targets).item() == pytest.approx(210)
    assert next_token_loss(hidden * 3, words, targets).item() == pytest.approx(210)
