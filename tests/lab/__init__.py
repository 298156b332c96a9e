"""A small internet in network namespaces, in which an engine's isolation is tried with real sockets."""
