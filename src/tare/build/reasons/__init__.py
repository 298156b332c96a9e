"""What would run and why: keys compared with those of the last build, plans looked ahead."""
