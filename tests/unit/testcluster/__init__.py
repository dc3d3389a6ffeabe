"""The pure parts of the test cluster: they need no Kubernetes."""
