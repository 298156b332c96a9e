"""Documents of the OCI specifications, typed."""
