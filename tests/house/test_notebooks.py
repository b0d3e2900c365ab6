"""The notebooks run from first cell to last, as they are written."""

import os
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert all(not cell.get("outputs") for cell in book.cells), "committed without outputs"
    assert "colab" in book.cells[0].source
    env = os.environ | {"OMP_NUM_THREADS": "1", "TRANSECT_THREADS": "1"}
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute(env=env)
    last = [output for cell in book.cells for output in cell.get("outputs", [])][-1]
    assert last["output_type"] == "execute_result"
    if path.stem != "bring_your_own":
        assert "data:image/png;base64" in last["data"]["text/html"]
