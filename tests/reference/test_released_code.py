"""Our model against numbers that the authors' released code computed (data/; facts Q1–Q8 are in them).

Tolerances: 1e-5 absolute on outputs and losses, 1e-4 relative on the norms of updates.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.reference.released import (
    CASES,
    SHARED,
    UNTRAINED,
    annealing,
    batch_of,
    build,
    history_of,
    load_case,
    our_name,
)
from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.training.loop import StepMetrics, Term, train
from wikirl.training.losses import alignment_anneal, alignment_paper, alignment_released, masked_action_mse
from wikirl.training.optimizer import constant_after_warmup, make_optimizer, parameter_groups
from wikirl.types import TrajectoryBatch

CONTEXT_LENGTH = 20


def close(ours: Tensor, theirs: Any) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_outputs(case: str) -> None:
    arrays, model = load_case(case), build(case)
    batch = batch_of(arrays)
    prediction = model(batch)
    # What stands at padded positions means nothing, to them and to us.
    real = batch.mask.numpy()
    close(prediction.actions[batch.mask], arrays["action_predictions"][real])
    close(prediction.token_embeddings, arrays["token_embeddings_after_layernorm_before_time"])
    close(masked_action_mse(prediction.actions, batch.actions, batch.mask), arrays["masked_action_mse"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [1, 5, 20, 33])
def test_acting_on_a_history(case: str, n: int) -> None:
    arrays, model = load_case(case), build(case)
    window = history_of(arrays, n, CONTEXT_LENGTH)
    close(model(window).actions[0, -1], arrays[f"history{n}_action"])
    close(model.next_action(window)[0], arrays[f"history{n}_action"])


def test_alignment_losses() -> None:
    arrays, model = load_case(SHARED), build(SHARED)
    tokens, centres = model(batch_of(arrays)).token_embeddings, torch.from_numpy(arrays["cluster_centres"])
    everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool)
    close(alignment_released(tokens, centres), arrays["alignment_released"])
    close(
        alignment_released(tokens, centres, normalize=False),
        arrays["alignment_released_cotraining_unnormalised"],
    )
    close(alignment_paper(tokens, centres, everywhere), arrays["alignment_paper_max_cosine"])


def test_annealing() -> None:
    values = annealing()
    for step, main, cotraining in zip(values["step"], values["released"], values["released_cotraining"], strict=True):
        assert alignment_anneal(int(step), 5000) == pytest.approx(main, abs=1e-9)
        assert alignment_anneal(int(step), 15000) == pytest.approx(cotraining, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_three_optimizer_steps(case: str) -> None:
    arrays, model = load_case(case), build(case)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    losses = [metrics.loss for metrics in three_steps(case, arrays, model)]
    np.testing.assert_allclose(losses, arrays["three_step_losses"], rtol=0, atol=1e-5)
    after = dict(model.named_parameters())
    for name, norm, total in zip(arrays["update_names"], arrays["update_l2"], arrays["update_sum"], strict=True):
        if str(name).startswith(UNTRAINED):
            assert norm == 0
            continue
        if norm == 0 and our_name(str(name)) not in after:
            assert str(name) in ("transformer.wte.weight", "transformer.wpe.weight")
            continue
        change = (after[our_name(str(name))] - before[our_name(str(name))]).detach().double()
        assert change.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-9), name
        assert change.sum().item() == pytest.approx(
            total, rel=1e-3, abs=1e-4 * max(norm, 1e-9) * change.numel() ** 0.5
        ), name


def three_steps(case: str, arrays: dict[str, Any], model: DecisionTransformer) -> list[StepMetrics]:
    """The released training step and optimizer, three times."""
    pretrained, shared = case != "scratch", case == SHARED
    trained = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    groups = parameter_groups(
        "released",
        trained,
        model.own_parameters(),
        model.timestep_table if shared else None,
        learning_rate=1e-4,
        backbone_learning_rate=None,
        weight_decay=1e-4,
    )
    batches = [batch_of(arrays, prefix) for prefix in ("", "step2_", "step3_")]
    centres = torch.from_numpy(arrays["cluster_centres"]) if shared else None

    def objective(step: int) -> dict[str, Term]:
        batch: TrajectoryBatch = batches[step - 1]
        prediction = model(batch)
        terms = {"action_loss": Term(masked_action_mse(prediction.actions, batch.actions, batch.mask))}
        if centres is not None:
            value = alignment_released(prediction.token_embeddings, centres)
            terms["alignment_loss"] = Term(value, 0.1 * alignment_anneal(step, 5000))
        return terms

    optimizer = make_optimizer(groups, epsilon=1e-6 if pretrained else 1e-8)
    return list(train(objective, optimizer, constant_after_warmup(10_000), num_steps=3))


def test_the_released_optimizer_counts_the_shared_table_twice() -> None:
    sizes = {case: load_case(case)["parameter_group_sizes"].tolist() for case in CASES}
    model = build(SHARED)
    groups = parameter_groups(
        "released", list(model.backbone.parameters()), model.own_parameters(), model.timestep_table,
        learning_rate=1e-4, backbone_learning_rate=None, weight_decay=1e-4,
    )  # fmt: skip
    ours = sum(parameter.numel() for group in groups for parameter in group["params"])
    # Their language-model group is empty.
    assert sizes[SHARED] == [0, ours]
