from collections import Counter

import numpy as np
import pytest

from wikirl.errors import CorpusError
from wikirl.text.states import SEQUENCE_LENGTH
from wikirl.text.synthetic import SyntheticCorpus, open_synthetic


def made(spec: str, *, held_out: bool = False) -> np.ndarray:
    return np.concatenate(list(open_synthetic(spec).chunks(held_out=held_out)))


def counts(states: np.ndarray, num_states: int) -> np.ndarray:
    return np.bincount(states.ravel(), minlength=num_states) / states.size


def test_iid_states_are_uniform_and_forget_their_past() -> None:
    states = made("iid:states=8,sequences=1024")
    assert states.shape == (960, SEQUENCE_LENGTH)
    np.testing.assert_allclose(counts(states, 8), 1 / 8, atol=2e-3)
    pairs = counts(states[:, :-1] * 8 + states[:, 1:], 64)
    np.testing.assert_allclose(pairs, 1 / 64, atol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_markov_chains_follow_their_rows(order: int) -> None:
    corpus = SyntheticCorpus("markov", states=5, order=order, temperature=0.3, sequences=1024)
    states = np.concatenate(list(corpus.chunks(held_out=False)))
    rows = corpus.transitions()
    context = np.zeros_like(states[:, order:])
    for back in range(order, 0, -1):
        context = context * 5 + states[:, order - back : SEQUENCE_LENGTH - back]
    pairs = np.bincount((context * 5 + states[:, order:]).ravel(), minlength=rows.size).reshape(rows.shape)
    np.testing.assert_allclose(pairs / pairs.sum(axis=1, keepdims=True), rows, atol=0.01)
    np.testing.assert_allclose(counts(states[:, 0], 5), corpus.initial(), atol=0.05)


def test_the_published_rows() -> None:
    """Row s is softmax(u / T) of 100 uniform numbers from NumPy's generator seeded with 666 + s + 1."""
    corpus = open_synthetic("markov")
    assert (corpus.states, corpus.order, corpus.temperature, corpus.sequences) == (100, 1, 1.0, 128_000)
    draws = np.random.default_rng(666 + 41 + 1).random(100)
    np.testing.assert_allclose(corpus.transitions()[41], np.exp(draws) / np.exp(draws).sum())
    rows = corpus.transitions()
    assert (rows.max(axis=1) / rows.min(axis=1)).max() < np.e


def test_temperature_decides_how_sure_a_row_is() -> None:
    cold, published, hot = (
        open_synthetic(f"markov:temperature={t}").transitions().max(axis=1).mean() for t in (0.1, 1, 10)
    )
    assert cold > 5 * published > 5 * hot


def test_brackets_are_nested_and_whole() -> None:
    states = made("brackets:states=6,sequences=32")
    depths = []
    for sequence in states[:5].tolist():
        stack: list[int] = []
        for state in sequence:
            if state < 3:
                stack.append(state)
            else:
                assert stack.pop() == state - 3
            depths.append(len(stack))
        assert stack == []
    assert max(depths) > 4
    assert set(Counter(states.ravel().tolist())) == set(range(6))


@pytest.mark.parametrize("process", ["iid", "markov", "brackets"])
def test_sequences_depend_on_the_options_alone(process: str) -> None:
    spec = f"{process}:states=4,sequences=1600"
    first = made(spec)
    assert np.array_equal(first, made(spec))
    assert not np.array_equal(first, made(f"{spec},seed=1"))
    held_out = made(spec, held_out=True)
    assert (len(first), len(held_out)) == (1500, 100)
    assert not {row.tobytes() for row in first} & {row.tobytes() for row in held_out}


def test_names_open_the_same_again() -> None:
    corpus = open_synthetic("markov:states=10,order=2,temperature=0.5")
    assert corpus.name == "synthetic:markov:states=10,order=2,temperature=0.5"
    assert open_synthetic(corpus.name.removeprefix("synthetic:")) == corpus
    assert open_synthetic("iid").name == "synthetic:iid"
    assert open_synthetic("iid").fingerprint != open_synthetic("iid:states=99").fingerprint


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("chain", "expected synthetic:iid or synthetic:markov or synthetic:brackets"),
        ("iid:size=3", "expected options like states=100"),
        ("iid:states=many", "expected options like states=100"),
        ("iid:states", "expected options like states=100"),
        ("iid:states=1", "at least 2 states"),
        ("markov:temperature=0", "a temperature above 0"),
        ("markov:temperature=nan", "a temperature above 0"),
        ("iid:sequences=3", "16 sequences"),
        ("brackets:states=5", "an even number"),
        ("markov:order=3", "at most 100,000 contexts"),
    ],
)
def test_what_cannot_be_made_is_refused(spec: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        open_synthetic(spec)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("skip", [0, 1, 99, 100, 999, 1000, 1499, 1500, 9999])
def test_sequences_can_be_skipped(held_out: bool, skip: int) -> None:
    corpus = open_synthetic("iid:states=4,sequences=1600")
    whole = np.concatenate(list(corpus.chunks(held_out=held_out)))
    rest = list(corpus.chunks(held_out=held_out, skip=skip))
    assert np.array_equal(np.concatenate([whole[:0], *rest]), whole[skip:])
    assert all(len(chunk) for chunk in rest)
