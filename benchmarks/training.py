"""A training step with the sampling of its batch: ours, with and without alignment, Hugging Face's and d3rlpy's.

    .venv-extras/bin/python benchmarks/training.py [--rounds 3] [--num-threads 1] [--smoke]

Hopper shapes, batch 64, K = 20, 3 layers × 128 × 1 head, dropout 0.1; 1,000 clusters for the alignment losses.
"""

from shapes import CONTEXT_LENGTH, DECISION_TRANSFORMER
from steps import DATASET, d3rlpy_step, hugging_face_step, our_step
from timing import (
    Options,
    Timing,
    interleave,
    matrix_products,
    measure_with_floors,
    milliseconds,
    parse_options,
    repeated,
    table,
)

from wikirl.reproducibility import generator
from wikirl.trajectories.sampling import ContextSampler
from wikirl.trajectories.sources import load_trajectories

BATCH_SIZE = 64
# What it says does not matter to speed: 2 blocks of 1,024 tokens a step, 8,192 words.
TEXT = "synthetic:iid:sequences=64"


def steps(options: Options) -> dict[str, Timing]:
    """Seconds a training step."""
    batch_size = 4 if options.smoke else BATCH_SIZE
    contenders = {
        "ours float32": our_step("float32", batch_size),
        "ours bfloat16": our_step("bfloat16", batch_size),
        "Hugging Face, batch ready": hugging_face_step(batch_size),
        "d3rlpy": d3rlpy_step(batch_size)[0],
        "ours float32, alignment paper": our_step("float32", batch_size, alignment="paper"),
        "ours float32, alignment released": our_step("float32", batch_size, alignment="released"),
        "ours float32, co-training": our_step("float32", batch_size, cotraining_corpus=TEXT),
    }
    width = DECISION_TRANSFORMER.hidden_size
    return measure_with_floors(
        {name: repeated(step, 1 if options.smoke else 10) for name, step in contenders.items()},
        matrix_products(3 * CONTEXT_LENGTH * batch_size, width, 4 * width, smoke=options.smoke),
        DECISION_TRANSFORMER.step_gflop(batch_size),
        options,
    )


def sampling(options: Options) -> dict[str, Timing]:
    """Seconds to draw a batch."""
    sampler = ContextSampler(load_trajectories(f"builtin:{DATASET}"), CONTEXT_LENGTH, generator(0, "batches"))
    contenders = {"ours": lambda: sampler.sample(BATCH_SIZE), "d3rlpy": d3rlpy_step(BATCH_SIZE)[1]}
    count = 2 if options.smoke else 200
    return interleave({name: repeated(draw, count) for name, draw in contenders.items()}, options.rounds)


def main() -> None:
    options = parse_options("A training step with the sampling of its batch.")
    print(f"## Training step\n\nBatch of {BATCH_SIZE} windows × {CONTEXT_LENGTH} steps, sampling included.\n")
    ours = "ours float32", "ours bfloat16"
    print(table(steps(options), options, unit="ms a step", show=milliseconds, ours=ours))
    print("\nSampling of the batch alone:\n")
    print(table(sampling(options), options, unit="ms a batch", show=milliseconds, ours=("ours",)))


if __name__ == "__main__":
    main()
