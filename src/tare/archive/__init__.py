"""Layer tars: reading, writing, whiteouts, differences, compression."""
