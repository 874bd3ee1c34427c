"""How often threads take turns while something is computed."""

from __future__ import annotations

import sys

import pytest

from napari_sam.ui.requests import _turns


def test_the_last_thread_that_is_done_sets_the_interval_back() -> None:
    before = sys.getswitchinterval()
    _turns.__enter__()
    _turns.__enter__()
    assert sys.getswitchinterval() < before
    _turns.__exit__()
    assert sys.getswitchinterval() < before
    _turns.__exit__()
    assert sys.getswitchinterval() == before


def test_the_interval_is_set_back_after_an_error() -> None:
    before = sys.getswitchinterval()

    @_turns
    def fails() -> None:
        assert sys.getswitchinterval() < before
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert sys.getswitchinterval() == before
