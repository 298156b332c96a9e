"""A registry that is only read from: OCI distribution-spec 1.1, category "pull", over what an engine has."""
