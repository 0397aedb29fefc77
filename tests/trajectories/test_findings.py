import pytest

from wikirl.trajectories.findings import number, percent, plural, some


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"), (1.0, "100 %"), (0.5, "50 %"), (0.1234, "12.3 %"),
        (1e-6, "less than 0.1 %"), (0.99999, "more than 99.9 %"),
    ],
)  # fmt: skip
def test_shares(share: float, words: str) -> None:
    assert percent(share) == words


def test_lists() -> None:
    assert some([3]) == "3"
    assert some([1, 2, 3]) == "1, 2 and 3"
    assert some(list(range(12)), most=2) == "0, 1 and 10 more"


def test_numbers() -> None:
    assert [number(value) for value in (0.0, 87.0, 2969.618, 12345.6, -123456.0, 1.7e9)] == [
        "0", "87", "2970", "12,346", "-123,456", "1.7e+09",
    ]  # fmt: skip
    assert (plural(1, "step"), plural(2000, "step")) == ("1 step", "2,000 steps")
