"""A whole cluster in one thread, driven by one seed: the product's rules, everything around them simulated."""
