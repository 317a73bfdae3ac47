"""A program that uses the names `tunnel` itself offers."""

from __future__ import annotations

import asyncio

from tunnel import Config, Tunnel, TunnelError, __version__, load_config, plan


async def follow(path: str) -> None:
    before: Config = load_config(path)
    async with Tunnel(before) as tunnel:
        after = load_config(path)
        if not plan(before, after).empty:
            made = await tunnel.apply(after)
            print(made.text())
        status = await tunnel.status()
        received: int = sum(peer.rx_bytes for peer in status.peers)
        print(status.name, received)


try:
    asyncio.run(follow("config.json"))
except TunnelError as error:
    version: str = __version__
    print(version, error.message, error.hint)
