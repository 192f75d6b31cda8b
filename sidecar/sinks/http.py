"""What the HTTP sinks share: one POST a notification, and what the answer's status means."""

from sidecar.errors import Refused, SinkError
from sidecar.model import Outgoing
from sidecar.net.http_client import Client
from sidecar.settings.sinks import HttpSinkSettings

_TRY_AGAIN = (408, 425, 429)


class HttpSink:
    """Posts each notification as a Falco event."""

    def __init__(self, name: str, settings: HttpSinkSettings, headers: dict[str, str] | None = None) -> None:
        self.name = name
        self._client = Client(settings.url, timeout=settings.timeout.seconds, headers=headers, tls=settings.tls.files())

    async def send(self, out: Outgoing) -> None:
        """Raises Refused on a 4xx that will not change, SinkError on everything else but 2xx."""
        try:
            status = await self._client.post(out.body, f"Idempotency-Key: {out.key}\r\n")
        except OSError as error:
            raise SinkError(f"{self.name}: {str(error) or 'no response in time'}") from error
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            raise Refused(f"{self.name}: answered {status}")
        if not 200 <= status < 300:
            raise SinkError(f"{self.name}: answered {status}", self._client.retry_after)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()
