"""What a bare uvicorn with its fast parts (uvloop, httptools) costs that reads each alert and throws it away."""

import sys
from typing import Any

import uvicorn

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body, answer 200."""
    del scope
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="error"
    )
