"""What is wrong with an installation, and what can be done about it? One module for each part of the way."""
