"""The terms of a loss on trajectories, the same for a run alone and for runs stacked in one model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.recipes.settings import Alignment
from wikirl.training.loop import Term
from wikirl.training.losses import action_loss, alignment_paper, alignment_released
from wikirl.training.recorded import Recorded
from wikirl.types import TrajectoryBatch


@dataclass(frozen=True)
class TrajectoryObjective:
    """Action error and, if there are centres, alignment; of R stacked runs each term is `[R]`.

    Attributes:
        model: What is trained.
        alignment: Which form of the alignment loss.
        centres: Word-cluster centres, `[C,D]` or `[R,C,D]`; None for no alignment.
        alignment_weight: A number, or one for each run.
        autocast: Precision of products; None for float32.
    """

    model: DecisionTransformer
    alignment: Alignment
    centres: Tensor | None
    alignment_weight: float | Tensor
    autocast: torch.dtype | None

    def terms(self, batch: TrajectoryBatch, anneal: float | Tensor) -> dict[str, Term]:
        """The terms of the loss on a batch; `anneal` is the factor on the alignment's weight."""
        by_run = self.model.by_run
        with torch.autocast(batch.mask.device.type, self.autocast, enabled=self.autocast is not None):
            prediction = self.model(batch)
        mask = by_run(batch.mask)
        terms = {"action_loss": Term(action_loss(by_run(prediction.actions), by_run(batch.actions), mask))}
        if self.centres is not None:
            tokens = by_run(prediction.token_embeddings.float())
            value = (
                alignment_paper(tokens, self.centres, mask.repeat_interleave(3, dim=-1))
                if self.alignment == "paper"
                else alignment_released(tokens, self.centres)
            )
            terms["alignment_loss"] = Term(value, self.alignment_weight * anneal)
        return terms


def record(objective: TrajectoryObjective, generators: Sequence[torch.Generator]) -> Recorded:
    """`objective.terms` for a GPU, as a function of the tensors of a batch followed by the factor."""

    def terms(*tensors: Tensor) -> dict[str, Term]:
        *fields, anneal = tensors
        return objective.terms(TrajectoryBatch(*fields), anneal)

    return Recorded(terms, [p for p in objective.model.parameters() if p.requires_grad], generators)
