"""The values that make an existing z2jh mirror to Junction, be served by it, and go back.

Pure.  Invariants:

* They are z2jh's own values, valid by its closed schema, and say nothing but what Junction needs.
* Only one of them can be given at a time: each has the file :data:`ONE` in another of three forms
  that z2jh's schema allows one of, so that helm refuses two before it changes anything.
* *Prepare* leaves the proxy's pod as it is: CHP would lose its table.  After *rollback*, CHP's
  pod is ready only once ``junction fill-chp`` beside it has filled its table.
* Where helm replaces a list and the admin has one, the preset has both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..commands.chp_flags import FlagRefused, translate
from .guard import guard

__all__ = ["HUB_IMAGE", "ONE", "PRESETS", "REPLICA_IMAGE", "BadPreset", "Names", "preset"]

Values = dict[str, Any]

HUB_IMAGE = f"quay.io/jupyterhub-junction/hub:{__version__}"
REPLICA_IMAGE = f"quay.io/jupyterhub-junction/replica:{__version__}"
#: of the file in ``hub.extraFiles``; helm's message names it
ONE = "junction-give-one-preset-at-a-time"
_LABEL = {"junction.jupyter.org/etcd-client": "true"}
_ACCESS = ("", "_PREFIX", "_USERNAME", "_PASSWORD", "_CA", "_CERT", "_KEY")
#: where the sidecar of CHP says that the table is full; in no Service
FILL_PORT = 8083


class BadPreset(ValueError):
    """Names or values that no preset can be made for; one line that names them."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the presets refer to.

    Attributes:
        junction: what the names of Junction's chart begin with (its ``fullnameOverride``, or its
            release if that has ``junction`` in it, else ``RELEASE-junction``).
        hub_image, replica_image: with their tags.
        z2jh: z2jh's ``fullnameOverride``, if it has one.
    """

    junction: str = "junction"
    hub_image: str = HUB_IMAGE
    replica_image: str = REPLICA_IMAGE
    z2jh: str = ""

    @classmethod
    def of_release(cls, release: str, **others: str) -> Names:
        """The names of a release of Junction's chart."""
        full = release if "junction" in release else f"{release}-junction"
        return cls(junction=full[:40].rstrip("-"), **others)

    def of_z2jh(self, name: str) -> str:
        """An object of z2jh's."""
        return f"{self.z2jh}-{name}" if self.z2jh else name


def _image(image: str) -> Values:
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag or not name or not tag:
        raise BadPreset(f"image {image!r} has no tag: write NAME:TAG")
    return {"name": name, "tag": tag}


def _access(secret: str, *, optional: bool = False) -> Values:
    """etcd's access as environment variables, from the Secret that Junction's chart makes."""
    return {
        f"JUNCTION_ETCD{each}": {
            "valueFrom": {
                "secretKeyRef": {
                    "name": secret,
                    "key": f"JUNCTION_ETCD{each}",
                    # users and certificates of etcd may come from elsewhere, or not be in use
                    **({"optional": True} if optional or each else {}),
                }
            }
        }
        for each in _ACCESS
    }


def _as_list(environment: Values) -> list[Values]:
    return [{"name": name, **value} for name, value in environment.items()]


def _with_own(environment: Values, own: Any) -> Any:
    """A map, which helm merges; a list where the admin has one, which helm would drop."""
    if not isinstance(own, list):
        return environment
    return [one for one in own if one.get("name") not in environment] + _as_list(environment)


def _at(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _policy(own: Values, path: str) -> Values:
    """Leave to reach etcd, where an admin's policies do not give it: by default z2jh's do, as all
    private addresses may be reached.  Only then, as it is one more list that helm replaces.
    """
    policy = _at(own, f"{path}.networkPolicy")
    if _at(own, f"{path}.networkPolicy.egressAllowRules.privateIPs") is not False:
        return {}
    labels = {"app.kubernetes.io/name": "junction", "app.kubernetes.io/component": "etcd"}
    etcd = {
        "to": [{"podSelector": {"matchLabels": labels}}],
        "ports": [{"port": 2379, "protocol": "TCP"}],
    }
    return {"networkPolicy": {"egress": [*(policy.get("egress") or []), etcd]}}


def _hub(names: Names, own: Values, config: Values, once: Values, *, optional: bool) -> Values:
    access = _access(f"{names.junction}-etcd-hub-access", optional=optional)
    return {
        "image": _image(names.hub_image),
        "labels": dict(_LABEL),
        "extraEnv": _with_own(access, _at(own, "hub.extraEnv")),
        "config": config,
        "extraFiles": {ONE: {"mountPath": "/etc/junction/preset.yaml", **once}},
        **_policy(own, "hub"),
    }


def _prepare(names: Names, own: Values) -> Values:
    config = {
        "JupyterHub": {"proxy_class": "junction-mirror"},
        "MirroredProxy": {"serving": "chp"},
    }
    return {
        # without the Secret the hub starts all the same, and says that etcd does not answer
        "hub": _hub(names, own, config, {"stringData": "preset: prepare\n"}, optional=True),
        "proxy": {"chp": {"pdb": {"enabled": False}}},
    }


def _takeover(names: Names, own: Values) -> Values:
    once = {"binaryData": base64.b64encode(b"preset: takeover\n").decode()}
    config = {"JupyterHub": {"proxy_class": "junction"}}
    access = _access(f"{names.junction}-etcd-access")
    return {
        "hub": _hub(names, own, config, once, optional=False),
        "proxy": {
            "labels": dict(_LABEL),
            "chp": {
                "image": _image(names.replica_image),
                "extraEnv": _with_own(access, _at(own, "proxy.chp.extraEnv")),
                "extraCommandLineFlags": [*_flags(own), _guard(names)],
                "pdb": {"enabled": False},
                **_policy(own, "proxy.chp"),
            },
        },
    }


def _guard(names: Names) -> str:
    return guard(
        full=names.junction,
        image=_image(names.replica_image)["name"],
        proxy=names.of_z2jh("proxy"),
        public=names.of_z2jh("proxy-public"),
    )


def _flags(own: Values) -> list[str]:
    """The admin's own flags for CHP, all of which a replica has to take."""
    flags = _at(own, "proxy.chp.extraCommandLineFlags") or []
    # what is a template is known only to helm
    plain = [str(flag) for flag in flags if "{{" not in str(flag)]
    try:
        # --redirect-port needs a certificate, which z2jh gives beside it
        translate(["--ssl-key=k", "--ssl-cert=c", *plain])
    except FlagRefused as error:
        raise BadPreset(f"proxy.chp.extraCommandLineFlags: {error}") from None
    return [str(flag) for flag in flags]


def _rollback(names: Names, own: Values) -> Values:
    once = {"data": {"preset": "rollback"}}
    config = {
        "JupyterHub": {"proxy_class": "junction-mirror"},
        # what has served until now goes on; CHP may still be on its way
        "MirroredProxy": {"serving": "etcd"},
    }
    mine = _at(own, "proxy.chp.extraPodSpec.initContainers") or []
    token = {
        "valueFrom": {
            "secretKeyRef": {
                "name": names.of_z2jh("hub"),
                "key": "hub.config.ConfigurableHTTPProxy.auth_token",
            }
        }
    }
    access = _access(f"{names.junction}-etcd-access")
    probe = {"httpGet": {"path": "/readyz", "port": FILL_PORT}, "periodSeconds": 1}
    sidecar = {
        "name": "junction-fill",
        "image": names.replica_image,
        # an init container that goes on beside the others, and counts for the pod's readiness
        "restartPolicy": "Always",
        "command": ["junction", "fill-chp", f"--status=0.0.0.0:{FILL_PORT}"],
        "env": _as_list({"CONFIGPROXY_AUTH_TOKEN": token, **access}),
        "readinessProbe": probe | {"timeoutSeconds": 2, "failureThreshold": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "hub": _hub(names, own, config, once, optional=True),
        "proxy": {
            "labels": dict(_LABEL),
            "chp": {
                "pdb": {"enabled": False},
                **_policy(own, "proxy.chp"),
                "extraPodSpec": {"initContainers": [*mine, sidecar]},
            },
        },
    }


_DEFAULT = Names()

PRESETS: Mapping[str, Callable[[Names, Values], Values]] = {
    "prepare": _prepare,
    "takeover": _takeover,
    "rollback": _rollback,
}


def preset(
    name: str,
    names: Names = _DEFAULT,
    own: Values | None = None,
    *,
    trust: Sequence[str] = (),
) -> Values:
    """The values of a preset.

    Args:
        trust: whose X-Forwarded headers z2jh's proxy believes once it is a replica.
        own: the admin's values, of which the lists are kept that helm would replace.

    Raises:
        BadPreset: an image without a tag, or a flag that a replica does not take.
    """
    values = PRESETS[name](names, own or {})
    if trust and name == "takeover":
        environment = values["proxy"]["chp"]["extraEnv"]
        if isinstance(environment, list):
            environment.append({"name": "JUNCTION_TRUST", "value": ",".join(trust)})
        else:
            environment["JUNCTION_TRUST"] = ",".join(trust)
    return values
