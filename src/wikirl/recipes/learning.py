"""What a baseline's run asks of whatever learns, and behaviour cloning, the simplest that does.

This file knows one step of learning and how to stop and go on. It deliberately knows no run folder and no scores.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from wikirl.models.actions import action_codec
from wikirl.models.perceptron import Perceptron, PerceptronPolicy, fresh_layers
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.building import normalizer_of
from wikirl.reproducibility import generator, seed_everything
from wikirl.runs import Checkpoint
from wikirl.training.loop import Term, train
from wikirl.training.losses import action_loss
from wikirl.training.optimizer import (
    constant_after_warmup,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sampling import ContextSampler


@runtime_checkable
class Learner(Protocol):
    """Something that learns a policy step by step."""

    policy: PerceptronPolicy

    def steps(self, first_step: int) -> Iterator[dict[str, Any]]:
        """Learn from `first_step` to the last, yielding after each what metrics.jsonl says of it."""
        ...

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Half of what it takes to go on to the same bits, by file."""
        ...

    def state(self) -> dict[str, Any]:
        """The other half, as JSON."""
        ...

    def load(self, saved: Checkpoint) -> None:
        """Go on from there."""
        ...


class Cloning:
    """Behaviour cloning: predict what was done from what was seen.

    The loss is fine-tuning's, the squared error of vectors and the cross-entropy of choices.
    """

    def __init__(self, config: BaselineConfig, dataset: TrajectoryDataset, device: str) -> None:
        """Build the model and its optimizer under the run's seed."""
        assert config.num_layers is not None
        assert config.learning_rate is not None
        self._config, self._device = config, device
        seed_everything(config.seed)
        codec = action_codec(dataset.action_space)
        layers = fresh_layers(dataset.observation_space.size, config.hidden_size, config.num_layers, codec.size)
        self._model = Perceptron(layers, normalizer_of(dataset), codec).to(device)
        self.policy = PerceptronPolicy(self._model, dataset.observation_space, dataset.action_space)
        self._sampler = ContextSampler(dataset, 1, generator(config.seed, "batches"))
        parameters = list(self._model.parameters())
        self._optimizer = make_optimizer([{"params": parameters, "lr": config.learning_rate, "weight_decay": 0.0}])

    def steps(self, first_step: int) -> Iterator[dict[str, Any]]:
        """As `Learner`."""
        schedule = constant_after_warmup(0)
        for metrics in train(
            self._objective, self._optimizer, schedule,
            num_steps=self._config.num_steps, first_step=first_step, clip_norm=0.0,
        ):  # fmt: skip
            yield {
                "step": metrics.step,
                "loss": metrics.loss,
                **metrics.terms,
                "gradient_norm": metrics.gradient_norm,
                "learning_rate": metrics.learning_rate,
            }

    def _objective(self, _step: int) -> Mapping[str, Term]:
        batch = self._sampler.sample(self._config.batch_size).to(self._device)
        return {"action_loss": Term(action_loss(self._model(batch.observations), batch.actions, batch.mask))}

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """As `Learner`."""
        return {"model": self._model.state_dict(), "optimizer": optimizer_tensors(self._optimizer)}

    def state(self) -> dict[str, Any]:
        """As `Learner`."""
        return {"sampler": self._sampler.state()}

    def load(self, saved: Checkpoint) -> None:
        """As `Learner`."""
        self._model.load_state_dict(saved.tensors("model"))
        load_optimizer_tensors(self._optimizer, saved.tensors("optimizer"))
        self._sampler.load_state(saved.state["sampler"])
