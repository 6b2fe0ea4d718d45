"""OpenTelemetry's variables: what each does, and what is said where one cannot be."""

import pytest

from eventflow.errors import UsageError
from instrumentation.otlp.settings import HONOURED, Settings, is_asked_for, read_settings
from instrumentation.traces.sampling import ALL, Policy

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def read(**environ: str) -> Settings:
    """The settings of an environment that asks for something."""
    settings = read_settings(environ)
    assert settings is not None
    return settings


def test_the_defaults() -> None:
    """Traces and metrics by HTTP to the local collector, all of them."""
    settings = read()
    assert settings.protocols == {"traces": "http/protobuf", "metrics": "http/protobuf"}
    assert settings.endpoints["traces"] == "http://localhost:4318/v1/traces"
    assert settings.policy == ALL


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        ({ENDPOINT: " "}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_an_endpoint_asks_for_an_export(environ: dict[str, str], asked: bool) -> None:
    """And `OTEL_SDK_DISABLED` goes before."""
    assert is_asked_for(environ) is asked


def test_disabled_is_nothing() -> None:
    """`OTEL_SDK_DISABLED=true`: no settings at all."""
    assert read_settings({"OTEL_SDK_DISABLED": "TRUE"}) is None


def test_an_endpoint_is_a_base_or_that_of_a_signal() -> None:
    """A signal's own is used as it is, the common one gets the signal's path; gRPC has none."""
    settings = read(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318/",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://m:9090/api/otlp",
    )
    assert settings.endpoints == {"traces": "http://c:4318/v1/traces", "metrics": "http://m:9090/api/otlp"}
    grpc = read(OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert grpc.endpoints == {"traces": "http://localhost:4317", "metrics": "http://localhost:4317"}


def test_a_protocol_is_for_all_or_for_one() -> None:
    """A signal's own variable goes before the common one."""
    settings = read(OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf")
    assert settings.protocols == {"traces": "http/protobuf", "metrics": "grpc"}


def test_exporters_are_chosen() -> None:
    """`none` leaves a signal out, `otlp` puts log records in; so does the option."""
    assert read(OTEL_METRICS_EXPORTER="none").protocols.keys() == {"traces"}
    assert read(OTEL_TRACES_EXPORTER="none", OTEL_LOGS_EXPORTER="otlp").protocols.keys() == {"metrics", "logs"}
    with_logs = read_settings({}, logs=True)
    assert with_logs is not None
    assert "logs" in with_logs.protocols


@pytest.mark.parametrize(
    ("sampler", "argument", "policy"),
    [
        ("always_on", "", ALL),
        ("parentbased_always_on", "", ALL),
        ("always_off", "", Policy(0.0)),
        ("traceidratio", "0.25", Policy(0.25)),
        ("parentbased_traceidratio", "0.5", Policy(0.5)),
        ("traceidratio", "", ALL),
    ],
)
def test_samplers_are_shares(sampler: str, argument: str, policy: Policy) -> None:
    """The SDK's samplers, for whole traces; `--sample` goes before."""
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert read(**environ).policy == policy
    asked = read_settings(environ, policy=Policy(0.0, errors=True))
    assert asked is not None
    assert asked.policy == Policy(0.0, errors=True)


def test_batches() -> None:
    """How many spans go together and how long one waits."""
    settings = read(OTEL_BSP_MAX_EXPORT_BATCH_SIZE="100", OTEL_BSP_SCHEDULE_DELAY="250")
    assert (settings.batch_spans, settings.batch_seconds) == (100, 0.25)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "carrier-pigeon"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "some"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "ten"},
        {"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "-1"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://collector"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "0"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "inf"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@collector:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:99999"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "good=1,bad header"},
    ],
    ids=lambda environ: " ".join(environ.values()),
)
def test_what_cannot_be_is_refused_by_name(environ: dict[str, str]) -> None:
    """One line that names the variable, and the fix."""
    with pytest.raises(UsageError) as refused:
        read_settings(environ)
    assert list(environ)[-1] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_who_names_one_signals_endpoint_means_that_signal() -> None:
    """The others do not go to the default of this machine then, unless they are asked for."""
    traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4318/v1/traces"}
    assert read(**traces).protocols.keys() == {"traces"}
    assert read(**traces, OTEL_METRICS_EXPORTER="otlp").protocols.keys() == {"traces", "metrics"}
    assert read(**traces, OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318").protocols.keys() == {"traces", "metrics"}


def test_credentials_in_an_endpoint_are_not_shown() -> None:
    """What people read has no secret in it."""
    settings = read(OTEL_EXPORTER_OTLP_ENDPOINT="http://me:hunter2@c:4318")
    assert "hunter2" not in repr(settings)


def test_the_table_names_what_is_read() -> None:
    """Each variable of the issue's list is in the table for the documentation."""
    names = " ".join(honoured.name for honoured in HONOURED)
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION", "RESOURCE_ATTRIBUTES", "SERVICE_NAME"):
        assert name in names
    assert {"OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG"} <= {h.name for h in HONOURED}
