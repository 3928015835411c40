"""Run in the hub's pod (:mod:`.usage`): 20 routes a second come, and each goes a second later.

python3 -c "$(cat churn.py)" SECONDS
"""

from __future__ import annotations

import asyncio
import logging
import sys

from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy
from jupyterhub_junction.proxies.writer import TableWriter
from jupyterhub_junction.routes import Route

RATE = 20


async def one(writer: TableWriter, number: int) -> None:
    """A server starts, and stops again."""
    await writer.put(Route(f"/churn/{number}/", "http://hub:8081", {}))
    await asyncio.sleep(1)
    await writer.delete(f"/churn/{number}/")


async def main(seconds: float) -> None:
    """All of them, whatever the earlier ones take."""
    store = TraefikEtcdProxy().make_store()
    writer = TableWriter(store, logging.getLogger(), timeout=60)
    loop, tasks = asyncio.get_running_loop(), []
    begun = loop.time()
    for number in range(int(RATE * seconds)):
        tasks.append(asyncio.create_task(one(writer, number)))
        await asyncio.sleep(max(0, begun + number / RATE - loop.time()))
    await asyncio.gather(*tasks)
    await writer.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
