"""The cost model of docs/scale.md: its arithmetic by hand, and its picture of the local pool."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from scale import Network, simulate, size

sys.path.pop(0)


def test_bytes_and_operations_by_hand() -> None:
    small = Network("small", layers=3, width=10, parameters=1000, bytes_per_number=2)
    assert small.bytes(7) == 7 * 4 * 10 * 2
    assert small.bytes(7, sites=1) == 140
    assert small.flops(5, length=100) == 5 * (2 * 1000 + 4 * 3 * 10 * 100)
    assert (size(999), size(1.5e13)) == ("999.0 B", "15.0 TB")


def test_workers_share_blocks_in_order() -> None:
    assert simulate([1.0] * 4, workers=2, birth=0.5) == pytest.approx(2.5)
    assert simulate([3.0, 1.0, 1.0, 1.0], workers=2, birth=0.0) == pytest.approx(3.0)
    assert simulate([1.0, 2.0], workers=8, birth=0.25) == pytest.approx(2.25)


def test_a_death_costs_what_was_under_way_and_a_birth() -> None:
    """Block 2 kills its worker at 1.5, when block 1 is half done: both begin anew at 2.0, and block 3
    follows."""
    assert simulate([1.0, 2.0, 1.0, 1.0], workers=2, birth=0.5, deaths=(2,)) == pytest.approx(4.0)
    assert simulate([1.0, 1.0], workers=1, birth=0.5, deaths=(0, 1)) == pytest.approx(3.5)
