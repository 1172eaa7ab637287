"""Two checkpoints, tensor by tensor: what moved, what did not, what is broken."""
