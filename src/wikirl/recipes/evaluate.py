"""`wikirl evaluate`: score a saved policy in its environment, or on held-out episodes where there is none."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wikirl.errors import ConfigError, RunError
from wikirl.evaluation.environments import EnvironmentSpec, describe_environment
from wikirl.evaluation.parallel import rollout_in_processes, sensible_num_processes
from wikirl.evaluation.protocol import stamp_protocol
from wikirl.evaluation.references import ReferenceScore, choose_reference
from wikirl.evaluation.rollout import Rollout, rollout
from wikirl.evaluation.scores import Evaluation
from wikirl.kernels import keep_freed_memory
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.bundle import load_policy
from wikirl.reproducibility import choose_device, generator
from wikirl.runs import read_json, write_json
from wikirl.training.losses import action_loss, masked_choice_accuracy
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sampling import consecutive_windows
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.transforms import delayed_reward as delay
from wikirl.trajectories.transforms import split_episodes
from wikirl.types import ActionSelection, Space


def score(  # noqa: PLR0913 - one argument for each setting of a score
    policy: DecisionTransformerPolicy,
    environment: str,
    target_returns: Sequence[float],
    *,
    num_episodes: int,
    seed: int,
    step: int,
    delayed_reward: bool = False,
    num_processes: int = 1,
    reference: ReferenceScore | None = None,
) -> list[Evaluation]:
    """One evaluation per target return, all from the same starting states, under a progress bar."""
    evaluations = []
    asked_before = policy.target_return
    for target in target_returns:
        policy.target_return = target
        settings: dict[str, Any] = {"num_episodes": num_episodes, "seed": seed, "delayed_reward": delayed_reward}
        if num_processes > 1:
            with tqdm(desc=f"scoring, target {target:g}", total=num_episodes, unit="episode", leave=False) as bar:
                episodes = rollout_in_processes(
                    policy, environment, num_processes=num_processes, on_share=bar.update, **settings
                )
        else:
            episodes = _rollout_under_a_bar(policy, environment, settings)
        evaluations.append(Evaluation.of(environment, step, target, episodes.returns, episodes.lengths, reference))
    policy.target_return = asked_before
    return evaluations


def _rollout_under_a_bar(policy: DecisionTransformerPolicy, environment: str, settings: dict[str, Any]) -> Rollout:
    with tqdm(desc=f"scoring, target {policy.target_return:g}", unit="step", leave=False) as bar:

        def show(_step: int, live: int) -> None:
            bar.set_postfix(running=live, refresh=False)
            bar.update()

        return rollout(policy, environment, on_step=show, **settings)


@torch.no_grad()
def held_out_errors(
    policy: DecisionTransformerPolicy, dataset: TrajectoryDataset, batch_size: int = 64
) -> dict[str, float]:
    """How predicted actions compare with those of a dataset, over its every step, in consecutive windows.

    Returns:
        `held_out_action_error`, the action loss; of choices also `held_out_action_accuracy`, the share that is the
        model's likeliest.
    """
    policy.model.eval()
    measures: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"held_out_action_error": action_loss}
    if policy.action_space.is_discrete:
        measures["held_out_action_accuracy"] = masked_choice_accuracy
    totals, steps = dict.fromkeys(measures, 0.0), 0
    device = str(policy.model.normalizer.mean.device)
    for batch in consecutive_windows(dataset, policy.context_length, batch_size):
        batch = batch.to(device)
        count = int(batch.mask.sum())
        predicted = policy.model(batch).actions
        for name, measure in measures.items():
            totals[name] += measure(predicted, batch.actions, batch.mask).item() * count
        steps += count
    return {name: total / steps for name, total in totals.items()}


def split(dataset: TrajectoryDataset, fraction: float, seed: int) -> tuple[TrajectoryDataset, TrajectoryDataset | None]:
    """Training and held-out episodes; the same split for the same seed."""
    return split_episodes(dataset, fraction, generator(seed, "held-out")) if fraction else (dataset, None)


def check_fit(spec: EnvironmentSpec, dataset_or_policy: TrajectoryDataset | DecisionTransformerPolicy) -> None:
    """Refuse an environment whose observations or actions have another shape, or other choices.

    Raises:
        ConfigError: shapes or numbers of choices differ.
    """
    for kind in ("observation", "action"):
        theirs, ours = (_described(getattr(owner, f"{kind}_space")) for owner in (spec, dataset_or_policy))
        if theirs != ours:
            raise ConfigError(
                f"expected {spec.id} to have {kind}s of {ours}, as in the data; found {theirs}; "
                "choose the environment that the data were made in"
            )


def _described(space: Space) -> str:
    return f"shape {space.shape}" if space.n is None else f"{space.n} choices"


def evaluate_run(  # noqa: PLR0913 - one argument for each flag
    folder: Path | str,
    *,
    environment: str | None = None,
    target_returns: Sequence[float] | None = None,
    num_episodes: int = 100,
    seed: int = 0,
    cached: bool = False,
    action_selection: ActionSelection | None = None,
    num_processes: int | None = None,
    reference: Sequence[float] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Score the policy a run left behind and keep the result in its `evaluations/`.

    Args:
        folder: A run folder.
        environment: Gymnasium id; default: the run's own. Without either, the held-out action error is computed.
        target_returns: Returns to ask for; default: the run's.
        num_episodes: Episodes per target.
        seed: Seed of the episodes.
        cached: Act with kept keys and values: faster, and another policy once the window is full. Some episodes are
            played exactly as well, to say what difference it makes.
        action_selection: How choices are made; default: as the run says.
        num_processes: How many processes share the episodes; default: as many as help.
        reference: Returns that a normalised score puts at 0 and 100; default: the run's, else the published ones, else
            the data's own.
        device: Where the policy runs.

    Raises:
        RunError: the folder is no finished run.
        ConfigError: the environment does not fit the policy, a count is not positive, the backbone does not act
            cached, or a way to choose is given for actions that are vectors.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise RunError(f"expected a run folder (config.json, policy/) at {folder}; found none; see wikirl finetune")
    config = read_json(folder / "config.json")
    if not (folder / "policy").is_dir():
        raise RunError(
            f"expected a finished run at {folder}; it has no policy yet; run the same wikirl finetune command again"
        )
    if num_processes is not None and num_processes < 1:
        raise ConfigError(f"expected num_processes of at least 1; found {num_processes}")
    keep_freed_memory()
    device = choose_device(device)
    policy = load_policy(folder / "policy", device)
    policy.cached = cached
    policy.action_selection = action_selection or policy.action_selection
    environment = environment or config["environment"]
    if environment is None:
        return _keep(folder, "held-out", _held_out_result(policy, config))
    check_fit(describe_environment(environment), policy)
    targets = tuple(target_returns or config["target_returns"])
    scale = choose_reference(
        environment, given=reference or config.get("reference"), own=config.get("dataset_reference"),
        own_environment=config["dataset_environment"],
    )  # fmt: skip
    processes = num_processes or (sensible_num_processes(num_episodes) if device == "cpu" else 1)
    settings: dict[str, Any] = {
        "seed": seed, "step": config["num_steps"], "delayed_reward": config["delayed_reward"],
        "num_processes": processes, "reference": scale,
    }  # fmt: skip
    evaluations = score(policy, environment, targets, num_episodes=num_episodes, **settings)
    differences: list[dict[str, Any]] = [{} for _ in targets]
    if cached:
        policy.cached = False
        few = min(num_episodes, max(num_episodes // 10, 10))
        exact = score(policy, environment, targets, num_episodes=few, **settings)
        differences = [_difference(fast, slow) for fast, slow in zip(evaluations, exact, strict=True)]
    entries = [
        evaluation_entry(evaluation) | difference
        | {"protocol": asdict(stamp_protocol(
            environment, checkpoints=("last",), target_return=evaluation.target_return, num_episodes=num_episodes,
            seeds=(seed,), delayed_reward=config["delayed_reward"], acting="cached" if cached else "exact",
            dataset_environment=config["dataset_environment"], action_selection=policy.action_selection,
            reference=scale,
        )), "returns": list(evaluation.returns), "lengths": list(evaluation.lengths)}
        for evaluation, difference in zip(evaluations, differences, strict=True)
    ]  # fmt: skip
    name = f"{environment}-{num_episodes}-episodes-seed-{seed}-targets-{'-'.join(f'{t:g}' for t in targets)}"
    name += f"-reference-{reference[0]:g}-{reference[1]:g}" if reference else ""
    name += "-sampled" if policy.action_selection == "sampled" else ""
    name = re.sub(r"[^\w.-]+", "_", name + ("-cached" if cached else ""))
    return _keep(folder, name, {"run": str(folder), "environment": environment, "evaluations": entries})


def _held_out_result(policy: DecisionTransformerPolicy, config: dict[str, Any]) -> dict[str, Any]:
    """The action error on the episodes that the run kept out of its training."""
    dataset = load_trajectories(config["dataset"])
    held_out = split(dataset, config["held_out_fraction"], config["seed"])[1]
    if held_out is None:
        raise ConfigError("expected an environment, or a run with held-out episodes; found neither; give --environment")
    held_out = delay(held_out) if config["delayed_reward"] else held_out
    return {
        "step": config["num_steps"],
        **held_out_errors(policy, held_out),
        "num_episodes": held_out.num_episodes,
    }


def _difference(cached: Evaluation, exact: Evaluation) -> dict[str, Any]:
    """Mean return of cached minus exact acting over the first episodes, and the standard error of that mean."""
    differences = np.array(cached.returns[: len(exact.returns)]) - np.array(exact.returns)
    error = float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else None
    return {
        "cached_minus_exact_return": float(differences.mean()),
        "cached_minus_exact_error": error,
        "cached_minus_exact_episodes": len(differences),
    }


def evaluation_entry(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation that fit on one line."""
    return {
        "step": evaluation.step,
        "target_return": evaluation.target_return,
        "return_mean": float(np.mean(evaluation.returns)),
        "return_std": float(np.std(evaluation.returns)),
        "normalized_score": None if evaluation.normalized is None else float(np.mean(evaluation.normalized)),
        "length_mean": float(np.mean(evaluation.lengths)),
        "num_episodes": len(evaluation.returns),
    }


def _keep(folder: Path, name: str, result: dict[str, Any]) -> dict[str, Any]:
    (folder / "evaluations").mkdir(exist_ok=True)
    write_json(folder / "evaluations" / f"{name}.json", result)
    return result
