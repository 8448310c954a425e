import time

import numpy as np
import pytest
import torch

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.checkpoints import streaming
from sa_lightning.surgery.checkpoints.slices import ENTRIES, count_slices, matrix, slices

SHAPES = [(), (1,), (5,), (3, 4), (2, 3, 4), (0,), (3, 0), (1, ENTRIES + 1), (ENTRIES + 3,), (5, ENTRIES // 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_slices_cover_a_tensor_once_in_order_by_whole_rows(shape: tuple[int, ...]):
    rows, columns = matrix(shape)
    assert rows * columns == torch.Size(shape).numel()
    parts = list(slices("w", shape))
    assert len(parts) == count_slices(shape)
    place = 0
    for part in parts:
        assert (part.start, part.count) == (place, (part.last - part.first) * columns)
        assert part.count <= max(ENTRIES, columns)
        place += part.count
    assert place == rows * columns


def test_results_come_in_the_order_of_the_items_however_long_each_takes():
    def work(number: int) -> tuple[int, np.ndarray]:
        time.sleep(0.002 * (number % 3))
        return number * number, np.arange(number)

    found = list(streaming.in_order(work, range(50)))
    assert [square for square, _ in found] == [number * number for number in range(50)]
    assert all(len(array) == number for number, (_, array) in enumerate(found))
    assert list(streaming.in_order(work, [])) == []


def test_an_error_is_raised_where_the_results_are_wanted():
    def work(number: int) -> int:
        if number == 17:
            raise CheckpointError("`w` has 3 NaN")
        return number

    with pytest.raises(CheckpointError, match="3 NaN"):
        list(streaming.in_order(work, range(50)))


def test_threads_of_torch_are_as_before_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        list(streaming.in_order(lambda number: 1 // (number - 3), range(9)))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("select", ["magnitude", "random", "dare"])
def test_one_thread_and_several_write_the_same_bytes_and_the_same_report(
    checkpoints, tmp_path, monkeypatch: pytest.MonkeyPatch, select: str
):
    import json

    from sa_lightning.surgery import EditSettings, Sources, plan_from, write_edit

    monkeypatch.setattr("sa_lightning.surgery.checkpoints.slices.ENTRIES", 100)
    found = {}
    for name, workers in (("one", 1), ("several", 3)):
        monkeypatch.setattr(streaming, "workers", lambda workers=workers: workers)
        sources = Sources(str(checkpoints / "base"), (str(checkpoints / "harm"),))
        out = write_edit(plan_from(sources, EditSettings(select=select)), tmp_path / name)
        found[name] = (out / "model.safetensors").read_bytes(), json.loads((out / "surgery.json").read_text())
    assert found["one"] == found["several"]
