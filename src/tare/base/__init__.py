"""Small parts without project vocabulary: files, locks, readers, processes, logging."""
