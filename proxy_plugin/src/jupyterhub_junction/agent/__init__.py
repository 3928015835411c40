"""One replica's agent: follows the routes in etcd, keeps Traefik at them, and says what it has."""
