"""What an aiohttp application (on uvloop) costs that reads each alert and throws it away."""

import sys

import uvloop
from aiohttp import web


async def take(request: web.Request) -> web.Response:
    """Read the body, answer 200."""
    await request.read()
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/", take)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
