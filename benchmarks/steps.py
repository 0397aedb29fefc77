"""One training step of each library at equal shape, batch and dropout; imports happen where they are used.

Ours is the recipe's own session, so that what is measured is what `wikirl finetune` runs: sampler, model, losses, loop
and optimizer. Hugging Face's has no data loading, which favours it; d3rlpy's samples from its own replay buffer.
"""

import atexit
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from shapes import ACTION_SIZE, CONTEXT_LENGTH, DECISION_TRANSFORMER, MAX_TIMESTEPS, OBSERVATION_SIZE, Shape

DATASET = "hopper-medium-replay"
Step = Callable[[], object]
Precision = Literal["float32", "bfloat16"]


def temporary_folder() -> Path:
    """A folder that lives as long as this process."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def our_step(
    precision: Precision,
    batch_size: int,
    *,
    shape: Shape = DECISION_TRANSFORMER,
    alignment: str = "none",
    cotraining_corpus: str | None = None,
    dataset: str = f"builtin:{DATASET}",
) -> Step:
    """A step of `wikirl finetune` on the shipped Hopper data, with ChibiT or, in another shape, from scratch."""
    from dataclasses import replace

    from wikirl.kernels import keep_freed_memory
    from wikirl.models.gpt import GPT, GPTConfig
    from wikirl.recipes.finetune import Session, prepare
    from wikirl.recipes.settings import FinetuneConfig
    from wikirl.reproducibility import choose_precision
    from wikirl.runs import Run

    config = FinetuneConfig(
        dataset=dataset, environment="Hopper-v5", batch_size=batch_size, context_length=CONTEXT_LENGTH,
        alignment=cast(Any, alignment), cotraining_corpus=cotraining_corpus,
    )  # fmt: skip
    keep_freed_memory()  # as `wikirl finetune` does; whoever shares the process gets it too
    prepared = prepare(config, choose_precision(precision, "cpu"))
    if shape != DECISION_TRANSFORMER:
        architecture = GPTConfig(
            num_layers=shape.num_layers, num_heads=shape.num_heads, hidden_size=shape.hidden_size,
            inner_size=4 * shape.hidden_size, activation=cast(Any, shape.activation),
        )  # fmt: skip
        prepared = replace(prepared, backbone=GPT(architecture))
    steps = Session(prepared, Run(temporary_folder(), {}, {}), "cpu").steps()
    return lambda: next(steps)


def hugging_face_step(batch_size: int, shape: Shape = DECISION_TRANSFORMER) -> Step:
    """Forward, masked action error, backward, clipping and AdamW on a batch that is there already."""
    import torch
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    config = DecisionTransformerConfig(
        state_dim=OBSERVATION_SIZE, act_dim=ACTION_SIZE, max_ep_len=MAX_TIMESTEPS, hidden_size=shape.hidden_size,
        n_layer=shape.num_layers, n_head=shape.num_heads, activation_function=shape.activation,
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = DecisionTransformerModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    window = (batch_size, CONTEXT_LENGTH)
    actions, mask = torch.rand(*window, ACTION_SIZE) * 2 - 1, torch.ones(window, dtype=torch.long)
    batch = {
        "states": torch.randn(*window, OBSERVATION_SIZE),
        "actions": actions,
        "rewards": torch.randn(*window, 1),
        "returns_to_go": torch.randn(*window, 1),
        "timesteps": torch.randint(MAX_TIMESTEPS, window),
        "attention_mask": mask,
    }

    def step() -> None:
        predicted = model(**batch).action_preds
        loss = torch.nn.functional.mse_loss(predicted[mask > 0], actions[mask > 0])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        loss.item()

    return step


def d3rlpy_step(batch_size: int) -> tuple[Step, Step]:
    """A training step as d3rlpy's `fit` does it, and the sampling of its batch alone.

    Source: d3rlpy 2.8.0, `TransformerAlgoBase.fit` and `reproductions/offline/decision_transformer.py`.
    """
    d3rlpy = _import_d3rlpy()
    algorithm = d3rlpy_algorithm(batch_size)
    algorithm.create_impl((OBSERVATION_SIZE,), ACTION_SIZE)
    buffer = d3rlpy.dataset.MDPDataset(**_hopper_arrays())

    def sample() -> Any:
        return buffer.sample_trajectory_batch(batch_size, length=CONTEXT_LENGTH)

    return lambda: algorithm.update(sample()), sample


def d3rlpy_algorithm(batch_size: int = 64) -> Any:
    """d3rlpy's Decision Transformer in our shape, not built yet."""
    import numpy as np

    d3rlpy = _import_d3rlpy()
    config = d3rlpy.algos.DecisionTransformerConfig(
        batch_size=batch_size, context_size=CONTEXT_LENGTH, max_timestep=MAX_TIMESTEPS,
        num_heads=DECISION_TRANSFORMER.num_heads, num_layers=DECISION_TRANSFORMER.num_layers,
        attn_dropout=0.1, resid_dropout=0.1, embed_dropout=0.1, activation_type=DECISION_TRANSFORMER.activation,
        encoder_factory=d3rlpy.models.VectorEncoderFactory(
            [DECISION_TRANSFORMER.hidden_size], exclude_last_activation=True
        ),
        optim_factory=d3rlpy.optimizers.AdamWFactory(weight_decay=1e-4, clip_grad_norm=0.25),
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(
            mean=np.zeros(OBSERVATION_SIZE), std=np.ones(OBSERVATION_SIZE)
        ),
        reward_scaler=d3rlpy.preprocessing.MultiplyRewardScaler(0.001),
    )  # fmt: skip
    return config.create(device=False)


def _import_d3rlpy() -> Any:
    """d3rlpy without its log lines, which it prints to standard output."""
    import d3rlpy
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return d3rlpy


def _hopper_arrays() -> dict[str, Any]:
    """The shipped Hopper data without our reader, so that a peer's memory is its own."""
    import h5py

    path = Path(__file__).parents[1] / f"src/wikirl/assets/trajectories/{DATASET}.hdf5"
    with h5py.File(path) as file:
        return {name: file[name][:] for name in ("observations", "actions", "rewards", "terminals", "timeouts")}
