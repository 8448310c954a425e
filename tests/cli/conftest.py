"""An artifact for the base checkpoint."""

import pytest
from support.models import artifact_for, llama


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    place = tmp_path_factory.mktemp("fit") / "artifact"
    artifact_for(llama(), strength=0.9).save_pretrained(place)
    return place
