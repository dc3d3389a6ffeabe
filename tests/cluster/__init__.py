"""Does what we install really run on Kubernetes? Kubernetes' own control plane, and a kubelet that starts processes."""
