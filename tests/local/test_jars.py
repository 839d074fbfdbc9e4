"""A jar of Kafka is used only if it is listed and has the listed checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ftjm.local import jars
from ftjm.local.jars import Jar
from ftjm.runtime.errors import FtjmError


class Maven:
    """A repository with one jar. A test may change its content."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked = 0

    def __call__(self, jar: Jar, directory: Path) -> Path:
        self.asked += 1
        path = directory / jar.file_name
        path.write_bytes(self.content)
        return path


JAR = Jar(hashlib.sha256(b"good").hexdigest(), "org.example", "thing", "1.0")


def test_a_jar_is_fetched_once(tmp_path: Path) -> None:
    maven = Maven(b"good")
    for _ in range(2):
        assert jars.ensure(tmp_path, [JAR], maven) == [tmp_path / "thing-1.0.jar"]
    assert maven.asked == 1
    assert (tmp_path / "thing-1.0.jar").read_bytes() == b"good"


def test_a_damaged_jar_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "thing-1.0.jar").write_bytes(b"cut sho")
    jars.ensure(tmp_path, [JAR], Maven(b"good"))
    assert (tmp_path / "thing-1.0.jar").read_bytes() == b"good"


def test_a_jar_with_another_checksum_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(FtjmError, match=f"SHA-256 {JAR.sha256}"):
        jars.ensure(tmp_path, [JAR], Maven(b"evil"))
    assert not list(tmp_path.glob("**/*.jar"))


def test_a_jar_that_cannot_be_fetched_is_reported(tmp_path: Path) -> None:
    def unreachable(jar: Jar, directory: Path) -> Path:
        raise ConnectionError("no route to host")

    with pytest.raises(FtjmError, match=r"no route to host.*connect to the network once"):
        jars.ensure(tmp_path, [JAR], unreachable)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    def not_installed(jar: Jar, directory: Path) -> Path:
        raise ModuleNotFoundError("No module named 'jgo'", name="jgo")

    with pytest.raises(FtjmError, match=r"ftjm\[embedded\]"):
        jars.ensure(tmp_path, [JAR], not_installed)


def test_the_list_has_one_version_of_kafka_and_each_file_once() -> None:
    listed = jars.listed()
    assert {jar.version for jar in listed if jar.group == "org.apache.kafka"} == {jars.KAFKA_VERSION}
    assert len({jar.file_name for jar in listed}) == len(listed)
    assert all(len(jar.sha256) == 64 for jar in listed)
