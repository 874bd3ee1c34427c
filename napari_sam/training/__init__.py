"""How the embedded model is trained: data, simulated prompts, losses, the loop."""
