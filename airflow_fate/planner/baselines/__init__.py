"""What would others do? Policies of reference, with the signature of FATE."""
