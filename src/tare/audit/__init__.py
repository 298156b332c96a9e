"""What should not be in an image: programs told by their content, secrets, permissions; pure, reads only."""
