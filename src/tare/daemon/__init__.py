"""The process: configuration, wiring, main."""
