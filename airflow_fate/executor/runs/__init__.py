"""What do we know of the held tasks and their runs?"""
