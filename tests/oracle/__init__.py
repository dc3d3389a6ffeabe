"""The physics once more, plain and slow, with nothing of the compiled code: what that is held against."""
