"""Registries: OCI distribution, as a client and (``server``) as a registry."""
