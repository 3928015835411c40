"""etcd's users and roles for Junction: the hub writes the routes, agents cannot.

| role | reads | writes |
|---|---|---|
| ``junction-hub`` | all under the prefix | all under the prefix |
| ``junction-agent`` | all under the prefix | ``replicas/`` and ``activity/`` |

Roles are made by :func:`set_up_roles`, which may run any number of times: it writes only what is
missing or different, since with each change of users or roles every client has to sign in again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from ..store import StoreRefused
from .errors import NOT_FOUND, Json, RpcError
from .gateway import Gateway

__all__ = ["AGENT_ROLE", "HUB_ROLE", "set_up_roles", "signs_in"]

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
) -> list[str]:
    """Make users and roles and turn authentication on.

    Args:
        gateway: signed in as root, or as nobody while authentication is still off.
        root_password: what root gets; etcd needs a root user before authentication.
        hub: name and password of the hub's user.
        agent: name and password of the agents' user.
        prefix: what all of Junction's keys begin with.

    Returns:
        What was changed, in words.

    Raises:
        StoreRefused: root's password is another, or ``gateway``'s user is not root.
        StoreUnavailable: no endpoint answers.
    """
    done: list[str] = []
    enabled = bool((await _call(gateway, "/v3/auth/status", {})).get("enabled"))
    done += await _role(gateway, HUB_ROLE, [("READWRITE", prefix)])
    done += await _role(
        gateway,
        AGENT_ROLE,
        [("READ", prefix), *(("READWRITE", prefix + part) for part in AGENT_WRITES)],
    )
    done += await _user(gateway, *hub, HUB_ROLE, enabled)
    done += await _user(gateway, *agent, AGENT_ROLE, enabled)
    done += await _role(gateway, "root", [])
    done += await _user(gateway, "root", root_password, "root", enabled)
    if not enabled:
        await _call(gateway, "/v3/auth/enable", {})
        done.append("authentication turned on")
    return done


async def signs_in(gateway: Gateway, name: str, password: str) -> bool:
    """Whether a user can sign in with this password."""
    try:
        await gateway.call(
            "/v3/auth/authenticate", {"name": name, "password": password}, signed=False
        )
    except StoreRefused as error:
        if "the password is wrong" in str(error):
            return False
        raise
    return True


async def _role(gateway: Gateway, name: str, permissions: Iterable[tuple[str, str]]) -> list[str]:
    role = await _get(gateway, "/v3/auth/role/get", {"role": name}, "role name not found")
    done = []
    if role is None:
        await _unless(gateway, "/v3/auth/role/add", {"name": name}, "already exists")
        done.append(f"role {name} added")
    there = [_normal(permission) for permission in (role or {}).get("perm", ())]
    for kind, prefix in permissions:
        key = prefix.encode()
        permission = {
            "permType": kind,
            "key": base64.b64encode(key).decode(),
            "range_end": base64.b64encode(key[:-1] + bytes([key[-1] + 1])).decode(),
        }
        if permission not in there:
            await _call(gateway, "/v3/auth/role/grant", {"name": name, "perm": permission})
            done.append(f"{kind} on {prefix} granted to {name}")
    return done


def _normal(permission: Json) -> Json:
    # protobuf's JSON leaves out what is zero: READ is
    return {"permType": "READ", "range_end": "", **permission}


async def _user(gateway: Gateway, name: str, password: str, role: str, enabled: bool) -> list[str]:
    user = {"name": name, "password": password}
    there = await _get(gateway, "/v3/auth/user/get", {"name": name}, "user name not found")
    done = []
    if there is None:
        exists = await _unless(gateway, "/v3/auth/user/add", user, "already exists")
        done.append(f"user {name} added")
    else:
        # while nobody signs in, there is no other way to know its password
        exists = not (enabled and await signs_in(gateway, name, password))
        if exists:
            done.append(f"password of {name} set")
    if exists:
        await _call(gateway, "/v3/auth/user/changepw", user)
    if role not in (there or {}).get("roles", ()):
        await _call(gateway, "/v3/auth/user/grant", {"user": name, "role": role})
        done.append(f"role {role} granted to {name}")
    return done


async def _get(gateway: Gateway, path: str, body: Json, words: str) -> Json | None:
    """The answer; None if etcd answers with ``words``, which say that there is none."""
    try:
        return await gateway.call(path, body)
    except RpcError as error:
        if error.code == NOT_FOUND or words in error.message:
            return None
        raise StoreRefused(f"etcd at {error}") from None
    except StoreRefused as error:
        if words in str(error) or "password is wrong" in str(error):
            return None
        raise


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
