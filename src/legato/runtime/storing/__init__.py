"""What turns say is stored, whatever the store does: by one task, in its time, at last on disk."""
