"""Why a program did not start, found by looking at its root file system afterwards. Pure: reads, changes nothing."""
