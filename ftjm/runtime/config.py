"""Settings: flags, then `FTJM_*` variables, then `ftjm.toml`, then the endpoint file of `ftjm up`, then defaults."""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ftjm.runtime import endpoint
from ftjm.runtime.errors import FtjmError, UsageError, short

OWN_BROKERS_TIMING = {
    "lease_seconds": 5.0,
    # librdkafka holds a member back that rejoins within a second of its last join, and sends no heartbeats meanwhile.
    # With a session of a second or less, that member falls out of the group again and again.
    "session_timeout_ms": 1500,
    "heartbeat_interval_ms": 100,
}
"""Times of the embedded brokers of `ftjm up`, which fail over faster than brokers with stock settings."""
SECONDS_MAX = 3650 * 86400.0
"""The longest time of a setting: ten years."""
KAFKA_ENV_PREFIX = "FTJM_KAFKA_"
KAFKA_NAME = re.compile(r"[a-z0-9._]+\Z")
KAFKA_OBJECTS = frozenset({"logger", "on_commit", "on_delivery", "default.topic.config"})
"""Names of the Python client, for which text is no value."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _absolute(path: Path) -> Path:
    """The path without `~`, from the root. Raises ValueError where the user or the working directory is not there."""
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{str(error).lower()}; give an absolute path") from None


class Settings(BaseSettings):
    """The settings of one process. Made by `load`, and never changed afterwards.

    The name of a setting gives its variable (`FTJM_LEASE_SECONDS`) and its key in `ftjm.toml`. The docstring of each
    gives its meaning, its unit where the name has none, and the reason for its default.
    """

    model_config = SettingsConfigDict(env_prefix="FTJM_", extra="forbid", frozen=True, allow_inf_nan=False)

    cluster: str = Field("ftjm", pattern=NAME_PATTERN)
    """Prefix of topics, of the consumer group and of transactional ids. Several clusters may share one Kafka."""
    bootstrap: str = ""
    """Kafka's bootstrap servers, `host:port[,host:port]`. Without them, those of a running `ftjm up` are used."""
    data_dir: Path = Field(default_factory=endpoint.default_data_dir, validate_default=True)
    """Directory of the stores, the embedded Kafka and the endpoint file. Default: `$XDG_DATA_HOME/ftjm`."""
    api: str = ""
    """Address of the HTTP API, `http://host:port`, for the verbs that read through it. Default: that of `ftjm up`."""
    api_token: str = Field("", repr=False)
    """Token for the HTTP API, `Authorization: Bearer TOKEN`. Default: for `ftjm up`, the one in its endpoint file."""
    own_brokers: bool = False
    """Whether the brokers are those of `ftjm up`, so shorter sessions and leases are safe there."""

    partitions: int = Field(16, ge=1, le=4096)
    """Partitions of `commands` and `events`. Cannot be changed once the topics exist, since a queue's partition is its
    hash modulo this number. Each is led by one scheduler, so 16 lets 16 schedulers share the work."""
    lanes: int = Field(8, ge=1, le=1024)
    """Partitions of `dispatch`, `replies` and `heartbeats`. A client or worker reads one lane and skips the records of
    others on it, so more lanes mean less to skip. Schedulers read all lanes of `heartbeats`."""
    replication_factor: int | None = Field(None, ge=1, le=1_000)
    """Replicas of each topic. Default: the number of brokers, at most 3."""

    session_timeout_ms: int = Field(6000, ge=300, le=3_600_000)
    """A scheduler that is silent for this long leaves the group, and others take its partitions. 6 s is the least that
    brokers with stock settings allow; `ftjm up` uses 1.5 s."""
    heartbeat_interval_ms: int = Field(1500, ge=20, le=3_600_000)
    """Time between a scheduler's heartbeats to the group; at most half of `session_timeout_ms`."""
    standby_replicas: int | None = Field(None, ge=0, le=1_000)
    """Schedulers that follow each partition beside its owner. Default: all of up to 4 schedulers, else 2."""
    lease_seconds: float = Field(15.0, ge=1.0, le=86_400)
    """A worker that is silent for this long has lost its attempts. Longer means fewer attempts that are lost to a short
    outage, shorter means that lost attempts run again sooner. It must outlast the session of the brokers among
    themselves (`broker.session.timeout.ms`) by 3 s, or the death of a broker costs attempts."""
    prefetch: str = Field("auto", pattern=r"^(auto|[0-9]{1,3})$", coerce_numbers_to_str=True)
    """Attempts that a worker holds while its slots are taken. `auto`: as many as short attempts need, none of long."""

    inline_limit_bytes: int = Field(256 * 1024, ge=1024, le=1024 * 1024)
    """Largest payload and result, and largest part of an output that is kept, in bytes. A report holds a result and two
    outputs, and must fit into a record of the log, which has at most 4 MiB."""
    max_tasks_per_process: int = Field(1_000, ge=1, le=2**31)
    """A process is replaced when it has run so many Python tasks. It bounds what tasks leak."""
    max_memory_per_process_mb: int = Field(512, ge=1, le=2**31)
    """A process is replaced when its tasks have left it with this much more memory than the apps have. In MB."""
    snapshot_events: int = Field(200_000, ge=1, le=2**62)
    """A partition is snapshotted after this many offsets of `events`, so that a store is rebuilt within seconds."""
    snapshot_seconds: float = Field(600.0, gt=0, le=SECONDS_MAX)
    """A partition is snapshotted after this many seconds at the latest, if anything has changed."""
    snapshot_place: str = ""
    """URL of a folder for snapshots, as fsspec reaches it. Default: the topic `snapshots`."""
    audit_retention_seconds: float = Field(30 * 86400.0, ge=0, le=SECONDS_MAX)
    """Records stay in the log for at least this many seconds, so that histories can be read. 30 days."""
    archive: str = ""
    """URL of a folder, as fsspec reaches it, to which records are copied before they are trimmed. Default: no copy."""
    retention_seconds: float = Field(7 * 86400.0, ge=0, le=SECONDS_MAX)
    """An ended job is removed from the store after this many seconds, unless the job has a time of its own. 7 days."""

    disk_high_percent: float = Field(95, gt=0, le=100)
    """New jobs are refused while the disk of `data_dir` is this full, so that running ones can end. In percent."""
    disk_low_percent: float = Field(90, gt=0, le=100)
    """Once refused, new jobs are accepted again below this. In percent; the distance keeps it from flapping."""
    memory_high_percent: float = Field(95, gt=0, le=100)
    """New jobs are refused while memory (the container's, else the host's) is this full. In percent."""
    memory_low_percent: float = Field(90, gt=0, le=100)
    """Once refused, new jobs are accepted again below this. In percent."""
    backlog_high: int = Field(1_000_000, ge=1, le=2**62)
    """New jobs are refused while so many commands of a partition wait. Not an age: after an outage, all are old."""
    backlog_low: int = Field(500_000, ge=1, le=2**62)
    """Once refused, new jobs are accepted again below this number of waiting commands."""
    watchdog_seconds: float = Field(30.0, gt=0, le=SECONDS_MAX)
    """A partition that makes no progress for this many seconds is stuck: its scheduler leaves, and others take over."""

    metrics_host: str = "127.0.0.1"
    """Address at which a role serves metrics and health. Beyond loopback, `metrics_token` is needed."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of metrics and health. 0 takes a free one, which is logged, so that several roles fit on one machine."""
    metrics_token: str = Field("", repr=False)
    """Token that requests for metrics and health must send, as `Authorization: Bearer TOKEN`. Default: none."""

    log_format: Literal["console", "json"] = "console"
    """`console` writes text for people, `json` one object a line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is logged."""

    kafka: dict[str, str | int | float | bool] = Field(default_factory=dict, repr=False)
    """Settings for the Kafka client, by its own names, such as `security.protocol`. They win over those of ftjm."""

    @field_validator("data_dir")
    @classmethod
    def _data_dir_is_absolute(cls, value: Path) -> Path:
        return _absolute(value)

    @field_validator("kafka")
    @classmethod
    def _kafka_names_are_settings(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if not KAFKA_NAME.match(name) or name.endswith("_cb") or name in KAFKA_OBJECTS:
                raise ValueError(f"no setting of the Kafka client: {short(name)!r}")
        return values

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
        """The sources, most important first. Values of `kafka` are merged name by name over all of them."""
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
        """Variables that give a child process exactly these settings. The token of the API is not among them."""
        values = self.model_dump(mode="json", exclude={"kafka", "api_token"}, exclude_none=True)
        variables = {f"FTJM_{name.upper()}": str(value) for name, value in values.items()}
        for name, value in self.kafka.items():
            variables[KAFKA_ENV_PREFIX + name.upper().replace(".", "_")] = str(value)
        return variables

    def kafka_settings(self, role: str) -> dict[str, Any]:
        """The settings that every Kafka client of this process has.

        The user's `kafka` settings win over ours. A caller adds those of its kind of client with `settings | {...}`.

        Args:
            role: Names the client in the brokers' logs (`client.id`).

        Raises:
            FtjmError: No bootstrap server is known.
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
            # Reconnect soon to a broker that comes back: the default waits up to 10 s.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            # librdkafka writes its own lines to standard error, which would break JSON logs. Send them through ours.
            "logger": logging.getLogger("ftjm.kafka"),
        }
        return ours | self.kafka


class _Source(PydanticBaseSettingsSource):
    """A source that returns all its values at once."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError(field_name)  # only for sources that are asked field by field


class _KafkaVariables(_Source):
    """`FTJM_KAFKA_SECURITY_PROTOCOL=SSL` means `security.protocol=SSL`: no name of librdkafka has an underscore."""

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
        try:
            values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of 5,000 digits
            if isinstance(error, FileNotFoundError) and not named:
                return {}
            todo = "mend the file, save it as UTF-8, or see FTJM_CONFIG"
            raise UsageError(f"settings as TOML in {path}", short(str(error), 300), todo) from error
        if isinstance(values.get("kafka"), dict):
            values["kafka"] = _flattened(values["kafka"])
        return values


class _EndpointFile(_Source):
    """The running `ftjm up` whose bootstrap or API address the other sources give, else that of the data directory.

    It gives the token for its own API alone, and what signs in to Kafka for its own brokers alone.
    """

    def __call__(self) -> dict[str, Any]:
        given = self.current_state
        try:
            data_dir = default = _absolute(Path(given.get("data_dir") or endpoint.default_data_dir()))
        except (TypeError, ValueError):
            return {}  # it is refused when the settings are checked
        with suppress(ValueError):
            default = _absolute(endpoint.default_data_dir())
        bootstrap, api = given.get("bootstrap"), given.get("api")
        found = endpoint.read(data_dir) if bootstrap is None else None
        running = [found] if found else []
        if bootstrap is not None or api is not None:
            running = list(endpoint.running(default, data_dir))
        if bootstrap is not None:
            found = next((one for one in running if one.has_bootstrap(str(bootstrap))), None)
        elif api:
            found = next((one for one in running if one.has_api(str(api))), found)
        values = self._values(found) if found else {}
        api = values.get("api", "") if api is None else api
        token = next((one.token for one in running if one.has_api(str(api))), "")
        return values | ({"api_token": token} if token else {})

    def _values(self, found: endpoint.Endpoint) -> dict[str, Any]:
        return {
            "kafka": found.kafka,
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
    """Nested tables as flat names: TOML reads `security.protocol = "SSL"` as a table in a table."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def load(**flags: Any) -> Settings:
    """The settings of this process, from all sources.

    Args:
        flags: Settings that the command line gives, by name. One that is None was not given.

    Raises:
        UsageError: A value cannot be used. It names the setting and the places from which it may come.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except SettingsError as error:
        todo = "look at the variables FTJM_* and ftjm.toml"
        raise UsageError("settings that can be read", short(str(error), 300), todo) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        field = Settings.model_fields.get(str(first["loc"][0])) if first["loc"] else None
        # The input of a secret setting, or of all settings, may be a password.
        is_shown = first["loc"] and (field is None or field.repr)
        raise UsageError(
            "settings that fit together" if name == "settings" else f"a usable value for `{name}`",
            f"{first['msg']}" + (f" (got {short(repr(first['input']))})" if is_shown else ""),
            f"look at the flag, the variable FTJM_{name.upper()} and ftjm.toml, in this order",
        ) from error
