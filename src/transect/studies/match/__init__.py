"""The same neuron in another run."""
