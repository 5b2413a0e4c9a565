"""A published file graded as another language is told which task it belongs to."""

from __future__ import annotations

import pytest

from astraios.errors import GenerationsError
from astraios.evaluation.grade import grade


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("humanevalfixtests-python", "humanevalfixtests-java"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                ("humanevalsynthesize-java", "humanevalfixtests-java"),
                ("humanevalfixtests-java", "humanevalsynthesize-java"),
                ("humanevalfixtests-java", "humanevalfixtests-python"),
            )
        ),
    ],
)
def test_the_task_that_fits_is_suggested(shared, tmp_path, name, belongs):
    path = shared / "data/published_generations" / belongs / "1b-lora.json.gz"
    with pytest.raises(GenerationsError, match=f"prompts of {belongs}; did you mean that task"):
        grade(path, name, data_dir=shared / "data", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
