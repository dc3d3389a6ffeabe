"""What do we know of a fleet on Kubernetes? What its pods and nodes say, watched by a thread of our own."""
