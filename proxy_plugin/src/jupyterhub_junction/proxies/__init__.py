"""The Proxy classes that JupyterHub loads by entry point."""
