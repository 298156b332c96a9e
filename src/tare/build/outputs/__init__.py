"""Where the result of a build goes: the image store, archives, a directory."""
