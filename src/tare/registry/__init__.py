"""The client of registries: OCI distribution 1.1 and Docker Registry HTTP API V2; speaks HTTP, knows no store.

``server`` is the other side: a registry that offers what a store has.
"""
