"""Language models that continue prefixes."""
