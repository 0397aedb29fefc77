"""What a starting point cost to pre-train: of shipped backbones by their cards, of others by the run beside them."""

from wikirl.models.backbone import SHIPPED, backbone_folder
from wikirl.models.perturbed import perturbation_of
from wikirl.reports.suite_file import Pretraining
from wikirl.runs import read_json

_MATCHED = 28_672_000  # tokens: 7,000 steps of 4 × 1,024
# Tokens and minutes of the shipped backbones, by their cards; all but chibit-28m on a core in use.
_CARDS = {
    "chibit": (67_174_400, 181.0),
    "chibit-28m": (_MATCHED, 79.0),
    "chibit-shuffled": (_MATCHED, 94.0),
    "chibit-markov": (_MATCHED, 88.0),
    "chibit-iid": (_MATCHED, 81.0),
}
assert _CARDS.keys() == set(SHIPPED)


def pretraining_of(backbone: str) -> Pretraining | None:
    """Tokens and seconds of a pre-training, where anybody wrote them down; None for random weights.

    A disturbed backbone costs what the undisturbed one cost, whose weights it needs.
    """
    if perturbation := perturbation_of(backbone):
        return pretraining_of(perturbation.backbone)
    if backbone in _CARDS:
        tokens, minutes = _CARDS[backbone]
        return Pretraining(tokens, 60.0 * minutes, "its card; minutes of one core")
    summary = backbone_folder(backbone) / "pretraining" / "summary.json"
    if not summary.exists():
        return None
    found = read_json(summary)
    return Pretraining(found["num_tokens_seen"], 60.0 * found["minutes"], "its pre-training run")
