"""Settings: flags, then `FTJM_*` variables, then `ftjm.toml`, then the endpoint file of `ftjm up`, then defaults."""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ftjm import endpoint
from ftjm.errors import FtjmError, UsageError

OWN_BROKERS_TIMING = {
    "lease_seconds": 5.0,
    # A member that has to rejoin within a second of its last join is held back by librdkafka until that second is over,
    # sends no heartbeats meanwhile, and would fall out of a group of a shorter session again and again.
    "session_timeout_ms": 1500,
    "heartbeat_interval_ms": 100,
}
"""What our own brokers allow; others have stock settings."""
KAFKA_ENV_PREFIX = "FTJM_KAFKA_"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/ftjm`, by default `~/.local/share/ftjm`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "ftjm"


class Settings(BaseSettings):
    """Everything that a process of ftjm may be told. Made by `load`; never changed afterwards."""

    model_config = SettingsConfigDict(env_prefix="FTJM_", extra="forbid", frozen=True)

    cluster: str = Field("ftjm", pattern=NAME_PATTERN, description="prefix of topics, group and transactional ids")
    bootstrap: str = Field("", description="Kafka bootstrap servers, host:port[,host:port]")
    data_dir: Path = Field(default_factory=default_data_dir, description="stores, embedded Kafka, endpoint file")
    api: str = Field("", description="address of the HTTP API, for the verbs that read through it: http://host:port")
    own_brokers: bool = Field(False, description="the brokers are those of `ftjm up`, set for fast failover")

    partitions: int = Field(16, ge=1, le=4096, description="of commands and events; fixed at birth")
    lanes: int = Field(8, ge=1, le=1024, description="partitions of dispatch, replies and heartbeats")
    replication_factor: int | None = Field(None, ge=1, description="default: the number of brokers, at most 3")

    session_timeout_ms: int = Field(6000, ge=300, description="a scheduler silent for this long loses its membership")
    heartbeat_interval_ms: int = Field(1500, ge=20, description="a scheduler's heartbeats to its group")
    standby_replicas: int | None = Field(
        None, ge=0, description="schedulers that stand by for each partition (default: all of up to 4, then 2)"
    )
    lease_seconds: float = Field(15.0, ge=1.0, description="a worker silent for this long has lost its attempts")

    inline_limit_bytes: int = Field(256 * 1024, ge=1024, le=1024 * 1024, description="of a result, and of an output")
    snapshot_events: int = Field(200_000, ge=1, description="offsets of events behind which a partition is snapshotted")
    snapshot_seconds: float = Field(600.0, gt=0, description="and after this long, if anything has changed")
    snapshot_place: str = Field("", description="URL of a folder for snapshots, by fsspec; default: their topic")
    audit_retention_seconds: float = Field(30 * 86400.0, ge=0, description="logs are not trimmed before this")
    archive: str = Field("", description="URL of a folder, by fsspec, for what is trimmed; default: nothing keeps it")
    retention_seconds: float = Field(7 * 86400.0, ge=0, description="a terminal job leaves the store after this")

    disk_high_percent: float = Field(95, gt=0, le=100, description="a disk as full refuses new submissions")
    disk_low_percent: float = Field(90, gt=0, le=100, description="and takes them again below this")
    memory_high_percent: float = Field(95, gt=0, le=100, description="memory as full refuses new submissions")
    memory_low_percent: float = Field(90, gt=0, le=100, description="and takes them again below this")
    backlog_high: int = Field(1_000_000, ge=1, description="commands that wait in a partition and refuse submissions")
    backlog_low: int = Field(500_000, ge=1, description="and below which it takes them again")
    watchdog_seconds: float = Field(30.0, gt=0, description="a partition that gets nowhere for this long is stuck")

    metrics_host: str = Field("127.0.0.1", description="where a role serves its metrics; beyond loopback with a token")
    metrics_port: int = Field(0, ge=0, le=65535, description="of metrics and health; 0 is any free one")
    metrics_token: str = Field("", repr=False, description="whoever asks for metrics and health must know it")

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    kafka: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="handed to the Kafka client as they are"
    )

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _times_fit(self) -> Settings:
        if self.heartbeat_interval_ms * 2 > self.session_timeout_ms:
            raise ValueError(
                f"heartbeat_interval_ms={self.heartbeat_interval_ms} must be at most half of "
                f"session_timeout_ms={self.session_timeout_ms}"
            )
        return self

    @model_validator(mode="after")
    def _marks_fit(self) -> Settings:
        for what in ("disk_{}_percent", "memory_{}_percent", "backlog_{}"):
            low, high = what.format("low"), what.format("high")
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}={getattr(self, low):g} must be at most {high}={getattr(self, high):g}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic's signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (the same)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence; `kafka.*` are merged key by key over all of them."""
        return (
            init_settings,
            _KafkaVariables(settings_cls),
            env_settings,
            _TomlFile(settings_cls),
            _EndpointFile(settings_cls),
        )

    def topic(self, kind: str) -> str:
        """The full name of a topic: `ftjm.commands` for `commands`."""
        return f"{self.cluster}.{kind}"

    def environment(self) -> dict[str, str]:
        """Variables that give a child process exactly these settings."""
        values = self.model_dump(mode="json", exclude={"kafka"}, exclude_none=True)
        variables = {f"FTJM_{name.upper()}": str(value) for name, value in values.items()}
        for name, value in self.kafka.items():
            variables[KAFKA_ENV_PREFIX + name.upper().replace(".", "_")] = str(value)
        return variables

    def kafka_settings(self, role: str) -> dict[str, Any]:
        """Settings of every Kafka client of this process; `role` names it in the brokers' logs (`client.id`).

        The user's `kafka.*` win over ours. Add what the kind of client needs with `settings | {...}`.
        Raises FtjmError where no bootstrap server is known.
        """
        if not self.bootstrap:
            raise FtjmError(
                "the address of a Kafka cluster",
                f"none in --bootstrap, FTJM_BOOTSTRAP or ftjm.toml, and no running `ftjm up` in {self.data_dir}",
                "start one with `ftjm up`, or give --bootstrap host:port",
            )
        ours = {
            "bootstrap.servers": self.bootstrap,
            "client.id": f"{self.cluster}-{role}",
            # A broker that comes back should be seen at once: the default backs off to 10 s.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            # librdkafka's own lines would break JSON logs; this sends them through ours.
            "logger": logging.getLogger("ftjm.kafka"),
        }
        return ours | self.kafka


class _Source(PydanticBaseSettingsSource):
    """A source that gives all its values at once."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError(field_name)  # only for sources that are asked field by field


class _KafkaVariables(_Source):
    """`FTJM_KAFKA_SECURITY_PROTOCOL=SSL` is `security.protocol=SSL`: no name of librdkafka's has an underscore."""

    def __call__(self) -> dict[str, Any]:
        kafka = {
            name.removeprefix(KAFKA_ENV_PREFIX).lower().replace("_", "."): value
            for name, value in os.environ.items()
            if name.startswith(KAFKA_ENV_PREFIX)
        }
        return {"kafka": kafka} if kafka else {}


class _TomlFile(_Source):
    """`ftjm.toml` in the working directory, or the file that `FTJM_CONFIG` names."""

    def __call__(self) -> dict[str, Any]:
        named = os.environ.get("FTJM_CONFIG")
        path = Path(named or "ftjm.toml")
        if not named and not path.exists():
            return {}
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"settings as TOML in {path}", str(error), "mend the file or FTJM_CONFIG") from error
        if isinstance(values.get("kafka"), dict):
            values["kafka"] = _flattened(values["kafka"])
        return values


class _EndpointFile(_Source):
    """The running `ftjm up` of the data directory; ignored where another cluster is named."""

    def __call__(self) -> dict[str, Any]:
        data_dir = Path(self.current_state.get("data_dir") or default_data_dir()).expanduser()
        found = endpoint.read(data_dir)
        if found is None or self.current_state.get("bootstrap", found.bootstrap) != found.bootstrap:
            return {}
        return {
            "bootstrap": found.bootstrap,
            "cluster": found.cluster,
            "api": found.api,
            "own_brokers": found.own_brokers,
            "partitions": found.partitions,
            "lanes": found.lanes,
            "lease_seconds": found.lease_seconds,
            "session_timeout_ms": found.session_timeout_ms,
            "heartbeat_interval_ms": found.heartbeat_interval_ms,
        }


def _flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """TOML reads `security.protocol = "SSL"` as nested tables; Kafka's names are flat."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def load(**flags: Any) -> Settings:
    """The settings of this process. A flag that is None was not given.

    Raises UsageError, naming the setting and where it may have come from, for a value that cannot be used.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UsageError(
            "settings that fit together" if name == "settings" else f"a usable value for `{name}`",
            f"{first['msg']}" + (f" (got {first['input']!r})" if first["loc"] else ""),
            f"look at the flag, the variable FTJM_{name.upper()} and ftjm.toml, in this order",
        ) from error
