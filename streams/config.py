"""Settings of the programs, from the environment (`DUEWATCH_*`) and from flags, which win."""

import os
import re
import ssl
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "DUEWATCH_"
_MASK = "***"
_OF_OTHERS = re.compile(
    r"DUEWATCH_(COMPILE|REQUIRE_REAL|TEST_\w+|HISTORIES|SEED|(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT_[0-9]+_\w+)"
)
"""What builds and tests are told, and what Kubernetes tells of a service whose name begins like ours."""
_OF_SERVICES = re.compile(r"(tcp|udp|sctp)://")
_DATABASE_PATH = re.compile(r"/?[0-9]*", re.ASCII)
_DATABASE_OPTION = re.compile(r"db=[0-9]+", re.ASCII)


class ConfigError(Exception):
    """A setting that cannot be used: one line with its name and how to mend it, never a secret's value."""


class Settings(BaseSettings):
    """What a worker or tool needs to know about where it runs. Descriptions are shown by `duewatch config show`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    app_id: str = Field(
        "duewatch", pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", description="names group, transactions and keys"
    )
    policy: str = Field("standard", min_length=1, description="a shipped policy's name or the path of a policy file")

    blacklist_keys: Path | None = Field(
        None, description="file with the consortium's keys; without it listings carry placeholders (key id none)"
    )

    broker: str = Field("127.0.0.1:9092", min_length=1, description="Kafka bootstrap servers, HOST:PORT[,HOST:PORT...]")
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="how to talk to the broker"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="used with kafka_security=sasl_*"
    )
    kafka_username: str | None = Field(None, description="used with kafka_security=sasl_*")
    kafka_password: SecretStr | None = Field(None, description="used with kafka_security=sasl_*")
    kafka_ca_file: Path | None = Field(None, description="PEM of the broker's authority; the system's if not set")
    kafka_cert_file: Path | None = Field(None, description="PEM of our certificate (mutual TLS)")
    kafka_key_file: Path | None = Field(None, description="PEM of our private key (mutual TLS)")
    kafka_key_password: SecretStr | None = Field(None, description="of kafka_key_file")

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// (TLS) or unix:// URL; may carry user and password",
    )
    redis_ca_file: Path | None = Field(None, description="PEM of the authority that signed Redis (rediss://)")
    redis_timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(5.0, description="for connecting and for each call")

    clock: Literal["worker", "external"] = Field(
        "worker", description="who writes ticks: the worker with partition 0, or whoever produces the events"
    )
    tick_every_s: Annotated[float, Field(gt=0, le=3600)] = Field(10.0, description="with clock=worker")
    chunk_records: Annotated[int, Field(ge=1, le=100_000)] = Field(20_000, description="most records of a transaction")
    cached_borrowers: Annotated[int, Field(ge=0, le=5_000_000)] = Field(
        50_000,
        description="whose opened state is kept in memory: some 25 kB each after two weeks, 75 kB after eight months",
    )
    chunk_ms: Annotated[int, Field(ge=0, le=5_000)] = Field(150, description="how long a chunk may fill under load")
    snapshot_bytes: Annotated[int, Field(ge=1_024, le=8 * 1024 * 1024)] = Field(
        65_536, description="of unchanged states that each commit carries besides, so that old commits can go"
    )
    log_keep_days: Annotated[float, Field(ge=0, le=36_500)] = Field(
        7.0, description="how long commits stay at least, for audits and recordings; erased borrowers, too"
    )
    transaction_timeout_ms: Annotated[int, Field(ge=2_000, le=900_000)] = Field(
        60_000, description="after which the broker aborts; its transaction.max.timeout.ms must allow it"
    )
    transaction_deadline_ms: Annotated[int, Field(ge=1_000)] = Field(
        40_000, description="after which the worker gives a transaction up; below the timeout"
    )
    session_timeout_s: Annotated[float, Field(ge=6, le=300)] = Field(
        30.0, description="how long a dead worker keeps tasks"
    )
    stall_s: Annotated[float, Field(ge=5, le=3600)] = Field(
        120.0, description="lag without a commit for this long: dump stacks and exit"
    )

    dead_letter_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="stop when this share of a topic's last records is refused; 1: never"
    )
    dead_letter_least: Annotated[int, Field(ge=1)] = Field(100, description="but only from so many refused records on")
    dead_letter_window: Annotated[int, Field(ge=10, le=1_000_000)] = Field(
        1_000, description="how many records of a partition the share is of, about"
    )
    quarantine_most: Annotated[int, Field(ge=0)] = Field(
        20, description="stop when a rule fails on more borrowers than this in one window of a task"
    )

    http_host: str = Field("127.0.0.1", min_length=1, description="where /metrics listens")
    http_port: Annotated[int, Field(ge=0, le=65_535)] = Field(9464, description="0: any free port")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["json", "console"] = Field("json", description="one JSON object a line, or for the eye")

    @field_validator("broker")
    @classmethod
    def _servers(cls, broker: str) -> str:
        # The client would end in a ValueError of its own.
        for server in broker.split(","):
            host, colon, port = server.strip().rpartition(":")
            of_ipv6 = ":" in host and not host.endswith("]")
            if not of_ipv6 and colon and (not host or not port.isdecimal() or not 0 < int(port) < 65_536):
                raise ValueError("must be HOST:PORT[,HOST:PORT...]")
        return broker

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: SecretStr) -> SecretStr:
        # Parts of the URL never get into the message: a mistyped one may carry the password anywhere.
        try:
            usable = _is_redis_url(url.get_secret_value())
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(
                "must be redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB, DB a number, without other "
                "options; special characters in a password are encoded (%40 for @)"
            )
        return url

    @model_validator(mode="after")
    def _together(self) -> "Settings":
        if self.transaction_deadline_ms >= self.transaction_timeout_ms:
            raise ValueError("transaction_deadline_ms must be below transaction_timeout_ms")
        if self.kafka_security.startswith("sasl_") and (self.kafka_username is None or self.kafka_password is None):
            raise ValueError(f"kafka_security={self.kafka_security} needs kafka_username and kafka_password")
        if (self.kafka_cert_file is None) != (self.kafka_key_file is None):
            raise ValueError("kafka_cert_file and kafka_key_file go together")
        return self


def _is_redis_url(url: str) -> bool:
    """Whether it is one that the client reads as it is meant: it takes a database that is no number for none, and an
    option it does not know for an argument of its own.

    Raises:
        ValueError: the port is none.
    """
    parts = urlsplit(url)
    option = _DATABASE_OPTION.fullmatch(parts.query) is not None
    if parts.fragment or (parts.query and not option):
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    database = _DATABASE_PATH.fullmatch(parts.path) is not None and not (option and parts.path.strip("/"))
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0 and database


def load_settings(**flags: Any) -> Settings:
    """Settings from the environment; a flag that is not None wins over its variable.

    Raises:
        ConfigError: all that is wrong, in one line.
    """
    unknown = sorted(filter(_is_unknown, os.environ))
    if unknown:
        raise ConfigError("; ".join(map(_no_such_variable, unknown)))
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(item) for item in error.errors())) from None


def _is_unknown(variable: str) -> bool:
    """Whether a variable looks like a setting and is none, so that what it shall set would stay as it is."""
    name, value = variable.upper(), os.environ[variable]
    return (
        bool(value)
        and name.startswith(PREFIX)
        and name.removeprefix(PREFIX).lower() not in Settings.model_fields
        and _OF_OTHERS.fullmatch(name) is None
        and _OF_SERVICES.match(value) is None
    )


def _no_such_variable(variable: str) -> str:
    near = get_close_matches(variable.upper().removeprefix(PREFIX), [name.upper() for name in Settings.model_fields], 1)
    return f"{variable}: there is no such setting; {f'is it {PREFIX}{near[0]}?' if near else 'unset it'}"


def shown(settings: Settings) -> dict[str, str | int | float | None]:
    """Every setting by its name, secrets masked: for `config show` and logs."""
    values: dict[str, str | int | float | None] = {}
    for name, value in settings:
        if name == "redis_url":
            values[name] = redis_location(settings)
        elif isinstance(value, SecretStr):
            values[name] = _MASK
        else:
            values[name] = str(value) if isinstance(value, Path) else value
    return values


def redis_location(settings: Settings) -> str:
    """The Redis URL with what could be secret masked."""
    parts = urlsplit(settings.redis_url.get_secret_value())
    place = parts.netloc.rpartition("@")[2]
    user = f"{_MASK}@" if "@" in parts.netloc else ""
    option = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{user}{place}{parts.path}{option}"


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Connection arguments for every aiokafka client.

    Raises:
        ConfigError: a certificate or key file cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "security_protocol": settings.kafka_security.upper(),
    }
    if settings.kafka_security.endswith("ssl"):
        options["ssl_context"] = _tls(settings)
    if settings.kafka_security.startswith("sasl_") and settings.kafka_password is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return options


def _tls(settings: Settings) -> ssl.SSLContext:
    context = authority("kafka_ca_file", settings.kafka_ca_file)
    if settings.kafka_cert_file is not None and settings.kafka_key_file is not None:
        for name in ("kafka_cert_file", "kafka_key_file"):
            _readable(name, getattr(settings, name))
        secret = settings.kafka_key_password
        try:
            context.load_cert_chain(
                settings.kafka_cert_file,
                settings.kafka_key_file,
                # Without a password given OpenSSL would ask for one on the terminal.
                password="" if secret is None else secret.get_secret_value(),
            )
        except (OSError, ValueError) as error:
            files = f"{settings.kafka_cert_file}, {settings.kafka_key_file}"
            raise ConfigError(
                f"kafka_cert_file, kafka_key_file: {files}: cannot be used together ({error}): give a certificate and "
                "its key in PEM, and kafka_key_password if the key has one"
            ) from None
    return context


def authority(name: str, file: Path | None) -> ssl.SSLContext:
    """What trusts the authority whose PEM a setting names, the system's where it names none.

    Raises:
        ConfigError: there is no such file, or no certificate in it.
    """
    if file is not None:
        _readable(name, file)
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} ({PREFIX}{name.upper()}): {file}: holds no certificate in PEM ({error})") from None


def _readable(name: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{name} ({PREFIX}{name.upper()}): {file}: {error.strerror}") from None


def _problem(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if not name:
        return str(message)
    if item["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    return f"{name} ({PREFIX}{name.upper()}): {message}"
