"""The demo's JupyterHub: any user name, one password, JupyterLab servers as local processes."""

import os
import sys
from pathlib import Path

from traitlets.config import get_config

c = get_config()
folder = Path(os.environ["DEMO_FOLDER"])

c.JupyterHub.proxy_class = "junction"
c.JupyterHub.bind_url = os.environ["DEMO_ADDRESS"]
c.TraefikEtcdProxy.etcd_endpoints = os.environ["DEMO_ETCD"].split(",")

c.JupyterHub.hub_bind_url = os.environ["DEMO_HUB"]
c.JupyterHub.db_url = f"sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{folder}/cookie_secret"
c.JupyterHub.cleanup_servers = True

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["DEMO_PASSWORD"]
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = f"{folder}/home/{{username}}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
c.Spawner.default_url = "/lab"
c.Spawner.env_keep = ["PATH", "LANG", "LC_ALL", "JUNCTION_DEMO"]
