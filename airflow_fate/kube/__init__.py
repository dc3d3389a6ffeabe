"""How is Kubernetes' API server reached? By its own few routes, over httpx; shared by the watch and the gateways."""
