"""The streaming reverse proxy in Python: behind each Traefik, and in the hub's process."""
