"""How close a training comes to what this machine can do."""
