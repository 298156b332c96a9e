"""What the layers of an image hold: files, packages, weights, bills of materials."""
