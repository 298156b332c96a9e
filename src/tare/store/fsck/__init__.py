"""Whether the store is what its database says, and what can be done where it is not."""
