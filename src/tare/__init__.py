"""Tare, a container engine: small images, fast starts, durable data, proven isolation.

The package has one room per concern; ``docs/architecture.md`` is the map.
"""

__version__ = "0.1.0"
