"""The tests' JupyterHub: KubeSpawner, any user name, one password, and the values of the chart."""

import json
import os
from pathlib import Path

from traitlets.config import get_config

c = get_config()
values = json.loads(Path("/usr/local/etc/jupyterhub/secret/values.json").read_text())
base_url = values["hub"]["baseUrl"]

if not values["proxy"]["enabled"]:
    c.JupyterHub.proxy_class = "junction"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http://proxy-api:8001"
c.JupyterHub.base_url = base_url
c.JupyterHub.hub_bind_url = f"http://:8081{base_url}hub/"
c.JupyterHub.hub_connect_url = "http://hub:8081"
c.JupyterHub.db_url = "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/srv/jupyterhub/cookie_secret"  # noqa: S105
# servers outlive the hub
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.last_activity_interval = 60
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "password"  # noqa: S105
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"admin"}
c.JupyterHub.allow_named_servers = values["hub"]["allowNamedServers"]
c.JupyterHub.services = [
    {"name": name, "api_token": service.pop("apiToken")} | service
    for name, service in values["hub"]["services"].items()
]
c.JupyterHub.load_roles = [
    {"name": name} | role for name, role in values["hub"]["loadRoles"].items()
]
if values["cull"]["enabled"]:
    culler = "jupyterhub-idle-culler"
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    c.JupyterHub.load_roles.append({"name": culler, "scopes": scopes, "services": [culler]})
    command = ["python3", "-m", "jupyterhub_idle_culler"]
    command += [f"--url=http://localhost:8081{base_url}hub/api"]
    command += [f"--timeout={values['cull']['timeout']}", f"--cull-every={values['cull']['every']}"]
    c.JupyterHub.services.append({"name": culler, "command": command})

c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = os.environ["POD_NAMESPACE"]
c.KubeSpawner.image = "{name}:{tag}".format(**values["singleuser"]["image"])
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.common_labels = {
    "app": "jupyterhub",
    "release": os.environ["HELM_RELEASE_NAME"],
}
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
c.KubeSpawner.storage_pvc_ensure = False
c.KubeSpawner.node_selector = values["singleuser"]["nodeSelector"]
c.KubeSpawner.port = 8888
c.KubeSpawner.start_timeout = 120
c.KubeSpawner.http_timeout = 120
c.KubeSpawner.uid = 1000
c.KubeSpawner.fs_gid = 1000
c.KubeSpawner.allow_privilege_escalation = False
c.KubeSpawner.container_security_context = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
c.KubeSpawner.cpu_guarantee = 0.05
c.KubeSpawner.automount_service_account_token = False

for name, settings in values["hub"]["config"].items():
    for trait, value in settings.items():
        setattr(getattr(c, name), trait, value)
for _, text in sorted(values["hub"]["extraConfig"].items()):
    exec(text)  # noqa: S102 (as Zero to JupyterHub does)
