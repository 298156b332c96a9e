"""Build checks: what a Dockerfile does that works and should be changed."""
