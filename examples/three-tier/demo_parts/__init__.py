"""The parts of the three-tier demo: everything it does goes through the command line, HTTP and the kernel."""
