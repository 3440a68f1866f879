"""The fence: what an old leader may no longer do."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.agent.epoch import EpochFile
from roadstead_worker.contract import EPOCH_HEADER


def test_an_older_epoch_is_refused_and_told_the_one_that_was_seen(tmp_path: Path) -> None:
    epochs = EpochFile(tmp_path / "epoch")
    assert epochs.current == 0
    epochs.admit(4)
    epochs.admit(4)
    with pytest.raises(DoorProblem) as caught:
        epochs.admit(3)
    assert (caught.value.status, caught.value.problem.code, caught.value.problem.epoch) == (409, "StaleEpoch", 4)
    assert epochs.current == 4


def test_a_restarted_door_remembers_the_highest_epoch(tmp_path: Path) -> None:
    EpochFile(tmp_path / "epoch").admit(7)
    again = EpochFile(tmp_path / "epoch")
    assert again.current == 7
    with pytest.raises(DoorProblem):
        again.admit(6)


def test_an_epoch_that_cannot_be_kept_is_not_admitted(tmp_path: Path) -> None:
    epochs = EpochFile(tmp_path / "gone" / "epoch")
    with pytest.raises(OSError, match="gone"):
        epochs.admit(1)
    assert epochs.current == 0


def test_a_damaged_file_stops_the_door_instead_of_letting_everybody_in(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("seven\n")
    with pytest.raises(ValueError, match="seven"):
        EpochFile(tmp_path / "epoch")


@pytest.mark.parametrize("header", [None, "", "-1", "1.0", "0x1", "٣", "9" * 30, "9223372036854775808", "1 2"])
def test_a_request_without_a_whole_number_as_epoch_is_refused(tmp_path: Path, header: str | None) -> None:
    request = make_mocked_request("PUT", "/", headers={} if header is None else {EPOCH_HEADER: header})
    with pytest.raises(DoorProblem) as caught:
        EpochFile(tmp_path / "epoch").admit_request(request)
    assert (caught.value.status, caught.value.problem.code) == (400, "EpochMissing")
