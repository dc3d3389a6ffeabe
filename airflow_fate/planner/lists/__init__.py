"""List policies over the kernel's world: one compiled pass over the frontier, shaped by a rule."""
