"""Junction's chart on a real Kubernetes, with a real hub, real user pods and a load that is counted."""
