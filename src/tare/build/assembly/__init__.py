"""``distroless.yaml``: images that are declared, as stages of a build."""
