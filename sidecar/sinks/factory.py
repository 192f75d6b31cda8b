"""The sinks that the settings name; each is imported only then."""

from sidecar.settings.schema import Settings
from sidecar.sinks import Sink


def make_sinks(settings: Settings) -> list[Sink]:
    """The sinks that the settings name."""
    from sidecar.sinks.falcosidekick import falcosidekick  # noqa: PLC0415
    from sidecar.sinks.file import FileSink  # noqa: PLC0415
    from sidecar.sinks.grpc.subscribers import Subscribers  # noqa: PLC0415
    from sidecar.sinks.stdout import StdoutSink  # noqa: PLC0415
    from sidecar.sinks.webhook import webhook  # noqa: PLC0415

    wanted = settings.sinks
    sinks: list[Sink] = []
    if wanted.falcosidekick.url:
        sinks.append(falcosidekick(wanted.falcosidekick))
    if wanted.webhook.url:
        sinks.append(webhook(wanted.webhook))
    if wanted.file.path:
        sinks.append(FileSink(wanted.file.path))
    if wanted.grpc.address:
        sinks.append(Subscribers(wanted.grpc))
    if wanted.stdout.enabled:
        sinks.append(StdoutSink(wanted.stdout.format))
    return sinks
