"""What the HTTP sinks share: one POST a notification, and what the answer's status means."""

from sidecar.errors import Refused, SinkError
from sidecar.model import Outgoing
from sidecar.net.http_client import Client

_TRY_AGAIN = (408, 425, 429)


class HttpSink:
    """Posts each notification as a Falco event. `timeout` is in seconds."""

    def __init__(self, name: str, url: str, *, timeout: float, headers: dict[str, str] | None = None) -> None:
        self.name = name
        self._client = Client(url, timeout=timeout, headers=headers)

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
