"""What can be done from a shell? A module, or a room, for each command: they parse and print."""
