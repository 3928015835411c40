"""Junction: the highly available proxy of JupyterHub."""

__version__ = "0.1.0"
