"""Latent-variable models: terms in nats with every constant, bounds, and their gradients."""
