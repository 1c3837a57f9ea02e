"""Running on more than one machine: Ray Serve here, Kubernetes and monitoring in the folders beside."""
