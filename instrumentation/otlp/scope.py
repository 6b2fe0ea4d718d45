"""Who measured and recorded, as OpenTelemetry has it: the instrumentation scope of all that eventflow exports."""

from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from eventflow.work import VERSION

SCOPE = InstrumentationScope("eventflow", VERSION)
