"""What is given up leaves nothing behind: no connection, no place at the server."""

import asyncio
import gc
import warnings

import pytest

from openr_data.inference.serving.http_client import Servers
from tests.inference.serving.completions_server import serving

# About who comes first and who waits: one after another, never beside each other.
pytestmark = pytest.mark.xdist_group("servers")


def test_requests_given_up_while_they_connect_leave_no_open_socket() -> None:
    async def give_up(url: str, seconds: float) -> None:
        servers = Servers([url], "", 64, 30.0, 30.0)
        tasks = [asyncio.ensure_future(servers.post("completions", {"prompt": str(i)})) for i in range(32)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(item, asyncio.CancelledError) for item in ended)
        assert servers.in_flight == 0
        await servers.close()

    with serving() as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for place in range(40):
            asyncio.run(give_up(server.url, 0.0005 * place))
            gc.collect()
    assert [item for item in caught if item.category is ResourceWarning] == []
