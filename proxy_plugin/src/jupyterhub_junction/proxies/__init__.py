"""The Proxy classes that JupyterHub loads by entry point, and how they write the table."""
