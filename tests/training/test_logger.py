"""Curves of a resumed run."""

import pytest
from lightning.pytorch.loggers import CSVLogger

from interp_lightning.training.logger import rewind


@pytest.mark.parametrize("rest", ["", "1", "1,2,3,4", "7,x\0", "1,odd", "1,1.5"])
def test_curves_continue_after_a_row_that_a_kill_has_cut(rest, tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "metrics.csv").write_text(f"loss,step\n0.5,1\n0.25,2\n0.125,3\n{rest}")
    logger = CSVLogger(tmp_path, name="csv", version="")
    rewind(logger, 3)
    logger.log_metrics({"loss": 0.1}, 3)
    logger.finalize("success")
    assert (folder / "metrics.csv").read_text().split() == ["loss,step", "0.5,1", "0.25,2", "0.1,3"]
