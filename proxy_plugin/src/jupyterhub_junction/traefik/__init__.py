"""Traefik: the documents that make it route, and the process that it is."""
