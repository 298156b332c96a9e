"""Images as archives: received and stored, read and sent."""
