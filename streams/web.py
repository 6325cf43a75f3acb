"""The worker over HTTP: /metrics for Prometheus, /healthz (the process is up), /readyz (it gets on)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import disable_created_metrics
from prometheus_client.aiohttp import make_aiohttp_handler

from streams.config import PREFIX, ConfigError, Settings
from streams.metrics import Metrics

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(metrics: Metrics, settings: Settings) -> AsyncIterator[str]:
    """Serve while the context lasts; gives the base URL.

    /readyz answers 503 with its reasons while a task of ours is not taken over, or is behind and has committed nothing
    for half of `stall_s` (after all of it the watchdog ends the process).

    Raises:
        ConfigError: the address cannot be had.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        lines = metrics.tasks.unready(settings.stall_s / 2)
        return web.Response(text="\n".join(lines or ["ready"]) + "\n", status=503 if lines else 200)

    # When each series was created is of no use to us, and would be a second series beside each counter.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    app = web.Application()
    app.router.add_get("/metrics", make_aiohttp_handler(metrics.registry))
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.http_host, settings.http_port).start()
        except OSError as error:
            raise ConfigError(
                f"http_host, http_port ({PREFIX}HTTP_HOST, {PREFIX}HTTP_PORT): cannot listen on "
                f"{settings.http_host}:{settings.http_port} ({error.strerror}): free it or choose another (0: any)"
            ) from error
        host, port = runner.addresses[0][:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("metrics served", url=f"{url}/metrics")
        yield url
    finally:
        await runner.cleanup()
