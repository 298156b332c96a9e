"""Running containers: runtime specs, the OCI runtime, supervision by conmon, streams, exec, logs."""
