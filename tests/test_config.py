"""Settings come from flags, then the environment; secrets stay hidden."""

import json
from pathlib import Path

import pytest

from streams.config import ConfigError, kafka_options, load_settings, redis_location, shown


def test_a_flag_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUEWATCH_BROKER", "kafka:9092")
    monkeypatch.setenv("DUEWATCH_HTTP_PORT", "9000")
    monkeypatch.setenv("DUEWATCH_KAFKA_USERNAME", "")
    settings = load_settings(http_port=1234, clock=None)
    assert (settings.broker, settings.http_port, settings.clock) == ("kafka:9092", 1234, "worker")
    assert settings.kafka_username is None


def test_everything_is_shown_and_no_secret() -> None:
    settings = load_settings(
        redis_url="rediss://app:s3cret@cache.example:6380/2",
        kafka_security="sasl_ssl",
        kafka_username="app",
        kafka_password="s3cret",
        kafka_key_password="s3cret",
    )
    values = shown(settings)
    assert set(values) == set(type(settings).model_fields)
    assert values["redis_url"] == redis_location(settings) == "rediss://***@cache.example:6380/2"
    assert values["kafka_password"] == values["kafka_key_password"] == "***"
    assert values["kafka_username"] == "app"
    for text in (json.dumps(values), repr(settings), str(settings)):
        assert "s3cret" not in text


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"http_port": 99_999}, "http_port (DUEWATCH_HTTP_PORT): "),
        ({"tick_every_s": 0}, "tick_every_s (DUEWATCH_TICK_EVERY_S): "),
        ({"clock": "sun"}, "clock (DUEWATCH_CLOCK): "),
        ({"app_id": "a b"}, "app_id (DUEWATCH_APP_ID): "),
        ({"broker": "a:1,b:port"}, "broker (DUEWATCH_BROKER): must be HOST:PORT[,HOST:PORT...]"),
        ({"broker": "a:99999"}, "broker (DUEWATCH_BROKER): must be HOST:PORT"),
        ({"broker": ":9092"}, "broker (DUEWATCH_BROKER): must be HOST:PORT"),
        ({"brokers": "x"}, "brokers: there is no such setting"),
        ({"transaction_deadline_ms": 60_000}, "transaction_deadline_ms must be below transaction_timeout_ms"),
        ({"kafka_security": "sasl_ssl"}, "needs kafka_username and kafka_password"),
        ({"kafka_cert_file": "/x"}, "kafka_cert_file and kafka_key_file go together"),
        ({"redis_url": "http://app:s3cret@h:1/0"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "redis://app:s3/cret@h:6379/0"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "redis://h:s3cret"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "unix://"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "redis://h:1/0?password=s3cret"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "redis://h:1?db=s3cret"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "redis://h:1/1?db=2"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "redis://h:1/s3cret"}, "DB a number, without other options"),
        ({"redis_url": "redis://h:1/0#s3cret"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
        ({"redis_url": "unix:///s?timeout=1"}, "redis_url (DUEWATCH_REDIS_URL): must be redis://"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(flags: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(**flags)
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    assert "s3" not in message


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h/", "redis://h:1/15", "rediss://h:1?db=15", "unix:///s", "unix://u:p@/s?db=2"]
)
def test_a_place_of_redis(url: str) -> None:
    assert redis_location(load_settings(redis_url=url)) == url.replace("u:p", "***")


@pytest.mark.parametrize("broker", ["a", "a:1, b:2", "[::1]:9092", "::1", "[::1]"])
def test_places_of_brokers(broker: str) -> None:
    assert load_settings(broker=broker).broker == broker


def test_a_variable_is_checked_like_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUEWATCH_CHUNK_RECORDS", "many")
    with pytest.raises(ConfigError, match="DUEWATCH_CHUNK_RECORDS"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("DUEWATCH_BROKR", "DUEWATCH_BROKR: there is no such setting; is it DUEWATCH_BROKER?"),
        ("duewatch_chunkrecords", "duewatch_chunkrecords: there is no such setting; is it DUEWATCH_CHUNK_RECORDS?"),
        ("DUEWATCH_HTPP_PORT", "DUEWATCH_HTPP_PORT: there is no such setting; is it DUEWATCH_HTTP_PORT?"),
        ("DUEWATCH_XYZ", "DUEWATCH_XYZ: there is no such setting; unset it"),
    ],
)
def test_a_variable_that_is_no_setting(variable: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "s3cret")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value) == told


def test_variables_that_are_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kubernetes service named duewatch, or duewatch-redis, puts such ones into every container beside it."""
    for name, value in {
        "DUEWATCH_COMPILE": "1",
        "DUEWATCH_TEST_KAFKA": "kafka:9092",
        "DUEWATCH_PORT": "tcp://10.0.0.1:9464",
        "DUEWATCH_PORT_9464_TCP_ADDR": "10.0.0.1",
        "DUEWATCH_SERVICE_HOST": "10.0.0.1",
        "DUEWATCH_SERVICE_PORT_METRICS": "9464",
        "DUEWATCH_REDIS_SERVICE_PORT": "6379",
        "DUEWATCH_REDIS_PORT": "tcp://10.0.0.2:6379",
        "DUEWATCH_REDIS_PORT_6379_TCP": "tcp://10.0.0.2:6379",
        "DUEWATCH_XYZ": "",
        "duewatch_app_id": "mine",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings().app_id == "mine"


def test_kafka_options_follow_the_security() -> None:
    assert kafka_options(load_settings(broker="a:1,b:2")) == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
    }
    options = kafka_options(load_settings(kafka_security="sasl_ssl", kafka_username="app", kafka_password="s3cret"))
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_context"].check_hostname
    assert (options["sasl_mechanism"], options["sasl_plain_username"], options["sasl_plain_password"]) == (
        "SCRAM-SHA-512",
        "app",
        "s3cret",
    )


def test_an_unusable_certificate_names_its_setting_and_file(tmp_path: Path) -> None:
    missing, empty = tmp_path / "none.pem", tmp_path / "empty.pem"
    empty.touch()
    ours = {"kafka_cert_file": empty, "kafka_key_file": empty, "kafka_key_password": "s3cret"}
    for files, told in (
        ({"kafka_ca_file": missing}, f"kafka_ca_file (DUEWATCH_KAFKA_CA_FILE): {missing}: No such file or directory"),
        ({"kafka_ca_file": empty}, f"kafka_ca_file (DUEWATCH_KAFKA_CA_FILE): {empty}: holds no certificate in PEM"),
        (ours | {"kafka_cert_file": missing}, f"kafka_cert_file (DUEWATCH_KAFKA_CERT_FILE): {missing}: No such file"),
        (ours | {"kafka_key_file": missing}, f"kafka_key_file (DUEWATCH_KAFKA_KEY_FILE): {missing}: No such file"),
        (ours, f"kafka_cert_file, kafka_key_file: {empty}, {empty}: cannot be used together"),
    ):
        with pytest.raises(ConfigError) as caught:
            kafka_options(load_settings(kafka_security="ssl", **files))
        assert str(caught.value).startswith(told)
        assert "s3cret" not in str(caught.value)
