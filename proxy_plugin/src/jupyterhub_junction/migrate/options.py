"""What becomes of each value of z2jh that has to do with its proxy: the table, as data.

``junction migrate check`` reads it against an admin's values, and the table of MIGRATION.md is
made from it.  Invariants:

* Every key of z2jh below ``proxy`` and ``hub``, and every key at its top, has a row, by itself or
  by one above it.
* Of the rows of one key, the first that applies to the value counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..commands.chp_flags import FLAGS

__all__ = ["FATES", "OPTIONS", "Fate", "Option", "table"]

Fate = Literal["same", "junction", "step", "none"]

FATES: Mapping[Fate, str] = {
    "same": "stays as it is",
    "junction": "has a counterpart",
    "step": "needs a step",
    "none": "has no counterpart",
}


def _always(_: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Option:
    """What becomes of one key of z2jh's values, and of all below it that have no row.

    Attributes:
        path: with dots.
        fate: see :data:`FATES`.
        says: what becomes of it, or what to do.
        kind: what its value is: ``map``, ``list``, ``text``, ``number``, ``bool`` or ``any`` of
            these, or more than one of them with ``|``.
        when: to which values it applies, in words; empty for all.
        applies: the same, as a function of the value.
    """

    path: str
    fate: Fate
    says: str
    kind: str = "any"
    when: str = ""
    applies: Callable[[Any], bool] = _always


_HUB = "the hub is z2jh's own, only its image has the plugin"
_SERVICE = "the address and its Service stay z2jh's: replicas join it"
_AUTOHTTPS = "the autohttps pod stays as it is, in front of the replicas"
_TRUST = (
    "believe the X-Forwarded headers of what stands in front: name its addresses by"
    " `junction migrate presets --trust CIDR` and in Junction's `replica.trust`; CHP believes"
    " anyone"
)
_OURS = "for the z2jh proxy's own pod as it is; for the other replicas set Junction's"
_POLICY = "all private addresses may be reached, and so may etcd"
_CLOSED = (
    "let it reach etcd: `junction migrate presets -f` adds that to your `networkPolicy.egress`; for"
    " an etcd of your own, add it yourself"
)
_LIST = (
    "`junction migrate presets -f` keeps your entries: helm would replace this list by the preset's"
)

#: keys of the hub that nothing has to be known of
_HUB_SAME = {
    "activeServerLimit": "number", "allowNamedServers": "bool", "annotations": "map",
    "authenticatePrometheus": "bool", "baseUrl": "text", "concurrentSpawnLimit": "number",
    "consecutiveFailureLimit": "number", "containerSecurityContext": "map", "cookieSecret": "text",
    "db": "map", "deploymentStrategy": "map", "existingSecret": "text", "extraConfig": "map",
    "extraContainers": "list", "extraFiles": "map", "extraPodSpec": "map",
    "extraVolumeMounts": "list", "extraVolumes": "list", "fsGid": "number",
    "initContainers": "list", "labels": "map", "lifecycle": "map", "livenessProbe": "map",
    "loadRoles": "map", "namedServerLimitPerUser": "number", "nodeSelector": "map", "pdb": "map",
    "podSecurityContext": "map", "readinessProbe": "map", "redirectToServer": "bool",
    "resources": "map", "revisionHistoryLimit": "number", "service": "map", "serviceAccount": "map",
    "services": "map", "shutdownOnLogout": "bool", "templatePaths": "list", "templateVars": "map",
    "tolerations": "list",
}  # fmt: skip


def _named(flag: Any) -> str:
    return str(flag).partition("=")[0].strip()


def _flags(fate: str) -> frozenset[str]:
    return frozenset(flag.name for flag in FLAGS if flag.fate == fate)


def _any_flag(names: Iterable[str]) -> Callable[[Any], bool]:
    wanted = frozenset(names)
    return lambda value: any(_named(flag) in wanted for flag in value or ())


def _unknown_flag(value: Any) -> bool:
    known = {flag.name for flag in FLAGS}
    return any(_named(flag).startswith("--") and _named(flag) not in known for flag in value or ())


def _mentions(*words: str) -> Callable[[Any], bool]:
    return lambda value: any(word in str(code) for code in (value or {}).values() for word in words)


def _is(*wanted: Any) -> Callable[[Any], bool]:
    return lambda value: value in wanted


def _enabled_is(wanted: bool) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and value.get("enabled") is wanted


def _no_private(value: Any) -> bool:
    rules = value.get("egressAllowRules") if isinstance(value, Mapping) else None
    return isinstance(rules, Mapping) and rules.get("privateIPs") is False


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _has_containers(value: Any) -> bool:
    return bool(isinstance(value, Mapping) and value.get("initContainers"))


OPTIONS: tuple[Option, ...] = (
    # --- the proxy's pod
    Option(
        "proxy.chp.image", "step",
        "an image of your own is not used while a preset names Junction's; rollback uses it again,"
        " and it has to be CHP 4.6 or later", "map",
    ),
    Option(
        "proxy.chp.command", "none",
        "leave it out: the replica image is started as `configurable-http-proxy`", "list",
        "another command", lambda value: value != ["configurable-http-proxy"],
    ),
    Option("proxy.chp.command", "same", "the replica image has this command too", "list"),
    Option(
        "proxy.chp.extraCommandLineFlags", "none",
        "a replica refuses such a flag by its name: leave it out", "list",
        "a flag without a counterpart",
        lambda value: _any_flag(_flags("refused"))(value) or _unknown_flag(value),
    ),
    Option(
        "proxy.chp.extraCommandLineFlags", "step",
        f"{_LIST}; set the counterparts in Junction's `replica.extraArgs` too", "list",
        "a flag with a counterpart", _any_flag(_flags("counterpart")),
    ),
    Option("proxy.chp.extraCommandLineFlags", "step", _LIST, "list", "others", bool),
    Option("proxy.chp.extraCommandLineFlags", "same", "there are none", "list"),
    Option(
        "proxy.chp.defaultTarget", "none",
        "what no route matches goes to the hub, by its own route: leave it out", "text",
        "set", bool,
    ),
    Option("proxy.chp.defaultTarget", "same", "the hub", "text"),
    Option(
        "proxy.chp.errorTarget", "junction", f"{_OURS} `replica.extraArgs: [--error-target=URL]`",
        "text", "set", bool,
    ),
    Option("proxy.chp.errorTarget", "same", "the hub's pages", "text"),
    Option("proxy.chp.extraEnv", "step", f"better a map; {_LIST}", "map|list", "a list", _is_list),
    Option("proxy.chp.extraEnv", "same", "helm merges it with the preset's", "map|list"),
    Option(
        "proxy.chp.pdb", "junction",
        "the presets turn z2jh's off, as pods under two cannot be evicted: Junction's `replica.pdb`"
        " is for the others", "map",
    ),
    Option("proxy.chp.resources", "junction", f"{_OURS} `replica.resources`; a replica with 10,000"
           " routes takes 450 MB where CHP takes 130", "map"),
    Option("proxy.chp.nodeSelector", "junction", f"{_OURS} `replica.nodeSelector`", "map"),
    Option("proxy.chp.tolerations", "junction", f"{_OURS} `replica.tolerations`", "list"),
    Option(
        "proxy.chp.extraPodSpec", "step",
        "`junction migrate presets -f` keeps your init containers: helm would replace the list by"
        " that of rollback", "map", "with initContainers", _has_containers,
    ),
    Option("proxy.chp.extraPodSpec", "same", "of the z2jh proxy's own pod", "map"),
    Option("proxy.chp.networkPolicy", "step", _CLOSED, "map", "without private addresses",
           _no_private),
    Option("proxy.chp.networkPolicy", "same", _POLICY, "map"),
    Option("proxy.chp.livenessProbe", "same", "replicas answer it", "map"),
    Option("proxy.chp.readinessProbe", "step",
           "leave it on: without it users are sent to a replica that is not loaded", "map",
           "turned off", _enabled_is(False)),
    Option("proxy.chp.readinessProbe", "same", "replicas answer it, once they are loaded", "map"),
    Option("proxy.chp.containerSecurityContext", "same", "replicas need no rights and any user",
           "map"),
    Option("proxy.chp.revisionHistoryLimit", "same", "of the z2jh proxy's own pod", "number"),
    # --- the rest of the proxy
    Option("proxy.secretToken", "same", "CHP's, for the way back", "text"),
    Option("proxy.labels", "same", "helm merges it with the preset's", "map"),
    Option("proxy.annotations", "junction", f"{_OURS} `replica.podAnnotations`", "map"),
    Option(
        "proxy.deploymentStrategy", "same",
        "of the z2jh proxy's own pod, which is Recreate: the other replicas serve meanwhile", "map",
    ),
    Option("proxy.service", "same", _SERVICE, "map"),
    Option("proxy.https.enabled", "same", "as `proxy.https.type` says", "bool"),
    Option("proxy.https.type", "step",
           "the other replicas need the certificate: Junction's `replica.tls.secretName:"
           " proxy-public-manual-tls` (with a `fullnameOverride`:"
           " `NAME-proxy-public-manual-tls`)", "text", "manual", _is("manual")),
    Option("proxy.https.type", "step",
           "the other replicas need the certificate: Junction's `replica.tls.secretName` is"
           " `proxy.https.secret.name`", "text", "secret", _is("secret")),
    Option("proxy.https.type", "step", f"{_AUTOHTTPS}; {_TRUST}", "text", "letsencrypt",
           _is("letsencrypt")),
    Option("proxy.https.type", "step", _TRUST, "text", "offload", _is("offload")),
    Option("proxy.https.type", "same", "plain HTTP", "text"),
    Option("proxy.https.secret.key", "none",
           "a Secret of type kubernetes.io/tls has `tls.key` and `tls.crt`: make it one", "text",
           "not tls.key", lambda value: value not in (None, "tls.key")),
    Option("proxy.https.secret.crt", "none",
           "a Secret of type kubernetes.io/tls has `tls.key` and `tls.crt`: make it one", "text",
           "not tls.crt", lambda value: value not in (None, "tls.crt")),
    Option("proxy.https", "same", "the certificate stays where it is", "map"),
    Option("proxy.traefik", "same", _AUTOHTTPS, "map"),
    Option("proxy.secretSync", "same", _AUTOHTTPS, "map"),
    Option("proxy", "same", "see its keys", "map"),
    # --- the hub
    Option(
        "hub.image", "step",
        "build it with Junction's plugin: images/hub with `--build-arg BASE=` yours, and name it by"
        " `junction migrate presets -o chart/presets --hub-image NAME:TAG`", "map",
        "an image of your own",
        lambda value: isinstance(value, Mapping) and bool(value.get("name") or value.get("tag")),
    ),
    Option("hub.image", "same", "pull policy and secrets stay", "map"),
    Option("hub.extraEnv", "step", f"better a map; {_LIST}", "map|list", "a list", _is_list),
    Option("hub.extraEnv", "same", "helm merges it with the preset's", "map|list"),
    Option("hub.config.JupyterHub.proxy_class", "step",
           "leave it out: the presets set it", "text"),
    Option("hub.config.ConfigurableHTTPProxy", "same", "for CHP, while hub and CHP use it", "map"),
    Option("hub.config", "same", "helm merges it with the preset's", "map"),
    Option(
        "hub.extraConfig", "step",
        "it runs after the presets' settings and would win: take proxy_class out of it", "map",
        "one that sets proxy_class", _mentions("proxy_class"),
    ),
    Option("hub.networkPolicy", "step", _CLOSED, "map", "without private addresses", _no_private),
    Option("hub.networkPolicy", "same", _POLICY, "map"),
    Option("hub.command", "same", _HUB, "list"),
    Option("hub.args", "same", _HUB, "list"),
    *(Option(f"hub.{key}", "same", _HUB, kind) for key, kind in sorted(_HUB_SAME.items())),
    Option("hub", "same", "see its keys", "map"),
    # --- the rest
    Option(
        "fullnameOverride", "step",
        "say so to the presets: `junction migrate presets --z2jh-fullname NAME`; replicas join by"
        " labels, which stay", "text", "set", bool,
    ),
    Option("fullnameOverride", "same", "z2jh's names are as they are", "text"),
    Option("nameOverride", "none",
           "replicas join pods labelled app=jupyterhub only: leave it out", "text", "set", bool),
    Option("nameOverride", "same", "z2jh's labels are as they are", "text"),
    Option("ingress", "step", f"it stays as it is; {_TRUST}", "map", "enabled",
           _enabled_is(True)),
    Option("httpRoute", "step", f"it stays as it is; {_TRUST}", "map", "enabled",
           _enabled_is(True)),
    *(
        Option(key, "same", "nothing of the proxy", kind)
        for key, kind in (
            ("cull", "map"), ("custom", "map"), ("debug", "map"), ("enabled", "bool"),
            ("global", "map"), ("httpRoute", "map"), ("imagePullSecret", "map"),
            ("imagePullSecrets", "list"), ("ingress", "map"), ("prePuller", "map"),
            ("rbac", "map"), ("scheduling", "map"), ("singleuser", "map"),
        )
    ),
)  # fmt: skip


def table() -> str:
    """The tables of MIGRATION.md: of the values, and of CHP's flags."""
    lines = ["| value of z2jh | what becomes of it |", "|---|---|"]
    plain: list[str] = []
    for option in OPTIONS:
        if option.fate == "same" and option.path.startswith("hub.") and option.says == _HUB:
            plain.append(f"`{option.path.removeprefix('hub.')}`")
            continue
        when = f", {option.when}" if option.when else ""
        lines.append(f"| `{option.path}`{when} | **{FATES[option.fate]}**: {option.says} |")
    lines.append(f"| `hub.`: {', '.join(plain)} | **{FATES['same']}**: {_HUB} |")
    lines += ["", "| flag in `proxy.chp.extraCommandLineFlags` | what becomes of it |", "|---|---|"]
    for flag in FLAGS:
        says = f"`{flag.says}`" if flag.says.startswith("--") else flag.says
        lines.append(f"| `{flag.name}` | **{flag.fate}**: {says} |")
    return "\n".join(line.replace("<", "&lt;") for line in lines)
