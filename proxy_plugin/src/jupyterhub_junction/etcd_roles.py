"""etcd's users and roles for Junction: the hub writes the routes, agents cannot.

| role | reads | writes |
|---|---|---|
| ``junction-hub`` | all under the prefix | all under the prefix |
| ``junction-agent`` | all under the prefix | ``replicas/`` and ``activity/`` |

Roles are made by :func:`set_up_roles`, which may run any number of times: it adds what is missing,
sets the passwords anew, and then turns authentication on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from .etcd_errors import Json, RpcError
from .etcd_http import Gateway
from .store import StoreRefused

__all__ = ["AGENT_ROLE", "HUB_ROLE", "set_up_roles"]

HUB_ROLE, AGENT_ROLE = "junction-hub", "junction-agent"
#: what agents may write, under the prefix
AGENT_WRITES = ("replicas/", "activity/")


async def set_up_roles(
    gateway: Gateway,
    *,
    root_password: str,
    hub: tuple[str, str],
    agent: tuple[str, str],
    prefix: str = "/junction/",
) -> None:
    """Make users and roles and turn authentication on.

    Args:
        gateway: signed in as root, or as nobody while authentication is still off.
        root_password: what root gets; etcd needs a root user before authentication.
        hub: name and password of the hub's user.
        agent: name and password of the agents' user.
        prefix: what all of Junction's keys begin with.

    Raises:
        StoreRefused: root's password is another, or ``gateway``'s user is not root.
        StoreUnavailable: no endpoint answers.
    """
    await _role(gateway, HUB_ROLE, [("READWRITE", prefix)])
    await _role(
        gateway,
        AGENT_ROLE,
        [("READ", prefix), *(("READWRITE", prefix + part) for part in AGENT_WRITES)],
    )
    await _user(gateway, *hub, HUB_ROLE)
    await _user(gateway, *agent, AGENT_ROLE)
    await _unless(gateway, "/v3/auth/role/add", {"name": "root"}, "already exists")
    await _user(gateway, "root", root_password, "root")
    await _call(gateway, "/v3/auth/enable", {})


async def _role(gateway: Gateway, name: str, permissions: Iterable[tuple[str, str]]) -> None:
    await _unless(gateway, "/v3/auth/role/add", {"name": name}, "already exists")
    for kind, prefix in permissions:
        key = prefix.encode()
        permission = {
            "permType": kind,
            "key": base64.b64encode(key).decode(),
            "range_end": base64.b64encode(key[:-1] + bytes([key[-1] + 1])).decode(),
        }
        await _call(gateway, "/v3/auth/role/grant", {"name": name, "perm": permission})


async def _user(gateway: Gateway, name: str, password: str, role: str) -> None:
    user = {"name": name, "password": password}
    if await _unless(gateway, "/v3/auth/user/add", user, "already exists"):
        await _call(gateway, "/v3/auth/user/changepw", user)
    await _call(gateway, "/v3/auth/user/grant", {"user": name, "role": role})


async def _unless(gateway: Gateway, path: str, body: Json, words: str) -> bool:
    """Call; True if etcd answers with ``words``, which say that it is done already."""
    try:
        await _call(gateway, path, body)
    except StoreRefused as error:
        if words not in str(error):
            raise
        return True
    return False


async def _call(gateway: Gateway, path: str, body: Json) -> Json:
    try:
        return await gateway.call(path, body)
    except RpcError as error:
        raise StoreRefused(f"etcd at {error}") from None
