"""The story of the dashboards' tests, told once."""

from collections.abc import Iterator

import pytest

from tests.grafana.prometheus_server import running_stack
from tests.grafana.simulated_models import Story, tell


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield tell(stack)
