from collections.abc import Iterator

import pytest

import ftjm.testing


@pytest.fixture
def cluster() -> Iterator[ftjm.testing.Cluster]:
    with ftjm.testing.Cluster(app=["tests.sdk.app"]) as cluster:
        yield cluster
